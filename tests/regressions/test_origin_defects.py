"""Defects of the library that this one continues: each is a test, so that none comes back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from raft_actors.behaviours.deadlines import next_deadline
from raft_actors.protocol.effects import Apply, Persist, ServeReads
from raft_actors.protocol.events import ClusterRequested, ReadsRequested, Tick, WritesRequested
from raft_actors.protocol.messages import AppendEntries, AppendEntriesReply, RequestVoteReply
from raft_actors.protocol.state import Candidate, Follower, Leader, PeerState
from raft_actors.protocol.types import LogPosition, Settings
from tests.behaviours import bench
from tests.behaviours.bench import (
    NOW,
    append,
    at,
    entries,
    only,
    request_vote,
    sent,
    take,
    take_all,
    timed_out,
    vote,
)
from tests.behaviours.cluster import Broken, Cluster


@pytest.mark.parametrize(
    ("last", "granted"),
    [
        (LogPosition(term=1, index=9), False),
        (LogPosition(term=3, index=1), True),
        (LogPosition(term=2, index=3), False),
        (LogPosition(term=2, index=4), True),
    ],
    ids=["longer but older", "shorter but newer", "shorter", "equal"],
)
def test_term_and_index_are_not_swapped_in_the_up_to_date_check(last: LogPosition, granted: bool) -> None:
    reply = only(take(bench.peer(terms=(1, 1, 2, 2)), request_vote("s2", 5, last)).effects, RequestVoteReply)
    assert reply.granted is granted


@pytest.mark.parametrize("role", [bench.leader, bench.candidate, bench.pre_candidate])
def test_the_result_of_stepping_down_is_not_dropped(role: Callable[[], PeerState]) -> None:
    """It goes on as the follower that it became, with its new ballot, within the very same step."""
    message = append("s2", 9, LogPosition(1, 1), entries(2, 9))
    state, effects = take(replace(role(), commit_index=0, handed=0, last_applied=0), message)
    assert isinstance(state.role, Follower)
    assert (state.term, state.leader, state.log.last) == (9, "s2", LogPosition(9, 2))
    assert only(effects, Persist).ballot == state.ballot
    assert only(effects, AppendEntriesReply).term == 9


def test_a_vote_that_arrives_twice_is_one_vote() -> None:
    five = bench.configuration("s1", "s2", "s3", "s4", "s5")
    assert isinstance(take_all(bench.candidate(members=five), vote("s2", 2), vote("s2", 2)).role, Candidate)


def test_votes_do_not_outlive_their_election() -> None:
    five = bench.configuration("s1", "s2", "s3", "s4", "s5")
    state = take(bench.candidate(members=five, settings=Settings(pre_vote=False)), vote("s2", 2)).state
    state = bench.synced(timed_out(state).state).state
    assert state.term == 3
    assert isinstance(take(state, vote("s3", 3)).state.role, Candidate)


@pytest.mark.parametrize("interval", [0.02, 0.1])
def test_the_heartbeat_interval_is_the_one_that_was_set(interval: float) -> None:
    settings = Settings(heartbeat_interval=interval)
    state = take(bench.candidate(settings=settings), vote("s2", 2)).state
    assert next_deadline(state) == pytest.approx(NOW + interval)
    state, effects = take(state, Tick(), at(NOW + interval))
    assert len(sent(effects, AppendEntries)) == 2
    assert next_deadline(state) == pytest.approx(NOW + 2 * interval)


def test_a_round_carries_as_many_entries_as_there_are() -> None:
    effects = take(bench.leader(), WritesRequested(1, tuple(b"%d" % number for number in range(500)))).effects
    assert [len(message.entries) for message in sent(effects, AppendEntries)] == [500, 500]
    state = bench.leader(terms=(1,) + (2,) * 500, match={"s2": 0})
    refused = take(state, bench.nack("s2", 2, 500, LogPosition(1, 1))).effects
    assert len(only(refused, AppendEntries).entries) == 500


def test_a_conflict_deletes_from_the_conflict_and_not_from_the_previous_entry() -> None:
    state = bench.following(terms=(1, 1, 1, 2), commit=3)
    after, effects = take(state, append("s2", 3, LogPosition(1, 2), entries(3, 1, 3)))
    assert only(effects, Persist).truncate_from == 4
    assert [after.log.term_at(index) for index in range(1, 5)] == [1, 1, 1, 3]


def test_success_says_what_was_matched_and_not_where_the_own_log_ends() -> None:
    state = bench.following(terms=(1, 1, 1, 1, 1))
    for message, match in (
        (append("s2", 2, LogPosition(1, 2)), 2),
        (append("s2", 2, LogPosition(1, 1), entries(2, 1)), 2),
    ):
        assert only(take(state, message).effects, AppendEntriesReply).match_index == match


# -- oracles: the origin had one that always said yes, and one that said the opposite ---------------------------------


def formed() -> Cluster:
    cluster = Cluster()
    cluster.run("s1", ClusterRequested(1, "c", ("s1", "s2", "s3"), 5.0))
    cluster.settle()
    return cluster


def test_the_oracles_say_yes_to_a_sound_run() -> None:
    cluster = formed()
    cluster.run("s1", WritesRequested(2, (b"x",)))
    cluster.run("s1", ReadsRequested(3))
    cluster.settle()
    assert (cluster.answers[2], cluster.answers[3]) == ("written at 3", "read")


def test_the_oracle_for_leaders_says_no_to_two_in_one_term() -> None:
    cluster = formed()
    cluster.leaders[cluster.state("s1").term] = "s2"
    with pytest.raises(Broken, match="s1 and s2 lead term 2"):
        cluster.tick("s1")


def test_the_oracle_for_leaders_says_no_to_one_that_lacks_a_committed_entry() -> None:
    cluster = formed()
    cluster.committed.append(bench.entry(3, 1))
    with pytest.raises(Broken, match="lacks the committed entry 3"):
        cluster.tick("s1")


def test_the_oracle_for_machines_says_no_to_another_entry_a_hole_and_an_entry_that_is_not_on_disk() -> None:
    for wrong, words in (
        (bench.entry(1, 1, b"other"), "another entry 1"),
        (bench.entry(2, 2), "applies 2 after 0"),
    ):
        cluster = formed()
        node = cluster.nodes["s3"]
        node.machine.clear()
        with pytest.raises(Broken, match=words):
            cluster.perform(node, (Apply((wrong,)),))
    cluster = formed()
    node = cluster.nodes["s1"]
    with pytest.raises(Broken, match="BUG-03"):
        cluster.perform(node, (Apply((bench.entry(3, 2),)),))


def test_the_oracle_for_reads_says_no_to_a_stale_one() -> None:
    cluster = formed()
    cluster.run("s1", WritesRequested(2, (b"x",)))
    cluster.settle()
    cluster.run("s2", ReadsRequested(3))
    with pytest.raises(Broken, match="3 was answered before it asked"):
        cluster.perform(cluster.nodes["s2"], (ServeReads(3, 2),))


def test_the_oracle_for_disks_says_no_to_a_log_with_a_hole() -> None:
    cluster = formed()
    with pytest.raises(Broken, match="hole"):
        cluster.nodes["s1"].disk.write(Persist(entries=entries(5, 2)))


def test_the_oracle_for_roles_looks_at_the_role() -> None:
    assert isinstance(bench.leader().role, Leader)
    with pytest.raises(AssertionError, match="s1 is Follower"):
        bench.leading(replace(bench.leader(), role=Follower()))
