"""Snapshots of running peers: what a restart does not do again, what a full log gives up, and when long work pauses."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

import raft_actors as raft
from raft_actors.breathing import PAUSE, STRETCH, Breath
from raft_actors.machines import KV
from tests.threads.tools import wait_until

WRITES = 500


class Watched(KV):
    """A dictionary that notes which entries were applied, over all its lives."""

    def __init__(self, applied: list[int]) -> None:
        self.applied = applied

    def handle_write(self, command: Any, state: dict[Any, Any]) -> tuple[Any, dict[Any, Any]]:
        self.applied.append(self.context.index)
        return super().handle_write(command, state)


def written(name: str, applied: list[int], config: raft.Config) -> None:
    """Start a peer that is a cluster by itself, and write to it."""
    raft.start_peer(lambda: Watched(applied), name=name, config=config)
    raft.set_configuration(name, [name], timeout=30)
    futures = [raft.write(name, ("set", number % 10, number), timeout=30, block=False) for number in range(WRITES)]
    for future in futures:
        future.get()


def test_a_restart_from_a_snapshot_applies_no_entry_again_that_is_in_it(tmp_path: Path) -> None:
    applied: list[int] = []
    config = raft.Config(data_dir=tmp_path)
    written("again-1", applied, config)
    covered = raft.snapshot("again-1", timeout=30)
    last = raft.write("again-1", ("set", "after", 1), timeout=30, block=False)
    last.get()
    raft.stop("again-1", timeout=30)
    applied.clear()
    raft.start_peer(lambda: Watched(applied), name="again-1", config=config)
    assert raft.leader("again-1", timeout=30) == "again-1"
    assert raft.read("again-1", ("get", 9), timeout=30) == WRITES - 1
    assert raft.read("again-1", ("get", "after"), timeout=30) == 1
    raft.stop("again-1", timeout=30)
    assert set(applied) <= set(range(covered + 1, last.index + 1))


def test_a_log_that_reaches_its_threshold_is_cut_by_itself(tmp_path: Path) -> None:
    config = raft.Config(data_dir=tmp_path, snapshot_threshold=100, trailing_entries=20)
    written("cut-1", [], config)
    wait_until(lambda: raft.status("cut-1").first_index > WRITES - 200, 30, "the log was not cut")
    assert raft.read("cut-1", "len", timeout=30) == 10
    raft.stop("cut-1", timeout=30)


@pytest.mark.parametrize(("threads", "pauses"), [(1, []), (2, [PAUSE])])
def test_long_work_pauses_only_for_other_threads(
    threads: int, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    now = [0.0]
    monkeypatch.setattr(threading, "active_count", lambda: threads)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "sleep", slept.append)
    breath = Breath()
    breath.take()
    now[0] += STRETCH
    breath.take()
    breath.take()
    monkeypatch.undo()
    assert slept == pauses
