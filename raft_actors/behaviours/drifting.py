"""Leadership drifts to the peer of the highest priority by an ordinary hand-over, never at the price of availability.

Who leads decides. It looks every heartbeat interval, and hands over to a voter of higher priority that has by now all
that was in the log at the last look: it can take over within a moment. Nothing of this touches elections: whoever is up
to date may win one, whatever its priority.

A leadership is left alone while it is young. What was tried is not tried again for a while, which doubles each time,
also if the other peer was elected: it may have lost the leadership at once, over and over again. So the memory of it
outlives the leadership.

Thesis: §3.10 (why to hand over: "some servers may be more suitable to lead than others").
"""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.behaviours.handover import begin_transfer, is_able
from raft_actors.behaviours.transition import Outcome, other_voters
from raft_actors.protocol.progress import Progress, ProgressState
from raft_actors.protocol.state import NEVER, Drift, Leader, PeerState, Transfer
from raft_actors.protocol.types import Moment

__all__ = ["drift", "earliest"]

GRACE = 3.0
"""Longest election timeouts for which a new leadership is left alone, and the first pause after a try."""
LONGEST_PAUSE = 100.0
"""Longest pause after a try, in the same unit."""
FORGOTTEN = 10.0
"""Pauses after which a try is forgotten."""


def earliest(state: PeerState, moment: Moment) -> float:
    """When the leadership that begins now may drift."""
    return max(moment.now + GRACE * state.settings.max_election_timeout, state.drift.tried_at + state.drift.pause)


def drift(state: PeerState, role: Leader, moment: Moment) -> Outcome:
    """Of a leader, when it wakes: hand over to the worthiest voter of higher priority, if there is one."""
    if moment.now < role.drift_at:
        return state, ()
    target = _worthiest(state, role, moment) if role.drift_mark and _is_calm(state, role) else None
    if target is None:
        again = moment.now + state.settings.heartbeat_interval
        return replace(state, role=replace(role, drift_at=again, drift_mark=state.log.last.index)), ()
    pause = _next_pause(state, moment)
    role = replace(role, drift_at=moment.now + pause, drift_mark=0)
    state = replace(state, drift=Drift(moment.now, pause))
    return begin_transfer(state, role, Transfer(target, moment.now + state.settings.min_election_timeout))


def _next_pause(state: PeerState, moment: Moment) -> float:
    unit, last = state.settings.max_election_timeout, state.drift
    if moment.now - last.tried_at > FORGOTTEN * last.pause:
        return GRACE * unit
    return min(2 * last.pause, LONGEST_PAUSE * unit)


def _is_calm(state: PeerState, role: Leader) -> bool:
    """Whether nothing else is under way: a stop, another hand-over, a change of the configuration."""
    index, configuration = state.configurations[-1]
    if state.commit_index < max(index, role.first_index) or configuration.changing or role.preparing is not None:
        return False
    stopping = state.stopping != NEVER or state.stop_after_snapshot is not None
    return not stopping and role.transfer is None and state.handing is None


def _worthiest(state: PeerState, role: Leader, moment: Moment) -> str | None:
    own = state.settings.priority
    known = role.progress
    worthy = [one.name for one in other_voters(state) if known[one.name].priority > own]
    ready = [name for name in worthy if _is_ready(state, role, known[name], moment)]
    return max(ready, key=lambda name: known[name].priority, default=None)


def _is_ready(state: PeerState, role: Leader, progress: Progress, moment: Moment) -> bool:
    """Whether a voter could lead within a moment: it answers, is sent all at once, and has it soon."""
    flows = progress.state is ProgressState.REPLICATE and progress.next_index > state.log.last.index
    return flows and progress.match_index >= role.drift_mark and is_able(state, progress, moment)
