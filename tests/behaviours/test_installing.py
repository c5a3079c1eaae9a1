"""How a follower takes a snapshot from its leader, and never loses or claims anything by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from raft_actors.behaviours.deadlines import next_deadline
from raft_actors.protocol.configuration import encode
from raft_actors.protocol.effects import (
    Adopt,
    Apply,
    Discard,
    DropChunks,
    Effect,
    Persist,
    Reject,
    Restore,
    ServeReads,
    StoreChunk,
)
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.events import (
    Applied,
    ChunkStored,
    EntriesLoaded,
    PeerDown,
    Persisted,
    ReadsRequested,
    SnapshotLoaded,
    Tick,
)
from raft_actors.protocol.messages import AppendEntriesReply, InstallSnapshotReply
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.protocol.state import NEVER, Follower, PeerState, PreCandidate
from raft_actors.protocol.types import Ballot, LogPosition
from tests.behaviours import bench
from tests.behaviours.bench import (
    NOW,
    append,
    at,
    entries,
    of_type,
    only,
    persist_then_send,
    piece,
    snapshot,
    take,
    take_all,
)

LAST = LogPosition(2, 6)
WHOLE = snapshot(LAST)
FIRST_PIECE, SECOND_PIECE = piece("s2", 2, LAST), piece("s2", 2, LAST, 5, b"67890")
HALF = ChunkStored(WHOLE.id, 5)


def complete(whole: Snapshot = WHOLE, **more: Any) -> ChunkStored:
    return ChunkStored(**{"id": whole.id, "received": 10, "snapshot": whole, "cluster": bench.CLUSTER, **more})


def follower(terms: Sequence[int] = (1, 1, 1), commit: int = 2, **more: Any) -> PeerState:
    return bench.following("s2", terms=terms, term=2, commit=commit, **more)


def receiving(state: PeerState | None = None, moment: Any = None) -> PeerState:
    """The last of two pieces is being stored."""
    return take_all(state or follower(), FIRST_PIECE, HALF, SECOND_PIECE, moment=moment)


def installed(state: PeerState | None = None) -> tuple[PeerState, tuple[Effect, ...]]:
    return take(receiving(state), complete())


def reply(effects: tuple[Effect, ...]) -> tuple[int, int, int]:
    """The offset that is answered, what was received, and the match."""
    one = only(effects, InstallSnapshotReply)
    return one.offset, one.received, one.match_index


# -- pieces ------------------------------------------------------------------------------------------------------------


def test_a_piece_is_acknowledged_when_it_is_stored() -> None:
    state, effects = take(follower(), FIRST_PIECE)
    assert effects == (StoreChunk(WHOLE.id, 0, 10, b"12345"),)
    state, effects = take(state, HALF)
    assert reply(effects) == (0, 5, 0)
    assert take(state, SECOND_PIECE).effects == (StoreChunk(WHOLE.id, 5, 10, b"67890"),)


def test_a_piece_out_of_order_is_answered_with_what_is_here() -> None:
    state, effects = take(follower(), SECOND_PIECE)
    assert reply(effects) == (5, 0, 0)
    state = take_all(state, FIRST_PIECE, HALF)
    assert reply(take(state, FIRST_PIECE).effects) == (0, 5, 0)
    assert of_type(take(state, FIRST_PIECE).effects, StoreChunk) == []


def test_a_doubled_piece_is_not_stored_twice() -> None:
    state = take(follower(), FIRST_PIECE).state
    assert take(state, FIRST_PIECE).effects == ()
    assert take(state, SECOND_PIECE).effects == ()


@pytest.mark.parametrize(("offset", "data"), [(-1, b"12"), (3, b""), (8, b"123"), (99, b"1")])
def test_a_piece_outside_of_its_snapshot_is_refused(offset: int, data: bytes) -> None:
    assert only(take(follower(), piece("s2", 2, LAST, offset, data)).effects, Discard).sender == "s2"


def test_two_snapshots_are_never_mixed() -> None:
    """Also not two of the same position: their bytes may differ."""
    state = take_all(follower(), FIRST_PIECE, HALF)
    other = piece("s2", 2, LAST, 5, b"67890", name="other-6")
    state, effects = take(state, other)
    assert of_type(effects, StoreChunk) == []
    assert reply(effects) == (5, 0, 0)
    assert only(take(state, replace(other, offset=0)).effects, StoreChunk).id == "other-6"
    assert take(state, HALF).effects == (), "what is stored late of the first one is forgotten"


def test_every_piece_restarts_the_timeout() -> None:
    state = take(follower(), FIRST_PIECE, at(NOW + 0.3)).state
    assert next_deadline(state) == NOW + 0.3 + 0.45
    assert take(state, FIRST_PIECE, at(NOW + 0.4)).state.heard_at == NOW + 0.4


def test_a_new_term_ends_a_snapshot() -> None:
    state, effects = take(receiving(), bench.request_vote("s3", 3, LogPosition(2, 9), transfer=True))
    assert only(effects, DropChunks) == DropChunks()
    assert state.receiving is None
    assert take(state, complete()).effects == ()


def test_a_new_leader_ends_a_snapshot() -> None:
    state, effects = take(receiving(), append("s3", 3, LogPosition(1, 3)))
    assert only(effects, DropChunks) == DropChunks()
    assert take(state, complete()).effects == ()
    state, effects = take(receiving(), piece("s3", 3, LogPosition(3, 7)))
    assert [type(one) for one in effects if not isinstance(one, Persist)] == [DropChunks, StoreChunk]


def test_a_leader_that_was_lost_and_is_back_begins_anew() -> None:
    state = take(receiving(), PeerDown("s2")).state
    assert take(state, complete()).effects == ()
    state, effects = take(state, FIRST_PIECE)
    assert [type(one) for one in effects] == [DropChunks, StoreChunk]


def test_a_piece_of_an_older_term_teaches_its_sender_the_newer_one() -> None:
    state, effects = take(follower(), piece("s3", 1, LAST))
    assert only(effects, InstallSnapshotReply).term == 2
    assert reply(effects) == (0, 0, 0)
    assert state.receiving is None


@pytest.mark.parametrize(
    "event",
    [
        ChunkStored(WHOLE.id, -1),
        complete(cluster="another"),
        complete(snapshot=replace(WHOLE, id="another")),
        complete(snapshot=replace(WHOLE, last=LogPosition(1, 2))),
    ],
    ids=["damaged", "of another cluster", "of another id", "of no use"],
)
def test_a_file_that_is_not_what_it_should_be_is_given_up(event: ChunkStored) -> None:
    """Nothing is acknowledged (BUG-48), and the next piece begins anew."""
    state, effects = take(receiving(), event)
    assert effects == (DropChunks(),)
    assert state.log == follower().log
    assert only(take(state, FIRST_PIECE).effects, StoreChunk).offset == 0


# -- snapshots that are not needed -------------------------------------------------------------------------------------


def test_a_snapshot_that_is_not_ahead_of_what_is_committed_is_refused() -> None:
    """BUG-43, BUG-45: newer entries that were acknowledged are never lost by an older snapshot."""
    state = follower((1, 1, 1, 1), commit=3)
    for last in (LogPosition(1, 2), LogPosition(1, 3)):
        after, effects = take(state, piece("s2", 2, last))
        assert of_type(effects, StoreChunk) == []
        assert (after.log, after.receiving) == (state.log, None)
        assert reply(effects) == (0, 0, last.index)


def test_a_doubled_snapshot_is_not_installed_twice() -> None:
    """BUG-49."""
    state = bench.synced(installed()[0]).state
    for message in (FIRST_PIECE, SECOND_PIECE):
        after, effects = take(state, message)
        assert reply(effects)[1:] == (message.offset, 6)
        assert after.restoring == state.restoring
    assert take(state, complete()).effects == ()


def test_only_what_is_durable_is_acknowledged() -> None:
    """BUG-48."""
    state = follower((1, 1, 1, 1), commit=0, durable=2)
    state = take(state, append("s2", 2, LogPosition(1, 4), commit=4)).state
    assert reply(take(state, piece("s2", 2, LogPosition(1, 4))).effects) == (0, 0, 2)
    assert reply(take(installed()[0], FIRST_PIECE).effects)[2] < 6, "its disk does not have it yet"
    state = follower((1, 1, 1, 1), commit=4, term_unsynced=True)
    assert reply(take(state, piece("s2", 2, LogPosition(1, 4))).effects) == (0, 0, 0)


# -- installing --------------------------------------------------------------------------------------------------------


def test_the_snapshot_takes_the_place_of_a_log_that_does_not_reach_it() -> None:
    state, effects = installed()
    assert (state.log.previous, state.log.last, state.log.runs, state.log.tail) == (LAST, LAST, (), ())
    assert (state.commit_index, state.snapshot, state.time) == (6, WHOLE, 6.0)
    assert only(effects, Persist).snapshot == WHOLE


def test_the_snapshot_takes_the_place_of_a_log_that_differs_from_it() -> None:
    """BUG-44: nothing of what it replaced is used later."""
    state, _ = installed(follower((1,) * 9))
    assert (state.log.last, state.log.tail) == (LAST, ())
    assert only(take(state, append("s2", 2, LogPosition(2, 8))).effects, AppendEntriesReply).hint == LAST


def test_what_follows_the_snapshot_stays_if_the_log_holds_its_last_entry() -> None:
    """BUG-51, and Figure 13, rule 6."""
    before = follower((1, 1, 1, 1, 1, 2, 2, 2))
    state, effects = installed(before)
    assert (state.log.previous, state.log.last) == (LAST, LogPosition(2, 8))
    assert state.log.tail == before.log.tail[6:]
    assert state.commit_index == 6
    assert only(effects, Persist).snapshot == WHOLE


def test_replicated_time_does_not_go_back_behind_what_follows_the_snapshot() -> None:
    state, _ = installed(replace(follower((1, 1, 1, 1, 1, 2, 2, 2)), time=8.0))
    assert state.time == 8.0
    state, _ = installed(replace(follower((1,) * 9), time=9.0))
    assert state.time == 6.0, "what it replaced was never committed"


def test_what_was_handed_to_the_machine_before_a_snapshot_counts_for_the_next_one_no_more() -> None:
    state, _ = installed(replace(follower(), unsaved_bytes=1000))
    assert state.unsaved_bytes == 0


def test_a_snapshot_is_acknowledged_when_the_store_has_it() -> None:
    _, effects = installed()
    message = persist_then_send(effects, InstallSnapshotReply)
    assert (message.offset, message.received, message.match_index) == (5, 10, 6)


def test_the_machine_gets_nothing_until_the_snapshot_is_recorded_and_loaded() -> None:
    """BUG-03, BUG-46, BUG-47."""
    state, effects = installed()
    assert only(effects, Restore).snapshot == WHOLE
    for events in ((Persisted(state.ballot, LAST), SnapshotLoaded(WHOLE.id)), (SnapshotLoaded(WHOLE.id),)):
        waiting = state
        for event in events[:-1]:
            waiting, effects = take(waiting, event)
            assert of_type(effects, Adopt) == []
            assert (waiting.handed, waiting.last_applied) == (2, 2)
        after, effects = take(waiting, events[-1])
        assert of_type(effects, Adopt) == ([Adopt(WHOLE)] if len(events) == 2 else [])
    after, effects = take(after, Persisted(state.ballot, LAST))
    assert only(effects, Adopt).snapshot == WHOLE
    assert (after.handed, after.last_applied, after.restoring) == (6, 2, None)
    assert take(after, Applied(6)).state.last_applied == 6


def test_what_the_disk_had_of_a_log_that_a_snapshot_replaced_does_not_stand_for_the_snapshot() -> None:
    """BUG-03: the store does not know it yet."""
    state, _ = installed(follower((1,) * 9))
    assert state.log.durable == 2
    state, effects = take(state, SnapshotLoaded(WHOLE.id))
    assert of_type(effects, Adopt) == []
    assert only(take(state, Persisted(state.ballot, LAST)).effects, Adopt).snapshot == WHOLE


def test_entries_after_the_snapshot_are_applied_after_it() -> None:
    """BUG-46: applying and installing never interleave."""
    state = installed()[0]
    state, effects = take(state, append("s2", 2, LAST, entries(7, 2, 2), commit=8))
    state, more = bench.synced(state)
    assert of_type((*effects, *more), Apply) == []
    effects = take(state, SnapshotLoaded(WHOLE.id)).effects
    assert [type(one) for one in effects if isinstance(one, Adopt | Apply)] == [Adopt, Apply]
    assert [one.index for one in only(effects, Apply).entries] == [7, 8]


def test_old_entries_that_the_store_brings_late_are_not_applied() -> None:
    """The machine was behind and waited for them; the snapshot has what came of them (BUG-46)."""
    for terms in ((1, 1, 1), (1, 1, 1, 1, 1, 2, 2)):
        state = installed(replace(follower(terms, commit=3), handed=1, last_applied=1, loading=True))[0]
        late = EntriesLoaded("", 2, entries(2, 1, 1))
        assert take(state, late).effects == ()
        state = take_all(state, SnapshotLoaded(WHOLE.id), Persisted(state.ballot, LAST))
        assert state.handed == 6
        assert take(state, late).state.handed == 6


def test_a_state_that_was_loaded_for_another_snapshot_is_forgotten() -> None:
    state = installed()[0]
    assert take(state, SnapshotLoaded("another")) == (state, ())
    assert take(follower(), SnapshotLoaded(WHOLE.id)).effects == ()


def test_a_newer_snapshot_takes_the_place_of_one_that_is_being_loaded() -> None:
    """BUG-49."""
    newer = snapshot(LogPosition(2, 9))
    state = take(installed()[0], piece("s2", 2, newer.last, data=b"1234567890")).state
    state, effects = take(state, complete(newer))
    assert only(effects, Restore).snapshot == newer
    state = take_all(state, SnapshotLoaded(WHOLE.id), Persisted(state.ballot, newer.last))
    assert only(take(state, SnapshotLoaded(newer.id)).effects, Adopt).snapshot == newer


def test_reads_wait_for_the_new_state() -> None:
    state = replace(installed()[0], confirmed_reads=((6, 7),))
    state, effects = bench.synced(state)
    assert of_type(effects, ServeReads) == []
    effects = take(state, SnapshotLoaded(WHOLE.id)).effects
    assert [type(one) for one in effects] == [Adopt, ServeReads]


def test_a_batch_from_before_the_snapshot_confirms_nothing_of_it() -> None:
    """BUG-35."""
    state = take(installed()[0], Persisted(Ballot(2), LogPosition(1, 3))).state
    assert state.log.durable < 6
    assert take(state, Persisted(Ballot(2), LAST)).state.log.durable == 6


# -- the configuration -------------------------------------------------------------------------------------------------

FOUR = bench.configuration("s1", "s2", "s3", "s4")


def test_the_configuration_of_the_snapshot_counts_from_then_on() -> None:
    """BUG-54, BUG-58."""
    whole = replace(WHOLE, configuration_index=5, configuration=FOUR)
    state = take(receiving(), complete(whole)).state
    assert state.configurations == ((5, FOUR),)
    assert state.configuration == FOUR


def test_a_configuration_after_the_snapshot_stays() -> None:
    change = Entry(7, 2, EntryKind.CONFIGURATION, 0.0, encode(FOUR))
    state = follower((1, 1, 1, 1, 1, 2))
    state = take(state, append("s2", 2, state.log.last, (change,))).state
    assert installed(state)[0].configurations == ((1, bench.THREE), (7, FOUR))


def test_a_peer_of_no_cluster_joins_by_a_snapshot() -> None:
    """A fresh peer that gets a snapshot first: the store learns of cluster and term before anything is said."""
    state, effects = take(bench.unconfigured(), FIRST_PIECE)
    first = only(effects, Persist)
    assert (first.cluster, first.ballot) == (bench.CLUSTER, Ballot(2))
    state, effects = take(take_all(state, HALF, SECOND_PIECE), complete())
    assert state.configuration == bench.THREE
    assert persist_then_send(effects, InstallSnapshotReply).match_index == 6


def test_whom_a_snapshot_makes_a_voter_stands_if_its_leader_dies_right_after_it() -> None:
    state = take(receiving(bench.unconfigured()), complete()).state
    assert next_deadline(state) == NOW + 0.45
    assert isinstance(take(state, Tick(), at(NOW + 0.45)).state.role, PreCandidate)


def test_a_newcomer_without_a_configuration_forgets_a_silent_leader_and_stands_for_nothing() -> None:
    """It may not be added any more: whoever reads there must not wait for ever for what is not coming."""
    asked = take(receiving(bench.unconfigured()), ReadsRequested(7)).state
    (question,) = asked.forwarded
    told = bench.read_index_reply("s2", 2, question[0], index=9)
    state = take(asked, told).state
    assert [index for index, _ in state.confirmed_reads] == [9]
    state, effects = take(state, Tick(), at(next_deadline(state)))
    assert [one.token for one in of_type(effects, Reject)] == [7]
    assert (state.leader, type(state.role), next_deadline(state)) == (None, Follower, NEVER)
    assert take(state, FIRST_PIECE).state.leader == "s2", "until it is heard again"


def test_who_is_not_in_the_configuration_of_the_snapshot_does_not_stand() -> None:
    whole = replace(WHOLE, configuration=bench.configuration("s2", "s3"))
    state = take(receiving(bench.unconfigured()), complete(whole)).state
    state = take(state, Tick(), at(next_deadline(state))).state
    assert isinstance(state.role, Follower)


def test_the_leader_is_answered_though_nothing_is_known_of_its_store() -> None:
    effects = take(take(bench.unconfigured(), FIRST_PIECE).state, HALF).effects
    assert only(effects, InstallSnapshotReply).receiver == ""
    effects = take(take(follower(), FIRST_PIECE).state, HALF).effects
    assert only(effects, InstallSnapshotReply).receiver == "", "also if we do not know that store yet"
