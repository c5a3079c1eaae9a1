"""A client that follows the leader and retries what is safe, so that its user need not.

Rule: a request is sent again after an answer that says it had no effect (``NotApplied``, or the failure of a peer that
had not appended it), and after an unknown outcome, too: a read, since repeating it changes nothing, and a write, since
it has a number in a session and is applied once, however often it comes (``client_sessions``).

Who leads is the business of ``client_peers``, tries after a refusal that of ``retries``.
"""

from __future__ import annotations

import functools
import os
import threading
import time
import weakref
from collections.abc import Iterable
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from raft_actors.arguments import PeerRef, seconds_of
from raft_actors.client_peers import ClientPeers
from raft_actors.client_sessions import ClientSessions, WriteRequest
from raft_actors.codec import CheckedCodec, is_immutable_reply
from raft_actors.errors import (
    Incompatible,
    NotApplied,
    OutcomeUnknown,
    Overloaded,
    PeerFailed,
    RaftError,
    Refused,
    SessionExpired,
)
from raft_actors.futures import RequestFuture, refuse_if_forbidden
from raft_actors.remote import RemoteMailbox
from raft_actors.requests import check_read
from raft_actors.retries import Request, RetryLine

if TYPE_CHECKING:
    from types import TracebackType

    from raft_actors.intake import Mailbox
    from raft_actors.values import Status

__all__ = ["Client"]

WITHOUT_EFFECT = (NotApplied, PeerFailed, Incompatible)
"""What a peer answers to a request that it has not appended. Incompatible: it stopped at an entry it cannot decode."""
PATIENCE, PATIENCE_ELSEWHERE = 1.0, 0.5
"""Seconds that the first try of a write may take, here and at a peer elsewhere, which may be frozen or cut off without
anybody noticing; the next may take twice that."""
LOOK_AGAIN = 0.01
"""Seconds between two looks for a leader."""


