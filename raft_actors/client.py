"""A client that follows the leader and retries what is safe, so that its user need not.

Rule: a write is sent again only after an answer that says it had no effect (``NotApplied``, or the failure of a peer
that had not appended it); a read also after an unknown outcome, since repeating it changes nothing. A write whose
outcome is unknown is never repeated: its caller is told.

The leader is looked up in what the peers of this process publish, so that the first try is rarely wrong. Tries after a
refusal are the business of ``retries``.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import pykka

from raft_actors import api, names
from raft_actors.arguments import PeerRef, name_of, seconds_of
from raft_actors.behaviours.transition import is_removed
from raft_actors.codec import CheckedCodec, is_immutable_reply, resolve
from raft_actors.errors import (
    ElectionInProgress,
    Incompatible,
    NotApplied,
    NotConfigured,
    OutcomeUnknown,
    Overloaded,
    PeerFailed,
    RaftError,
    Refused,
    UnknownPeer,
)
from raft_actors.futures import RequestFuture, refuse_if_forbidden
from raft_actors.requests import check_read
from raft_actors.retries import Request, RetryLine
from raft_actors.supervisor import Handle

if TYPE_CHECKING:
    from types import TracebackType

    from raft_actors.intake import Mailbox
    from raft_actors.values import Status

__all__ = ["Client"]

WITHOUT_EFFECT = (NotApplied, PeerFailed, Incompatible)
"""What a peer answers to a request that it has not appended. Incompatible: it stopped at an entry it cannot decode."""
LOOK_AGAIN = 0.01
"""Seconds between two looks for a leader."""


class Client:
    """Writes and reads through whoever leads; safe to use from any number of threads.

    Writes that one thread gives with ``block=False`` are applied in their order as long as the leader does not change;
    if it does, those that it refused follow the others.

    Args:
        peers: names of peers of this process, or one name; ``ActorRef``s too. Not all of them need to run, nor to be
            members for ever: the client goes on with the members that the last leader knew.
        timeout: seconds for each request that brings no timeout of its own; ``None``: for ever.

    Raises:
        UnknownPeer: a peer of another process, which this version cannot reach.
        InvalidName: nobody can have this name.
        ValueError: no peers are given, or the timeout is negative.

    Example:
        >>> with Client(["s1", "s2", "s3"]) as client:  # doctest: +SKIP
        ...     client.write(("set", "foo", "bar"))
        ('ok', 'foo', 'bar')
    """

    def __init__(self, peers: Iterable[PeerRef] | PeerRef, *, timeout: float | None = 5.0) -> None:
        several = [peers] if isinstance(peers, str | pykka.ActorRef) else list(peers)
        self._peers = tuple(dict.fromkeys(_local_name(peer) for peer in several))
        if not self._peers:
            raise ValueError("a Client needs the name of at least one peer")
        self._timeout = seconds_of(timeout, "timeout")
        self._leader: Handle | None = None
        self._members: tuple[str, ...] = ()
        self._line = RetryLine(self._try)
        self._closed = False

    def __repr__(self) -> str:
        return f"<raft_actors.Client of {', '.join(self._peers)}{', closed' if self._closed else ''}>"

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
            OutcomeUnknown: it may or may not be applied; ``Timeout`` is one. It was not repeated.
            InvalidCommand: it cannot be encoded or is too large.
            CommandFailed: ``handle_write`` raised; ``__cause__`` is the exception.
            PeerFailed: all peers of this client have stopped themselves.
            Refused: the client is closed.
        """
        try:
            codec = self._codec()
            data = codec.encode_checked(command)
        except RaftError as error:
            return self._refuse(error, block=block)
        post = functools.partial(_post_write, codec, data, not block)
        return self._start(Request(post), timeout, block=block)

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
        try:
            query = query if is_immutable_reply(query) else _copied(self._codec(), query)
        except RaftError as error:
            return self._refuse(error, block=block)
        post = functools.partial(_post_read, query, consistency, not block)
        request = Request(post, harmless=True, anywhere=consistency == "stale")
        return self._start(request, timeout, block=block)

    # -- the cluster ---------------------------------------------------------------------------------------------------

    def leader(self) -> str | None:
        """The name of the leader; waits up to the client's timeout while there is none.

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
                return self._find_leader().name
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
        return {name: _status_or_error(name) for name in self._peers}

    def close(self) -> None:
        """End the retries: what waits for one gets its last refusal. What a peer has taken is still answered."""
        self._closed = True
        self._line.close()

    # -- one request ---------------------------------------------------------------------------------------------------

    def _start(self, request: Request, timeout: float | None, *, block: bool) -> Any:
        seconds = self._timeout if timeout is None else seconds_of(timeout, "timeout")
        if block:
            refuse_if_forbidden()
        request.deadline = _deadline(seconds)
        if self._closed:
            request.try_fail(self._closed_error())
        elif not (self._line.busy and self._line.join(request)):
            self._try(request)
        return request.get() if block else request

    def _try(self, request: Request) -> None:
        """Make one try, at the leader as far as it is known."""
        attempt: RequestFuture[Any] = RequestFuture()
        attempt.deadline = request.deadline
        attempt.when_done(functools.partial(self._tried, request))
        try:
            mailbox = self._mailbox(request)
        except RaftError as error:
            attempt.try_fail(error)
        else:
            request.post(mailbox, attempt)

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
        if not isinstance(error, WITHOUT_EFFECT) and not (request.harmless and isinstance(error, OutcomeUnknown)):
            return False
        if isinstance(error, PeerFailed | Incompatible) and self._all_failed():
            return False
        if not isinstance(error, Overloaded):
            self._forget_leader()
        return self._line.park(request, error)

    def _refuse(self, error: RaftError, *, block: bool) -> RequestFuture[Any]:
        if block:
            raise error
        future: RequestFuture[Any] = RequestFuture()
        future.try_fail(error)
        return future

    # -- finding peers -------------------------------------------------------------------------------------------------

    def _mailbox(self, request: Request) -> Mailbox:
        if request.anywhere:
            return self._any_mailbox()
        handle = self._leader
        if handle is None or handle.mailbox is None:
            handle = self._leader = self._find_leader()
        return handle.open_mailbox()

    def _any_mailbox(self) -> Mailbox:
        for handle in self._handles():
            if handle.mailbox is not None:
                return handle.open_mailbox()
        raise self._why_no_leader()

    def _forget_leader(self) -> None:
        """Look for another one, among the members that this one knew too: the peers given may be none any more."""
        leader, self._leader = self._leader, None
        if leader is not None and leader.state is not None:
            self._members = tuple(leader.state.configuration.members())

    def _find_leader(self) -> Handle:
        """Who leads, by the newest term that any of our peers has published.

        Raises:
            RaftError: nobody; the error says what is the matter.
        """
        found, newest = None, -1
        asked = list(dict.fromkeys((*self._peers, *self._members)))
        for name in asked:
            handle = names.whereis(name)
            state = handle.state if isinstance(handle, Handle) and handle.running else None
            if state is not None and is_removed(state):
                asked += (other for other in state.configuration.members() if other not in asked)
            elif state is not None and state.leader is not None and state.term > newest:
                leader = names.whereis(state.leader)
                if isinstance(leader, Handle) and leader.running:
                    found, newest = leader, state.term
        if found is None:
            raise self._why_no_leader()
        return found

    def _why_no_leader(self) -> RaftError:
        handles = self._handles()
        running = [handle for handle in handles if handle.running]
        if any(handle.state is not None and handle.state.cluster for handle in running):
            return ElectionInProgress(f"none of the peers {', '.join(self._peers)} knows a leader at the moment")
        if running:
            return NotConfigured(f"peer {running[0].name!r} is not part of a cluster yet")
        reasons = [handle.why_closed() for handle in handles]
        gentle = [reason for reason in reasons if isinstance(reason, NotApplied)]
        return (gentle or reasons or [UnknownPeer(self._peers[0])])[0]

    def _all_failed(self) -> bool:
        handles = self._handles()
        return len(handles) == len(self._peers) and all(handle.failed for handle in handles)

    def _handles(self) -> list[Handle]:
        found = (names.whereis(name) for name in self._peers)
        return [handle for handle in found if isinstance(handle, Handle)]

    def _codec(self) -> CheckedCodec:
        """The codec of the cluster; the default one while no peer is there to tell."""
        handle = self._leader
        if handle is None:
            handle = next(iter(self._handles()), None)
        return _default_codec() if handle is None else handle.codec

    def _check_open(self) -> None:
        if self._closed:
            raise self._closed_error()

    def _closed_error(self) -> Refused:
        return Refused(f"the Client of {', '.join(self._peers)} is closed", advice="make a new Client")


def _post_write(codec: CheckedCodec, data: bytes, watch: bool, mailbox: Mailbox, attempt: RequestFuture[Any]) -> None:  # noqa: FBT001
    if mailbox.codec.name == codec.name:
        mailbox.write_encoded(data, attempt, watch=watch)
    else:  # no peer was there to name its codec when the command was given
        mailbox.write(codec.decode(data), attempt, watch=watch)


def _post_read(query: Any, consistency: str, watch: bool, mailbox: Mailbox, attempt: RequestFuture[Any]) -> None:  # noqa: FBT001
    mailbox.read(query, consistency, attempt, watch=watch, min_index=None)


def _copied(codec: CheckedCodec, query: Any) -> Any:
    return codec.decode(codec.encode_checked(query))


def _local_name(peer: PeerRef) -> str:
    if isinstance(peer, str) and "@" in peer:
        raise UnknownPeer(
            peer,
            f"peer {peer!r} is in another process",
            advice="this version reaches peers of its own process only, by their short names",
        )
    return name_of(peer)


def _status_or_error(name: str) -> Status | RaftError:
    try:
        return api.status(name)
    except RaftError as error:
        return error


def _deadline(seconds: float | None) -> float | None:
    return None if seconds is None else time.monotonic() + seconds


@functools.cache
def _default_codec() -> CheckedCodec:
    return resolve("cloudpickle")
