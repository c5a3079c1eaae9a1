"""Taking snapshots and cutting the log behind them. Paper: §7."""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.behaviours.snapshots import configuration_at, covered
from raft_actors.protocol import effects as fx
from raft_actors.protocol import events as ev
from raft_actors.protocol.progress import ProgressState, Sending
from raft_actors.protocol.state import PeerState
from raft_actors.protocol.types import LogPosition, Settings
from tests.behaviours import bench
from tests.behaviours.bench import at, of_type, take

OFTEN = Settings(snapshot_threshold=3, trailing_entries=0)


def applied(count: int, settings: Settings = OFTEN, **more: object) -> PeerState:
    """A follower that has applied ``count`` entries of term 1."""
    return bench.following(terms=(1,) * count, commit=count, settings=settings, **more)


def saved(state: PeerState, index: int) -> PeerState:
    """The same with a durable snapshot of ``index``."""
    return take(state, ev.SnapshotWritten(bench.snapshot(index, 1)))[0]


def test_a_snapshot_is_taken_when_enough_was_applied() -> None:
    _, effects = take(applied(3), ev.Applied(3))
    assert of_type(effects, fx.Capture) == [fx.Capture(LogPosition(1, 3), 1, bench.THREE)]
    assert not of_type(take(applied(2), ev.Applied(2))[1], fx.Capture)


def test_a_snapshot_is_taken_when_enough_bytes_were_applied() -> None:
    settings = Settings(snapshot_threshold_bytes=4)
    state = bench.following(terms=(1, 1, 1), settings=settings)
    _, effects = take(state, bench.append("s2", 1, LogPosition(1, 3), commit=3))
    assert of_type(effects, fx.Capture)


def test_only_one_snapshot_is_taken_at_a_time() -> None:
    state, _ = take(applied(3), ev.Applied(3))
    assert state.capturing == LogPosition(1, 3)
    assert not of_type(take(state, ev.Applied(3))[1], fx.Capture)


def test_behind_a_durable_snapshot_the_log_is_cut_and_the_store_told() -> None:
    state, effects = take(applied(5), ev.SnapshotWritten(bench.snapshot(4, 1)))
    assert of_type(effects, fx.Compact) == [fx.Compact(bench.snapshot(4, 1), 4, 1, bench.THREE)]
    assert (state.log.first, state.log.last.index, state.snapshot_index) == (5, 5, 4)


def test_some_entries_stay_for_followers_that_are_a_little_behind() -> None:
    state = applied(5, Settings(snapshot_threshold=3, trailing_entries=2))
    assert saved(state, 4).log.first == 3


def test_a_snapshot_without_room_to_cut_is_recorded_all_the_same() -> None:
    state, effects = take(applied(5, Settings(trailing_entries=100)), ev.SnapshotWritten(bench.snapshot(4, 1)))
    assert of_type(effects, fx.Compact)[0].through == 0
    assert state.log.first == 1


def test_the_configuration_outlives_the_entry_that_held_it() -> None:
    state = saved(applied(5), 4)
    assert state.configurations == ((1, bench.THREE),)
    assert state.configuration == bench.THREE


def test_of_several_configurations_the_one_counts_that_stood_there() -> None:
    one, two = bench.configuration("s1"), bench.configuration("s1", "s2")
    both = ((1, one), (5, two))
    assert configuration_at(both, 4) == (1, one)
    assert configuration_at(both, 5) == (5, two)
    assert not configuration_at((), 3)[1]
    assert covered(both, 4) == both
    assert covered(both, 9) == ((5, two),)
    assert covered((), 9) == ()


def test_the_log_is_not_cut_past_what_a_living_follower_needs() -> None:
    settings = Settings(snapshot_threshold=3, trailing_entries=0)
    state = bench.leader(terms=(1,) * 8, match={"s2": 8, "s3": 2}, settings=settings)
    assert saved(state, 6).log.first == 3


def test_nor_past_the_snapshot_that_is_sent_to_one() -> None:
    state = bench.leader(terms=(1,) * 8, settings=OFTEN)
    role = bench.leading(state)
    sending = Sending("store-0", LogPosition(1, 4), 10, 0, bench.NOW)
    sent = replace(role.progress["s3"], match_index=0, state=ProgressState.SNAPSHOT, sending=sending)
    state = replace(state, role=replace(role, progress={**role.progress, "s3": sent}))
    assert saved(state, 7).log.first == 5


def test_a_follower_that_is_too_slow_for_ever_does_not_keep_the_log_for_ever() -> None:
    settings = Settings(snapshot_threshold=1, trailing_entries=0)
    state = bench.leader(terms=(1,) * 9, match={"s2": 9, "s3": 1}, settings=settings)
    assert saved(state, 8).log.first == 5


