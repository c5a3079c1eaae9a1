"""Virtual time: one heap of what will happen, one dice, and nothing else that could differ between two runs.

Rule: a run is a function of its seed. Whatever is drawn is drawn from ``World.rng``, whatever happens is taken from one
heap in the order of (time, number), and nothing here depends on the order of a set, on ``hash`` or on ``id``.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any, TypeAlias

__all__ = ["Happening", "Violated", "World"]

Happening: TypeAlias = Callable[[Any], None]


class Violated(BaseException):
    """Something that must never happen did: the run ends here.

    It is no ``Exception``, so that no code under test takes it for one of its own.

    Attributes:
        invariant: which one does not hold, in a word or two.
        detail: what was seen.
    """

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant
        self.detail = detail


class World:
    """Time, dice, and what is to come.

    Args:
        seed: decides everything.

    Attributes:
        now: virtual seconds since the beginning.
        rng: the one dice.
        steps: how many steps the peers have taken.
        log: what happened, as tuples that ``trace`` turns into text: time, where, what, and what belongs to it.
    """

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.rng = Random(seed)
        self.steps = 0
        self.log: list[tuple[Any, ...]] = []
        self._heap: list[tuple[float, int, Happening, Any]] = []
        self._number = 0

    def at(self, time: float, happening: Happening, argument: Any = None) -> None:
        """Let ``happening(argument)`` come at ``time``, after everything that was planned for that time before."""
        self._number += 1
        heappush(self._heap, (time, self._number, happening, argument))

    def after(self, seconds: float, happening: Happening, argument: Any = None) -> None:
        """Let ``happening(argument)`` come in ``seconds``."""
        self._number += 1
        heappush(self._heap, (self.now + seconds, self._number, happening, argument))

    def note(self, where: str, what: str, *details: Any) -> None:
        """Remember for the trace; it becomes text only if somebody reads it, so ``details`` must never change."""
        self.log.append((self.now, where, what, *details))

    def run(self, *, steps: float, until: float) -> None:
        """Let things happen until the peers have taken ``steps`` steps in all, or ``until`` is reached."""
        heap = self._heap
        while heap and self.steps < steps:
            if heap[0][0] > until:
                self.now = until
                return
            self.now, _, happening, argument = heappop(heap)
            happening(argument)
        if not heap:
            self.now = max(self.now, until)
