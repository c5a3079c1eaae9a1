"""Resting: where nothing is under way, the nodes vouch for their peers, and no peer is woken to say that it lives.

::

    leader: all have all, nothing is under way --AppendEntries(rests)--> followers: yes --reply(rests)--> leader
    then, between two nodes:  one *beat* for all peers of the one that rest with peers of the other
    a deadline comes --Heard(who, when)--> it counts as if that peer had spoken then
    a request, another message, a lost connection: the leader is roused, and its heartbeats go on

A beat says what a heartbeat and its answer say, that this leader still leads that term and this follower follows it: a
node withdraws its word in the very step in which that ends. Nothing else is built on it. Commits, reads, votes and
leases need real answers, so resting cannot make anything unsafe; with leases nobody rests, as promises age.

Everything that a follower learns from heartbeats it has to know before it rests: what is committed, above all. So
leaders rest only after all have taken an offer before which (``offered_at``) everything was done, and since which
nothing has happened. Each heartbeat repeats it; where an answer takes longer than until the next one, it counts too,
or nodes that are busy with heartbeats would stay so for ever.
"""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.protocol.events import Applied, Event, Heard, PeerDown, Persisted, ReadsRequested, Received, Tick
from raft_actors.protocol.messages import AppendEntries, AppendEntriesReply
from raft_actors.protocol.progress import Progress, ProgressState
from raft_actors.protocol.state import LONG_AGO, NEVER, Follower, Leader, PeerState
from raft_actors.protocol.types import Moment, Settings

__all__ = [
    "beat_interval",
    "begin",
    "look",
    "look_interval",
    "may_offer",
    "offered_since",
    "on_heard",
    "partners",
    "stir",
    "take_offer",
]

BEATS = 2.2
"""Beats for a leader within the shortest election timeout, as who follows it waits no longer: one may be lost, and the
next one be late by nearly a tenth of that time."""
ANSWERS = 2
"""Beats for a follower within the longest one, as its leader does not mind to wait so long."""


def beat_interval(state: PeerState) -> float:
    """Seconds between two beats of its node for a peer that rests."""
    settings = state.settings
    if isinstance(state.role, Leader):
        return settings.min_election_timeout / BEATS
    return settings.max_election_timeout / ANSWERS


def look_interval(settings: Settings) -> float:
    """Seconds between two looks of a resting leader at who was vouched for."""
    return settings.min_election_timeout


def partners(state: PeerState) -> tuple[str, ...]:
    """With whom a resting peer rests: a leader with all others, a follower with its leader."""
    if isinstance(state.role, Leader):
        return tuple(state.role.progress)
    return () if state.leader is None else (state.leader,)


# -- leaders -----------------------------------------------------------------------------------------------------------


def may_offer(state: PeerState, role: Leader) -> bool:
    """Whether a leader has nothing to do until somebody wants something: then its heartbeat offers to rest."""
    last, settings = state.log.last.index, state.settings
    if (
        not state.rests
        or settings.lease_reads
        or not role.progress
        or min(state.commit_index, state.log.durable) < last
    ):
        return False
    if role.reading is not None or role.queued_reads or role.transfer is not None or role.leaving or role.moved:
        return False
    if role.preparing is not None or role.callers or state.configuration.changing or _is_busy(state):
        return False
    return all(_is_settled(one, last, settings.priority) for one in role.progress.values())


def _is_busy(state: PeerState) -> bool:
    """Whether this peer looks at the clock for something else, whatever its role."""
    stopping = state.stopping != NEVER or state.stop_after_snapshot is not None
    saving = state.snapshot_wanted > state.snapshot_index or bool(state.snapshot_callers)
    return stopping or saving or state.handing is not None or state.formation is not None or state.lacks_state


def _is_settled(progress: Progress, last: int, priority: int) -> bool:
    """Whether a follower has all there is; one of higher priority is to lead soon."""
    settled = progress.state is ProgressState.REPLICATE and progress.match_index == last and not progress.inflight
    return settled and not progress.lost and progress.priority <= priority


