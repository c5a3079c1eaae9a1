"""What every adapter on a disk has in common: its folder and lock, its bounds, and what it refuses.

    open:   make folder -> take LOCK -> check FORMAT -> engine opens and reads the bounds -> write FORMAT
    write:  check the batch -> engine commits -> bounds move

The bounds live in memory and move only after a commit, so that asking for them never touches the engine.

A change that failed on the disk poisons the adapter. A second try could report success for pages that the kernel has
already given up (BUG-17: after a failed fsync the next one returns without an error); only opening the store again,
which reads what is really there, ends that state. Reads go on: what was durable before still is.
"""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, NoReturn

from storage_adapters import checks, folder
from storage_adapters.interface import MAX_INDEX, Batch, Entry, StorageAdapter, StorageError, StrPath
from storage_adapters.lock import StoreLock


class ReadGuard:
    """Many readers or one owner: the owner moves or unmaps the memory that readers look at."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._readers = 0
        self._owned = False

    def __enter__(self) -> None:
        """Begin to read; waits while somebody owns the store."""
        with self._changed:
            while self._owned:
                self._changed.wait()
            self._readers += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End reading."""
        with self._changed:
            self._readers -= 1
            if self._owned:
                self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep new readers out and wait until the last one has left. Only the holder of the write lock may ask."""
        try:
            with self._changed:
                self._owned = True
                while self._readers:
                    self._changed.wait()
            yield
        finally:
            with self._changed:
                self._owned = False
                self._changed.notify_all()


class DiskAdapter(StorageAdapter):
    """The engine-independent half of an adapter; an engine fills in the methods that begin with ``_engine``.

    They may raise ``StorageError`` and ``OSError``, and must have translated everything else.
    """

    engine: ClassVar[str]
    """Name of the engine, as written in ``FORMAT``."""
    image_engine: ClassVar[str] = ""
    """Name of the engine whose store a backup is, if it is another one."""

    def __init__(self, path: StrPath) -> None:
        self._path = Path(path).absolute()
        self._owner = os.getpid()
        self._closed = self._destroyed = False
        self._failure: StorageError | None = None
        self._writing = threading.Lock()
        self._reading = ReadGuard()
        with self._os_errors("opened"):
            folder.make(self._path)
            self._lock = StoreLock(self._path)
            try:
                folder.check(self._path, self.engine, exists=self._engine_exists())
                self._bounds = self._engine_open()
                folder.seal(self._path, self.engine, self._engine_details())
            except BaseException:
                self._closed = True
                self._engine_close()
                self._lock.release()
                raise

    def write(self, batch: Batch) -> None:
        """Make a batch durable, atomically: truncate first, then append; meta merges by key."""
        self._require_owner()
        with self._writing:
            self._require_sound()
            first, last = self._bounds
            end = checks.end_after(batch, first, last)
            try:
                self._engine_write(batch, last)
                self._bounds = (first, end)
            except BaseException as error:  # noqa: BLE001 - raised again
                self._poison(error)

    def compact(self, through: int) -> None:
        """Drop the prefix up to and including ``through``, durably."""
        self._require_owner()
        with self._writing:
            self._require_sound()
            checks.compaction_point(through)
            while through >= self._bounds[0]:
                try:
                    self._bounds = self._engine_compact(through, *self._bounds)
                except BaseException as error:  # noqa: BLE001 - raised again
                    self._poison(error)

    def read(self, first: int, last: int, max_bytes: int) -> list[Entry]:
        """Return the entries ``first .. last`` that the log has, in order, within ``max_bytes`` but at least one.

        The range is not cut to ``bounds``: they move after a commit, and a batch that cuts and appends would be seen in
        half.
        """
        self._require_owner()
        first, last = max(first, 1), min(last, MAX_INDEX)
        with self._reading:
            self._require_open()
            return self._engine_read(first, last, max_bytes) if first <= last else []

    def meta(self, key: str) -> bytes | None:
        """Return the value last written for ``key``, or None."""
        self._require_owner()
        with self._reading:
            self._require_open()
            return self._engine_meta(checks.meta_key(key))

    def bounds(self) -> tuple[int, int]:
        """Return the first and the last index, from memory."""
        self._require_owner()
        self._require_open()
        return self._bounds

    def stats(self) -> dict[str, Any]:
        """Return ``engine``, ``path``, ``entries``, ``bytes`` (on disk), ``durable``, ``failed`` and engine's own."""
        self._require_owner()
        with self._reading:
            self._require_open()
            first, last = self._bounds
            return {
                "engine": self.engine,
                "path": str(self._path),
                "entries": last - first + 1,
                "bytes": folder.size(self._path),
                "durable": True,
                "failed": self._failure is not None,
                **self._engine_stats(),
            }

    def backup(self, path: StrPath) -> None:
        """Write a consistent image into a new folder; its ``FORMAT`` comes last, when everything else is on disk."""
        self._require_owner()
        with self._reading, self._os_errors("backed up"):
            self._require_open()
            target = folder.vacant(path)
            self._engine_copy(target)
            folder.seal(target, self.image_engine or self.engine)

    def close(self) -> None:
        """Wait for readers and the writer to leave, close the engine, let go of the lock. Idempotent."""
        if os.getpid() != self._owner:
            return
        with self._writing:
            if not self._closed:
                try:
                    self._stop()
                finally:
                    self._lock.release()

    def destroy(self) -> None:
        """Close the store and remove its files, and the folder if nothing else lies in it. Idempotent."""
        self._require_owner()
        with self._writing, self._os_errors("destroyed"):
            if self._destroyed:
                return
            if self._closed:
                self._lock = StoreLock(self._path)
            try:
                self._stop()
                self._engine_remove()
                (self._path / folder.FORMAT).unlink(missing_ok=True)
                self._destroyed = True
            finally:
                self._lock.release(remove=self._destroyed)
            if not any(self._path.iterdir()):
                self._path.rmdir()

    def _stop(self) -> None:
        with self._reading.exclusive():
            if not self._closed:
                self._closed = True
                self._engine_close()

    def _require_owner(self) -> None:
        """Refuse a forked child before it touches a lock that a thread of its parent may have held."""
        if os.getpid() != self._owner:
            raise StorageError(f"the store at {self._path} belongs to process {self._owner}, and this is a fork of it")

    def _require_open(self) -> None:
        if self._closed:
            raise StorageError(f"the store at {self._path} is closed")

    def _require_sound(self) -> None:
        self._require_open()
        if self._failure is not None:
            text = f"the store at {self._path} failed before and has to be opened again: {self._failure}"
            raise StorageError(text, errno=self._failure.errno) from self._failure

    def _poison(self, error: BaseException) -> NoReturn:
        """Whatever interrupts a change, an error or a Ctrl-C, leaves its outcome unknown: no further changes."""
        if isinstance(error, OSError):
            self._failure = self._refused(error, "written")
            raise self._failure from error
        interrupted = f"a change was interrupted by {error!r}"
        self._failure = error if isinstance(error, StorageError) else StorageError(interrupted)
        raise error

    @contextmanager
    def _os_errors(self, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._refused(error, done) from error

    def _refused(self, error: OSError, done: str) -> StorageError:
        return StorageError(f"the store at {self._path} cannot be {done}: {error}", errno=error.errno)

    def _engine_details(self) -> tuple[str, ...]:
        """Return what an open engine wants to have in ``FORMAT``, a line each."""
        return ()

    @abstractmethod
    def _engine_exists(self) -> bool:
        """Tell whether the folder holds the engine's files."""

    @abstractmethod
    def _engine_open(self) -> tuple[int, int]:
        """Open or make the files, and return the bounds of the log."""

    @abstractmethod
    def _engine_write(self, batch: Batch, last: int) -> None:
        """Commit a checked batch on a log that ends at ``last``."""

    @abstractmethod
    def _engine_compact(self, through: int, first: int, last: int) -> tuple[int, int]:
        """Drop entries from ``first`` on, at most through ``through``, in one commit; return the new bounds."""

    @abstractmethod
    def _engine_read(self, first: int, last: int, max_bytes: int) -> list[Entry]:
        """Read a range of possible indexes, from one moment of the store."""

    @abstractmethod
    def _engine_meta(self, key: bytes) -> bytes | None:
        """Read one meta value."""

    @abstractmethod
    def _engine_stats(self) -> dict[str, Any]:
        """Return what only this engine knows."""

    @abstractmethod
    def _engine_copy(self, target: Path) -> None:
        """Write an image into an empty folder, durably."""

    @abstractmethod
    def _engine_close(self) -> None:
        """Let go of the files; also called when opening failed half-way."""

    @abstractmethod
    def _engine_remove(self) -> None:
        """Remove the files of the closed engine."""
