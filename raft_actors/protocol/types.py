"""The smallest values: a position in a log, a ballot, one reading of clock and dice.

Term and index never travel apart when logs are compared: ``LogPosition`` orders by term first and by index second,
so ``candidate.last >= ours`` *is* the election restriction.

Paper: §5.4.1 ("up-to-date"), Figure 2 (persistent state).
"""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta, Struct

__all__ = [
    "ADDRESS_RULE",
    "NAME_RULE",
    "NOWHERE",
    "Address",
    "Ballot",
    "Identity",
    "LogPosition",
    "Moment",
    "Name",
    "Number",
    "Seconds",
    "Settings",
    "Violation",
]

# What may come over a network is bounded by its type; the bounds are checked where bytes become values, nowhere else.

Name = Annotated[str, Meta(max_length=64)]
"""The short name of a peer."""
Identity = Annotated[str, Meta(max_length=128)]
"""Of a cluster, of a store or of a snapshot."""
Address = Annotated[str, Meta(max_length=262)]
"""``host:port``, or ``""``."""
Number = Annotated[int, Meta(ge=0, le=2**62)]
"""A term, an index, a size or a count."""
Seconds = Annotated[float, Meta(ge=0.0, le=1e12)]
"""A time or a duration."""

NAME_RULE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
"""What the name of a peer looks like."""
ADDRESS_RULE = re.compile(r"(?P<host>[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.%]{2,60}\]):(?P<port>\d{1,5})", re.ASCII)
"""What ``host:port`` looks like."""


class LogPosition(Struct, frozen=True, order=True, gc=False, array_like=True):
    """Where a log ends, or the entry before an append; ``>=`` is the paper's "at least as up-to-date".

    Attributes:
        term: term of the entry, 0 for the empty log.
        index: index of the entry, counted from 1; 0 for the empty log.
    """

    term: Number = 0
    index: Number = 0


class Violation(Exception):
    """A rule that must hold does not: the peer stops rather than go on (the shell raises ``InvariantViolated``)."""


NOWHERE = LogPosition(0, 0)
"""The position of an empty log."""


class Ballot(Struct, frozen=True, gc=False, array_like=True):
    """A peer's current term and whom it voted for in it: one value, so that they can never be stored apart (BUG-09)."""

    term: int = 0
    voted_for: str | None = None


class Moment(Struct, frozen=True, gc=False):
    """One reading of clock and dice, taken by the shell after it took the messages of the step.

    Attributes:
        now: seconds on the monotonic clock.
        wall: seconds since the epoch; only ever used as replicated time in entries, never for a timeout (BUG-74).
        jitter: a random number in [0, 1).
    """

    now: float
    wall: float
    jitter: float


class Settings(Struct, frozen=True, gc=False, kw_only=True):
    """What of ``Config`` the rules need; seconds and bytes."""

    min_election_timeout: float = 0.3
    max_election_timeout: float = 0.6
    heartbeat_interval: float = 0.05
    pre_vote: bool = True
    check_quorum: bool = True
    lease_reads: bool = False
    max_batch_bytes: int = 1 << 20
    max_inflight: int = 64
    snapshot_threshold: int = 100_000
    snapshot_threshold_bytes: int = 64 << 20
    trailing_entries: int = 10_000
    priority: int = 0

    def election_timeout(self, jitter: float) -> float:
        """A fresh random timeout in [min, max): drawn anew each time it is armed. Paper: §5.2."""
        return self.min_election_timeout + jitter * (self.max_election_timeout - self.min_election_timeout)
