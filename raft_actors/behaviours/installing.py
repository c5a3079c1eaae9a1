"""How a follower takes a snapshot from its leader, instead of entries that nobody has any more.

::

    pieces --StoreChunk--> file: whole, checked, durable
        --> the log begins after it --Persist--> recorded in the store --> acknowledged
        --Restore--> state loaded beside the machine ------------------> Adopt

Pieces of two snapshots are never mixed: a piece of another id begins anew, and a new term or leader ends everything.
The machine goes on answering stale reads from its old state until the new one is complete and the store knows of it;
then it switches at once, in the order of its queue, so that applying and installing never interleave (BUG-46).

Nothing newer is ever lost: a snapshot that is not ahead of what is committed here is refused, and if the log holds its
last entry, everything after that stays (BUG-43, BUG-51).

Paper: §7, Figure 13.
"""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.behaviours.snapshots import answer_callers, covered
from raft_actors.behaviours.transition import Outcome
from raft_actors.protocol.effects import Adopt, Discard, DropChunks, Effect, Persist, Restore, Send, StoreChunk
from raft_actors.protocol.events import ChunkStored, SnapshotLoaded
from raft_actors.protocol.log import Log
from raft_actors.protocol.messages import InstallSnapshot, InstallSnapshotReply
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.protocol.state import PeerState, Receiving

__all__ = ["adopt_if_ready", "give_up", "on_chunk_stored", "on_piece", "on_snapshot_loaded", "refuse_outdated_piece"]


def refuse_outdated_piece(state: PeerState, message: InstallSnapshot) -> Outcome:
    """An older term: our own, in the answer, deposes its leader."""
    return state, (_reply(state, message.sender, message.id, message.offset, received=0),)


def on_piece(state: PeerState, message: InstallSnapshot) -> Outcome:
    """A piece from the leader that we follow, in its term: store it if it is the next one, say where we are if not.

    Args:
        state: the peer; it follows ``message.sender``.
        message: the piece.
    """
    if not 0 <= message.offset < message.offset + len(message.data) <= message.size:
        return state, (Discard(message.sender, "piece outside of its snapshot"),)
    if not _needed(state, message.last.index):
        return _not_needed(state, message)
    receiving = state.receiving
    if receiving is None or receiving.id != message.id:
        receiving = Receiving(message.id, message.size)
    if receiving.storing:
        return state, ()
    if message.offset != receiving.received:
        answer = _reply(state, message.sender, message.id, message.offset, received=receiving.received)
        return replace(state, receiving=receiving), (answer,)
    store = StoreChunk(message.id, message.offset, message.size, message.data)
    return replace(state, receiving=replace(receiving, storing=True)), (store,)


def _needed(state: PeerState, index: int) -> bool:
    """Whether a snapshot of ``index`` knows more than we do."""
    if state.lacks_state:
        return index >= state.log.previous.index
    return index > state.commit_index


def _not_needed(state: PeerState, message: InstallSnapshot) -> Outcome:
    """Everything in it is committed here: say how much of that is on our disk; the leader has all of it (BUG-48)."""
    match = 0 if state.term_unsynced else min(message.last.index, state.log.durable)
    answer = _reply(state, message.sender, message.id, message.offset, received=message.offset, match=match)
    return state, (answer,)


def on_chunk_stored(state: PeerState, event: ChunkStored) -> Outcome:
    """A piece is stored: ask for the next, or install what is complete."""
    receiving, leader = state.receiving, state.leader
    if receiving is None or receiving.id != event.id or leader is None:
        return state, ()
    if event.received < 0 or (event.snapshot is not None and not _fits(state, event, event.snapshot)):
        return replace(state, receiving=None), (DropChunks(),)
    if event.snapshot is not None:
        return _install(state, event.snapshot, receiving, leader)
    answer = _reply(state, leader, event.id, receiving.received, received=event.received)
    return replace(state, receiving=replace(receiving, received=event.received, storing=False)), (answer,)


def _fits(state: PeerState, event: ChunkStored, snapshot: Snapshot) -> bool:
    """What the file says of itself: it must be a state of our cluster, and still of use."""
    return event.cluster == state.cluster and snapshot.id == event.id and _needed(state, snapshot.last.index)


def _install(state: PeerState, snapshot: Snapshot, receiving: Receiving, leader: str) -> Outcome:
    """Begin the log anew after ``snapshot``, or keep what follows it; acknowledge when the store has it."""
    last = snapshot.last
    kept = state.log.has(last)
    if kept:
        log = state.log.compacted(last)
        later = covered(state.configurations, last.index)[1:]
        configurations = ((snapshot.configuration_index, snapshot.configuration), *later)
    else:
        log = Log(last, last, durable=min(state.log.durable, state.commit_index))
        configurations = ((snapshot.configuration_index, snapshot.configuration),)
    answer = _reply(state, leader, snapshot.id, receiving.received, received=snapshot.size, match=last.index)
    state = replace(
        state,
        log=log,
        configurations=configurations,
        time=max(state.time, snapshot.time) if kept else snapshot.time,
        commit_index=max(state.commit_index, last.index),
        snapshot=snapshot,
        unsaved_bytes=0,
        receiving=None,
        restoring=snapshot,
        restored=False,
    )
    return state, (Persist(snapshot=snapshot), answer, Restore(snapshot))


def on_snapshot_loaded(state: PeerState, event: SnapshotLoaded) -> Outcome:
    """Its state is in memory; one that was overtaken by another is forgotten."""
    if state.restoring is None or state.restoring.id != event.id:
        return state, ()
    return replace(state, restored=True), ()


def adopt_if_ready(state: PeerState, effects: list[Effect]) -> PeerState:
    """Let the machine switch once the state is loaded and the store has recorded where it belongs (BUG-03, BUG-47).

    It is the snapshot, too, that callers have been waiting for while there was nothing here to save.
    """
    snapshot = state.restoring
    if snapshot is None or not state.restored or state.log.durable < snapshot.last.index:
        return state
    effects.append(Adopt(snapshot))
    index = snapshot.last.index
    state, answers = answer_callers(state)
    effects += answers
    return replace(
        state, handed=index, applying=(*state.applying, index), restoring=None, restored=False, loading=False
    )


def give_up(state: PeerState) -> Outcome:
    """The term or the leader changes: whatever has arrived of a snapshot is worth nothing any more."""
    if state.receiving is None:
        return state, ()
    return replace(state, receiving=None), (DropChunks(),)


def _reply(state: PeerState, to: str, id: str, offset: int, *, received: int, match: int = 0) -> Send:  # noqa: A002
    reply = InstallSnapshotReply(
        cluster=state.cluster,
        sender=state.name,
        incarnation=state.incarnation,
        receiver="",  # whoever leads: our configuration may be too old to know its store
        term=state.term,
        id=id,
        offset=offset,
        received=received,
        match_index=match,
    )
    return Send(to, reply)
