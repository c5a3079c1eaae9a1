"""What a step and a rule return, and the moves that every role shares.

Paper: Figure 2 ("All Servers", "Followers").
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from msgspec.structs import replace

from raft_actors.behaviours import patience
from raft_actors.protocol.configuration import Member
from raft_actors.protocol.effects import ChangeAnswer, ChangeRefusal, Effect, Refusal, Reject, Send
from raft_actors.protocol.messages import ReadIndexReply
from raft_actors.protocol.state import LONG_AGO, NEVER, Follower, Leader, PeerState, PendingRead, PreCandidate
from raft_actors.protocol.types import Ballot, Moment

__all__ = [
    "Outcome",
    "Transition",
    "become_follower",
    "election_deadline",
    "forget_leader",
    "is_removed",
    "listening",
    "may_stand",
    "other_voters",
    "others",
    "refusal",
    "shortly",
]


class Transition(NamedTuple):
    """A new state and what the shell must do, in order."""

    state: PeerState
    effects: tuple[Effect, ...] = ()


Outcome: TypeAlias = tuple[PeerState, tuple[Effect, ...]]
"""The same of a rule within a step. A bare pair: a write takes dozens of rules, and naming each pair costs a call."""


def others(state: PeerState) -> list[Member]:
    """Every other member of the active configuration."""
    return [member for name, member in state.configuration.members().items() if name != state.name]


def other_voters(state: PeerState) -> list[Member]:
    """Every other member that votes."""
    return [member for member in others(state) if state.configuration.is_voter(member.name)]


def may_stand(state: PeerState) -> bool:
    """Whether this peer may be elected: it votes, and has not lost its state, with which it could not lead.

    Who is no voter of a configuration that may not be committed yet stands all the same: its log may be longer than
    those of the others, who then could not win without its vote. A peer that was told that it is out stands no more.

    Thesis: §4.2.2 ("a server that is not part of its own latest configuration should still start new elections").
    """
    if state.lacks_state or state.removed:
        return False
    for index, configuration in reversed(state.configurations):
        if configuration.is_voter(state.name) and configuration.has(state.name, state.incarnation):
            return True
        if index <= state.commit_index:
            return False
    return False


def is_removed(state: PeerState) -> bool:
    """Whether this peer knows that it is a member of its cluster no more."""
    if state.removed or not state.configurations:
        return bool(state.removed)
    index, configuration = state.configurations[-1]
    return index <= state.commit_index and not configuration.has(state.name, state.incarnation)


def election_deadline(state: PeerState, moment: Moment, in_vain: int = 0) -> float:
    """When to stand, or at least to forget the leader, if nothing is heard: a fresh random timeout. Paper: §5.2.

    It is longer for who stood ``in_vain``. Never for a peer that was told that it is out, or that knows neither members
    nor a leader: a newcomer that has no configuration yet forgets its leader all the same, who may not add it any more.

    No promise of a lease reaches beyond it: promises last for the shortest such timeout.
    """
    if state.removed or not (state.configurations or state.leader):
        return NEVER
    return moment.now + patience.timeout(state.settings, moment, in_vain)


def listening(state: PeerState, moment: Moment, in_vain: int) -> Follower:
    """A follower with a fresh timeout, that of who stood ``in_vain`` times: remembered until a leader is heard."""
    return Follower(election_deadline(state, moment, in_vain), in_vain=in_vain)


def shortly(state: PeerState, moment: Moment, in_vain: int = 0) -> float:
    """When to ask again after a refusal: soon, later for who stood ``in_vain``, and not before a promise is over."""
    return max(moment.now + patience.pause(state.settings, moment, in_vain), state.no_vote_until)


def refusal(state: PeerState) -> Refusal:
    """Why a request cannot be taken here."""
    if not state.configuration and not state.cluster:
        return Refusal.NOT_CONFIGURED
    if is_removed(state):
        return Refusal.REMOVED
    if state.leader is None or state.leader == state.name:
        return Refusal.ELECTION_IN_PROGRESS
    return Refusal.NOT_LEADER


def become_follower(state: PeerState, moment: Moment, *, term: int | None = None, leader: str | None = None) -> Outcome:
    """Give up whatever this peer was, in its term or in a newer one.

    Reads that waited for a round are turned away: they had no effect. Writes keep waiting, since their entries may
    still be committed by the next leader.

    A follower that only learns of a newer term goes on waiting as before: a candidate that cannot win, but asks again
    and again, must not keep those who can from standing. A pre-candidate was refused for its term, and asks again soon
    in the newer one.

    Paper: §5.1 ("If RPC request or response contains term T > currentTerm"), Figure 2 (what resets the timeout).

    Args:
        state: the peer.
        moment: now.
        term: the newer term, with no vote in it yet; ``None`` to stay in the current one.
        leader: who leads, if known.
    """
    ballot = state.ballot if term is None or term == state.term else Ballot(term, None)
    effects = _turn_away(state, state.role) if isinstance(state.role, Leader) else ()
    role = _leaderless(state, moment) if leader is None else listening(state, moment, 0)
    state, rejected = forget_leader(replace(state, ballot=ballot, role=role))
    return replace(state, leader=leader), effects + rejected


def _leaderless(state: PeerState, moment: Moment) -> Follower:
    """The follower that one becomes who gives up its role for no leader.

    If a pre-candidate waited as long as it has learned to (``patience``), all would wait whose logs are shorter. So it
    asks soon, once for each newer term: there are no more of those than candidates, who become rare.
    """
    role = state.role
    match role:
        case Follower():
            return role
        case PreCandidate():
            return Follower(min(role.election_deadline, shortly(state, moment)), in_vain=role.in_vain)
        case _:
            return listening(state, moment, role.in_vain)


def forget_leader(state: PeerState) -> Outcome:
    """No leader is known any more: reads that were sent to it have no effect and are turned away.

    So are those that wait for an index that is not known to be committed. It may be that of a no-op which no other peer
    ever got: where nobody writes, the next leaders may never come so far, and the reads would wait for ever.
    """
    tokens = [token for _, token in state.forwarded]
    kept = state.confirmed_reads
    if kept:
        tokens += [token for index, token in kept if index > state.commit_index]
        kept = tuple(item for item in kept if item[0] <= state.commit_index)
    effects = tuple(Reject(token, Refusal.ELECTION_IN_PROGRESS) for token in tokens)
    return replace(state, leader=None, heard_at=LONG_AGO, forwarded=(), confirmed_reads=kept), effects


def _turn_away(state: PeerState, role: Leader) -> tuple[Effect, ...]:
    """Who waits for a leader that leads no more: reads and changes that did not begin had no effect."""
    reads = (role.reading.reads if role.reading else ()) + role.queued_reads
    changes = [ChangeAnswer(token, ChangeRefusal.INTERRUPTED) for token, _ in role.callers]
    if role.preparing is not None and role.preparing.token:
        changes.append(ChangeAnswer(role.preparing.token, ChangeRefusal.NOT_LEADER))
    return (*[_turn_away_read(state, read) for read in reads], *changes)


def _turn_away_read(state: PeerState, read: PendingRead) -> Effect:
    if not read.peer:
        return Reject(read.token, Refusal.ELECTION_IN_PROGRESS)
    reply = ReadIndexReply(
        cluster=state.cluster,
        sender=state.name,
        incarnation=state.incarnation,
        receiver="",
        term=state.term,
        request=read.request,
        index=None,
    )
    return Send(read.peer, reply)
