"""A run that fails becomes a smaller one that fails in the same way."""

from __future__ import annotations

import itertools
from typing import Any

from raft_actors.testing import Report
from raft_actors.testing.simulation import Ledger, shrink, simulate
from tests.simulation.planting import planted


def forgets_its_term(original: Any) -> Any:
    return lambda state, end: min(end, state.log.durable)


def is_large(report: Report) -> bool:
    return len(report.plan.faults) > 4 and len(report.history) > 100


def is_much_smaller(large: Report, small: Report) -> bool:
    fewer = len(small.plan.faults) <= 2 and small.peers < large.peers
    return fewer and 2 * small.steps < large.steps and 2 * len(small.history) < len(large.history)


def test_a_failure_is_shown_with_fewer_faults_peers_and_steps_and_can_be_repeated() -> None:
    with planted("raft_actors.behaviours.follower:_durable_match", forgets_its_term):
        seeds = (simulate(Ledger, seed=seed, steps=3000, peers=5) for seed in range(25, 300))
        failed = (report for report in seeds if not report.ok)
        shrunk = ((large, shrink(Ledger, large)) for large in failed if is_large(large))
        # Not every failure can do without any of its peers, or with few requests: one of these few can.
        large, small = next(pair for pair in itertools.islice(shrunk, 6) if is_much_smaller(*pair))
        assert small.violations[0].split(":")[0] == large.violations[0].split(":")[0]
        words = small.replay.split()
        given = dict(itertools.pairwise(words))
        faults = () if given["--faults"] == "none" else tuple(given["--faults"].split(","))
        assert faults == small.plan.faults
        seed, steps, peers = (int(given[word]) for word in ("--first", "--steps", "--peers"))
        again = simulate(Ledger, seed=seed, steps=steps, peers=peers, faults=faults)
        assert again.violations == small.violations
        assert again.trace == small.trace


def test_a_run_that_holds_is_left_as_it_is() -> None:
    report = simulate(Ledger, seed=1, steps=300)
    assert shrink(Ledger, report) is report
