"""Who belongs to the cluster, and what a quorum of it is.

A configuration with outgoing voters is *joint*: votes and commits then need a majority of both halves (BUG-68).
A member is a name *and* the incarnation of its store: what another incarnation says never counts (BUG-62).
Where a change leads to is part of the configuration, so that the next leader can complete it (``protocol.changes``).

Paper: §6. Thesis: chapter 4.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property

import msgspec
from msgspec import Struct

from raft_actors.protocol.types import Address, Identity, Name

__all__ = ["NO_CONFIGURATION", "Configuration", "Goal", "Member", "agreed_index", "decode", "encode", "has_quorum"]


class Member(Struct, frozen=True, array_like=True):
    """One peer of a cluster.

    Attributes:
        name: its registered name.
        incarnation: identity of its store, drawn when the store was made.
        address: where it is reached, ``""`` in this process; an attribute, not its identity.
    """

    name: Name
    incarnation: Identity
    address: Address = ""


class Goal(Struct, frozen=True, array_like=True):
    """What a change that is under way leads to.

    Attributes:
        voters: the voters to be.
        learners: the learners to be.
        fresh: names of those who are members only since this change began; they are dropped if it is given up.
    """

    voters: tuple[Member, ...]
    learners: tuple[Member, ...] = ()
    fresh: tuple[str, ...] = ()


class Configuration(Struct, frozen=True, array_like=True, dict=True):
    """The members of a cluster, in the order in which the user gave them.

    Attributes:
        voters: members whose majority decides.
        outgoing: the other half while a change is under way, else empty.
        learners: members that receive the log and count for nothing.
        goal: what a change that is under way leads to; ``None`` if there is none.
    """

    voters: tuple[Member, ...] = ()
    outgoing: tuple[Member, ...] = ()
    learners: tuple[Member, ...] = ()
    goal: Goal | None = None

    def __bool__(self) -> bool:
        """Whether a cluster was formed at all."""
        return bool(self.voters)

    def members(self) -> dict[str, Member]:
        """Every member by name: voters of both halves and learners. Not to be changed."""
        return self._members

    def is_voter(self, name: str) -> bool:
        """Whether ``name`` votes in either half."""
        return name in self._voter_names

    def has(self, name: str, incarnation: str) -> bool:
        """Whether this very store is a member: another one of the same name is not (BUG-62)."""
        member = self._members.get(name)
        return member is not None and member.incarnation == incarnation

    @property
    def changing(self) -> bool:
        """Whether a change is under way."""
        return bool(self.outgoing) or self.goal is not None

    @cached_property
    def halves(self) -> tuple[tuple[str, ...], ...]:
        """Names of the voters of each half whose majority is needed; none if there is no cluster."""
        return tuple(tuple(member.name for member in half) for half in (self.voters, self.outgoing) if half)

    # Derived once per configuration: every message is checked against them.

    @cached_property
    def _members(self) -> dict[str, Member]:
        return {member.name: member for member in (*self.voters, *self.outgoing, *self.learners)}

    @cached_property
    def _voter_names(self) -> frozenset[str]:
        return frozenset(member.name for member in (*self.voters, *self.outgoing))


NO_CONFIGURATION = Configuration()
"""The configuration of a peer that belongs to no cluster yet."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Configuration)


def encode(configuration: Configuration) -> bytes:
    """The bytes of a configuration entry."""
    return _encoder.encode(configuration)


def decode(data: bytes) -> Configuration:
    """The configuration in an entry's bytes.

    Raises:
        msgspec.DecodeError: the bytes are no configuration.
    """
    return _decoder.decode(data)


def has_quorum(configuration: Configuration, names: Collection[str]) -> bool:
    """Whether ``names`` hold a majority of each half. An empty configuration has no quorum."""
    halves = configuration.halves
    for half in halves:
        if 2 * sum(map(names.__contains__, half)) <= len(half):
            return False
    return bool(halves)


def agreed_index(configuration: Configuration, match: Mapping[str, int]) -> int:
    """The highest index that a majority of each half has: sorted descending, the middle one.

    Paper: Figure 2 ("a majority of matchIndex[i] >= N"), §6 for joint configurations.

    Args:
        configuration: the active configuration.
        match: durable and matching index by voter; a missing voter has 0.
    """
    agreed = [
        sorted([match.get(name, 0) for name in half], reverse=True)[len(half) // 2] for half in configuration.halves
    ]
    return min(agreed, default=0)
