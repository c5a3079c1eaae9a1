"""The simulator turns red on every planted defect of our own code, by the rule that the defect is about.

It stays green on the same seeds without it.

The table of bug, seed and time to find is printed at the end of a test run and kept in pytest's cache;
``python -m tests.simulation.table`` searches all of it anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from raft_actors.behaviours import candidate, reads
from raft_actors.protocol import configuration
from tests.simulation.defects import DEFECTS, NOT_PLANTED
from tests.simulation.hunting import Defect, Make, hunt, run, run_with
from tests.simulation.pinned import PINNED
from tests.simulation.planting import planted
from tests.simulation.table import ROW, line

EARLY = 20
"""A defect that one of so few first seeds shows is found again soon, however the simulator draws; the rest is slow."""
CASES = [
    pytest.param(one, marks=[] if PINNED[one.name][0] < EARLY else [pytest.mark.slow], id=one.name) for one in DEFECTS
]
RUNS = list(dict.fromkeys((one.machine, one.peers, one.steps, one.without, PINNED[one.name][0]) for one in DEFECTS))
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
    seed, rule = PINNED[one.name]
    catch = hunt(one, [seed], rule=rule)
    record_property(ROW, line(one, catch))
    assert catch is not None, f"{one.bugs}: {rule!r} notices nothing of this: {one.sentence}"
    assert not catch.is_broken, f"this defect does not fit our code any more: {catch.violation}"


@pytest.mark.parametrize(("machine", "peers", "steps", "without", "seed"), RUNS)
def test_a_pinned_seed_without_its_defect_is_green(
    machine: type, peers: int, steps: int, without: tuple[str, ...], seed: int
) -> None:
    run(Defect("", "", "", {}, peers=peers, steps=steps, machine=machine, without=without), seed).check()


def test_a_defect_that_only_another_rule_sees_is_not_found() -> None:
    one = DEFECTS[0]
    seed, rule = PINNED[one.name]
    catch = hunt(one, [seed], rule=rule, enough=0.0)
    assert catch is not None
    assert catch.rule == rule
    assert hunt(one, [seed], rule="one vote", enough=0.0) is None


def test_what_a_module_only_imports_is_planted_there_alone() -> None:
    def none(honest: Any) -> Any:
        return lambda configuration, names: False

    with planted("raft_actors.behaviours.candidate:has_quorum", none):
        assert candidate.has_quorum is not configuration.has_quorum
        assert reads.has_quorum is configuration.has_quorum
    with planted("raft_actors.protocol.configuration:has_quorum", none):
        assert candidate.has_quorum is reads.has_quorum is configuration.has_quorum
        assert not configuration.has_quorum(configuration.NO_CONFIGURATION, ())
    assert candidate.has_quorum is reads.has_quorum is configuration.has_quorum


def test_a_name_that_is_gone_fails_loudly() -> None:
    gone = Defect("gone", "", "", {"raft_actors.behaviours.leader:_advance_the_commit_index": lambda honest: honest})
    with pytest.raises(KeyError, match="_advance_the_commit_index"):
        run_with(gone, 0)


def of_an_older_state(honest: Any) -> Any:
    return lambda state, role, moment: honest(replace(state, commit=1), role, moment)  # there is no such attribute


def of_an_older_mapping(honest: Any) -> Any:
    return lambda state, role, moment: honest(state, role.progress["of an older peer"], moment)


def of_an_older_list(honest: Any) -> Any:
    return lambda state, role, moment: honest(state, sorted(role.progress)[99], moment)


@pytest.mark.parametrize("make", [of_an_older_state, of_an_older_mapping, of_an_older_list])
def test_a_defect_that_does_not_fit_our_code_is_told_from_one_that_is_found(make: Make) -> None:
    catch = hunt(Defect("older", "", "", {"raft_actors.behaviours.leader:_advance_commit": make}), [0])
    assert catch is not None
    assert catch.is_broken, catch.violation


def test_a_defect_is_gone_after_its_run() -> None:
    one = DEFECTS[0]
    seed, _ = PINNED[one.name]
    assert not run_with(one, seed).ok
    assert run(one, seed).ok


@pytest.mark.parametrize(("rule", "name"), SHOWN_BY)
def test_every_rule_of_reads_and_leases_finds_a_planted_defect(rule: str, name: str) -> None:
    one = next(one for one in DEFECTS if one.name == name)
    report = run_with(one, PINNED[name][0])
    assert report.violations[0].startswith(f"{rule}: ")


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
