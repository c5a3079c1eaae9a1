"""Leading: take commands, replicate, commit, and step down when a quorum or the disk is lost.

A leader's AppendEntries leave before its own sync (thesis §10.2.1); it counts itself only when the disk has the batch.

Paper: §5.3, §5.4.2 (commit rule), §8 (no-op). Thesis: §6.2 (check quorum).
"""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.behaviours import drifting, handover, resting, sending
from raft_actors.behaviours.addresses import moved_before
from raft_actors.behaviours.appending import append
from raft_actors.behaviours.reads import confirm_round
from raft_actors.behaviours.replication import feed, heartbeat_all, note_reply
from raft_actors.behaviours.transition import Outcome, become_follower, refusal
from raft_actors.protocol.configuration import agreed_index, has_quorum
from raft_actors.protocol.effects import Accept, Effect, Refusal, Reject
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.events import WritesRequested
from raft_actors.protocol.messages import AppendEntriesReply, InstallSnapshotReply
from raft_actors.protocol.progress import Progress
from raft_actors.protocol.state import NEVER, Leader, PeerState
from raft_actors.protocol.types import NOWHERE, Moment, Violation

__all__ = [
    "become_leader",
    "on_append_entries_reply",
    "on_follower_down",
    "on_install_snapshot_reply",
    "on_leader_tick",
    "on_synced",
    "write",
]

NEWS_SHARE = 0.1
"""Commit news wait this share of a heartbeat interval for an entry to travel with."""


def become_leader(state: PeerState, moment: Moment) -> Outcome:
    """Won: announce it with a no-op of the new term, whose commit commits everything before it (paper §5.4.2, §8)."""
    next_index = state.log.last.index + 1
    progress = {
        name: Progress(next_index=next_index, heard_at=moment.now)
        for name in state.configuration.members()
        if name != state.name
    }
    role = Leader(
        progress=progress,
        first_index=next_index,
        heartbeat_deadline=moment.now + state.settings.heartbeat_interval,
        quorum_deadline=moment.now + state.settings.min_election_timeout,
        drift_at=drifting.earliest(state, moment),
        moved=moved_before(state),
    )
    state = replace(state, role=role, leader=state.name)
    noop = Entry(next_index, state.term, EntryKind.NOOP, max(state.time, moment.wall))
    return append(state, role, (noop,), moment)


def write(state: PeerState, event: WritesRequested, moment: Moment) -> Outcome:
    """Append the commands that arrived together as one batch; anybody but the leader turns them away at once."""
    role = state.role
    if not isinstance(role, Leader):
        return state, (Reject(event.token, refusal(state), state.leader),)
    if role.transfer is not None or state.stopping != NEVER:
        return state, (Reject(event.token, Refusal.ELECTION_IN_PROGRESS),)
    first, term, time = state.log.last.index + 1, state.term, max(state.time, moment.wall)
    command = EntryKind.COMMAND
    entries = [Entry(index, term, command, time, data) for index, data in enumerate(event.commands, first)]
    for place in event.sessions:
        entries[place] = replace(entries[place], kind=EntryKind.SESSION)
    state, effects = append(state, role, tuple(entries), moment)
    return state, (Accept(event.token, first, term), *effects)


def on_synced(state: PeerState, role: Leader, moment: Moment) -> Outcome:
    """Our disk caught up: stop its clock, or restart it for the next batch, and count ourselves."""
    if role.unsynced and state.log.durable >= role.unsynced:
        owed = state.log.durable < state.log.last.index
        role = replace(
            role,
            unsynced=state.log.last.index if owed else 0,
            unsynced_since=moment.now if owed else NEVER,
        )
        state = replace(state, role=role)
    return handover.continue_transfer(_advance_commit(state, role, moment))


def on_append_entries_reply(state: PeerState, reply: AppendEntriesReply, moment: Moment) -> Outcome:
    """Learn what a follower has, send it more, commit what a quorum has, and confirm the reads that waited for it."""
    role = state.role
    progress = role.progress.get(reply.sender) if isinstance(role, Leader) else None
    if not isinstance(role, Leader) or progress is None:
        return state, ()
    if reply.match_index > state.log.last.index:
        raise Violation(f"{reply.sender} claims to match up to {reply.match_index}, our log ends at {state.log.last}")
    hint = NOWHERE if reply.success else state.log.conflict_hint(reply.hint)
    progress = note_reply(progress, reply, hint, moment)
    effects: list[Effect] = []
    if reply.wants and progress.sending is None:
        state, progress = _feed_anew(state, reply, progress, moment, effects)
    progress = feed(state, role, reply.sender, progress, moment, effects)
    role = replace(role, progress={**role.progress, reply.sender: progress})
    if reply.rests:
        role = resting.begin(state, role, moment)
    state = replace(state, role=role)
    if reply.match_index > state.commit_index:
        state = _advance_commit(state, role, moment)
    if role.reading is not None:
        state, confirmed = confirm_round(state, _leading(state), role.reading, moment)
        effects += confirmed
    if role.transfer is not None:
        state, handed = handover.continue_transfer(state)
        effects += handed
    return state, tuple(effects)


