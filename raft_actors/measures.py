"""What a peer measures of itself while it works: times in fixed buckets, and a few counts.

Rule: measuring costs per batch, never per entry, takes no lock, and has one writer: the thread that does the work. Who
looks may do so at any time, from any thread, and sees each number as it was a moment ago.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque

from raft_actors.protocol.state import Candidate, Leader, PeerState

__all__ = ["BOUNDS", "CommitTimes", "Histogram", "Measures"]

BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets, in seconds; one more bucket has no bound."""


class Histogram:
    """Times in fixed buckets.

    Attributes:
        counts: how many fell into each bucket, the last one without a bound.
        sum: of all of them, in seconds.
    """

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one time."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds


class CommitTimes:
    """How long batches take from their append to their commit.

    A batch that is overwritten, or that a snapshot takes the place of, is not counted. One that is committed by a later
    leader is.

    Args:
        histogram: where the times go.

    Attributes:
        open: the last index of each batch that is not committed, and when it was appended; oldest first.
    """

    __slots__ = ("_histogram", "open")

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self.open: deque[tuple[int, float]] = deque()

    def appended(self, last: int, now: float) -> None:
        """A batch was appended that ends at index ``last``."""
        self.open.append((last, now))

    def committed(self, index: int, now: float) -> None:
        """The log is committed up to ``index``."""
        waiting = self.open
        while waiting and waiting[0][0] <= index:
            self._histogram.observe(now - waiting.popleft()[1])

    def truncated(self, index: int) -> None:
        """The log was cut at ``index``."""
        while self.open and self.open[-1][0] >= index:
            self.open.pop()

    def forget(self) -> None:
        """Nobody hears of these batches any more."""
        self.open.clear()


class Measures:
    """What is measured of the peer of one name, through all its restarts.

    Attributes:
        syncs: how long a transaction took to be durable; written by the log writer.
        sync_since: when the one under way began (``time.perf_counter``), 0 if there is none.
        commits: how long a batch took from its append by this leader to its commit; written in the peer's turn.
        elections_started: in how many terms it stood.
        elections_won: in how many it was elected.
        failures: how often it stopped itself.
    """

    __slots__ = ("commits", "elections_started", "elections_won", "failures", "sync_since", "syncs")

    def __init__(self) -> None:
        self.syncs = Histogram()
        self.sync_since = 0.0
        self.commits = Histogram()
        self.elections_started = 0
        self.elections_won = 0
        self.failures = 0

    def noticed(self, before: PeerState, after: PeerState) -> None:
        """Count elections: called with every change of role and term."""
        if isinstance(after.role, Candidate) and after.term > before.term:
            self.elections_started += 1
        elif isinstance(after.role, Leader) and not isinstance(before.role, Leader):
            self.elections_won += 1
