"""Taking snapshots, and cutting the log behind them."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from raft_actors.behaviours.deadlines import next_deadline
from raft_actors.behaviours.snapshots import RETRY_AFTER, covered
from raft_actors.protocol.configuration import Configuration, encode
from raft_actors.protocol.effects import Capture, Compact, Effect, ReadyToStop, SnapshotAnswer
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.events import (
    SnapshotFailed,
    SnapshotRecorded,
    SnapshotRequested,
    SnapshotWritten,
    StopRequested,
    Tick,
)
from raft_actors.protocol.progress import ProgressState, Sending
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.protocol.state import PeerState
from raft_actors.protocol.types import LogPosition, Settings
from tests.behaviours import bench
from tests.behaviours.bench import NOW, append, at, leading, of_type, only, snapshot, take, take_all

TINY = Settings(snapshot_threshold=4, trailing_entries=0)
FOUR = bench.configuration("s1", "s2", "s3", "s4")


def follower(count: int = 6, commit: int = 0, settings: Settings = TINY, **more: Any) -> PeerState:
    """A follower of ``s2`` with ``count`` entries on disk, of which ``commit`` are applied."""
    return bench.following(terms=(1,) * count, commit=commit, settings=settings, **more)


def commit(state: PeerState, index: int) -> tuple[PeerState, tuple[Effect, ...]]:
    """The leader's news that everything up to ``index`` is committed."""
    return take(state, append("s2", 1, state.log.last, commit=index))


def written(index: int, name: str = "s1", **more: Any) -> SnapshotWritten:
    return SnapshotWritten(snapshot(LogPosition(1, index), f"{name}-{index}", **more))


def captures(effects: tuple[Effect, ...]) -> list[int]:
    return [one.last.index for one in of_type(effects, Capture)]


def answers(effects: tuple[Effect, ...]) -> list[tuple[int, int | None]]:
    return [(one.token, one.index) for one in of_type(effects, SnapshotAnswer)]


# -- when --------------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_taken_when_so_many_entries_were_applied() -> None:
    state, effects = commit(follower(), 3)
    assert captures(effects) == []
    state, effects = commit(state, 4)
    assert captures(effects) == [4]
    assert state.capturing == LogPosition(1, 4)


def test_a_snapshot_is_taken_when_so_many_bytes_were_applied() -> None:
    state = follower(settings=Settings(snapshot_threshold_bytes=1 + len(encode(bench.THREE))))
    state, effects = commit(state, 1)
    assert captures(effects) == []
    state, effects = commit(state, 2)
    assert captures(effects) == [2]
    assert state.unsaved_bytes == 0


def test_entries_are_counted_from_the_newest_snapshot_on() -> None:
    state = take_all(commit(follower(12), 4)[0], written(4))
    state, effects = commit(state, 7)
    assert captures(effects) == []
    assert captures(commit(state, 8)[1]) == [8]


def test_a_snapshot_covers_exactly_what_the_machine_was_handed_before() -> None:
    """The machine is to have applied just these entries when it comes to it."""
    effects = commit(follower(), 6)[1]
    kinds = [type(one).__name__ for one in effects]
    assert kinds.index("Apply") < kinds.index("Capture")
    assert captures(effects) == [6]


def test_a_log_that_begins_with_a_configuration_has_it_once() -> None:
    """BUG-54."""
    new = bench.configuration("s1", "s2")
    assert covered(((1, bench.THREE), (5, new)), 5) == ((5, new),)
    assert covered(((1, bench.THREE), (5, new)), 4) == ((1, bench.THREE), (5, new))


def test_one_snapshot_is_taken_at_a_time() -> None:
    state, effects = commit(follower(20), 4)
    assert captures(effects) == [4]
    state, effects = commit(state, 15)
    assert captures(effects) == []
    assert captures(take(state, written(4)).effects) == [15]


def test_a_failure_is_tried_again_later() -> None:
    state = follower(200, 100, Settings(snapshot_threshold=80), capturing=LogPosition(1, 90))
    state, effects = take(state, SnapshotFailed())
    assert captures(effects) == []
    state, effects = commit(state, 109)
    assert captures(effects) == []
    assert captures(commit(state, 110)[1]) == [110]


