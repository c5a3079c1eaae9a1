"""Entries in LMDB: one copy-on-write B-tree file, one transaction and two syncs per batch.

Three named trees: ``log`` (8-byte big-endian index -> value, so that byte order is index order), ``meta``, and
``state``, whose one key ``first`` says where the log begins; it outlives the entries when the log is empty.

What LMDB does not do by itself:

* it never grows its map: a full map aborts the transaction, which changed nothing; it is doubled and the batch tried
  again. Moving the map under a reader is fatal, hence the guard (a backup is a reader: a full map waits for its end);
* it has no checksums: a flipped bit in a value is returned as it lies on the disk;
* a file that was cut short kills the process on the first touch, hence the check before opening;
* a short write on a full disk is reported as EIO.

Default sync flags only: ``metasync=False`` may undo the last committed transaction after a power cut. Read-ahead stays
on: a log is read in order, and a cold one 15 times as fast with it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from struct import Struct
from typing import Any

import lmdb

from storage_adapters import folder, lmdb_file
from storage_adapters.disk import DiskAdapter
from storage_adapters.interface import Batch, DamagedStore, Entry, StorageError, StrPath

_KEY = Struct(">Q")
_FIRST = b"first"
_DAMAGE = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError)
_NO_ROOM = 1 << 20
_CHUNK = 10_000
"""Entries that one transaction of ``compact`` drops: it bounds the memory and the time that readers' pages are kept."""


