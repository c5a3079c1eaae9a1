"""What a durable log has to be able to do, in bytes and integers.

The rule of this package: an adapter knows indexes and bytes, never terms, votes or commands. It keeps

* a **log**, a run of entries without a gap, ``first .. last``; entries are appended at its end, a suffix is cut off by
  ``Batch.truncate_from`` and a prefix by ``compact``;
* **meta**, a small dictionary of bytes.

One ``write`` changes both at once and is durable when it returns; Raft's promises stand on that sentence. Everything
said in the docstrings below is checked, sentence by sentence, by ``storage_adapters.conformance.run(factory)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, Self, TypeAlias

import msgspec

MAX_INDEX = 2**63 - 1
"""The largest index an entry can have."""

MAX_META_KEY = 511
"""The largest size of a meta key, in bytes of its UTF-8 form."""

Entry: TypeAlias = tuple[int, bytes]
StrPath: TypeAlias = "str | PathLike[str]"


class StorageError(Exception):
    """The store cannot do what was asked: the disk failed, or the store is closed.

    Attributes:
        errno: the error number of the operating system where there is one (``errno.ENOSPC``, ``errno.EIO``), else None.
    """

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno


class StoreInUse(StorageError):
    """The store is open already, here or in another process.

    Attributes:
        path: the folder of the store.
        pid: the process that holds it; None if it had no time to write its id down.
    """

    def __init__(self, path: StrPath, pid: int | None) -> None:
        super().__init__(f"the store at {path} is in use by process {'(unknown)' if pid is None else pid}")
        self.path = str(path)
        self.pid = pid

    def __reduce__(self) -> tuple[type[StoreInUse], tuple[str, int | None]]:
        """Let the error cross to another process."""
        return StoreInUse, (self.path, self.pid)


class DamagedStore(StorageError):
    """What is on the disk is not what was written: never repaired silently, and never retried."""


class MissingExtra(ImportError):
    """An adapter was used whose library is not installed."""

    def __init__(self, extra: str, library: str) -> None:
        super().__init__(f"{library} is not installed: pip install 'raft-actors[{extra}]'", name=library)
        self.extra = extra
        self.library = library

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str]]:
        """Let the error cross to another process."""
        return MissingExtra, (self.extra, self.library)


class Batch(msgspec.Struct, frozen=True):
    """One atomic change of a store.

    Attributes:
        meta: keys to set, each of 1 to 511 bytes in UTF-8; keys that are not named keep their value.
        truncate_from: the first index to drop, done before the entries are appended. None drops nothing, and neither
            does an index beyond the end.
        entries: (index, value) pairs that go on where the log ends, without a gap.
    """

    meta: Mapping[str, bytes] = {}
    truncate_from: int | None = None
    entries: Sequence[Entry] = ()


class StorageAdapter(ABC):
    """A durable log and its meta, opened by ``factory(path)``; every adapter class is its own factory.

    A store that was opened before comes back as its last returned ``write`` or ``compact`` left it, also when its
    process was killed. One process and one adapter may hold a store at a time; the next one gets ``StoreInUse``. A path
    that cannot be a folder raises ``StorageError``. (A store that is not durable promises none of this paragraph.)

    Threads: one thread at a time may write (``write``, ``compact``); any thread may read at any moment. A reader sees
    a batch wholly or not at all, and may see it a moment before ``write`` returns. After ``fork`` the child's copy of a
    durable store raises ``StorageError``, except from ``close``, which does nothing there.

    Errors: a batch that breaks a rule below raises ``ValueError`` or ``TypeError`` and changes nothing. When the disk
    fails in ``write`` or ``compact``, the outcome of that call is unknown until the store is opened again (then it is
    there wholly or not at all), and every later change raises ``StorageError``; reads go on.
    """

    @abstractmethod
    def write(self, batch: Batch) -> None:
        """Make a batch durable, atomically: truncate first, then append; meta merges by key.

        Args:
            batch: the change; an empty one is allowed.

        Raises:
            ValueError: the first entry does not follow the last one kept, the entries leave a gap, ``truncate_from``
                lies below the first index (what was compacted cannot be truncated), or a meta key has a wrong size.
                Nothing is written.
            TypeError: a value is not ``bytes`` or an index not an ``int``. Nothing is written.
            StorageError: the disk failed, or failed before, or the store is closed.
        """

    @abstractmethod
    def read(self, first: int, last: int, max_bytes: int) -> list[Entry]:
        """Return the entries ``first .. last`` (both included) that the log has, in order.

        Stops before the values exceed ``max_bytes`` in sum, but returns at least one entry if there is one.

        Args:
            first: lowest index wanted; the log may begin later.
            last: highest index wanted; the log may end earlier.
            max_bytes: bound for the sum of the sizes of the values.

        Raises:
            StorageError: the disk failed or the store is closed.
            DamagedStore: the store noticed that its files are damaged.
        """

    @abstractmethod
    def bounds(self) -> tuple[int, int]:
        """Return the first and the last index: ``(1, 0)`` when new, ``last == first - 1`` whenever the log is empty."""

    @abstractmethod
    def meta(self, key: str) -> bytes | None:
        """Return the value last written for ``key``, or None."""

    @abstractmethod
    def compact(self, through: int) -> None:
        """Drop the prefix up to and including ``through``, durably.

        Below the first index nothing happens. At or beyond the last one the log is left empty and begins at
        ``through + 1``: ``bounds() == (through + 1, through)``, also after opening it again. Meta is not touched. A
        crash in the middle may leave a part of the prefix, never a gap.

        Raises:
            ValueError: ``through`` is larger than an index can be.
            StorageError: the disk failed, or failed before, or the store is closed.
        """

    @abstractmethod
    def stats(self) -> dict[str, Any]:
        """Return ``engine`` and ``path`` (str), ``entries`` (int), ``bytes`` (int, size on disk), ``durable`` (bool).

        An adapter may add keys of its own.
        """

    @abstractmethod
    def backup(self, path: StrPath) -> None:
        """Write a consistent image of the store into a new folder, while the store stays in use.

        The image of a durable store is itself a store: its factory opens it.

        Args:
            path: a folder that does not exist yet, or an empty one.

        Raises:
            StorageError: there is something at ``path`` (``errno.EEXIST``; it is left alone), or the disk failed.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the store; every later call but ``close`` and ``destroy`` raises ``StorageError``. Idempotent."""

    @abstractmethod
    def destroy(self) -> None:
        """Close the store and remove its files; opening the path afterwards gives a new store. Idempotent."""

    def __enter__(self) -> Self:
        """Return the adapter, which is open since it was made."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the store."""
        self.close()
