"""Answers on their way from whoever gives them to the frame in which they leave.

::

    a peer's machine: answer --add--> [Returns] --take--> [Reply] --add--> [Together] --> one frame
                                 '--the first one: the wire is told

A frame brings many writes, and a machine answers them one after the other within a moment. The wire is told of the
first small answer only, and finds the others with it. A large one goes by itself, for its bytes are counted.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from raft_actors.transport.frames import MOST_TOGETHER, Answer, Answers, Body, Failed
from raft_actors.transport.zeromq.lanes import ALONE, TOGETHER

if TYPE_CHECKING:
    from raft_actors.transport.zeromq.door import Incoming

__all__ = ["Reply", "Returns", "Together"]

_ANSWERS = (Answer, Failed)
"""What may leave together."""


class Reply(Struct, frozen=True):
    """What somebody is answered.

    Attributes:
        route: where to.
        version: of the format.
        bodies: the answer, or several small ones to requests of one frame.
        size: bytes of it that have entered ``Held``.
        asked: what it was asked with, if that counts as open until now.
    """

    route: bytes
    version: int
    bodies: Sequence[Body]
    size: int = 0
    asked: Incoming | None = None


class Returns:
    """The small answers to requests that came in one frame, or to one of them, until the wire takes them; any thread.

    Args:
        asked: the frame.
    """

    __slots__ = ("_bodies", "_told", "asked")

    def __init__(self, asked: Incoming) -> None:
        self.asked = asked
        self._bodies: collections.deque[Answer | Failed] = collections.deque()
        self._told = False

    def add(self, body: Answer | Failed) -> bool:
        """Take an answer; returns whether the wire has to be told that there is something."""
        self._bodies.append(body)
        if self._told:
            return False
        self._told = True  # two threads may both tell it: it finds nothing the second time
        return True

    def take(self) -> Reply:
        """Those that came so far, possibly none; called by whoever has the turn of the wire."""
        self._told = False  # before the look: of what comes after it, the wire is told again
        popleft = self._bodies.popleft
        bodies = [popleft() for _ in range(len(self._bodies))]
        return Reply(self.asked.route, self.asked.version, bodies, 0, self.asked)


class Together:
    """What leaves as one frame.

    Attributes:
        bodies: the answers.
        asked: of each, what it was asked with, if that counts as open until now.
    """

    __slots__ = ("_size", "_sizes", "asked", "bodies")

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.asked: list[Incoming | None] = []
        self._sizes: list[int] = []
        self._size = 0

    @property
    def entered(self) -> int:
        """Bytes of them that have entered ``Held``."""
        return sum(self._sizes)

    def add(self, body: Any, size: int, asked: Incoming | None) -> bool:
        """Take one more; False: there is no room for it.

        Args:
            body: the answer.
            size: bytes of it that have entered ``Held``.
            asked: what it was asked with, if that counts as open until now.
        """
        bodies, answers = self.bodies, type(body) in _ANSWERS
        weight = len(body.value) if type(body) is Answer else max(ALONE, size)
        if bodies and (self._size + weight > TOGETHER or len(bodies) >= MOST_TOGETHER or not answers):
            return False
        bodies.append(body)
        self.asked.append(asked)
        self._sizes.append(size)
        self._size += weight if answers else TOGETHER + 1  # anything else leaves alone
        return True

    def body(self) -> Body:
        """What the frame says."""
        first: Body = self.bodies[0]
        return first if len(self.bodies) == 1 else Answers(tuple(self.bodies))

    def apart(self) -> Iterator[Together]:
        """Each of them as a frame of its own."""
        for each in zip(self.bodies, self._sizes, self.asked, strict=True):
            alone = Together()
            alone.add(*each)
            yield alone
