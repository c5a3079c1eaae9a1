"""A process that is stopped by a signal for longer than an election timeout, and goes on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import pytest

from tests.processes.tools import PYTHON, start

SHORTEST, LONGEST = 0.6, 0.8
PATIENCE = 30.0
ASLEEP = 2.5
"""Seconds: longer than two election timeouts, so that followers notice it, too."""
PROGRAM = f"""
import sys, time
import raft_actors as raft
from raft_actors.machines import KV

def tell(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")
    sys.stdout.flush()

config = raft.Config(data_dir="data", min_election_timeout={SHORTEST}, max_election_timeout={LONGEST}, lease_reads=True)
for name in ("s1", "s2", "s3"):
    raft.start_peer(KV, name=name, config=config)
raft.set_configuration("s1", ["s1", "s2", "s3"])
leader = raft.leader("s1")
raft.write(leader, ("set", "k", 1))
for name in ("s1", "s2", "s3"):
    raft.subscribe(name, lambda one: tell(one.role, one.name, time.monotonic()), events=[raft.RoleChanged])
tell("led", leader)
sys.stdin.readline()
try:
    tell("answered", raft.read(leader, ("get", "k"), consistency="lease"))
except raft.RaftError as error:
    tell("answered", type(error).__name__)
sys.stdin.readline()
"""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Popen]:
    (tmp_path / "program.py").write_text(PROGRAM)
    with start([PYTHON, "program.py"], tmp_path) as running:
        end = threading.Timer(PATIENCE, running.kill)  # then there are no more lines
        end.start()
        yield running
        end.cancel()
        running.kill()  # also if it still stands


def told_by(program: Popen) -> Iterator[list[str]]:
    """Its lines, each as words."""
    assert program.stdout is not None
    for line in program.stdout:
        yield line.decode().split()


def test_a_leader_that_was_stopped_by_a_signal_follows_and_listens_before_anybody_stands(program: Popen) -> None:
    lines = told_by(program)
    assert program.stdin is not None
    word, leader = next(lines)
    assert word == "led"
    os.kill(program.pid, signal.SIGSTOP)
    threading.Event().wait(ASLEEP)
    program.stdin.write(b"read by your lease\n")  # it waits there when the process goes on
    program.stdin.flush()
    woken = time.monotonic()
    os.kill(program.pid, signal.SIGCONT)
    told: dict[str, list[str]] = {}
    while not {"answered", "leader"} <= told.keys():
        word, *rest = next(lines)
        told.setdefault(word, rest)
    assert told["answered"] == ["ElectionInProgress"]
    assert told["follower"][0] == leader
    assert list(told).index("follower") < list(told).index("pre_candidate")
    assert float(told["pre_candidate"][1]) - woken >= SHORTEST, "it did not listen"
