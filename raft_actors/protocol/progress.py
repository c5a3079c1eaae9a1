"""What a leader knows of one follower, and how it sends to it.

``PROBE``: one message at a time, until the follower says where its log matches. ``REPLICATE``: optimistic; the next
batch leaves before the last is acknowledged, within a window. ``LOADING``: the next entries are being read from the
store, since they are no longer in memory. ``SNAPSHOT``: they are not in the log any more, and a snapshot is sent.

Paper: §5.3 (nextIndex, matchIndex), §7. Thesis: §10.2.1 (pipelining). The states are those of etcd's raft.
"""

from __future__ import annotations

import enum

from msgspec import Struct

from raft_actors.protocol.types import LogPosition

__all__ = ["Progress", "ProgressState", "Sending"]


class ProgressState(enum.Enum):
    """How the leader sends to a follower."""

    PROBE = "probe"
    REPLICATE = "replicate"
    LOADING = "loading"
    SNAPSHOT = "snapshot"


class Sending(Struct, frozen=True, gc=False):
    """A snapshot on its way to a follower, one piece at a time.

    Attributes:
        id: which snapshot.
        last: the position it covers.
        size: bytes of its file.
        offset: the piece that is under way begins here; everything before it has arrived.
        again_at: when that piece is read and sent again, unless it is answered before.
    """

    id: str
    last: LogPosition
    size: int
    offset: int
    again_at: float


class Progress(Struct, frozen=True, gc=False):
    """One follower, seen from the leader. Dies with the leadership.

    Attributes:
        next_index: first entry to send next.
        match_index: up to where its log is known to equal ours, durably. Never goes back within a leadership (BUG-36).
        state: how to send.
        inflight: last index of each unacknowledged batch, oldest first.
        window_since: when batches last began to leave unasked again, by our clock: a refusal of an older one is late.
        probing: a probe is under way; the next leaves with its answer or the next heartbeat.
        heard_at: when it last answered, by our clock.
        round: newest ReadIndex round it confirmed.
        promised_until: until when, by our clock, it grants no vote to others.
        sending: the snapshot that is sent; only in state ``SNAPSHOT``.
        lost: it has lost its state, and must not lead before it has another one.
        priority: its own, as it said last.
        newest_sent: when the newest message left which it has answered with success, by our clock.
        rested_at: the same, if that answer took the offer to rest.
    """

    next_index: int
    match_index: int = 0
    state: ProgressState = ProgressState.PROBE
    inflight: tuple[int, ...] = ()
    window_since: float = float("-inf")
    probing: bool = False
    heard_at: float = float("-inf")
    round: int = 0
    promised_until: float = float("-inf")
    sending: Sending | None = None
    lost: bool = False
    priority: int = 0
    newest_sent: float = float("-inf")
    rested_at: float = float("-inf")