def _feed_anew(
    state: PeerState, reply: AppendEntriesReply, progress: Progress, moment: Moment, effects: list[Effect]
) -> tuple[PeerState, Progress]:
    """A follower has its log, but lost the state before it: send a snapshot, or take one first if ours is too old."""
    progress = sending.begin(state, reply.sender, progress, moment, effects, wants=reply.wants)
    if progress.sending is None:
        state = replace(state, snapshot_wanted=max(state.snapshot_wanted, reply.wants))
    return state, progress


def on_install_snapshot_reply(state: PeerState, reply: InstallSnapshotReply, moment: Moment) -> Outcome:
    """A follower has a piece of our snapshot, or all of it: send the next, or go on with entries."""
    role = state.role
    progress = role.progress.get(reply.sender) if isinstance(role, Leader) else None
    if not isinstance(role, Leader) or progress is None:
        return state, ()
    if reply.match_index > state.log.last.index:
        raise Violation(f"{reply.sender} claims to match up to {reply.match_index}, our log ends at {state.log.last}")
    effects: list[Effect] = []
    progress = sending.advance(state, progress, reply, moment, effects)
    progress = feed(state, role, reply.sender, progress, moment, effects)
    role = replace(role, progress={**role.progress, reply.sender: progress})
    return _advance_commit(replace(state, role=role), role, moment), tuple(effects)


def _leading(state: PeerState) -> Leader:
    if not isinstance(state.role, Leader):
        raise Violation("a leader lost its role within a step of its own")
    return state.role


def _advance_commit(state: PeerState, role: Leader, moment: Moment) -> PeerState:
    """Commit what a quorum has durably, if it ends in an entry of our term.

    Counting replicas of an older term's entry commits nothing: a later leader may still overwrite it (BUG-31).
    Paper: §5.4.2, Figure 8.
    """
    match = {name: progress.match_index for name, progress in role.progress.items()}
    match[state.name] = state.log.durable
    index = agreed_index(state.configuration, match)
    if index <= state.commit_index or state.log.term_at(index) != state.term:
        return state
    news = min(role.news_deadline, moment.now + NEWS_SHARE * state.settings.heartbeat_interval)
    return replace(state, commit_index=index, role=replace(role, news_deadline=news))


def on_leader_tick(state: PeerState, role: Leader, moment: Moment) -> Outcome:
    """What the clock asks of a leader: heartbeats, commit news, and the question whether it still leads."""
    if moment.now >= role.quorum_deadline and not _still_leads(state, role, moment):
        return become_follower(state, moment)
    if moment.now - role.unsynced_since > state.settings.max_election_timeout:
        return become_follower(state, moment)
    if role.resting:
        role = resting.look(state, role, moment)
        state = replace(state, role=role)
        if role.resting:
            return state, ()
    if moment.now >= role.quorum_deadline:
        role = replace(role, quorum_deadline=moment.now + state.settings.min_election_timeout / 2)
        state = replace(state, role=role)
    state, expired = handover.expire_transfer(state, moment)
    state, handed = drifting.drift(state, _leading(state), moment)
    expired += handed
    role = _leading(state)
    if moment.now < min(role.heartbeat_deadline, role.news_deadline, role.round_deadline):
        return state, expired
    role = replace(role, round_deadline=NEVER)
    role, sends = heartbeat_all(state, role, moment)
    return replace(state, role=role), expired + sends


def on_follower_down(state: PeerState, role: Leader, name: str, moment: Moment) -> Outcome:
    """A follower died: what is in flight to it is lost, and leadership is not handed to it."""
    progress = role.progress.get(name)
    if progress is None:
        return state, ()
    lost = Progress(next_index=progress.match_index + 1, match_index=progress.match_index, round=progress.round)
    state = replace(state, role=replace(role, progress={**role.progress, name: lost}))
    return handover.on_successor_down(state, name, moment)


def _still_leads(state: PeerState, role: Leader, moment: Moment) -> bool:
    """Whether a quorum answered within an election timeout. Thesis: §6.2."""
    if not state.settings.check_quorum:
        return True
    horizon = moment.now - state.settings.max_election_timeout
    active = {name for name, progress in role.progress.items() if progress.heard_at > horizon}
    return has_quorum(state.configuration, active | {state.name})