def test_a_follower_that_lost_its_state_has_it_tried_again_after_a_while_though_nobody_writes() -> None:
    leads = bench.leader(commit=2)
    lost = replace(bench.ack("s2", 2, 2), wants=1)
    state, effects = take(leads, lost)
    assert captures(effects) == [2]
    state, taken = take(state, SnapshotFailed()).state, []
    for beat in range(110):
        now = at(NOW + beat * 0.05)
        for event in (Tick(), lost):
            state, effects = take(state, event, now)
            taken += [beat * 0.05] * len(captures(effects))
    assert taken == [pytest.approx(RETRY_AFTER, abs=0.051)]


def test_nothing_applied_needs_no_snapshot() -> None:
    state, effects = take(bench.peer(), SnapshotRequested(7))
    assert effects == ()
    assert captures(take(bench.following(snapshot_wanted=1), Tick()).effects) == []
    assert state.snapshot_callers == ((1, 7),)


def test_no_snapshot_is_taken_of_a_state_that_is_on_its_way() -> None:
    """The machine still has the state before the one that the log goes on from."""
    state = bench.leader(terms=(1,) * 9, commit=6, settings=TINY)
    state = replace(state, handed=3, last_applied=3, log=state.log.compacted(LogPosition(1, 6)), snapshot_wanted=6)
    assert captures(take(state, SnapshotRequested(7)).effects) == []


# -- asked for ---------------------------------------------------------------------------------------------------------


def test_a_caller_gets_a_snapshot_of_what_is_applied_now() -> None:
    state, effects = take(follower(commit=2), SnapshotRequested(7))
    assert captures(effects) == [2]
    state, effects = take(state, written(2))
    assert answers(effects) == []
    assert answers(take(state, SnapshotRecorded("s1-2")).effects) == [(7, 2)]


def test_a_caller_who_asks_while_one_is_taken_gets_a_later_one() -> None:
    """The one that is being taken may lack what the caller knows to be applied."""
    state, _ = commit(follower(), 4)
    state, _ = commit(state, 5)
    state, effects = take(state, SnapshotRequested(7))
    assert captures(effects) == []
    state, effects = take(state, written(4))
    assert captures(effects) == [5]
    state, effects = take(state, SnapshotRecorded("s1-4"))
    assert answers(effects) == []
    state = take(state, written(5)).state
    assert answers(take(state, SnapshotRecorded("s1-5")).effects) == [(7, 5)]


def test_a_caller_is_answered_at_once_if_nothing_was_applied_since() -> None:
    state = take_all(commit(follower(), 4)[0], written(4))
    assert take(state, SnapshotRequested(7)).effects == (SnapshotAnswer(7, 4),)


def test_callers_learn_of_a_failure() -> None:
    state = take_all(follower(commit=2), SnapshotRequested(7), SnapshotRequested(8))
    state, effects = take(state, SnapshotFailed())
    assert answers(effects) == [(7, None), (8, None)]
    assert captures(effects) == []


def test_a_caller_who_asks_after_a_failure_has_it_tried_at_once() -> None:
    """Who asks may have made room, and where nobody writes, nothing else would try again."""
    state = take_all(follower(commit=2), SnapshotRequested(7), SnapshotFailed())
    assert captures(take(state, SnapshotRequested(8)).effects) == [2]


def test_the_record_of_another_snapshot_answers_nobody() -> None:
    state = take_all(follower(commit=2), SnapshotRequested(7))
    assert take(state, SnapshotRecorded("s1-2")).effects == ()
    state = take(state, written(2)).state
    assert take(state, SnapshotRecorded("older")).effects == ()


# -- cutting the log ---------------------------------------------------------------------------------------------------


def test_the_log_is_cut_only_when_the_snapshot_is_durable() -> None:
    """BUG-53."""
    state, effects = commit(follower(), 4)
    assert state.log.first == 1
    assert of_type(effects, Compact) == []
    state, effects = take(state, written(4))
    assert only(effects, Compact).through == 4
    assert (state.log.first, state.log.last.index, state.snapshot_index) == (5, 6, 4)


