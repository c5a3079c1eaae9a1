"""Section 7 of the Raft paper (log compaction) and Figure 13, sentence by sentence. A docstring paraphrases it."""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.protocol.effects import Adopt, Capture, Compact, LoadChunk, Persist, Restore, StoreChunk
from raft_actors.protocol.events import (
    ChunkLoaded,
    ChunkStored,
    Persisted,
    SnapshotLoaded,
    SnapshotRequested,
    WritesRequested,
)
from raft_actors.protocol.messages import AppendEntriesReply, InstallSnapshot, InstallSnapshotReply
from raft_actors.protocol.types import NOWHERE, LogPosition
from tests.behaviours import bench
from tests.behaviours.bench import append, nack, of_type, only, persist_then_send, piece, snapshot, take, take_all
from tests.behaviours.test_installing import (
    FIRST_PIECE,
    HALF,
    LAST,
    SECOND_PIECE,
    WHOLE,
    complete,
    follower,
    installed,
    receiving,
)
from tests.behaviours.test_sending import ID, REFUSED, asked, leader, loaded, reads, sending
from tests.behaviours.test_snapshots import commit, written
from tests.behaviours.test_snapshots import follower as applying

# -- §7: taking --------------------------------------------------------------------------------------------------------


def test_7_the_log_up_to_the_snapshot_is_discarded_once_the_state_is_on_stable_storage() -> None:
    """§7: the current system state is written to a snapshot on stable storage, then the log up to it is discarded."""
    state, effects = commit(applying(), 4)
    assert only(effects, Capture).last.index == 4
    assert state.log.first == 1
    state, effects = take(state, written(4))
    assert only(effects, Compact).snapshot.last.index == 4
    assert state.log.first == 5


def test_7_each_server_takes_snapshots_by_itself_of_committed_entries_only() -> None:
    """§7: each server takes snapshots independently, covering just the committed entries in its log."""
    for state in (applying(commit=3), bench.leader(terms=(1,) * 6, commit=3)):
        assert only(take(state, SnapshotRequested(7)).effects, Capture).last.index == 3


def test_7_a_snapshot_names_the_index_and_term_of_the_last_entry_it_replaces() -> None:
    """§7: last included index and last included term are kept."""
    state = bench.following(terms=(1, 1, 3, 4), commit=3)
    assert only(take(state, SnapshotRequested(7)).effects, Capture).last == LogPosition(3, 3)


def test_7_the_first_entry_after_a_snapshot_passes_the_consistency_check() -> None:
    """§7: they are kept for the AppendEntries check of the first entry after the snapshot, which needs both."""
    state = take(commit(applying(), 6)[0], written(6)).state
    assert only(take(state, append("s2", 1, LogPosition(1, 6))).effects, AppendEntriesReply).success
    assert not only(take(state, append("s2", 1, LogPosition(2, 6))).effects, AppendEntriesReply).success


def test_7_a_snapshot_includes_the_latest_configuration_as_of_its_last_entry() -> None:
    """§7: the snapshot also includes the latest configuration in the log as of last included index."""
    assert only(commit(applying(), 4)[1], Capture).configuration == bench.THREE


def test_7_a_new_snapshot_takes_the_place_of_an_older_one() -> None:
    """§7: once a snapshot is written, the server may delete any prior one."""
    state = take(commit(applying(12), 4)[0], written(4)).state
    state = take(commit(state, 8)[0], written(8)).state
    assert state.snapshot is not None
    assert state.snapshot.id == "s1-8"


def test_7_a_snapshot_is_taken_when_the_log_reaches_a_fixed_size() -> None:
    """§7: a simple strategy is to take a snapshot when the log reaches a fixed size."""
    state, effects = commit(applying(), 3)
    assert of_type(effects, Capture) == []
    assert of_type(commit(state, 4)[1], Capture)


def test_7_while_a_snapshot_is_written_the_peer_goes_on() -> None:
    """§7: writing must not delay normal operations; new updates are accepted meanwhile."""
    state = bench.leader(terms=(1, 2), capturing=LogPosition(2, 2))
    assert only(take(state, WritesRequested(7, (b"x",))).effects, Persist).entries


# -- §7: installing ----------------------------------------------------------------------------------------------------


def test_7_a_leader_sends_a_snapshot_when_it_has_discarded_the_next_entry_it_needs_to_send() -> None:
    """§7: the leader must send snapshots to followers that lag behind what it has discarded."""
    assert only(take(leader(), REFUSED).effects, LoadChunk).id == ID
    assert reads(take(leader(), nack("s2", 2, 8, LogPosition(1, 6))).effects) == []


def test_7_a_follower_discards_its_entire_log_for_a_snapshot_with_new_information() -> None:
    """§7: a snapshot that is ahead of the log supersedes all of it, uncommitted conflicting entries too."""
    for terms in ((1, 1, 1), (1,) * 9):
        state = installed(follower(terms))[0]
        assert (state.log.previous, state.log.last) == (LAST, LAST)


def test_7_entries_that_follow_a_snapshot_of_a_prefix_are_retained() -> None:
    """§7: for a prefix of its log, entries covered are deleted but those after it are still valid and retained."""
    state = installed(follower((1, 1, 1, 1, 1, 2, 2)))[0]
    assert (state.log.previous, state.log.last) == (LAST, LogPosition(2, 7))


