"""Runs, slices and percentiles: how a noisy machine is made to give a figure twice.

::

    run:  probe | slice | probe | slice | probe        probe: the bare disk and the bare ask, a moment each
    case: three runs, a ratio from each, their median

A machine that slows down for a second slows the probes beside it, too; a ratio of the two stays. A disk that is
another one in the middle of a run (somebody else flushes a lot) leaves nothing to compare with: such a run is repeated,
a few times at most. Only the yardstick decides that, never the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple, Protocol

__all__ = ["RUNS", "Probe", "Run", "Slice", "counted_runs", "middle", "paired_runs", "percentile", "steady_runs"]

RUNS = 3
"""How many paired runs a ratio is the median of."""
REPEATS = 6
"""How many disturbed runs of a case are repeated."""
STEADY = 1.6
"""By how much the medians of the probes of one run may differ."""
SANE_DISK = (80e-6, 1000e-6)
"""A bare append + fdatasync outside of this, in seconds, is no healthy disk: faster is no sync at all."""


class Slice(NamedTuple):
    """A stretch of work: ``operations`` in ``seconds``, and how long some of them took."""

    operations: int
    seconds: float
    times: list[float]

    @property
    def ops_s(self) -> float:
        """Operations per second."""
        return self.operations / self.seconds if self.seconds else 0.0


@dataclass(slots=True)
class Run:
    """Work and yardsticks that were measured together; all times in seconds.

    Attributes:
        times: of single operations.
        disk: of a bare append + fdatasync.
        ask: of a bare Pykka ``ask``.
        baseline: operations per second of the work that this is compared with, if there is such.
        disk_moments: the median of ``disk`` at each probe.
        wire: of a bare round trip over the network, where it is measured.
    """

    operations: int = 0
    seconds: float = 0.0
    times: list[float] = field(default_factory=list)
    disk: list[float] = field(default_factory=list)
    ask: list[float] = field(default_factory=list)
    baseline: float = 0.0
    disk_moments: list[float] = field(default_factory=list)
    wire: list[float] = field(default_factory=list)

    def probed(self, disk: list[float], ask: list[float]) -> None:
        """Take note of a moment of the yardsticks."""
        self.disk += disk
        self.ask += ask
        self.disk_moments.append(median(disk))

    @property
    def disturbed(self) -> bool:
        """Whether the disk was another one at one probe than at another, or no healthy one at any."""
        fastest, slowest = min(self.disk_moments), max(self.disk_moments)
        return slowest > STEADY * fastest or fastest < SANE_DISK[0] or slowest > SANE_DISK[1]

    def add(self, work: Slice) -> None:
        """Count a slice."""
        self.operations += work.operations
        self.seconds += work.seconds
        self.times += work.times

    @property
    def ops_s(self) -> float:
        """Operations per second."""
        return self.operations / self.seconds if self.seconds else 0.0

    @property
    def p50(self) -> float:
        """Median time of one operation, 0 if none was timed."""
        return middle(self.times)

    @property
    def disk_p50(self) -> float:
        """Median time of a bare append + fdatasync."""
        return median(self.disk)

    @property
    def ask_p50(self) -> float:
        """Median time of a bare Pykka ``ask``."""
        return median(self.ask)


class Probe(Protocol):
    """Measures the yardsticks."""

    def into(self, run: Run) -> None:
        """Take a moment of each and add it to ``run``; see ``Run.disturbed``."""


def middle(times: Sequence[float]) -> float:
    """The median of ``times``; 0 if there are none."""
    return median(times) if times else 0.0


def percentile(times: Sequence[float], percent: float) -> float:
    """The smallest of ``times`` that is not exceeded by ``percent`` of them; 0 if there are none."""
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


def paired_runs(
    probe: Probe, work: Callable[[float], Slice], seconds: float, *, slices: int = 1, disk_counts: bool = True
) -> list[Run]:
    """Measure ``work`` for ``seconds`` in all, with the yardsticks around each of its slices.

    Args:
        probe: measures the yardsticks.
        work: works for the seconds it is given.
        seconds: of work, over all runs.
        slices: how many a run has.
        disk_counts: whether a run is to be repeated for the disk's sake.
    """

    def one() -> Run:
        run = Run()
        probe.into(run)
        for _ in range(slices):
            run.add(work(seconds / RUNS / slices))
            probe.into(run)
        return run

    return steady_runs(one) if disk_counts else [one() for _ in range(RUNS)]


def steady_runs(one: Callable[[], Run]) -> list[Run]:
    """``RUNS`` runs; disturbed ones are repeated, and stay only if nothing better came."""
    runs = [one() for _ in range(RUNS)]
    for _ in range(REPEATS):
        disturbed = [run for run in runs if run.disturbed]
        if not disturbed:
            break
        runs.remove(disturbed[0])
        runs.append(one())
    return runs


def counted_runs(probe: Probe, rounds: int, one: Callable[[], float]) -> list[Run]:
    """``rounds`` times ``one``, which returns how many seconds it took, shared out over ``RUNS`` runs.

    Args:
        probe: measures the yardsticks, before and after each run.
        rounds: at least ``RUNS``.
        one: a death, say, or a restart.
    """
    runs = []
    for number in range(RUNS):
        run = Run()
        probe.into(run)
        for _ in range(rounds * number // RUNS, rounds * (number + 1) // RUNS):
            run.times.append(one())
        probe.into(run)
        runs.append(run)
    return runs
