"""Requests to peers of other processes: what a caller has in hand, as the mailbox of a peer of this process would be.

Commands and queries travel in ``plain``, or pickled between those who trust each other by their keys. Which of the two
is known once the connection stands, so a request is made when it leaves; but what the caller gave is encoded at once:
who changes it later changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from raft_actors.addresses import Place, full_name
from raft_actors.codec import CheckedCodec, resolve
from raft_actors.errors import Incompatible, OutcomeUnknown, RaftError
from raft_actors.futures import RequestFuture, refuse_if_forbidden
from raft_actors.network import NETWORK
from raft_actors.remote_values import error_from, number_from
from raft_actors.transport.frames import Answer, Failed, OpenSession, Operation, Query, SessionCommand, Submit

if TYPE_CHECKING:
    from raft_actors.protocol.sessions import SessionWrite
    from raft_actors.transport.zeromq.wire import Wire

__all__ = ["LOOKING", "RemoteMailbox", "ask", "call"]

T = TypeVar("T")

ANSWERING = 1.0
"""Seconds beyond the deadline for an answer that says why nothing came of it in time, from a peer or two further on."""
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
        del watch
        self._send(Submit, command, future)

    def read(
        self, query: Any, consistency: str, future: RequestFuture[Any], *, watch: bool, min_index: int | None
    ) -> None:
        """As ``Mailbox.read``."""
        del watch
        self._send(lambda data, codec: Query(data, codec, consistency, min_index), query, future)

    def write_session(self, write: SessionWrite, future: RequestFuture[Any], *, watch: bool) -> None:
        """As ``Mailbox.write_session``; its command is encoded by our ``codec``."""
        del watch
        self._send_encoded(
            lambda data, codec: SessionCommand(*write[:-1], data, codec), write.command, self.codec, future
        )

    def open_session(self, nonce: int, future: RequestFuture[Any]) -> None:
        """As ``Mailbox.open_session``."""
        self._request(lambda pickle: OpenSession(nonce), future, lambda answer: number_from(answer.value))

    def _send(self, make: Callable[[bytes, str], Operation], value: Any, future: RequestFuture[Any]) -> None:
        try:
            codec = self.codec
            data = codec.encode_checked(value)
        except RaftError as error:
            future.try_fail(error)
            return
        self._send_encoded(make, data, codec, future)

    def _send_encoded(
        self, make: Callable[[bytes, str], Operation], data: bytes, codec: CheckedCodec, future: RequestFuture[Any]
    ) -> None:
        def operation(pickle: bool) -> Operation:  # noqa: FBT001
            if codec is PICKLE and not pickle:
                return make(PLAIN.encode(PICKLE.decode(data)), PLAIN.name)
            return make(data, codec.name)

        self._request(operation, future, self._decoded)

    def _decoded(self, answer: Answer) -> Any:
        if answer.codec == PLAIN.name:
            return PLAIN.decode(answer.value)
        if answer.codec == PICKLE.name and self._wire.has_keys:
            return PICKLE.decode(answer.value)
        raise Incompatible(f"the reply of {full_name(*self.place)} came in codec {answer.codec!r:.40}")

    def _request(
        self, make: Callable[[bool], Operation], future: RequestFuture[Any], decode: Callable[[Answer], Any]
    ) -> None:
        deadline = future.deadline if future.deadline is not None else time.monotonic() + UNTIL_ASKED
        ask(self.place, self._wire, make, future, decode, deadline=deadline)


def ask(
    place: Place,
    wire: Wire,
    make: Callable[[bool], Operation],
    future: RequestFuture[T],
    decode: Callable[[Answer], T],
    *,
    deadline: float,
    spare: float = 0.0,
) -> None:
    """Put a request to a peer elsewhere; ``future`` is answered in any case.

    Args:
        place: the peer.
        wire: what reaches it.
        make: makes the request when it leaves; given whether a pickle is taken there.
        future: to be answered.
        decode: the value of an answer.
        deadline: until when, on the monotonic clock.
        spare: seconds before it that the other side has to be done by.
    """

    def done(result: Answer | Failed | RaftError) -> None:
        if isinstance(result, RaftError):
            future.try_fail(result)
        elif isinstance(result, Failed):
            future.try_fail(error_from(result), result.index)
        else:
            _answer(future, result, decode)

    wire.request(place.address, place.name, make, deadline, done, spare)


def _answer(future: RequestFuture[T], answer: Answer, decode: Callable[[Answer], T]) -> None:
    try:
        future.try_set(decode(answer), answer.index)
    except RaftError as error:
        future.try_fail(error, answer.index)
    except Exception as error:  # noqa: BLE001 - whoever waits is answered, whatever the other side sent
        unknown = OutcomeUnknown("the answer of the other process cannot be read")
        unknown.__cause__ = error
        future.try_fail(unknown, answer.index)


def call(place: Place, operation: Operation, decode: Callable[[bytes], T], *, deadline: float) -> T:
    """Put a request to a peer elsewhere, and wait for the answer.

    Raises:
        RaftError: the answer, or that there was none by ``deadline``.
    """
    refuse_if_forbidden()
    future: RequestFuture[T] = RequestFuture()
    future.deadline = deadline + ANSWERING
    wire = NETWORK.wire_to(place.address)
    until = deadline + ANSWERING
    ask(place, wire, lambda _: operation, future, lambda answer: decode(answer.value), deadline=until, spare=ANSWERING)
    return future.get()