def test_some_entries_stay_for_followers_that_are_a_little_behind() -> None:
    state = follower(10, 8, Settings(trailing_entries=3))
    state, effects = take(state, written(8))
    assert only(effects, Compact).through == 5
    assert state.log.first == 6
    assert only(take(follower(10, 8, Settings(trailing_entries=9)), written(8)).effects, Compact).through == 0


def test_the_log_is_never_cut_back_to_what_is_gone() -> None:
    state = take(follower(10, 8, Settings(trailing_entries=3)), written(8)).state
    state = replace(state, settings=Settings(trailing_entries=8))
    state, effects = take(commit(state, 9)[0], written(9))
    assert only(effects, Compact).through == 5


def test_a_snapshot_that_was_overtaken_by_a_received_one_is_forgotten() -> None:
    state = follower(10, 8, snapshot=snapshot(LogPosition(1, 8)), capturing=LogPosition(1, 4))
    state, effects = take(state, written(4))
    assert of_type(effects, Compact) == []
    assert state.snapshot_index == 8
    assert state.capturing is None


def test_a_caller_whose_snapshot_was_overtaken_gets_the_newer_one() -> None:
    state = take_all(follower(10, 4), SnapshotRequested(7))
    state = replace(state, snapshot=snapshot(LogPosition(1, 8)))
    assert answers(take(state, written(4)).effects) == [(7, 8)]


def test_a_snapshot_that_the_log_does_not_reach_cuts_nothing() -> None:
    state, effects = take(follower(3, 3), written(9))
    assert effects == ()
    assert state.snapshot is None


def leader(match: int, count: int = 30, **changes: Any) -> PeerState:
    """A leader whose follower ``s2`` has ``match`` entries; ``s3`` has all."""
    state = bench.leader(terms=(1,) * count, settings=TINY, match={"s2": match})
    role = leading(state)
    return replace(
        state,
        capturing=state.log.last,
        role=replace(role, progress={**role.progress, "s2": replace(role.progress["s2"], **changes)}),
    )


def test_a_leader_keeps_what_a_follower_it_feeds_needs_next() -> None:
    assert only(take(leader(20), written(30)).effects, Compact).through == 20


def test_a_leader_keeps_what_comes_after_a_snapshot_on_its_way() -> None:
    """Else the follower needs another one as soon as it has this one, under heavy writes for ever."""
    under_way = Sending("s1-25", LogPosition(1, 25), 10, 5, NOW + 1)
    state = leader(0, state=ProgressState.SNAPSHOT, sending=under_way)
    assert only(take(state, written(30)).effects, Compact).through == 25


def test_a_leader_keeps_nothing_for_a_follower_that_is_not_heard() -> None:
    assert only(take(leader(20, heard_at=NOW - 1), written(30)).effects, Compact).through == 30


def test_a_follower_that_is_slow_for_ever_does_not_hold_the_log_for_ever() -> None:
    """At most four thresholds are kept for it."""
    assert only(take(leader(2), written(30)).effects, Compact).through == 30 - 4 * 4


def test_an_entry_of_the_dropped_part_is_not_needed_any_more() -> None:
    """What is left has the same terms, positions and bytes as before."""
    before = follower(10, 8).log
    after = take(follower(10, 8), written(8)).state.log
    assert after.previous == LogPosition(1, 8)
    assert [after.term_at(index) for index in (7, 8, 9, 10)] == [None, 1, 1, 1]
    assert after.tail == before.tail[8:]
    assert after.tail_bytes == sum(len(one.data) for one in after.tail)


# -- the configuration -------------------------------------------------------------------------------------------------


def reconfigured() -> PeerState:
    """Entry 4 of 8 makes ``s4`` a member."""
    state = follower(3)
    change = Entry(4, 1, EntryKind.CONFIGURATION, 0.0, encode(FOUR))
    state = take(state, append("s2", 1, state.log.last, (change, *bench.entries(5, 1, 1, 1, 1)))).state
    return bench.synced(state).state


def test_a_snapshot_says_which_configuration_counted_at_its_index() -> None:
    """BUG-54."""
    early = only(take(commit(reconfigured(), 3)[0], SnapshotRequested(7)).effects, Capture)
    assert (early.configuration_index, early.configuration) == (1, bench.THREE)
    late = only(commit(reconfigured(), 4)[1], Capture)
    assert (late.configuration_index, late.configuration) == (4, FOUR)


