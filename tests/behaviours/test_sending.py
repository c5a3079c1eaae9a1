"""How a leader sends its snapshot to a follower whose next entries it no longer has."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from raft_actors.behaviours.sending import CHUNK_BYTES
from raft_actors.protocol.effects import Capture, Effect, LoadChunk
from raft_actors.protocol.events import ChunkLoaded, PeerDown, SnapshotFailed, SnapshotWritten, StopRequested, Tick
from raft_actors.protocol.messages import AppendEntries, InstallSnapshot
from raft_actors.protocol.progress import Progress, ProgressState
from raft_actors.protocol.state import PeerState
from raft_actors.protocol.types import NOWHERE, LogPosition, Settings, Violation
from tests.behaviours import bench
from tests.behaviours.bench import (
    NOW,
    ack,
    at,
    leading,
    nack,
    of_type,
    only,
    piece_reply,
    sent,
    snapshot,
    take,
    take_all,
)
from tests.behaviours.test_replication import write

PROBE, REPLICATE, SNAPSHOT = ProgressState.PROBE, ProgressState.REPLICATE, ProgressState.SNAPSHOT
ID = "s1-6"


def leader(settings: Settings | None = None, **changes: Any) -> PeerState:
    """A leader whose log begins after 6 of 8, with a snapshot of 6; nothing is known of the log of ``s2`` yet."""
    state = bench.leader(terms=(1, 1, 1, 1, 1, 1, 2, 2), settings=settings)
    role = leading(state)
    s2 = Progress(**{"next_index": 7, "heard_at": NOW, **changes})
    return replace(
        state,
        log=state.log.compacted(LogPosition(1, 6)),
        snapshot=snapshot(LogPosition(1, 6), ID),
        role=replace(role, progress={**role.progress, "s2": s2}),
    )


def loaded(offset: int = 0, data: bytes | None = b"12345", name: str = ID) -> ChunkLoaded:
    return ChunkLoaded("s2", name, offset, data)


def asked(received: int = 0, offset: int = 0, match: int = 0, name: str = ID) -> bench.ms.InstallSnapshotReply:
    return piece_reply("s2", 2, offset, received, match, name=name)


def of_s2(state: PeerState) -> Progress:
    return leading(state).progress["s2"]


def reads(effects: tuple[Effect, ...]) -> list[int]:
    """Where the pieces begin that are read for ``s2``."""
    return [one.offset for one in of_type(effects, LoadChunk) if one.reader == "s2"]


REFUSED = nack("s2", 2, 6, NOWHERE)
"""The follower's log is empty."""


def sending(settings: Settings | None = None) -> PeerState:
    """The first piece is under way."""
    return take_all(leader(settings), REFUSED, loaded())


# -- beginning ---------------------------------------------------------------------------------------------------------


def test_a_probe_that_falls_behind_the_log_turns_into_a_snapshot() -> None:
    state, effects = take(leader(), REFUSED)
    assert only(effects, LoadChunk) == LoadChunk("s2", ID, 0, CHUNK_BYTES)
    assert of_s2(state).state is SNAPSHOT


def test_a_follower_just_within_the_log_gets_entries() -> None:
    state, effects = take(leader(), nack("s2", 2, 8, LogPosition(1, 6)))
    assert reads(effects) == []
    state, effects = take(leader(next_index=8), nack("s2", 2, 7, LogPosition(1, 6)))
    assert [one.index for one in only(effects, AppendEntries).entries] == [7, 8]
    assert of_s2(state).state is PROBE


def test_a_follower_whose_next_entry_was_cut_off_gets_a_snapshot_with_the_next_write() -> None:
    state, effects = take(leader(next_index=4, match_index=3, state=REPLICATE), write())
    assert reads(effects) == [0]
    assert of_s2(state).state is SNAPSHOT


def test_a_heartbeat_to_a_follower_that_needs_a_snapshot_stands_at_the_beginning_of_the_log() -> None:
    state, effects = take(leader(next_index=4), Tick(), at(NOW + 0.05))
    heartbeat = sent(effects, AppendEntries, to="s2")[0]
    assert (heartbeat.previous, heartbeat.entries) == (LogPosition(1, 6), ())
    assert reads(take(state, replace(REFUSED, previous=6)).effects) == [0]


# -- pieces ------------------------------------------------------------------------------------------------------------


def test_a_piece_says_which_snapshot_it_is_of_and_where_it_belongs() -> None:
    state = take(leader(), REFUSED).state
    message = only(take(state, loaded()).effects, InstallSnapshot)
    assert (message.id, message.last, message.size) == (ID, LogPosition(1, 6), 10)
    assert (message.offset, message.data, message.term) == (0, b"12345", 2)
    assert message.receiver == bench.store("s2")


def test_one_piece_is_under_way_at_a_time() -> None:
    state, effects = take(sending(), asked(5))
    assert reads(effects) == [5]
    state, effects = take(state, loaded(5, b"67890"))
    assert only(effects, InstallSnapshot).offset == 5
    for event in (write(), ack("s2", 2, 0), Tick()):
        state, effects = take(state, event)
        assert reads(effects) == []


