"""Which messages are heard at all: those of our cluster, meant for our store, and answers of members only.

What is *counted* (votes, acknowledgements) must come from the store that our configuration names: another one of the
same name, whose disk was wiped or who was replaced, has not promised it (BUG-62). Whoever asks or feeds us is heard,
also if we know another store by its name, or none: our configuration may be older than theirs, and its right comes from
votes that others have counted (thesis §4.1).

A peer that belongs to no cluster yet hears only a cluster that knows its incarnation, and while it keeps itself free
for one proposal, only that one. Everything else is refused and counted, never answered, never a crash (BUG-76).
"""

from __future__ import annotations

from raft_actors.protocol.messages import (
    AppendEntriesReply,
    FormCluster,
    FormClusterReply,
    InstallSnapshotReply,
    Introduce,
    IntroduceReply,
    Join,
    JoinReply,
    Message,
    PreVoteReply,
    RequestVoteReply,
)
from raft_actors.protocol.state import Forming, PeerState, Reserved

__all__ = ["why_refused"]

BETWEEN_STRANGERS = (FormCluster, FormClusterReply, Introduce, IntroduceReply, Join, JoinReply)
"""What peers say to each other before they belong together; the rules for them look at cluster and incarnation."""
COUNTED = (PreVoteReply, RequestVoteReply, AppendEntriesReply, InstallSnapshotReply)
"""Answers on which decisions stand."""
REPLACED = "replaced incarnation"


def why_refused(state: PeerState, message: Message) -> str:
    """Why ``message`` must be ignored; ``""`` if it may be heard."""
    if message.receiver and message.receiver != state.incarnation:
        return "meant for another incarnation"
    if isinstance(message, BETWEEN_STRANGERS):
        return ""
    if not message.cluster:
        return "no cluster"
    if not state.cluster:
        return _why_not_joined(state, message)
    if message.cluster != state.cluster:
        return "foreign cluster"
    member = state.configuration.members().get(message.sender)
    if isinstance(message, COUNTED) and member is not None and member.incarnation != message.incarnation:
        return REPLACED
    return ""


def _why_not_joined(state: PeerState, message: Message) -> str:
    if not message.receiver:
        return "not meant for this store"
    formation = state.formation
    if isinstance(formation, Forming):
        return "forming a cluster of its own"
    if isinstance(formation, Reserved) and formation.proposal != message.cluster:
        return "kept free for another cluster"
    return ""
