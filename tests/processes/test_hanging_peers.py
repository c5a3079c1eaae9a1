"""The command line beside a peer that hangs: it asks one that is awake."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import raft_actors as raft
from raft_actors.bench.process_rig import ProcessRig
from tests.processes.tools import one_line, raft_actors


class Hanging:
    """A cluster of which one follower hangs, the one that is named first."""

    def __init__(self, rig: ProcessRig, folder: Path) -> None:
        self.leader = rig.leader()
        self.hung, self.awake = (name for name in rig.names if name != self.leader)
        self._rig, self._folder = rig, folder
        rig.signal(self.hung, signal.SIGSTOP)

    def command(self, name: str, *words: object, connect: str = ""):
        connect = connect or f"{self.hung},{self.awake},{self.leader}"
        options = ("--connect", connect, "--keys", self._rig.keys)
        return raft_actors(name, *options, *words, folder=self._folder)


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Hanging]:
    with ProcessRig(tmp_path, "lmdb") as rig:
        yield Hanging(rig, tmp_path)


def test_members_are_listed_and_changed_and_led_by_another_one(hanging: Hanging) -> None:
    began = time.monotonic()
    done = hanging.command("members", "--json")
    assert len(json.loads(done.stdout)["voters"]) == 3
    done = hanging.command("transfer")
    assert done.stdout.decode() == f"{hanging.awake} leads\n", done.stderr
    done = hanging.command("remove", hanging.hung.partition("@")[0], "--json")
    assert json.loads(done.stdout)["voters"] == [name for name in raft_names(hanging) if name != hanging.hung]
    assert time.monotonic() - began < 15.0


def raft_names(hanging: Hanging) -> list[str]:
    return sorted((hanging.hung, hanging.awake, hanging.leader))


def test_who_asks_nobody_else_waits_as_long_as_he_said_and_is_told_who_hangs(hanging: Hanging) -> None:
    for command in ("members", "transfer"):
        began = time.monotonic()
        done = hanging.command(command, "--timeout", "1", connect=hanging.hung)
        assert done.returncode == 1
        assert hanging.hung.partition("@")[2] in one_line(done.stderr)
        assert time.monotonic() - began < 5.0


def test_the_status_of_a_peer_that_hangs_stands_below_the_table(hanging: Hanging) -> None:
    done = hanging.command("status", "--timeout", "1")
    assert done.returncode == 0
    *table, error = done.stdout.decode().splitlines()
    assert error.startswith(f"{hanging.hung}: ")
    widths = {len(line.split()) for line in table}
    assert max(widths) <= 10
    assert any(line.split()[:3] == [hanging.hung, "no", "answer"] for line in table)


def test_the_configuration_of_a_peer_that_hangs_is_waited_for_no_longer_than_asked(hanging: Hanging) -> None:
    began = time.monotonic()
    with pytest.raises(raft.Timeout, match=hanging.hung):
        raft.configuration(hanging.hung, timeout=0.5)
    assert time.monotonic() - began < 3.0
