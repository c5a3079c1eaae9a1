"""Standing for election: ask whether it could be won, then ask for votes.

::

    Follower --timeout--> PreCandidate --quorum would--> Candidate --quorum did--> Leader
                 ^             | refused: try again soon     | refused or timeout
                 +-------------+-----------------------------+
                   each time later (``patience``)

A candidate's own vote counts only when its ballot is on disk, and its requests leave only then (``step.seal``).

Paper: §5.2. Thesis: §9.6 (pre-vote), §3.10 (TimeoutNow).
"""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.behaviours.leader import become_leader
from raft_actors.behaviours.transition import (
    Outcome,
    election_deadline,
    forget_leader,
    listening,
    may_stand,
    other_voters,
    shortly,
)
from raft_actors.protocol.configuration import Member, has_quorum
from raft_actors.protocol.effects import Effect, Send
from raft_actors.protocol.messages import PreVote, PreVoteReply, RequestVote, RequestVoteReply, TimeoutNow
from raft_actors.protocol.state import Candidate, Follower, PeerState, PreCandidate
from raft_actors.protocol.types import Ballot, Moment

__all__ = ["ask_again", "campaign", "on_own_ballot", "on_pre_vote_reply", "on_timeout_now", "on_vote_reply"]


def campaign(state: PeerState, moment: Moment) -> Outcome:
    """The election timeout has passed: no leader is known; ask for pre-votes, or at once for votes.

    Who may not stand forgets the leader all the same: reads that wait for it are turned away. It waits longer each
    time, too: a learner asks all voters each time.

    A candidate whose own ballot is not on disk yet has not asked anybody: it waits, instead of spending another term.
    """
    role = state.role
    if isinstance(role, Candidate) and state.name not in role.votes:
        return replace(state, role=_with_more_time(state, role, moment)), ()
    state, effects = forget_leader(state)
    if not may_stand(state):
        state = replace(state, role=listening(state, moment, role.in_vain + 1))
        return state, effects + _ask_whether_a_member(state)
    state, asked = _stand(state, moment, role.in_vain + 1)
    return state, effects + asked


def _stand(state: PeerState, moment: Moment, in_vain: int) -> Outcome:
    """Begin a round. Also who asks for no pre-votes is a pre-candidate first: the candidate takes its count over."""
    own = frozenset((state.name,))
    state = replace(state, role=PreCandidate(own, frozenset(), election_deadline(state, moment, in_vain), in_vain))
    if has_quorum(state.configuration, own) or not state.settings.pre_vote:
        return start_election(state, moment)
    return state, _pre_votes(state)


def _ask_whether_a_member(state: PeerState) -> tuple[Effect, ...]:
    """A learner hears nobody: a pre-vote changes nothing, and is answered by ``Removed`` if it is out."""
    configuration = state.configuration
    votes = configuration.is_voter(state.name) and configuration.has(state.name, state.incarnation)
    return () if votes else _pre_votes(state)


def _pre_votes(state: PeerState) -> tuple[Effect, ...]:
    return tuple(
        Send(
            voter.name,
            PreVote(
                cluster=state.cluster,
                sender=state.name,
                incarnation=state.incarnation,
                receiver=voter.incarnation,
                term=state.term + 1,
                last=state.log.last,
            ),
        )
        for voter in other_voters(state)
    )


def on_pre_vote_reply(state: PeerState, reply: PreVoteReply, moment: Moment) -> Outcome:
    """Count who would vote for us, and ask again soon if anybody refuses, but less soon each time.

    It may only have heard the leader a little longer than we did, and the others may be dead.
    """
    role = state.role
    if not isinstance(role, PreCandidate):
        return state, ()
    if reply.granted:
        if reply.term != state.term + 1:
            return state, ()
        votes = role.votes | {reply.sender}
        state = replace(state, role=replace(role, votes=votes))
        return start_election(state, moment) if has_quorum(state.configuration, votes) else (state, ())
    refusals, again = role.refusals | {reply.sender}, min(role.election_deadline, shortly(state, moment, role.in_vain))
    if _can_win(state, refusals):
        return replace(state, role=replace(role, refusals=refusals, election_deadline=again)), ()
    return replace(state, role=Follower(again, in_vain=role.in_vain)), ()


