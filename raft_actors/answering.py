"""What a write or a read of another process becomes here: bytes of our codec, a future, and an answer.

::

    Submit, SessionCommand --decoded once--> command --> mailbox --> future --> Answer, Failed --> whoever asked
    several that are alike ----------------> commands, all at once --^

Requests that came in one frame and are of one kind are checked and handed over together: what is the same for all of
them is looked at once. Each has its own answer all the same.

An answer is bytes as soon as it is there, and from then on nothing else of it is kept: the requests of a batch are
remembered until the last of them is done, and the replies to all of them would be too much.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from raft_actors.codec import CheckedCodec
from raft_actors.errors import Incompatible, InvalidCommand, OutcomeUnknown, Overloaded, RaftError, Timeout
from raft_actors.futures import RequestFuture
from raft_actors.protocol.sessions import SessionWrite
from raft_actors.remote_values import failed, to_bytes
from raft_actors.transport.frames import LARGEST, Answer, Ask, Description, Failed, Query, SessionCommand, Submit
from raft_actors.transport.zeromq.held import COUNTED

if TYPE_CHECKING:
    from raft_actors.intake import Mailbox
    from raft_actors.transport.zeromq.door import Incoming

__all__ = ["AnsweringFuture", "alike", "answer_of", "command_of", "counted", "decoded", "small_instead"]

logger = logging.getLogger("raft_actors")

ROOM = 1024
"""Bytes that an answer may take beside its value."""
ANSWERED = (None, None, None, None)
"""The outcome of a future whose answer is on its way."""
CUT = 500
"""Characters of each text of an error for which there is no room."""
NO_ROOM = "too many bytes of answers wait to leave this node"


class Sender(Protocol):
    """What sends answers."""

    def answer(self, future: AnsweringFuture) -> None:
        """A request has its outcome; called in whatever thread gave it."""


class AnsweringFuture(RequestFuture[Any]):
    """A future whose outcome is sent to another process as soon as it is there; nobody here waits for it, or looks.

    Args:
        sender: sends it.
        incoming: the frame with the request.
        ask: the request.
        codec: of the reply; ``None``: it is a number or a name.
    """

    def __init__(self, sender: Sender, incoming: Incoming, ask: Ask, codec: CheckedCodec | None) -> None:
        self.sender = sender
        self.incoming = incoming
        self.number = ask.id
        self.reads = type(ask.operation) is Query
        self.codec = codec
        self.deadline = time.monotonic() + ask.patience

    def try_set(self, value: Any, index: int | None = None) -> bool:
        """Answer with ``value``, there."""
        given = super().try_set(value, index)
        if given:
            self.sender.answer(self)
            self.__dict__["_outcome"] = ANSWERED
        return given

    def try_fail(self, error: BaseException, index: int | None = None) -> bool:
        """Answer with ``error``, there."""
        given = super().try_fail(error, index)
        if given:
            self.sender.answer(self)
            self.__dict__["_outcome"] = ANSWERED
        return given


def alike(asks: Iterable[Ask]) -> Iterator[list[Ask]]:
    """The same requests, those together that follow each other and are writes of one kind, codec and peer."""
    for kind, several in itertools.groupby(asks, _kind):
        if kind[0] in (Submit, SessionCommand):
            yield list(several)
        else:
            for one in several:
                yield [one]


def _kind(ask: Ask) -> tuple[type, str, str]:
    return type(ask.operation), ask.to, getattr(ask.operation, "codec", "")


def command_of(
    mailbox: Mailbox, operation: Submit | SessionCommand, codec: CheckedCodec, future: RequestFuture[Any]
) -> bytes | None:
    """What is to be appended for a write; ``None``: it has its answer already."""
    try:
        if future.deadline is not None and time.monotonic() >= future.deadline:
            raise Timeout("no answer before the deadline of the request")
        data = _for_cluster(codec, mailbox.codec, operation.command)
        if isinstance(operation, Submit):
            return data
        one = operation
        return SessionWrite(one.session, one.nonce, one.sequence, one.previous, one.settled, data).encode()
    except RaftError as error:
        future.try_fail(error)
    except Exception as error:
        logger.exception("a request of another process failed")
        future.try_fail(error)
    return None


def decoded(codec: CheckedCodec, data: bytes) -> Any:
    """The value of bytes that came from elsewhere.

    Raises:
        InvalidCommand: they are none of this codec.
    """
    try:
        return codec.decode(data)
    except Incompatible as error:  # no cause: describing its traceback takes longer than all the rest
        raise InvalidCommand(str(error)) from None
    except MemoryError:  # bytes that say they are long; our own memory is well
        raise InvalidCommand(f"codec {codec.name!r} cannot decode these {len(data)} bytes") from None


def _for_cluster(codec: CheckedCodec, wanted: CheckedCodec, data: bytes) -> bytes:
    """The bytes of a command as the cluster stores it, decoded once on the way."""
    value = decoded(codec, data)
    return data if codec.name == wanted.name else wanted.encode_checked(value)


def answer_of(future: AnsweringFuture) -> Answer | Failed:
    """What a request is answered whose future is done; there is something in any case."""
    number, codec = future.number, future.codec
    try:
        error = future.failure
        if error is not None:
            return failed(number, error, future.index)
        value = future.get()
        data = to_bytes(value) if codec is None else codec.encode(value)
    except RaftError as why:
        unknown = OutcomeUnknown("it was done, but the reply cannot be sent to another process")
        unknown.__cause__ = why
        return failed(number, unknown, future.index)
    except Exception as why:
        logger.exception("an answer cannot be sent")
        return failed(number, OutcomeUnknown(f"the answer cannot be sent: {type(why).__name__}"))
    if len(data) <= LARGEST - ROOM:
        return Answer(number, data, "" if codec is None else codec.name, future.index)
    unknown = OutcomeUnknown(f"it was done, but {len(data)} bytes of an answer are too many for one frame")
    return failed(number, unknown, future.index)


def counted(body: Answer | Failed) -> int:
    """About how many bytes an answer takes; of a small one 0, for it is not counted."""
    if isinstance(body, Answer):
        size = len(body.value)
    else:
        size = len(body.text)
        if body.cause is not None:
            size += len(body.cause.message) + len(body.cause.traceback)
    return size if size >= COUNTED else 0


def small_instead(future: AnsweringFuture, body: Answer | Failed) -> Failed:
    """What a request is answered whose answer finds no room on its way: an error is cut short, a reply is missing."""
    if isinstance(body, Failed):
        cause = body.cause
        if cause is not None:
            cause = Description(cause.type_name[:CUT], cause.message[:CUT])
        return Failed(body.id, body.kind, body.text[:CUT], body.attributes, cause, body.index)
    error: RaftError = OutcomeUnknown(f"it was done, but {NO_ROOM}")
    if future.reads:
        error = Overloaded(NO_ROOM, advice="read again when other answers have come, and read less at a time")
    return failed(future.number, error, future.index)