def test_7_a_follower_that_installs_a_snapshot_does_not_go_back() -> None:
    """§7 with §5.3: a retransmitted snapshot never takes back what was applied."""
    state = bench.following("s2", terms=(1, 1, 1, 1), commit=4)
    after, effects = take(state, piece("s2", 1, LogPosition(1, 3)))
    assert after.log == state.log
    assert only(effects, InstallSnapshotReply).match_index == 3


# -- Figure 13 ---------------------------------------------------------------------------------------------------------


def test_13_the_leader_sends_chunks_in_order() -> None:
    """Figure 13: invoked by the leader to send chunks of a snapshot; leaders always send chunks in order."""
    state, effects = take(sending(), asked(5))
    assert reads(effects) == [5]
    assert only(take(state, loaded(5)).effects, InstallSnapshot).offset == 5


def test_13_a_chunk_carries_term_leader_position_and_offset() -> None:
    """Figure 13: arguments term, leaderId, lastIncludedIndex, lastIncludedTerm, offset, data, done."""
    message = only(
        take(take(leader(), REFUSED).state, ChunkLoaded("s2", ID, 0, b"1234567890")).effects, InstallSnapshot
    )
    assert (message.term, message.sender, message.last) == (2, "s1", LogPosition(1, 6))
    assert (message.offset, message.data) == (0, b"1234567890")
    assert message.offset + len(message.data) == message.size, "this one is done"


def test_13_1_an_older_term_is_answered_at_once() -> None:
    """Figure 13, rule 1: reply immediately if term < currentTerm; the reply's term lets the leader step down."""
    state, effects = take(follower(), piece("s3", 1, LAST))
    assert only(effects, InstallSnapshotReply).term == 2
    assert of_type(effects, StoreChunk) == []
    reply = bench.piece_reply("s2", 3, 0, 0, name=ID)
    assert isinstance(take(sending(), reply).state.role, bench.Follower)
    assert state.leader == "s2"


def test_13_2_the_first_chunk_begins_a_new_file() -> None:
    """Figure 13, rule 2: create a new snapshot file if it is the first chunk (offset is 0)."""
    assert only(take(follower(), FIRST_PIECE).effects, StoreChunk).offset == 0
    assert of_type(take(follower(), SECOND_PIECE).effects, StoreChunk) == []


def test_13_3_data_is_written_at_its_offset() -> None:
    """Figure 13, rule 3: write data into the snapshot file at the given offset."""
    stored = only(take(take_all(follower(), FIRST_PIECE, HALF), SECOND_PIECE).effects, StoreChunk)
    assert (stored.offset, stored.data) == (5, b"67890")


def test_13_4_a_chunk_that_is_not_the_last_is_answered_and_more_are_awaited() -> None:
    """Figure 13, rule 4: reply and wait for more data chunks if done is false."""
    state, effects = take(take(follower(), FIRST_PIECE).state, HALF)
    assert only(effects, InstallSnapshotReply).received == 5
    assert state.log == follower().log
    assert of_type(effects, Persist) == []


def test_13_5_the_file_is_saved_and_a_partial_one_with_a_smaller_index_is_discarded() -> None:
    """Figure 13, rule 5: save the snapshot file, discard any existing or partial snapshot with a smaller index."""
    assert persist_then_send(installed()[1], InstallSnapshotReply).match_index == 6
    state = take_all(follower(), FIRST_PIECE, HALF)
    newer = snapshot(LogPosition(2, 9))
    state, effects = take(state, piece("s2", 2, newer.last))
    assert only(effects, StoreChunk).id == newer.id
    assert take(state, ChunkStored(WHOLE.id, 10, WHOLE, bench.CLUSTER)).state.receiving == state.receiving


def test_13_6_an_entry_like_the_last_one_keeps_what_follows_it() -> None:
    """Figure 13, rule 6: if an entry has the same index and term as the last included one, retain what follows."""
    before = follower((1, 1, 1, 1, 1, 2, 2))
    assert installed(before)[0].log.tail == before.log.tail[6:]


def test_13_7_otherwise_the_entire_log_is_discarded() -> None:
    """Figure 13, rule 7: discard the entire log."""
    assert installed(follower((1,) * 8))[0].log.tail == ()


def test_13_8_the_machine_is_reset_to_the_snapshot_and_its_configuration_is_loaded() -> None:
    """Figure 13, rule 8: reset the state machine using the contents, and load the snapshot's configuration."""
    four = bench.configuration("s1", "s2", "s3", "s4")
    state, effects = take(receiving(), complete(replace(WHOLE, configuration=four)))
    assert state.configuration == four
    whole = only(effects, Restore).snapshot
    state = take(state, Persisted(state.ballot, LAST)).state
    assert only(take(state, SnapshotLoaded(WHOLE.id)).effects, Adopt).snapshot == whole


def test_13_a_fresh_server_is_brought_up_by_a_snapshot_of_everything() -> None:
    """§7: a follower that is exceptionally slow, or a new one, gets a snapshot over the network."""
    state = bench.unconfigured()
    assert (state.log.last, state.configuration) == (NOWHERE, bench.configuration())
    state = take_all(state, FIRST_PIECE, HALF, SECOND_PIECE, complete())
    assert (state.log.last, state.configuration) == (LAST, bench.THREE)
