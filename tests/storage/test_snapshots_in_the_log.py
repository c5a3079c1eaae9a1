"""The log and its snapshots together: compaction, installation, and what a peer finds when it starts again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from raft_actors.errors import CorruptLog, InvariantViolated, StorageFailed
from raft_actors.folders import MemoryFolder
from raft_actors.log_store import LogStore
from raft_actors.protocol.effects import Persist
from raft_actors.protocol.types import NOWHERE, Ballot, LogPosition
from storage_adapters import LMDBAdapter, MemoryAdapter, RocksDBAdapter, StorageAdapter
from tests.storage.log_tools import T0, append, change, commands, everything, filled
from tests.storage.snapshot_tools import (
    CONFIGURATION,
    at,
    compacted,
    foreign,
    installed,
    received,
    state_at,
    state_in,
    taken,
)

Factory = Callable[[str], StorageAdapter]


class Reopened:
    """A store that is closed and opened again, on any adapter: what lies in memory is kept."""

    def __init__(self, factory: Factory, path: Path) -> None:
        self.path = path
        self._kept = MemoryAdapter() if factory is MemoryAdapter else None
        self._files = MemoryFolder() if factory is MemoryAdapter else None
        self._factory = factory
        if self._kept is not None:
            self._kept.close = lambda: None  # type: ignore[method-assign]

    def open(self) -> LogStore:
        factory = self._factory if self._kept is None else lambda path: self._kept
        return LogStore.open(factory, self.path, name="s1", files=self._files)

    def filled(self, last: int = 20) -> LogStore:
        store = self.open()
        store.write([Persist(ballot=Ballot(1, "s1"), cluster="c1", entries=commands(1, last))])
        return store


@pytest.fixture(params=[MemoryAdapter, LMDBAdapter, RocksDBAdapter])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Reopened:
    return Reopened(request.param, tmp_path / "s1")


def test_a_compacted_log_goes_on_from_its_snapshot(stores: Reopened) -> None:
    with stores.filled() as store:
        snapshot = compacted(store, 15, 10, configuration=CONFIGURATION)
        assert store.read(1, 20, 1 << 20) == ()
        assert store.read(11, 20, 1 << 20) == commands(11, 20)
        while store.trim(3):
            pass
        append(store, *commands(21, 22))
    with stores.open() as store:
        found = store.recovered
        assert found.snapshots == (snapshot,)
        assert found.base == LogPosition(1, 10) == found.log.previous
        assert found.configurations == ((1, CONFIGURATION),)
        assert found.time == T0 + 22
        assert everything(store) == commands(11, 22)
        assert state_in(store, snapshot) == state_at(15)


def test_a_snapshot_without_compaction_is_only_recorded(stores: Reopened) -> None:
    with stores.filled() as store:
        snapshot = compacted(store, 20, 0)
        assert not store.trim(100)
    with stores.open() as store:
        assert (store.recovered.base, store.recovered.snapshots) == (NOWHERE, (snapshot,))
        assert everything(store) == commands(1, 20)


def test_a_log_can_be_compacted_up_to_its_very_end(stores: Reopened) -> None:
    with stores.filled() as store:
        compacted(store, 20, 20)
        assert not store.trim(100)
        append(store, *commands(21, 21))
    with stores.open() as store:
        assert everything(store) == commands(21, 21)


def test_older_snapshots_stay_while_the_log_reaches_back_to_them(stores: Reopened) -> None:
    with stores.filled() as store:
        first = compacted(store, 10, 5)
        second = compacted(store, 15, 10)
        assert store.snapshots.found() == [second, first]
    with stores.open() as store:
        assert store.recovered.snapshots == (second, first)
        third = compacted(store, 20, 11)
        assert store.snapshots.found() == [third, second]


def test_a_prefix_is_dropped_slice_by_slice(stores: Reopened) -> None:
    with stores.filled() as store:
        compacted(store, 20, 10)
        slices = [store.trim(4), store.trim(4), store.trim(4), store.trim(4)]
        assert slices == [True, True, False, False]
        assert store.read(10, 11, 1 << 20) == ()


@pytest.mark.parametrize("through", [10, 20])
def test_a_prefix_that_was_not_dropped_stays_hidden_on_opening_and_is_dropped_later(
    stores: Reopened, through: int
) -> None:
    with stores.filled() as store:
        compacted(store, 20, through)
        store.trim(4)
    with stores.open() as store:
        assert store.read(5, through, 1 << 20) == ()
        assert everything(store) == commands(through + 1, 20)
        append(store, *commands(21, 22))
        assert store.trim(4)
        assert not store.trim(20)
    with stores.open() as store:
        assert everything(store) == commands(through + 1, 22)


def test_a_follower_far_behind_goes_on_from_an_installed_snapshot(stores: Reopened) -> None:
    with stores.filled() as store:
        snapshot = installed(store, foreign(50, term=3))
        assert store.head(50) == (LogPosition(3, 50), 4711, T0 + 50)
        assert store.head(20) is None
        append(store, *commands(51, 52, term=3))
    with stores.open() as store:
        assert store.recovered.snapshots == (snapshot,)
        assert store.recovered.base == LogPosition(3, 50)
        assert store.recovered.configurations == ((1, CONFIGURATION),)
        assert everything(store) == commands(51, 52, term=3)
        assert state_in(store, snapshot) == state_at(50)


def test_an_installed_snapshot_that_the_log_holds_keeps_what_comes_after_it(stores: Reopened) -> None:
    with stores.filled() as store:
        head = store.head(12)
        assert head is not None
        snapshot = installed(store, foreign(12, chain=head[1]))
        assert store.read(12, 20, 1 << 20) == ()
        assert store.read(13, 20, 1 << 20) == commands(13, 20)
    with stores.open() as store:
        assert store.recovered.snapshots == (snapshot,)
        assert everything(store) == commands(13, 20)


def test_an_installed_snapshot_replaces_a_log_that_went_another_way(stores: Reopened) -> None:
    with stores.filled() as store:
        snapshot = installed(store, foreign(12, term=2))
        append(store, *commands(13, 14, term=2))
    with stores.open() as store:
        assert store.recovered.snapshots == (snapshot,)
        assert store.recovered.log.last == LogPosition(2, 14)
        assert everything(store) == commands(13, 14, term=2)


def test_entries_that_were_merged_with_an_installation_follow_it(stores: Reopened) -> None:
    with stores.filled() as store:
        whole = received(store.snapshots, foreign(50, term=3))
        store.write([Persist(Ballot(4, None), snapshot=whole), Persist(entries=commands(51, 53, term=4))])
    with stores.open() as store:
        assert store.recovered.ballot == Ballot(4, None)
        assert everything(store) == commands(51, 53, term=4)


def test_an_installation_removes_what_the_log_does_not_reach_back_to(stores: Reopened) -> None:
    with stores.filled() as store:
        compacted(store, 10, 5)
        snapshot = installed(store, foreign(50))
        assert store.snapshots.found() == [snapshot]


def test_an_installation_needs_its_snapshot_on_the_disk(stores: Reopened) -> None:
    with stores.filled() as store, pytest.raises(InvariantViolated, match="no such snapshot"):
        store.write([Persist(snapshot=foreign(50))])


def test_no_log_goes_back_to_an_older_snapshot(stores: Reopened) -> None:
    with stores.filled() as store:
        compacted(store, 15, 15)
        whole = received(store.snapshots, foreign(15))
        with pytest.raises(InvariantViolated, match="cannot take its place"):
            store.write([Persist(snapshot=whole)])
        with pytest.raises(StorageFailed, match="no more writes"):
            append(store, *commands(21, 21))


def test_a_snapshot_of_a_lower_term_is_not_installed(stores: Reopened) -> None:
    with stores.open() as store:
        installed(store, foreign(10, term=5))
        whole = received(store.snapshots, foreign(20, term=4))
        with pytest.raises(InvariantViolated, match="cannot take its place"):
            store.write([Persist(snapshot=whole)])


def test_only_the_first_of_merged_writes_may_install(stores: Reopened) -> None:
    with stores.filled() as store, pytest.raises(InvariantViolated, match="only the first"):
        whole = received(store.snapshots, foreign(50))
        store.write([Persist(entries=commands(21, 21)), Persist(snapshot=whole)])


def test_a_snapshot_of_another_history_is_not_recorded(stores: Reopened) -> None:
    with stores.filled() as store:
        other = taken(store.snapshots, foreign(12))
        with pytest.raises(InvariantViolated, match="does not hold"):
            store.compact(other, through=5, configuration_index=0, configuration=CONFIGURATION)


def test_a_log_is_not_compacted_beyond_its_snapshot(stores: Reopened) -> None:
    with stores.filled() as store:
        snapshot = taken(store.snapshots, at(store, 12))
        with pytest.raises(InvariantViolated, match="cannot be compacted"):
            store.compact(snapshot, through=13, configuration_index=0, configuration=CONFIGURATION)


def test_head_knows_the_log_and_the_entry_before_it(stores: Reopened) -> None:
    with stores.filled() as store:
        before = store.head(10)
        assert before is not None
        assert before[0] == LogPosition(1, 10)
        assert before[2] == T0 + 10
        compacted(store, 15, 10)
        assert store.head(10) == before
        assert store.head(9) is None
        assert store.head(21) is None
        assert store.head(20) is not None


def test_leftovers_are_removed_on_opening(stores: Reopened) -> None:
    with stores.filled() as store:
        recorded = compacted(store, 10, 5)
        taken(store.snapshots, at(store, 15))  # a crash came before the log recorded it
        store.snapshots.create(at(store, 16), cluster="", codec="", version=0).write(b"half")
        store.snapshots.receive("feed-30").append(b"half")
        assert len(store.snapshots.folder.names()) == 4
    with stores.open() as store:
        assert store.snapshots.folder.names() == [f"{recorded.id}.snap"]
        assert store.recovered.snapshots == (recorded,)


def test_a_missing_snapshot_falls_back_to_the_one_before_it(stores: Reopened) -> None:
    with stores.filled() as store:
        first = compacted(store, 10, 5)
        second = compacted(store, 15, 8)
        store.snapshots.folder.remove(f"{second.id}.snap")
    with stores.open() as store:
        assert store.recovered.snapshots == (first,)


def test_a_log_that_is_compacted_and_has_no_snapshot_says_so(stores: Reopened) -> None:
    with stores.filled() as store:
        only = compacted(store, 15, 12)
        store.snapshots.folder.remove(f"{only.id}.snap")
    with stores.open() as store:
        assert store.recovered.snapshots == ()
        assert store.recovered.base == LogPosition(1, 12)


def test_configurations_after_the_base_follow_the_one_before_it(stores: Reopened) -> None:
    with stores.filled(3) as store:
        append(store, change(4, 1, CONFIGURATION), *commands(5, 9))
        compacted(store, 8, 3, configuration=CONFIGURATION)
    with stores.open() as store:
        assert store.recovered.configurations == ((1, CONFIGURATION), (4, CONFIGURATION))


def test_what_is_left_of_a_store_never_becomes_a_new_one(tmp_path: Path) -> None:
    filled(LMDBAdapter, tmp_path / "s1")
    with LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1") as store:
        compacted(store, 20, 20)
    for name in ("data.mdb", "lock.mdb", "TAIL", "LOCK", "FORMAT"):
        (tmp_path / "s1" / name).unlink()
    with pytest.raises(CorruptLog, match="has a snapshot that ends with entry 20"):
        LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1")


def test_a_log_that_reaches_far_back_keeps_only_one_snapshot_to_fall_back_to(stores: Reopened) -> None:
    with stores.filled() as store:
        made = [compacted(store, index, 2) for index in range(5, 20)]
        assert store.snapshots.found() == [made[-1], made[-2]]
    with stores.open() as store:
        assert store.recovered.snapshots == (made[-1], made[-2])
        assert everything(store) == commands(3, 20)


def test_a_snapshot_that_is_not_recorded_yet_is_not_superseded(stores: Reopened) -> None:
    with stores.filled() as store:
        compacted(store, 10, 5)
        waiting = taken(store.snapshots, at(store, 18))
        recorded = compacted(store, 15, 12)
        assert store.snapshots.found() == [waiting, recorded]
        store.compact(waiting, through=15, configuration_index=0, configuration=CONFIGURATION)
