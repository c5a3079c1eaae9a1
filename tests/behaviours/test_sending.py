"""A leader sends its snapshot to a follower whose next entries it no longer has. Paper: §7, Figure 13."""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.behaviours.sending import CHUNK_BYTES
from raft_actors.protocol import effects as fx
from raft_actors.protocol import events as ev
from raft_actors.protocol import messages as ms
from raft_actors.protocol.progress import ProgressState
from raft_actors.protocol.state import PeerState
from raft_actors.protocol.types import LogPosition, Settings
from tests.behaviours import bench
from tests.behaviours.bench import at, of_type, take


def compacted(**more: object) -> PeerState:
    """A leader of term 1 whose log begins with entry 6; s3 has nothing and is probed at 9."""
    settings = Settings(trailing_entries=0, snapshot_threshold=4)
    state = bench.leader(terms=(1,) * 8, match={"s3": 0}, settings=settings, **more)
    role = bench.leading(state)
    lost = replace(role.progress["s3"], state=ProgressState.PROBE, heard_at=bench.NOW - 10)
    state = replace(state, role=replace(role, progress={**role.progress, "s3": lost}))
    state, _ = take(state, ev.SnapshotWritten(bench.snapshot(5, 1)))
    assert state.log.first == 6
    return state


def sending(**more: object) -> PeerState:
    """The same while the first piece is read."""
    return take(compacted(**more), bench.nack("s3", 1, 8))[0]


def progress(state: PeerState):  # type: ignore[no-untyped-def]
    return bench.leading(state).progress["s3"]


def pieces(effects: tuple[fx.Effect, ...]) -> list[ms.InstallSnapshot]:
    return [one.message for one in of_type(effects, fx.Send) if isinstance(one.message, ms.InstallSnapshot)]


def test_a_follower_whose_next_entry_is_gone_is_sent_the_snapshot() -> None:
    state, effects = take(compacted(), bench.nack("s3", 1, 8))
    assert of_type(effects, fx.LoadChunk) == [fx.LoadChunk("s3", "store-1", 0, CHUNK_BYTES)]
    assert progress(state).state is ProgressState.SNAPSHOT


def test_a_piece_that_was_read_leaves_with_its_place() -> None:
    _, effects = take(sending(), ev.ChunkLoaded("s3", "store-1", 0, b"12345"))
    (message,) = pieces(effects)
    assert (message.id, message.last, message.size, message.offset, message.data) == (
        "store-1",
        LogPosition(1, 5),
        10,
        0,
        b"12345",
    )


def test_the_next_piece_is_read_when_the_last_is_answered() -> None:
    state, effects = take(sending(), bench.piece_reply("s3", 1, received=5))
    assert of_type(effects, fx.LoadChunk) == [fx.LoadChunk("s3", "store-1", 5, CHUNK_BYTES)]
    assert progress(state).sending.offset == 5


def test_a_follower_that_has_a_part_of_it_goes_on_there() -> None:
    _, effects = take(sending(), bench.piece_reply("s3", 1, received=9))
    assert of_type(effects, fx.LoadChunk)[0].offset == 9


def test_late_and_doubled_answers_start_nothing() -> None:
    state, _ = take(sending(), bench.piece_reply("s3", 1, received=5))
    for reply in (
        bench.piece_reply("s3", 1, received=5),
        bench.piece_reply("s3", 1, offset=3, received=4),
        bench.piece_reply("s3", 1, offset=5, received=5),
        bench.piece_reply("s3", 1, offset=5, received=11),
        bench.piece_reply("s3", 1, offset=5, received=7, name="store-0"),
    ):
        assert not of_type(take(state, reply)[1], fx.LoadChunk)


def test_a_piece_that_was_read_too_late_is_not_sent() -> None:
    state, _ = take(sending(), bench.piece_reply("s3", 1, received=5))
    assert not pieces(take(state, ev.ChunkLoaded("s3", "store-1", 0, b"12345"))[1])
    assert not pieces(take(bench.leader(), ev.ChunkLoaded("s3", "store-1", 0, b"x"))[1])
    assert not take(bench.following(), ev.ChunkLoaded("s3", "store-1", 0, b"x"))[1]
    assert not take(bench.leader(), ev.ChunkLoaded("s9", "store-1", 0, b"x"))[1]


