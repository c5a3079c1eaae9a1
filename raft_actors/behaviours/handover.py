"""Handing leadership over: pick the best successor, bring it up to date, tell it to stand.

A graceful stop does it, a caller may ask for it (``transfers``), and leadership drifts by it (``drifting``). While a
hand-over is under way no writes are taken; it is given up after an election timeout, and the leader leads on.

Where this peer stops, its successor stands only when all that was written here is committed: else it may lead before
this peer knows, and who stops then leaves its callers with an unknown outcome.

Thesis: §3.10.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec.structs import replace

from raft_actors.behaviours.snapshots import worth_a_snapshot
from raft_actors.behaviours.transition import Outcome, other_voters
from raft_actors.protocol.effects import Effect, ReadyToStop, Send
from raft_actors.protocol.events import StopRequested
from raft_actors.protocol.messages import TimeoutNow
from raft_actors.protocol.progress import Progress
from raft_actors.protocol.state import NEVER, Leader, PeerState, Transfer
from raft_actors.protocol.types import Moment

NEVER_HEARD = float("-inf")

__all__ = [
    "begin_transfer",
    "continue_transfer",
    "expire_transfer",
    "finish_stop",
    "hand_to_successor",
    "is_able",
    "on_successor_down",
    "stop",
    "stop_when_saved",
    "successor",
]

SAVING_SHARE = 0.5
"""Share of the time for a graceful stop in which a snapshot may be taken first."""


def stop(state: PeerState, event: StopRequested, moment: Moment) -> Outcome:
    """Asked to stop: save first what would make the restart slow; then a leader hands over, if anybody can take it."""
    if worth_a_snapshot(state):
        latest = moment.now + SAVING_SHARE * event.timeout
        wanted = max(state.snapshot_wanted, state.handed)
        role = state.role
        if isinstance(role, Leader):  # who is asked to stop trusts no lease any more, whenever it hands over
            state = replace(state, role=replace(role, lease_given_up=True))
        return replace(state, stop_after_snapshot=(latest, moment.now + event.timeout), snapshot_wanted=wanted), ()
    return _stop_now(state, event, moment)


def stop_when_saved(state: PeerState, moment: Moment) -> Outcome:
    """Of a peer that saves before it stops: go on with stopping as soon as the snapshot is recorded, or its time is up.

    The store knows it before it is closed: the log writer does what was queued before.
    """
    if state.stop_after_snapshot is None:
        return state, ()
    latest, end = state.stop_after_snapshot
    failed = state.capturing is None and state.handed < state.no_snapshot_before
    if state.snapshot_wanted > state.snapshot_index and not failed and moment.now < latest:
        return state, ()
    state = replace(state, stop_after_snapshot=None)
    return _stop_now(state, StopRequested(max(end - moment.now, 0.0)), moment)


def _stop_now(state: PeerState, event: StopRequested, moment: Moment) -> Outcome:
    role = state.role
    if not isinstance(role, Leader) or not (_is_alone(state) or successor(state, role, moment)):
        return state, (ReadyToStop(),)
    role = replace(role, lease_given_up=True)
    state = replace(state, role=role, stopping=moment.now + event.timeout, stop_index=state.log.last.index)
    return (state, ()) if role.transfer or _is_alone(state) else _hand_to_next(state, role, moment)


def _is_alone(state: PeerState) -> bool:
    """Whether this leader needs nobody to commit, and has nobody to hand over to."""
    return not other_voters(state) and state.configuration.is_voter(state.name)


def _hand_to_next(state: PeerState, role: Leader, moment: Moment) -> Outcome:
    """Of a stopping leader: turn to whoever can take it now. If there is nobody, stop without it.

    The successor has an election timeout; one that has not answered since we lead may be dead, and has two heartbeats.
    """
    target = successor(state, role, moment)
    if target is None:
        return replace(state, role=replace(role, transfer=None), stopping=moment.now), ()
    settings = state.settings
    answered = role.progress[target].match_index > 0
    allowed = settings.max_election_timeout if answered else 2 * settings.heartbeat_interval
    return begin_transfer(state, role, Transfer(target, min(state.stopping, moment.now + allowed)))


def hand_to_successor(state: PeerState, role: Leader, moment: Moment) -> Outcome:
    """Of a leader that goes: turn to whoever can take it now; if there is nobody, it goes on alone."""
    target = successor(state, role, moment)
    if target is None:
        return replace(state, role=role), ()
    return begin_transfer(state, role, Transfer(target, moment.now + state.settings.max_election_timeout))


def begin_transfer(state: PeerState, role: Leader, transfer: Transfer) -> Outcome:
    """Take no more writes, and trust no lease: as soon as the target has all of our log, it is told to stand."""
    role = replace(role, transfer=transfer, lease_given_up=True)
    return continue_transfer(replace(state, role=role))


def successor(state: PeerState, role: Leader, moment: Moment, tried: Collection[str] = ()) -> str | None:
    """The most caught-up voter that can lead; of equals the one of highest priority, then the first named.

    One that is sent a snapshot comes last: it lacks entries by far.
    """
    able = [voter.name for voter in other_voters(state) if is_able(state, role.progress[voter.name], moment)]
    known = role.progress

    def claim(name: str) -> tuple[bool, int, int]:
        return known[name].sending is None, known[name].match_index, known[name].priority

    return max([name for name in able if name not in tried], key=claim, default=None)


def is_able(state: PeerState, progress: Progress, moment: Moment) -> bool:
    """Whether a voter answered within an election timeout, and has not lost the state without which none may lead."""
    return not progress.lost and progress.heard_at > moment.now - state.settings.max_election_timeout


def continue_transfer(state: PeerState) -> Outcome:
    """Once the successor has all of our log, tell it to stand. It needs no election timeout to know.

    Who stops tells it only when all is committed: who goes on hears of that later.
    """
    role = state.role
    if not isinstance(role, Leader) or role.transfer is None or role.transfer.sent:
        return state, ()
    target, last = role.transfer.target, state.log.last.index
    if target not in role.progress or role.progress[target].match_index < last:
        return state, ()
    if state.stopping != NEVER and state.commit_index < last:
        return state, ()
    message = TimeoutNow(
        cluster=state.cluster,
        sender=state.name,
        incarnation=state.incarnation,
        receiver=state.configuration.members()[target].incarnation,
        term=state.term,
    )
    role = replace(role, transfer=replace(role.transfer, sent=True))
    return replace(state, role=role), (Send(target, message),)


def expire_transfer(state: PeerState, moment: Moment) -> Outcome:
    """The hand-over took too long: lead on; a stopping leader tries again, with whoever answers now."""
    role = state.role
    if not isinstance(role, Leader) or role.transfer is None or moment.now < role.transfer.deadline:
        return state, ()
    target = role.transfer.target
    if target in role.progress and role.progress[target].match_index == 0:
        silent = replace(role.progress[target], heard_at=NEVER_HEARD)
        role = replace(role, progress={**role.progress, target: silent})
    return _give_up_transfer(state, role, moment)


def on_successor_down(state: PeerState, name: str, moment: Moment) -> Outcome:
    """The successor died: a stopping leader turns to another one, any other leads on."""
    role = state.role
    if not isinstance(role, Leader) or role.transfer is None or role.transfer.target != name:
        return state, ()
    return _give_up_transfer(state, role, moment)


def _give_up_transfer(state: PeerState, role: Leader, moment: Moment) -> Outcome:
    if moment.now < state.stopping < NEVER:
        return _hand_to_next(state, role, moment)
    return replace(state, role=replace(role, transfer=None)), ()


def finish_stop(state: PeerState, moment: Moment) -> Outcome:
    """A peer that was asked to stop is ready when somebody else leads and its own callers are served, or in time.

    Once it leads no more and its machine has what is known to be committed, it stays for one election, since its vote
    may be needed and the fate of its last entries may become known, and no longer.
    """
    role = state.role
    effects: tuple[Effect, ...] = ()
    if isinstance(role, Leader) and role.transfer is None and not _is_alone(state) and moment.now < state.stopping:
        state, effects = _hand_to_next(state, role, moment)  # it was elected again, or is alone no more
    written = min(state.stop_index, state.log.last.index)  # if others overwrote some, nobody waits for those any more
    if not isinstance(state.role, Leader) and state.handed >= min(written, state.commit_index):
        state = replace(state, stopping=min(state.stopping, moment.now + state.settings.max_election_timeout))
    goes_on_without = _is_alone(state) if state.leader == state.name else state.leader is not None
    if moment.now < state.stopping and not (goes_on_without and state.handed >= written):
        return state, effects
    return replace(state, stopping=NEVER), (*effects, ReadyToStop())
