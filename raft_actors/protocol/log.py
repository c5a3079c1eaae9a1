"""The log as one peer knows it: every term, the newest entries in memory, and how far the disk has it.

::

    compacted        in the store only            in memory
    ..........|--------------------------|=====================|
              ^ first                    ^ tail_first    ^      ^ last
                                                         durable

Terms are kept for the whole log as *runs* (first index of each term): a handful of numbers answers ``term_at`` for any
index and finds a conflict by terms instead of by entries. A ``Log`` is a value: every change returns a new one.

Paper: §5.3.
"""

from __future__ import annotations

from bisect import bisect_right
from operator import itemgetter

from msgspec import Struct
from msgspec.structs import replace

from raft_actors.protocol.entry import Entry
from raft_actors.protocol.types import NOWHERE, LogPosition

__all__ = ["Log", "recovered"]

CACHED_ENTRIES = 1024
"""How many durable and applied entries stay in memory for followers a little behind."""
CACHED_BYTES = 4 << 20
"""Their size limit, in bytes of data."""
ENTRY_OVERHEAD = 32
"""What an entry costs beside its data when a batch is bounded, in bytes."""

_start_of_run = itemgetter(0)


class Log(Struct, frozen=True):
    """An immutable view of one peer's log.

    Attributes:
        previous: the position just before ``first``, ``NOWHERE`` until something was compacted.
        last: the position of the newest entry, ``previous`` if there is none.
        runs: ``(first index, term)`` of each run of equal terms, ascending.
        tail: the newest entries, contiguous up to ``last``.
        tail_bytes: the size of their data.
        durable: highest index known to be on disk, with everything before it.
    """

    previous: LogPosition = NOWHERE
    last: LogPosition = NOWHERE
    runs: tuple[tuple[int, int], ...] = ()
    tail: tuple[Entry, ...] = ()
    tail_bytes: int = 0
    durable: int = 0

    @property
    def first(self) -> int:
        """The lowest index that is not compacted."""
        return self.previous.index + 1

    @property
    def tail_first(self) -> int:
        """The lowest index in memory; ``last.index + 1`` if none is."""
        return self.last.index - len(self.tail) + 1

    def term_at(self, index: int) -> int | None:
        """The term of the entry at ``index``; ``None`` if it is compacted away or not there yet."""
        if index == self.last.index:
            return self.last.term
        if index == self.previous.index:
            return self.previous.term
        if not self.first <= index < self.last.index:
            return None
        return self.runs[bisect_right(self.runs, index, key=_start_of_run) - 1][1]

    def has(self, position: LogPosition) -> bool:
        """Whether this log holds exactly that position. Paper: Figure 2 (AppendEntries, rule 2)."""
        return self.term_at(position.index) == position.term

    def position_at(self, index: int) -> LogPosition | None:
        """The position at ``index``, or ``None`` as for ``term_at``."""
        term = self.term_at(index)
        return None if term is None else LogPosition(term, index)

    def append(self, entries: tuple[Entry, ...]) -> Log:
        """This log with ``entries`` at its end; they must begin right after ``last``."""
        runs, term = self.runs, self.last.term if self.runs else -1
        newest = entries[-1]
        if newest.term != term:
            runs = _extended(runs, term, entries)
        size = sum([len(entry.data) for entry in entries])
        return Log(
            self.previous,
            LogPosition(newest.term, newest.index),
            runs,
            self.tail + entries,
            self.tail_bytes + size,
            self.durable,
        )

    def truncate(self, index: int) -> Log:
        """This log without ``index`` and everything after it; what is cut off is durable no more."""
        tail = self.tail[: max(0, index - self.tail_first)]
        return Log(
            self.previous,
            self.position_at(index - 1) or self.previous,
            tuple(run for run in self.runs if run[0] < index),
            tail,
            sum(len(entry.data) for entry in tail),
            min(self.durable, index - 1),
        )

    def compacted(self, through: LogPosition) -> Log:
        """This log without ``through``, which it holds, and everything before it. Paper: §7."""
        first = through.index + 1
        runs = tuple(run for run in self.runs if run[0] > first)
        if first <= self.last.index:
            runs = ((first, self.term_at(first) or 0), *runs)
        tail = self.tail[max(0, first - self.tail_first) :]
        return replace(self, previous=through, runs=runs, tail=tail, tail_bytes=sum([len(one.data) for one in tail]))

    def persisted(self, position: LogPosition) -> Log:
        """This log once ``position`` is on disk; a position overwritten since confirms nothing (BUG-35)."""
        if position.index <= self.durable or not self.has(position):
            return self
        return replace(self, durable=position.index)

    @property
    def overfull(self) -> bool:
        """Whether more is in memory than the cache should hold."""
        return len(self.tail) > 2 * CACHED_ENTRIES or self.tail_bytes > 2 * CACHED_BYTES

    def trimmed(self, needed_from: int) -> Log:
        """This log with its memory bounded: keeps all from ``needed_from``, and a cache of what came before.

        Args:
            needed_from: lowest index that is not durable and applied yet; never dropped.
        """
        if not self.overfull:
            return self
        drop = min(needed_from - self.tail_first, max(len(self.tail) - CACHED_ENTRIES, self._droppable_by_size()))
        if drop <= 0:
            return self
        tail = self.tail[drop:]
        return replace(self, tail=tail, tail_bytes=sum(len(entry.data) for entry in tail))

    def _droppable_by_size(self) -> int:
        size = self.tail_bytes
        for count, entry in enumerate(self.tail):
            if size <= CACHED_BYTES:
                return count
            size -= len(entry.data)
        return len(self.tail)

    def slice(self, first: int, max_bytes: int, last: int | None = None) -> tuple[Entry, ...] | None:
        """Entries from ``first`` on whose data fit into ``max_bytes``, at least one; ``None`` if not in memory."""
        start = first - self.tail_first
        if start < 0:
            return None
        entries = self.tail[start:] if last is None else self.tail[start : last - self.tail_first + 1]
        if self.tail_bytes + ENTRY_OVERHEAD * len(self.tail) <= max_bytes:
            return entries
        size = 0
        for count, entry in enumerate(entries):
            size += len(entry.data) + ENTRY_OVERHEAD
            if size > max_bytes and count:
                return entries[:count]
        return entries

    def conflict_hint(self, position: LogPosition) -> LogPosition:
        """The newest own position that could still match ``position``: not later, and of no later term.

        Whole terms are skipped at a time, so a follower is found out of step in a round per term, not per entry.
        Paper: §5.3 (the optimisation at its end); the rule is the one of etcd's raft.
        """
        if position.index < self.previous.index:
            return position  # nothing that this log still has
        index = min(position.index, self.last.index)
        for start, term in reversed(self.runs):
            if start > index:
                continue
            if term <= position.term:
                return LogPosition(term, index)
            index = start - 1
        return self.previous


def _extended(runs: tuple[tuple[int, int], ...], term: int, entries: tuple[Entry, ...]) -> tuple[tuple[int, int], ...]:
    """``runs`` with those that begin in ``entries``."""
    added = []
    for entry in entries:
        if entry.term != term:
            term = entry.term
            added.append((entry.index, term))
    return runs + tuple(added)


def recovered(previous: LogPosition, last: LogPosition, runs: tuple[tuple[int, int], ...]) -> Log:
    """The log as a store reports it on opening: all of it durable, none of it in memory."""
    return Log(previous, last, runs, (), 0, last.index)
