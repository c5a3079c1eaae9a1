"""The tries of a client's requests, until there is an answer or the time is over.

Rule: a request is sent again after an answer that says it had no effect: ``NotApplied``, or the failure of a peer that
had not appended it, also because it stopped at an entry that it cannot decode (``Incompatible``). And it is sent again
after an unknown outcome: a read, since repeating it changes nothing, and a write, since it has a number in a session
and is applied once, however often it comes (``client_sessions``).

::

    start --> session open? --> room in the window? --> sent to the leader --> answered: done
                  | no              | no                                  | refused, or lost
                  +-----------------+---> waiting line <------------------+

Who leads is the business of ``client_peers``, the waiting line that of ``retries``, the room that of ``client_window``.
"""

from __future__ import annotations

import functools
import threading
import time
from typing import TYPE_CHECKING, Any

from raft_actors.client_sessions import ClientSessions, WriteRequest
from raft_actors.client_window import Window
from raft_actors.errors import (
    Incompatible,
    NotApplied,
    OutcomeUnknown,
    Overloaded,
    PeerFailed,
    RaftError,
    Refused,
    SessionExpired,
    Timeout,
)
from raft_actors.futures import RequestFuture
from raft_actors.remote import RemoteMailbox
from raft_actors.retries import Request, RetryLine

if TYPE_CHECKING:
    from collections.abc import Callable

    from raft_actors.client_peers import ClientPeers
    from raft_actors.intake import Mailbox

    _Asked = Mailbox | RemoteMailbox | None

__all__ = ["Tries", "deadline_in"]

PATIENCE, PATIENCE_ELSEWHERE = 1.0, 0.5
"""Seconds that the first try of a write may take, here and at a peer elsewhere, which may be frozen or cut off without
anybody noticing; the next may take twice that."""
INTERRUPTED = "interrupted while it was handed over"


class Tries:
    """What one client has under way, and what waits.

    Args:
        peers: whom it asks.
        resume: goes on with a write whose outcome is unknown; takes it and a timeout in seconds.

    Attributes:
        sessions: where writes get their numbers.
        closed: whether no more requests are taken.
    """

    def __init__(self, peers: ClientPeers, resume: Callable[[WriteRequest, float | None], Any]) -> None:
        self.closed = False
        self._peers = peers
        self._window = Window()
        self._line = RetryLine(self._try)
        self.sessions = ClientSessions(start=self._try, opened=self._line.hurry, again=resume)

    def close(self) -> None:
        """End them: what waits gets its last refusal. What a peer has taken is still answered."""
        self.closed = True
        self._line.close()

    def start(self, request: Request, seconds: float | None, *, block: bool) -> Any:
        """Take a request; returns its answer, or itself if nobody waits for that."""
        request.deadline = deadline_in(seconds)
        request.fetches = block and threading.current_thread() is not threading.main_thread()
        try:
            if self.closed:
                request.try_fail(self.closed_error())
            elif self._goes_past(request) or not self._line.join(request):
                self._try(request)
        except BaseException:  # an interrupt: nothing may wait for a write that nobody has
            request.try_fail(OutcomeUnknown(INTERRUPTED))
            raise
        return request.get() if block else request

    def _goes_past(self, request: Request) -> bool:
        """Whether it need not wait behind others: there are none, or they are another thread's that has too many."""
        return not self._line.busy or (request.alone and self._line.holds)

    def closed_error(self) -> Refused:
        """What a closed client says."""
        return Refused(f"the Client of {self._peers} is closed", advice="make a new Client")

    # -- one try -------------------------------------------------------------------------------------------------------

    def _try(self, request: Request) -> None:
        """Make one try, at the leader as far as it is known."""
        if isinstance(request, WriteRequest) and not self._in_session(request):
            return
        ticket = self._window.enter(request.size, alone=request.alone)
        if not ticket:
            self._hold(request)
            return
        request.sent = time.monotonic()
        attempt: RequestFuture[Any] = RequestFuture()
        mailbox: _Asked = None
        try:
            mailbox = self._peers.any_mailbox() if request.anywhere else self._peers.mailbox()
        except RaftError as error:
            attempt.try_fail(error)
        attempt.when_done(functools.partial(self._tried, request, ticket, mailbox))
        if mailbox is not None:
            attempt.deadline = _soon(request, elsewhere=isinstance(mailbox, RemoteMailbox))
            if request.fetches and isinstance(mailbox, RemoteMailbox):
                request.fetch = mailbox.fetch
            _post(request, mailbox, attempt)

    def _in_session(self, request: WriteRequest) -> bool:
        """Give a write its session; else it is answered, or waits until one is open."""
        try:
            reason = self.sessions.admit(request)
        except RaftError as error:
            request.try_fail(error)
            return False
        if reason is not None and not self._line.park(request, reason):
            request.try_fail(reason)
        return reason is None

    def _hold(self, request: Request) -> None:
        """It waits until others are answered."""
        reason = request.unknown or Overloaded("more requests of this Client are under way than are answered in time")
        if not self._line.hold(request, reason):
            request.try_fail(reason)

    def _tried(self, request: Request, ticket: int, asked: _Asked, attempt: RequestFuture[Any]) -> None:
        """A try has its answer: hand it on, or try again. Runs in the thread that answered."""
        error = attempt.failure
        self._window.leave(ticket, request.size, lost=isinstance(error, Overloaded | Timeout))
        if error is None:
            request.try_set(attempt.get(), attempt.index)
        elif not self._again(request, error, asked):
            request.try_fail(error, attempt.index)
        if self._line.holds and self._window.roomy:
            self._line.go_on()

    def _again(self, request: Request, error: BaseException, asked: _Asked) -> bool:
        """Whether ``request`` goes on in spite of ``error``."""
        match error:
            case SessionExpired() if isinstance(request, WriteRequest):
                try:
                    self.sessions.lost(request)
                except SessionExpired as final:
                    return request.try_fail(final)
            case OutcomeUnknown():
                if isinstance(request, WriteRequest):
                    request.unknown = error
            case PeerFailed() | Incompatible() if self._peers.all_failed():
                return False
            case NotApplied() | PeerFailed() | Incompatible():
                pass
            case _:
                return False
        reason = request.unknown or error
        if type(error) is NotApplied:  # an earlier write has to come first, and so has it for all that left after this
            return self._line.settle(request, reason, (time.monotonic() - request.sent) / 2)
        if not isinstance(error, Overloaded | SessionExpired):  # another peer may do better
            self._peers.pass_over(asked, error)
        return self._line.park(request, reason)


def _post(request: Request, mailbox: Mailbox | RemoteMailbox, attempt: RequestFuture[Any]) -> None:
    try:
        request.post(mailbox, attempt)
    except BaseException:  # an interrupt: the try may never be answered, and must not be under way for ever
        unknown = OutcomeUnknown(INTERRUPTED)
        request.try_fail(unknown)
        attempt.try_fail(unknown)
        raise


def _soon(request: Request, *, elsewhere: bool) -> float | None:
    """When to give up a try: what can be repeated at another peer does not wait long for one."""
    if not isinstance(request, WriteRequest) and not elsewhere:
        return request.deadline
    end = request.sent + (PATIENCE_ELSEWHERE if elsewhere else PATIENCE) * 2.0 ** min(request.tries, 10)
    return end if request.deadline is None else min(end, request.deadline)


def deadline_in(seconds: float | None) -> float | None:
    """The moment on the monotonic clock; ``None``: never."""
    return None if seconds is None else time.monotonic() + seconds
