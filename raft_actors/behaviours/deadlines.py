"""Timers are data: when does this peer have to be woken if nothing else happens?"""

from __future__ import annotations

from raft_actors.protocol.state import NEVER, Forming, Leader, PeerState, Reserved

__all__ = ["next_deadline"]


def next_deadline(state: PeerState) -> float:
    """The earliest deadline of ``state``, on the monotonic clock; ``NEVER`` if there is none."""
    saving = state.stop_after_snapshot[0] if state.stop_after_snapshot is not None else NEVER
    joining = state.joining.retry if state.joining is not None else NEVER
    handing = state.handing.deadline if state.handing is not None else NEVER
    looking = state.bootstrap.retry if state.bootstrap is not None else NEVER
    forming = _formation_deadline(state.formation) if state.formation is not None else NEVER
    return min(_role_deadline(state), forming, state.stopping, saving, joining, looking, handing)


def _role_deadline(state: PeerState) -> float:
    role = state.role
    if isinstance(role, Leader):
        transfer = role.transfer.deadline if role.transfer else NEVER
        return min(role.heartbeat_deadline, role.news_deadline, role.round_deadline, role.quorum_deadline, transfer)
    return role.election_deadline


def _formation_deadline(formation: Forming | Reserved) -> float:
    return min(formation.deadline, formation.retry) if isinstance(formation, Forming) else formation.deadline
