"""Following: appending, acknowledging, and cutting off no more than what really differs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_actors.behaviours.deadlines import next_deadline
from raft_actors.protocol.configuration import encode
from raft_actors.protocol.effects import Apply, Discard, Persist
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.events import Persisted
from raft_actors.protocol.messages import AppendEntries, AppendEntriesReply
from raft_actors.protocol.state import NEVER, Follower, PeerState
from raft_actors.protocol.types import NOWHERE, Ballot, LogPosition, Settings, Violation
from tests.behaviours import bench
from tests.behaviours.bench import NOW, append, at, entries, entry, only, persist_then_send, synced, take


def reply_to(state: PeerState, message: AppendEntries) -> AppendEntriesReply:
    return only(take(state, message).effects, AppendEntriesReply)


def test_entries_are_acknowledged_when_they_are_on_disk() -> None:
    state, effects = take(bench.following(), append("s2", 1, LogPosition(1, 1), entries(2, 1, 1)))
    assert persist_then_send(effects, AppendEntriesReply).match_index == 3
    assert only(effects, Persist) == Persist(entries=entries(2, 1, 1))
    assert (state.log.last, state.log.durable) == (LogPosition(1, 3), 1)


def test_a_heartbeat_is_answered_at_once_with_what_is_durable() -> None:
    """Heartbeats never wait for a disk, and never claim what it does not have (BUG-34)."""
    state = bench.following(terms=(1, 1, 1), durable=2)
    effects = take(state, append("s2", 1, LogPosition(1, 3))).effects
    assert not bench.of_type(effects, Persist)
    assert only(effects, AppendEntriesReply).match_index == 2


def test_a_heartbeat_of_a_term_that_is_not_on_disk_confirms_nothing() -> None:
    """After a restart this peer could follow a deposed leader, and drop what the leader of this term counts on."""
    state = take(bench.peer(terms=(1, 1)), append("s2", 2, LogPosition(1, 2))).state
    assert reply_to(state, append("s2", 2, LogPosition(1, 2))).match_index == 0
    state = synced(state).state
    assert reply_to(state, append("s2", 2, LogPosition(1, 2))).match_index == 2


def test_success_claims_what_was_matched_and_not_the_own_end() -> None:
    """BUG-34."""
    state = bench.following(terms=(1, 1, 1, 1))
    assert reply_to(state, append("s2", 2, LogPosition(1, 2))).match_index == 2
    assert reply_to(state, append("s2", 2, LogPosition(1, 2), entries(3, 1))).match_index == 3


def test_a_duplicate_writes_nothing_and_cuts_off_nothing() -> None:
    """BUG-36."""
    state = bench.following(terms=(1, 1, 1, 1))
    after, effects = take(state, append("s2", 1, LogPosition(1, 1), entries(2, 1)))
    assert after.log == state.log
    assert not bench.of_type(effects, Persist)
    assert only(effects, AppendEntriesReply).match_index == 2


def test_a_duplicate_that_is_not_on_disk_yet_confirms_only_what_is() -> None:
    state = bench.following(terms=(1, 1, 1), durable=1)
    assert reply_to(state, append("s2", 1, LogPosition(1, 1), entries(2, 1, 1))).match_index == 1


def test_of_an_overlap_only_the_new_part_is_written() -> None:
    state, effects = take(bench.following(terms=(1, 1)), append("s2", 1, LogPosition(1, 1), entries(2, 1, 1)))
    assert only(effects, Persist) == Persist(entries=entries(3, 1))
    assert state.log.last == LogPosition(1, 3)


def test_only_what_conflicts_is_cut_off() -> None:
    state = bench.following(terms=(1, 1, 2, 2))
    after, effects = take(state, append("s2", 3, LogPosition(1, 1), entries(2, 1, 3)))
    batch = only(effects, Persist)
    assert (batch.truncate_from, batch.entries) == (3, entries(3, 3))
    assert after.log.last == LogPosition(3, 3)
    assert after.log.durable == 2
    assert persist_then_send(effects, AppendEntriesReply).match_index == 3


def test_a_gap_is_refused_with_a_hint() -> None:
    state = bench.following(terms=(1, 1))
    reply = reply_to(state, append("s2", 1, LogPosition(1, 5), entries(6, 1)))
    assert (reply.success, reply.previous, reply.hint, reply.match_index) == (False, 5, LogPosition(1, 2), 0)


def test_a_conflict_hint_skips_the_term_that_conflicts() -> None:
    state = bench.following(terms=(1, 3, 3, 3, 3), term=4)
    assert reply_to(state, append("s2", 4, LogPosition(2, 5))).hint == LogPosition(1, 1)


def test_an_older_term_is_refused_and_followed_by_nobody() -> None:
    state = bench.peer(term=5)
    after, effects = take(state, append("s2", 4, LogPosition(1, 1), entries(2, 4), number=7))
    reply = only(effects, AppendEntriesReply)
    assert (reply.success, reply.term) == (False, 5)
    assert after == state


def test_an_answer_to_an_older_term_confirms_no_round_and_promises_nothing() -> None:
    """Its sender may lead our term by now: it would take an old round for one of its new leadership."""
    state = bench.peer(term=5, settings=Settings(lease_reads=True))
    reply = reply_to(state, append("s2", 4, LogPosition(1, 1), number=7))
    assert (reply.round, reply.promise, reply.match_index) == (0, 0.0, 0)


def test_a_committed_entry_is_never_overwritten() -> None:
    """BUG-20: rather stop."""
    with pytest.raises(Violation, match="committed"):
        take(bench.following(terms=(1, 1), commit=2), append("s2", 3, LogPosition(1, 1), entries(2, 3)))


def test_two_leaders_of_one_term_are_a_violation() -> None:
    with pytest.raises(Violation, match="leads term 2 too"):
        take(bench.leader(), append("s2", 2, LogPosition(2, 2)))


@pytest.mark.parametrize("new", [entries(4, 1), (entry(2, 1), entry(4, 1))], ids=["behind a gap", "with a hole"])
def test_entries_that_are_not_contiguous_are_refused(new: tuple[Entry, ...]) -> None:
    """BUG-76."""
    state = bench.following()
    after, effects = take(state, append("s2", 1, LogPosition(1, 1), new))
    assert only(effects, Discard).sender == "s2"
    assert after.log == state.log


def test_bytes_that_are_no_configuration_stop_the_peer() -> None:
    bad = Entry(2, 1, EntryKind.CONFIGURATION, 0.0, b"nonsense")
    with pytest.raises(Violation, match="entry 2"):
        take(bench.following(), append("s2", 1, LogPosition(1, 1), (bad,)))


# -- commit ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("told", "commit"), [(1, 1), (2, 2), (9, 3)])
def test_the_commit_index_follows_the_leader_up_to_what_was_matched(told: int, commit: int) -> None:
    """What lies behind the message's entries may still be overwritten."""
    state = bench.following(terms=(1, 1, 1, 1), term=2)
    assert take(state, append("s2", 2, LogPosition(1, 2), entries(3, 1), commit=told)).state.commit_index == commit


