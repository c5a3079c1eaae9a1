"""Quorums, by brute force over every small configuration."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from raft_actors.protocol.configuration import (
    NO_CONFIGURATION,
    Configuration,
    Member,
    agreed_index,
    decode,
    encode,
    has_quorum,
)

NAMES = ("a", "b", "c", "d", "e")


def members(names: tuple[str, ...]) -> tuple[Member, ...]:
    return tuple(Member(name, f"store {name}") for name in names)


def subsets(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [some for size in range(len(names) + 1) for some in itertools.combinations(names, size)]


SIMPLE = [Configuration(voters=members(some)) for some in subsets(NAMES) if some]
JOINT = [
    Configuration(voters=members(new), outgoing=members(old))
    for new in subsets(NAMES[:4])
    for old in subsets(NAMES[:4])
    if new and old
]


def names_of(half: tuple[Member, ...]) -> set[str]:
    return {member.name for member in half}


@pytest.mark.parametrize("configurations", [SIMPLE, JOINT], ids=["simple", "joint"])
def test_a_quorum_is_more_than_half_of_each_half(configurations: list[Configuration]) -> None:
    for configuration in configurations:
        halves = [names_of(configuration.voters), names_of(configuration.outgoing)]
        for some in subsets(NAMES):
            expected = all(len(half & set(some)) > len(half) / 2 for half in halves if half)
            assert has_quorum(configuration, some) is expected, (configuration, some)


@pytest.mark.parametrize("configurations", [SIMPLE, JOINT], ids=["simple", "joint"])
def test_two_quorums_always_meet(configurations: list[Configuration]) -> None:
    for configuration in configurations:
        quorums = [set(some) for some in subsets(NAMES) if has_quorum(configuration, some)]
        assert quorums
        assert all(one & other for one, other in itertools.combinations(quorums, 2))


def test_quorums_of_a_joint_and_of_each_of_its_halves_meet() -> None:
    for configuration in JOINT:
        joint = [set(some) for some in subsets(NAMES) if has_quorum(configuration, some)]
        for half in (configuration.voters, configuration.outgoing):
            alone = [set(some) for some in subsets(NAMES) if has_quorum(Configuration(voters=half), some)]
            assert all(one & other for one in joint for other in alone)


@pytest.mark.parametrize("configurations", [SIMPLE, JOINT[::3]], ids=["simple", "joint"])
def test_the_agreed_index_is_the_highest_that_a_quorum_has(configurations: list[Configuration]) -> None:
    for configuration in configurations:
        voters = sorted(names_of(configuration.voters) | names_of(configuration.outgoing))
        for values in itertools.product((0, 3, 7), repeat=len(voters)):
            match = dict(zip(voters, values, strict=True))
            reached = [
                index
                for index in range(9)
                if has_quorum(configuration, [name for name, value in match.items() if value >= index])
            ]
            assert agreed_index(configuration, match) == max(reached), (configuration, match)


def test_a_voter_that_was_never_heard_has_nothing() -> None:
    assert agreed_index(Configuration(voters=members(("a", "b", "c"))), {"a": 9}) == 0
    assert agreed_index(Configuration(voters=members(("a", "b", "c"))), {"a": 9, "c": 4}) == 4


def test_no_configuration_has_no_quorum() -> None:
    assert not NO_CONFIGURATION
    assert not has_quorum(NO_CONFIGURATION, NAMES)
    assert agreed_index(NO_CONFIGURATION, {"a": 5}) == 0


def test_learners_count_for_nothing() -> None:
    configuration = Configuration(voters=members(("a", "b", "c")), learners=members(("d", "e")))
    assert not has_quorum(configuration, ("a", "d", "e"))
    assert has_quorum(configuration, ("a", "b"))
    assert agreed_index(configuration, {"a": 1, "b": 1, "c": 1, "d": 9, "e": 9}) == 1
    assert not configuration.is_voter("d")
    assert list(configuration.members()) == ["a", "b", "c", "d", "e"]


def test_members_of_both_halves_are_voters() -> None:
    configuration = Configuration(voters=members(("a",)), outgoing=members(("b",)))
    assert configuration.is_voter("a")
    assert configuration.is_voter("b")
    assert configuration


@pytest.mark.parametrize("configuration", [*SIMPLE[:3], *JOINT[:3], NO_CONFIGURATION])
def test_a_configuration_survives_its_bytes(configuration: Configuration) -> None:
    assert decode(encode(configuration)) == configuration


def test_the_bytes_of_a_configuration_are_these() -> None:
    """The golden bytes: they must stay readable, and those that were written before there was a goal, too."""
    configuration = Configuration((Member("a", "1"),), (), (Member("b", "2", "h:1"),))
    assert encode(configuration).hex() == "949193a161a131a0909193a162a132a3683a31c0"
    assert decode(bytes.fromhex("939193a161a131a0909193a162a132a3683a31")) == configuration


def test_every_field_of_a_member_survives() -> None:
    member = Member("s1", "4711", "host:7000")
    assert decode(encode(Configuration(learners=(member,)))).learners == (member,)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x93\x01\x02\x03", b"hello"])
def test_bytes_that_are_no_configuration_are_refused(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(data)
