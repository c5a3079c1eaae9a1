"""Every fault that a plan switches on does happen, in every variety: a fault that never strikes proves nothing."""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from raft_actors.testing import Report, simulate
from raft_actors.testing.simulation import FAULTS, Ledger, partitions
from raft_actors.testing.simulation.faults import Faults
from raft_actors.testing.simulation.plan import draw_plan
from raft_actors.testing.simulation.ports import Died, NodePorts
from tests.simulation.scenes_runs import well

SEEDS = 24
"""So many runs show each variety."""
SHOWN_BY = {"damage": ("damage", "crash"), "rot": ("rot", "snapshot")}
"""Damage is noticed when a peer starts; snapshots are damaged where there are some."""

MARKS = {
    "loss": [" lost "],
    "partition": [" cuts ", " mends "],
    "crash": [" dies", " starts"],
    "ambush": [" is an ambush for "],
    "faint": [" faints until "],
    "limbo": [" is a limbo for "],
    "stop": [" is asked to stop", " stops"],
    "pause": [" pauses until "],
    "clock": [" has its clock changed"],
    "slow_disk": [" disk is slow"],
    "disk_error": [" disk fails", " fails "],
    "damage": [" disk is damaged at ", " retires"],
    "wipe": [" disk is wiped"],
    "rot": [" snapshot is damaged "],
    "exile": [" is exiled until "],
    "snapshot": [" is asked for a snapshot"],
    "suspend": [" is suspended until "],
    "bootstrap": [" Join "],
    "member": [" is asked for members ", " answers who asked for members ", "refusal=None"],
    "repeat": [" has session ", " repeats "],
    "transfer": [" is asked to let lead ", " answers who asked for a leader ", "refusal=None"],
}
"""What a trace tells of a fault."""
LOSSES = ("disk is wiped", "disk is damaged at", "snapshot is damaged")
"""What a minority may suffer."""
REPEATED = ("duplicate", "replay")
"""Faults by which a message arrives more than once."""


@functools.cache
def runs_with(fault: str) -> list[Report]:
    faults = SHOWN_BY.get(fault, (fault,))
    reports = [simulate(Ledger, seed=seed, steps=600, peers=5, faults=faults) for seed in range(SEEDS)]
    return [report for report in reports if fault in report.plan.faults]


@pytest.mark.parametrize("fault", MARKS)
def test_a_fault_leaves_its_marks(fault: str) -> None:
    missing = list(MARKS[fault])
    for report in runs_with(fault):
        missing = [mark for mark in missing if mark not in report.trace]
    assert missing == []


def test_without_faults_their_marks_are_missing() -> None:
    text = simulate(Ledger, seed=1, steps=600, peers=5, faults="none").trace
    marks = {mark for some in MARKS.values() for mark in some} - {" starts"}
    assert [mark for mark in marks if mark in text] == []


def test_links_are_cut_in_every_way(monkeypatch: pytest.MonkeyPatch) -> None:
    cut: set[str] = set()

    def seen(kind: Callable[..., Any]) -> Callable[..., Any]:
        def draw(*given: Any) -> Any:
            links = kind(*given)
            cut.update([kind.__name__] if links else [])
            return links

        return draw

    kinds = partitions.KINDS
    monkeypatch.setattr(partitions, "KINDS", tuple(seen(kind) for kind in kinds))
    for seed in range(SEEDS):
        simulate(Ledger, seed=seed, steps=600, peers=5, faults=("partition",))
    assert cut == {kind.__name__ for kind in kinds}


def received(report: Report) -> Counter[tuple[str, int]]:
    """How often each message object arrived where."""
    return Counter((entry[1], id(entry[2].message)) for entry in report._record.log if hasattr(entry[2], "message"))


@pytest.mark.parametrize("fault", REPEATED)
def test_messages_arrive_more_than_once(fault: str) -> None:
    assert any(max(received(report).values()) > 1 for report in runs_with(fault))
    assert max(received(simulate(Ledger, seed=1, steps=600, faults="none")).values()) == 1


SLOW = {"slow_machine": 0, "busy": 1, "reorder": 2}
"""Faults, and their place in the slowness of a plan."""


def test_every_fault_is_shown() -> None:
    assert MARKS.keys() | set(REPEATED) | SLOW.keys() == FAULTS.keys()


def slowness(plan: Any) -> tuple[float, float, float]:
    return plan.machine, plan.busy, plan.tail


@pytest.mark.parametrize(("fault", "place"), SLOW.items())
def test_a_plan_is_slow_exactly_if_the_fault_is_on(fault: str, place: int) -> None:
    plans = [draw_plan(Random(seed), FAULTS) for seed in range(200)]
    assert all((slowness(plan)[place] > 0) == (fault in plan.faults) for plan in plans)


def test_plans_span_what_is_promised() -> None:
    plans = [draw_plan(Random(seed), FAULTS) for seed in range(2000)]
    assert 0.25 < max(plan.loss for plan in plans) <= 0.3
    assert min(plan.loss for plan in plans) == 0
    assert max(plan.clock_spread for plan in plans) == 0.5
    assert {len(plan.faults) for plan in plans} >= {0, 1, 5, 10, len(FAULTS)}
    assert {plan.patience for plan in plans} == {0.5, 3.0, float("inf")}
    assert {plan.clients for plan in plans} == set(range(1, 7))
    for fault in FAULTS:
        assert 0.4 < sum(fault in plan.faults for plan in plans) / len(plans) < 0.9


def test_one_peer_a_majority_and_all_are_struck() -> None:
    faults: Faults = well().faults
    struck = Counter(len(faults._some()) for _ in range(300))
    assert struck.keys() == {1, 2, 3}
    assert min(struck.values()) > 20


def test_a_minority_at_most_loses_its_disk() -> None:
    for fault in ("damage", "wipe", "rot"):
        for report in runs_with(fault):
            lost = {entry[1] for entry in report._record.log if entry[2] in LOSSES}
            assert len(lost) <= 2


def test_processes_die_at_every_boundary_between_two_effects(monkeypatch: pytest.MonkeyPatch) -> None:
    died: set[str] = set()
    honest: Callable[[Any], None] = NodePorts._boundary

    def boundary(self: Any) -> None:
        try:
            honest(self)
        except Died:
            caller = sys._getframe(1)
            died.add(f"{caller.f_code.co_name} {'after' if caller.f_locals.get('fails') is False else ''}".strip())
            raise

    monkeypatch.setattr(NodePorts, "_boundary", boundary)
    every = {"send", "persist", "load", "apply", "serve", "applied", "write", "write after"}
    for seed in range(300):
        simulate(Ledger, seed=seed, steps=1000, faults=("crash",))
        if died >= every:
            return
    raise AssertionError(f"nobody died at {every - died}")
