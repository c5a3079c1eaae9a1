"""What the snapshots of a store that is not running are worth: every byte of them is read, and nothing is changed."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from raft_actors.protocol.snapshot import Snapshot
from raft_actors.snapshot_files import SUFFIX, is_ours
from raft_actors.snapshot_recovery import candidates, fits, snapshot_folder
from raft_actors.snapshot_store import SnapshotStore
from raft_actors.store_meta import Meta
from storage_adapters import StorageAdapter

__all__ = ["Snapshots", "check_snapshots"]


class Snapshots(Struct, frozen=True):
    """What was found.

    Attributes:
        sound: those that the log goes on from, every byte checked, newest first.
        problems: what is wrong, a line each.
        notes: what is left over and goes when the peer starts, a line each.
    """

    sound: tuple[Snapshot, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def check_snapshots(store: Path, adapter: StorageAdapter, meta: Meta) -> Snapshots:
    """Check the snapshots of the store in the folder ``store``.

    Args:
        store: the folder.
        adapter: the store, open.
        meta: what it says about itself.

    Raises:
        OSError: the disk failed.
    """
    files = SnapshotStore(snapshot_folder(store))
    found = files.found()
    kept = candidates(adapter, meta, found)
    problems = list(_recorded_problems(adapter, meta, found))
    sound: list[Snapshot] = []
    for snapshot in kept:
        damage = files.verify(snapshot.id)
        problems += damage
        if not damage and fits(adapter, meta, snapshot):
            sound.append(snapshot)
    if meta.base.last.index and not sound:
        problems.append(
            f"the entries up to {meta.base.last.index} were compacted, and no sound snapshot takes their place"
        )
    recorded = () if meta.snapshot is None else (meta.snapshot,)
    names = {snapshot.id + SUFFIX for snapshot in (*kept, *recorded)}
    left = [name for name in files.folder.names() if is_ours(name) and name not in names]
    notes = tuple(f"{name} is no snapshot that counts: it is removed when the peer starts" for name in left)
    return Snapshots(tuple(sound), tuple(problems), notes)


def _recorded_problems(adapter: StorageAdapter, meta: Meta, found: list[Snapshot]) -> list[str]:
    """Return what is wrong with the recorded snapshot before its state is looked at."""
    recorded = meta.snapshot
    if recorded is None:
        return []
    problems = []
    if not fits(adapter, meta, recorded):
        problems.append(f"entry {recorded.last.index} is not the one that snapshot {recorded.id} ends with")
    if recorded not in found:
        there = recorded.id in {snapshot.id for snapshot in found}
        problems.append(f"snapshot {recorded.id} is {'not as it was recorded' if there else 'missing or damaged'}")
    return problems
