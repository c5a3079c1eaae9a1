"""Look into a store without starting its peer, and without changing what is in it.

An LMDB store is read by another process first, which may die of a mangled file, and then opened where it is: opening
writes nothing. A store in a shared LMDB file is found by what its folder says, and read the same way; that file is
locked as a whole, so that it is refused while any peer in it runs. Opening a RocksDB store rewrites its newest part, so
a private image is opened instead: sorted files are linked (they never change), the rest is copied. All hold the store's
lock meanwhile, so no peer can start in between, and the store of a running peer is refused.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec import Struct

from raft_actors.durable_mark import Mark, mark_path, read_mark
from raft_actors.errors import CorruptLog, Incompatible, RaftError
from raft_actors.log_recovery import READ_BYTES, check_range, contradiction, lost_end
from raft_actors.protocol.configuration import decode as decode_configuration
from raft_actors.protocol.entry import Entry
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.protocol.types import LogPosition
from raft_actors.records import DamagedRecord, Survey, before_of, decode_records
from raft_actors.snapshot_inspection import Snapshots, check_snapshots
from raft_actors.store_errors import translated_storage
from raft_actors.store_meta import Meta, damage_in, read_meta
from raft_actors.store_probe import ProbeFailed, probe
from storage_adapters import LMDBAdapter, RocksDBAdapter, SharedLMDB, StorageAdapter, StorageError
from storage_adapters.folder import engine_of
from storage_adapters.lock import StoreLock
from storage_adapters.shared_env import ENGINE as SHARED_FILE
from storage_adapters.shared_lmdb import ENGINE as SHARED
from storage_adapters.shared_lmdb import shared_folder_of

__all__ = ["InspectionFailed", "NotAStore", "Report", "engine_in", "entries", "factory_of", "reading", "verify"]

LEFT_OUT = shutil.ignore_patterns("LOCK", "RESERVE", "TAIL", "snapshots")
MOST_PROBLEMS = 100
"""More damaged records than this are not listed one by one."""


class NotAStore(Incompatible):
    """The folder is not the store of a peer; the text says what it is instead."""

    summary = "the folder holds no store"
    advice = "name a peer's own folder, DATA_DIR/NAME"


class InspectionFailed(RaftError):
    """The store could not be looked into, which says nothing about what is in it."""

    summary = "the store could not be inspected"
    advice = "mend that and look again: nothing was found wrong, and nothing was changed"


class Report(Struct, frozen=True):
    """What ``verify`` found.

    Attributes:
        problems: what is wrong, a line each; none for a sound store.
        notes: what could not be checked, a line each.
        meta: what the store says about itself, ``None`` if that cannot be read.
        bounds: first and last index.
        snapshots: those that are sound, newest first.
    """

    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    meta: Meta | None = None
    bounds: tuple[int, int] = (1, 0)
    snapshots: tuple[Snapshot, ...] = ()


def verify(folder: Path) -> Report:
    """Check every checksum of the store in ``folder``, its chain, its mark and its snapshots.

    Raises:
        NotAStore: it is none.
        InspectionFailed: it could not be looked into, for want of room or of a process.
    """
    try:
        with reading(folder) as adapter:
            return _checked(adapter, folder)
    except (NotAStore, InspectionFailed):
        raise
    except RaftError as error:
        return Report((str(error),))


@contextmanager
def reading(folder: Path) -> Iterator[StorageAdapter]:
    """Open the store in ``folder`` for reading only.

    Raises:
        NotAStore: it is none.
        StoreInUse: a peer has it open.
        CorruptLog: it is so damaged that it cannot be opened.
        StorageFailed: the disk failed.
        InspectionFailed: it could not be looked into, for want of room or of a process.
        MissingExtra: its engine is not installed.
    """
    engine = engine_in(folder)
    where = f"the store {folder}"
    with translated_storage(where, str(folder)):
        if engine == "lmdb":
            _probe(folder, where)
            with LMDBAdapter(folder) as adapter:
                yield adapter
        elif engine == SHARED:
            shared = SharedLMDB(shared_folder_of(folder))
            shared.check()
            with shared(folder) as adapter:
                yield adapter
        else:
            with _image(folder) as adapter:
                yield adapter


def entries(adapter: StorageAdapter, first: int, last: int) -> Iterator[Entry]:
    """Yield the entries ``first .. last`` of an open store, each checked against the one before it.

    Raises:
        CorruptLog: a record is damaged or missing; what came before it was yielded.
    """
    try:
        yield from _entries(adapter, first, last)
    except DamagedRecord as damage:
        raise CorruptLog(f"the log is damaged: {damage}") from damage


def _entries(adapter: StorageAdapter, first: int, last: int) -> Iterator[Entry]:
    low, high = adapter.bounds()
    index, last = max(first, low), min(last, high)
    chain: int | None = None
    while index <= last:
        pairs = adapter.read(index, last, READ_BYTES)
        if not pairs or pairs[0][0] != index:
            raise DamagedRecord(index, "is missing")
        for pair in pairs:
            found, chain = decode_records((pair,), chain)
            yield found[0]
        index = pairs[-1][0] + 1


def engine_in(folder: Path) -> str:
    """The name of the engine of the store in ``folder``: ``"lmdb"``, ``"rocksdb"`` or ``"shared-lmdb"``.

    Raises:
        NotAStore: there is none.
        CorruptLog: its data is gone.
    """
    if not folder.is_dir():
        raise NotAStore(f"{folder} is not a folder")
    engine = engine_of(folder)
    if engine is None:
        engine = "lmdb" if (folder / "data.mdb").exists() else None
    if engine is None and (folder / "db" / "CURRENT").exists():
        engine = "rocksdb"
    if engine is None:
        if mark_path(folder).exists():
            raise CorruptLog(f"the store {folder} is damaged: its mark TAIL is there, and its data is gone")
        raise NotAStore(f"{folder} holds no store")
    if engine == SHARED_FILE:
        raise NotAStore(f"{folder} holds the logs of several peers, and none of them is its own")
    if engine not in ("lmdb", "rocksdb", SHARED):
        raise NotAStore(f"{folder} was made by the storage adapter {engine!r}, which is not known here")
    return engine


def factory_of(folder: Path) -> Callable[[str], StorageAdapter]:
    """What opens a store of the kind of that in ``folder``, which was read before, and beside it."""
    match engine_in(folder):
        case "lmdb":
            return LMDBAdapter
        case "rocksdb":
            return RocksDBAdapter
    return SharedLMDB(shared_folder_of(folder))


def _probe(folder: Path, where: str) -> None:
    try:
        problem = probe(folder)
    except ProbeFailed as error:
        raise InspectionFailed(f"{where} cannot be checked: {error}") from error
    if problem is not None:
        raise CorruptLog(f"{where} is damaged: {problem}")


@contextmanager
def _image(folder: Path) -> Iterator[StorageAdapter]:
    """Open a copy of a RocksDB store, and drop it afterwards."""
    with ExitStack() as stack:
        with _needing_room(folder):
            scratch = stack.enter_context(_scratch_beside(folder))
            stack.callback(StoreLock(folder).release)
            image = scratch / folder.name
            shutil.copytree(folder, image, copy_function=_link_or_copy, ignore=LEFT_OUT)
            adapter = stack.enter_context(RocksDBAdapter(image, reserve=0))
        yield adapter


@contextmanager
def _needing_room(folder: Path) -> Iterator[None]:
    """A full disk is nothing that is wrong with the store."""
    try:
        yield
    except (OSError, StorageError) as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InspectionFailed(
                f"there is no room for a copy of the store {folder} to look into",
                advice="make room on its disk, or look at a copy of the folder on another; nothing was found wrong",
            ) from error
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"the store {folder} cannot be copied: {error}", errno=error.errno) from error


@contextmanager
def _scratch_beside(folder: Path) -> Iterator[Path]:
    """Make a temporary folder on the same disk, where files can be linked, or else anywhere."""
    beside = folder.absolute().parent
    with tempfile.TemporaryDirectory(prefix=".inspect-", dir=beside if os.access(beside, os.W_OK) else None) as name:
        yield Path(name)


def _link_or_copy(source: str, target: str) -> str:
    if source.endswith(".sst"):
        try:
            os.link(source, target)
        except OSError:
            pass
        else:
            return target
    try:
        return shutil.copy2(source, target)
    except OSError as error:  # copytree would go on, and forget its number
        raise StorageError(f"{source} cannot be copied: {error}", errno=error.errno) from error


def _checked(adapter: StorageAdapter, folder: Path) -> Report:
    problems = damage_in(adapter.meta)
    mark, notes = _mark(folder, problems)
    meta = None
    try:
        meta = read_meta(adapter.meta, f"the store {folder}")
    except (CorruptLog, Incompatible) as error:
        if not problems or isinstance(error, Incompatible):
            problems.append(str(error))
    else:
        if meta is None and mark is None:
            raise NotAStore(f"{folder} holds a log that no peer has made")
    if meta is None and not problems:
        problems.append(f"the store {folder} has lost its identity, but its mark TAIL is there")
    if not any("log format" in problem for problem in problems):
        _check_records(adapter, meta, mark, problems)
    snapshots = Snapshots() if meta is None else check_snapshots(folder, adapter, meta)
    return Report((*problems, *snapshots.problems), (*notes, *snapshots.notes), meta, adapter.bounds(), snapshots.sound)


def _mark(folder: Path, problems: list[str]) -> tuple[Mark | None, list[str]]:
    mark = read_mark(folder)
    if mark is None and mark_path(folder).exists():
        problems.append("its mark TAIL does not match its checksum")
    if mark is None:
        return None, ["without its mark TAIL, a log that ends too early cannot be noticed"]
    return mark, [] if mark.clean else ["it was not closed in order"]


def _check_records(adapter: StorageAdapter, meta: Meta | None, mark: Mark | None, problems: list[str]) -> None:
    """Check all records, going on after each damaged one, and compare with the mark on the way."""
    first, last = adapter.bounds()
    if meta is not None:
        survey = Survey(meta.base.last, meta.base.chain, meta.base.time)
        problems += [str(damage)] if (damage := lost_end(last, meta)) else []
    else:
        survey = _resumed(adapter, first - 1, last)
    survey = _survey_to(adapter, survey, last if mark is None else min(mark.last.index, last), last, problems, "")
    if mark is not None:
        if meta is not None:
            sound = bool(survey.runs) or survey.last == meta.base.last  # else the entry at the mark is listed already
            problem = contradiction(mark, meta, survey if sound else Survey(mark.last, mark.chain), last)
            problems += [problem] if problem else []
        torn = " (above the durable mark: it is dropped when the peer starts)"
        _survey_to(adapter, survey, last, last, problems, torn)


def _survey_to(
    adapter: StorageAdapter, survey: Survey, end: int, last: int, problems: list[str], remark: str
) -> Survey:
    while survey.last.index < end:
        try:
            check_range(adapter, survey, end)
        except DamagedRecord as damage:
            problems.append(f"{damage}{remark}")
        _check_configurations(survey, problems)
        if survey.last.index >= end:
            break
        if len(problems) >= MOST_PROBLEMS:
            problems.append("and so on: the rest was not checked")
            return _resumed(adapter, last, last)
        survey = _resumed(adapter, survey.last.index + 1, last)
    return survey


def _check_configurations(survey: Survey, problems: list[str]) -> None:
    for entry in survey.remembered:
        try:
            decode_configuration(entry.data)
        except ValueError as error:
            problems.append(f"entry {entry.index} is no configuration: {error}")
    survey.remembered.clear()


def _resumed(adapter: StorageAdapter, index: int, last: int) -> Survey:
    """Return a survey that begins with the next record after ``index``, and believes it about the one before."""
    for key, record in adapter.read(index + 1, last, 1):
        try:
            return Survey(LogPosition(0, key - 1), before_of(key, record))
        except DamagedRecord:
            return Survey(LogPosition(0, key - 1), 0)
    return Survey(LogPosition(0, last), 0)
