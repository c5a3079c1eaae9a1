"""The simulator turns red on every planted defect of our own code, and stays green on the same seeds without it.

The table of bug, seed and time to find is printed at the end of a test run and kept in pytest's cache;
``python -m tests.simulation.table`` searches all of it anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.simulation.defects import DEFECTS, NOT_PLANTED
from tests.simulation.hunting import Defect, hunt, run, run_with
from tests.simulation.pinned import PINNED
from tests.simulation.table import ROW, line

EARLY = 20
"""A defect that one of so few first seeds shows is found again soon, however the simulator draws; the rest is slow."""
CASES = [
    pytest.param(one, marks=[] if PINNED[one.name] < EARLY else [pytest.mark.slow], id=one.name) for one in DEFECTS
]
RUNS = list(dict.fromkeys((one.machine, one.peers, one.steps, PINNED[one.name]) for one in DEFECTS))
"""Every run that is pinned, once."""
LAST_OF_THE_LIST = 78
SHOWN_BY = [
    ("no stale read", "a_new_leader_reads_before_its_first_entry_is_committed"),
    ("read rounds", "any_answer_confirms_the_newest_round"),
    ("read rounds", "a_read_joins_the_round_under_way"),
    ("read rounds", "read_requests_are_numbered_anew_after_a_restart"),
    ("read rounds", "whoever_is_asked_names_an_index"),
    ("lease promises", "a_promise_of_a_lease_is_not_kept"),
    ("lease promises", "a_promise_of_a_lease_does_not_outlive_a_restart"),
    ("lease promises", "a_refusal_promises_what_nobody_keeps"),
    ("lease beliefs", "a_lease_begins_when_the_answer_comes"),
    ("lease beliefs", "a_lease_takes_all_clocks_for_equal"),
]
"""The rules of ``read_rules``, and defects that they notice first."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("one", CASES)
def test_the_simulator_finds_the_planted_defect(one: Defect, record_property: Callable[[str, object], None]) -> None:
    catch = hunt(one, [PINNED[one.name]])
    record_property(ROW, line(one, catch))
    assert catch is not None, f"{one.bugs}: nothing is noticed of this: {one.sentence}"
    assert not catch.is_broken, f"this defect does not fit our code any more: {catch.violation}"


@pytest.mark.parametrize(("machine", "peers", "steps", "seed"), RUNS)
def test_a_pinned_seed_without_its_defect_is_green(machine: type, peers: int, steps: int, seed: int) -> None:
    run(Defect("", "", "", {}, peers=peers, steps=steps, machine=machine), seed).check()


def test_a_name_that_is_gone_fails_loudly() -> None:
    gone = Defect("gone", "", "", {"raft_actors.behaviours.leader:_advance_the_commit_index": lambda honest: honest})
    with pytest.raises(KeyError, match="_advance_the_commit_index"):
        run_with(gone, 0)


def test_a_defect_that_does_not_fit_our_code_is_told_from_one_that_is_found() -> None:
    place = "raft_actors.behaviours.transition:election_deadline"  # that takes three
    catch = hunt(Defect("older", "", "", {place: lambda honest: lambda state, moment: honest(state, moment, 0)}), [0])
    assert catch is not None
    assert catch.is_broken


def test_a_defect_is_gone_after_its_run() -> None:
    one = DEFECTS[0]
    assert not run_with(one, PINNED[one.name]).ok
    assert run(one, PINNED[one.name]).ok


@pytest.mark.parametrize(("rule", "name"), SHOWN_BY)
def test_every_rule_of_reads_and_leases_finds_a_planted_defect(rule: str, name: str) -> None:
    one = next(one for one in DEFECTS if one.name == name)
    report = run_with(one, PINNED[name])
    assert report.violations[0].startswith(rule)


def test_every_known_bug_is_planted_or_accounted_for() -> None:
    planted = {int(bug.removeprefix("BUG-")) for one in DEFECTS for bug in one.bugs.split(", ") if "BUG" in bug}
    assert planted | NOT_PLANTED.keys() == set(range(1, LAST_OF_THE_LIST + 1))


def test_defects_have_names_and_sentences_of_their_own() -> None:
    names = Counter(one.name for one in DEFECTS)
    assert [name for name, count in names.items() if count > 1] == []
    assert all(one.sentence for one in DEFECTS)
    assert len(DEFECTS) >= 40
    assert PINNED.keys() == names.keys()


def test_the_tests_that_cover_what_is_not_planted_exist() -> None:
    for place in NOT_PLANTED.values():
        path, _, name = place.partition("::")
        if name:
            assert f"def {name}(" in (Path(__file__).parents[2] / path).read_text(), place