def test_a_dead_follower_keeps_nothing() -> None:
    state = bench.leader(terms=(1,) * 8, match={"s2": 8, "s3": 2}, settings=OFTEN)
    role = bench.leading(state)
    dead = replace(role.progress["s3"], heard_at=bench.NOW - 10)
    state = replace(state, role=replace(role, progress={**role.progress, "s3": dead}))
    assert saved(state, 6).log.first == 7


def test_a_snapshot_that_was_overtaken_is_forgotten() -> None:
    state = saved(applied(5), 4)
    after, effects = take(state, ev.SnapshotWritten(bench.snapshot(3, 1)))
    assert after.snapshot_index == 4
    assert not of_type(effects, fx.Compact)


def test_a_snapshot_whose_entry_the_log_does_not_hold_cuts_nothing() -> None:
    state, effects = take(applied(2), ev.SnapshotWritten(bench.snapshot(9, 1)))
    assert (state.snapshot, effects) == (None, ())


def test_a_snapshot_that_failed_is_tried_again_later() -> None:
    settings = Settings(snapshot_threshold=16, trailing_entries=0)
    state, _ = take(applied(16, settings), ev.Applied(16))
    state, effects = take(state, ev.SnapshotFailed())
    assert not of_type(effects, fx.Capture)
    state = replace(state, commit_index=16)
    state, effects = take(state, bench.append("s2", 1, LogPosition(1, 16), bench.entries(17, 1, 1), commit=18))
    state, effects = take(state, ev.Persisted(state.ballot, state.log.last))
    assert of_type(effects, fx.Capture)


def test_a_caller_is_answered_when_the_store_knows_the_snapshot() -> None:
    state, effects = take(applied(2), ev.SnapshotRequested(7))
    assert of_type(effects, fx.Capture)
    state, effects = take(state, ev.SnapshotWritten(bench.snapshot(2, 1)))
    assert not of_type(effects, fx.SnapshotAnswer)
    _, effects = take(state, ev.SnapshotRecorded("store-1"))
    assert effects == (fx.SnapshotAnswer(7, 2),)


def test_a_caller_who_comes_while_an_older_one_is_taken_waits_for_the_next() -> None:
    state, _ = take(applied(3), ev.Applied(3))
    state, _ = take(state, bench.append("s2", 1, LogPosition(1, 3), bench.entries(4, 1), commit=4))
    state, _ = take(state, ev.Persisted(state.ballot, state.log.last))
    state, _ = take(state, ev.SnapshotRequested(7))
    state, effects = take(state, ev.SnapshotWritten(bench.snapshot(3, 1)))
    assert of_type(effects, fx.Capture)[0].last == LogPosition(1, 4)
    state, effects = take(state, ev.SnapshotRecorded("store-1"))
    assert not of_type(effects, fx.SnapshotAnswer)


def test_a_caller_who_has_it_already_is_answered_at_once() -> None:
    state = saved(applied(4), 4)
    assert take(state, ev.SnapshotRequested(7))[1] == (fx.SnapshotAnswer(7, 4),)


def test_a_caller_hears_of_a_failure() -> None:
    state, _ = take(applied(2), ev.SnapshotRequested(7))
    state, effects = take(state, ev.SnapshotFailed())
    assert effects == (fx.SnapshotAnswer(7, None),)
    assert state.snapshot_callers == ()


def test_a_record_of_an_older_snapshot_answers_nobody() -> None:
    state = saved(applied(4), 4)
    assert take(state, ev.SnapshotRecorded("store-0"))[1] == ()
    assert take(applied(2), ev.SnapshotRecorded("store-0"))[1] == ()


def test_a_graceful_stop_saves_first_what_would_have_to_be_applied_again() -> None:
    state, effects = take(applied(2, Settings(snapshot_threshold=20)), ev.StopRequested(5.0))
    assert of_type(effects, fx.Capture)
    assert not of_type(effects, fx.ReadyToStop)
    _, effects = take(state, ev.SnapshotWritten(bench.snapshot(2, 1)))
    assert of_type(effects, fx.Compact)
    assert of_type(effects, fx.ReadyToStop)


def test_a_graceful_stop_waits_half_of_its_time_for_the_snapshot() -> None:
    state, _ = take(applied(2, Settings(snapshot_threshold=20)), ev.StopRequested(5.0))
    assert not of_type(take(state, ev.Tick(), at(bench.NOW + 2.4))[1], fx.ReadyToStop)
    assert of_type(take(state, ev.Tick(), at(bench.NOW + 2.5))[1], fx.ReadyToStop)


def test_a_graceful_stop_does_not_wait_for_a_snapshot_that_failed() -> None:
    state, _ = take(applied(2, Settings(snapshot_threshold=20)), ev.StopRequested(5.0))
    assert of_type(take(state, ev.SnapshotFailed())[1], fx.ReadyToStop)


def test_a_graceful_stop_with_little_to_save_stops_at_once() -> None:
    assert take(applied(2, Settings()), ev.StopRequested(5.0))[1] == (fx.ReadyToStop(),)
