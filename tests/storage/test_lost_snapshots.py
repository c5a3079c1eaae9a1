"""A snapshot that turns out to be damaged: what the log goes on from then, and that nothing refuses the way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

import raft_actors as raft
from raft_actors.errors import InvariantViolated
from raft_actors.log_store import LogStore
from raft_actors.machines import KV
from raft_actors.protocol.effects import Persist
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.testing import Cluster
from storage_adapters import LMDBAdapter, RocksDBAdapter, StorageAdapter
from tests.storage.log_tools import ENGINES, commands, everything
from tests.storage.snapshot_tools import at, compacted, foreign, received, state_at, state_in

Factory = Callable[[str], StorageAdapter]


def damage(file: Path) -> None:
    """Flip a bit in the state, so that the header can still be read."""
    data = bytearray(file.read_bytes())
    data[-40] ^= 1
    file.write_bytes(data)


def of_another_peer(store: LogStore, index: int) -> Snapshot:
    """What another peer with the same log sends."""
    return received(store.snapshots, replace(at(store, index), id=f"feed-{index}"))


@pytest.fixture(params=ENGINES)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A store of 20 entries that begins after entry 10, with snapshots of 12 and, damaged, of 15."""
    factory: Factory = request.param
    path = tmp_path / "s1"
    with LogStore.open(factory, path, name="s1") as store:
        store.write([Persist(cluster="c1", entries=commands(1, 20))])
        compacted(store, 12, 5)
        newest = compacted(store, 15, 10)
    damage(path / "snapshots" / f"{newest.id}.snap")
    return path


def opened(path: Path) -> LogStore:
    factory = LMDBAdapter if (path / "data.mdb").exists() else RocksDBAdapter
    return LogStore.open(factory, path, name="s1")


def test_an_older_snapshot_can_be_recorded_once_the_newest_is_given_up(path: Path) -> None:
    with opened(path) as store:
        newest, older = store.recovered.snapshots
        assert store.snapshots.verify(newest.id)
        store.give_up(newest)
        taken = compacted(store, 13, 11)
        assert store.snapshots.found() == [taken, older]
    with opened(path) as store:
        assert store.recovered.snapshots == (taken, older)
        assert everything(store) == commands(12, 20)
        assert state_in(store, taken) == state_at(13)


def test_a_snapshot_of_a_leader_that_is_behind_ours_replaces_one_that_was_given_up(path: Path) -> None:
    with opened(path) as store:
        for lost in store.recovered.snapshots:
            store.give_up(lost)
        whole = of_another_peer(store, 13)
        store.write([Persist(snapshot=whole)])
        assert store.snapshots.found() == [whole]
        assert store.read(14, 20, 1 << 20) == commands(14, 20)
    with opened(path) as store:
        assert store.recovered.snapshots == (whole,)
        assert everything(store) == commands(14, 20)


def test_a_snapshot_of_the_very_base_replaces_one_that_was_given_up(path: Path) -> None:
    with opened(path) as store:
        for lost in store.recovered.snapshots:
            store.give_up(lost)
        whole = of_another_peer(store, 10)
        store.write([Persist(snapshot=whole)])
        assert store.snapshots.found() == [whole]
    with opened(path) as store:
        assert store.recovered.snapshots == (whole,)
        assert everything(store) == commands(11, 20)


def test_a_snapshot_of_another_history_is_refused_at_the_base_too(path: Path) -> None:
    with opened(path) as store:
        for lost in store.recovered.snapshots:
            store.give_up(lost)
        whole = received(store.snapshots, foreign(10))
        with pytest.raises(InvariantViolated, match="does not hold the last entry"):
            store.write([Persist(snapshot=whole)])


def test_an_older_snapshot_is_refused_while_the_newest_counts(path: Path) -> None:
    with opened(path) as store:
        whole = of_another_peer(store, 13)
        with pytest.raises(InvariantViolated, match="is older"):
            store.write([Persist(snapshot=whole)])


def test_what_is_missing_when_the_store_is_opened_counts_as_given_up(path: Path) -> None:
    with opened(path) as store:
        missing = store.recovered.snapshots[0]
    (path / "snapshots" / f"{missing.id}.snap").unlink()
    with opened(path) as store:
        whole = of_another_peer(store, 13)
        store.write([Persist(snapshot=whole)])
    with opened(path) as store:
        assert store.recovered.snapshots == (whole,)


def test_a_given_up_snapshot_is_not_what_one_falls_back_to(path: Path) -> None:
    with opened(path) as store:
        damaged, older = store.recovered.snapshots
        store.give_up(damaged)
        newest = compacted(store, 18, 11)
        assert store.snapshots.found() == [newest, older]


@pytest.mark.parametrize("trailing", [0, 4])
def test_a_peer_that_lost_its_only_snapshot_gets_that_of_its_leader(trailing: int, tmp_path: Path) -> None:
    config = raft.Config(trailing_entries=trailing)
    with Cluster(KV, 3, config=config, data_dir=tmp_path) as cluster:
        for number in range(20):
            cluster.write(("set", number, "x" * 100))
        cluster.converged(5.0)
        for name in cluster.names:
            raft.snapshot(name)
        lost = next(name for name in cluster.names if name != cluster.leader())
        cluster.stop(lost)
        for file in (tmp_path / lost / "snapshots").iterdir():
            damage(file)
        cluster.start(lost)
        cluster.write(("set", "after", 1))
        cluster.eventually(lambda: len(cluster.state(lost)) == 21, 5.0)
        assert cluster.state(lost) == cluster.state(cluster.leader())


def test_a_leader_whose_snapshot_is_damaged_takes_another_for_its_follower(tmp_path: Path) -> None:
    with Cluster(KV, 3, config=raft.Config(trailing_entries=0), data_dir=tmp_path) as cluster:
        leader = cluster.leader()
        assert leader is not None
        behind = next(name for name in cluster.names if name != leader)
        cluster.stop(behind)
        for number in range(20):
            cluster.write(("set", number, "x" * 100))
        raft.snapshot(leader)
        for file in (tmp_path / leader / "snapshots").iterdir():
            damage(file)
        cluster.start(behind)
        cluster.write(("set", "after", 1))

        def caught_up() -> bool:
            cluster.write(("set", "again", 1))
            return len(cluster.state(behind)) == 22

        cluster.eventually(caught_up, 10.0)
