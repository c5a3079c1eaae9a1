"""Long work takes a short pause every millisecond, so that the threads beside it keep running.

Rule: whoever works through something as large as a state takes a breath between its pieces. A call into C that takes a
second holds the interpreter for that second. Cut into pieces it is still slow to let go: a thread that waits is let in
only after it has asked for 5 ms (``sys.getswitchinterval``). A ``time.sleep(0)`` lets go, but every second time or so
the same thread takes the interpreter again before the other has woken. A real sleep lets everybody in who waits:

    work 1 ms | sleep | work 1 ms | sleep | ...         the others wait for 1 ms at most, the work takes a tenth longer

What nobody waits for sleeps for longer (``REST``): a request passes through several threads, and each needs a turn.
A thread that is the only one of its process does not sleep, as there is nobody to let in; so it is at a start.
"""

from __future__ import annotations

import threading
import time

__all__ = ["PAUSE", "REST", "STRETCH", "Breath"]

STRETCH = 0.001
"""So many seconds of work at a time, if its pieces are small enough."""
PAUSE = 0.00005
"""So many seconds of sleep after it; with what the system adds, it is about 0.1 ms."""
REST = 0.001
"""So many seconds of sleep where the work can wait."""


class Breath:
    """The pauses of one piece of long work, on one thread.

    Args:
        pause: how long each is, in seconds.
    """

    __slots__ = ("_due", "_pause")

    def __init__(self, pause: float = PAUSE) -> None:
        self._pause = pause
        self._due = time.perf_counter() + STRETCH

    def take(self) -> None:
        """Pause, if there was work for a millisecond since the last time."""
        if time.perf_counter() >= self._due:
            if threading.active_count() > 1:
                time.sleep(self._pause)
            self._due = time.perf_counter() + STRETCH
