"""Snapshots of real peers that are cut short, take long, or come when there is nothing here to save."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import raft_actors as raft
from raft_actors.behaviours import sending
from raft_actors.machines import KV
from raft_actors.snapshot_keeper import Keeper
from raft_actors.testing import Cluster
from tests.threads.snapshot_machines import (
    SELDOM,
    Slow,
    cut_off,
    fill,
    flip_a_bit,
    leader_of,
    other_than,
    snapshot_files,
)

DISKS = pytest.mark.parametrize("storage", ["lmdb", "rocksdb"])
LONG = 3.0
"""Seconds that a state takes to be written: several election timeouts."""


class Asking(threading.Thread):
    """Somebody who asks a peer for a snapshot, and what comes of it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.peer = name
        self.answer: int | raft.RaftError | None = None
        self.start()

    def run(self) -> None:
        try:
            self.answer = raft.snapshot(self.peer, timeout=20)
        except raft.RaftError as error:
            self.answer = error


@DISKS
def test_a_crash_while_a_state_is_written_leaves_the_log_as_it_was(
    storage: str, slow: type[Slow], tmp_path: Path
) -> None:
    with Cluster(slow, config=SELDOM, storage=storage, data_dir=tmp_path) as cluster:
        fill(cluster, 50)
        victim = other_than(cluster, leader_of(cluster))
        asking = Asking(victim)
        assert slow.entered.wait(10)
        cluster.crash(victim)
        asking.join(10)
        assert isinstance(asking.answer, raft.OutcomeUnknown)
        slow.gate.set()
        cluster.start(victim)
        assert cluster.status(victim).first_index == 1
        cluster.converged()
        assert snapshot_files(tmp_path, victim) == []
        assert raft.snapshot(victim) > 50


@DISKS
def test_a_crash_between_two_pieces_costs_only_the_pieces(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "CHUNK_BYTES", 64)
    crashed = threading.Event()
    half = threading.Event()
    stored: Callable[[Keeper, Any], Any] = Keeper._stored

    def slowly(keeper: Keeper, item: Any) -> Any:
        if item.offset and not crashed.is_set():
            half.set()
            assert crashed.wait(20)
        return stored(keeper, item)

    monkeypatch.setattr(Keeper, "_stored", slowly)
    with Cluster(KV, config=SELDOM, storage=storage, data_dir=tmp_path) as cluster:
        fill(cluster, 50)
        cluster.converged()
        behind = other_than(cluster, leader_of(cluster))
        cut_off(cluster, behind)
        cluster.heal()
        assert half.wait(10)
        assert cluster.status(leader_of(cluster)).progress[behind].state == "snapshot"
        cluster.crash(behind)
        crashed.set()
        cluster.start(behind)
        cluster.converged()
        assert cluster.status(behind).snapshot_index > 50
        assert [path.suffix for path in snapshot_files(tmp_path, behind)] == [".snap"]


@DISKS
def test_a_crash_while_a_new_state_is_loaded_is_made_up_for_by_the_restart(
    storage: str, slow: type[Slow], tmp_path: Path
) -> None:
    slow.gate.set()
    with Cluster(slow, config=SELDOM, storage=storage, data_dir=tmp_path) as cluster:
        fill(cluster, 50)
        cluster.converged()
        behind = other_than(cluster, leader_of(cluster))
        cut_off(cluster, behind)
        slow.gate, slow.entered = threading.Event(), threading.Event()
        cluster.heal()
        assert slow.entered.wait(10)
        cluster.crash(behind)
        slow.gate.set()
        cluster.start(behind)
        cluster.converged()
        assert raft.read(behind, ("get", "k"), consistency="stale") == "new"


@DISKS
def test_a_state_that_takes_seconds_to_write_costs_no_leadership_and_no_write(storage: str, slow: type[Slow]) -> None:
    with Cluster(slow, config=SELDOM, storage=storage) as cluster:
        fill(cluster, 10)
        leader = leader_of(cluster)
        term, until, longest = cluster.status(leader).term, time.monotonic() + LONG, 0.0
        asking = Asking(leader)
        assert slow.entered.wait(10)
        while (began := time.monotonic()) < until:
            raft.write(leader, ("set", "k", began))
            longest = max(longest, time.monotonic() - began)
        assert asking.is_alive()
        slow.gate.set()
        asking.join(10)
        assert type(asking.answer) is int
        assert (cluster.status(leader).role, cluster.status(leader).term) == ("leader", term)
        assert longest < LONG / 3, "a write waited for the snapshot"


def test_who_asks_a_peer_that_waits_for_its_state_is_answered_with_that(tmp_path: Path) -> None:
    with Cluster(KV, config=SELDOM, data_dir=tmp_path) as cluster:
        fill(cluster, 50)
        cluster.converged()
        for name in cluster.names:
            raft.snapshot(name)
        behind = other_than(cluster, leader_of(cluster))
        cluster.stop(behind)
        (file,) = snapshot_files(tmp_path, behind)
        flip_a_bit(file)
        cluster.partition({behind})
        cluster.start(behind)
        asking = Asking(behind)
        asking.join(0.2)
        assert asking.is_alive(), "there is nothing to save"
        cluster.heal()
        asking.join(10)
        assert asking.answer == cluster.status(behind).snapshot_index


def test_a_machine_whose_state_cannot_be_captured_fails_the_snapshot_and_nothing_else() -> None:
    class Secretive(KV):
        def snapshot(self, state: Any) -> Any:
            raise LookupError("no image")

    with Cluster(Secretive, config=SELDOM) as cluster:
        fill(cluster, 10)
        with pytest.raises(raft.CommandFailed, match="no image"):
            raft.snapshot("s1")
        fill(cluster, 10)
        cluster.converged()


def test_a_graceful_stop_leaves_nothing_to_apply_again(tmp_path: Path) -> None:
    applied: list[Any] = []

    class Watched(KV):
        def handle_write(self, command: Any, state: dict[Any, Any]) -> tuple[Any, dict[Any, Any]]:
            applied.append(command)
            return super().handle_write(command, state)

    config = raft.Config(snapshot_threshold=1000, data_dir=tmp_path)
    raft.start_peer(Watched, name="p1", config=config)
    raft.set_configuration("p1", ["p1"])
    for future in [raft.write(raft.leader("p1"), ("set", "k", n), block=False) for n in range(500)]:
        future.get()
    raft.stop("p1")
    applied.clear()
    raft.start_peer(Watched, name="p1", config=config)
    assert raft.leader("p1") == "p1"
    assert raft.read("p1", ("get", "k")) == 499
    raft.stop("p1")
    assert applied == []
