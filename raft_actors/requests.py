"""What callers ask of a peer, and how their waiting is kept.

``Write``, ``Read`` and ``GetStatus`` are the messages of the public ``ask`` and ``tell``. Inside, requests that came
together are one batch: one token, one event, one log append.

A batch has one owner at a time: the mailbox until it is drained, the peer until its entries commit, the machine after.
Waiting is by index *and* term, so that the result of another leader's entry never reaches our caller (BUG-41).
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from raft_actors.errors import OutcomeUnknown, RaftError

if TYPE_CHECKING:
    from collections.abc import Callable

    from raft_actors.futures import RequestFuture
    from raft_actors.protocol.entry import Entry

__all__ = ["GetStatus", "Read", "ReadBatch", "Segment", "Waiters", "Write", "WriteBatch"]

CONSISTENCIES = ("linearizable", "lease", "stale")


@dataclass(frozen=True, slots=True)
class Write:
    """Apply ``command`` on every replica; an ``ask`` of it is answered with the machine's reply."""

    command: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReadOptions:
    consistency: str = "linearizable"
    min_index: int | None = None

    def __post_init__(self) -> None:
        check_read(self.consistency, self.min_index)


@dataclass(frozen=True, slots=True)
class Read(_ReadOptions):
    """Answer ``query`` from the machine's state.

    Attributes:
        query: given to ``handle_read``.
        consistency: ``"linearizable"``, ``"lease"`` or ``"stale"``.
        min_index: with ``"stale"``: wait until this index is applied here.
    """

    query: Any


@dataclass(frozen=True, slots=True)
class GetStatus:
    """Answered with the peer's ``Status``, at once."""


def check_read(consistency: object, min_index: object) -> None:
    """Raise ``ValueError`` or ``TypeError`` for read options that mean nothing."""
    if consistency not in CONSISTENCIES:
        raise ValueError(f"consistency={consistency!r} is none of {', '.join(map(repr, CONSISTENCIES))}")
    if min_index is None:
        return
    if isinstance(min_index, bool) or not isinstance(min_index, int):
        raise TypeError(f"min_index must be an int or None, not {min_index!r:.60}")
    if consistency != "stale":
        raise ValueError('min_index goes with consistency="stale" only: the others are never older')


class WriteBatch:
    """Encoded commands with their futures, in order.

    Attributes:
        commands: the encoded commands.
        sessions: places of those that are requests of a session.
        futures: who waits for each.
        size: bytes of all commands.
        left: how many are not finished yet.
    """

    __slots__ = ("commands", "futures", "left", "sessions", "size")

    def __init__(self) -> None:
        self.commands: list[bytes] = []
        self.sessions: list[int] = []
        self.futures: list[RequestFuture[Any]] = []
        self.size = 0
        self.left = 0

    def fail(self, error: BaseException) -> None:
        """Answer everybody who still waits with ``error``."""
        for future in self.futures:
            future.try_fail(error)


class ReadBatch:
    """Queries with their futures; ``lease`` says how they may be answered."""

    __slots__ = ("futures", "lease", "left", "queries", "size")

    def __init__(self, *, lease: bool) -> None:
        self.queries: list[Any] = []
        self.futures: list[RequestFuture[Any]] = []
        self.lease = lease
        self.size = 0
        self.left = 0

    def fail(self, error: BaseException) -> None:
        """Answer everybody who still waits with ``error``."""
        for future in self.futures:
            future.try_fail(error)


class Segment(NamedTuple):
    """Futures ``start`` to ``stop`` of a batch wait for the entries ``first``, ``first + 1``, ... of ``term``."""

    first: int
    term: int
    batch: WriteBatch
    start: int
    stop: int

    @property
    def last(self) -> int:
        """The index that the last of them waits for."""
        return self.first + self.stop - self.start - 1

    def split(self, index: int) -> tuple[Segment, Segment]:
        """The part before ``index``, and the rest."""
        middle = self.start + index - self.first
        return self._replace(stop=middle), self._replace(first=index, start=middle)

    def fail(self, error: BaseException) -> None:
        """Answer these futures with ``error``."""
        for future in self.batch.futures[self.start : self.stop]:
            future.try_fail(error)


class Waiters:
    """The write batches of one peer between their append and their commit, by index.

    Args:
        release: told how many requests of a batch are finished.
    """

    def __init__(self, release: Callable[[WriteBatch, int], None]) -> None:
        self._release = release
        self._tokens = itertools.count(1)
        self._batches: dict[int, WriteBatch | ReadBatch] = {}
        self._segments: deque[Segment] = deque()

    def admit(self, batch: WriteBatch | ReadBatch) -> int:
        """Take over ``batch``; returns its token."""
        token = next(self._tokens)
        self._batches[token] = batch
        return token

    def take(self, token: int) -> WriteBatch | ReadBatch:
        """Give up the batch of ``token``."""
        return self._batches.pop(token)

    def accepted(self, token: int, first: int, term: int) -> None:
        """The commands of ``token`` were appended from ``first`` on."""
        batch = self._batches.pop(token)
        if isinstance(batch, WriteBatch):
            self._segments.append(Segment(first, term, batch, 0, len(batch.futures)))

    def committed(self, entries: Sequence[Entry]) -> list[Segment]:
        """The segments that wait for ``entries``, which are committed; those of another term are answered here."""
        last = entries[-1].index
        due = []
        while self._segments and self._segments[0].first <= last:
            segment = self._segments.popleft()
            if segment.last > last:
                segment, rest = segment.split(last + 1)
                self._segments.appendleft(rest)
            if entries[segment.first - entries[0].index].term == segment.term:
                due.append(segment)
            else:
                self._overwritten(segment)
        return due

    def truncated(self, index: int) -> None:
        """The log was cut at ``index``: whoever waited for it or later will not see its own command applied."""
        while self._segments and self._segments[-1].last >= index:
            segment = self._segments.pop()
            if segment.first < index:
                kept, segment = segment.split(index)
                self._segments.append(kept)
            self._overwritten(segment)

    def covered(self, index: int) -> None:
        """A snapshot took the place of everything up to ``index``: what came of it is in there, but no replies."""
        while self._segments and self._segments[0].first <= index:
            segment = self._segments.popleft()
            if segment.last > index:
                segment, rest = segment.split(index + 1)
                self._segments.appendleft(rest)
            error = OutcomeUnknown("this peer took over a snapshot of the leader, which tells no replies")
            segment.fail(error)
            self._release(segment.batch, segment.stop - segment.start)

    def forsaken(self) -> None:
        """This peer is out of its cluster: nobody tells it what becomes of the entries for which callers wait."""
        while self._segments:
            segment = self._segments.popleft()
            segment.fail(OutcomeUnknown("this peer is a member of its cluster no more, and hears nothing of it"))
            self._release(segment.batch, segment.stop - segment.start)

    def _overwritten(self, segment: Segment) -> None:
        error = OutcomeUnknown("the leader changed, and its log does not have this command")
        error.__cause__ = RaftError(f"entry {segment.first} of term {segment.term} was overwritten")
        segment.fail(error)
        self._release(segment.batch, segment.stop - segment.start)

    def close(self, *, unapplied: BaseException, unknown: BaseException) -> None:
        """Answer everybody who still waits: ``unapplied`` if nothing was appended, else ``unknown``."""
        for batch in self._batches.values():
            batch.fail(unapplied)
        for segment in self._segments:
            segment.fail(unknown)
        self._batches.clear()
        self._segments.clear()
