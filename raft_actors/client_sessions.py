"""The session of a client: its writes are numbered, so that one that is sent twice is applied once.

::

    write --> number, the write of this thread that it follows --> the session open? --> sent --> answered: settled
                                                                       | no                  | unknown: sent again
                                                                       v                     v
                                                          opened first, by a request   the same number
                                                          of its own; writes wait

A number is settled once its caller has a definite answer. An unknown outcome keeps its number as long as somebody
holds the error, and may go on with it by ``retry``: until then the replicas keep the reply.

Thesis: §6.3.
"""

from __future__ import annotations

import copy
import functools
import secrets
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from raft_actors.errors import (
    Incompatible,
    NotApplied,
    OutcomeUnknown,
    Overloaded,
    PeerFailed,
    RaftError,
    SessionExpired,
)
from raft_actors.protocol.sessions import MOST_REPLIES, SessionWrite
from raft_actors.retries import Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from raft_actors.codec import CheckedCodec
    from raft_actors.futures import RequestFuture
    from raft_actors.intake import Mailbox
    from raft_actors.remote import RemoteMailbox

__all__ = ["ClientSessions", "Session", "WriteRequest"]

MOST_OPEN = MOST_REPLIES // 2
"""So many writes of one client may wait for their answers; the replicas keep more replies than that."""


class Session(NamedTuple):
    """A session as the cluster knows it."""

    id: int
    nonce: int


class Place:
    """The number of a write, as long as somebody may ask for its reply."""

    __slots__ = ("_settle", "sequence")

    def __init__(self, sequence: int, settle: Callable[[int], None]) -> None:
        self.sequence = sequence
        self._settle = settle

    def settle(self) -> None:
        """Nobody asks for the reply any more."""
        self._settle(self.sequence)

    __del__ = settle


class WriteRequest(Request):
    """A write in a session, over as many tries as it takes.

    Args:
        codec: what its command was encoded with.
        command: the encoded command.
        place: its number.
        previous: the write of the same thread before it, if that one has no answer yet.
        again: goes on with it: takes this request and a timeout in seconds.

    Attributes:
        session: the session in which it was sent last.
        opening: the opening of the session that it has waited for.
    """

    session: Session | None = None
    opening: Request | None = None

    def __init__(
        self,
        codec: CheckedCodec,
        command: bytes,
        *,
        place: Place,
        previous: WriteRequest | None,
        again: Callable[[WriteRequest, float | None], Any],
    ) -> None:
        super().__init__()
        self.codec = codec
        self.command = command
        self.size = len(command)
        self.place = place
        self.previous = previous
        self.again = again
        self.settled: Callable[[], int] = int

    def post(self, mailbox: Mailbox | RemoteMailbox, attempt: RequestFuture[Any]) -> None:
        """Make one try."""
        if self.session is None:
            raise ValueError("a write is sent in a session")
        command = self.command
        if mailbox.codec.name != self.codec.name:  # no peer was there to name its codec when the command was given
            try:
                command = mailbox.codec.encode_checked(self.codec.decode(command))
            except RaftError as error:
                attempt.try_fail(error)
                return
        before = self.previous
        previous = before.place.sequence if before is not None and not before.done() else 0
        write = SessionWrite(*self.session, self.place.sequence, previous, self.settled(), command)
        mailbox.write_session(write, attempt, watch=True)

    def try_set(self, value: Any, index: int | None = None) -> bool:
        """Answer with ``value``: its number is settled."""
        return super().try_set(value, index) and self._release()

    def try_fail(self, error: BaseException, index: int | None = None) -> bool:
        """Answer with ``error``; one whose outcome is unknown can be gone on with."""
        if self.unknown is not None and isinstance(error, NotApplied | PeerFailed | Incompatible):
            error = self.unknown  # this try had no effect, but an earlier one may have
        if not isinstance(error, OutcomeUnknown):
            return super().try_fail(error, index) and self._release()
        self.unknown = error
        self.previous = None
        error = copy.copy(error)
        # Of another request, which has no answer: one that holds its own would be let go by a garbage collection only.
        error.__dict__["_again"] = functools.partial(self.again, self.once_more())
        return super().try_fail(error, index)

    def once_more(self) -> WriteRequest:
        """The same write, with no answer yet: with the same number, in the same session."""
        again = WriteRequest(self.codec, self.command, place=self.place, previous=None, again=self.again)
        again.settled, again.session, again.unknown = self.settled, self.session, self.unknown
        return again

    def _release(self) -> bool:
        """Settle the number, unless its outcome was unknown: whoever holds that error may ask for the reply again."""
        self.previous = None
        if self.unknown is None:
            self.place.settle()
        return True


