"""The inbox of a peer: what callers and other peers send, bounded, encoded, and never forgotten.

Commands are encoded in the thread of the caller, before the peer sees them: a caller that changes its command later
changes no replica (BUG-71), and a command that cannot be stored is refused where it was made. Requests that arrive
between two wake-ups of the peer form one batch. What is unfinished is bounded (BUG-72) and known here until its last
reply, so that the timekeeper can answer every request at its deadline whatever the peer does.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pykka
from msgspec import Struct

from raft_actors.codec import CheckedCodec, is_immutable_reply
from raft_actors.errors import InvalidCommand, Overloaded, RaftError, Refused
from raft_actors.futures import RequestFuture, refuse_if_forbidden
from raft_actors.lending import LendingChannel
from raft_actors.mailbox import Envelope
from raft_actors.protocol.sessions import OpenSession, SessionWrite
from raft_actors.requests import GetStatus, Read, ReadBatch, Write, WriteBatch
from raft_actors.timekeeper import TIMEKEEPER

if TYPE_CHECKING:
    from collections.abc import Callable

    from raft_actors.config import Config

__all__ = ["Drained", "Mailbox"]

ASK_PATIENCE = 60.0
"""Seconds for which an ``ask`` waits for an index that is not applied yet, whatever its own timeout."""

ROOM = 64
"""Bytes that a request of a session may take beside its command."""


class Drained(Struct):
    """What was queued but for writes: events and messages in order, and the reads of callers in batches."""

    items: list[Any]
    reads: ReadBatch | None
    lease_reads: ReadBatch | None


class Mailbox(LendingChannel):
    """A peer's inbox.

    Attributes:
        name: the peer.
        refusal: made into the answer of whatever comes after the close.
        read_stale: hands a batch of one query to the machine directly; set by the peer.
        status: makes the answer to ``GetStatus``; set by the peer.
        hold_until: until then writes are no work for the peer: it takes them in its next turn, or at this time, for
            which the first of them sets its clock; 0: they are. Set in its turn only.
        overloaded: how many requests were turned away because it was full.
    """

    def __init__(self, name: str, config: Config, codec: CheckedCodec) -> None:
        super().__init__()
        self.name = name
        self.codec = codec
        self.refusal: Callable[[], RaftError] = lambda: RaftError(f"peer {name!r} is closed")
        self.read_stale: Callable[[ReadBatch, int], bool] | None = None
        self.status: Callable[[], Any] | None = None
        self.hold_until = 0.0
        self.overloaded = 0
        self._max_command_bytes = config.max_command_bytes
        self._max_pending = config.max_pending_writes
        self._max_bytes = config.max_pending_bytes
        self._session_timeout = config.session_timeout
        self._writes = WriteBatch()
        self._reads = ReadBatch(lease=False)
        self._lease_reads = ReadBatch(lease=True)
        self._open: set[WriteBatch | ReadBatch] = set()
        self._pending = 0
        self._pending_bytes = 0
        self._watched = False

    # -- requests, in the thread of the caller -------------------------------------------------------------------------

    def write(self, command: Any, future: RequestFuture[Any], *, watch: bool) -> None:
        """Queue a command; ``future`` is answered in any case. ``watch``: nobody may be waiting at its deadline."""
        try:
            data = self.codec.encode_checked(command)
        except RaftError as error:
            future.try_fail(error)
            return
        self.write_encoded(data, future, watch=watch)

    def write_encoded(self, data: bytes, future: RequestFuture[Any], *, watch: bool) -> None:
        """As ``write``, for a command that our codec has encoded and checked."""
        if len(data) > self._max_command_bytes:
            future.try_fail(self._too_large(len(data)))
        else:
            self._submit(self._writes_lane, data, len(data), future, watch=watch)

    def write_all(self, commands: list[bytes], futures: list[RequestFuture[Any]], *, sessions: bool) -> None:
        """As ``write_encoded`` or, with ``sessions``, ``submit_session`` for each, in their order."""
        if self._take_all(commands, futures, sessions=sessions):
            self._watch()
            return
        enter = self.submit_session if sessions else self.write_encoded
        for data, future in zip(commands, futures, strict=True):
            enter(data, future, watch=True)

    def _take_all(self, commands: list[bytes], futures: list[RequestFuture[Any]], *, sessions: bool) -> bool:
        """Queue writes together, if there is room for all of them."""
        sizes = list(map(len, commands))
        count, size = len(sizes), sum(sizes)
        if not count or max(sizes) > self._max_command_bytes + (ROOM if sessions else 0):
            return False
        with self._lock:
            if not self._has_room(count, size):
                return False
            batch = self._writes
            if sessions:
                batch.sessions.extend(range(len(batch.commands), len(batch.commands) + count))
            batch.commands += commands
            batch.futures += futures
            batch.size += size
            self._pending += count
            self._pending_bytes += size
            self._call_for(batch)
        return True

    def check_size(self, size: int) -> None:
        """Refuse bytes that are too many for a request, before anybody decodes them.

        Raises:
            InvalidCommand: they are.
        """
        if size > self._max_command_bytes:
            raise self._too_large(size)

    def write_session(self, write: SessionWrite, future: RequestFuture[Any], *, watch: bool) -> None:
        """As ``write_encoded``, for a write of a session (``protocol.sessions``)."""
        self.submit_session(write.encode(), future, watch=watch)

    def submit_session(self, data: bytes, future: RequestFuture[Any], *, watch: bool) -> None:
        """The same for any request of a session, encoded."""
        if len(data) > self._max_command_bytes + ROOM:
            future.try_fail(self._too_large(len(data)))
        else:
            self._submit(self._sessions_lane, data, len(data), future, watch=watch)

    def read(
        self, query: Any, consistency: str, future: RequestFuture[Any], *, watch: bool, min_index: int | None
    ) -> None:
        """Queue a query; ``future`` is answered in any case."""
        try:
            query, size = self._copy(query)
        except RaftError as error:
            future.try_fail(error)
            return
        if consistency == "stale":
            self._read_stale(query, size, min_index or 0, future, watch=watch)
            return
        lane = self._lease_lane if consistency == "lease" else self._reads_lane
        self._submit(lane, query, size, future, watch=watch)

    def _read_stale(self, query: Any, size: int, min_index: int, future: RequestFuture[Any], *, watch: bool) -> None:
        """Past the peer, to the machine; bounded and remembered here like every other request."""
        batch = ReadBatch(lease=False)
        batch.left = 1

        def lane() -> tuple[ReadBatch, list[Any]]:
            self._open.add(batch)
            return batch, batch.queries

        if not self._submit(lane, query, size, future, watch=watch):
            return
        if self.read_stale is None or not self.read_stale(batch, min_index):
            self.release(batch, 1)
            future.try_fail(self.refusal())

    def _copy(self, query: Any) -> tuple[Any, int]:
        """A query that shares nothing with the caller's, and its size in bytes."""
        if is_immutable_reply(query):
            size = _weight(query)
        else:
            data = self.codec.encode_checked(query)
            size, query = len(data), self.codec.decode(data)
        if size > self._max_command_bytes:
            raise self._too_large(size)
        return query, size

    def _too_large(self, size: int) -> InvalidCommand:
        return InvalidCommand(
            f"the request takes {size} bytes, Config.max_command_bytes is {self._max_command_bytes}",
            advice="split it, or raise max_command_bytes at every peer",
        )

    def _writes_lane(self) -> tuple[WriteBatch, list[Any]]:
        return self._writes, self._writes.commands

    def open_session(self, nonce: int, future: RequestFuture[Any]) -> None:
        """Queue the opening of a session; ``future`` is answered with its name."""
        self.submit_session(OpenSession(nonce, self._session_timeout).encode(), future, watch=True)

    def _sessions_lane(self) -> tuple[WriteBatch, list[Any]]:
        batch = self._writes
        batch.sessions.append(len(batch.commands))
        return batch, batch.commands

    def _reads_lane(self) -> tuple[ReadBatch, list[Any]]:
        return self._reads, self._reads.queries

    def _lease_lane(self) -> tuple[ReadBatch, list[Any]]:
        return self._lease_reads, self._lease_reads.queries

    def _submit(
        self,
        lane: Callable[[], tuple[WriteBatch | ReadBatch, list[Any]]],
        item: Any,
        size: int,
        future: RequestFuture[Any],
        *,
        watch: bool,
    ) -> bool:
        """Queue a request, or answer it if that cannot be; returns whether it was queued."""
        with self._lock:
            refused = self._is_full(size)
            if not refused:
                batch, items = lane()
                items.append(item)
                self._count(batch, future, size)
                self._call_for(batch)
        if refused:
            future.try_fail(self._why_not_taken())
        elif watch:
            self._watch()
        return not refused

    def _call_for(self, batch: WriteBatch | ReadBatch) -> None:
        """Wake the peer for something new in ``batch``, or see to it that it wakes in time; the lock is held."""
        if batch is self._writes and self._holds():
            rings = self._asleep and self.hold_until < self._armed  # it means to sleep longer
        else:
            rings = self._rings()
        if rings:
            self._asleep = False
            self._bell.release()

    def _is_full(self, size: int) -> bool:
        """Whether a request must be turned away; the lock is held."""
        room = self._has_room(1, size)
        if not room and not self._closed:
            self.overloaded += 1
        return not room

    def _has_room(self, count: int, size: int) -> bool:
        """Whether so many requests of so many bytes in all may be queued; the lock is held."""
        fits = self._pending + count <= self._max_pending and self._pending_bytes + size <= self._max_bytes
        return fits and not self._closed

    def _count(self, batch: WriteBatch | ReadBatch, future: RequestFuture[Any], size: int) -> None:
        batch.futures.append(future)
        batch.size += size
        self._pending += 1
        self._pending_bytes += size

    def _watch(self) -> None:
        if not self._watched:
            self._watched = True
            TIMEKEEPER.watch(self)

    def _why_not_taken(self) -> RaftError:
        return self.refusal() if self._closed else self._overloaded()

    def _overloaded(self) -> Overloaded:
        return Overloaded(
            f"peer {self.name!r} has {self._pending} unfinished requests of {self._pending_bytes} bytes; "
            f"Config allows {self._max_pending} and {self._max_bytes}"
        )

    # -- the peer ------------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """How many requests are unfinished now: seen at once, from any thread."""
        return self._pending

    @property
    def pending_bytes(self) -> int:
        """How many bytes they take."""
        return self._pending_bytes

    def drain(self) -> Drained:
        """Everything queued but for writes; the batches stay known here until they are released."""
        with self._lock:
            items, self._items = self._items, []
            reads, leases = self._reads, self._lease_reads
            if reads.futures:
                self._reads = ReadBatch(lease=False)
            if leases.futures:
                self._lease_reads = ReadBatch(lease=True)
            for batch in (reads, leases):
                if batch.futures:
                    batch.left = len(batch.futures)
                    self._open.add(batch)
        return Drained(items, reads if reads.futures else None, leases if leases.futures else None)

    def take_writes(self) -> WriteBatch | None:
        """The writes that came so far, as one batch that stays known here until it is released."""
        if not self._writes.futures:  # what comes just now is seen before the owner sleeps
            return None
        with self._lock:
            batch = self._writes
            self._writes = WriteBatch()
            batch.left = len(batch.futures)
            self._open.add(batch)
        return batch

    def release(self, batch: WriteBatch | ReadBatch, count: int) -> None:
        """``count`` requests of ``batch`` are finished and make room for others."""
        with self._lock:
            batch.left -= count
            self._pending -= count
            if batch.left <= 0:
                self._open.discard(batch)
                self._pending_bytes -= batch.size

    def unanswered(self) -> list[RequestFuture[Any]]:
        """Every future that still waits, for the timekeeper; ends its watch when there is none."""
        with self._lock:
            batches = [*self._open, self._writes, self._reads, self._lease_reads]
            futures = [future for batch in batches for future in batch.futures if not future.done()]
            if not futures:
                self._watched = False
        return futures

    def turn_away(self, error: BaseException) -> list[Any]:
        """Close; answer what was not drained with ``error``; returns the queued items."""
        items = self.close()
        for batch in (self._writes, self._reads, self._lease_reads):
            batch.fail(error)
        return items

    def _has_work(self) -> bool:
        if self._items or self._closed or self._reads.futures or self._lease_reads.futures:
            return True
        return bool(self._writes.futures) and not self._holds()

    def _holds(self) -> bool:
        return self.hold_until > 0.0 and time.monotonic() < self.hold_until

    def _due(self) -> float:
        return min(self.deadline, self.hold_until) if self.hold_until and self._writes.futures else self.deadline

    # -- Pykka ---------------------------------------------------------------------------------------------------------

    def put(self, envelope: Envelope[Any]) -> None:
        """``ActorRef.ask`` and ``tell``: requests become requests, everything else goes to the actor as it is."""
        message, reply_to = envelope.message, envelope.reply_to
        if reply_to is not None and isinstance(message, Write | Read):
            try:
                refuse_if_forbidden()
            except Refused:
                reply_to.set_exception()
                return
        match message:
            case Write(command=command):
                self.write(command, _future(reply_to), watch=False)
            case Read(query=query, consistency=consistency, min_index=min_index):
                future = _future(reply_to)
                if min_index is not None:  # an asker who gave up tells nobody: its place must not be kept for ever
                    future.deadline = time.monotonic() + ASK_PATIENCE
                self.read(query, consistency, future, watch=min_index is not None, min_index=min_index)
            case GetStatus():
                if reply_to is not None and self.status is not None:
                    reply_to.set(self.status())
            case _:
                if not self.post(envelope) and reply_to is not None:
                    _answer_closed(envelope, self.refusal())


def _future(reply_to: pykka.Future[Any] | None) -> RequestFuture[Any]:
    """The asker's own future; for a tell one that nobody looks at."""
    future: RequestFuture[Any] = reply_to if isinstance(reply_to, RequestFuture) else RequestFuture()
    return future


def _weight(query: Any) -> int:
    """About how many bytes an atom, or a tuple of atoms, takes."""
    if type(query) is tuple:
        return sum(map(_weight, query))
    return len(query) if isinstance(query, str | bytes) else 16


def _answer_closed(envelope: Envelope[Any], error: RaftError) -> None:
    """As Pykka answers an ask that comes too late: a second stop is done already, everything else failed."""
    if envelope.reply_to is None:
        return
    if type(envelope.message).__name__ == "_ActorStop":
        envelope.reply_to.set(None)
    else:
        envelope.reply_to.set_exception((type(error), error, None))
