"""Adapters with one defect each, in durability, locking or backup, and the checks that have to see it."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path
from typing import Any

from storage_adapters import Batch, LMDBAdapter, MemoryAdapter, StorageError, StoreInUse
from storage_adapters.disk import ReadGuard
from tests.storage.adapters.planted import caught_by

# --- durability --------------------------------------------------------------------------------------------------


@caught_by("after destroy the path gives a new store", "destroy leaves no files")
class DestroysNothing(LMDBAdapter):
    def destroy(self) -> None:
        if os.getpid() == self._owner:
            self.close()


@caught_by(
    "a store that is opened again has its entries, bounds and meta",
    "a compacted store that is opened again begins where it did",
    "a long random history with closing and opening ends like that of a list",
    "a process that takes over a store finds what the last one left",
    "a killed process leaves no lock, and all that it wrote",
)
class OnlySaysItIsDurable(MemoryAdapter):
    def stats(self) -> dict[str, Any]:
        return {**super().stats(), "durable": True}


@caught_by(
    "a killed process leaves no lock, and all that it wrote",
    "a write that a kill interrupts is there wholly or not at all",
)
class WritesAtClose(LMDBAdapter):
    """Keeps the last batches back until the next read or the end, as a cache does that nobody flushes."""

    def __init__(self, path: Any) -> None:
        self._waiting: list[Batch] = []
        super().__init__(path)

    def write(self, batch: Batch) -> None:
        self._waiting.append(batch)
        if len(self._waiting) > 6:
            self._flush()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for batch in waiting:
            super().write(batch)

    def bounds(self) -> tuple[int, int]:
        self._flush()
        return super().bounds()

    def close(self) -> None:
        if os.getpid() == self._owner and not self._closed:
            self._flush()
        super().close()


class _TwoSteps(LMDBAdapter):
    def write(self, batch: Batch) -> None:
        if batch.truncate_from is not None and batch.entries:
            super().write(Batch({}, batch.truncate_from))
            batch = Batch(batch.meta, None, batch.entries)
        super().write(batch)


@caught_by(
    "a reader beside the writer sees every batch wholly or not at all",
    "a write that a kill interrupts is there wholly or not at all",
)
class CommitsInTwoSteps(_TwoSteps):
    """Truncates in one transaction and appends in the next, with a moment between them."""

    def _engine_write(self, batch: Batch, last: int) -> None:
        super()._engine_write(batch, last)
        if batch.truncate_from is not None and not batch.entries:
            threading.Event().wait(0.02)


@caught_by("an empty log that is opened again begins where it did")
class ForgetsWhereItBegins(LMDBAdapter):
    def _engine_open(self) -> tuple[int, int]:
        first, last = super()._engine_open()
        return (first, last) if last >= first else (1, 0)

    def compact(self, through: int) -> None:
        super().compact(min(through, self.bounds()[1] - 1))


@caught_by("a compacted store that is opened again begins where it did")
class CompactsInMemoryOnly(LMDBAdapter):
    def _engine_compact(self, through: int, first: int, last: int) -> tuple[int, int]:
        return through + 1, max(last, through)


@caught_by("big values and batches are there when the store is opened again")
class KeepsBigValuesInMemory(LMDBAdapter):
    def __init__(self, path: Any) -> None:
        self._big: dict[int, bytes] = {}
        super().__init__(path)

    def _engine_write(self, batch: Batch, last: int) -> None:
        self._big.update((index, value) for index, value in batch.entries if len(value) > 1 << 20)
        small = [(index, b"" if index in self._big else value) for index, value in batch.entries]
        super()._engine_write(Batch(batch.meta, batch.truncate_from, small), last)

    def _engine_read(self, first: int, last: int, max_bytes: int) -> list[tuple[int, bytes]]:
        return [(index, self._big.get(index, value)) for index, value in super()._engine_read(first, last, max_bytes)]


@caught_by("a reader sees what was written before it was told")
class AnswersOldBounds(LMDBAdapter):
    def bounds(self) -> tuple[int, int]:
        first, last = super().bounds()
        return (
            (first, max(first - 1, last - 1))
            if threading.current_thread() is not threading.main_thread()
            else (first, last)
        )


@caught_by("a store can be closed beside its readers, who then get StorageError")
class ReadersSeeAClosedEngine(LMDBAdapter):
    """Closes under its readers, who then meet an error of the engine."""

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self._reading = _NoGuard()

    def _require_open(self) -> None:
        """Nobody looks."""

    def _engine_read(self, first: int, last: int, max_bytes: int) -> list[tuple[int, bytes]]:
        try:
            return super()._engine_read(first, last, max_bytes)
        except StorageError as error:
            raise RuntimeError("the engine is closed") from error


class _NoGuard(ReadGuard):
    def __enter__(self) -> None:
        """Let everybody in."""

    def __exit__(self, *_: object) -> None:
        """Nothing to give back."""


# --- locks and processes -----------------------------------------------------------------------------------------


@caught_by(
    "an open store is refused to a second opening in the same process, which names the process",
    "a store that another process holds is refused, and the error names that process",
)
class NamesNoProcess(LMDBAdapter):
    def __init__(self, path: Any) -> None:
        try:
            super().__init__(path)
        except StoreInUse as error:
            raise StoreInUse(error.path, None) from None


@caught_by("a store that another process holds is refused, and the error names that process")
class LocksOnlyThisProcess(OnlySaysItIsDurable):
    """A registry of open paths keeps a second opening out, but knows nothing of other processes."""

    _open: dict[str, LocksOnlyThisProcess] = {}

    def __init__(self, path: Any) -> None:
        if str(path) in self._open:
            raise StoreInUse(path, os.getpid())
        super().__init__(path)
        self._open[str(path)] = self

    def close(self) -> None:
        self._open.pop(self._path, None)
        super().close()


@caught_by("a killed process leaves no lock, and all that it wrote", "destroy leaves no files")
class LocksWithAFile(LMDBAdapter):
    """The lock is that a file exists: it outlives a killed owner."""

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self._claim = Path(path) / "claimed"
        try:
            self._claim.touch(exist_ok=False)
        except FileExistsError:
            super().close()
            raise StoreInUse(path, None) from None

    def close(self) -> None:
        super().close()
        self._claim.unlink(missing_ok=True)

    def destroy(self) -> None:
        super().destroy()
        self._claim.parent.mkdir(exist_ok=True)
        self._claim.touch()


@caught_by("a closed store can be opened at once", "a store that is opened again has its entries, bounds and meta")
class KeepsItsLock(LMDBAdapter):
    _kept: list[Any] = []

    def close(self) -> None:
        if not self._closed:
            self._kept.append(os.dup(self._lock._descriptor or 0))
        super().close()


@caught_by("a forked child may not use the store, and does the parent no harm")
class WorksInAFork(LMDBAdapter):
    def _require_owner(self) -> None:
        """Anybody may."""


@caught_by("a path that cannot be a folder raises StorageError with its errno")
class RaisesWhatTheSystemRaises(LMDBAdapter):
    def __init__(self, path: Any) -> None:
        Path(path).mkdir(parents=True, exist_ok=True)
        super().__init__(path)


# --- backups -----------------------------------------------------------------------------------------------------


@caught_by("a backup is a store with the same contents")
class BacksUpNothing(LMDBAdapter):
    def backup(self, path: Any) -> None:
        super().backup(path)
        LMDBAdapter(path).destroy()


@caught_by("a backup and its store go separate ways")
class BacksUpByLink(LMDBAdapter):
    """The image is a second name of the store's own file."""

    def _engine_copy(self, target: Path) -> None:
        os.link(self._path / "data.mdb", target / "data.mdb")


@caught_by("a backup goes into an empty folder or makes its own, and leaves anything else alone")
class BacksUpOverAnything(LMDBAdapter):
    def backup(self, path: Any) -> None:
        if Path(path).is_dir() and Path(path) != self._path:
            shutil.rmtree(path)
        super().backup(path)


@caught_by("a backup goes into an empty folder or makes its own, and leaves anything else alone")
class NeedsItsParent(LMDBAdapter):
    def backup(self, path: Any) -> None:
        if not Path(path).parent.exists():
            raise StorageError("no such folder", errno=errno.ENOENT)
        super().backup(path)


@caught_by("a backup taken beside the writer holds whole batches")
class BacksUpInPieces(LMDBAdapter):
    """Reads bounds, entries and meta one after the other while the writer goes on."""

    def backup(self, path: Any) -> None:
        self.bounds()
        with LMDBAdapter(path) as image:
            entries = self.read(1, 1 << 40, 1 << 40)
            threading.Event().wait(0.02)
            meta = {key: value for key in ("ballot", "batch") if (value := self.meta(key)) is not None}
            image.write(Batch(meta, None, entries))
