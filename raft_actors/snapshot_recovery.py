"""Which snapshots a store can go on from when it is opened, and which files are leftovers.

::

    recorded                 the log goes on from it; its header and size have to be as recorded
    older, base or later     the log still reaches back to it: for the case that the recorded one is damaged
    everything else          never recorded, superseded, half-made: removed

Only headers are looked at; a state is checked when it is loaded. A recorded snapshot that cannot be used is no end of
the store, as another peer may have one to send, but it is never passed over in silence.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from raft_actors.errors import CorruptLog
from raft_actors.folders import DiskFolder
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.records import DamagedRecord, head_of
from raft_actors.snapshot_store import SnapshotStore
from raft_actors.store_meta import Meta
from storage_adapters import StorageAdapter

__all__ = ["candidates", "fits", "remove_leftovers", "snapshot_folder", "usable_snapshots"]

logger = logging.getLogger("raft_actors")


def snapshot_folder(store: Path) -> DiskFolder:
    """Return the folder of a store's snapshots: in its own folder, or beside it if an adapter made it a single file."""
    return DiskFolder(store.with_name(store.name + ".snapshots") if store.is_file() else store / "snapshots")


def usable_snapshots(adapter: StorageAdapter, meta: Meta, snapshots: SnapshotStore, where: str) -> tuple[Snapshot, ...]:
    """Return the snapshots from which the log of a checked store goes on, newest first.

    Raises:
        CorruptLog: the log is not the one that the recorded snapshot was taken of.
        OSError: the disk failed.
    """
    recorded = meta.snapshot
    if recorded is None:
        return ()
    if not fits(adapter, meta, recorded):
        raise CorruptLog(f"{where} is damaged: entry {recorded.last.index} is not the one that its snapshot ends with")
    usable = candidates(adapter, meta, snapshots.found())
    if recorded not in usable:
        logger.warning("%s: its snapshot %s is missing or damaged", where, recorded.id)
    return tuple(usable)


def candidates(adapter: StorageAdapter, meta: Meta, found: Sequence[Snapshot]) -> list[Snapshot]:
    """Return the recorded snapshot, if it is among ``found``, and older ones to which the log reaches back."""
    recorded = meta.snapshot
    if recorded is None:
        return []
    older = [
        snapshot
        for snapshot in found
        if snapshot.id != recorded.id and snapshot.last.index <= recorded.last.index and fits(adapter, meta, snapshot)
    ]
    return [recorded, *older] if recorded in found else older


def fits(adapter: StorageAdapter, meta: Meta, snapshot: Snapshot) -> bool:
    """Tell whether a snapshot ends with an entry of this log, or with the one before its first."""
    base = meta.base
    if snapshot.last.index == base.last.index:
        return (snapshot.last, snapshot.chain) == (base.last, base.chain)
    if snapshot.last.index < base.last.index:
        return False
    try:
        heads = [head_of(*pair) for pair in adapter.read(snapshot.last.index, snapshot.last.index, 1)]
    except DamagedRecord:
        return False
    return [head[:2] for head in heads] == [(snapshot.last, snapshot.chain)]


def remove_leftovers(snapshots: SnapshotStore, meta: Meta, usable: tuple[Snapshot, ...]) -> None:
    """Remove all files but the usable snapshots, and the recorded one whatever its condition.

    Raises:
        OSError: the disk failed.
    """
    recorded = [meta.snapshot.id] if meta.snapshot is not None else []
    snapshots.retain({*recorded, *(snapshot.id for snapshot in usable)})
