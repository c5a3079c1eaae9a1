"""The faults of ``raft_actors.testing``: what links, peers and disks do when they are told to be bad."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import raft_actors as raft
from raft_actors import names
from raft_actors.machines import Counter
from raft_actors.testing import Cluster
from raft_actors.testing.disk import Disk
from raft_actors.testing.network import Link, Network
from raft_actors.transport.local import LOCAL
from storage_adapters import Batch, LMDBAdapter, MemoryAdapter, StorageError
from tests.threads.tools import Recorder, alive, assert_nothing_left, outcome, remember, wait_until

ENGINES = ["lmdb", "rocksdb", "memory"]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    remember()
    yield
    assert_nothing_left()


def leader_of(cluster: Cluster) -> str:
    leader = cluster.leader()
    assert leader is not None
    return leader


def others_of(cluster: Cluster, name: str) -> list[str]:
    return [other for other in cluster.names if other != name]


# -- faults of links ---------------------------------------------------------------------------------------------------


def test_a_cut_is_one_way_and_cuts_add_up_until_heal() -> None:
    network = Network(["a", "b", "c"])
    arrived: list[tuple[str, str]] = []

    def send(source: str, to: str) -> None:
        network._pass(source, to, lambda: arrived.append((source, to)))

    network.cut("a", "b")
    network.cut("b", "c")
    for pair in (("a", "b"), ("b", "a"), ("b", "c"), ("c", "b"), ("a", "c")):
        send(*pair)
    assert arrived == [("b", "a"), ("c", "b"), ("a", "c")]
    assert not network.connected("a", "b")
    assert network.connected("a", "c")
    network.heal()
    send("a", "b")
    assert arrived[-1] == ("a", "b")
    network.close()


def test_a_partition_separates_the_groups_and_whoever_is_in_none() -> None:
    network = Network(["a", "b", "c", "d", "e"])
    network.partition({"a", "b"}, {"c"})
    together = [("a", "b"), ("d", "e")]
    for one in "abcde":
        for other in "abcde":
            expected = one == other or (one, other) in together or (other, one) in together
            assert network.connected(one, other) == expected, (one, other)
    network.close()


def test_loss_and_duplication_happen_as_often_as_asked_for() -> None:
    network = Network(["a", "b"])
    arrived: list[int] = []
    network.link("a", "b", Link(loss=0.5))
    for number in range(2000):
        network._pass("a", "b", lambda number=number: arrived.append(number))
    assert 800 < len(arrived) < 1200
    arrived.clear()
    network.link("a", "b", Link(duplicate=0.5))
    for number in range(2000):
        network._pass("a", "b", lambda number=number: arrived.append(number))
    assert 2800 < len(arrived) < 3200
    network.close()


def test_delayed_messages_arrive_late_and_in_order_unless_the_link_is_cut_meanwhile() -> None:
    network = Network(["a", "b"])
    arrived: list[tuple[float, int]] = []
    network.link("a", "b", Link(delay=0.1))
    begin = time.monotonic()
    for number in range(10):
        network._pass("a", "b", lambda number=number: arrived.append((time.monotonic() - begin, number)))
    wait_until(lambda: len(arrived) == 10)
    assert [number for _, number in arrived] == list(range(10))
    assert arrived[0][0] >= 0.1
    network._pass("a", "b", lambda: arrived.append((0.0, -1)))
    network.cut("a", "b")
    network.link("b", "a", Link(delay=0.15))
    back = threading.Event()
    network._pass("b", "a", back.set)
    assert back.wait(5)
    assert len(arrived) == 10
    network.close()
    assert "raft-testing-network" not in alive()


def test_a_network_that_is_closed_leaves_the_transport_as_it_was() -> None:
    Network(["a", "b"]).close()
    assert LOCAL._faults == {}


def test_a_cluster_lives_with_bad_links() -> None:
    with Cluster(Recorder) as cluster:
        for source in cluster.names:
            for to in others_of(cluster, source):
                cluster.link(source, to, loss=0.1, delay=0.005, duplicate=0.1)
        written = []
        for number in range(60):
            cluster.eventually(lambda number=number: _wrote(cluster, number, written), 20)
        cluster.heal()
        assert cluster.converged()
        applied = cluster.read("all")
        assert [number for number in dict.fromkeys(applied) if number in written] == written


def _wrote(cluster: Cluster, number: int, written: list[int]) -> bool:
    cluster.write(number, timeout=1.0)
    written.append(number)
    return True


def test_leader_is_whom_a_majority_can_reach() -> None:
    with Cluster(Counter) as cluster:
        old = leader_of(cluster)
        cluster.partition({old}, set(others_of(cluster, old)))
        assert cluster.leader() in others_of(cluster, old)
        assert cluster.write(("add", 1)) == 1
        cluster.heal()
        assert cluster.converged()


def test_leader_is_none_without_a_majority() -> None:
    with Cluster(Counter) as cluster:
        for name in cluster.names:
            cluster.partition({name})
        assert cluster.leader(timeout=0.1) is None
        with pytest.raises(raft.ElectionInProgress):
            cluster.write(("add", 1), timeout=0.1)


def test_a_one_way_cut_around_the_leader_does_not_stop_the_cluster() -> None:
    with Cluster(Counter) as cluster:
        leader = leader_of(cluster)
        for name in others_of(cluster, leader):
            cluster.cut(leader, name)
        cluster.eventually(lambda: cluster.leader() not in (None, leader))
        assert cluster.write(("add", 1)) == 1
        cluster.heal()
        assert cluster.converged()


# -- faults of peers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ENGINES)
def test_a_crashed_peer_comes_back_with_its_data(storage: str) -> None:
    with Cluster(Recorder, storage=storage) as cluster:
        for number in range(20):
            cluster.write(number)
        for name in cluster.names:
            incarnation = cluster.status(name).incarnation
            cluster.crash(name)
            with pytest.raises(raft.UnknownPeer):
                cluster.status(name)
            cluster.write("meanwhile")
            cluster.start(name)
            assert cluster.status(name).incarnation == incarnation
        assert cluster.converged()
        assert cluster.read("all") == [*range(20), "meanwhile", "meanwhile", "meanwhile"]


def test_a_crashed_peer_flushes_nothing_more() -> None:
    with Cluster(Recorder, 1) as cluster:
        cluster.write("on the disk")
        cluster.disk("s1").hang()
        waiting = raft.write("s1", "in the queue", block=False)
        cluster.crash("s1")
        assert isinstance(outcome(waiting), raft.OutcomeUnknown)
        assert [entry.command for entry in cluster.entries("s1") if entry.kind == "command"] == ["on the disk"]
        cluster.disk("s1").heal()
        cluster.start("s1")
        assert cluster.read("all") == ["on the disk"]


def test_a_crashed_peer_is_not_restarted_by_its_supervisor() -> None:
    with Cluster(Recorder, config=raft.Config(restart=raft.Restart(backoff=(0.0, 0.0)))) as cluster:
        cluster.crash("s1")
        with pytest.raises(AssertionError):
            cluster.eventually(lambda: names.whereis("s1") is not None, 0.2)


def test_crash_and_stop_of_a_peer_that_does_not_run_do_nothing() -> None:
    with Cluster(Counter) as cluster:
        cluster.crash("s1")
        cluster.crash("s1")
        cluster.stop("s1")
        assert cluster.write(("add", 1)) == 1


def test_a_frozen_peer_does_nothing_and_catches_up_when_it_goes_on() -> None:
    with Cluster(Counter) as cluster:
        old = leader_of(cluster)
        cluster.pause(old)
        assert cluster.leader() in others_of(cluster, old)
        for number in range(1, 20):
            assert cluster.write(("add", 1)) == number
        assert cluster.status(old).role == "leader"
        cluster.resume(old)
        assert cluster.converged()
        assert cluster.status(old).role == "follower"


def test_a_wiped_peer_starts_with_an_empty_disk_and_another_identity() -> None:
    for storage in ENGINES:
        with Cluster(Counter, storage=storage) as cluster:
            cluster.write(("add", 1))
            victim = others_of(cluster, leader_of(cluster))[0]
            incarnation = cluster.status(victim).incarnation
            cluster.stop(victim)
            cluster.wipe(victim)
            assert cluster.entries(victim) == []
            cluster.start(victim)
            assert cluster.status(victim).incarnation != incarnation
            assert cluster.status(victim).last_index == 0
            assert cluster.write(("add", 1)) == 2


def test_a_cluster_goes_on_in_its_data_dir(tmp_path: Path) -> None:
    for turn in range(3):
        with Cluster(Counter, data_dir=tmp_path) as cluster:
            assert cluster.write(("add", 1)) == turn + 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s1", "s2", "s3"]


def test_a_temporary_folder_is_removed_at_the_end() -> None:
    with Cluster(Counter) as cluster:
        folder = cluster._folder
        assert folder.exists()
    assert not folder.exists()


# -- faults of disks ---------------------------------------------------------------------------------------------------


def test_a_disk_fails_as_often_as_it_was_told_and_changes_nothing(tmp_path: Path) -> None:
    disk = Disk(LMDBAdapter, "lmdb")
    disk.fail(errno.ENOSPC, times=2)
    for _ in range(2):
        with disk(str(tmp_path / "store")) as adapter:
            with pytest.raises(StorageError) as caught:
                adapter.write(Batch(entries=[(1, b"x")]))
            assert caught.value.errno == errno.ENOSPC
            with pytest.raises(StorageError):  # as the interface wants it: nothing more until it is opened again
                adapter.write(Batch(entries=[(1, b"x")]))
    with disk(str(tmp_path / "store")) as adapter:
        assert adapter.bounds() == (1, 0)
        adapter.write(Batch(entries=[(1, b"x")]))
        assert adapter.read(1, 1, 10) == [(1, b"x")]


def test_a_slow_disk_takes_its_time(tmp_path: Path) -> None:
    disk = Disk(LMDBAdapter, "lmdb")
    with disk(str(tmp_path / "store")) as adapter:
        disk.delay(0.1)
        begin = time.monotonic()
        adapter.write(Batch(entries=[(1, b"x")]))
        assert time.monotonic() - begin >= 0.1
        disk.heal()
        begin = time.monotonic()
        adapter.write(Batch(entries=[(2, b"x")]))
        assert time.monotonic() - begin < 0.1


@pytest.mark.parametrize("end", ["heal", "let_go"])
def test_a_hung_disk_waits_until_it_heals_or_its_peer_is_gone(tmp_path: Path, end: str) -> None:
    disk = Disk(LMDBAdapter, "lmdb")
    results: list[Any] = []
    with disk(str(tmp_path / "store")) as adapter:
        disk.hang()

        def write() -> None:
            try:
                adapter.write(Batch(entries=[(1, b"x")]))
                results.append("written")
            except StorageError as error:
                results.append(error)

        thread = threading.Thread(target=write)
        thread.start()
        thread.join(0.1)
        assert thread.is_alive()
        getattr(disk, end)()
        thread.join(5)
        assert not thread.is_alive()
        assert (results == ["written"]) == (end == "heal")
        assert adapter.bounds() == ((1, 1) if end == "heal" else (1, 0))


def test_a_memory_store_survives_its_peer_until_it_is_forgotten() -> None:
    disk = Disk(MemoryAdapter, "memory")
    with disk("anywhere") as adapter:
        adapter.write(Batch(entries=[(1, b"x")]))
    with disk("anywhere") as adapter:
        assert adapter.read(1, 1, 10) == [(1, b"x")]
    disk.forget()
    with disk("anywhere") as adapter:
        assert adapter.bounds() == (1, 0)


def test_the_log_of_a_peer_can_be_seen_while_its_disk_hangs() -> None:
    with Cluster(Counter) as cluster:
        cluster.write(("add", 1))
        cluster.converged()
        log = cluster.entries("s1")
        cluster.disk("s1").hang()
        assert cluster.entries("s1") == log
        cluster.disk("s1").heal()