def test_the_commit_index_never_goes_back() -> None:
    state = bench.following(terms=(1, 1, 1), commit=3)
    assert take(state, append("s2", 1, LogPosition(1, 1), commit=1)).state.commit_index == 3


def test_committed_entries_reach_the_machine_only_when_they_are_on_disk() -> None:
    """BUG-03."""
    message = append("s2", 1, LogPosition(1, 1), entries(2, 1), commit=2)
    state, effects = take(bench.following(commit=1), message)
    assert state.commit_index == 2
    assert not bench.of_type(effects, Apply)
    assert only(synced(state).effects, Apply).entries == entries(2, 1)


def test_a_late_sync_of_overwritten_entries_confirms_nothing() -> None:
    """BUG-35."""
    state = take(bench.following(), append("s2", 1, LogPosition(1, 1), entries(2, 1, 1))).state
    state = take(state, append("s3", 2, LogPosition(1, 1), entries(2, 2))).state
    assert take(state, Persisted(Ballot(2), LogPosition(1, 3))).state.log.durable == 1
    assert take(state, Persisted(Ballot(2), LogPosition(2, 2))).state.log.durable == 2


def test_a_late_sync_of_entries_that_were_cut_off_and_came_back_confirms_nothing() -> None:
    """The disk is still to cut them off, and may crash in between."""
    state = take(bench.following(), append("s2", 1, LogPosition(1, 1), entries(2, 1, 1))).state
    state = take(state, append("s3", 2, LogPosition(1, 1), entries(2, 2))).state
    state = take(state, append("s2", 3, LogPosition(1, 1), entries(2, 1, 1))).state
    assert state.log.last == LogPosition(1, 3)
    state = take(state, Persisted(Ballot(1), LogPosition(1, 3))).state
    assert state.log.durable == 1
    assert take(state, Persisted(Ballot(3), LogPosition(1, 3))).state.log.durable == 3