def test_a_late_or_doubled_answer_starts_nothing() -> None:
    state = take(sending(), asked(5)).state
    assert take(state, asked(5)).effects == ()
    state = take_all(state, loaded(5, b"6"), asked(6, 5))
    assert take(state, asked(5)).effects == ()
    assert take(state, asked(6, 5)).effects == ()
    assert take(state, asked(6, 6)).effects == ()


@pytest.mark.parametrize("received", [-1, 10, 99])
def test_an_answer_outside_of_the_snapshot_starts_nothing(received: int) -> None:
    assert take(sending(), asked(received)).effects == ()


def test_an_answer_about_another_snapshot_starts_nothing() -> None:
    assert take(sending(), asked(5, name="other")).effects == ()
    assert reads(take(leader(), asked(5)).effects) == []


def test_an_answer_of_nobody_we_lead_or_to_nobody_who_leads_starts_nothing() -> None:
    assert take(sending(), piece_reply("s9", 2, 0, 5, name=ID)).effects == ()
    assert take(bench.following(term=2), asked(5)).effects == ()


def test_a_lost_piece_is_read_and_sent_again() -> None:
    state, effects = take(sending(), Tick(), at(NOW + 0.05))
    assert reads(effects) == []
    state, effects = take(state, Tick(), at(NOW + 0.2))
    assert reads(effects) == [0]
    state, effects = take(state, Tick(), at(NOW + 0.25))
    assert reads(effects) == [], "the disk is slow, and has been asked"
    state, effects = take(state, loaded(), at(NOW + 0.26))
    assert only(effects, InstallSnapshot).offset == 0
    assert reads(take(state, Tick(), at(NOW + 0.3)).effects) == []


def test_nothing_is_repeated_to_a_follower_that_is_not_heard() -> None:
    state = sending(Settings(check_quorum=False))
    state, effects = take(bench.awake(state, NOW + 0.65), Tick(), at(NOW + 0.7))
    assert reads(effects) == []
    assert sent(effects, AppendEntries, to="s2"), "but it is asked"
    state = take(state, ack("s2", 2, 0), at(NOW + 0.8)).state
    assert reads(take(state, Tick(), at(NOW + 0.85)).effects) == [0]


def test_a_follower_that_has_a_part_goes_on_with_it() -> None:
    """What a leader knows dies with its leadership; the follower tells where it is."""
    state, effects = take(sending(), asked(7))
    assert reads(effects) == [7]
    assert only(take(state, loaded(7, b"890")).effects, InstallSnapshot).offset == 7


def test_a_follower_that_lost_its_part_begins_anew() -> None:
    state = take_all(sending(), asked(5), loaded(5, b"67890"))
    assert reads(take(state, asked(0, 5)).effects) == [0]


def test_a_piece_that_was_read_too_late_is_dropped() -> None:
    state = take(sending(), asked(5)).state
    for late in (loaded(0), loaded(5, name="other"), ChunkLoaded("s9", ID, 5, b"x")):
        assert take(state, late) == (state, ())
    assert take(leader(), loaded()).effects == ()
    assert take(bench.following(), loaded()).effects == ()


def test_if_the_file_is_gone_the_newest_snapshot_is_sent() -> None:
    state = take(sending(), asked(5)).state
    state = replace(state, snapshot=snapshot(LogPosition(2, 7), "s1-7"))
    state, effects = take(state, loaded(5, None))
    assert only(effects, LoadChunk) == LoadChunk("s2", "s1-7", 0, CHUNK_BYTES)
    state, effects = take(state, loaded(0, name="s1-7"))
    assert only(effects, InstallSnapshot).last == LogPosition(2, 7)


def test_in_the_place_of_an_older_snapshot_that_cannot_be_read_none_is_taken() -> None:
    """There is a newer one already."""
    state = replace(take(sending(), asked(5)).state, snapshot=snapshot(LogPosition(2, 7), "s1-7"))
    assert take(state, loaded(5, None)).state.snapshot_wanted == 0


def test_what_a_follower_says_while_it_is_sent_a_snapshot_is_remembered() -> None:
    """Its log may hold more than we knew, and less than the snapshot."""
    state = take(sending(), ack("s2", 2, 2)).state
    progress = replace(of_s2(state), next_index=3)
    role = leading(state)
    state = replace(state, role=replace(role, progress={**role.progress, "s2": progress}))
    after = of_s2(take(state, ack("s2", 2, 3)).state)
    assert (after.state, after.match_index, after.next_index) == (SNAPSHOT, 3, 4)
    assert of_s2(take(state, ack("s2", 2, 1)).state).next_index == 3, "nothing goes back"


def test_in_the_place_of_a_newest_snapshot_that_cannot_be_read_another_is_taken() -> None:
    before = take(leader(), REFUSED).state
    state, effects = take(before, loaded(0, None))
    assert only(effects, Capture).last.index == state.handed > state.snapshot_index
    assert reads(take(state, Tick(), at(NOW + 0.2)).effects) == [0]  # it may have been a passing error
    assert take(before, loaded(0)).state.capturing is None


