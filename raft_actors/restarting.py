"""How often a peer has failed lately, and what follows: whether it is started again, and after which pause."""

from __future__ import annotations

import collections
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raft_actors.config import Restart

__all__ = ["Deaths"]


class Deaths:
    """When a peer failed, as far back as its policy looks."""

    def __init__(self) -> None:
        self._times: collections.deque[float] = collections.deque()

    def another(self, policy: Restart) -> bool:
        """It failed just now; returns whether it may be started again."""
        now = time.monotonic()
        self._times.append(now)
        while self._times[0] < now - policy.within:
            self._times.popleft()
        return len(self._times) <= policy.max

    def pause(self, policy: Restart) -> float:
        """Seconds to wait before that: twice as long each time, up to a longest pause."""
        first, longest = policy.backoff
        return min(longest, first * 2.0 ** min(len(self._times) - 1, 60))
