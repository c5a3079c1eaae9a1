"""How one configuration becomes another: every path on small sets, by brute force."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from raft_actors.protocol.changes import (
    AddMember,
    Change,
    RemoveMember,
    SetMembers,
    given_up,
    goal_of,
    is_reached,
    is_so,
    newcomers,
    next_configuration,
)
from raft_actors.protocol.configuration import Configuration, Goal, Member, agreed_index, has_quorum

NAMES = ("a", "b", "c", "d")


def member(name: str, store: str = "1") -> Member:
    return Member(name, f"{name}{store}")


def members(*names: str) -> tuple[Member, ...]:
    return tuple(member(name) for name in names)


def sets(least: int = 1) -> list[tuple[str, ...]]:
    """Every set of names."""
    return [one for size in range(least, len(NAMES) + 1) for one in itertools.combinations(NAMES, size)]


def path(configuration: Configuration, goal: Goal) -> Iterator[Configuration]:
    """Every step to the goal, if all newcomers catch up at once."""
    configuration = Configuration(configuration.voters, (), configuration.learners, goal)
    while (step := next_configuration(configuration, newcomers(configuration))) is not None:
        yield step
        configuration = step


def quorums(configuration: Configuration) -> list[frozenset[tuple[str, str]]]:
    """Every set of stores that could decide: counted out, with no rule of ours."""
    stores = {(one.name, one.incarnation) for one in (*configuration.voters, *configuration.outgoing)}
    found = []
    for size in range(1, len(stores) + 1):
        for chosen in map(frozenset, itertools.combinations(sorted(stores), size)):
            halves = [half for half in (configuration.voters, configuration.outgoing) if half]
            votes = [sum((one.name, one.incarnation) in chosen for one in half) for half in halves]
            if all(2 * count > len(half) for count, half in zip(votes, halves, strict=True)):
                found.append(chosen)
    return found


@pytest.mark.parametrize("before", sets())
def test_any_set_becomes_any_other_by_steps_whose_quorums_meet(before: tuple[str, ...]) -> None:
    for after, learners in itertools.product(sets(), (False, True)):
        known = Configuration(members(*before), (), members(*(set(NAMES) - set(before))) if learners else ())
        goal = goal_of(known, SetMembers(after), {name: member(name) for name in after})
        steps = [known, *path(known, goal)]
        assert is_reached(steps[-1], goal)
        assert not steps[-1].changing
        for one, next_ in itertools.pairwise(steps):
            for some, others in itertools.product(quorums(one), quorums(next_)):
                assert some & others, f"{one} -> {next_}"


@pytest.mark.parametrize("after", sets())
def test_a_wiped_store_is_taken_out_before_the_new_one_of_its_name_comes_in(after: tuple[str, ...]) -> None:
    """BUG-62: no configuration counts both, and none takes one for the other."""
    known = Configuration(members("a", "b", "c"))
    for name in set(after) & {"a", "b", "c"}:
        fresh = {one: member(one) for one in after} | {name: member(name, "2")}
        goal = goal_of(known, SetMembers(after), fresh)
        if {"a", "b", "c"} == {name}:
            continue
        steps = [known, *path(known, goal)]
        assert is_reached(steps[-1], goal)
        for one, next_ in itertools.pairwise(steps):
            assert not {f"{name}1", f"{name}2"} <= {each.incarnation for each in (*one.voters, *one.learners)}
            for some, others in itertools.product(quorums(one), quorums(next_)):
                assert some & others


@pytest.mark.parametrize("voters", sets())
def test_quorum_and_agreed_index_of_joint_configurations_are_as_counted_out(voters: tuple[str, ...]) -> None:
    for outgoing in sets(0):
        configuration = Configuration(members(*voters), members(*outgoing))
        counted = {frozenset(name for name, _ in one) for one in quorums(configuration)}
        for chosen in map(frozenset, sets(0)):
            known = frozenset(chosen & {*voters, *outgoing})
            assert has_quorum(configuration, chosen) == (known in counted)
        for indexes in itertools.product((0, 3, 7), repeat=len(NAMES)):
            match = dict(zip(NAMES, indexes, strict=True))
            having = (index for index in (7, 3) if has_quorum(configuration, [n for n in NAMES if match[n] >= index]))
            assert agreed_index(configuration, match) == next(having, 0)


def test_newcomers_are_learners_until_they_have_caught_up() -> None:
    known = Configuration(members("a"), goal=goal_of(Configuration(members("a")), AddMember("b"), {"b": member("b")}))
    first = next_configuration(known, ())
    assert first is not None
    assert (first.voters, first.learners, newcomers(first)) == (members("a"), members("b"), ("b",))
    assert next_configuration(first, ()) is None, "it is not within reach"
    joint = next_configuration(first, ("b",))
    assert joint is not None
    assert (joint.voters, joint.outgoing) == (members("a", "b"), members("a"))


@pytest.mark.parametrize(
    ("change", "voters", "learners", "so"),
    [
        (SetMembers(("a", "b")), "ba", "", True),
        (SetMembers(("a", "b")), "abc", "", False),
        (SetMembers(("a", "b")), "ab", "c", False),
        (AddMember("c"), "abc", "", True),
        (AddMember("c"), "ab", "c", False),
        (AddMember("c", learner=True), "ab", "c", True),
        (AddMember("c", learner=True), "abc", "", False),
        (RemoveMember("c"), "ab", "", True),
        (RemoveMember("c"), "abc", "", False),
        (RemoveMember("c"), "ab", "c", False),
    ],
    ids=str,
)
def test_what_is_so_already_needs_no_change(change: Change, voters: str, learners: str, *, so: bool) -> None:
    assert is_so(change, voters=tuple(voters), learners=tuple(learners)) is so


def test_a_goal_of_learners_only_is_one_step() -> None:
    known = Configuration(members("a"))
    goal = goal_of(known, AddMember("b", learner=True), {"b": member("b")})
    assert list(path(known, goal)) == [Configuration(members("a"), (), members("b"))]


def test_a_voter_that_is_removed_is_out_and_no_learner() -> None:
    known = Configuration(members("a", "b"), (), members("c"))
    goal = goal_of(known, RemoveMember("b"), {})
    assert list(path(known, goal))[-1] == Configuration(members("a"), (), members("c"))


def test_what_is_given_up_leaves_nothing_of_it_behind() -> None:
    known = Configuration(members("a"), (), members("c"))
    goal = goal_of(known, SetMembers(("a", "b", "c")), {"b": member("b")})
    begun = next(path(known, goal))
    assert {one.name for one in begun.learners} == {"b", "c"}
    assert given_up(begun) == known, "who was a learner before stays one"
