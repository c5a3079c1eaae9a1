"""Long work takes a short pause every millisecond, so that the threads beside it keep running.

Rule: whoever works through something as large as a state takes a breath between its pieces. A call into C that takes a
second holds the interpreter for that second. Cut into pieces it is still slow to let go: a thread that waits is let in
only after it has asked for 5 ms (``sys.getswitchinterval``). A ``time.sleep(0)`` lets go, but every second time or so
the same thread takes the interpreter again before the other has woken. A real sleep lets everybody in who waits:

    work 1 ms | sleep | work 1 ms | sleep | ...         the others wait for 1 ms, the work takes a tenth longer
"""

from __future__ import annotations

import time

__all__ = ["PAUSE", "STRETCH", "Breath"]

STRETCH = 0.001
"""So many seconds of work at a time, if its pieces are small enough."""
PAUSE = 0.00005
"""So many seconds of sleep after it; with what the system adds, it is about 0.1 ms."""


class Breath:
    """The pauses of one piece of long work, on one thread."""

    __slots__ = ("_due",)

    def __init__(self) -> None:
        self._due = time.perf_counter() + STRETCH

    def take(self) -> bool:
        """Pause, if there was work for a millisecond since the last time; return whether."""
        if time.perf_counter() < self._due:
            return False
        time.sleep(PAUSE)
        self._due = time.perf_counter() + STRETCH
        return True
