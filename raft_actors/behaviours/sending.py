"""How a leader sends its snapshot to a follower whose next entries it no longer has.

::

    SNAPSHOT --LoadChunk--> piece read --InstallSnapshot--> stored there --reply: received--> next piece
        ^                                                                  --reply: match_index--> REPLICATE
        +-- not answered for a while: the same piece again

One piece is under way at a time, read from the file when it is its turn: a slow follower slows only itself, and no
snapshot is ever in memory as a whole. Only the answer to the newest piece counts, so that late and doubled answers
start nothing. What is known of it dies with the leadership; a follower that has a part of this same snapshot goes on
with it.

Paper: §7, Figure 13.
"""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.protocol.effects import Effect, LoadChunk, Send
from raft_actors.protocol.events import ChunkLoaded
from raft_actors.protocol.messages import InstallSnapshot, InstallSnapshotReply
from raft_actors.protocol.progress import Progress, ProgressState, Sending
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.protocol.state import Leader, PeerState
from raft_actors.protocol.types import Moment

__all__ = ["CHUNK_BYTES", "advance", "again", "begin", "send_chunk"]

CHUNK_BYTES = 256 << 10
"""Largest piece of a snapshot in one message, in bytes."""
PATIENCE = 4.0
"""Heartbeat intervals after which a piece that was not answered is sent again."""


def begin(
    state: PeerState, name: str, progress: Progress, moment: Moment, effects: list[Effect], *, wants: int = 0
) -> Progress:
    """Send ``name`` our newest snapshot from its beginning; appends to ``effects``.

    Args:
        state: the leader.
        name: the follower.
        progress: what is known of it.
        moment: now.
        effects: to be appended to.
        wants: the index from which the follower can use a snapshot.

    Returns:
        Its progress; unchanged if there is no such snapshot (yet).
    """
    snapshot = state.snapshot
    if snapshot is None or snapshot.last.index < wants:
        return progress
    sending = _sending(state, snapshot, 0, moment)
    effects.append(_load(name, sending))
    return replace(progress, state=ProgressState.SNAPSHOT, sending=sending, inflight=(), probing=False)


def _sending(state: PeerState, snapshot: Snapshot, offset: int, moment: Moment) -> Sending:
    return Sending(snapshot.id, snapshot.last, snapshot.size, offset, _patience(state, moment))


def _patience(state: PeerState, moment: Moment) -> float:
    return moment.now + PATIENCE * state.settings.heartbeat_interval


def _load(name: str, sending: Sending) -> LoadChunk:
    return LoadChunk(name, sending.id, sending.offset, CHUNK_BYTES)


def send_chunk(
    state: PeerState, event: ChunkLoaded, progress: Progress, moment: Moment, effects: list[Effect]
) -> Progress:
    """A piece was read: send it, if it is still its turn. If the file is gone, begin anew with the newest snapshot."""
    sending = progress.sending
    if sending is None or (event.id, event.offset) != (sending.id, sending.offset):
        return progress
    if not event.data:
        gone = state.snapshot is None or state.snapshot.id != sending.id
        return begin(state, event.reader, progress, moment, effects) if gone else progress
    message = InstallSnapshot(
        cluster=state.cluster,
        sender=state.name,
        incarnation=state.incarnation,
        receiver=state.configuration.members()[event.reader].incarnation,
        term=state.term,
        id=sending.id,
        last=sending.last,
        size=sending.size,
        offset=sending.offset,
        data=event.data,
    )
    effects.append(Send(event.reader, message))
    return replace(progress, sending=replace(sending, again_at=_patience(state, moment)))


def advance(
    state: PeerState, progress: Progress, reply: InstallSnapshotReply, moment: Moment, effects: list[Effect]
) -> Progress:
    """What the answer to a piece teaches: send the next one, or go on with entries.

    A reply that says up to where the follower's log equals ours is true whatever it answers.
    """
    progress = replace(progress, heard_at=moment.now)
    if reply.match_index > progress.match_index:
        match = reply.match_index
        progress = replace(progress, match_index=match, next_index=max(progress.next_index, match + 1))
    sending = progress.sending
    if sending is None or reply.id != sending.id:
        return progress
    if reply.match_index >= sending.last.index:  # a follower without a state needs it, whatever of its log equals ours
        return replace(progress, state=ProgressState.REPLICATE, sending=None, window_since=moment.now)
    if reply.offset != sending.offset or not 0 <= reply.received < sending.size or reply.received == sending.offset:
        return progress
    sending = replace(sending, offset=reply.received, again_at=_patience(state, moment))
    effects.append(_load(reply.sender, sending))
    return replace(progress, sending=sending)


def again(state: PeerState, role: Leader, moment: Moment) -> tuple[Leader, tuple[Effect, ...]]:
    """Repeat the pieces that were not answered for a while, to those followers that can be heard."""
    horizon = moment.now - state.settings.max_election_timeout
    progress, effects = dict(role.progress), []
    for name, one in role.progress.items():
        if one.sending is not None and moment.now >= one.sending.again_at and one.heard_at > horizon:
            sending = replace(one.sending, again_at=_patience(state, moment))
            progress[name] = replace(one, sending=sending)
            effects.append(_load(name, sending))
    return (replace(role, progress=progress), tuple(effects)) if effects else (role, ())