def test_if_nothing_was_applied_since_another_is_taken_later() -> None:
    before = take(leader(), REFUSED).state
    assert before.snapshot is not None
    before = replace(before, snapshot=snapshot(LogPosition(2, before.handed), before.snapshot.id))
    state, effects = take(before, loaded(0, None))
    assert effects == ()
    assert state.snapshot_wanted == state.snapshot_index + 1


# -- the end -----------------------------------------------------------------------------------------------------------


def test_once_it_is_installed_the_follower_gets_entries() -> None:
    state, effects = take(sending(), asked(10, match=6))
    assert [one.index for one in only(effects, AppendEntries).entries] == [7, 8]
    assert (of_s2(state).state, of_s2(state).match_index, of_s2(state).sending) == (REPLICATE, 6, None)


def test_a_snapshot_that_the_follower_does_not_need_ends_at_once() -> None:
    """It may have got the entries from an earlier leader."""
    state, effects = take(sending(), ack("s2", 2, 6))
    assert [one.index for one in only(effects, AppendEntries).entries] == [7, 8]
    assert of_s2(state).sending is None


def test_a_match_below_the_snapshot_does_not_end_it() -> None:
    state, effects = take(sending(), ack("s2", 2, 4))
    assert effects == ()
    assert (of_s2(state).state, of_s2(state).match_index) == (SNAPSHOT, 4)
    state, effects = take(state, asked(5, match=5))
    assert reads(effects) == [5]
    assert of_s2(state).match_index == 5


def test_a_refusal_does_not_end_a_snapshot() -> None:
    state, effects = take(sending(), nack("s2", 2, 6, NOWHERE))
    assert effects == ()
    assert of_s2(state).state is SNAPSHOT


def test_what_a_follower_has_installed_counts_for_the_commit() -> None:
    state = bench.leader(terms=(1, 2, 2), match={"s2": 0, "s3": 0}, commit=1)
    state = replace(state, snapshot=snapshot(LogPosition(2, 3), ID))
    assert take(state, asked(10, match=3)).state.commit_index == 3


def test_a_follower_that_claims_more_than_our_log_is_a_violation() -> None:
    with pytest.raises(Violation, match="claims to match up to 9"):
        take(sending(), asked(10, match=9))


def test_what_is_known_of_a_follower_that_died_is_forgotten() -> None:
    state = take(sending(), PeerDown("s2")).state
    assert (of_s2(state).state, of_s2(state).sending, of_s2(state).next_index) == (PROBE, None, 1)
    assert take(state, loaded()).effects == ()
    assert reads(take(state, REFUSED).effects) == [0]


def test_a_snapshot_does_not_hold_up_the_others() -> None:
    state, effects = take(sending(), write())
    assert [one.index for one in sent(effects, AppendEntries, to="s3")[0].entries] == [9]
    assert sent(effects, AppendEntries, to="s2") == []
    state = bench.synced(state).state
    assert take(state, ack("s3", 2, 9)).state.commit_index == 9


def test_leadership_is_not_handed_to_one_that_is_sent_a_snapshot() -> None:
    state = take(sending(), ack("s2", 2, 8, wants=6)).state
    assert (of_s2(state).match_index, of_s2(state).state) == (8, SNAPSHOT)
    transfer = leading(take(state, StopRequested(5.0)).state).transfer
    assert transfer is not None
    assert transfer.target == "s3"


# -- followers that lost their state -----------------------------------------------------------------------------------


def test_a_follower_that_lost_its_state_gets_a_snapshot_though_its_log_matches() -> None:
    state, effects = take(leader(), ack("s2", 2, 8, wants=6))
    assert reads(effects) == [0]
    state = take(state, loaded()).state
    state, effects = take(state, asked(5))
    assert reads(effects) == [5]
    state, effects = take(state, ack("s2", 2, 8, wants=6))
    assert reads(effects) == [], "it is under way"
    state = take(state, loaded(5, b"67890")).state
    state, effects = take(state, asked(10, 5, 6))
    assert (of_s2(state).state, of_s2(state).sending) == (REPLICATE, None)
    assert of_s2(state).match_index == 8


def test_a_leader_takes_a_newer_snapshot_if_its_own_is_too_old_for_such_a_follower() -> None:
    state, effects = take(leader(), ack("s2", 2, 8, wants=7))
    assert reads(effects) == []
    assert only(effects, Capture).last == LogPosition(2, 8)
    state = take(state, SnapshotWritten(snapshot(LogPosition(2, 8), "s1-8"))).state
    assert only(take(state, ack("s2", 2, 8, wants=7)).effects, LoadChunk).id == "s1-8"


def test_a_leader_without_a_snapshot_takes_one_for_such_a_follower() -> None:
    state, effects = take(bench.leader(), ack("s2", 2, 2, wants=1))
    assert only(effects, Capture).last == LogPosition(2, 2)
    assert of_type(take(state, ack("s2", 2, 2, wants=1)).effects, Capture) == []
    state = take(state, SnapshotFailed()).state
    assert of_type(take(state, ack("s2", 2, 2, wants=1)).effects, Capture) == [], "not again and again"
