"""The log writer and snapshots: what was queued happens in its order, and what was compacted leaves the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from raft_actors.log_store import LogStore
from raft_actors.log_writer import Job, Writer
from raft_actors.protocol.configuration import NO_CONFIGURATION
from raft_actors.protocol.effects import Compact, Persist
from raft_actors.protocol.events import Event, Persisted, SnapshotRecorded
from raft_actors.protocol.types import Ballot, LogPosition
from storage_adapters import MemoryAdapter
from tests.storage.log_tools import commands, everything
from tests.storage.snapshot_tools import at, foreign, received, taken


@pytest.fixture
def store(tmp_path: Path) -> LogStore:
    """A store with entries 1 to 20."""
    store = LogStore.open(MemoryAdapter, tmp_path, name="s1")
    store.write([Persist(Ballot(1, "s1"), cluster="c1", entries=commands(1, 20))])
    return store


def writer_of(store: LogStore, told: list[Event]) -> Writer:
    return Writer(store, Ballot(1, "s1"), store.last, lambda send: None, told.append)


def test_a_snapshot_of_ours_is_recorded_before_one_that_was_queued_after_it_takes_its_place(store: LogStore) -> None:
    told: list[Event] = []
    ours = taken(store.snapshots, at(store, 12))
    theirs = received(store.snapshots, foreign(50))
    writer_of(store, told).perform(
        [
            Job(Persist(entries=commands(21, 21)), ()),
            Compact(ours, 10, 0, NO_CONFIGURATION),
            Job(Persist(snapshot=theirs), ()),
            Job(Persist(entries=commands(51, 52)), ()),
        ]
    )
    assert told == [
        Persisted(Ballot(1, "s1"), LogPosition(1, 21)),
        SnapshotRecorded(ours.id),
        Persisted(Ballot(1, "s1"), LogPosition(1, 52)),
    ]
    assert store.snapshots.found() == [theirs]


def test_commits_do_not_wait_for_a_snapshot_of_ours_to_be_recorded(store: LogStore) -> None:
    told: list[Event] = []
    ours = taken(store.snapshots, at(store, 12))
    writer_of(store, told).perform([Compact(ours, 10, 0, NO_CONFIGURATION), Job(Persist(entries=commands(21, 22)), ())])
    assert told == [Persisted(Ballot(1, "s1"), LogPosition(1, 22)), SnapshotRecorded(ours.id)]


def test_what_an_installed_snapshot_takes_the_place_of_leaves_the_disk_too(store: LogStore) -> None:
    head = store.head(12)
    assert head is not None
    theirs = received(store.snapshots, foreign(12, chain=head[1]))
    writer = writer_of(store, [])
    writer.perform([Job(Persist(snapshot=theirs), ())])
    assert writer.untrimmed
    while writer.trim():
        pass
    assert store._adapter.bounds() == (13, 20)
    assert everything(store) == ()  # of the log as it was opened, nothing is left
    assert store.read(13, 20, 1 << 20) == commands(13, 20)
