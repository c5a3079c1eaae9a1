"""From a run that fails to a smaller one that fails in the same way: fewer kinds of faults, fewer peers, fewer steps.

A run is a function of its seed, so a part of it cannot be cut out; but of the runs with a single kind of fault, with
half of the kinds, with one kind or one peer less, or with half of the steps, one that breaks the same rule is usually
near. It is looked for among a few seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from raft_actors.state_machine import StateMachine
from raft_actors.testing.simulation.clients import Commands
from raft_actors.testing.simulation.simulate import Report, simulate

__all__ = ["shrink"]

SEEDS = 6
"""How many seeds are tried for each choice of fewer faults."""
MANY_SEEDS = 40
"""How many are tried for one peer less and for half of the steps, when nothing else makes the run smaller."""
LONGER = 2000
"""Steps that a run with fewer faults may take at least: where less goes wrong, it takes longer."""


def shrink(
    machine: Callable[[], StateMachine[Any, Any]],
    report: Report,
    *,
    commands: Commands | None = None,
    runs: int = 240,
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
    longest = max(report.steps, LONGER)
    while report.violations:
        for number, (seed, steps, peers, faults) in enumerate(_smaller(report, longest)):
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


def _smaller(report: Report, longest: int) -> Iterator[tuple[int, int, int, tuple[str, ...]]]:
    """Seed, steps, peers and faults of runs that could be smaller, the most promising first.

    Fewer faults may take longer, and so may one peer less, twice as long.
    """
    faults, peers, half = report.plan.faults, report.peers, max(1, report.steps // 2)
    for seed in range(report.seed, report.seed + MANY_SEEDS):
        if seed < report.seed + SEEDS:
            for fewer in _fewer(faults):
                yield seed, longest, peers, fewer
        if peers > 1:
            yield seed, min(longest, 2 * report.steps), peers - 1, faults
        yield seed, half, peers, faults


def _fewer(faults: tuple[str, ...]) -> list[tuple[str, ...]]:
    """None of them, each alone, one half, the other, all but one."""
    half = len(faults) // 2
    fewer = [(), *((name,) for name in faults), faults[:half], faults[half:]]
    fewer += [tuple(name for name in faults if name != dropped) for dropped in faults]
    return [some for some in dict.fromkeys(fewer) if len(some) < len(faults)]


def _alike(one: Report, other: Report) -> bool:
    """Whether both fail, by the same invariant."""
    return bool(one.violations) and one.violations[0].split(":")[0] == other.violations[0].split(":")[0]


def _size(report: Report) -> tuple[int, int, int]:
    return len(report.plan.faults), report.peers, report.steps