class Client:
    """Writes and reads through whoever leads; safe to use from any number of threads.

    Each write is applied exactly once, also if it has to be sent again because a leader died or an answer got lost.
    Writes that one thread gives with ``block=False`` are applied in their order.

    Args:
        peers: names of peers, or one name; ``ActorRef``s too. ``"s1"`` is one of this process, ``"s1@host:port"`` one
            wherever it is. Not all of them need to run, nor to be members for ever: the client goes on with the members
            that the last leader knew.
        timeout: seconds for each request that brings no timeout of its own; ``None``: for ever.
        keys: a folder of keys (``raft-actors keygen``), with which peers elsewhere are spoken to. ``None``: those of
            this process's node; without a node only this machine is spoken to, without keys.

    Raises:
        InvalidName: nobody can have this name.
        InvalidConfig: there are no keys in the folder.
        Unauthorized: a peer is on another machine, and there are no keys.
        MissingExtra: a peer is in another process, and pyzmq is not installed.
        ValueError: no peers are given, or the timeout is negative.

    Example:
        >>> with Client(["s1", "s2", "s3"]) as client:  # doctest: +SKIP
        ...     client.write(("set", "foo", "bar"))
        ('ok', 'foo', 'bar')
    """

    def __init__(
        self,
        peers: Iterable[PeerRef] | PeerRef,
        *,
        timeout: float | None = 5.0,
        keys: str | PathLike[str] | None = None,
    ) -> None:
        self._peers = ClientPeers(peers, keys)
        self._timeout = seconds_of(timeout, "timeout")
        self._closed = False
        self._begin()
        _CLIENTS.add(self)

    def _begin(self) -> None:
        """With no session yet, and nothing that waits."""
        self._line = RetryLine(self._try)
        self._sessions = ClientSessions(start=self._try, opened=self._line.hurry, again=self._resume)

    def _begin_anew(self) -> None:
        """In a forked child: the session, its numbers, what waits and the connections are the parent's, who goes on."""
        self._peers.begin_anew()
        self._begin()

    def __repr__(self) -> str:
        return f"<raft_actors.Client of {self._peers}{', closed' if self._closed else ''}>"

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    # -- requests ------------------------------------------------------------------------------------------------------

    @overload
    def write(self, command: Any, *, timeout: float | None = None, block: Literal[True] = True) -> Any: ...

    @overload
    def write(self, command: Any, *, timeout: float | None = None, block: Literal[False]) -> RequestFuture[Any]: ...

    @overload
    def write(self, command: Any, *, timeout: float | None = None, block: bool) -> Any: ...

    def write(self, command: Any, *, timeout: float | None = None, block: bool = True) -> Any:
        """Apply ``command`` on every replica and return the machine's reply.

        Args:
            command: anything that the peers' codec can encode. It is copied before this returns.
            timeout: seconds over all tries; ``None``: the client's own.
            block: ``False`` returns a future at once, which carries every ``RaftError``.

        Returns:
            What ``handle_write`` replied, or the future of it.

        Raises:
            NotApplied: the last refusal, if no peer took it in time: it had certainly no effect.
            OutcomeUnknown: no definite answer in time; ``Timeout`` is one. Its ``retry(timeout)`` goes on.
            SessionExpired: the client was silent for ``Config.session_timeout`` between two tries of this write.
            InvalidCommand: it cannot be encoded or is too large.
            CommandFailed: ``handle_write`` raised; ``__cause__`` is the exception.
            PeerFailed: all peers of this client have stopped themselves.
            Refused: the client is closed.
        """
        seconds = self._seconds(timeout, block=block)
        try:
            codec = self._peers.codec()
            data = codec.encode_checked(command)
            request = self._sessions.write(codec, data)
        except RaftError as error:
            return self._refuse(error, block=block)
        return self._start(request, seconds, block=block)

    @overload
    def read(
        self,
        query: Any,
        *,
        consistency: str = "linearizable",
        timeout: float | None = None,
        block: Literal[True] = True,
    ) -> Any: ...

    @overload
    def read(
        self, query: Any, *, consistency: str = "linearizable", timeout: float | None = None, block: Literal[False]
    ) -> RequestFuture[Any]: ...

    @overload
    def read(
        self, query: Any, *, consistency: str = "linearizable", timeout: float | None = None, block: bool
    ) -> Any: ...

    def read(
        self, query: Any, *, consistency: str = "linearizable", timeout: float | None = None, block: bool = True
    ) -> Any:
        """Answer ``query`` from the machine's state.

        Args:
            query: given to ``handle_read``. It is copied before this returns.
            consistency: ``"linearizable"``, ``"lease"`` or ``"stale"``, as of ``raft_actors.read``.
            timeout: seconds over all tries; ``None``: the client's own.
            block: ``False`` returns a future at once, which carries every ``RaftError``.

        Returns:
            What ``handle_read`` replied, or the future of it.

        Raises:
            ValueError: an unknown ``consistency``.
            RaftError: as ``write``; an unknown outcome only if the time is over.
        """
        check_read(consistency, None)
        seconds = self._seconds(timeout, block=block)
        try:
            query = query if is_immutable_reply(query) else _copied(self._peers.codec(), query)
        except RaftError as error:
            return self._refuse(error, block=block)
        post = functools.partial(_post_read, query, consistency, not block)
        request = Request(post, harmless=True, anywhere=consistency == "stale")
        return self._start(request, seconds, block=block)

    # -- the cluster ---------------------------------------------------------------------------------------------------

    def leader(self) -> str | None:
        """The full name of the leader; waits up to the client's timeout while there is none.

        Returns:
            Its name, or ``None`` if there was none in time.

        Raises:
            Refused: the client is closed.
        """
        self._check_open()
        refuse_if_forbidden()
        deadline = _deadline(self._timeout)
        while True:
            try:
                return self._peers.find_leader(None if deadline is None else max(deadline - time.monotonic(), 0.0))
            except RaftError:
                if deadline is not None and time.monotonic() >= deadline:
                    return None
            time.sleep(LOOK_AGAIN)

    def status(self) -> dict[str, Status | RaftError]:
        """What each peer last published, by name; for one that cannot be asked, the error that says why.

        Raises:
            Refused: the client is closed.
        """
        self._check_open()
        return self._peers.status(self._timeout)

    def close(self) -> None:
        """End the retries: what waits for one gets its last refusal. What a peer has taken is still answered."""
        self._closed = True
        self._line.close()

    # -- one request ---------------------------------------------------------------------------------------------------

    def _seconds(self, timeout: float | None, *, block: bool) -> float | None:
        """How long a request may take. What a caller did wrong is told before a write gets a number."""
        seconds = self._timeout if timeout is None else seconds_of(timeout, "timeout")
        if block:
            refuse_if_forbidden()
        return seconds

    def _start(self, request: Request, seconds: float | None, *, block: bool) -> Any:
        request.deadline = _deadline(seconds)
        request.fetches = block and threading.current_thread() is not threading.main_thread()
        try:
            if self._closed:
                request.try_fail(self._closed_error())
            elif not (self._line.busy and self._line.join(request)):
                self._try(request)
        except BaseException:  # an interrupt: nothing may wait for a write that nobody has
            request.try_fail(OutcomeUnknown("interrupted while it was handed over"))
            raise
        return request.get() if block else request

    def _try(self, request: Request) -> None:
        """Make one try, at the leader as far as it is known."""
        if isinstance(request, WriteRequest) and not self._in_session(request):
            return
        attempt: RequestFuture[Any] = RequestFuture()
        attempt.when_done(functools.partial(self._tried, request))
        try:
            mailbox = self._peers.any_mailbox() if request.anywhere else self._peers.mailbox()
        except RaftError as error:
            attempt.try_fail(error)
        else:
            attempt.deadline = _soon(request, elsewhere=isinstance(mailbox, RemoteMailbox))
            if request.fetches and isinstance(mailbox, RemoteMailbox):
                request.fetch = mailbox.fetch
            request.post(mailbox, attempt)

    def _in_session(self, request: WriteRequest) -> bool:
        """Give a write its session; else it is answered, or waits until one is open."""
        try:
            reason = self._sessions.admit(request)
        except RaftError as error:
            request.try_fail(error)
            return False
        if reason is not None and not self._line.park(request, reason):
            request.try_fail(reason)
        return reason is None

    def _resume(self, request: WriteRequest, timeout: float | None) -> Any:
        """Go on with a write whose outcome is unknown."""
        seconds = self._seconds(timeout, block=True)
        return self._start(self._sessions.resumed(request), seconds, block=True)

    def _tried(self, request: Request, attempt: RequestFuture[Any]) -> None:
        """A try has its answer: hand it on, or try again. Runs in the thread that answered."""
        try:
            value = attempt.get()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            if not self._again(request, error):
                request.try_fail(error, attempt.index)
        else:
            request.try_set(value, attempt.index)

    def _again(self, request: Request, error: Exception) -> bool:
        if isinstance(request, WriteRequest):
            return self._write_again(request, error)
        if isinstance(error, WITHOUT_EFFECT) or (request.harmless and isinstance(error, OutcomeUnknown)):
            return self._later(request, error, error)
        return False

    def _write_again(self, request: WriteRequest, error: Exception) -> bool:
        match error:
            case SessionExpired():
                try:
                    self._sessions.lost(request)
                except SessionExpired as final:
                    request.try_fail(final)
                    return True
            case OutcomeUnknown():
                request.unknown = error
            case NotApplied() | PeerFailed() | Incompatible():
                pass
            case _:
                return False
        return self._later(request, error, request.unknown or error)

    def _later(self, request: Request, error: Exception, reason: RaftError) -> bool:
        if isinstance(error, PeerFailed | Incompatible) and self._peers.all_failed():
            return False
        if not isinstance(error, Overloaded):
            self._peers.forget_leader(error)
        return self._line.park(request, reason)

    def _refuse(self, error: RaftError, *, block: bool) -> RequestFuture[Any]:
        if block:
            raise error
        future: RequestFuture[Any] = RequestFuture()
        future.try_fail(error)
        return future

    def _check_open(self) -> None:
        if self._closed:
            raise self._closed_error()

    def _closed_error(self) -> Refused:
        return Refused(f"the Client of {self._peers} is closed", advice="make a new Client")


def _post_read(
    query: Any,
    consistency: str,
    watch: bool,  # noqa: FBT001
    mailbox: Mailbox | RemoteMailbox,
    attempt: RequestFuture[Any],
) -> None:
    mailbox.read(query, consistency, attempt, watch=watch, min_index=None)


def _copied(codec: CheckedCodec, query: Any) -> Any:
    return codec.decode(codec.encode_checked(query))


def _soon(request: Request, *, elsewhere: bool) -> float | None:
    """When to give up a try: what can be repeated at another peer does not wait long for one."""
    if not isinstance(request, WriteRequest) and not elsewhere:
        return request.deadline
    end = time.monotonic() + (PATIENCE_ELSEWHERE if elsewhere else PATIENCE) * 2.0 ** min(request.tries, 10)
    return end if request.deadline is None else min(end, request.deadline)


def _deadline(seconds: float | None) -> float | None:
    return None if seconds is None else time.monotonic() + seconds


_CLIENTS: weakref.WeakSet[Client] = weakref.WeakSet()


def _begin_anew_in_child() -> None:
    """Parent and child must not number their writes in one session: the replicas would take them for the same ones."""
    for client in list(_CLIENTS):
        client._begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew_in_child)
