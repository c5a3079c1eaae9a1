"""Snapshots of real peers on real disks: taken, sent, installed, damaged, and in the way of nobody."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import pytest

import raft_actors as raft
from raft_actors import supervisor
from raft_actors.behaviours import sending
from raft_actors.machines import KV
from raft_actors.testing import Cluster
from tests.threads.snapshot_machines import (
    OFTEN,
    SELDOM,
    Slow,
    cut_off,
    fill,
    flip_a_bit,
    leader_of,
    other_than,
    snapshot_files,
)
from tests.threads.tools import wait_until


@pytest.mark.parametrize("storage", ["lmdb", "rocksdb", "memory"])
def test_peers_take_snapshots_by_themselves_and_cut_their_logs(storage: str) -> None:
    with Cluster(KV, storage=storage, config=OFTEN) as cluster:
        fill(cluster, 300)
        for name in cluster.names:
            cluster.eventually(lambda name=name: cluster.status(name).snapshot_index > 100)  # type: ignore[misc]
            assert cluster.status(name).first_index > 100
        cluster.converged()
        assert all(entry.index > 100 for entry in cluster.entries("s1"))


@pytest.mark.parametrize("storage", ["lmdb", "rocksdb", "memory"])
def test_a_peer_far_behind_gets_a_snapshot_while_writes_go_on(storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "CHUNK_BYTES", 100)
    with Cluster(KV, storage=storage, config=OFTEN) as cluster:
        behind = other_than(cluster, leader_of(cluster))
        cluster.stop(behind)
        fill(cluster, 300)
        cluster.eventually(lambda: cluster.status(leader_of(cluster)).first_index > 100)
        cluster.start(behind)
        fill(cluster, 300)
        cluster.converged()
        assert cluster.status(behind).snapshot_index > 100


def test_a_restart_goes_on_from_the_snapshot(tmp_path: Path) -> None:
    with Cluster(KV, config=OFTEN, data_dir=tmp_path) as cluster:
        fill(cluster, 200)
        cluster.eventually(lambda: cluster.status("s1").snapshot_index > 100)
    with Cluster(KV, config=OFTEN, data_dir=tmp_path) as cluster:
        assert cluster.status("s1").last_applied > 100
        assert cluster.read(("get", "k19")) == 199
        cluster.converged()


def test_a_graceful_stop_saves_what_would_have_to_be_applied_again(tmp_path: Path) -> None:
    config = raft.Config(snapshot_threshold=1000)
    with Cluster(KV, config=config, data_dir=tmp_path) as cluster:
        fill(cluster, 200)
        cluster.stop("s1")
        assert snapshot_files(tmp_path, "s1")


def test_a_snapshot_on_demand_returns_its_index_and_is_told_to_subscribers() -> None:
    seen: list[Any] = []
    with Cluster(KV, config=SELDOM) as cluster:
        fill(cluster, 10)
        with raft.subscribe("s1", seen.append, events=[raft.SnapshotTaken]):
            index = raft.snapshot("s1")
            wait_until(lambda: seen == [raft.SnapshotTaken("s1", index)])
        assert cluster.status("s1").snapshot_index == index
        assert raft.snapshot("s1") == index


def test_an_unconfigured_peer_has_nothing_to_save(tmp_path: Path) -> None:
    raft.start_peer(KV, name="p1", config=raft.Config(data_dir=tmp_path))
    with pytest.raises(raft.NotConfigured, match="'p1'"):
        raft.snapshot("p1")
    raft.stop("p1")


@pytest.mark.parametrize("problem", [ValueError("not today"), OSError(errno.EIO, "not today")], ids=["bad", "its disk"])
def test_a_machine_that_cannot_be_saved_fails_the_snapshot_and_nothing_else(
    problem: Exception, slow: type[Slow], tmp_path: Path
) -> None:
    """An ``OSError`` of the user's code is no failure of our disk."""
    slow.problem = problem
    slow.gate.set()
    with Cluster(slow, config=SELDOM, data_dir=tmp_path) as cluster:
        fill(cluster, 10)
        with pytest.raises(raft.CommandFailed, match="not today") as raised:
            raft.snapshot("s1")
        assert type(raised.value.__cause__) is type(problem)
        fill(cluster, 10)
        cluster.converged()
        assert not snapshot_files(tmp_path, "s1")
        slow.problem = None
        assert raft.snapshot("s1")


@pytest.mark.parametrize("storage", ["lmdb", "rocksdb"])
def test_a_full_disk_fails_the_snapshot_and_the_peer_goes_on(storage: str, tmp_path: Path) -> None:
    with Cluster(KV, config=SELDOM, storage=storage, data_dir=tmp_path) as cluster:
        fill(cluster, 10)
        behind = other_than(cluster, leader_of(cluster))
        cluster.converged()
        cluster.disk(behind).fail(errno.ENOSPC)
        with pytest.raises(raft.StorageFailed, match=behind):
            raft.snapshot(behind)
        assert snapshot_files(tmp_path, behind) == []
        fill(cluster, 10)
        cluster.converged()
        assert raft.snapshot(behind)


def test_writes_and_leadership_go_on_while_a_state_is_written(slow: type[Slow]) -> None:
    with Cluster(slow, config=SELDOM) as cluster:
        fill(cluster, 10)
        leader = leader_of(cluster)
        term = cluster.status(leader).term
        result: list[int] = []
        asking = threading.Thread(target=lambda: result.append(raft.snapshot(leader)))
        asking.start()
        assert slow.entered.wait(10)
        fill(cluster, 200)
        assert cluster.status(leader).term == term
        assert not result
        slow.gate.set()
        asking.join(10)
        assert 10 <= result[0] < 100, "the state is that of when it was captured"


