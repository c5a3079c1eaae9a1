"""Taking snapshots, and cutting the log behind them.

::

    enough was applied --Capture--> machine: image --> file, durable --SnapshotWritten--> the log forgets its beginning
                                                                     --Compact--> recorded in the store, then cut there

A snapshot is taken while everything goes on. The log is cut only behind one that is durable, and never so far that a
follower that is being brought up to date would need a snapshot again: under heavy writes that would never end.

Paper: §7. Thesis: §5.1.
"""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.behaviours.transition import Outcome
from raft_actors.protocol.configuration import NO_CONFIGURATION, Configuration
from raft_actors.protocol.effects import Capture, Compact, Effect, SnapshotAnswer
from raft_actors.protocol.events import SnapshotRecorded, SnapshotRequested, SnapshotWritten
from raft_actors.protocol.progress import Progress
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.protocol.state import Leader, PeerState
from raft_actors.protocol.types import Moment

__all__ = [
    "answer_callers",
    "configuration_at",
    "covered",
    "on_snapshot_failed",
    "on_snapshot_recorded",
    "on_snapshot_written",
    "request",
    "take_if_due",
    "worth_a_snapshot",
]

RETRY_SHARE = 8
"""After a failure the next snapshot is tried when another eighth of the threshold was applied."""
RETRY_AFTER = 5.0
"""Or after so many seconds, if a follower that lost its state wants one."""
STOP_SHARE = 10
"""A graceful stop takes a snapshot first if so large a part of the threshold (a tenth) would be applied again."""
HELD = 4
"""How many thresholds of entries are kept at most for followers that are being brought up to date."""


def take_if_due(state: PeerState, moment: Moment) -> Outcome:
    """Begin a snapshot if it is time. Runs at the end of every step, and is cheap when there is nothing to do."""
    settings, saved = state.settings, state.snapshot_index
    unsaved = state.handed - saved
    due = (
        unsaved >= settings.snapshot_threshold
        or state.unsaved_bytes >= settings.snapshot_threshold_bytes
        or state.snapshot_wanted > saved
    )
    if not due or unsaved <= 0 or state.capturing is not None or _just_failed(state, moment):
        return state, ()
    last = state.log.position_at(state.handed)
    if last is None:  # the machine's state is on its way
        return state, ()
    index, configuration = configuration_at(state.configurations, last.index)
    state = replace(state, capturing=last, unsaved_bytes=0)
    return state, (Capture(last, index, configuration),)


def _just_failed(state: PeerState, moment: Moment) -> bool:
    """Whether it is too early after a failure. Where nobody writes, a follower that wants one is not kept for ever."""
    if state.snapshot_wanted > state.snapshot_index and moment.now >= state.snapshot_retry:
        return False
    return state.handed < state.no_snapshot_before


def configuration_at(configurations: tuple[tuple[int, Configuration], ...], index: int) -> tuple[int, Configuration]:
    """The configuration that counts at ``index``, and where it stands. Paper: §7 (BUG-54)."""
    known = [item for item in configurations if item[0] <= index]
    return known[-1] if known else (0, NO_CONFIGURATION)


def covered(configurations: tuple[tuple[int, Configuration], ...], index: int) -> tuple[tuple[int, Configuration], ...]:
    """``configurations`` of a log that begins after ``index``: the one that counts there, and all later ones."""
    at, configuration = configuration_at(configurations, index)
    later = tuple(item for item in configurations if item[0] > index)
    return ((at, configuration), *later) if configuration else later


def request(state: PeerState, event: SnapshotRequested) -> Outcome:
    """A caller wants everything that is applied now in a durable snapshot; one that runs may be too old for that.

    It is tried at once, even if the last one failed: who asks may have made room.
    """
    index = max(state.handed, 1)
    if index <= state.snapshot_index:
        return state, (SnapshotAnswer(event.token, state.snapshot_index),)
    callers = (*state.snapshot_callers, (index, event.token))
    wanted = max(state.snapshot_wanted, index)
    return replace(state, snapshot_callers=callers, snapshot_wanted=wanted, no_snapshot_before=0), ()


def on_snapshot_written(state: PeerState, event: SnapshotWritten, moment: Moment) -> Outcome:
    """Our snapshot is durable: the log needs its beginning no more. One that was overtaken by another is forgotten."""
    snapshot = event.snapshot
    state = replace(state, capturing=None)
    if snapshot.last.index <= state.snapshot_index:
        return answer_callers(state)
    through = state.log.position_at(_cut(state, snapshot, moment))
    if through is None:
        return state, ()
    index, configuration = configuration_at(state.configurations, through.index)
    state = replace(
        state,
        snapshot=snapshot,
        log=state.log.compacted(through),
        configurations=covered(state.configurations, through.index),
    )
    return state, (Compact(snapshot, through.index, index, configuration),)


def _cut(state: PeerState, snapshot: Snapshot, moment: Moment) -> int:
    """Up to where the log is dropped: some entries stay for followers that are a little behind."""
    settings, role = state.settings, state.role
    cut = snapshot.last.index - settings.trailing_entries
    if isinstance(role, Leader):
        horizon = moment.now - settings.max_election_timeout
        needed = [_needed(one) for one in role.progress.values() if one.heard_at > horizon]
        least = cut - HELD * settings.snapshot_threshold
        cut = max(least, min([cut, *needed]))
    return max(cut, state.log.previous.index)


def _needed(progress: Progress) -> int:
    """The entry after which a follower goes on: never to be cut off while it is being fed."""
    return progress.match_index if progress.sending is None else progress.sending.last.index


def on_snapshot_recorded(state: PeerState, event: SnapshotRecorded) -> Outcome:
    """The store knows it: tell who waited for it."""
    if state.snapshot is None or event.id != state.snapshot.id:
        return state, ()
    return answer_callers(state)


def answer_callers(state: PeerState) -> Outcome:
    """Answer those who asked for no more than the newest snapshot has."""
    index = state.snapshot_index
    effects: tuple[Effect, ...] = tuple(
        SnapshotAnswer(token, index) for wanted, token in state.snapshot_callers if wanted <= index
    )
    waiting = tuple(item for item in state.snapshot_callers if item[0] > index)
    return replace(state, snapshot_callers=waiting), effects


def on_snapshot_failed(state: PeerState, moment: Moment) -> Outcome:
    """Go on without it, with a longer log, and try again later. Who has what was asked for all the same is told so."""
    later = state.handed + max(1, state.settings.snapshot_threshold // RETRY_SHARE)
    state, answers = answer_callers(state)
    failed = tuple(SnapshotAnswer(token, None) for _, token in state.snapshot_callers)
    state = replace(
        state,
        capturing=None,
        no_snapshot_before=later,
        snapshot_retry=moment.now + RETRY_AFTER,
        snapshot_callers=(),
        snapshot_wanted=0,
    )
    return state, (*answers, *failed)


def worth_a_snapshot(state: PeerState) -> bool:
    """Whether a restart would have so much to apply again that saving it now is the faster way."""
    unsaved = state.handed - state.snapshot_index
    return unsaved * STOP_SHARE >= state.settings.snapshot_threshold and state.handed >= state.no_snapshot_before
