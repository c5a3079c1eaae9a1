"""What a peer does without a cluster: it forms one, keeps itself free, looks for others, or asks to be let in."""

from __future__ import annotations

from msgspec import Struct

from raft_actors.protocol.configuration import Member
from raft_actors.protocol.messages import JoinRefusal

__all__ = ["Bootstrap", "Forming", "Joining", "Reserved"]

LONG_AGO = float("-inf")


class Forming(Struct, frozen=True):
    """This peer asks others to form ``proposal`` with it.

    Attributes:
        token: whom to answer.
        proposal: id of the cluster to be.
        names: its members-to-be.
        free: who is free for it, by name.
        deadline: when to give up.
        retry: when to ask again who has not said that it is free.
        busy: who said that it is free for another cluster.
    """

    token: int
    proposal: str
    names: tuple[str, ...]
    free: dict[str, Member]
    deadline: float
    retry: float
    busy: frozenset[str] = frozenset()


class Reserved(Struct, frozen=True):
    """This unconfigured peer keeps itself free for ``proposal`` until ``deadline``; the store ``by`` asked."""

    proposal: str
    deadline: float
    by: str = ""


class Bootstrap(Struct, frozen=True):
    """This peer looks for others, to form a cluster of exactly ``names`` with them.

    Attributes:
        names: of all of them, its own too.
        retry: when to ask them again.
        refused: who looks for other peers than we do, ``""`` if nobody has said so.
    """

    names: tuple[str, ...]
    retry: float = LONG_AGO
    refused: str = ""


class Joining(Struct, frozen=True):
    """This peer wants to be a member of the cluster of ``seeds``, and asks them in turn.

    Attributes:
        seeds: names of members, never its own.
        learner: it wants no vote.
        retry: when to ask again.
        turn: whom to ask next, counted along ``seeds``.
        leader: who leads, as the last one asked said; asked first.
        refusal: the last answer.
        expected: the names that it was given for a cluster that it would have formed; empty if it only joins.
    """

    seeds: tuple[str, ...]
    learner: bool = False
    retry: float = LONG_AGO
    turn: int = 0
    leader: str | None = None
    refusal: JoinRefusal | None = None
    expected: tuple[str, ...] = ()
