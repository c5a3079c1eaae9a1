"""The LMDB file that the stores of one process share, and the one flush of all of them.

::

    SHARED/    LOCK    one process at a time
               FORMAT  lmdb-stores 1
               LEFT    size and time of data.mdb after the newest commit
               data.mdb, lock.mdb
                   stores       id -> folder of the store, relative to SHARED
                   first        id -> where its log begins
                   log ID, meta ID    the trees of a store

    write of A ─┐
    write of B ─┼─> group commit: one transaction, one sync ──> A, B, C return
    write of C ─┘

A store is known by an id that is drawn when it is made, and that its own folder holds. A folder that was emptied draws
another one, so that an old log never comes back to life; a folder whose id is not in the file has lost its log.

It opens with its first store and closes with its last. Whatever fails while a transaction is under way fails all of it,
and every later change of every store, for nobody can say any more what is on the disk. The next store that is opened
ends this: it opens the file anew, and whoever was on the old one gets an error at the next touch and opens again.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import lmdb

from storage_adapters import folder
from storage_adapters.disk import ReadGuard
from storage_adapters.group_commit import GroupCommit, Ticket
from storage_adapters.interface import DamagedStore, StorageError, StoreInUse
from storage_adapters.lmdb_env import Change, Environment, Transaction, exists
from storage_adapters.lmdb_left import note_left, read_if_changed
from storage_adapters.lock import StoreLock

ENGINE = "lmdb-stores"
"""What ``FORMAT`` of the shared folder says."""

logger = logging.getLogger("storage_adapters")

_STORES, _FIRST = b"stores", b"first"
_READERS = 2048


class Place(NamedTuple):
    """Where the stores of a process are.

    Attributes:
        folder: of the shared file, absolute and without links.
        map_size: bytes of address space to begin with.
        max_stores: how many stores may be opened while the file is open.
    """

    folder: Path
    map_size: int
    max_stores: int


class Trees(NamedTuple):
    """The trees of one store, and the common one that says where its log begins."""

    log: Any
    meta: Any
    first: Any


class SharedFile:
    """The open file; made and ended by ``enter`` and ``leave``.

    Attributes:
        place: where it is.
        users: ids of the stores that are open.
        failure: what ended its writing, if anything did.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.users: set[str] = set()
        self.failure: StorageError | None = None
        self._group: GroupCommit[Change] = GroupCommit(self._perform)
        self._committing = threading.Lock()
        self._guard = ReadGuard()
        self._shut = False
        folder.make(place.folder)
        self._lock = StoreLock(place.folder)
        try:
            folder.check(place.folder, ENGINE, exists=exists(place.folder))
            read_if_changed(place.folder)
            self._env = self._opened()
            folder.seal(place.folder, ENGINE)
        except BaseException:
            self._lock.release()
            raise

    def _opened(self) -> Environment:
        place = self.place
        trees = 2 + 2 * place.max_stores
        env = Environment(place.folder, map_size=place.map_size, trees=trees, readers=_READERS, guard=self._guard)
        try:
            env.commit(lambda txn: self._open_common(env, txn))
            note_left(place.folder)
        except BaseException:
            env.close()
            raise
        return env

    def _open_common(self, env: Environment, txn: Transaction) -> None:
        self._stores, self._first = env.tree(_STORES, txn), env.tree(_FIRST, txn)

    # -- stores --------------------------------------------------------------------------------------------------------

    def folder_of(self, store: str) -> str | None:
        """The folder that was noted for a store, relative to the shared one; None if there is no such store here."""
        with self.looking(self._stores) as txn:
            path: bytes | None = txn.get(store.encode())
            return None if path is None else os.fsdecode(path)

    def folders(self) -> dict[str, str]:
        """The same of all stores, by their ids."""
        with self.looking(self._stores) as txn:
            return {key.decode(): os.fsdecode(value) for key, value in txn.cursor()}

    def register(self, store: str, path: str, *, known: bool) -> Trees:
        """Open the trees of a store, or make them, and note where it is.

        Args:
            store: its id.
            path: its folder, relative to the shared one.
            known: it was complete once.

        Raises:
            DamagedStore: it was, and is not here.
            StorageError: as for any change, or there are too many.
        """
        key, found = store.encode(), Trees(None, None, None)

        def change(txn: Transaction) -> None:
            nonlocal found
            before = txn.get(key, db=self._stores)
            if (before is not None) != known:
                raise DamagedStore(f"the log {store} is {'not' if known else 'already'} in {self.place.folder}")
            found = self._trees(key, txn, create=not known)
            if before != os.fsencode(path):
                txn.put(key, os.fsencode(path), db=self._stores)

        self.commit(change)
        return found

    def _trees(self, key: bytes, txn: Transaction, *, create: bool) -> Trees:
        try:
            log, meta = (self._env.tree(kind + key, txn, create=create) for kind in (b"log ", b"meta "))
        except lmdb.NotFoundError as error:
            raise DamagedStore(f"a tree of the log {key.decode()} is missing in {self.place.folder}") from error
        except lmdb.DbsFullError as error:
            most = self.place.max_stores
            text = f"{most} stores have been opened in {self.place.folder} since it is open: raise max_stores"
            raise StorageError(text) from error
        return Trees(log, meta, self._first)

    def drop(self, store: str) -> None:
        """Remove a store that is not open, if it is here; all of it or, after a crash, nothing."""
        key = store.encode()

        def change(txn: Transaction) -> None:
            if txn.delete(key, db=self._stores):
                txn.delete(key, db=self._first)
                trees = self._trees(key, txn, create=False)
                txn.drop(trees.log)
                txn.drop(trees.meta)

        self.commit(change)

    # -- reading and writing -------------------------------------------------------------------------------------------

    @contextmanager
    def looking(self, tree: Any = None) -> Iterator[Transaction]:
        """Lend a transaction that reads, from one moment of the file."""
        with self._guard:
            if self._shut:
                raise StorageError(f"{self.place.folder} was opened anew after an error: open the store again")
            with self._env.errors(), self._env.view(tree) as txn:
                yield txn

    def commit(self, change: Change) -> None:
        """Make a change durable, together with those of other stores that come meanwhile.

        Raises:
            StorageError: the disk failed, now or before; all changes of the transaction failed.
            Exception: what ``change`` itself raised, unless it is the library's: that one has no effect, the others do.
        """
        self._group.run(change)

    def map_size(self) -> int:
        """Bytes of address space."""
        return self._env.map_size

    def _perform(self, tickets: Sequence[Ticket[Change]]) -> None:
        with self._committing:
            left = list(tickets)
            while left:
                left = self._attempt(left)

    def _attempt(self, tickets: list[Ticket[Change]]) -> list[Ticket[Change]]:
        """Commit all changes in one transaction; returns those to try again without the one that cannot be made."""
        if self.failure is not None or self._shut:
            self._refuse(tickets, "failed before, and has to be opened again")
            return []
        try:
            self._env.commit(lambda txn: _run_all(tickets, txn))
            note_left(self.place.folder)
        except _CannotBeMade as one:
            one.ticket.error = one.__cause__
            return [ticket for ticket in tickets if ticket is not one.ticket]
        except BaseException as error:
            self.failure = error if isinstance(error, StorageError) else StorageError(f"interrupted by {error!r}")
            self._refuse(tickets, "failed")
            if not isinstance(error, Exception):
                raise
        return []

    def _refuse(self, tickets: Sequence[Ticket[Change]], what: str) -> None:
        """Give each its own error, for each is raised in another thread."""
        failure = self.failure or StorageError("it was closed")
        for ticket in tickets:
            text = f"the shared store at {self.place.folder} {what}: {failure}"
            ticket.error = type(failure)(text, errno=failure.errno)
            ticket.error.__cause__ = failure

    def end(self) -> None:
        """Wait for whoever writes or reads, and let go of the file. Only ``enter`` and ``leave`` may ask."""
        with self._committing, self._guard.exclusive():
            if not self._shut:
                self._shut = True
                self._env.close()
                self._lock.release()


