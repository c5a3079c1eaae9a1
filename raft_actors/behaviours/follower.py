"""Following: take the leader's entries, keep quiet while it is heard, stand when it is not.

The acknowledgement of entries is written after their ``Persist``: it leaves when the disk has them. An empty
AppendEntries is answered at once, with what is durable: heartbeats never wait for a disk.

Paper: §5.2, §5.3, Figure 2 (AppendEntries RPC, receiver implementation).
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from raft_actors.behaviours.candidate import campaign
from raft_actors.behaviours.installing import give_up, on_piece
from raft_actors.behaviours.reads import ask_again
from raft_actors.behaviours.resting import take_offer
from raft_actors.behaviours.transition import Outcome, become_follower, election_deadline, forget_leader
from raft_actors.protocol.configuration import Configuration, decode
from raft_actors.protocol.effects import Discard, Effect, Persist, Send
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.messages import AppendEntries, AppendEntriesReply, InstallSnapshot
from raft_actors.protocol.state import NEVER, Follower, Leader, PeerState
from raft_actors.protocol.types import NOWHERE, LogPosition, Moment, Violation

__all__ = [
    "on_append_entries",
    "on_election_timeout",
    "on_install_snapshot",
    "on_leader_down",
    "refuse_outdated",
]

DOWN_SPREAD = 0.02
"""Seconds over which the survivors of a dead leader spread their candidacies."""


def on_append_entries(state: PeerState, message: AppendEntries, moment: Moment) -> Outcome:
    """Follow the sender, append what is new, and say up to where the log equals the leader's.

    Args:
        state: the peer, already in the message's term.
        message: from the one leader of that term.
        moment: now.
    """
    if isinstance(state.role, Leader):
        raise Violation(f"{message.sender} leads term {state.term} too")
    if not _well_formed(message):
        return state, (Discard(message.sender, "entries are not contiguous"),)
    state, effects = _follow(state, message.sender, moment)
    message = _beyond_compacted(state, message)
    if not state.log.has(message.previous):
        return state, (*effects, _refuse(state, message))
    state, persist = _merge(state, message)
    end = message.previous.index + len(message.entries)
    commit_index = max(state.commit_index, min(message.commit_index, end))
    if commit_index != state.commit_index:
        state = replace(state, commit_index=commit_index)
    match = end if persist else _durable_match(state, end)
    if state.forwarded:
        state, asked = ask_again(state, moment)
        effects += asked
    if message.rests and take_offer(state, message):
        state = replace(state, role=replace(state.role, resting=True))
    return state, (*effects, *persist, _accept(state, message, match))


def _beyond_compacted(state: PeerState, message: AppendEntries) -> AppendEntries:
    """``message`` without what our log has dropped: that was committed, so it equals the leader's (BUG-51)."""
    start = state.log.previous
    if message.previous.index >= start.index:
        return message
    entries = tuple([entry for entry in message.entries if entry.index > start.index])
    return replace(message, previous=start, entries=entries)


def on_install_snapshot(state: PeerState, message: InstallSnapshot, moment: Moment) -> Outcome:
    """Follow the sender, and take a piece of its snapshot.

    Args:
        state: the peer, already in the message's term.
        message: from the one leader of that term.
        moment: now.
    """
    if isinstance(state.role, Leader):
        raise Violation(f"{message.sender} leads term {state.term} too")
    state, effects = _follow(state, message.sender, moment)
    state, answered = on_piece(state, message)
    return state, effects + answered


def _durable_match(state: PeerState, end: int) -> int:
    """How much of what equals the leader's log up to ``end`` is ours for good.

    Nothing yet, if our disk does not know this term: after a restart we could follow a deposed leader of an older one,
    and drop what the leader of this term counts on for the rest of its term.
    """
    return 0 if state.term_unsynced else min(end, state.log.durable)


def _well_formed(message: AppendEntries) -> bool:
    entries, before = message.entries, message.previous.index
    return not entries or (entries[0].index == before + 1 and entries[-1].index == before + len(entries))


def _follow(state: PeerState, leader: str, moment: Moment) -> Outcome:
    """Hear the leader: a fresh timeout, and with lease reads a promise not to vote until then."""
    effects: tuple[Effect, ...] = ()
    if state.leader != leader:
        state, effects = become_follower(state, moment, leader=leader)
        state, dropped = give_up(state)
        effects += dropped
    if state.settings.lease_reads:
        promised = moment.now + state.settings.min_election_timeout
        state = replace(state, no_vote_until=max(state.no_vote_until, promised))
    if state.removed:  # a leader speaks to members only: it was let in again
        state = replace(state, removed=0)
    return replace(state, heard_at=moment.now, role=Follower(election_deadline(state, moment))), effects