class _Opening(Request):
    """Opens a session."""

    def __init__(self) -> None:
        super().__init__(first=True)
        self.nonce = secrets.randbits(64)

    def post(self, mailbox: Mailbox | RemoteMailbox, attempt: RequestFuture[Any]) -> None:
        """Make one try."""
        mailbox.open_session(self.nonce, attempt)


class ClientSessions:
    """The sessions of one client, one at a time, and the numbers of its writes.

    Args:
        start: sends the request that opens one.
        opened: told when those that wait for it may go on.
        again: goes on with a write whose outcome is unknown.

    Attributes:
        current: the open session, if there is one.
    """

    def __init__(
        self,
        *,
        start: Callable[[Request], None],
        opened: Callable[[], None],
        again: Callable[[WriteRequest, float | None], Any],
    ) -> None:
        self.current: Session | None = None
        self._start = start
        self._opened_now = opened
        self._again = again
        self._lock = threading.Lock()
        self._issued = self._done = 0
        self._open: set[int] = set()
        self._opening: Request | None = None
        self._thread = threading.local()

    def write(self, codec: CheckedCodec, command: bytes) -> WriteRequest:
        """A new write: it has the next number, and follows the last one of this thread.

        Raises:
            Overloaded: too many writes of this client wait for their answers.
        """
        with self._lock:
            if len(self._open) >= MOST_OPEN:
                raise Overloaded(
                    f"{len(self._open)} writes of this Client wait for their answers, or may be asked for again",
                    advice="wait for answers before you write more, and let go of errors that you will not retry",
                )
            self._issued += 1
            sequence = self._issued
            self._open.add(sequence)
        previous = self.last
        request = WriteRequest(
            codec, command, place=Place(sequence, self._settle), previous=previous, again=self._again
        )
        request.settled = self._settled
        request.alone = previous is None
        self._thread.last = weakref.ref(request)  # the thread may end, or rest for ever
        return request

    @property
    def last(self) -> WriteRequest | None:
        """The last write of this thread, unless it has its answer."""
        found: WriteRequest | None = getattr(self._thread, "last", _nothing)()
        return None if found is None or found.done() else found

    def _settle(self, sequence: int) -> None:
        self._open.discard(sequence)  # one atomic step: it may run wherever garbage is collected

    def _settled(self) -> int:
        """Up to where every number is settled."""
        with self._lock:
            while self._done < self._issued and self._done + 1 not in self._open:
                self._done += 1
            return self._done

    # -- the session ---------------------------------------------------------------------------------------------------

    def admit(self, request: WriteRequest) -> RaftError | None:
        """Give ``request`` its session; else it opens one, and the answer is why the request has to wait.

        Raises:
            RaftError: it cannot be sent at all.
        """
        current = self.current
        if current is not None:
            if request.unknown is not None and request.session != current:
                raise _expired(request)
            request.session = current
            return None
        opening = self._opened(request)
        request.opening = opening
        failed = opening.failure  # its time may have been over at once
        why = failed if isinstance(failed, NotApplied) else opening.refusal
        return why or NotApplied("the session of this client is not open yet")

    def _opened(self, request: WriteRequest) -> Request:
        failed = request.opening
        if failed is not None and failed.done():
            error = failed.failure
            if error is not None and not isinstance(error, NotApplied | OutcomeUnknown):
                raise error
        with self._lock:
            opening = self._opening
            if opening is None:
                opening = self._opening = _Opening()
                opening.deadline = request.deadline
                opening.when_done(functools.partial(self._end_opening, opening.nonce))
            else:
                return opening
        self._start(opening)
        return opening

    def _end_opening(self, nonce: int, opening: RequestFuture[Any]) -> None:
        with self._lock:
            self._opening = None
        try:
            self.current = Session(opening.get(), nonce)
        except Exception:  # noqa: BLE001 - those who wait for it look at it themselves
            return
        self._opened_now()

    def lost(self, request: WriteRequest) -> None:
        """The session in which ``request`` was sent is over.

        Raises:
            SessionExpired: an earlier try may have been applied in it.
        """
        if self.current == request.session:
            self.current = None
        if request.unknown is not None:
            raise _expired(request)


def _nothing() -> None:
    """As a reference to what is no more."""


def _expired(request: WriteRequest) -> SessionExpired:
    error = SessionExpired("the session has expired before this write was repeated: it may have been applied")
    error.__cause__ = request.unknown
    return error
