"""One step of one peer: an event in, a new state and ordered effects out. All rules of Raft are reached from here.

::

    event -> (message: admitted? newer term?) -> the rule for it -> hand_over to the machine -> seal the effects

``seal`` is the durability contract in one place: whatever a rule did to the ballot is put on disk before anything
that was decided with it leaves. A rule cannot forget it.

Paper: Figure 2 ("Rules for Servers").
"""

from __future__ import annotations

from typing import TypeGuard, assert_never

from msgspec.structs import replace

from raft_actors.behaviours import (
    addresses,
    applying,
    bootstrap,
    candidate,
    follower,
    formation,
    handover,
    installing,
    joining,
    leader,
    membership,
    reads,
    reconfiguring,
    replication,
    resting,
    snapshots,
    transfers,
    voting,
    waking,
)
from raft_actors.behaviours.admission import why_refused
from raft_actors.behaviours.transition import Outcome, Transition, become_follower
from raft_actors.protocol.effects import Discard, Effect, Persist, Send
from raft_actors.protocol.events import (
    AddressHeard,
    Applied,
    ChangeRequested,
    ChunkLoaded,
    ChunkStored,
    ClusterRequested,
    EntriesLoaded,
    Event,
    Heard,
    PeerDown,
    Persisted,
    ReadsRequested,
    Received,
    Slept,
    SnapshotFailed,
    SnapshotLoaded,
    SnapshotRecorded,
    SnapshotRequested,
    SnapshotWritten,
    StopRequested,
    Tick,
    TransferRequested,
    WritesRequested,
)
from raft_actors.protocol.messages import (
    AppendEntries,
    AppendEntriesReply,
    FormCluster,
    FormClusterReply,
    InstallSnapshot,
    InstallSnapshotReply,
    Introduce,
    IntroduceReply,
    Join,
    JoinReply,
    Message,
    PreVote,
    PreVoteReply,
    ReadIndex,
    ReadIndexReply,
    Removed,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from raft_actors.protocol.state import NEVER, Follower, Leader, PeerState
from raft_actors.protocol.types import Moment, Violation

__all__ = ["Transition", "step"]


def step(state: PeerState, event: Event, moment: Moment) -> Transition:
    """Apply one event.

    Args:
        state: the peer before.
        event: what happened.
        moment: clock and dice, read after the event was taken.

    Returns:
        The peer after, and the effects in the order in which they must be performed (``protocol.effects``).

    Raises:
        Violation: an invariant does not hold; the peer must stop.
    """
    handle = _handle_late if waking.has_overslept(state, moment) else _handle
    after, effects = handle(resting.stir(state, event, moment), event, moment)
    if isinstance(after.role, Leader) and after.configurations:
        after, moved = reconfiguring.advance(after, after.role, moment)
        effects += moved
    after, handed = applying.hand_over(after)
    after, taken = snapshots.take_if_due(after, moment)
    effects += handed + taken
    if after.stop_after_snapshot is not None:
        after, stopped = handover.stop_when_saved(after, moment)
        effects += stopped
    if after.handing is not None:
        after, settled = transfers.settle(after, moment)
        effects += settled
    if after.stopping != NEVER:
        after, stopped = handover.finish_stop(after, moment)
        effects += stopped
    _check(state, after)
    if after.ballot is not state.ballot and after.ballot.term != state.ballot.term:
        after = replace(after, term_unsynced=True)
    return Transition(after, seal(state, after, effects))


def _handle(state: PeerState, event: Event, moment: Moment) -> Outcome:
    match event:
        case Received():
            return receive(state, event.message, moment)
        case WritesRequested():
            return leader.write(state, event, moment)
        case Persisted():
            return _persisted(state, event, moment)
        case Applied():
            return applying.on_applied(state, event)
        case ReadsRequested():
            return reads.read(state, event, moment)
        case Tick():
            return _tick(state, moment)
        case EntriesLoaded():
            return _loaded(state, event, moment)
        case PeerDown():
            return _down(state, event, moment)
        case Heard():
            return resting.on_heard(state, event, moment), ()
        case AddressHeard():
            return addresses.on_address_heard(state, event)
        case ClusterRequested():
            return formation.request(state, event, moment)
        case ChangeRequested():
            return membership.request(state, event, moment)
        case StopRequested():
            return handover.stop(state, event, moment)
        case TransferRequested():
            return transfers.request(state, event, moment)
        case Slept():
            return waking.wake(state, moment)
        case ChunkLoaded():
            return replication.on_chunk_loaded(state, event, moment)
        case ChunkStored():
            return installing.on_chunk_stored(state, event)
        case SnapshotLoaded():
            return installing.on_snapshot_loaded(state, event)
        case SnapshotRequested() | SnapshotWritten() | SnapshotRecorded() | SnapshotFailed():
            return _snapshot(state, event, moment)
        case _:
            assert_never(event)


def _handle_late(state: PeerState, event: Event, moment: Moment) -> Outcome:
    """This process slept: nothing is looked at as if it had not."""
    state, woken = waking.wake(state, moment)
    state, effects = _handle(state, event, moment)
    return state, woken + effects


def _snapshot(
    state: PeerState, event: SnapshotRequested | SnapshotWritten | SnapshotRecorded | SnapshotFailed, moment: Moment
) -> Outcome:
    match event:
        case SnapshotRequested():
            return snapshots.request(state, event)
        case SnapshotWritten():
            return snapshots.on_snapshot_written(state, event, moment)
        case SnapshotRecorded():
            return snapshots.on_snapshot_recorded(state, event)
        case SnapshotFailed():
            return snapshots.on_snapshot_failed(state, moment)
        case _:
            assert_never(event)


def receive(state: PeerState, message: Message, moment: Moment) -> Outcome:
    """A message of another peer: refuse what is not for us, move to a newer term, then apply the rule for it."""
    reason = why_refused(state, message)
    if reason:
        return state, (Discard(message.sender, reason),)
    if _stands(message):
        state, effects = _hear(state, message, moment)
        return state, effects + reconfiguring.tell_if_removed(state, message)
    return _hear(state, message, moment)


def _stands(message: Message) -> TypeGuard[PreVote | RequestVote]:
    return isinstance(message, PreVote | RequestVote)


def _hear(state: PeerState, message: Message, moment: Moment) -> Outcome:
    match message:
        case AppendEntriesReply() if message.term == state.term:
            return leader.on_append_entries_reply(state, message, moment)
        case AppendEntries():  # most messages are one of these two
            return _in_term(state, message, moment)
        case PreVote():
            return voting.grant_pre_vote(state, message, moment)
        case FormCluster():
            return formation.on_form_cluster(state, message, moment)
        case FormClusterReply():
            return formation.on_form_cluster_reply(state, message, moment)
        case Introduce() | IntroduceReply() | Join() | JoinReply() | Removed():
            return _membership(state, message, moment)
        case RequestVote() if not message.transfer and voting.hears_a_leader(state, moment):
            return voting.refuse_vote(state, message)
        case _:
            return _in_term(state, message, moment)


def _membership(
    state: PeerState, message: Introduce | IntroduceReply | Join | JoinReply | Removed, moment: Moment
) -> Outcome:
    """What is said about membership changes no term: who says it may be no member."""
    match message:
        case Introduce():
            return membership.on_introduce(state, message, moment)
        case IntroduceReply():
            return membership.on_introduced(state, message)
        case Join():
            return joining.on_join(state, message, moment)
        case JoinReply():
            return joining.on_join_reply(state, message, moment)
        case Removed():
            return reconfiguring.on_removed(state, message, moment)
        case _:
            assert_never(message)


def _in_term(state: PeerState, message: Message, moment: Moment) -> Outcome:
    """The term rule: a newer term is adopted before anything else, an older one teaches nothing. Paper: §5.1."""
    effects: tuple[Effect, ...] = ()
    promised = isinstance(message, PreVoteReply) and message.granted
    if message.term > state.term and not promised:
        state, effects = become_follower(state, moment, term=message.term)
        state, dropped = installing.give_up(state)
        effects += dropped
    if not state.cluster:
        state = replace(state, cluster=message.cluster, formation=None)
    state, answered = _answer(state, message, moment)
    return state, effects + answered


def _answer(state: PeerState, message: Message, moment: Moment) -> Outcome:
    outdated = message.term < state.term
    match message:
        case AppendEntries():
            return follower.refuse_outdated(state, message) if outdated else _append(state, message, moment)
        case InstallSnapshot():
            return installing.refuse_outdated_piece(state, message) if outdated else _piece(state, message, moment)
        case InstallSnapshotReply() if not outdated:
            return leader.on_install_snapshot_reply(state, message, moment)
        case RequestVote():
            return voting.refuse_vote(state, message) if outdated else voting.grant_vote(state, message, moment)
        case ReadIndex():
            return reads.on_read_index(state, message, moment)
        case ReadIndexReply():
            return reads.on_read_index_reply(state, message)
        case PreVoteReply():
            return candidate.on_pre_vote_reply(state, message, moment)
        case RequestVoteReply() if not outdated:
            return candidate.on_vote_reply(state, message, moment)
        case TimeoutNow() if not outdated:
            return candidate.on_timeout_now(state, message, moment)
        case _:
            return state, ()


def _append(state: PeerState, message: AppendEntries, moment: Moment) -> Outcome:
    return follower.on_append_entries(state, message, moment)


def _piece(state: PeerState, message: InstallSnapshot, moment: Moment) -> Outcome:
    return follower.on_install_snapshot(state, message, moment)


def _persisted(state: PeerState, event: Persisted, moment: Moment) -> Outcome:
    """The disk caught up: our entries count, and so does our own vote.

    A batch from before the current term confirms nothing, even if its last entry is in the log: it may have been cut
    off and come back since, and then the disk is still to cut it off. The disk has the current ballot soon.
    """
    if event.ballot.term == state.term:
        state = replace(state, log=state.log.persisted(event.last), term_unsynced=False)
    if isinstance(state.role, Leader):
        return leader.on_synced(state, state.role, moment)
    return candidate.on_own_ballot(state, event.ballot, moment)


def _loaded(state: PeerState, event: EntriesLoaded, moment: Moment) -> Outcome:
    if event.reader:
        return replication.on_entries_loaded(state, event, moment)
    return applying.on_machine_entries_loaded(state, event)


def _tick(state: PeerState, moment: Moment) -> Outcome:
    """Whatever is due. Every deadline is looked at again here: a wake-up alone means nothing."""
    state, formed = formation.on_formation_tick(state, moment)
    state, begun = bootstrap.on_bootstrap_tick(state, moment)
    state, asked = joining.on_join_tick(state, moment)
    state, effects = _role_tick(state, moment)
    return state, formed + begun + asked + effects


def _role_tick(state: PeerState, moment: Moment) -> Outcome:
    role = state.role
    if isinstance(role, Leader):
        return leader.on_leader_tick(state, role, moment)
    if moment.now < role.election_deadline:
        return state, ()
    if isinstance(role, Follower):
        return follower.on_election_timeout(state, role, moment)
    return candidate.campaign(state, moment)


def _down(state: PeerState, event: PeerDown, moment: Moment) -> Outcome:
    """A peer died: if it led, or was to lead by our vote, stand soon; if we lead, probe it anew, hand nothing to it."""
    role = state.role
    if isinstance(role, Leader):
        return leader.on_follower_down(state, role, event.name, moment)
    if event.name != (state.leader or state.ballot.voted_for):
        return state, ()
    return follower.on_leader_down(state, moment)


def seal(before: PeerState, after: PeerState, effects: tuple[Effect, ...]) -> tuple[Effect, ...]:
    """Order the effects of one step so that nothing leaves before what it depends on is on disk.

    If the ballot or the cluster changed, a ``Persist`` of it comes before everything that is sent (BUG-02, BUG-08,
    BUG-11, BUG-14); else sends and ``Persist`` stay as the rule ordered them. What depends on no disk comes last, so
    that it delays nobody: answers to callers, committed and durable entries for the machine.

    Paper: Figure 2 ("Persistent state on all servers: updated on stable storage before responding to RPCs").
    """
    if after.ballot is not before.ballot or after.cluster is not before.cluster:
        return _ballot_first(before, after, effects)
    if len(effects) < 2:
        return effects
    local = [effect for effect in effects if type(effect) not in _ORDERED]
    if not local:
        return effects
    return (*[effect for effect in effects if type(effect) in _ORDERED], *local)


_ORDERED = frozenset((Send, Persist))


def _ballot_first(before: PeerState, after: PeerState, effects: tuple[Effect, ...]) -> tuple[Effect, ...]:
    ballot = after.ballot if after.ballot != before.ballot else None
    cluster = after.cluster if after.cluster != before.cluster else ""
    persists = [effect for effect in effects if isinstance(effect, Persist)]
    first = replace(persists[0], ballot=ballot, cluster=cluster) if persists else Persist(ballot, cluster=cluster)
    sends = [effect for effect in effects if type(effect) is Send]
    local = [effect for effect in effects if type(effect) not in _ORDERED]
    return (first, *persists[1:], *sends, *local)


def _check(before: PeerState, after: PeerState) -> None:
    """What never goes back, and what never runs ahead. Paper: Figure 2, Figure 3."""
    back = after.ballot is not before.ballot and after.term < before.term
    if back or after.commit_index < before.commit_index or after.handed < before.handed:
        raise Violation(f"went back: {_progress(before)} -> {_progress(after)}")
    if not after.last_applied <= after.handed <= after.commit_index <= after.log.last.index:
        raise Violation(f"ran ahead: {_progress(after)}, log ends at {after.log.last}")
    if after.handed > after.log.durable:
        raise Violation(f"handed {after.handed} to the machine, durable only {after.log.durable}")


def _progress(state: PeerState) -> str:
    return f"term {state.term} commit {state.commit_index} handed {state.handed} applied {state.last_applied}"