def start_election(state: PeerState, moment: Moment, *, transfer: bool = False) -> Outcome:
    """Move to a new term, vote for ourselves, ask the others. Paper: §5.2, Figure 2 ("Candidates")."""
    state, effects = forget_leader(state)
    in_vain = state.role.in_vain
    state = replace(
        state,
        ballot=Ballot(state.term + 1, state.name),
        role=Candidate(frozenset(), frozenset(), election_deadline(state, moment, in_vain), in_vain),
    )
    requests = tuple(_request_vote(state, voter, transfer=transfer) for voter in other_voters(state))
    return state, effects + requests


def _request_vote(state: PeerState, voter: Member, *, transfer: bool = False) -> Send:
    request = RequestVote(
        cluster=state.cluster,
        sender=state.name,
        incarnation=state.incarnation,
        receiver=voter.incarnation,
        term=state.term,
        last=state.log.last,
        transfer=transfer,
    )
    return Send(voter.name, request)


def ask_again(state: PeerState, refused: PreVote) -> tuple[Effect, ...]:
    """Of a candidate: repeat the request to a voter that would rather stand itself, and was refused.

    It may have been down when it was asked, or the request, or its vote, is lost (BUG-32). To stand anew instead would
    throw away the votes under way: where answers are late, candidates would go on doing it to themselves. Who has gone
    on to a newer term could only depose this one.

    Paper: §5.1 ("Servers retry RPCs if they do not receive a response in a timely manner").
    """
    role = state.role
    if not isinstance(role, Candidate) or state.name not in role.votes or refused.term > state.term + 1:
        return ()
    return tuple(_request_vote(state, voter) for voter in other_voters(state) if voter.name == refused.sender)


def on_own_ballot(state: PeerState, ballot: Ballot, moment: Moment) -> Outcome:
    """Our vote for ourselves is on disk: it counts from now on, and so does the timeout (a slow disk costs no term)."""
    role = state.role
    if not isinstance(role, Candidate) or ballot != state.ballot or state.name in role.votes:
        return state, ()
    return _counted(state, _with_more_time(state, role, moment), state.name, moment)


def on_vote_reply(state: PeerState, reply: RequestVoteReply, moment: Moment) -> Outcome:
    """Count a vote of our term; each voter once. Paper: §5.2."""
    role = state.role
    if not isinstance(role, Candidate) or reply.term != state.term:
        return state, ()
    if reply.granted:
        return _counted(state, role, reply.sender, moment)
    role = replace(role, refusals=role.refusals | {reply.sender})
    if not _can_win(state, role.refusals):
        role = replace(role, election_deadline=min(role.election_deadline, shortly(state, moment, role.in_vain)))
    return replace(state, role=role), ()


def _counted(state: PeerState, role: Candidate, voter: str, moment: Moment) -> Outcome:
    role = replace(role, votes=role.votes | {voter})
    state = replace(state, role=role)
    if state.name in role.votes and has_quorum(state.configuration, role.votes):
        return become_leader(state, moment)
    return state, ()


def _can_win(state: PeerState, refusals: frozenset[str]) -> bool:
    return has_quorum(state.configuration, state.configuration.members().keys() - refusals)


def _with_more_time(state: PeerState, role: Candidate, moment: Moment) -> Candidate:
    return replace(role, election_deadline=election_deadline(state, moment, role.in_vain))


def on_timeout_now(state: PeerState, message: TimeoutNow, moment: Moment) -> Outcome:
    """The leader hands over to us: stand at once, without pre-vote. Thesis: §3.10."""
    if message.sender != state.leader or not may_stand(state):
        return state, ()
    return start_election(state, moment, transfer=True)
