"""Faults on the links between the peers of this process: cut, lose, delay and duplicate messages.

Rule: a link is one way, from ``source`` to ``to``. Faults add up until ``heal``. Every message is looked at when it is
sent, and one that was delayed again when it arrives: a cut also swallows what is under way. That a peer is down is a
message like any other, so it does not pass a link that is cut.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from raft_actors.transport.local import LOCAL

__all__ = ["Link", "Network"]

Deliver = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Link:
    """How bad a link is.

    Attributes:
        loss: share of the messages that are lost, 0 to 1.
        delay: seconds that each message takes longer.
        duplicate: share of the messages that arrive twice, 0 to 1.
    """

    loss: float = 0.0
    delay: float = 0.0
    duplicate: float = 0.0

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, not {getattr(self, name)!r}")
        if not 0 <= self.delay < threading.TIMEOUT_MAX:
            raise ValueError(f"delay must be a number of seconds of at least 0, not {self.delay!r}")


GOOD = Link()


class Network:
    """The links between ``names``.

    Args:
        names: the peers whose messages are looked at, from now until ``close``.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)
        self._cuts: frozenset[tuple[str, str]] = frozenset()
        self._links: dict[tuple[str, str], Link] = {}
        self._late = _LateDelivery()
        LOCAL.set_fault(self._names, self._pass)

    def include(self, name: str) -> None:
        """Look at the messages of one more peer; its links are good."""
        self._names += (name,)
        LOCAL.set_fault((name,), self._pass)

    def cut(self, source: str, to: str) -> None:
        """Lose everything from ``source`` to ``to``; the way back stays open."""
        self._cuts |= {(source, to)}

    def partition(self, *groups: Collection[str]) -> None:
        """Cut all links between the groups, both ways; peers in no group form one more.

        Raises:
            ValueError: a peer is in two groups.
        """
        named = [name for group in groups for name in group]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} in more than one group")
        sides = [*(set(group) for group in groups), set(self._names) - set(named)]
        pairs = itertools.permutations(sides, 2)
        self._cuts |= {(source, to) for one, other in pairs for source in one for to in other}

    def link(self, source: str, to: str, link: Link) -> None:
        """Make the link from ``source`` to ``to`` as good or bad as ``link`` says."""
        self._links = {**self._links, (source, to): link}

    def heal(self) -> None:
        """All links are good again; what is delayed arrives when it is due."""
        self._cuts = frozenset()
        self._links = {}

    def connected(self, one: str, other: str) -> bool:
        """Whether neither way between the two is cut."""
        return (one, other) not in self._cuts and (other, one) not in self._cuts

    def close(self) -> None:
        """Take the hands off the links; ends the thread of delayed messages."""
        LOCAL.set_fault(self._names, None)
        self._late.close()

    def _pass(self, source: str, to: str, deliver: Deliver) -> None:
        """The fault of every link: decides what becomes of one message."""
        if (source, to) in self._cuts:
            return
        link = self._links.get((source, to), GOOD)
        if link.loss and random.random() < link.loss:
            return
        for _ in range(2 if link.duplicate and random.random() < link.duplicate else 1):
            if link.delay:
                self._late.add(link.delay, lambda: self._arrive(source, to, deliver))
            else:
                deliver()

    def _arrive(self, source: str, to: str, deliver: Deliver) -> None:
        if (source, to) not in self._cuts:
            deliver()


class _LateDelivery:
    """One thread that delivers what was delayed, in the order in which it is due; it starts when it is needed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Deliver]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, delay: float, deliver: Deliver) -> None:
        """Deliver ``delay`` seconds from now."""
        with self._changed:
            if self._closed:
                return
            heapq.heappush(self._due, (time.monotonic() + delay, next(self._numbers), deliver))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="raft-testing-network", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Lose what is under way and end the thread."""
        with self._changed:
            self._closed = True
            self._due.clear()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while (deliver := self._next()) is not None:
            deliver()

    def _next(self) -> Deliver | None:
        """Wait for the next one that is due; ``None`` at the end."""
        with self._changed:
            while not self._closed:
                left = self._due[0][0] - time.monotonic() if self._due else None
                if left is not None and left <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(left)
        return None