def test_the_configuration_is_kept_when_its_entry_is_cut_off() -> None:
    """BUG-54."""
    state, effects = take(commit(reconfigured(), 7)[0], written(7))
    compact = only(effects, Compact)
    assert (compact.through, compact.configuration_index, compact.configuration) == (7, 4, FOUR)
    assert state.configurations == ((4, FOUR),)


def test_a_configuration_after_the_cut_can_still_be_taken_back() -> None:
    """BUG-66: the one that counted before it is kept as well."""
    state, effects = take(commit(reconfigured(), 3)[0], written(3))
    assert state.configurations == ((1, bench.THREE), (4, FOUR))
    state = take(state, append("s3", 2, LogPosition(1, 3), bench.entries(4, 2))).state
    assert state.configuration == bench.THREE
    assert only(effects, Compact).configuration == bench.THREE


def test_a_log_without_a_configuration_is_cut_without_one() -> None:
    state, effects = take(replace(follower(6, 4), configurations=()), written(4))
    assert state.configurations == ()
    assert only(effects, Compact).configuration == Configuration()


# -- a graceful stop ---------------------------------------------------------------------------------------------------

SAVING = Settings(snapshot_threshold=20, trailing_entries=0)


def test_a_graceful_stop_saves_first_what_would_make_the_restart_slow() -> None:
    state, effects = take(follower(6, 6, SAVING), StopRequested(5.0))
    assert captures(effects) == [6]
    assert ReadyToStop() not in effects
    effects = take(state, written(6)).effects
    assert [type(one) for one in effects] == [Compact, ReadyToStop], "the store records it before it is closed"


def test_a_graceful_stop_saves_nothing_if_little_was_applied() -> None:
    state = follower(6, 6, SAVING, snapshot=snapshot(LogPosition(1, 5)))
    assert take(state, StopRequested(5.0)).effects == (ReadyToStop(),)


def test_a_graceful_stop_goes_on_if_nothing_can_be_saved() -> None:
    state = take(follower(6, 6, SAVING), StopRequested(5.0)).state
    assert ReadyToStop() in take(state, SnapshotFailed()).effects
    assert take(follower(6, 6, SAVING, no_snapshot_before=7), StopRequested(5.0)).effects == (ReadyToStop(),)


def test_a_graceful_stop_waits_for_a_snapshot_half_of_its_time() -> None:
    state = take(follower(6, 6, SAVING), StopRequested(0.2)).state
    assert ReadyToStop() not in take(state, Tick(), at(NOW + 0.09)).effects
    assert next_deadline(state) == NOW + 0.1
    assert ReadyToStop() in take(state, Tick(), at(NOW + 0.1)).effects


def test_a_stopping_peer_waits_for_the_snapshot_after_the_one_that_runs() -> None:
    state = follower(6, 6, SAVING, capturing=LogPosition(1, 3))
    state = take(state, StopRequested(5.0)).state
    state, effects = take(state, written(3))
    assert captures(effects) == [6]
    assert ReadyToStop() not in effects
    assert ReadyToStop() in take(state, written(6)).effects


def test_a_stopping_leader_hands_over_after_it_has_saved() -> None:
    state = bench.leader(terms=(1,) * 6, settings=SAVING)
    state, effects = take(state, StopRequested(5.0))
    assert captures(effects) == [6]
    assert leading(state).transfer is None
    state = take(state, written(6)).state
    transfer = leading(state).transfer
    assert transfer is not None
    assert transfer.sent


def test_what_a_snapshot_stands_for_is_one_value() -> None:
    whole = snapshot(LogPosition(1, 4))
    assert whole == Snapshot("s2-4", LogPosition(1, 4), 0, 4.0, 1, bench.THREE, 10)


def test_a_leader_that_saves_before_it_stops_trusts_no_lease_meanwhile() -> None:
    settings = Settings(snapshot_threshold=20, lease_reads=True)
    state = bench.leader(terms=(1, 1), settings=settings)
    state, effects = take(state, StopRequested(5.0))
    assert of_type(effects, Capture)
    assert leading(state).lease_given_up
