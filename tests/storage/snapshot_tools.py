"""Small makers of snapshots for the tests of the storage side."""

from __future__ import annotations

from raft_actors.folders import Folder, MemoryFolder
from raft_actors.log_store import LogStore
from raft_actors.protocol.configuration import NO_CONFIGURATION, Configuration
from raft_actors.protocol.effects import Persist
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.protocol.types import LogPosition
from raft_actors.snapshot_store import SnapshotStore
from tests.storage.log_tools import T0, configuration_of

CONFIGURATION = configuration_of("s1", "s2", "s3")


def state_at(index: int) -> bytes:
    """The state that a snapshot at ``index`` holds here: larger than a frame, and telling which it is."""
    return b"state at %d;" % index * 8000


def at(store: LogStore, index: int) -> Snapshot:
    """What a snapshot of this log at ``index`` stands for."""
    head = store.head(index)
    assert head is not None
    last, chain, time = head
    return Snapshot(f"{store.identity.incarnation}-{index}", last, chain, time, 1, CONFIGURATION)


def foreign(index: int, *, term: int = 1, chain: int = 4711) -> Snapshot:
    """What a snapshot of another peer's log stands for."""
    return Snapshot(f"feed-{index}", LogPosition(term, index), chain, T0 + index, 1, CONFIGURATION)


def replanted(folder: Folder, name: str, data: bytes) -> None:
    """Put other bytes in the place of a file."""
    with folder.create(name) as file:
        file.write(data)


def taken(snapshots: SnapshotStore, snapshot: Snapshot, state: bytes | None = None) -> Snapshot:
    """Take a snapshot, whole and durable."""
    output = snapshots.create(snapshot, cluster="c1", codec="plain", version=3)
    output.write(state_at(snapshot.last.index) if state is None else state)
    return output.commit()


def file_of(snapshot: Snapshot, state: bytes | None = None) -> bytes:
    """The bytes of a snapshot's file, as another peer would send them."""
    elsewhere = SnapshotStore(MemoryFolder())
    made = taken(elsewhere, snapshot, state)
    data = elsewhere.chunk(made.id, 0, made.size)
    assert data is not None
    return data


def received(snapshots: SnapshotStore, snapshot: Snapshot, *, piece: int = 10_000) -> Snapshot:
    """Receive a snapshot in pieces, whole and durable."""
    data = file_of(snapshot)
    coming = snapshots.receive(snapshot.id)
    for start in range(0, len(data), piece):
        coming.append(data[start : start + piece])
    return coming.commit()


def compacted(
    store: LogStore, index: int, through: int, *, configuration: Configuration = NO_CONFIGURATION
) -> Snapshot:
    """Take a snapshot at ``index``, record it and let the log begin after ``through``."""
    snapshot = taken(store.snapshots, at(store, index))
    store.compact(snapshot, through=through, configuration_index=1 if configuration else 0, configuration=configuration)
    return snapshot


def installed(store: LogStore, snapshot: Snapshot) -> Snapshot:
    """Receive a snapshot and let the log go on from it."""
    whole = received(store.snapshots, snapshot)
    store.write([Persist(snapshot=whole)])
    return whole


def state_in(store: LogStore, snapshot: Snapshot) -> bytes:
    """Load a snapshot's state, every byte checked."""
    with store.snapshots.open(snapshot.id) as reader:
        state = reader.read()
        reader.finish()
        assert reader.snapshot == snapshot
    return state
