"""A request to another node, from when it is wanted until it is answered; who has the turn of the wire touches it."""

from __future__ import annotations

import collections
import itertools
import time
from collections.abc import Callable, Iterable

from raft_actors.errors import RaftError
from raft_actors.transport.frames import (
    MOST_TOGETHER,
    Answer,
    Ask,
    Asks,
    Failed,
    Operation,
    carried,
)
from raft_actors.transport.zeromq.lanes import TOGETHER

__all__ = ["Pending", "Requests"]

SHORTEST, LONGEST = 0.001, 1e9
"""Bounds of the seconds that the other side is given."""
BESIDE = 40
"""About how many bytes a request takes beside its command."""
LOOKS = 0.005
"""Seconds between two looks for requests whose time is over: of many, it is not over for each at another moment."""
FOREVER = float("inf")


class Pending:
    """A request that waits for its answer. What is asked, and what becomes of the answer, is said by its subclasses.

    Args:
        address: of the node that is asked.
        to: short name of the peer that is asked.
        deadline: until when, on the monotonic clock.
        spare: seconds before the deadline that the other side has to be done by.

    Attributes:
        id: its number, unique among those of a wire.
        open: whether it has no answer yet.
    """

    __slots__ = ("address", "deadline", "id", "open", "spare", "to")

    def __init__(self, address: str, to: str, deadline: float, spare: float = 0.0) -> None:
        self.address = address
        self.to = to
        self.deadline = deadline
        self.spare = spare
        self.id = 0
        self.open = True

    def operation(self, *, pickle: bool) -> Operation:
        """What is asked, as it leaves; ``pickle``: whether one is taken there.

        Raises:
            RaftError: it cannot be made for who is there.
        """
        raise NotImplementedError

    def done(self, result: Answer | Failed | RaftError) -> None:
        """Called once, with the answer or the error, by whoever has the turn of the wire."""
        raise NotImplementedError

    def ask(self, now: float, *, pickle: bool) -> Ask:
        """The request as it leaves.

        Raises:
            RaftError: it cannot be made for who is there.
        """
        left = self.deadline - self.spare - now
        patience = left if SHORTEST < left < LONGEST else SHORTEST if left <= SHORTEST else LONGEST
        return Ask(self.id, self.to, patience, self.operation(pickle=pickle))

    def end(self, result: Answer | Failed | RaftError) -> None:
        """Hand over the result, if it is the first."""
        if self.open:
            self.open = False
            self.done(result)


class Requests:
    """Those of one connection: what has not left certainly had no effect; of what has, nobody knows.

    Attributes:
        due: when to look whose time is over (``expired``); at the earliest deadline, or before.
    """

    def __init__(self) -> None:
        self.due = FOREVER
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
        if pending.deadline < self.due:
            self.due = pending.deadline

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
            size += 0 if ask is None else BESIDE + carried(ask.operation)
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
        if pending.deadline < self.due:  # first: whoever sends may be interrupted
            self.due = pending.deadline
        self._sent[pending.id] = pending

    def answered(self, answers: Iterable[Answer | Failed]) -> None:
        """Answers have come; one that nobody waits for is passed over."""
        sent = self._sent
        for answer in answers:
            pending = sent.pop(answer.id, None)
            if pending is not None:
                pending.end(answer)

    def expired(self, now: float) -> list[tuple[Pending, bool]]:
        """Give up those whose time is over; of each, whether it had left. They are not answered here."""
        late = [(one, False) for one in self._unsent if one.deadline <= now]
        late += [(one, True) for one in self._sent.values() if one.deadline <= now]
        if late:
            self._unsent = collections.deque([one for one in self._unsent if one.deadline > now])
            self._sent = {number: one for number, one in self._sent.items() if one.deadline > now}
        self.due = max(min([one.deadline for one in self.all()], default=FOREVER), now + LOOKS)
        return late

    def not_left(self, pending: Pending) -> None:
        """It has not, after all (``left``)."""
        self._sent.pop(pending.id, None)

    def fail(self, *, unsent: RaftError, sent: RaftError) -> None:
        """The connection is no more: answer all."""
        waiting, self._unsent = self._unsent, collections.deque()
        gone, self._sent = self._sent, {}
        for pending in waiting:
            pending.end(unsent)
        for pending in gone.values():
            pending.end(sent)