def offered_since(role: Leader, moment: Moment) -> float:
    """When the offer that a heartbeat makes now was made first."""
    return moment.now if role.offered_at == LONG_AGO else role.offered_at


def begin(state: PeerState, role: Leader, moment: Moment) -> Leader:
    """Rest, if all others took the offer that stands."""
    if role.resting or role.offered_at == LONG_AGO:
        return role
    if not all(one.rested_at >= role.offered_at for one in role.progress.values()):
        return role
    return _looked(state, replace(role, resting=True), moment) if may_offer(state, role) else role


def look(state: PeerState, role: Leader, moment: Moment) -> Leader:
    """A resting leader's look at who was vouched for: if anybody was not, heartbeats find out more, at once."""
    if moment.now < role.heartbeat_deadline:
        return role
    horizon = moment.now - state.settings.max_election_timeout
    if all(one.heard_at > horizon for one in role.progress.values()):
        return _looked(state, role, moment)
    return _roused(role, moment.now)


def _looked(state: PeerState, role: Leader, moment: Moment) -> Leader:
    again = moment.now + look_interval(state.settings)
    return replace(role, heartbeat_deadline=again, quorum_deadline=again)


def _roused(role: Leader, heartbeat_deadline: float) -> Leader:
    due = min(role.heartbeat_deadline, heartbeat_deadline)
    return replace(role, resting=False, offered_at=LONG_AGO, heartbeat_deadline=due)


# -- followers ---------------------------------------------------------------------------------------------------------


def take_offer(state: PeerState, message: AppendEntries) -> bool:
    """Whether a follower has all that its leader has, knows that it is committed, and waits for nothing."""
    if not message.rests or not state.rests or state.settings.lease_reads or state.term_unsynced:
        return False
    last = state.log.last
    if message.previous != last or min(state.commit_index, state.log.durable) < last.index:
        return False
    waits = state.forwarded or state.receiving is not None or state.restoring is not None or state.joining is not None
    return not waits and not _is_busy(state)


# -- both --------------------------------------------------------------------------------------------------------------


def on_heard(state: PeerState, event: Heard, moment: Moment) -> PeerState:
    """Count it as if they had spoken then. If it was a leader's look that was due, that is all it asks for."""
    role, said = state.role, event.at
    if isinstance(role, Leader):
        known = role.progress.items()
        heard = {name: replace(one, heard_at=max(one.heard_at, said.get(name, LONG_AGO))) for name, one in known}
        role = replace(role, progress=heard)
        return replace(state, role=look(state, role, moment) if role.resting else role)
    at = said.get(state.leader or "", LONG_AGO)
    if not isinstance(role, Follower) or at <= state.heard_at:
        return state
    deadline = at + state.settings.election_timeout(moment.jitter)
    return replace(state, heard_at=at, role=Follower(deadline, resting=True))


def stir(state: PeerState, event: Event, moment: Moment) -> PeerState:
    """The state in which ``event`` is looked at: whatever somebody wants ends the rest, and takes back an offer."""
    role = state.role
    if isinstance(role, Leader):
        if role.offered_at == LONG_AGO or _leaves_in_peace(role, event):
            return state
        return replace(state, role=_roused(role, moment.now + state.settings.heartbeat_interval))
    if role.resting and isinstance(event, Received | ReadsRequested | PeerDown):
        return replace(state, role=replace(role, resting=False))
    return state


def _leaves_in_peace(role: Leader, event: Event) -> bool:
    if not isinstance(event, Received):
        return isinstance(event, Tick | Heard | Applied | Persisted)
    reply = event.message
    return isinstance(reply, AppendEntriesReply) and (not role.resting or _changes_nothing(role, reply))


def _changes_nothing(role: Leader, reply: AppendEntriesReply) -> bool:
    """Whether who answers a leader that rests does so, too: it may have taken the offer once, and not again."""
    return reply.success and not reply.wants and (reply.rests or reply.sent < role.offered_at)
