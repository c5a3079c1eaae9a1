"""One LMDB file: its map, which grows, its transactions, and its errors in the words of this package.

What LMDB does not do by itself:

* it never grows its map: a full map aborts the transaction, which changed nothing; it is doubled and the change made
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
from pathlib import Path
from typing import Any, TypeAlias

import lmdb

from storage_adapters import folder, lmdb_file
from storage_adapters.disk import ReadGuard
from storage_adapters.interface import DamagedStore, StorageError

Transaction: TypeAlias = "lmdb.Transaction[bytes]"
Change: TypeAlias = Callable[[Transaction], None]
"""What is done within a transaction. It may be called again, in another transaction, if the map was full."""

FILE = "data.mdb"
_DAMAGE = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError)
_NO_ROOM = 1 << 20


def exists(path: Path) -> bool:
    """Tell whether a folder holds an LMDB file with anything in it."""
    file = path / FILE
    return file.exists() and file.stat().st_size > 0


class Environment:
    """An open LMDB file.

    Args:
        path: its folder, which is there.
        map_size: bytes of address space to begin with; it doubles when it is full. Not a size on disk.
        trees: how many named trees may be open.
        readers: how many transactions may read at once.
        guard: what every reader has entered for as long as it reads.

    Attributes:
        map_size: bytes of address space now.

    Raises:
        DamagedStore: the file is not one of LMDB, or too short.
        StorageError: it cannot be opened.
    """

    def __init__(self, path: Path, *, map_size: int, trees: int, readers: int, guard: ReadGuard) -> None:
        self._path = path
        self._guard = guard
        lmdb_file.check_length(path / FILE)
        with self.errors():
            self._env: Any = lmdb.open(
                str(path), map_size=map_size, max_dbs=trees, max_readers=readers, max_spare_txns=4
            )
            self.map_size: int = self._env.info()["map_size"]

    def tree(self, name: bytes, txn: Transaction, *, create: bool = True) -> Any:
        """Open a named tree for the life of the environment, or make it; a transaction that makes none costs no sync.

        Only within a change: LMDB allows one transaction at a time to do this.
        """
        return self._env.open_db(name, txn=txn, create=create)

    def view(self, tree: Any = None) -> Transaction:
        """Begin to read, from one moment of the file; the caller is within the guard."""
        txn: Transaction = self._env.begin(db=tree)
        return txn

    def commit(self, change: Change) -> None:
        """Run a change in one transaction, again with a larger map for as long as the map is full.

        A transaction is given up with the readers outside: lmdb makes an abort wait for a moment without any reader
        inside, which a few busy readers put off for many seconds.

        Raises:
            StorageError: the library failed, in our words; whatever else the change raises passes.
        """
        try:
            while not self._committed(change):
                pass
        except lmdb.Error as error:
            raise self._translated(error) from error

    def _committed(self, change: Change) -> bool:
        """Try once; False: the map was full, and is larger now."""
        txn = self._env.begin(write=True)
        try:
            change(txn)
            txn.commit()
        except BaseException as error:
            with self._guard.exclusive():
                txn.abort()
                if not isinstance(error, lmdb.MapFullError):
                    raise
                self.map_size *= 2
                self._env.set_mapsize(self.map_size)
            return False
        return True

    def pages(self) -> int:
        """How many pages of the file are or were in use."""
        with self.errors():
            count: int = self._env.info()["last_pgno"] + 1
            return count

    def copy(self, target: Path) -> None:
        """Write an image of everything into an empty folder, durably, or nothing."""
        image = target / FILE
        try:
            with self.errors():
                self._env.copy(str(target), compact=True)
        except StorageError:
            image.unlink(missing_ok=True)
            raise
        folder.sync(image)

    def close(self) -> None:
        """Let go of the file; nobody reads or writes any more."""
        self._env.close()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Translate the errors of the library."""
        try:
            yield
        except lmdb.Error as error:
            raise self._translated(error) from error

    def _translated(self, error: lmdb.Error) -> StorageError:
        """An error of the library in our words."""
        if isinstance(error, _DAMAGE):
            return DamagedStore(f"the store at {self._path} is damaged: {error}")
        number = self._errno(error)
        why = f"there is no room left on the disk ({error})" if number == errno.ENOSPC else error
        return StorageError(f"the store at {self._path} failed: {why}", errno=number)

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
