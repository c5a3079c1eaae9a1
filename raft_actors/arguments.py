"""What callers may give for a peer and for a time, and how it is understood."""

from __future__ import annotations

from typing import Any

import pykka

from raft_actors.addresses import Place, place_of
from raft_actors.errors import Refused, UnknownPeer
from raft_actors.intake import Mailbox
from raft_actors.network import NETWORK, elsewhere

__all__ = ["LONGEST", "PeerRef", "member_of", "name_of", "patience_of", "seconds_of"]

LONGEST = 1e8
"""Seconds (three years) that stand for "for ever" where a number is needed; the clocks of the system take no more."""

PeerRef = str | pykka.ActorRef[Any]
"""A short or full name, or the ``ActorRef`` of a peer."""


def name_of(peer: PeerRef) -> str:
    """The short name of a peer of this process; of an ``ActorRef`` that of its peer, also when it is dead.

    Raises:
        InvalidName: nobody can have this name.
        Refused: the ``ActorRef`` of something else.
        UnknownPeer: its full name is of another process.
    """
    if isinstance(peer, pykka.ActorRef):
        inbox = peer.actor_inbox
        if isinstance(inbox, Mailbox):
            return inbox.name
        raise Refused(f"{peer!r} is no peer", advice="give the ref that start_peer returned, or a name")
    if elsewhere(peer) is not None:
        raise UnknownPeer(peer, f"peer {peer!r} is in another process", advice="do this in its own process")
    return place_of(peer).name


def member_of(peer: PeerRef) -> Place:
    """Somebody who is, or is to be, a member of a cluster, wherever it is.

    Raises:
        InvalidName: nobody can have this name.
        Refused: the ``ActorRef`` of something else.
    """
    if isinstance(peer, str):
        return place_of(peer)
    node = NETWORK.node
    return Place(name_of(peer), "" if node is None else node.address)


def seconds_of(value: float | None, what: str) -> float | None:
    """Return ``value`` as seconds; ``None`` means for ever.

    Raises:
        TypeError: it is no number.
        ValueError: it is negative, or not a number at all.
    """
    if value is None or (type(value) is float and 0.0 <= value <= LONGEST):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} must be a number of seconds or None, not {value!r:.60}")
    if not value >= 0:
        raise ValueError(f"{what} must not be negative: {value!r}")
    return min(float(value), LONGEST)


def patience_of(value: float | None, what: str) -> float:
    """The same as a number: ``LONGEST`` for ever.

    Raises:
        TypeError: it is no number.
        ValueError: it is negative, or not a number at all.
    """
    seconds = seconds_of(value, what)
    return LONGEST if seconds is None else seconds
