"""Whom a peer votes for, and whom it promises a vote.

Three rules decide, in this order: a peer that hears a leader helps nobody to depose it (stickiness), a voter votes once
per term, and only for a log at least as up-to-date as its own.

A voter never refuses because its own, possibly older, configuration lacks the candidate (thesis §4.1).

Paper: §5.2, §5.4.1, §6 (last paragraph). Thesis: §4.2.3, §9.6.
"""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.behaviours import patience
from raft_actors.behaviours.candidate import ask_again
from raft_actors.behaviours.transition import Outcome, listening, may_stand, shortly
from raft_actors.protocol.effects import Send
from raft_actors.protocol.messages import PreVote, PreVoteReply, RequestVote, RequestVoteReply
from raft_actors.protocol.state import Follower, Leader, PeerState, PreCandidate
from raft_actors.protocol.types import Ballot, Moment

__all__ = ["grant_pre_vote", "grant_vote", "hears_a_leader", "refuse_vote"]


def hears_a_leader(state: PeerState, moment: Moment) -> bool:
    """Whether this peer heard its leader within the minimum election timeout, leads itself, or promised silence.

    Thesis: §4.2.3 ("if a server receives a RequestVote within the minimum election timeout of hearing from a
    current leader, it does not update its term or grant its vote").
    """
    if moment.now < state.no_vote_until or isinstance(state.role, Leader):
        return True
    return state.leader is not None and moment.now < state.heard_at + state.settings.min_election_timeout


def grant_pre_vote(state: PeerState, request: PreVote, moment: Moment) -> Outcome:
    """Say whether this peer would vote for the sender; changes nothing here, but how long it still waits to stand.

    A candidate that refuses asks the sender for its vote again.

    Differs: of two pre-candidates that ask each other, the one with the better claim (log, then name) refuses the
    other, so that both do not go on to split the vote.
    """
    better = _has_better_claim(state, request)
    granted = request.term > state.term and not better and not hears_a_leader(state, moment)
    if better:
        state = _stand_soon(state, request.sender, moment)
    reply = PreVoteReply(
        cluster=request.cluster,
        sender=state.name,
        incarnation=state.incarnation,
        receiver=request.incarnation,
        term=request.term if granted else state.term,
        granted=granted,
    )
    repeated = () if granted else ask_again(state, request)
    return state, (Send(request.sender, reply), *repeated)


def _stand_soon(state: PeerState, voter: str, moment: Moment) -> PeerState:
    """Wait no longer than at first, now that one is up that would vote for us and that we have refused.

    It may be the only other one that is up. A candidate asks it again instead (``candidate.ask_again``). Who hears a
    leader does not wait longer than at first.
    """
    role = state.role
    if not isinstance(role, Follower | PreCandidate) or not patience.waits_longer(role.in_vain):
        return state
    if not may_stand(state) or not state.configuration.is_voter(voter):
        return state
    return replace(state, role=replace(role, election_deadline=min(role.election_deadline, shortly(state, moment))))


def _has_better_claim(state: PeerState, request: PreVote) -> bool:
    if request.last != state.log.last:
        return state.log.last > request.last
    if not isinstance(state.role, PreCandidate) or state.term + 1 < request.term:
        return False
    return state.name < request.sender


def grant_vote(state: PeerState, request: RequestVote, moment: Moment) -> Outcome:
    """Decide whether this peer votes for ``request.sender``.

    A vote is granted at most once per term, and only to a candidate whose log is at least as up to date as ours;
    otherwise a leader could be elected that lacks a committed entry. The same candidate may ask again: its first
    answer may have been lost (BUG-32).

    Paper: Figure 2 "RequestVote RPC", §5.2 (one vote per term), §5.4.1 (election restriction).

    Args:
        state: the peer, already moved to ``request.term``.
        request: the candidate's request, with ``term`` equal to ours.
        moment: clock reading and jitter taken by the shell for this step.

    Returns:
        The new state and the reply. The changed ballot is put on disk before the reply leaves (``step.seal``): a vote
        that is not on disk must never be on the wire.
    """
    shorter = request.last < state.log.last
    if shorter:
        state = _stand_soon(state, request.sender, moment)
    if shorter or state.ballot.voted_for not in (None, request.sender):
        return refuse_vote(state, request)
    state = replace(state, ballot=Ballot(state.term, request.sender))
    if isinstance(state.role, Follower):
        state = replace(state, role=listening(state, moment, state.role.in_vain))
    return state, (_reply(state, request, granted=True),)


def refuse_vote(state: PeerState, request: RequestVote) -> Outcome:
    """No vote; our term tells an outdated candidate so."""
    return state, (_reply(state, request, granted=False),)


def _reply(state: PeerState, request: RequestVote, *, granted: bool) -> Send:
    reply = RequestVoteReply(
        cluster=request.cluster,
        sender=state.name,
        incarnation=state.incarnation,
        receiver=request.incarnation,
        term=state.term,
        granted=granted,
    )
    return Send(request.sender, reply)