# -- configurations ----------------------------------------------------------------------------------------------------


def test_a_configuration_counts_from_when_it_is_appended() -> None:
    """BUG-56."""
    four = bench.configuration("s1", "s2", "s3", "s4")
    new = Entry(2, 1, EntryKind.CONFIGURATION, 0.0, encode(four))
    state = take(bench.following(), append("s2", 1, LogPosition(1, 1), (new,))).state
    assert state.configuration == four


def test_a_configuration_that_is_cut_off_counts_no_more() -> None:
    """BUG-66."""
    new = Entry(2, 1, EntryKind.CONFIGURATION, 0.0, encode(bench.configuration("s1")))
    state = take(bench.following(), append("s2", 1, LogPosition(1, 1), (new,))).state
    state = take(state, append("s3", 2, LogPosition(1, 1), entries(2, 2))).state
    assert state.configuration == bench.THREE


def test_the_message_that_makes_a_follower_a_voter_arms_its_timeout() -> None:
    """Else nobody stands if its leader dies right after it."""
    state = bench.peer(terms=(), role=Follower())
    assert next_deadline(state) == NEVER
    state = take(state, append("s2", 1, NOWHERE, bench.log_of((1,)).tail)).state
    assert next_deadline(state) == NOW + 0.45


# -- hearing the leader ------------------------------------------------------------------------------------------------


def test_every_append_entries_restarts_the_timeout() -> None:
    later = at(NOW + 0.3, 0.0)
    for message in (append("s2", 1, LogPosition(1, 1)), append("s2", 1, LogPosition(1, 7))):
        state = take(bench.following(), message, later).state
        assert next_deadline(state) == later.now + 0.3
        assert state.heard_at == later.now


def test_a_promise_lasts_an_election_timeout_from_receipt() -> None:
    state = bench.following(settings=Settings(lease_reads=True))
    state, effects = take(state, append("s2", 1, LogPosition(1, 1), sent=123.0), at(NOW + 0.2))
    assert state.no_vote_until == NOW + 0.2 + 0.3
    reply = only(effects, AppendEntriesReply)
    assert (reply.promise, reply.sent) == (0.3, 123.0)


def test_nobody_promises_anything_while_lease_reads_are_off() -> None:
    state, effects = take(bench.following(), append("s2", 1, LogPosition(1, 1)))
    assert only(effects, AppendEntriesReply).promise == 0.0
    assert state.no_vote_until < NOW


def test_replicated_time_is_that_of_the_newest_entry() -> None:
    new = (Entry(2, 1, EntryKind.COMMAND, 77.0, b""),)
    assert take(bench.following(), append("s2", 1, LogPosition(1, 1), new)).state.time == 77.0


# -- any two logs ------------------------------------------------------------------------------------------------------


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """A leader's and a follower's log with a common prefix, as in Figure 7."""
    common = sorted(draw(st.lists(st.integers(1, 2), min_size=1, max_size=4)))
    return (
        common + sorted(draw(st.lists(st.integers(2, 6), max_size=5))),
        common + sorted(draw(st.lists(st.sampled_from([3, 5]), max_size=5))),
    )


@given(logs(), st.integers(0, 9), st.integers(0, 9))
def test_after_success_the_logs_are_equal_up_to_the_match(both: tuple[list[int], list[int]], at_: int, n: int) -> None:
    """Log Matching, for whatever part of the leader's log arrives."""
    ours, theirs = both
    previous = min(at_, len(theirs))
    leaders_log = bench.log_of([*theirs, 7])
    position = leaders_log.position_at(previous)
    assert position is not None
    new = leaders_log.tail[previous : previous + n]
    state = bench.following(terms=_without_clash(ours, theirs), term=7)
    after, effects = take(state, append("s2", 7, position, new))
    reply = only(effects, AppendEntriesReply)
    if reply.success:
        for index in range(1, reply.match_index + 1):
            assert after.log.term_at(index) == leaders_log.term_at(index)
        assert after.log.last.index >= state.log.last.index or only(effects, Persist).truncate_from is not None
    else:
        assert after.log == state.log


def _without_clash(ours: list[int], theirs: list[int]) -> list[int]:
    """An entry with the same index and term is the same entry (Log Matching): keep only logs that could exist."""
    for place, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            rest = [term for term in ours[place:] if term not in theirs]
            return ours[:place] + rest
    return ours
