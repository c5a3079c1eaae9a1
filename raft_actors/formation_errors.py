"""What a caller is told when no cluster could be formed."""

from __future__ import annotations

from raft_actors.errors import (
    ConfigurationInProgress,
    InvalidConfiguration,
    NotConfigured,
    RaftError,
    UnknownPeer,
)
from raft_actors.protocol.configuration import Member
from raft_actors.protocol.effects import ClusterRefused, Refusal
from raft_actors.protocol.messages import JoinRefusal
from raft_actors.protocol.state import PeerState

__all__ = ["formation_error", "not_configured"]

WAITING = (JoinRefusal.ACCEPTED, JoinRefusal.NO_MEMBER, JoinRefusal.NO_LEADER, JoinRefusal.BUSY)
"""Answers that say nothing but that it takes a while."""


def formation_error(asked: Member, effect: ClusterRefused) -> RaftError:
    """The error for a refused formation: it names the peer, and nothing was stored anywhere.

    Args:
        asked: the peer that coordinated.
        effect: its refusal.
    """
    members = effect.configuration.members() if effect.configuration else {}
    incarnations = {member.incarnation for member in members.values() if member.name == asked.name}
    match effect.refusal:
        case Refusal.CONFIGURED if not members or asked.incarnation in incarnations:
            return ConfigurationInProgress(
                f"peer {effect.peer!r} has just been made a member of a cluster, peer {asked.name!r} has not heard all",
                advice="look at configuration(peer) in a moment",
            )
        case Refusal.CONFIGURED:
            return InvalidConfiguration(
                f"peer {effect.peer!r} belongs to a cluster already (of {', '.join(members)}), nothing was changed",
                advice="name only peers without a cluster, or exactly the members that it has",
            )
        case Refusal.FORMING:
            return ConfigurationInProgress(
                f"peer {effect.peer!r} is being made a member of another new cluster, nothing was changed",
                advice="wait for the other call to end, then look at configuration(peer)",
            )
        case Refusal.DIFFERENT:
            return InvalidConfiguration(
                f"peer {effect.peer!r} was started to form a cluster of other peers, nothing was changed",
                advice="name exactly the peers that it was given as join, or start it without bootstrap_expect",
            )
        case Refusal.NOT_A_MEMBER:
            return InvalidConfiguration(
                f"peer {asked.name!r} is not among the members of the new cluster, nothing was changed",
                advice=f"ask one of the named peers, or name {asked.name!r} too",
            )
        case _:
            return UnknownPeer(effect.peer, f"peer {effect.peer!r} did not answer, nothing was changed")


def not_configured(state: PeerState) -> NotConfigured:
    """The error of a peer that belongs to no cluster yet; it tells why, if somebody has refused it."""
    joining, bootstrap = state.joining, state.bootstrap
    why = ""
    if bootstrap is not None and bootstrap.refused:
        why = f": peer {bootstrap.refused!r} looks for other peers than {', '.join(bootstrap.names)}"
    elif joining is not None and joining.refusal not in (None, *WAITING):
        why = f": it may not join, {joining.refusal.value}"
    return NotConfigured(f"peer {state.name!r} is not part of a cluster yet{why}")
