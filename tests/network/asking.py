"""A request of a test: it keeps what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raft_actors.transport.frames import GetStatus, Operation
from raft_actors.transport.zeromq.pending import Pending
from raft_actors.transport.zeromq.wire import Wire

__all__ = ["request"]


class _Question(Pending):
    def __init__(self, address: str, to: str, deadline: float, done: Callable[[Any], object]) -> None:
        super().__init__(address, to, deadline)
        self.make: Callable[[], Operation] = GetStatus
        self._done = done

    def operation(self, *, pickle: bool) -> Operation:
        del pickle
        return self.make()

    def done(self, result: Any) -> None:
        self._done(result)


def request(
    wire: Wire,
    address: str,
    to: str,
    deadline: float,
    done: Callable[[Any], object],
    *,
    make: Callable[[], Operation] = GetStatus,
) -> None:
    """Ask the peer ``to`` of the node at ``address``; ``done`` is given the answer or the error."""
    question = _Question(address, to, deadline, done)
    question.make = make
    wire.request(question)
