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

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from raft_actors.codec import CheckedCodec
from raft_actors.error_base import text_of
from raft_actors.errors import CommandFailed, Incompatible, InvalidCommand, OutcomeUnknown, Overloaded, RaftError
from raft_actors.futures import RequestFuture
from raft_actors.protocol.sessions import SessionWrite
from raft_actors.remote_values import failed, to_bytes
from raft_actors.transport.frames import LARGEST, Answer, Ask, Description, Failed, SessionCommand, Submit
from raft_actors.transport.zeromq.held import COUNTED

if TYPE_CHECKING:
    from raft_actors.intake import Mailbox
    from raft_actors.transport.zeromq.replies import Returns

__all__ = ["AnsweringFuture", "alike", "answer_of", "command_of", "counted", "decoded", "failure_of", "small_instead"]

logger = logging.getLogger("raft_actors")

ROOM = 1024
"""Bytes that an answer may take beside its value."""
CUT = 500
"""Characters of each text of an error for which there is no room."""
NO_ROOM = "too many bytes of answers wait to leave this node"


class Sender(Protocol):
    """What sends answers."""

    def answer(self, future: AnsweringFuture, body: Answer | Failed) -> None:
        """A request has its answer; called in whatever thread gave it."""


class AnsweringFuture(RequestFuture[Any]):
    """A future whose outcome is sent to another process as soon as it is there; nobody here waits for it, or looks.

    Args:
        sender: sends it.
        returns: the small answers to the frame with the request.
        number: of the request.
        codec: of the reply; ``None``: it is a number or a name.
        deadline: until when, on the monotonic clock.

    Attributes:
        reads: whether the request changes nothing.
    """

    reads = False

    def __init__(
        self, sender: Sender, returns: Returns, number: int, codec: CheckedCodec | None, deadline: float
    ) -> None:
        self.sender = sender
        self.returns = returns
        self.number = number
        self.codec = codec
        self.deadline = deadline

    def try_set(self, value: Any, index: int | None = None) -> bool:
        """Answer with ``value``, there."""
        given = self._close(index)
        if given:
            self._send(answer_of(self, value, index))
        return given

    def try_fail(self, error: BaseException, index: int | None = None) -> bool:
        """Answer with ``error``, there."""
        given = self._close(index)
        if given:
            self._send(failure_of(self, error, index))
        return given

    def _send(self, body: Answer | Failed) -> None:
        """In the thread of a machine, often: what goes wrong on the way of an answer must not stop its peer."""
        try:
            self.sender.answer(self, body)
        except Exception:
            logger.exception("an answer to another process is lost")

    def _close(self, index: int | None) -> bool:
        """Whether nobody was first. The outcome itself is not kept."""
        outcome = (None, None, index, None)
        if self.__dict__.setdefault("_outcome", outcome) is not outcome:
            return False
        if self._callbacks:
            self._call_back()
        return True


def alike(asks: Sequence[Ask]) -> Iterator[Sequence[Ask]]:
    """The same requests, those together that follow each other and are writes of one kind, codec and peer."""
    begin = 0
    while begin < len(asks):
        end = _end_of_alike(asks, begin)
        yield asks if end - begin == len(asks) else asks[begin:end]
        begin = end


def _end_of_alike(asks: Sequence[Ask], begin: int) -> int:
    first, to = asks[begin].operation, asks[begin].to
    if not isinstance(first, Submit | SessionCommand):
        return begin + 1
    kind, codec = type(first), first.codec
    for place in range(begin + 1, len(asks)):
        ask = asks[place]
        other = ask.operation
        if type(other) is not kind or other.codec != codec or ask.to != to:
            return place
    return len(asks)


def command_of(
    mailbox: Mailbox, operation: Submit | SessionCommand, codec: CheckedCodec, future: RequestFuture[Any]
) -> bytes | None:
    """What is to be appended for a write, decoded once on the way; ``None``: it has its answer already."""
    try:
        data = operation.command
        value = decoded(codec, data)
        if codec.name != mailbox.codec.name:
            data = mailbox.codec.encode_checked(value)
        if type(operation) is Submit:
            return data
        one: Any = operation
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


def answer_of(future: AnsweringFuture, value: Any, index: int | None) -> Answer | Failed:
    """What is answered where a request has led to ``value``; there is something in any case.

    A reply that cannot reach this caller could not the next time either: ``CommandFailed`` is the end of it, where an
    ``OutcomeUnknown`` would be asked for again.
    """
    codec = future.codec
    try:
        data = to_bytes(value) if codec is None else codec.encode(value)
    except RaftError as why:
        return _without_reply(future, str(why), why, index)
    except Exception as why:
        logger.exception("an answer cannot be sent")
        return _without_reply(future, f"{type(why).__name__}: {text_of(why)}", why, index)
    if len(data) <= LARGEST - ROOM:
        return Answer(future.number, data, "" if codec is None else codec.name, index)
    return _without_reply(future, f"{len(data)} bytes are too many for one frame", None, index)


def _without_reply(future: AnsweringFuture, why: str, cause: Exception | None, index: int | None) -> Failed:
    error = CommandFailed(
        f"it was done, but the reply cannot be sent to another process: {why}",
        advice="let the state machine reply with what the codec of the caller carries, or with less",
    )
    error.__cause__ = cause
    return failed(future.number, error, index)


def failure_of(future: AnsweringFuture, error: BaseException, index: int | None) -> Failed:
    """What is answered where a request has failed."""
    try:
        return failed(future.number, error, index)
    except Exception as why:
        logger.exception("an answer cannot be sent")
        return _cannot_be_sent(future, why)


def _cannot_be_sent(future: AnsweringFuture, why: Exception) -> Failed:
    return failed(future.number, OutcomeUnknown(f"the answer cannot be sent: {type(why).__name__}"))


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
    return failed(future.number, error, body.index)