def test_a_piece_without_answer_is_sent_again_to_whoever_is_heard() -> None:
    state = sending()
    _, effects = take(state, ev.Tick(), at(bench.NOW + 0.1))
    assert not of_type(effects, fx.LoadChunk)
    _, effects = take(state, ev.Tick(), at(bench.NOW + 0.21))
    assert of_type(effects, fx.LoadChunk) == [fx.LoadChunk("s3", "store-1", 0, CHUNK_BYTES)]


def test_heartbeats_go_on_while_it_is_sent() -> None:
    _, effects = take(sending(), ev.Tick(), at(bench.NOW + 0.1))
    appends = {one.to: one.message for one in of_type(effects, fx.Send)}
    assert appends["s3"].previous == LogPosition(1, 5)
    assert appends["s3"].entries == ()


def test_a_refused_heartbeat_changes_nothing_while_it_is_sent() -> None:
    state = sending()
    after, effects = take(state, bench.nack("s3", 1, 5))
    assert progress(after).sending == progress(state).sending
    assert not of_type(effects, fx.LoadChunk)


def test_entries_for_others_do_not_wait_for_it() -> None:
    _, effects = take(sending(), ev.WritesRequested(7, (b"x",)))
    assert [one.to for one in of_type(effects, fx.Send)] == ["s2"]


def test_when_it_is_installed_the_entries_after_it_follow() -> None:
    state, effects = take(sending(), bench.piece_reply("s3", 1, match=5, received=10))
    assert progress(state).state is ProgressState.REPLICATE
    (message,) = [one.message for one in of_type(effects, fx.Send)]
    assert (message.previous.index, len(message.entries)) == (5, 3)


def test_a_follower_that_turns_out_to_match_needs_no_more_of_it() -> None:
    state, _ = take(sending(), bench.ack("s3", 1, 8))
    assert progress(state).state is ProgressState.REPLICATE
    assert progress(state).sending is None


def test_a_match_before_the_end_of_it_is_noted_and_it_goes_on() -> None:
    state, _ = take(sending(), bench.ack("s3", 1, 2))
    assert progress(state).match_index == 2
    assert progress(state).state is ProgressState.SNAPSHOT


def test_if_its_file_is_gone_the_newest_snapshot_is_sent_from_the_beginning() -> None:
    state = sending()
    state = replace(state, snapshot=bench.snapshot(7, 1, name="store-2"))
    state, effects = take(state, ev.ChunkLoaded("s3", "store-1", 0, None))
    assert of_type(effects, fx.LoadChunk)[0].id == "store-2"
    _, effects = take(state, ev.ChunkLoaded("s3", "store-2", 0, None))
    assert not of_type(effects, fx.LoadChunk)


def test_a_follower_that_died_is_probed_anew() -> None:
    state, _ = take(sending(), ev.PeerDown("s3"))
    assert progress(state).sending is None


def test_a_follower_that_lost_its_state_is_sent_a_snapshot_that_is_new_enough() -> None:
    asks = replace(bench.ack("s2", 1, 8), wants=5)
    assert of_type(take(compacted(), asks)[1], fx.LoadChunk)[0].reader == "s2"


def test_if_the_snapshot_is_too_old_for_it_a_new_one_is_taken_first() -> None:
    state, effects = take(compacted(), replace(bench.ack("s2", 1, 8), wants=7))
    assert not of_type(effects, fx.LoadChunk)
    assert of_type(effects, fx.Capture)[0].last == LogPosition(1, 8)


def test_replies_to_pieces_that_nobody_sends_teach_nothing() -> None:
    assert take(bench.following(), bench.piece_reply("s2", 1))[1] == ()
    assert not of_type(take(bench.leader(), bench.piece_reply("s3", 2))[1], fx.LoadChunk)
