"""How a store is opened: what is looked at, in which order, and what is done about it.

::

    foreign folder?  -> Incompatible, nothing touched
    mark             -> LMDB's file is not as the mark says? another process reads it first
    adapter          -> takes the lock; an engine that finds damage says so
    meta             -> another peer, format or codec? Incompatible; nothing there? a new store
    every record     -> damage at or below the mark: CorruptLog; above it: a torn tail
    snapshots        -> which of them the log goes on from
    settle           -> one durable write: the torn tail goes, and what was found is on the disk
    tidy up          -> files that do not count are removed; entries that were compacted go later, slice by slice
    mark             -> says what is durable now
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from raft_actors.durable_mark import Mark, MarkFile, data_file_state, read_mark
from raft_actors.errors import CorruptLog, Incompatible, StorageFailed
from raft_actors.folders import Folder, MemoryFolder
from raft_actors.log_recovery import survey_log
from raft_actors.protocol.configuration import Configuration
from raft_actors.protocol.configuration import decode as decode_configuration
from raft_actors.protocol.entry import Entry
from raft_actors.protocol.log import Log, recovered
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.protocol.types import NOWHERE, Ballot, LogPosition
from raft_actors.records import DamagedRecord, Survey
from raft_actors.snapshot_recovery import remove_leftovers, snapshot_folder, usable_snapshots
from raft_actors.snapshot_store import SnapshotStore
from raft_actors.store_errors import refuse_foreign_folder, translated
from raft_actors.store_meta import Base, Identity, Meta, ballot_value, codec_value, new_identity, read_meta
from raft_actors.store_probe import ProbeFailed, probe
from storage_adapters import Batch, MemoryAdapter, StorageAdapter

__all__ = ["AdapterFactory", "OpenedStore", "Recovered", "open_store", "probe_if_changed"]

logger = logging.getLogger("raft_actors")

AdapterFactory: TypeAlias = Callable[[str], StorageAdapter]
"""Opens the store in a folder; every adapter class is one."""


class Recovered(Struct, frozen=True):
    """What a peer starts from.

    Attributes:
        ballot: its term and vote.
        log: everything in the store, durable, none of it in memory.
        configurations: (index, configuration) pairs in the order of the log, the newest last.
        time: replicated time of the newest entry, in seconds.
        cluster: id of its cluster, ``""`` while it belongs to none.
        base: position before the first entry of the log.
        snapshots: those that the log goes on from, newest first. They are candidates: a state is checked when it is
            loaded. With a base and none of them, the state is not in this store.
    """

    ballot: Ballot
    log: Log
    configurations: tuple[tuple[int, Configuration], ...]
    time: float
    cluster: str
    base: LogPosition = NOWHERE
    snapshots: tuple[Snapshot, ...] = ()


class OpenedStore(Struct, frozen=True):
    """A store that was opened and checked; everything in it is durable."""

    adapter: StorageAdapter
    meta: Meta
    recovered: Recovered
    last: LogPosition
    chain: int
    mark: MarkFile | None
    snapshots: SnapshotStore
    where: str


def open_store(factory: AdapterFactory, folder: Path, *, name: str, codec: str, files: Folder | None) -> OpenedStore:
    """Open, check and settle a store; ``LogStore.open`` says what may be raised."""
    where = f"the store {folder} of peer {name!r}"
    with translated(where, str(folder)):
        if factory is not MemoryAdapter:
            refuse_foreign_folder(factory, folder, where)
            probe_if_changed(folder, read_mark(folder), where)
        adapter = factory(str(folder))
        try:
            durable = bool(adapter.stats().get("durable", True))
            files = files or _files(factory, folder) or (snapshot_folder(folder) if durable else MemoryFolder())
            mark = read_mark(folder) if durable else None  # under the lock: before it, somebody else may have moved it
            opened = _checked(adapter, mark, SnapshotStore(files), Identity(name, "", codec=codec), where)
            return replace(opened, mark=_marked(folder, opened)) if durable else opened
        except BaseException:
            adapter.close()
            raise


def _files(factory: AdapterFactory, folder: Path) -> Folder | None:
    """Return the folder that a factory brings for the snapshots of its stores, if it has a method ``files(path)``."""
    bring: Callable[[str], Folder] | None = getattr(factory, "files", None)
    return None if bring is None else bring(str(folder))


def _checked(
    adapter: StorageAdapter, mark: Mark | None, snapshots: SnapshotStore, wanted: Identity, where: str
) -> OpenedStore:
    meta = read_meta(adapter.meta, where)
    if meta is None:
        _require_new(adapter, mark, snapshots, where)
        meta = _make(adapter, wanted.name)
    _require_own(meta.identity, wanted, where)
    survey, torn = survey_log(adapter, meta, mark, where)
    usable = usable_snapshots(adapter, meta, snapshots, where)
    found = _recovered(meta, survey, usable, where)
    if torn is not None:
        count = adapter.bounds()[1] - torn.index + 1
        logger.warning("%s: a torn tail of %d entries is dropped: %s", where, count, torn)
    meta = _settle(adapter, meta, mark, torn, wanted.codec)
    if adapter.bounds()[1] < meta.base.last.index:
        adapter.compact(meta.base.last.index)  # the next entry would leave a gap
    remove_leftovers(snapshots, meta, usable)
    return OpenedStore(adapter, meta, found, survey.last, survey.chain, None, snapshots, where)


def _marked(folder: Path, opened: OpenedStore) -> MarkFile:
    """Write and sync the mark of a store that was just checked."""
    file = MarkFile(folder, opened.meta.identity.incarnation, getattr(opened.adapter, "sharers", lambda: 1))
    try:
        file.put(opened.last, opened.chain, opened.meta.ballot)
        file.sync()
    except BaseException:
        file.close()
        raise
    return file


def _recovered(meta: Meta, survey: Survey, snapshots: tuple[Snapshot, ...], where: str) -> Recovered:
    base = meta.base
    configurations = [(base.configuration_index, base.configuration)] if base.configuration else []
    configurations += [(entry.index, _configuration(entry, where)) for entry in survey.remembered]
    log = recovered(base.last, survey.last, tuple(survey.runs))
    return Recovered(meta.ballot, log, tuple(configurations), survey.time, meta.identity.cluster, base.last, snapshots)


def _configuration(entry: Entry, where: str) -> Configuration:
    try:
        return decode_configuration(entry.data)
    except ValueError as error:
        raise CorruptLog(f"{where} is damaged: entry {entry.index} is no configuration: {error}") from error


def _require_new(adapter: StorageAdapter, mark: Mark | None, snapshots: SnapshotStore, where: str) -> None:
    """A store without an identity is new, or what is left of one: that never becomes a new one."""
    _, last = adapter.bounds()
    if mark is not None:
        raise CorruptLog(f"{where} is empty, but its mark TAIL says that entry {mark.last.index} was durable")
    if left := snapshots.found():
        raise CorruptLog(f"{where} is empty, but it has a snapshot that ends with entry {left[0].last.index}")
    if last:
        raise Incompatible(
            f"{where} holds {last} entries of something else than a peer",
            advice="give the peer another data_dir or name",
        )


def _make(adapter: StorageAdapter, name: str) -> Meta:
    """Give a new store its identity, durably."""
    identity, values = new_identity(name)
    adapter.write(Batch(meta=values))
    return Meta(identity, Ballot(), Base())


def _require_own(found: Identity, wanted: Identity, where: str) -> None:
    if found.name != wanted.name:
        raise Incompatible(
            f"{where} was made for peer {found.name!r}",
            advice=f"start it under the name {found.name!r}, or give {wanted.name!r} another data_dir",
        )
    if wanted.codec and found.codec not in ("", wanted.codec):
        raise Incompatible(
            f"{where} holds commands of codec {found.codec!r}, not of {wanted.codec!r}",
            advice=f"start the peer with codec {found.codec!r}, or give it another data_dir",
        )


def _settle(adapter: StorageAdapter, meta: Meta, mark: Mark | None, torn: DamagedRecord | None, codec: str) -> Meta:
    """Make what was found durable, drop the torn tail and note the codec, in one batch, if there is a need.

    After a crash the newest commit may be readable without being on the disk yet: its sync never returned. One more
    durable write settles that before anybody is told of it.
    """
    values: dict[str, bytes] = {}
    if codec != meta.identity.codec and codec:
        values |= codec_value(codec)
    if torn is not None or values or mark is None or not mark.clean:
        values |= ballot_value(meta.ballot)
        adapter.write(Batch(values, None if torn is None else torn.index))
    return replace(meta, identity=replace(meta.identity, codec=codec or meta.identity.codec))


def probe_if_changed(folder: Path, mark: Mark | None, where: str) -> None:
    """Let another process read an LMDB file first that is not exactly as it was left."""
    state = data_file_state(folder)
    if state[0] == 0 or (mark is not None and mark.data == state):
        return
    try:
        problem = probe(folder)
    except ProbeFailed as error:
        raise StorageFailed(f"{where} was not closed in order and cannot be checked: {error}") from error
    if problem is not None:
        raise CorruptLog(f"{where} is damaged: {problem}")
