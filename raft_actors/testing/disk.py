"""A disk that is slow, fails or hangs: every adapter and snapshot of one peer, with faults in front of it.

Rule: a fault comes before the operation, never instead of half of it: what failed or hung has changed nothing. A disk
that hangs lets go when it heals, and when its peer is gone, so that no thread waits for ever.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raft_actors.folders import Folder, MemoryFolder
from raft_actors.snapshot_recovery import snapshot_folder
from raft_actors.testing.faulty_folder import FaultyFolder
from storage_adapters import Batch, MemoryAdapter, StorageAdapter, StorageError
from storage_adapters.interface import Entry, StrPath

__all__ = ["Disk", "FaultyAdapter"]

Factory = Callable[[str], StorageAdapter]


class Disk:
    """The disk under one peer, and the factory of its adapters.

    Args:
        factory: opens the real adapter.
        engine: what ``Status.storage`` shows.

    A ``MemoryAdapter`` is kept when the peer stops, as a disk would, and its snapshots with it: the peer finds them
    again when it starts.
    """

    def __init__(self, factory: Factory, engine: str) -> None:
        self.engine = engine
        self.__name__ = engine
        self._factory = factory
        self._changed = threading.Condition()
        self._delay = 0.0
        self._hangs = False
        self._failures: list[int] = []
        self._adapters: list[FaultyAdapter | FaultyFolder] = []
        self._kept: StorageAdapter | None = None
        self._kept_files = MemoryFolder()
        self._peeking = threading.local()

    def delay(self, seconds: float) -> None:
        """Let every write take ``seconds`` longer, until ``heal``."""
        if not 0 <= seconds < threading.TIMEOUT_MAX:
            raise ValueError(f"seconds must be at least 0, not {seconds!r}")
        self._set(delay=seconds)

    def fail(self, errno: int, times: int = 1) -> None:
        """Let the next ``times`` writes fail with the error number ``errno``; they change nothing.

        The peer stops at the first one. If its supervisor starts it again and the disk still fails, that is another
        of the ``times``.
        """
        if times < 1:
            raise ValueError(f"times must be at least 1, not {times!r}")
        with self._changed:
            self._failures += [int(errno)] * times

    def hang(self) -> None:
        """Let reads and writes wait, until ``heal`` or until the peer is gone."""
        self._set(hangs=True)

    def heal(self) -> None:
        """No more faults; what hung goes on."""
        self._set(delay=0.0, hangs=False)
        with self._changed:
            self._failures.clear()

    def let_go(self) -> None:
        """The peer is gone: whatever waits in one of its adapters, and whatever it still tries, fails."""
        with self._changed:
            for adapter in self._adapters:
                adapter.off = True
            self._adapters.clear()
            self._changed.notify_all()

    @contextmanager
    def peeking(self) -> Iterator[None]:
        """Within it, this thread reads as if there were no faults."""
        self._peeking.on = True
        try:
            yield
        finally:
            self._peeking.on = False

    @contextmanager
    def opened(self, path: Path) -> Iterator[StorageAdapter | None]:
        """The store at ``path`` without faults, for looking into it; ``None`` if there is none."""
        if self._kept is not None:
            yield self._kept
        elif not path.exists():
            yield None
        else:
            with self._factory(str(path)) as adapter:
                yield adapter

    def forget(self) -> None:
        """Drop the contents of a memory store."""
        self._kept = None
        self._kept_files = MemoryFolder()

    def __call__(self, path: str) -> StorageAdapter:
        """Open the store at ``path``."""
        adapter = FaultyAdapter(self)
        self._add(adapter)
        self.wait(adapter, delay=False)
        adapter.inner = self._kept or self._factory(path)
        if isinstance(adapter.inner, MemoryAdapter):
            self._kept = adapter.inner
        return adapter

    def files(self, path: str) -> Folder:
        """The snapshots of the store at ``path``, which is open."""
        folder = FaultyFolder(self, self._kept_files if self._kept is not None else snapshot_folder(Path(path)))
        self._add(folder)
        return folder

    def wait(self, adapter: FaultyAdapter | FaultyFolder, *, delay: bool) -> None:
        """Wait as long as the disk takes.

        Raises:
            StorageError: the peer is gone.
        """
        if getattr(self._peeking, "on", False):
            return
        with self._changed:
            due = time.monotonic() + (self._delay if delay else 0.0)
            while not adapter.off and (self._hangs or time.monotonic() < due):
                self._changed.wait(None if self._hangs else max(due - time.monotonic(), 0.0))
            if adapter.off:
                raise StorageError("the peer of this disk is gone")

    def fail_if_due(self) -> None:
        """Raise the next failure that was asked for.

        Raises:
            StorageError: with its number.
        """
        with self._changed:
            if not self._failures:
                return
            number = self._failures.pop(0)
        raise StorageError(f"the disk failed: {os.strerror(number)}", errno=number)

    def keeps(self, inner: StorageAdapter) -> bool:
        """Whether ``inner`` outlives its adapter."""
        return inner is self._kept

    def _add(self, adapter: FaultyAdapter | FaultyFolder) -> None:
        """Let a new opening take the place of an earlier one of its kind."""
        with self._changed:
            others = [one for one in self._adapters if not one.off and type(one) is not type(adapter)]
            self._adapters = [*others, adapter]

    def _set(self, *, delay: float | None = None, hangs: bool | None = None) -> None:
        with self._changed:
            self._delay = self._delay if delay is None else delay
            self._hangs = self._hangs if hangs is None else hangs
            self._changed.notify_all()


class FaultyAdapter(StorageAdapter):
    """An adapter behind a ``Disk``. After a failed write it refuses every later one, as the interface wants it.

    Attributes:
        inner: the real one.
        off: the peer is gone.
    """

    inner: StorageAdapter

    def __init__(self, disk: Disk) -> None:
        self.off = False
        self._disk = disk
        self._broken: StorageError | None = None

    def write(self, batch: Batch) -> None:
        """Wait, then fail or write."""
        self._before_change()
        self.inner.write(batch)

    def read(self, first: int, last: int, max_bytes: int) -> list[Entry]:
        """Wait if the disk hangs, then read."""
        self._disk.wait(self, delay=False)
        return self.inner.read(first, last, max_bytes)

    def bounds(self) -> tuple[int, int]:
        """Return the first and the last index."""
        return self.inner.bounds()

    def meta(self, key: str) -> bytes | None:
        """Return the value last written for ``key``."""
        return self.inner.meta(key)

    def compact(self, through: int) -> None:
        """Wait, then fail or compact."""
        self._before_change()
        self.inner.compact(through)

    def stats(self) -> dict[str, Any]:
        """Return what the real adapter says of itself."""
        return self.inner.stats()

    def backup(self, path: StrPath) -> None:
        """Write an image."""
        self._disk.wait(self, delay=False)
        self.inner.backup(path)

    def close(self) -> None:
        """Let go of the store."""
        self.off = True
        if not self._disk.keeps(self.inner):
            self.inner.close()

    def destroy(self) -> None:
        """Remove the store."""
        self.off = True
        self._disk.forget()
        self.inner.destroy()

    def _before_change(self) -> None:
        self._disk.wait(self, delay=True)
        if self._broken is not None:
            raise StorageError(f"an earlier write failed: {self._broken}", errno=self._broken.errno)
        try:
            self._disk.fail_if_due()
        except StorageError as error:
            self._broken = error
            raise
