"""Entries in RocksDB: a write-ahead log and sorted files, one log append and one sync per batch.

Column families: ``log`` (8-byte big-endian index -> value), ``meta``, and ``default`` for the adapter's own ``first``.
The engine's files lie in the subfolder ``db``, apart from this package's ``LOCK``, ``FORMAT`` and ``RESERVE``.

What has to be known about it:

* ``write`` then ``flush_wal(True)``: a write that syncs by itself would hold the interpreter lock for the whole sync.
* Recovery tolerates a torn tail and nothing else; the default mode silently drops synced records after a damaged one.
* An iterator that meets damage just ends; only ``status()`` tells it from the end of the data.
* Every handle keeps the database open, one that sits in the traceback of an exception too.
* On a full disk opening fails as well, for the log has to be rewritten as a sorted file; ``RESERVE`` is room put aside
  for that, given up by an opening that fails so, and made again as soon as there is room.
* Errors are bare ``Exception`` with a text, told apart by how it begins.
* A forked child that frees a database crashes; it keeps it for ever instead.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import re
import shutil
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import Struct
from types import SimpleNamespace
from typing import Any

from storage_adapters.disk import DiskAdapter
from storage_adapters.interface import MAX_INDEX, Batch, DamagedStore, Entry, MissingExtra, StorageError, StrPath

logger = logging.getLogger("storage_adapters")
logger.addHandler(logging.NullHandler())

_KEY = Struct(">Q")
_FIRST = b"first"
_FAMILIES = ("log", "meta")
_MEMTABLE = 8 << 20
_WAL = 16 << 20
_RESERVE = 24 << 20
_POINT_DELETES = 128
"""Up to so many entries are deleted one by one: a range deletion costs every later read a little."""

_open: weakref.WeakSet[RocksDBAdapter] = weakref.WeakSet()


def _keep_in_child() -> None:
    for adapter in list(_open):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(adapter.__dict__))


os.register_at_fork(after_in_child=_keep_in_child)


class RocksDBAdapter(DiskAdapter):
    """A store in one RocksDB database; needs the extra ``rocksdb``.

    Args:
        path: the folder, made if it is missing.
        reserve: bytes put aside for opening on a full disk; 0 for none.

    Raises:
        MissingExtra: rocksdict is not installed.
    """

    engine = "rocksdb"

    def __init__(self, path: StrPath, *, reserve: int = _RESERVE) -> None:
        self._lib = _library()
        self._reserve = reserve
        self._db: Any = None
        self._families: dict[str, Any] = {}
        self._handles: dict[str, Any] = {}
        super().__init__(path)
        _open.add(self)

    @property
    def _files(self) -> Path:
        return self._path / "db"

    def _engine_exists(self) -> bool:
        return (self._files / "CURRENT").exists()

    def _engine_open(self) -> tuple[int, int]:
        try:
            self._connect()
        except StorageError as error:
            if error.errno != errno.ENOSPC or not self._give_up_reserve():
                raise
            logger.warning("%s: no room to open the store, its reserve of %d bytes is used", self._path, self._reserve)
            self._connect()
        self._put_reserve_aside()
        return self._load_bounds()

    def _connect(self) -> None:
        options = _options(self._lib)
        with self._errors():
            self._db = self._lib.Rdict(str(self._files), options, dict.fromkeys(_FAMILIES, options))
            for name in _FAMILIES:
                self._families[name] = self._db.get_column_family(name)
                self._handles[name] = self._db.get_column_family_handle(name)
            self._handles["default"] = self._db.get_column_family_handle("default")

    def _load_bounds(self) -> tuple[int, int]:
        with self._errors():
            stored = self._db.get(_FIRST)
        first = _KEY.unpack(stored)[0] if stored else 1
        with self._scanning(first, MAX_INDEX) as scan:
            if not scan.cursor.valid():
                return first, first - 1
            lowest = _KEY.unpack(scan.cursor.key())[0]
            scan.cursor.seek_to_last()
            scan.cursor.status()
            last = _KEY.unpack(scan.cursor.key())[0]
        if lowest != first:
            raise DamagedStore(f"the log in {self._path} should begin at {first}, not at {lowest}")
        return first, last

    def _engine_write(self, batch: Batch, last: int) -> None:
        self._commit(self._changes(batch, last))

    def _changes(self, batch: Batch, last: int) -> Any:
        """Build the engine's batch; apart from the commit, whose error would keep this frame's handles alive."""
        changes = self._lib.WriteBatch(raw_mode=True)
        log, meta, pack = self._handles["log"], self._handles["meta"], _KEY.pack
        if batch.truncate_from is not None:
            self._delete(changes, batch.truncate_from, last)
        for index, value in batch.entries:
            changes.put(pack(index), value, log)
        for key, value in batch.meta.items():
            changes.put(key.encode(), value, meta)
        return changes

    def _engine_compact(self, through: int, first: int, last: int) -> tuple[int, int]:
        changes = self._lib.WriteBatch(raw_mode=True)
        self._delete(changes, first, min(through, last))
        changes.put(_FIRST, _KEY.pack(through + 1), self._handles["default"])
        self._commit(changes)
        return through + 1, max(last, through)

    def _delete(self, changes: Any, first: int, last: int) -> None:
        log = self._handles["log"]
        if last - first >= _POINT_DELETES:
            changes.delete_range(_KEY.pack(first), _KEY.pack(last + 1), log)
            return
        for index in range(first, last + 1):
            changes.delete(_KEY.pack(index), log)

    def _commit(self, changes: Any) -> None:
        with self._errors():
            if not changes.is_empty():
                self._db.write(changes)
                self._db.flush_wal(True)

    def _engine_read(self, first: int, last: int, max_bytes: int) -> list[Entry]:
        found: list[Entry] = []
        size = 0
        with self._scanning(first, last) as scan:
            while scan.cursor.valid():
                value = scan.cursor.value()
                size += len(value)
                if size > max_bytes and found:
                    break
                found.append((_KEY.unpack(scan.cursor.key())[0], value))
                scan.cursor.next()
        return found

    @contextmanager
    def _scanning(self, first: int, last: int) -> Iterator[SimpleNamespace]:
        """Lend an iterator at ``first``, make sure afterwards that it did not end because of damage, and take it back.

        Nobody else may keep the iterator: in a traceback it would keep the database open.
        """
        bound = self._lib.ReadOptions()
        bound.set_iterate_upper_bound(_KEY.pack(last + 1))
        scan = SimpleNamespace()
        try:
            with self._errors():
                scan.cursor = self._families["log"].iter(bound)
                scan.cursor.seek(_KEY.pack(first))
                yield scan
                scan.cursor.status()
        finally:
            scan.cursor = None

    def _engine_meta(self, key: bytes) -> bytes | None:
        with self._errors():
            value: bytes | None = self._families["meta"].get(key)
            return value

    def _engine_stats(self) -> dict[str, Any]:
        return {"reserve": self._reserve_file.exists()}

    def _engine_copy(self, target: Path) -> None:
        with self._errors():
            self._lib.Checkpoint(self._db).create_checkpoint(str(target / "db"))

    def _engine_close(self) -> None:
        """Close every handle, also after one of them complained: any that is left keeps the database open."""
        _open.discard(self)
        open_parts = [*self._families.values(), self._db] if self._db is not None else []
        self._families.clear()
        self._handles.clear()
        self._db = None
        while open_parts:
            try:
                with self._errors():
                    open_parts.pop(0).close()
            except StorageError as error:
                logger.warning("%s: closing failed, and loses nothing that was written: %s", self._path, error)

    def _engine_remove(self) -> None:
        self._reserve_file.unlink(missing_ok=True)
        if self._files.exists():
            shutil.rmtree(self._files)

    @property
    def _reserve_file(self) -> Path:
        return self._path / "RESERVE"

    def _put_reserve_aside(self) -> None:
        """Allocate the reserve if it is missing; a store without it works, and may not open on a full disk."""
        if self._reserve <= 0 or self._reserve_file.exists():
            return
        try:
            with self._reserve_file.open("wb") as stream:
                os.posix_fallocate(stream.fileno(), 0, self._reserve)
        except OSError as error:
            self._reserve_file.unlink(missing_ok=True)
            logger.warning("%s: no room for a reserve of %d bytes: %s", self._path, self._reserve, error)

    def _give_up_reserve(self) -> bool:
        had = self._reserve_file.exists()
        self._reserve_file.unlink(missing_ok=True)
        return had

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # rocksdict has no error classes
            if type(error) is not Exception and not isinstance(error, self._lib.DbClosedError):
                raise
            text = f"the store at {self._path} failed: {error}"
            if str(error).startswith("Corruption:"):
                raise DamagedStore(text) from None
            raise StorageError(text, errno=_errno(str(error))) from None


def _library() -> Any:
    try:
        import rocksdict
    except ImportError:
        raise MissingExtra("rocksdb", "rocksdict") from None
    return rocksdict


def _options(lib: Any) -> Any:
    """Return options for a small log: little memory, few threads and files, no statistics, quick to open."""
    options = lib.Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    options.set_wal_recovery_mode(lib.DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_compression_type(lib.DBCompressionType.none())
    options.set_write_buffer_size(_MEMTABLE)
    options.set_max_total_wal_size(_WAL)
    options.set_max_background_jobs(2)
    options.set_max_file_opening_threads(1)
    options.set_max_open_files(256)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    options.set_skip_stats_update_on_db_open(True)
    options.set_keep_log_file_num(1)
    options.set_max_log_file_size(1 << 20)
    return options


_REASONS = {os.strerror(number): number for number in sorted(errno.errorcode)}
_REASON = re.compile("|".join(re.escape(reason) for reason in _REASONS))


def _errno(text: str) -> int | None:
    """Return the error number whose words RocksDB quotes, if it quotes any."""
    found = _REASON.search(text)
    return _REASONS[found[0]] if found else None