def _merge(state: PeerState, message: AppendEntries) -> tuple[PeerState, tuple[Persist, ...]]:
    """Append the entries that are new; cut our log only where it really differs (BUG-36).

    Paper: Figure 2 ("If an existing entry conflicts with a new one, delete the existing entry and all that follow").
    """
    entries = message.entries
    if not entries:
        return state, ()
    if message.previous.index != state.log.last.index:
        entries = _unknown(state, entries)
        if not entries:
            return state, ()
    first = entries[0].index
    truncate = first if first <= state.log.last.index else None
    if truncate is not None:
        state = _truncate(state, truncate, message.sender)
    state = replace(
        state,
        log=state.log.append(entries),
        time=entries[-1].time,
        configurations=state.configurations + _configurations(entries),
    )
    return state, (Persist(truncate_from=truncate, entries=entries),)


def _unknown(state: PeerState, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """``entries`` without the prefix that our log has already."""
    if state.log.has(LogPosition(entries[-1].term, entries[-1].index)):
        return ()
    known = 0
    while state.log.term_at(entries[known].index) == entries[known].term:
        known += 1
    return entries[known:]


def _truncate(state: PeerState, index: int, leader: str) -> PeerState:
    if index <= state.commit_index:
        raise Violation(f"{leader} would overwrite index {index}, committed up to {state.commit_index} (BUG-20)")
    kept = tuple(item for item in state.configurations if item[0] < index)
    return replace(state, log=state.log.truncate(index), configurations=kept)


def _configurations(entries: tuple[Entry, ...]) -> tuple[tuple[int, Configuration], ...]:
    command = EntryKind.COMMAND
    special = [entry for entry in entries if entry.kind is not command]
    return tuple((one.index, _decoded(one)) for one in special if one.kind is EntryKind.CONFIGURATION)


def _decoded(entry: Entry) -> Configuration:
    try:
        return decode(entry.data)
    except msgspec.DecodeError as error:
        raise Violation(f"entry {entry.index} is no configuration: {error}") from error


def refuse_outdated(state: PeerState, message: AppendEntries) -> Outcome:
    """An older term: our own, in the answer, deposes its leader. Paper: Figure 2 (AppendEntries, rule 1).

    The answer copies no round and promises nothing: its sender may lead our term by now, and what a message of an
    older leadership asked must not confirm anything in the new one (BUG-28).
    """
    reply = AppendEntriesReply(
        cluster=message.cluster,
        sender=state.name,
        incarnation=state.incarnation,
        receiver=message.incarnation,
        term=state.term,
        success=False,
    )
    return state, (Send(message.sender, reply),)


def _accept(state: PeerState, message: AppendEntries, match: int) -> Send:
    return _reply(state, message, success=True, match=match, hint=NOWHERE)


def _refuse(state: PeerState, message: AppendEntries) -> Send:
    return _reply(state, message, success=False, match=0, hint=state.log.conflict_hint(message.previous))


def _reply(state: PeerState, message: AppendEntries, *, success: bool, match: int, hint: LogPosition) -> Send:
    reply = AppendEntriesReply(
        cluster=message.cluster,
        sender=state.name,
        incarnation=state.incarnation,
        receiver=message.incarnation,
        term=state.term,
        success=success,
        match_index=match,
        previous=message.previous.index,
        hint=hint,
        round=message.round,
        sent=message.sent,
        promise=state.settings.min_election_timeout if state.settings.lease_reads else 0.0,
        wants=state.log.previous.index if state.lacks_state else 0,
        priority=state.settings.priority,
        rests=success and state.role.resting,
    )
    return Send(message.sender, reply)


def on_election_timeout(state: PeerState, role: Follower, moment: Moment) -> Outcome:
    """Nothing was heard for an election timeout: stand.

    Differs: a wake-up that comes late says that *this process* is starved, and the leader's heartbeats perhaps with
    it: it is put down to the process once, and only the next timeout in a row starts an election (BUG-73). Who knows
    of no leader has no heartbeats to miss.
    """
    late = moment.now - role.election_deadline
    if late > state.settings.heartbeat_interval and state.leader is not None and not role.forgiven:
        role = replace(role, election_deadline=election_deadline(state, moment), forgiven=True)
        return replace(state, role=role), ()
    return campaign(state, moment)


def on_leader_down(state: PeerState, moment: Moment) -> Outcome:
    """The leader is known to be dead: forget it, and stand after a short random time instead of a timeout.

    So does who voted for a candidate that died before it said a word as the leader: nobody else may be to come.

    A promise given for a lease is kept all the same: a lost connection shortens nothing.
    """
    state, effects = forget_leader(state)
    role = state.role
    if isinstance(role, Follower) and role.election_deadline != NEVER:
        soon = max(moment.now + DOWN_SPREAD * moment.jitter, state.no_vote_until)
        state = replace(state, role=Follower(min(role.election_deadline, soon), in_vain=role.in_vain))
    return state, effects
