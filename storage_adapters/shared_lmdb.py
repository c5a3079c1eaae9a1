"""Stores of one process that share one LMDB file and one flush: writes that come together cost one sync, not one each.

::

    store = SharedLMDB("data/store")          a factory, as every adapter class is one
    store("data/s1"), store("data/s2")        two stores with one file

    data/store/      the shared file (``shared_env``)
    data/s1/FORMAT   shared-lmdb 1
                     id of the log
                     the shared folder, as seen from here
                     the shared folder, in full

The folder of a store holds no log, only which one is its own. It may be moved; a copy of it is refused as long as the
original is there, for one log cannot belong to two. The shared folder is found by the factory, and by tools that have
only the folder of the store by the two paths: the first is right when all of it was moved together, the second when
only the store was.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from storage_adapters import folder, shared_env
from storage_adapters.disk import ReadGuard
from storage_adapters.interface import DamagedStore, StorageAdapter, StorageError, StoreInUse, StrPath
from storage_adapters.lmdb import LMDBAdapter
from storage_adapters.lmdb_env import FILE, Change, Environment, Transaction, exists
from storage_adapters.lmdb_left import read_if_changed
from storage_adapters.lmdb_trees import LMDBTrees
from storage_adapters.lock import StoreLock

ENGINE = "shared-lmdb"
"""What ``FORMAT`` of the folder of a store says."""

_ID = re.compile("[0-9a-f]{16}")
_IMAGE_ROOM = 1 << 24


class SharedLMDB:
    """Opens stores that share one LMDB file: ``Config(storage=SharedLMDB("data/store"))`` for all peers of a process.

    It is a factory and holds nothing open. Any number of them for the same folder are the same. A path at which there
    is a plain LMDB store already, such as a backup, is opened as that, with a file of its own.

    Args:
        path: folder of the shared file, made if it is missing; not that of a store.
        map_size: bytes of address space to begin with; it doubles when it is full. Not a size on disk.
        max_stores: how many stores may be opened while the file is open, at least 1. Each costs every transaction about
            10 nanoseconds.
    """

    engine = ENGINE
    engines = (ENGINE, LMDBAdapter.engine)
    """What the folders that it opens may say in ``FORMAT``."""

    def __init__(self, path: StrPath, *, map_size: int = 1 << 30, max_stores: int = 4096) -> None:
        if max_stores < 1:
            raise ValueError(f"max_stores must be at least 1, not {max_stores}")
        self._place = shared_env.Place(Path(os.path.realpath(path)), map_size, max_stores)

    def __repr__(self) -> str:
        return f"SharedLMDB({str(self._place.folder)!r})"

    def __call__(self, path: StrPath) -> StorageAdapter:
        """Open the store at ``path``, or make it.

        Raises:
            StoreInUse: somebody has it open, or another process the shared file.
            DamagedStore: its log is not in the shared file, or that is damaged.
            StorageError: it cannot be opened, is of another engine, or a copy of another one.
        """
        engine = folder.engine_of(path)
        if engine == LMDBAdapter.engine or (engine is None and exists(Path(path))):
            return LMDBAdapter(path)
        return SharedStore(path, self._place)

    def check(self) -> None:
        """Let another process read the whole file, which may die of it; not if it is open in this one.

        Raises:
            StoreInUse: another process has it open.
            DamagedStore: it is damaged.
            StorageError: it could not be read.
        """
        if not shared_env.is_open(self._place.folder):
            with self._os_errors():
                lock = StoreLock(self._place.folder)
            try:
                read_if_changed(self._place.folder, anyway=True)
            finally:
                lock.release()

    def sweep(self) -> int:
        """Drop the logs of stores whose folder is gone or was emptied; what was dropped cannot be brought back.

        A folder that was moved is found if it is still beside its old place, or was opened since.

        Returns:
            How many were dropped.

        Raises:
            StorageError: as on opening a store, or the disk failed.
        """
        place = self._place.folder
        with self._os_errors(), self._entered("") as file:
            gone = [
                store
                for store, path in file.folders().items()
                if store not in file.users and not _has_home(store, place / path)
            ]
            return sum(map(self._drop, gone))

    def _drop(self, store: str) -> bool:
        """Drop a log whose folder seems to be gone, unless that is opened at this very moment, from elsewhere."""
        with suppress(StoreInUse), self._entered(store) as file:
            path = file.folder_of(store)
            if path is not None and not _has_home(store, self._place.folder / path):
                file.drop(store)
                return True
        return False

    @contextmanager
    def _entered(self, store: str) -> Iterator[shared_env.SharedFile]:
        file = shared_env.enter(self._place, store, self._place.folder)
        try:
            yield file
        finally:
            shared_env.leave(file, store)

    @contextmanager
    def _os_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            text = f"the shared store at {self._place.folder} cannot be read: {error}"
            raise StorageError(text, errno=error.errno) from error


class SharedStore(LMDBTrees):
    """One store of a ``SharedLMDB``, which makes it."""

    engine = ENGINE
    image_engine = LMDBAdapter.engine

    def __init__(self, path: StrPath, place: shared_env.Place) -> None:
        self._place = place
        self._file: Any = None
        self._id = ""
        super().__init__(path)

    def sharers(self) -> int:
        """How many stores share the flush, this one included."""
        file = self._file
        return 1 if file is None else len(file.users)

    def _engine_exists(self) -> bool:
        return exists(self._place.folder)

    def _engine_open(self) -> tuple[int, int]:
        known = _id_in(self._path)
        self._refuse_other_file()
        self._id = known or secrets.token_hex(8)
        self._first_key = self._id.encode()
        self._file = shared_env.enter(self._place, self._id, self._path)
        if known:
            self._refuse_copy()
        here = os.path.relpath(os.path.realpath(self._path), self._place.folder)
        self._log, self._meta, self._state = self._file.register(self._id, here, known=bool(known))
        return self._load_bounds()

    def _refuse_other_file(self) -> None:
        """What was written to one file is not known to a copy of it, and both would be taken for the log."""
        places = _shared_folders(self._path)
        if places and self._place.folder not in places:
            raise StorageError(f"the log of {self._path} lies in {places[0]}, which is still there: move it away first")

    def _refuse_copy(self) -> None:
        """One log cannot belong to two folders: each would take the other's entries and votes for its own."""
        recorded = self._file.folder_of(self._id)
        if recorded is None:
            return
        original = Path(os.path.normpath(self._place.folder / recorded))
        if original != Path(os.path.realpath(self._path)) and _id_of(original) == self._id:
            raise StorageError(f"{self._path} is a copy of {original}, and the log {self._id} belongs to that one")

    def _engine_details(self) -> tuple[str, ...]:
        there = os.fsencode(self._place.folder)
        seen = os.path.relpath(there, os.path.realpath(os.fsencode(self._path)))
        return self._id, quote_from_bytes(seen, "/ "), quote_from_bytes(there, "/ ")

    def _commit(self, change: Change) -> None:
        self._file.commit(change)

    @contextmanager
    def _looking(self, tree: Any = None) -> Iterator[Transaction]:
        with self._file.looking(tree) as txn:
            yield txn

    def _engine_stats(self) -> dict[str, Any]:
        with self._looking() as txn:
            pages, size = self._pages(txn)
        failed = self._failure is not None or self._file.failure is not None
        return {
            "bytes": pages * size,
            "failed": failed,
            "map_size": self._file.map_size(),
            "pages": pages,
            "shared": str(self._place.folder),
            "stores": len(self._file.users),
        }

    def _pages(self, txn: Transaction) -> tuple[int, int]:
        """Pages of this store, and bytes in one of them."""
        stats = [txn.stat(tree) for tree in (self._log, self._meta)]
        pages = sum(one["branch_pages"] + one["leaf_pages"] + one["overflow_pages"] for one in stats)
        return pages, stats[0]["psize"]

    def _engine_copy(self, target: Path) -> None:
        """Write an image that is an LMDB store by itself, from one moment of this one."""
        try:
            with self._looking() as source:
                self._write_image(source, target)
        except BaseException:
            (target / FILE).unlink(missing_ok=True)
            raise
        finally:
            (target / "lock.mdb").unlink(missing_ok=True)

    def _write_image(self, source: Transaction, target: Path) -> None:
        pages, size = self._pages(source)
        room = 2 * pages * size + _IMAGE_ROOM
        image = Environment(target, map_size=room, trees=3, readers=8, guard=ReadGuard())

        def change(txn: Transaction) -> None:
            for name, tree in ((b"log", self._log), (b"meta", self._meta)):
                txn.cursor(db=image.tree(name, txn)).putmulti(source.cursor(db=tree), append=True)
            first = source.get(self._first_key, db=self._state)
            state = image.tree(b"state", txn)
            if first is not None:
                txn.put(LMDBAdapter._first_key, first, db=state)

        try:
            with image.errors():
                image.commit(change)
        finally:
            image.close()

    def _engine_close(self) -> None:
        if self._file is not None:
            shared_env.leave(self._file, self._id)
            self._file = None

    def _engine_remove(self) -> None:
        store = _id_of(self._path) or self._id  # the folder may have been moved since this was closed, and made anew
        file = shared_env.enter(self._place, store, self._path)
        try:
            file.drop(store)
        finally:
            shared_env.leave(file, store)


