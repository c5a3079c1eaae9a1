"""How much of a client may be under way at once: as much as is answered in time.

Who sends more than the other side takes is refused, or waits there until it is given up and sent again, which makes the
queue longer still. So what is under way is bounded by a window. It grows with each answer, first by one and, above half
of the width at which something was lost last, by one for each windowful; what is lost halves it. ::

    width
      |        /|      __--|
      |       / |  __--    |  __--
      |      /  |--        |--
      |_____/_______________________ answers

Source: Jacobson, "Congestion Avoidance and Control", SIGCOMM 1988.
"""

from __future__ import annotations

import threading

__all__ = ["Window"]

FIRST, FEWEST, MOST = 256, 16, 3584
"""Requests that may be under way: at the beginning, at the least, at the most. A connection takes 4,096; the windows of
several clients that share one come to share that, too."""
MOST_BYTES = 8 << 20
"""Bytes of them, beyond the first one. A key, however many connections it has, is let in with four times that."""
SPARE = 512
"""So many more are let in that are all that their thread has under way: they do not wait for those who have much."""
ROOM = 0.25
"""Room for this part of the window is worth that somebody wakes up to send."""


class Window:
    """The requests of one client that are under way; any thread may use it.

    Attributes:
        width: how many there may be.
    """

    def __init__(self) -> None:
        self.width = float(FIRST)
        self._calm = float(MOST)  # up to here, nothing was lost
        self._lock = threading.Lock()
        self._open = self._bytes = 0
        self._last = self._narrowed = 0

    def enter(self, size: int, *, alone: bool = False) -> int:
        """Let a request of so many bytes in; returns its number from 1 on, or 0 if there is no room.

        ``alone``: it is all that its thread has under way.
        """
        width, most_bytes = (self.width + SPARE, 2 * MOST_BYTES) if alone else (self.width, MOST_BYTES)
        with self._lock:
            if self._open and (self._open >= width or self._bytes + size > most_bytes):
                return 0
            self._open += 1
            self._bytes += size
            self._last += 1
            return self._last

    def leave(self, number: int, size: int, *, lost: bool) -> None:
        """One is under way no more; ``lost``: it was not answered in time, or refused because there were too many."""
        with self._lock:
            if not lost and self._open >= self.width / 2:  # one that is not used says nothing
                self.width = min(MOST, self.width + (1.0 if self.width < self._calm else 1.0 / self.width))
            elif lost and number > self._narrowed:  # whatever left before the last halving is lost for the same reason
                self.width = self._calm = max(FEWEST, self.width / 2)
                self._narrowed = self._last
            self._open -= 1
            self._bytes -= size

    @property
    def roomy(self) -> bool:
        """Whether there is room for a good part of the window."""
        return self._open <= (1 - ROOM) * self.width and self._bytes <= (1 - ROOM) * MOST_BYTES
