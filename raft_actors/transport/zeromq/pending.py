"""A request that waits for its answer."""

from __future__ import annotations

from collections.abc import Callable

from raft_actors.errors import RaftError
from raft_actors.transport.frames import Answer, Ask, Failed, Operation, pack

__all__ = ["Pending"]


class Pending:
    """A request that waits for its answer.

    Args:
        id: its number.
        to: short name of the peer that is asked.
        make: makes it when it leaves; given whether a pickle is taken there.
        deadline: until when, on the monotonic clock.
        done: called once, with the answer or the error, in the wire's thread.
    """

    __slots__ = ("deadline", "done", "id", "make", "open", "to")

    def __init__(
        self,
        id: int,  # noqa: A002
        to: str,
        make: Callable[[bool], Operation],
        deadline: float,
        done: Callable[[Answer | Failed | RaftError], None],
    ) -> None:
        self.id = id
        self.to = to
        self.make = make
        self.deadline = deadline
        self.done = done
        self.open = True

    def frame(self, now: float, version: int, *, pickle: bool) -> bytes:
        """The request as it leaves.

        Raises:
            RaftError: it cannot be made for who is there.
        """
        patience = min(max(self.deadline - now, 0.001), 1e9)
        return pack(Ask(self.id, self.to, patience, self.make(pickle)), version)

    def end(self, result: Answer | Failed | RaftError) -> None:
        """Hand over the result, if it is the first."""
        if self.open:
            self.open = False
            self.done(result)
