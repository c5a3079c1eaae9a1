"""Adapters with one defect each, in what a batch, a read or a compaction does, and the checks that have to see it.

``DEFECTS`` maps each class to the names of checks that must be red for it; there may be more of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from storage_adapters import Batch, MemoryAdapter, StorageError

Adapter = TypeVar("Adapter")
DEFECTS: dict[type, tuple[str, ...]] = {}


def caught_by(*names: str) -> Callable[[type[Adapter]], type[Adapter]]:
    def note(adapter: type[Adapter]) -> type[Adapter]:
        DEFECTS[adapter] = names
        return adapter

    return note


# --- what a batch does -------------------------------------------------------------------------------------------


@caught_by(
    "entries that do not follow the last one are refused, and nothing is written",
    "entries with a gap, a repetition or in the wrong order are refused, and nothing is written",
    "compacting beyond the last index leaves an empty log that begins there",
)
class AcceptsGaps(MemoryAdapter):
    def write(self, batch: Batch) -> None:
        start = self.bounds()[1] + 1 if batch.truncate_from is None else batch.truncate_from
        moved = [(start + offset, value) for offset, (_, value) in enumerate(batch.entries)]
        super().write(Batch(batch.meta, batch.truncate_from, moved))


@caught_by("entries with a gap, a repetition or in the wrong order are refused, and nothing is written")
class LooksOnlyAtTheFirstIndex(MemoryAdapter):
    def write(self, batch: Batch) -> None:
        start = batch.entries[0][0] if batch.entries else 0
        moved = [(start + offset, value) for offset, (_, value) in enumerate(batch.entries)]
        super().write(Batch(batch.meta, batch.truncate_from, moved))


@caught_by(
    "a truncation below the first index is refused, and nothing is written",
)
class TruncatesWhatWasCompacted(MemoryAdapter):
    def write(self, batch: Batch) -> None:
        if batch.truncate_from is not None and batch.truncate_from < self.bounds()[0]:
            self._values.clear()
            batch = Batch(batch.meta, None, [(self._first + n, value) for n, (_, value) in enumerate(batch.entries)])
        super().write(batch)


@caught_by("truncate_from drops that entry and all after it", "a batch truncates first and appends then")
class TruncatesOneTooFew(MemoryAdapter):
    def write(self, batch: Batch) -> None:
        cut = batch.truncate_from
        if cut is not None and cut <= self.bounds()[1]:
            kept = self._values[cut - self._first]
            super().write(Batch({}, cut, [(cut, kept)]))
            batch = Batch(batch.meta, None, [(index + 1, value) for index, value in batch.entries])
        super().write(batch)


@caught_by("a batch truncates first and appends then")
class TruncatesAfterAppending(MemoryAdapter):
    def write(self, batch: Batch) -> None:
        super().write(batch)
        if batch.truncate_from is not None:
            super().write(Batch(truncate_from=batch.truncate_from))


@caught_by("a truncation beyond the end drops nothing")
class TruncatesTheEndOfShortLogs(MemoryAdapter):
    def write(self, batch: Batch) -> None:
        cut, last = batch.truncate_from, self.bounds()[1]
        if cut is not None and cut > last + 1:
            self._values.pop()
        super().write(batch)


@caught_by("a log that was truncated at its first index is empty and begins where it did")
class EmptyLogBeginsAtOne(MemoryAdapter):
    def write(self, batch: Batch) -> None:
        super().write(batch)
        if not self._values:
            self._first = 1


@caught_by(
    "entries that do not follow the last one are refused, and nothing is written",
    "a truncation below the first index is refused, and nothing is written",
    "a value that is not bytes is refused, and nothing is written",
)
class StoresMetaBeforeItChecks(MemoryAdapter):
    def write(self, batch: Batch) -> None:
        meta: dict[str, Any] = dict(batch.meta)
        self._meta.update({key: value for key, value in meta.items() if isinstance(value, bytes)})
        super().write(batch)


@caught_by(
    "entries that do not follow the last one are refused, and nothing is written",
    "a value that is not bytes is refused, and nothing is written",
)
class TruncatesBeforeItChecks(MemoryAdapter):
    def write(self, batch: Batch) -> None:
        if batch.truncate_from is not None:
            super().write(Batch(truncate_from=batch.truncate_from))
        super().write(batch)


@caught_by("a value that is not bytes is refused, and nothing is written")
class StoresTextAsBytes(MemoryAdapter):
    def write(self, batch: Batch) -> None:
        given: list[tuple[int, Any]] = list(batch.entries)
        made = [(index, value if isinstance(value, bytes) else str(value).encode()) for index, value in given]
        super().write(Batch(batch.meta, batch.truncate_from, made))


@caught_by("an empty batch changes nothing")
class CountsEmptyBatches(MemoryAdapter):
    def write(self, batch: Batch) -> None:
        if not batch.entries and not batch.meta and batch.truncate_from is None:
            batch = Batch({"ballot": b""})
        super().write(batch)


@caught_by("a batch of 10,000 entries is one write")
class LimitsBatches(MemoryAdapter):
    def write(self, batch: Batch) -> None:
        if len(batch.entries) > 4096:
            raise StorageError("too many entries")
        super().write(batch)


@caught_by("entries go on where the log ends, write after write")
class IsARing(MemoryAdapter):
    def write(self, batch: Batch) -> None:
        super().write(batch)
        if len(batch.entries) == 1 and len(self._values) > 256:
            del self._values[0]


@caught_by("a long random history ends like the same history of a list")
class LosesMetaBesideAPureTruncation(MemoryAdapter):
    def write(self, batch: Batch) -> None:
        meta = {} if batch.truncate_from is not None and not batch.entries else batch.meta
        super().write(Batch(meta, batch.truncate_from, batch.entries))


# --- what comes back ---------------------------------------------------------------------------------------------


@caught_by("entries are read back byte for byte, as (int, bytes)")
class StripsZeros(MemoryAdapter):
    def read(self, first: int, last: int, max_bytes: int) -> list[tuple[int, bytes]]:
        return [(index, value.rstrip(b"\0")) for index, value in super().read(first, last, max_bytes)]


@caught_by("entries are read back byte for byte, as (int, bytes)")
class ReturnsBuffers(MemoryAdapter):
    def read(self, first: int, last: int, max_bytes: int) -> Any:
        return [(index, memoryview(value)) for index, value in super().read(first, last, max_bytes)]


@caught_by("an empty value is an entry like any other")
class SkipsEmptyValues(MemoryAdapter):
    def read(self, first: int, last: int, max_bytes: int) -> list[tuple[int, bytes]]:
        return [entry for entry in super().read(first, last, max_bytes) if entry[1]]


@caught_by("a value of 5 MiB is kept")
class CutsLongValues(MemoryAdapter):
    def write(self, batch: Batch) -> None:
        cut = [(index, value[: 1 << 20]) for index, value in batch.entries]
        super().write(Batch(batch.meta, batch.truncate_from, cut))


@caught_by("a read includes both ends of its range")
class ExcludesTheEnd(MemoryAdapter):
    def read(self, first: int, last: int, max_bytes: int) -> list[tuple[int, bytes]]:
        return super().read(first, last - 1, max_bytes)


@caught_by("a read returns at least one entry, however small max_bytes is")
class ReturnsNothingTooBig(MemoryAdapter):
    def read(self, first: int, last: int, max_bytes: int) -> list[tuple[int, bytes]]:
        found = super().read(first, last, max_bytes)
        return [] if sum(len(value) for _, value in found) > max_bytes else found


@caught_by("a read stops before its values exceed max_bytes")
class OvershootsMaxBytes(MemoryAdapter):
    def read(self, first: int, last: int, max_bytes: int) -> list[tuple[int, bytes]]:
        found = super().read(first, last, max_bytes)
        more = super().read(first + len(found), last, 0) if found and max_bytes > 0 else []
        return found + more


@caught_by("a read stops before its values exceed max_bytes")
class StopsAtMaxBytesTooEarly(MemoryAdapter):
    def read(self, first: int, last: int, max_bytes: int) -> list[tuple[int, bytes]]:
        return super().read(first, last, max_bytes - 1)


@caught_by("a read returns what the log has of its range")
class RaisesOutsideTheLog(MemoryAdapter):
    def read(self, first: int, last: int, max_bytes: int) -> list[tuple[int, bytes]]:
        if first < self.bounds()[0]:
            raise StorageError("no such entry")
        return super().read(first, last, max_bytes)


# --- meta --------------------------------------------------------------------------------------------------------


@caught_by("meta merges by key")
class ReplacesMeta(MemoryAdapter):
    def write(self, batch: Batch) -> None:
        super().write(batch)
        if batch.meta:
            self._meta = dict(batch.meta)


@caught_by("meta merges by key")
class TakesEmptyMetaForNone(MemoryAdapter):
    def meta(self, key: str) -> bytes | None:
        return super().meta(key) or None


@caught_by("meta keys of 1 to 511 bytes are told apart, whatever they are called")
class CutsLongKeys(MemoryAdapter):
    def write(self, batch: Batch) -> None:
        super().write(
            Batch({key[:510]: value for key, value in batch.meta.items()}, batch.truncate_from, batch.entries)
        )

    def meta(self, key: str) -> bytes | None:
        return super().meta(key[:510])


@caught_by("a meta key that is empty or too long is refused, and nothing is written")
class TakesAnyKey(MemoryAdapter):
    def write(self, batch: Batch) -> None:
        good = {key: value for key, value in batch.meta.items() if 1 <= len(key.encode()) <= 511}
        super().write(Batch(good, batch.truncate_from, batch.entries))


@caught_by("a meta value may be 1 MiB")
class CutsMetaValues(MemoryAdapter):
    def write(self, batch: Batch) -> None:
        super().write(batch)
        self._meta.update({key: value[: 1 << 16] for key, value in batch.meta.items()})


# --- compaction --------------------------------------------------------------------------------------------------


@caught_by("compact drops the prefix and nothing else")
class CompactsOneTooFew(MemoryAdapter):
    def compact(self, through: int) -> None:
        super().compact(through - 1)


@caught_by("compact drops the prefix and nothing else")
class CompactsMetaToo(MemoryAdapter):
    def compact(self, through: int) -> None:
        super().compact(through)
        self._meta.clear()


@caught_by("compacting beyond the last index leaves an empty log that begins there")
class CompactsOnlyWhatIsThere(MemoryAdapter):
    def compact(self, through: int) -> None:
        super().compact(min(through, self.bounds()[1]))


@caught_by("compacting below the first index does nothing")
class CompactsBackwards(MemoryAdapter):
    def compact(self, through: int) -> None:
        if through + 1 < self._first:
            self._first = through + 1
        super().compact(through)


@caught_by("compacting through the last index leaves an empty log that goes on after it")
class KeepsTheLastEntry(MemoryAdapter):
    def compact(self, through: int) -> None:
        super().compact(through - 1 if through == self.bounds()[1] else through)


@caught_by("a long prefix is dropped by one compact")
class CompactsOneStep(MemoryAdapter):
    def compact(self, through: int) -> None:
        super().compact(min(through, self.bounds()[0] + 9_999))


@caught_by("an index that cannot exist is refused by compact")
class CompactsAnywhere(MemoryAdapter):
    def compact(self, through: int) -> None:
        super().compact(min(through, 1 << 62))


# --- readers beside the writer -----------------------------------------------------------------------------------


@caught_by("readers go on while the log is compacted")
class RefusesReadersWhileItCompacts(MemoryAdapter):
    _compacting = False

    def compact(self, through: int) -> None:
        self._compacting = True
        threading.Event().wait(0.01)
        super().compact(through)
        self._compacting = False

    def read(self, first: int, last: int, max_bytes: int) -> list[tuple[int, bytes]]:
        if self._compacting:
            raise StorageError("busy")
        return super().read(first, last, max_bytes)


@caught_by("big values can be written while others are read")
class CannotGrowUnderReaders(MemoryAdapter):
    def __init__(self, path: Any = None) -> None:
        super().__init__(path)
        self._readers = 0

    def read(self, first: int, last: int, max_bytes: int) -> list[tuple[int, bytes]]:
        self._readers += 1
        threading.Event().wait(0.005)
        self._readers -= 1
        return super().read(first, last, max_bytes)

    def write(self, batch: Batch) -> None:
        if self._readers and any(len(value) > 1_000_000 for _, value in batch.entries):
            raise StorageError("there are readers")
        super().write(batch)


# --- the life of a store -----------------------------------------------------------------------------------------


@caught_by("every call after close raises StorageError", "a store is closed at the end of its with block")
class WorksAfterClose(MemoryAdapter):
    def close(self) -> None:
        """Nothing is closed."""


@caught_by("every call after close raises StorageError")
class AnswersBoundsAfterClose(MemoryAdapter):
    def bounds(self) -> tuple[int, int]:
        return self._first, self._first + len(self._values) - 1


@caught_by("close may be called again")
class ClosesOnce(MemoryAdapter):
    def close(self) -> None:
        self.bounds()
        super().close()


@caught_by(
    "stores at different paths know nothing of each other", "a new store has bounds (1, 0), no entries and no meta"
)
class SharesItsMeta(MemoryAdapter):
    _shared: dict[str, bytes] = {}

    def __init__(self, path: Any = None) -> None:
        super().__init__(path)
        self._meta = self._shared


@caught_by("stats tell engine, path, entries, bytes and durable")
class CountsCompactedEntries(MemoryAdapter):
    def stats(self) -> dict[str, Any]:
        return {**super().stats(), "entries": self.bounds()[1]}


@caught_by("every call after destroy raises StorageError")
class WorksAfterDestroy(MemoryAdapter):
    def destroy(self) -> None:
        self._values.clear()


@caught_by("destroy may be called again, and after close")
class DestroysOnce(MemoryAdapter):
    def destroy(self) -> None:
        self.bounds()
        super().destroy()
