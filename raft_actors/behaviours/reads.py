"""Linearizable reads without writing to the log: ReadIndex rounds, and leases.

::

    reads asked --> round n leaves with heartbeats --> quorum confirms n --> wait until its index is applied --> serve

A round is numbered within a leadership; a confirmation counts only for rounds that left after the read was asked
(BUG-28). Its index is the commit index when it leaves, but at least this term's no-op (paper §8, BUG-22). Reads that
come while a round is under way wait for the next: that forms the batches.

Thesis: §6.4 (ReadIndex), §6.4.1 (leases).
"""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.behaviours.replication import heartbeats
from raft_actors.behaviours.transition import Outcome, refusal
from raft_actors.protocol.configuration import has_quorum
from raft_actors.protocol.effects import Effect, Refusal, Reject, Send
from raft_actors.protocol.events import ReadsRequested
from raft_actors.protocol.messages import ReadIndex, ReadIndexReply
from raft_actors.protocol.state import NEVER, Leader, PeerState, PendingRead, ReadRound
from raft_actors.protocol.types import Moment

__all__ = ["ask_again", "confirm_round", "on_read_index", "on_read_index_reply", "read"]

PATIENCE = 0.1
"""Share of a heartbeat interval after which a round that was not confirmed is put to everybody."""
ASK_AGAIN = 2.0
"""Heartbeat intervals after which a follower that hears its leader asks again."""


def read(state: PeerState, event: ReadsRequested, moment: Moment) -> Outcome:
    """A caller of this peer asks to read: start or join a round as leader, ask the leader as follower."""
    if isinstance(state.role, Leader):
        return _enqueue(state, state.role, PendingRead(token=event.token, lease=event.lease), moment)
    if state.leader is None:
        return state, (Reject(event.token, refusal(state), None),)
    forwarded = (*state.forwarded, (state.next_request, event.token))
    asked_at = state.asked_at if state.forwarded else moment.now
    state = replace(state, forwarded=forwarded, next_request=state.next_request + 1, asked_at=asked_at)
    return state, (_question(state),)


def ask_again(state: PeerState, moment: Moment) -> Outcome:
    """Repeat the newest question, if the leader is heard and has owed an answer for long: something was lost."""
    if moment.now < state.asked_at + ASK_AGAIN * state.settings.heartbeat_interval:
        return state, ()
    return replace(state, asked_at=moment.now), (_question(state),)


def _question(state: PeerState) -> Send:
    leader = state.leader or ""
    question = ReadIndex(
        cluster=state.cluster,
        sender=state.name,
        incarnation=state.incarnation,
        receiver="",  # whoever leads: our configuration may be too old to know its store
        term=state.term,
        request=state.forwarded[-1][0],
    )
    return Send(leader, question)


def on_read_index(state: PeerState, message: ReadIndex, moment: Moment) -> Outcome:
    """A follower asks on behalf of its callers."""
    if isinstance(state.role, Leader):
        return _enqueue(state, state.role, PendingRead(peer=message.sender, request=message.request), moment)
    return state, (_reply(state, message.sender, message.request, None),)


def on_read_index_reply(state: PeerState, message: ReadIndexReply) -> Outcome:
    """The leader answered: the reads wait only for the machine now, or had no effect.

    An answer is good for every question asked before its own, whose answers may be lost.
    """
    if message.request >= state.next_request:
        return state, ()
    tokens = [token for number, token in state.forwarded if number <= message.request]
    state = replace(state, forwarded=state.forwarded[len(tokens) :])
    if message.index is None:
        return state, tuple(Reject(token, Refusal.ELECTION_IN_PROGRESS) for token in tokens)
    confirmed = tuple((message.index, token) for token in tokens)
    return replace(state, confirmed_reads=state.confirmed_reads + confirmed), ()


def _enqueue(state: PeerState, role: Leader, pending: PendingRead, moment: Moment) -> Outcome:
    if _may_answer_at_once(state, role, pending, moment):
        return _confirmed(state, max(state.commit_index, role.first_index), (pending,))
    role = replace(role, queued_reads=(*role.queued_reads, pending))
    if role.reading is not None:
        return replace(state, role=role), ()
    return _start_round(state, role, moment)


def _may_answer_at_once(state: PeerState, role: Leader, pending: PendingRead, moment: Moment) -> bool:
    """Alone, a leader is its own quorum; with a lease, a quorum has promised to elect nobody else before."""
    if has_quorum(state.configuration, (state.name,)):
        return True
    return pending.lease and _holds_lease(state, role, moment)


def _holds_lease(state: PeerState, role: Leader, moment: Moment) -> bool:
    if not state.settings.lease_reads or role.lease_given_up:
        return False
    loyal = {name for name, progress in role.progress.items() if progress.promised_until > moment.now}
    return has_quorum(state.configuration, loyal | {state.name})


def _start_round(state: PeerState, role: Leader, moment: Moment) -> Outcome:
    number = role.round + 1
    reading = ReadRound(number, max(state.commit_index, role.first_index), role.queued_reads)
    role = replace(
        role,
        round=number,
        reading=reading,
        queued_reads=(),
        round_deadline=moment.now + PATIENCE * state.settings.heartbeat_interval,
    )
    asked = _quorum_to_ask(state, role)
    if not asked:  # the others have left just now: nobody would answer
        return confirm_round(state, role, reading, moment)
    return replace(state, role=role), heartbeats(state, role, asked, moment)


def _quorum_to_ask(state: PeerState, role: Leader) -> list[str]:
    """As many voters as make a quorum with us, those first that answered last.

    Whoever is slow or dead is left out by itself; if one of the asked is, everybody is asked at ``round_deadline``.
    """
    asked: list[str] = []
    for name in sorted(role.progress, key=lambda name: role.progress[name].heard_at, reverse=True):
        if has_quorum(state.configuration, (*asked, state.name)):
            break
        if state.configuration.is_voter(name):
            asked.append(name)
    return asked


def confirm_round(state: PeerState, role: Leader, reading: ReadRound, moment: Moment) -> Outcome:
    """Finish the round under way if a quorum has confirmed it, and start the next if reads wait."""
    confirmed = {name for name, progress in role.progress.items() if progress.round >= reading.number}
    if not has_quorum(state.configuration, confirmed | {state.name}):
        return state, ()
    role = replace(role, reading=None, round_deadline=NEVER)
    state, effects = _confirmed(replace(state, role=role), reading.index, reading.reads)
    if not role.queued_reads:
        return state, effects
    state, started = _start_round(state, role, moment)
    return state, effects + started


def _confirmed(state: PeerState, index: int, reads: tuple[PendingRead, ...]) -> Outcome:
    own = tuple((index, one.token) for one in reads if not one.peer)
    effects: tuple[Effect, ...] = tuple(_reply(state, one.peer, one.request, index) for one in reads if one.peer)
    return replace(state, confirmed_reads=state.confirmed_reads + own), effects


def _reply(state: PeerState, to: str, request: int, index: int | None) -> Send:
    member = state.configuration.members().get(to)
    reply = ReadIndexReply(
        cluster=state.cluster,
        sender=state.name,
        incarnation=state.incarnation,
        receiver=member.incarnation if member else "",
        term=state.term,
        request=request,
        index=index,
    )
    return Send(to, reply)
