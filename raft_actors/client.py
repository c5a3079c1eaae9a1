"""A client that follows the leader and retries what is safe, so that its user need not.

Who leads is the business of ``client_peers``, what becomes of a request over its tries that of ``client_tries``.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Iterable
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from raft_actors.arguments import PeerRef, seconds_of
from raft_actors.client_peers import ClientPeers
from raft_actors.client_sessions import WriteRequest
from raft_actors.client_tries import Tries, deadline_in
from raft_actors.codec import CheckedCodec, is_immutable_reply
from raft_actors.errors import (
    RaftError,
    Refused,
)
from raft_actors.futures import RequestFuture, refuse_if_forbidden
from raft_actors.remote import RemoteMailbox
from raft_actors.requests import check_read
from raft_actors.retries import Request

if TYPE_CHECKING:
    from types import TracebackType

    from raft_actors.intake import Mailbox
    from raft_actors.values import Status

__all__ = ["Client"]

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
        self._tries = Tries(self._peers, self._resume)
        _CLIENTS.add(self)

    def _begin_anew(self) -> None:
        """In a forked child: the session, its numbers, what waits and the connections are the parent's, who goes on."""
        self._peers.begin_anew()
        closed = self._tries.closed
        self._tries = Tries(self._peers, self._resume)
        self._tries.closed = closed

    def __repr__(self) -> str:
        return f"<raft_actors.Client of {self._peers}{', closed' if self._tries.closed else ''}>"

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
            request = self._tries.sessions.write(codec, data)
        except RaftError as error:
            return self._refuse(error, block=block)
        return self._tries.start(request, seconds, block=block)

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
        request = _Read(query, consistency, watch=not block)
        request.alone = self._tries.sessions.last is None
        return self._tries.start(request, seconds, block=block)

    # -- the cluster ---------------------------------------------------------------------------------------------------

    def leader(self) -> str | None:
        """The full name of the leader; waits up to the client's timeout while there is none.

        Returns:
            Its name, or ``None`` if there was none in time; ``status`` tells why a peer did not answer.

        Raises:
            Refused: the client is closed; or none of the peers may tell: ``Unauthorized``, say.
        """
        self._check_open()
        refuse_if_forbidden()
        deadline, refused = deadline_in(self._timeout), 0
        while True:
            try:
                return self._peers.find_leader(None if deadline is None else max(deadline - time.monotonic(), 0.0))
            except RaftError as error:
                refused = refused + 1 if isinstance(error, Refused) else 0
                if refused >= len(self._peers.names):  # by all of them
                    raise
                if deadline is not None and time.monotonic() >= deadline:
                    return None
            time.sleep(LOOK_AGAIN)
            self._check_open()

    def status(self) -> dict[str, Status | RaftError]:
        """What each peer last published, by name; for one that cannot be asked, the error that says why.

        Raises:
            Refused: the client is closed.
        """
        self._check_open()
        return self._peers.status(self._timeout)

    def close(self) -> None:
        """End the retries: what waits for one gets its last refusal. What a peer has taken is still answered."""
        self._tries.close()

    # -- one request ---------------------------------------------------------------------------------------------------

    def _seconds(self, timeout: float | None, *, block: bool) -> float | None:
        """How long a request may take. What a caller did wrong is told before a write gets a number."""
        seconds = self._timeout if timeout is None else seconds_of(timeout, "timeout")
        if block:
            refuse_if_forbidden()
        return seconds

    def _resume(self, request: WriteRequest, timeout: float | None) -> Any:
        """Go on with a write whose outcome is unknown."""
        seconds = self._seconds(timeout, block=True)
        return self._tries.start(request.once_more(), seconds, block=True)

    def _refuse(self, error: RaftError, *, block: bool) -> RequestFuture[Any]:
        if block:
            raise error
        future: RequestFuture[Any] = RequestFuture()
        future.try_fail(error)
        return future

    def _check_open(self) -> None:
        if self._tries.closed:
            raise self._tries.closed_error()


class _Read(Request):
    """A read, over as many tries as it takes."""

    def __init__(self, query: Any, consistency: str, *, watch: bool) -> None:
        super().__init__(anywhere=consistency == "stale")
        self._asked = query, consistency, watch

    def post(self, mailbox: Mailbox | RemoteMailbox, attempt: RequestFuture[Any]) -> None:
        """Make one try."""
        query, consistency, watch = self._asked
        mailbox.read(query, consistency, attempt, watch=watch, min_index=None)


def _copied(codec: CheckedCodec, query: Any) -> Any:
    return codec.decode(codec.encode_checked(query))


_CLIENTS: weakref.WeakSet[Client] = weakref.WeakSet()


def _begin_anew_in_child() -> None:
    """Parent and child must not number their writes in one session: the replicas would take them for the same ones."""
    for client in list(_CLIENTS):
        client._begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew_in_child)
