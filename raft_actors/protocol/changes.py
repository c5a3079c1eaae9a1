"""How one configuration becomes another: always by steps that keep every two majorities in touch.

::

    stable --newcomers--> + learners --caught up--> joint (old and new) --committed--> new
                                                      ^
    a wiped disk: its old incarnation is taken out first, by the same steps

Each step is one entry. It is appended only when the one before it is committed, and only by a leader that has committed
an entry of its own term (BUG-55). The goal stands in each of them, so any leader can take the next step.

Paper: §6. Thesis: §4.1 (learners), §4.2.1 (catching up), §4.3 (joint consensus).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from raft_actors.protocol.configuration import Configuration, Goal, Member
from raft_actors.protocol.types import Name

__all__ = [
    "AddMember",
    "Change",
    "RemoveMember",
    "SetMembers",
    "given_up",
    "goal_of",
    "is_reached",
    "is_so",
    "newcomers",
    "next_configuration",
    "same_members",
]


class SetMembers(Struct, frozen=True, tag=True):
    """The voters are to be exactly ``names``, and there are to be no learners."""

    names: Annotated[tuple[Name, ...], Meta(max_length=1024)]


class AddMember(Struct, frozen=True, tag=True):
    """``name`` is to be a voter as well, or a learner."""

    name: Name
    learner: bool = False


class RemoveMember(Struct, frozen=True, tag=True):
    """``name`` is to be no member any more."""

    name: Name


Change = SetMembers | AddMember | RemoveMember


def goal_of(configuration: Configuration, change: Change, known: Mapping[str, Member]) -> Goal:
    """Where ``change`` leads to from ``configuration``.

    Args:
        configuration: a stable one.
        change: what is wanted.
        known: members-to-be by name, as they have introduced themselves; they win over the members of now.
    """
    voters, learners = configuration.voters, configuration.learners
    match change:
        case SetMembers():
            members = {**configuration.members(), **known}
            return Goal(tuple(members[name] for name in change.names))
        case RemoveMember():
            return Goal(_without(voters, (change.name,)), _without(learners, (change.name,)))
        case AddMember():
            member = known.get(change.name) or configuration.members()[change.name]
            learners = _without(learners, (change.name,))
            if change.learner:
                return Goal(_without(voters, (change.name,)), (*learners, member))
            return Goal((*_without(voters, (change.name,)), member), learners)


def is_so(change: Change, *, voters: Collection[str], learners: Collection[str]) -> bool:
    """Whether a stable configuration of these names has what is wanted."""
    match change:
        case SetMembers():
            return set(voters) == set(change.names) and not learners
        case AddMember():
            return change.name in (learners if change.learner else voters)
        case RemoveMember():
            return change.name not in voters and change.name not in learners


def is_reached(configuration: Configuration, goal: Goal) -> bool:
    """Whether ``configuration`` is stable and has exactly the members of ``goal``."""
    if configuration.outgoing:
        return False
    return same_members(configuration.voters, goal.voters) and same_members(configuration.learners, goal.learners)


def next_configuration(configuration: Configuration, ready: Collection[str]) -> Configuration | None:
    """The next step of a configuration, which is committed, towards its goal.

    Args:
        configuration: the current one.
        ready: names of newcomers that have caught up.

    Returns:
        The next one, or ``None`` if there is nothing to do, or newcomers are still catching up.
    """
    goal = configuration.goal
    if configuration.outgoing:
        return _settled(replace(configuration, outgoing=()))
    if goal is None:
        return None
    replaced = _replaced(configuration, goal)
    if replaced:
        return _removed(configuration, replaced)
    if same_members(configuration.voters, goal.voters):
        return Configuration(goal.voters, (), goal.learners)
    unknown = tuple(member for member in goal.voters if member.name not in configuration.members())
    if unknown:
        fresh = (*goal.fresh, *(member.name for member in unknown))
        return replace(configuration, learners=(*configuration.learners, *unknown), goal=replace(goal, fresh=fresh))
    if any(name not in ready for name in newcomers(configuration)):
        return None
    return Configuration(goal.voters, configuration.voters, goal.learners, goal)


def newcomers(configuration: Configuration) -> tuple[str, ...]:
    """Names of the learners that the goal of ``configuration`` wants to vote."""
    goal = configuration.goal
    if goal is None or configuration.outgoing:
        return ()
    wanted = {member.name for member in goal.voters}
    return tuple(member.name for member in configuration.learners if member.name in wanted)


def given_up(configuration: Configuration) -> Configuration:
    """``configuration``, which is not joint, without its goal and without those who came only for it."""
    goal = configuration.goal
    fresh = goal.fresh if goal is not None else ()
    return replace(configuration, learners=_without(configuration.learners, fresh), goal=None)


def same_members(some: Iterable[Member], others: Iterable[Member]) -> bool:
    """Whether both hold the same stores, whatever the order and wherever they are."""
    return {(one.name, one.incarnation) for one in some} == {(one.name, one.incarnation) for one in others}


def _replaced(configuration: Configuration, goal: Goal) -> tuple[str, ...]:
    """Names of members whose place in the goal another incarnation takes."""
    stores = {member.name: member.incarnation for member in (*goal.voters, *goal.learners)}
    members = configuration.members().values()
    return tuple(one.name for one in members if stores.get(one.name, one.incarnation) != one.incarnation)


def _removed(configuration: Configuration, names: tuple[str, ...]) -> Configuration:
    voters, learners = _without(configuration.voters, names), _without(configuration.learners, names)
    outgoing = configuration.voters if len(voters) < len(configuration.voters) else ()
    return replace(configuration, voters=voters, outgoing=outgoing, learners=learners)


def _settled(configuration: Configuration) -> Configuration:
    goal = configuration.goal
    return replace(configuration, goal=None) if goal is not None and is_reached(configuration, goal) else configuration


def _without(members: tuple[Member, ...], names: Collection[str]) -> tuple[Member, ...]:
    return tuple(member for member in members if member.name not in names)
