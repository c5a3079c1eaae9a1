"""Has this machine been suspended since the last look? The monotonic clock does not tell: it stands still meanwhile.

Linux has a second clock that goes on, ``CLOCK_BOOTTIME``. What it is ahead of the first grows only while the machine is
suspended. The two cannot be read at the same time: the first is always read later here, so the difference comes out too
small by whatever happened in between, never too large, and the largest one seen is the true one.

Where there is no such clock, or where the monotonic clock counts that time itself, nothing is ever noticed here.
"""

from __future__ import annotations

import time

__all__ = ["LEAST", "Suspension"]

LEAST = 0.01
"""Seconds that a suspension lasts at least; all that is shorter is put down to rounding."""
FIRST_LOOKS = 3

_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)


class Suspension:
    """What one peer has noticed of it."""

    def __init__(self) -> None:
        self._ahead = max(since_boot() - time.monotonic() for _ in range(FIRST_LOOKS))

    def noticed(self) -> bool:
        """Look: whether the machine was suspended since the last time."""
        ahead = since_boot() - time.monotonic()
        if ahead <= self._ahead:
            return False
        grown, self._ahead = ahead - self._ahead, ahead
        return grown > LEAST


def since_boot() -> float:
    """Seconds on the clock that goes on while the machine is suspended; 0 if there is none."""
    return 0.0 if _CLOCK is None else time.clock_gettime(_CLOCK)