class _CannotBeMade(Exception):
    """A change that found a reason in its own store not to be made, in ``__cause__``."""

    def __init__(self, ticket: Ticket[Change]) -> None:
        super().__init__()
        self.ticket = ticket


def _run_all(tickets: Sequence[Ticket[Change]], txn: Transaction) -> None:
    for ticket in tickets:
        try:
            ticket.change(txn)
        except lmdb.Error:
            raise
        except Exception as error:
            raise _CannotBeMade(ticket) from error


# -- one open file for all stores of a process -------------------------------------------------------------------------

_mutex = threading.Lock()
_open: dict[Path, SharedFile] = {}
_of_parent: list[SharedFile] = []
"""Kept for ever in a forked child: freeing them would close what the parent uses."""


def _forget_in_child() -> None:
    global _mutex  # noqa: PLW0603 - a thread of the parent may hold it, for ever in this process
    _mutex = threading.Lock()
    _of_parent.extend(_open.values())
    _open.clear()


os.register_at_fork(after_in_child=_forget_in_child)


def enter(place: Place, store: str, path: Path) -> SharedFile:
    """Open the shared file, if it is not open yet, for a store.

    Args:
        place: where it is.
        store: id of the store.
        path: its folder, for messages.

    Raises:
        StoreInUse: another process has the file, or another folder of this process the store.
        DamagedStore: the file is damaged.
        StorageError: it cannot be opened.
    """
    with _mutex:
        file = _open.get(place.folder)
        if file is not None and file.failure is not None:
            logger.warning("%s is opened anew after %s: its %d stores have to be, too", *_said_of(file))
            _open.pop(place.folder).end()
            file = None
        if file is None:
            file = _open[place.folder] = SharedFile(place)
        if store in file.users:
            raise StoreInUse(path, os.getpid())
        file.users.add(store)
        return file


def leave(file: SharedFile, store: str) -> None:
    """The store is closed, and with the last one the file."""
    with _mutex:
        file.users.discard(store)
        if not file.users and _open.get(file.place.folder) is file:
            _open.pop(file.place.folder).end()


def is_open(path: Path) -> bool:
    """Tell whether this process has the shared file in a folder open."""
    with _mutex:
        return path in _open


def _said_of(file: SharedFile) -> tuple[Path, StorageError | None, int]:
    return file.place.folder, file.failure, len(file.users)
