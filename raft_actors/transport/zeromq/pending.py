"""A request to another node, from when it is wanted until it is answered; who has the turn of the wire touches it."""

from __future__ import annotations

import collections
import itertools
import time
from collections.abc import Callable

from raft_actors.errors import RaftError
from raft_actors.transport.frames import (
    MOST_TOGETHER,
    Answer,
    Ask,
    Asks,
    Failed,
    Operation,
    Query,
    SessionCommand,
    Submit,
)
from raft_actors.transport.zeromq.lanes import ALONE, TOGETHER

__all__ = ["Pending", "Requests"]

_WRITES = (Submit, SessionCommand)


class Pending:
    """A request that waits for its answer.

    Args:
        id: its number.
        to: short name of the peer that is asked.
        make: makes it when it leaves; given whether a pickle is taken there.
        deadline: until when, on the monotonic clock.
        done: called once, with the answer or the error, by whoever has the turn of the wire.
        spare: seconds before the deadline that the other side has to be done by.
    """

    __slots__ = ("deadline", "done", "id", "make", "open", "spare", "to")

    def __init__(
        self,
        id: int,  # noqa: A002
        to: str,
        make: Callable[[bool], Operation],
        deadline: float,
        done: Callable[[Answer | Failed | RaftError], None],
        spare: float = 0.0,
    ) -> None:
        self.id = id
        self.to = to
        self.make = make
        self.deadline = deadline
        self.done = done
        self.spare = spare
        self.open = True

    def ask(self, now: float, *, pickle: bool) -> Ask:
        """The request as it leaves.

        Raises:
            RaftError: it cannot be made for who is there.
        """
        patience = min(max(self.deadline - self.spare - now, 0.001), 1e9)
        return Ask(self.id, self.to, patience, self.make(pickle))

    def end(self, result: Answer | Failed | RaftError) -> None:
        """Hand over the result, if it is the first."""
        if self.open:
            self.open = False
            self.done(result)


class Requests:
    """Those of one connection: what has not left certainly had no effect; of what has, nobody knows."""

    def __init__(self) -> None:
        self._unsent: collections.deque[Pending] = collections.deque()
        self._sent: dict[int, Pending] = {}
        self._batch: list[tuple[Pending, Ask | None]] = []

    @property
    def waiting(self) -> bool:
        """Whether some have not left."""
        return bool(self._unsent)

    @property
    def count(self) -> int:
        """How many have no answer yet."""
        return len(self._unsent) + len(self._sent)

    def all(self) -> list[Pending]:
        """Those that have no answer yet."""
        return [*self._unsent, *self._sent.values()]

    def add(self, pending: Pending) -> None:
        """Take one."""
        self._unsent.append(pending)

    def batch(self, make: Callable[[Pending, float], Ask | None]) -> Ask | Asks | None:
        """The next ones, as many as go together; ``None``: those have been answered already.

        Args:
            make: makes one as it leaves, given what time it is; ``None``: it has its answer.
        """
        self._batch, size, now = [], 0, time.monotonic()
        for pending in itertools.islice(self._unsent, MOST_TOGETHER):
            if size > TOGETHER:
                break
            ask = make(pending, now)
            self._batch.append((pending, ask))
            size += 0 if ask is None else ALONE + _weight(ask.operation)
        asks = tuple(ask for _, ask in self._batch if ask is not None)
        return (asks[0] if len(asks) == 1 else Asks(asks)) if asks else None

    def batch_left(self) -> None:
        """They have left."""
        for pending, ask in self._batch:
            self._unsent.popleft()
            if ask is not None:
                self._sent[pending.id] = pending

    def left(self, pending: Pending) -> None:
        """This one has left, past all others."""
        self._sent[pending.id] = pending

    def answered(self, answer: Answer | Failed) -> None:
        """An answer has come; one that nobody waits for is passed over."""
        pending = self._sent.pop(answer.id, None)
        if pending is not None:
            pending.end(answer)

    def forget(self, pending: Pending) -> bool:
        """Nobody waits for it any more; returns whether it has left."""
        if pending in self._unsent:
            self._unsent.remove(pending)
            return False
        self._sent.pop(pending.id, None)
        return True

    def fail(self, *, unsent: RaftError, sent: RaftError) -> None:
        """The connection is no more: answer all."""
        waiting, self._unsent = self._unsent, collections.deque()
        gone, self._sent = self._sent, {}
        for pending in waiting:
            pending.end(unsent)
        for pending in gone.values():
            pending.end(sent)


def _weight(operation: Operation) -> int:
    """Bytes of what it carries."""
    if isinstance(operation, _WRITES):
        return len(operation.command)
    return len(operation.query) if type(operation) is Query else 0