class LMDBAdapter(DiskAdapter):
    """A store in one LMDB environment.

    Args:
        path: the folder, made if it is missing.
        map_size: bytes of address space to begin with; it doubles when it is full. Not a size on disk.
    """

    engine = "lmdb"

    def __init__(self, path: StrPath, *, map_size: int = 1 << 30) -> None:
        self._map_size = map_size
        self._env: Any = None
        super().__init__(path)

    def _engine_exists(self) -> bool:
        file = self._path / "data.mdb"
        return file.exists() and file.stat().st_size > 0

    def _engine_open(self) -> tuple[int, int]:
        lmdb_file.check_length(self._path / "data.mdb")
        with self._errors():
            self._env = lmdb.open(
                str(self._path), map_size=self._map_size, max_dbs=3, max_readers=510, max_spare_txns=4
            )
            self._map_size = self._env.info()["map_size"]
            self._committing(self._open_trees)
            return self._load_bounds()

    def _open_trees(self, txn: lmdb.Transaction) -> None:
        """Open the named trees, or make them: all three or none. A transaction that makes nothing costs no sync."""
        self._log, self._meta, self._state = (self._env.open_db(name, txn=txn) for name in (b"log", b"meta", b"state"))

    def _load_bounds(self) -> tuple[int, int]:
        with self._env.begin() as txn:
            stored = txn.get(_FIRST, db=self._state)
            first = _KEY.unpack(stored)[0] if stored else 1
            count = txn.stat(self._log)["entries"]
            cursor = txn.cursor(db=self._log)
            ends = [cursor.key() for moved in (cursor.first, cursor.last) if moved()]
        last = first + count - 1
        if ends and ends != [_KEY.pack(first), _KEY.pack(last)]:
            raise DamagedStore(f"the log in {self._path} should hold {first} to {last}, and does not")
        return first, last

    def _engine_write(self, batch: Batch, last: int) -> None:
        pack = _KEY.pack
        items = [(pack(index), value) for index, value in batch.entries]
        cut = last + 1 if batch.truncate_from is None else batch.truncate_from
        meta = [(key.encode(), value) for key, value in batch.meta.items()]

        def change(txn: lmdb.Transaction) -> None:
            if cut <= last:
                self._delete(txn, cut, last)
            if items:
                self._append(txn, items)
            for key, value in meta:
                txn.put(key, value, db=self._meta)

        with self._errors():
            self._committing(change)

    def _append(self, txn: lmdb.Transaction, items: list[tuple[bytes, bytes]]) -> None:
        _, added = txn.cursor(db=self._log).putmulti(items, append=True)
        if added != len(items):
            raise DamagedStore(f"the log in {self._path} already holds entries beyond its end")

    def _delete(self, txn: lmdb.Transaction, first: int, last: int) -> None:
        cursor = txn.cursor(db=self._log)
        if not cursor.set_key(_KEY.pack(first)):
            raise DamagedStore(f"entry {first} is missing in {self._path}")
        for _ in range(first, last + 1):
            cursor.delete()

    def _engine_compact(self, through: int, first: int, last: int) -> tuple[int, int]:
        end = min(through, last, first + _CHUNK - 1)
        begin = through + 1 if end >= last else end + 1

        def change(txn: lmdb.Transaction) -> None:
            if first <= end:
                self._delete(txn, first, end)
            txn.put(_FIRST, _KEY.pack(begin), db=self._state)

        with self._errors():
            self._committing(change)
        return begin, max(last, begin - 1)

    def _engine_read(self, first: int, last: int, max_bytes: int) -> list[Entry]:
        found: list[Entry] = []
        size = 0
        with self._errors(), self._env.begin(db=self._log) as txn:
            cursor = txn.cursor()
            if not cursor.set_range(_KEY.pack(first)):
                return found
            start = _KEY.unpack(cursor.key())[0]
            values = islice(cursor.iternext(keys=False), max(0, last - start + 1))
            for index, value in enumerate(values, start):
                size += len(value)
                if size > max_bytes and found:
                    break
                found.append((index, value))
        return found

    def _engine_meta(self, key: bytes) -> bytes | None:
        with self._errors(), self._env.begin(db=self._meta) as txn:
            value: bytes | None = txn.get(key)
            return value

    def _engine_stats(self) -> dict[str, Any]:
        with self._errors():
            return {"map_size": self._map_size, "pages": self._env.info()["last_pgno"] + 1}

    def _engine_copy(self, target: Path) -> None:
        image = target / "data.mdb"
        try:
            with self._errors():
                self._env.copy(str(target), compact=True)
        except StorageError:
            image.unlink(missing_ok=True)
            raise
        folder.sync(image)

    def _engine_close(self) -> None:
        if self._env is not None:
            self._env.close()

    def _engine_remove(self) -> None:
        for name in ("data.mdb", "lock.mdb"):
            (self._path / name).unlink(missing_ok=True)

    def _committing(self, change: Callable[[lmdb.Transaction], None]) -> None:
        """Run a change in one transaction, again with a larger map for as long as the map is full.

        A transaction is given up with the readers outside: lmdb makes an abort wait for a moment without any reader
        inside, which a few busy readers put off for many seconds.
        """
        while True:
            txn = self._env.begin(write=True)
            try:
                change(txn)
                txn.commit()
                return
            except BaseException as error:
                with self._reading.exclusive():
                    txn.abort()
                    if not isinstance(error, lmdb.MapFullError):
                        raise
                    self._map_size *= 2
                    self._env.set_mapsize(self._map_size)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except _DAMAGE as error:
            raise DamagedStore(f"the store at {self._path} is damaged: {error}") from error
        except lmdb.Error as error:
            raise StorageError(f"the store at {self._path} failed: {error}", errno=self._errno(error)) from error

    def _errno(self, error: lmdb.Error) -> int | None:
        """Return the system's error number; LMDB's own codes are negative and have none."""
        code = getattr(error, "code", None)
        if code == errno.EIO and self._is_full():
            return errno.ENOSPC
        return code if isinstance(code, int) and code > 0 else None

    def _is_full(self) -> bool:
        """Tell whether EIO was LMDB's word for a write that the file system cut short for want of room."""
        with contextlib.suppress(OSError):
            state = os.statvfs(self._path)
            return state.f_bavail * state.f_frsize < _NO_ROOM
        return False
