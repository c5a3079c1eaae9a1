"""What a leader knows of one follower, and how it sends to it.

``PROBE``: one message at a time, until the follower says where its log matches. ``REPLICATE``: optimistic; the next
batch leaves before the last is acknowledged, within a window. ``LOADING``: the next entries are being read from the
store, since they are no longer in memory.

Paper: §5.3 (nextIndex, matchIndex). Thesis: §10.2.1 (pipelining). The states are those of etcd's raft.
"""

from __future__ import annotations

import enum

from msgspec import Struct

__all__ = ["Progress", "ProgressState"]


class ProgressState(enum.Enum):
    """How the leader sends to a follower."""

    PROBE = "probe"
    REPLICATE = "replicate"
    LOADING = "loading"


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
