"""Requests to peers of other processes: what a caller has in hand, as the mailbox of a peer of this process would be.

Commands and queries travel in ``plain``, or pickled between those who trust each other by their keys. Which of the two
is known once the connection stands, so a request is made when it leaves; but what the caller gave is encoded at once:
who changes it later changes nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

from raft_actors.addresses import Place, full_name
from raft_actors.codec import CheckedCodec, resolve
from raft_actors.errors import Incompatible, InvalidCommand, OutcomeUnknown, RaftError
from raft_actors.futures import RequestFuture, refuse_if_forbidden
from raft_actors.network import LARGEST_COMMAND, NETWORK
from raft_actors.remote_values import error_from, number_from
from raft_actors.transport.frames import Answer, Failed, OpenSession, Operation, Query, SessionCommand, Submit
from raft_actors.transport.zeromq.pending import Pending

if TYPE_CHECKING:
    from collections.abc import Callable

    from raft_actors.protocol.sessions import SessionWrite
    from raft_actors.transport.zeromq.wire import Wire

__all__ = ["LOOKING", "RemoteMailbox", "ask", "call"]

T = TypeVar("T")

ANSWERING = 1.0
"""Seconds beyond the deadline for an answer that says why nothing came of it in time, from a peer or two further on."""
GRACE = 0.5
"""Seconds beyond it within which the wire says that there was none, and whose."""
LOOKING = 5.0
"""Seconds for an answer that waits for nothing but the network."""
UNTIL_ASKED = 1e8
PLAIN, PICKLE = resolve("plain"), resolve("cloudpickle")


class RemoteMailbox:
    """The requests of callers to one peer elsewhere; what a ``Mailbox`` is for a peer of this process.

    Args:
        place: the peer.
        wire: what reaches it.
    """

    def __init__(self, place: Place, wire: Wire) -> None:
        self.place = place
        self._wire = wire

    @property
    def codec(self) -> CheckedCodec:
        """What commands are encoded with here; what the other side may not be sent is made plain when it leaves."""
        if not self._wire.has_keys:
            return PLAIN
        link = self._wire.link(self.place.address)
        return PLAIN if link is not None and link.state == "ready" and not link.pickle else PICKLE

    def write(self, command: Any, future: RequestFuture[Any], *, watch: bool) -> None:
        """As ``Mailbox.write``."""
        if not watch:
            future.fetch = self.fetch
        self._ask(Submit, command, future)

    def read(
        self, query: Any, consistency: str, future: RequestFuture[Any], *, watch: bool, min_index: int | None
    ) -> None:
        """As ``Mailbox.read``."""
        if not watch:
            future.fetch = self.fetch
        self._ask(lambda data, codec: Query(data, codec, consistency, min_index), query, future)

    def write_session(self, write: SessionWrite, future: RequestFuture[Any], *, watch: bool) -> None:
        """As ``Mailbox.write_session``; its command is encoded by our ``codec``."""
        del watch
        self._ask_encoded(
            lambda data, codec: SessionCommand(*write[:-1], data, codec), write.command, self.codec, future
        )

    def open_session(self, nonce: int, future: RequestFuture[Any]) -> None:
        """As ``Mailbox.open_session``."""
        ask(self.place, self._wire, OpenSession(nonce), future, number_from, deadline=_deadline(future))

    def _ask(self, kind: Callable[[bytes, str], Operation], value: Any, future: RequestFuture[Any]) -> None:
        try:
            codec = self.codec
            data = codec.encode_checked(value)
        except RaftError as error:
            future.try_fail(error)
            return
        self._ask_encoded(kind, data, codec, future)

    def _ask_encoded(
        self, kind: Callable[[bytes, str], Operation], data: bytes, codec: CheckedCodec, future: RequestFuture[Any]
    ) -> None:
        try:
            asked = _Encoded(self.place, future, kind, _checked(data), codec, trusted=self._wire.has_keys)
        except RaftError as error:
            future.try_fail(error)
        else:
            self._wire.request(asked)

    def fetch(self, future: RequestFuture[Any], seconds: float) -> None:
        """Wait for the answer where it comes (``Wire.fetch``)."""
        self._wire.fetch(self.place.address, future, seconds)


def _deadline(future: RequestFuture[Any]) -> float:
    deadline = future.deadline
    return time.monotonic() + UNTIL_ASKED if deadline is None else deadline


def _checked(data: bytes) -> bytes:
    """Refuse here what would end the connection there."""
    if len(data) > LARGEST_COMMAND:
        raise InvalidCommand(
            f"the request takes {len(data)} bytes, over a network it has at most {LARGEST_COMMAND}", advice="split it"
        )
    return data


class _Question(Pending):
    """A request whose answer is that of a future, which is answered in any case."""

    __slots__ = ("future",)
    future: RequestFuture[Any]

    def value(self, answer: Answer) -> Any:
        """The value of an answer; it may raise anything."""
        raise NotImplementedError

    def done(self, result: Answer | Failed | RaftError) -> None:
        """As of every request."""
        if type(result) is not Answer:
            self._fail(result)
            return
        try:
            self.future.try_set(self.value(result), result.index)
        except RaftError as error:
            self.future.try_fail(error, result.index)
        except Exception as error:  # noqa: BLE001 - whoever waits is answered, whatever the other side sent
            unknown = OutcomeUnknown("the answer of the other process cannot be read")
            unknown.__cause__ = error
            self.future.try_fail(unknown, result.index)

    def _fail(self, result: Answer | Failed | RaftError) -> None:
        if isinstance(result, Failed):
            self.future.try_fail(error_from(result), result.index)
        elif isinstance(result, RaftError):
            self.future.try_fail(result)


class _Encoded(_Question):
    """A write or a read: its command or query is encoded already, and so is the reply.

    Args:
        place: the peer.
        future: to be answered.
        kind: makes what is asked of bytes and the name of their codec.
        data: the command or the query.
        codec: what it was encoded with.
        trusted: whether the other side is known by its key, so that a pickle of it is loaded.
    """

    __slots__ = ("codec", "data", "kind", "trusted")

    def __init__(
        self,
        place: Place,
        future: RequestFuture[Any],
        kind: Callable[[bytes, str], Operation],
        data: bytes,
        codec: CheckedCodec,
        *,
        trusted: bool,
    ) -> None:
        super().__init__(place.address, place.name, _deadline(future))
        self.future = future
        self.kind = kind
        self.data = data
        self.codec = codec
        self.trusted = trusted

    def operation(self, *, pickle: bool) -> Operation:
        """A pickle is made plain where none is taken."""
        if self.codec is PICKLE and not pickle:
            return self.kind(_checked(PLAIN.encode(PICKLE.decode(self.data))), PLAIN.name)
        return self.kind(self.data, self.codec.name)

    def value(self, answer: Answer) -> Any:
        """Decoded by the codec that the other side has chosen, if it may."""
        codec = answer.codec
        if codec == PICKLE.name and self.trusted:
            return PICKLE.decode(answer.value)
        if codec == PLAIN.name:
            return PLAIN.decode(answer.value)
        raise Incompatible(f"the reply of {full_name(self.to, self.address)} came in codec {codec!r:.40}")


class _Simple(_Question):
    """Any other request, with what makes the value of its answer."""

    __slots__ = ("asked", "decode")
    asked: Operation
    decode: Callable[[bytes], Any]

    def operation(self, *, pickle: bool) -> Operation:
        """The same for everybody."""
        del pickle
        return self.asked

    def value(self, answer: Answer) -> Any:
        """As whoever asked understands it."""
        return self.decode(answer.value)


def ask(
    place: Place,
    wire: Wire,
    operation: Operation,
    future: RequestFuture[T],
    decode: Callable[[bytes], T],
    *,
    deadline: float,
    spare: float = 0.0,
) -> None:
    """Put a request to a peer elsewhere; ``future`` is answered in any case.

    Args:
        place: the peer.
        wire: what reaches it.
        operation: what is asked.
        future: to be answered.
        decode: the value of an answer.
        deadline: until when, on the monotonic clock.
        spare: seconds before it that the other side has to be done by.
    """
    question = _Simple(place.address, place.name, deadline, spare)
    question.future, question.asked, question.decode = future, operation, decode
    wire.request(question)


def call(
    place: Place, operation: Operation, decode: Callable[[bytes], T], *, deadline: float, spare: float = ANSWERING
) -> T:
    """Put a request to a peer elsewhere, and wait for the answer, ``spare`` seconds longer than that peer may take.

    Raises:
        RaftError: the answer, or that there was none by ``deadline``.
    """
    refuse_if_forbidden()
    future: RequestFuture[T] = RequestFuture()
    until = deadline + spare
    future.deadline = until + GRACE
    ask(place, NETWORK.wire_to(place.address), operation, future, decode, deadline=until, spare=spare)
    return future.get()