def shared_folder_of(path: Path) -> Path:
    """Return the shared folder that holds the log of the store at ``path``, by what its ``FORMAT`` says.

    Raises:
        DamagedStore: it is at neither of the two places.
    """
    for place in _shared_folders(path):
        return place
    where = " or ".join(map(str, dict.fromkeys(_named_folders(path)))) or "FORMAT names no place"
    raise DamagedStore(f"the log of {path} lies in a shared store, which is not there: {where}")


def _shared_folders(path: Path) -> list[Path]:
    return [place for place in _named_folders(path) if folder.engine_of(place) == shared_env.ENGINE]


def _named_folders(path: Path) -> list[Path]:
    return [Path(os.path.realpath(path / os.fsdecode(unquote_to_bytes(line)))) for line in folder.details(path)[1:3]]


def _id_in(path: Path) -> str | None:
    """Return the id of the store in a folder, None if there is none yet.

    Raises:
        DamagedStore: there is one, and which one cannot be read.
    """
    found = _id_of(path)
    if found is None and folder.engine_of(path) is not None:
        raise DamagedStore(f"FORMAT in {path} does not say which log of the shared store is its own")
    return found


def _id_of(path: Path) -> str | None:
    lines = folder.details(path)
    return lines[0] if lines and folder.engine_of(path) == ENGINE and _ID.fullmatch(lines[0]) else None


def _has_home(store: str, path: Path) -> bool:
    """Tell whether a store's folder is where it was, or beside that; what cannot be read there may be its own."""
    beside, found = path.parent, _id_of(path)
    if found is None and folder.engine_of(path) is not None:
        return True
    return found == store or (
        beside.is_dir() and any(_id_of(entry) == store for entry in beside.iterdir() if entry.is_dir())
    )
