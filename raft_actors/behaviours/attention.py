"""Which news a peer waits for. Everything else may lie in its inbox until something wakes it anyway.

A wake-up is the dearest thing in a write, and most news change nothing at once: the sync of a follower whose log is
applied, the second acknowledgement of an entry that the first one committed, the answer to a heartbeat of a quiet
cluster. Nothing is lost: the inbox is emptied before every decision that a deadline makes.
"""

from __future__ import annotations

from raft_actors.protocol.configuration import agreed_index
from raft_actors.protocol.progress import ProgressState
from raft_actors.protocol.state import Follower, Leader, PeerState

__all__ = ["ANSWERS", "APPLIED", "SYNCED", "concerns", "is_committing"]

SYNCED, APPLIED, ANSWERS = 1, 2, 4


def concerns(state: PeerState) -> int:
    """The news that could let this peer do something now, as bits.

    ``SYNCED``: its own disk caught up. ``APPLIED``: its machine did. ``ANSWERS``: a follower answered an AppendEntries.
    """
    waiting = APPLIED | SYNCED if state.handed < state.commit_index else 0
    role = state.role
    if isinstance(role, Leader):
        return waiting | (SYNCED if _own_sync_commits(state, role) else 0) | (0 if _settled(state, role) else ANSWERS)
    return waiting if isinstance(role, Follower) else waiting | SYNCED


def is_committing(state: PeerState) -> bool:
    """Whether this leader has appended what is not committed yet."""
    return isinstance(state.role, Leader) and state.commit_index < state.log.last.index


def _own_sync_commits(state: PeerState, role: Leader) -> bool:
    if state.log.durable >= state.log.last.index:
        return False
    match = {name: progress.match_index for name, progress in role.progress.items()}
    match[state.name] = state.log.last.index
    return agreed_index(state.configuration, match) > state.commit_index


def _settled(state: PeerState, role: Leader) -> bool:
    """Whether no answer of a follower could commit, confirm, hand over or let more be sent."""
    last = state.log.last.index
    if state.commit_index < last or role.reading is not None or role.transfer is not None:
        return False
    if state.configuration.changing or state.handing is not None:
        return False
    for one in role.progress.values():
        if one.state is not ProgressState.REPLICATE or one.next_index <= last:
            return False
    return True