def test_one_that_is_asked_for_while_another_runs_has_everything(slow: type[Slow]) -> None:
    with Cluster(slow, config=SELDOM) as cluster:
        fill(cluster, 10)
        leader = leader_of(cluster)
        results: list[int] = []
        first = threading.Thread(target=lambda: results.append(raft.snapshot(leader)))
        first.start()
        assert slow.entered.wait(10)
        fill(cluster, 50)
        applied = cluster.status(leader).last_applied
        second = threading.Thread(target=lambda: results.append(raft.snapshot(leader)))
        second.start()
        slow.gate.set()
        first.join(10)
        second.join(10)
        assert max(results) >= applied


def test_a_stop_does_not_wait_for_a_state_that_is_being_written(slow: type[Slow], tmp_path: Path) -> None:
    answers: list[BaseException] = []

    def ask() -> None:
        try:
            raft.snapshot("s1")
        except raft.RaftError as error:
            answers.append(error)

    with Cluster(slow, config=SELDOM, data_dir=tmp_path) as cluster:
        fill(cluster, 10)
        asking = threading.Thread(target=ask)
        asking.start()
        assert slow.entered.wait(10)
        threading.Timer(0.3, slow.gate.set).start()
        cluster.stop("s1")
        asking.join(10)
        assert isinstance(answers[0], raft.OutcomeUnknown)
        assert [path.name for path in snapshot_files(tmp_path, "s1")] == []
        cluster.start("s1")
        cluster.converged()


def test_stale_reads_are_answered_from_the_old_state_until_the_new_one_is_complete(slow: type[Slow]) -> None:
    slow.gate.set()
    with Cluster(slow, config=SELDOM) as cluster:
        cluster.write(("set", "k", "old"))
        cluster.converged()
        behind = other_than(cluster, leader_of(cluster))
        cut_off(cluster, behind)
        slow.gate, slow.entered = threading.Event(), threading.Event()
        cluster.heal()
        assert slow.entered.wait(10)
        assert raft.read(behind, ("get", "k"), consistency="stale") == "old"
        slow.gate.set()
        cluster.eventually(lambda: raft.read(behind, ("get", "k"), consistency="stale") == "new")
        cluster.converged()


@pytest.mark.parametrize("loss", ["damaged", "gone"])
def test_a_peer_that_lost_its_snapshot_gets_one_and_never_begins_with_nothing(loss: str, tmp_path: Path) -> None:
    with Cluster(KV, config=SELDOM, data_dir=tmp_path) as cluster:
        fill(cluster, 100)
        cluster.converged()
        for name in cluster.names:
            raft.snapshot(name)
        cluster.stop("s1")
        (file,) = snapshot_files(tmp_path, "s1")
        if loss == "damaged":
            flip_a_bit(file)
        else:
            file.unlink()
        cluster.partition({"s1"})
        cluster.start("s1")
        reads = [raft.read("s1", ("get", "k19"), consistency="stale", block=False, timeout=20) for _ in range(3)]
        with pytest.raises(raft.Timeout):
            raft.read("s1", "len", consistency="stale", timeout=0.2)
        cluster.heal()
        assert [read.get() for read in reads] == [99, 99, 99]
        cluster.eventually(lambda: cluster.status("s1").last_applied > 100)
        assert raft.read("s1", ("get", "k19"), consistency="stale") == 99
        cluster.converged()


def test_a_peer_that_is_its_cluster_does_not_start_without_its_snapshot(tmp_path: Path) -> None:
    config = raft.Config(data_dir=tmp_path, snapshot_threshold=10**6, trailing_entries=0)
    raft.start_peer(KV, name="p1", config=config)
    raft.set_configuration("p1", ["p1"])
    raft.write(raft.leader("p1"), ("set", "k", 1))
    raft.snapshot("p1")
    raft.stop("p1")
    flip_a_bit(snapshot_files(tmp_path, "p1")[0])
    with pytest.raises(raft.CorruptLog, match="'p1' has lost its snapshot"):
        raft.start_peer(KV, name="p1", config=config)
    raft.stop("p1")


def test_a_backup_of_a_running_follower_becomes_a_cluster_of_its_own(tmp_path: Path) -> None:
    image = tmp_path / "image"
    with Cluster(KV) as cluster:
        fill(cluster, 40)
        cluster.converged()
        raft.backup(other_than(cluster, leader_of(cluster)), image)
        with pytest.raises(FileExistsError):
            raft.backup("s1", image)
    config = raft.Config(data_dir=tmp_path)
    raft.restore(image, name="r1", config=config)
    raft.start_peer(KV, name="r1", config=config)
    assert raft.leader("r1") == "r1"
    assert raft.read("r1", ("get", "k19")) == 39
    assert raft.configuration("r1").voters == ("r1",)
    raft.stop("r1")


def test_no_thread_is_left_of_peers_that_took_snapshots() -> None:
    with Cluster(KV, config=OFTEN) as cluster:
        fill(cluster, 120)
        for name in cluster.names:
            raft.snapshot(name)
            assert isinstance(supervisor.handle_of(name), supervisor.Handle)
    wait_until(lambda: not [one.name for one in threading.enumerate() if one.name.startswith("raft-snapshots")])
