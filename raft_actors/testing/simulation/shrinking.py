"""From a run that fails to a smaller one that fails in the same way: fewer kinds of faults, fewer peers, fewer steps.

A run is a function of its seed, so a part of it cannot be cut out; but of the runs with one kind of fault less, with
one peer less, or with half of the steps, one that breaks the same rule is usually near. A few seeds are tried for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from raft_actors.state_machine import StateMachine
from raft_actors.testing.simulation.clients import Commands
from raft_actors.testing.simulation.simulate import Report, simulate

__all__ = ["shrink"]

SEEDS = 6
"""How many seeds are tried for each smaller run."""


def shrink(
    machine: Callable[[], StateMachine[Any, Any]],
    report: Report,
    *,
    commands: Commands | None = None,
    runs: int = 120,
) -> Report:
    """Look for a smaller run that breaks the same rule.

    Args:
        machine: as it was given to ``simulate``.
        report: of a run that failed.
        commands: as they were given.
        runs: how many runs may be tried at most.

    Returns:
        The report of the smallest run that was found; ``report`` itself if it did not fail, or nothing smaller does.
    """
    while report.violations:
        for number, (seed, steps, peers, faults) in enumerate(_smaller(report)):
            if number >= runs:
                return report
            tried = simulate(machine, seed=seed, steps=steps, peers=peers, commands=commands, faults=faults)
            if _alike(tried, report) and _size(tried) < _size(report):
                runs -= number + 1
                report = tried
                break
        else:
            return report
    return report


def _smaller(report: Report) -> Iterator[tuple[int, int, int, tuple[str, ...]]]:
    """Seed, steps, peers and faults of runs that could be smaller, the most promising first."""
    faults, steps, peers = report.plan.faults, report.steps, report.peers
    without = [tuple(name for name in faults if name != dropped) for dropped in faults]
    for seed in range(report.seed, report.seed + SEEDS):
        for fewer in without:
            yield seed, steps, peers, fewer
        if peers > 1:
            yield seed, steps, peers - 1, faults
        yield seed, max(1, steps // 2), peers, faults


def _alike(one: Report, other: Report) -> bool:
    """Whether both fail, by the same invariant."""
    return bool(one.violations) and one.violations[0].split(":")[0] == other.violations[0].split(":")[0]


def _size(report: Report) -> tuple[int, int, int]:
    return len(report.plan.faults), report.peers, report.steps
