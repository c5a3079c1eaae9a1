"""Sections 5.1 to 5.4 of the Raft paper, sentence by sentence. A docstring paraphrases its sentence."""

from __future__ import annotations

import itertools

from raft_actors.behaviours.deadlines import next_deadline
from raft_actors.protocol.effects import Apply, Send
from raft_actors.protocol.events import ClusterRequested, Tick, WritesRequested
from raft_actors.protocol.messages import AppendEntries, AppendEntriesReply, RequestVote, RequestVoteReply
from raft_actors.protocol.state import Candidate, Follower, Leader
from raft_actors.protocol.types import Ballot, LogPosition, Settings
from tests.behaviours import bench
from tests.behaviours.bench import (
    NOW,
    ack,
    append,
    at,
    entries,
    nack,
    only,
    receivers,
    request_vote,
    sent,
    synced,
    take,
    take_all,
    timed_out,
    vote,
)
from tests.behaviours.cluster import Cluster

NO_PRE_VOTE = Settings(pre_vote=False)
FIVE = bench.configuration("s1", "s2", "s3", "s4", "s5")


def formed(settings: Settings | None = None) -> Cluster:
    cluster = Cluster(settings=settings)
    cluster.run("s1", ClusterRequested(1, "c", ("s1", "s2", "s3"), 5.0))
    cluster.settle()
    cluster.tick("s1")
    cluster.settle()
    return cluster


# -- 5.1 Raft basics ---------------------------------------------------------------------------------------------------


def test_5_1_there_is_at_most_one_leader_in_a_term() -> None:
    """§5.1: Raft ensures that there is at most one leader in a given term."""
    cluster = formed(NO_PRE_VOTE)
    for name in itertools.islice(itertools.cycle(("s2", "s3", "s1")), 12):
        cluster.tick(name)
        cluster.settle()
    leaders = [name for name in cluster.nodes if isinstance(cluster.state(name).role, Leader)]
    assert len(leaders) == 1
    assert len(cluster.leaders) > 1, "several terms had one"


def test_5_1_a_server_with_a_smaller_term_updates_it() -> None:
    """§5.1: if one server's current term is smaller than the other's, it takes the larger one."""
    assert take(bench.peer(), append("s2", 7, LogPosition(1, 1))).state.term == 7


def test_5_1_a_candidate_or_leader_with_an_old_term_becomes_a_follower_at_once() -> None:
    """§5.1: a candidate or leader that discovers that its term is out of date reverts to follower."""
    for state in (bench.candidate(), bench.leader()):
        assert isinstance(take(state, ack("s2", 3, 0)).state.role, Follower)


def test_5_1_a_request_with_a_stale_term_is_rejected() -> None:
    """§5.1: a server that receives a request with a stale term number rejects it."""
    state = bench.peer(term=5)
    assert not only(take(state, request_vote("s2", 4)).effects, RequestVoteReply).granted
    assert not only(take(state, append("s2", 4, LogPosition(1, 1))).effects, AppendEntriesReply).success


# -- 5.2 Leader election -----------------------------------------------------------------------------------------------


def test_5_2_servers_start_as_followers() -> None:
    """§5.2: when servers start up, they begin as followers."""
    cluster = Cluster()
    assert all(isinstance(cluster.state(name).role, Follower) for name in cluster.nodes)
    cluster = formed()
    cluster.crash("s1")
    cluster.restart("s1")
    assert isinstance(cluster.state("s1").role, Follower)


def test_5_2_a_server_remains_a_follower_while_it_hears_a_leader() -> None:
    """§5.2: a server remains follower as long as it receives valid RPCs from a leader or candidate."""
    state = bench.following("s2")
    for beat in range(20):
        moment = at(NOW + 0.2 * beat)
        state = take_all(state, append("s2", 1, LogPosition(1, 1)), Tick(), moment=moment)
        assert isinstance(state.role, Follower)


def test_5_2_leaders_send_periodic_heartbeats_without_entries() -> None:
    """§5.2: leaders send periodic heartbeats (AppendEntries that carry no log entries) to all followers."""
    state = bench.leader()
    for beat in range(1, 5):
        now = NOW + beat * 0.05
        state, effects = take(state, Tick(), at(now))
        assert [(one.entries, one.term) for one in sent(effects, AppendEntries)] == [((), 2), ((), 2)]
        state = take(state, ack("s2", 2, 2), at(now)).state


def test_5_2_a_follower_that_hears_nothing_for_an_election_timeout_starts_an_election() -> None:
    """§5.2: no communication over the election timeout: assume there is no viable leader and begin an election."""
    state = bench.following("s2", settings=NO_PRE_VOTE)
    assert isinstance(take(state, Tick(), at(NOW + 0.449)).state.role, Follower)
    assert isinstance(take(state, Tick(), at(NOW + 0.45)).state.role, Candidate)


def test_5_2_a_candidate_increments_its_term_and_asks_all_in_parallel() -> None:
    """§5.2: a follower increments its term, becomes candidate, votes for itself, asks the others in parallel."""
    state, effects = timed_out(bench.peer(settings=NO_PRE_VOTE))
    assert state.ballot == Ballot(2, "s1")
    assert [(send.to, send.message.term) for send in bench.of_type(effects, Send)] == [("s2", 2), ("s3", 2)]


def test_5_2_a_candidate_wins_with_a_majority_of_the_full_cluster_in_the_same_term() -> None:
    """§5.2: a candidate wins with votes from a majority of the full cluster for the same term."""
    state = take(bench.candidate(members=FIVE), vote("s2", 2)).state
    assert isinstance(state.role, Candidate)
    assert isinstance(take(state, vote("s3", 1)).state.role, Candidate)
    assert isinstance(take(state, vote("s3", 2)).state.role, Leader)


def test_5_2_each_server_votes_for_at_most_one_candidate_in_a_term_first_come_first_served() -> None:
    """§5.2: each server votes for at most one candidate in a term, first come, first served."""
    state, first = take(bench.peer(), request_vote("s3", 2))
    second = take(state, request_vote("s2", 2)).effects
    assert only(first, RequestVoteReply).granted
    assert not only(second, RequestVoteReply).granted


def test_5_2_a_winner_tells_everybody_at_once() -> None:
    """§5.2: a winner sends heartbeats to all others to establish its authority and prevent new elections."""
    effects = take(bench.candidate(), vote("s2", 2)).effects
    assert [one.to for one in bench.of_type(effects, Send) if isinstance(one.message, AppendEntries)] == ["s2", "s3"]


def test_5_2_a_candidate_recognises_a_leader_whose_term_is_at_least_its_own() -> None:
    """§5.2: AppendEntries with a term at least as large: the leader is legitimate, return to follower."""
    for term in (2, 3):
        state = take(bench.candidate(), append("s3", term, LogPosition(1, 1))).state
        assert (type(state.role), state.leader) == (Follower, "s3")


def test_5_2_a_candidate_rejects_a_leader_of_a_smaller_term_and_continues() -> None:
    """§5.2: a smaller term: reject, and continue in candidate state."""
    state, effects = take(bench.candidate(), append("s3", 1, LogPosition(1, 1)))
    assert not only(effects, AppendEntriesReply).success
    assert isinstance(state.role, Candidate)


def test_5_2_after_a_split_vote_a_candidate_times_out_and_stands_anew() -> None:
    """§5.2: split votes: each candidate times out and starts a new election with a new term."""
    state = take_all(bench.candidate(settings=NO_PRE_VOTE), vote("s2", 2, granted=False))
    state, effects = timed_out(state)
    assert state.ballot == Ballot(3, "s1")
    assert len(sent(effects, RequestVote)) == 2


def test_5_2_election_timeouts_are_chosen_randomly_from_a_fixed_interval() -> None:
    """§5.2: timeouts are random, from a fixed interval, restarted at the start of each election."""
    for jitter in (0.0, 0.3, 0.99):
        state = timed_out(bench.peer(settings=NO_PRE_VOTE), jitter).state
        timeout = next_deadline(state) - (NOW + 0.45)
        assert abs(timeout - (0.3 + jitter * 0.3)) < 1e-9


# -- 5.3 Log replication -----------------------------------------------------------------------------------------------


def test_5_3_the_leader_appends_a_command_and_sends_it_to_all_in_parallel() -> None:
    """§5.3: the leader appends the command as a new entry and issues AppendEntries in parallel."""
    state, effects = take(bench.leader(), WritesRequested(1, (b"x",)))
    assert state.log.tail[-1].data == b"x"
    assert receivers(effects) == ["s2", "s3"]


def test_5_3_the_leader_retries_indefinitely_also_after_it_answered_the_client() -> None:
    """§5.3: if followers crash, run slowly or lose packets, the leader retries until all store all entries."""
    cluster = formed()
    cluster.cut |= {("s1", "s3")}
    cluster.run("s1", WritesRequested(2, (b"x",)))
    cluster.settle()
    assert cluster.answers[2] == "written at 3"
    for _ in range(5):
        cluster.tick("s1")
        cluster.settle()
    cluster.cut.clear()
    cluster.tick("s1")
    cluster.settle()
    assert cluster.nodes["s3"].disk.entries == cluster.nodes["s1"].disk.entries


def test_5_3_each_entry_holds_its_command_its_term_and_its_index() -> None:
    """§5.3: each entry stores a command along with the term when the leader received it, and an index."""
    one = take(bench.leader(), WritesRequested(1, (b"x",))).state.log.tail[-1]
    assert (one.data, one.term, one.index) == (b"x", 2, 3)


def test_5_3_an_entry_is_committed_once_its_leader_replicated_it_on_a_majority() -> None:
    """§5.3: an entry is committed once the leader that created it has replicated it on a majority."""
    state = synced(take(bench.leader(members=FIVE), WritesRequested(1, (b"x",))).state).state
    state = take(state, ack("s2", 2, 3)).state
    assert state.commit_index == 2
    assert take(state, ack("s3", 2, 3)).state.commit_index == 3


def test_5_3_committing_an_entry_commits_all_before_it() -> None:
    """§5.3: this also commits all preceding entries, including those of previous leaders."""
    state = synced(take(bench.candidate(terms=(1, 1, 1)), vote("s2", 2)).state).state
    effects = take(state, ack("s2", 2, 4)).effects
    assert [one.term for one in only(effects, Apply).entries] == [1, 1, 1, 2]


def test_5_3_followers_learn_the_commit_index_with_append_entries() -> None:
    """§5.3: the leader includes its commit index in future AppendEntries, heartbeats too, and followers apply."""
    heartbeat = sent(take(bench.leader(), Tick(), at(NOW + 0.05)).effects, AppendEntries, to="s2")[0]
    assert heartbeat.commit_index == 2
    follower = bench.following("s1", "s2", terms=(1, 2))
    assert [one.index for one in only(take(follower, heartbeat).effects, Apply).entries] == [1, 2]


def test_5_3_a_leader_creates_one_entry_per_index_and_entries_never_move() -> None:
    """§5.3: a leader creates at most one entry with a given index in a term, and entries never change position."""
    state = take_all(bench.leader(), WritesRequested(1, (b"a", b"b")), WritesRequested(2, (b"c",)))
    assert [(one.index, one.data) for one in state.log.tail[2:]] == [(3, b"a"), (4, b"b"), (5, b"c")]


def test_5_3_append_entries_carries_the_position_just_before_its_entries() -> None:
    """§5.3: AppendEntries includes index and term of the entry that immediately precedes the new ones."""
    for message in sent(take(bench.leader(), WritesRequested(1, (b"x",))).effects, AppendEntries):
        assert message.previous == LogPosition(2, 2)


def test_5_3_a_follower_that_lacks_that_entry_refuses_the_new_ones() -> None:
    """§5.3: if the follower does not find that entry, it refuses."""
    state = bench.following(terms=(1, 1))
    after, effects = take(state, append("s2", 3, LogPosition(2, 2), entries(3, 3)))
    assert not only(effects, AppendEntriesReply).success
    assert after.log == state.log


def test_5_3_success_means_that_the_logs_are_identical_up_to_the_new_entries() -> None:
    """§5.3: whenever AppendEntries succeeds, the leader knows that the follower's log is identical up to there."""
    state, effects = take(bench.following(terms=(1, 1, 2, 2)), append("s2", 3, LogPosition(1, 2), entries(3, 3)))
    assert only(effects, AppendEntriesReply).match_index == 3
    assert [state.log.term_at(index) for index in (1, 2, 3, 4)] == [1, 1, 3, None]


def test_5_3_conflicting_entries_are_overwritten_with_those_of_the_leader() -> None:
    """§5.3: the leader handles inconsistencies by forcing followers' logs to duplicate its own."""
    state = bench.following(terms=(1, 2, 2))
    after = take(state, append("s2", 3, LogPosition(1, 1), entries(2, 3, 3))).state
    assert after.log.tail[1:] == entries(2, 3, 3)


def test_5_3_next_index_starts_just_after_the_leaders_last_entry() -> None:
    """§5.3: a new leader initialises all nextIndex values to the index just after the last one in its log."""
    effects = take(bench.candidate(terms=(1, 1, 1)), vote("s2", 2)).effects
    assert {one.previous for one in sent(effects, AppendEntries)} == {LogPosition(1, 3)}


def test_5_3_after_a_rejection_the_leader_goes_back_and_retries() -> None:
    """§5.3: after a rejection the leader decrements nextIndex and retries."""
    state = take(bench.candidate(terms=(1, 1, 1)), vote("s2", 2)).state
    effects = take(state, nack("s2", 2, 3, LogPosition(1, 2))).effects
    assert only(effects, AppendEntries).previous == LogPosition(1, 2)


def test_5_3_one_rejection_per_conflicting_term_suffices() -> None:
    """§5.3: with the conflicting term in the answer, the leader bypasses all its entries in that term."""
    follower = bench.following("s1", "s2", terms=(1, 1, 2, 2, 2, 2, 2), term=9)
    refusal = only(take(follower, append("s1", 9, LogPosition(3, 7), to="s2")).effects, AppendEntriesReply)
    leader = take(bench.candidate(terms=(1, 1, 1, 3, 3, 3, 3), term=9), vote("s3", 9)).state
    assert only(take(leader, refusal).effects, AppendEntries).previous.index <= 3


def test_5_3_a_leader_never_overwrites_or_deletes_its_own_entries() -> None:
    """§5.3: Leader Append-Only."""
    before = bench.leader(terms=(1, 2, 2))
    for message in (
        ack("s2", 2, 3),
        nack("s2", 2, 3),
        vote("s2", 2),
        append("s2", 1, LogPosition(1, 1), entries(2, 1)),
    ):
        assert take(before, message).state.log == before.log


def test_5_3_entries_need_one_round_to_a_majority_and_a_slow_follower_delays_nobody() -> None:
    """§5.3: a new entry is replicated with a single round of RPCs to a majority; one slow follower has no impact."""
    state = synced(take(bench.leader(), WritesRequested(1, (b"x",))).state).state
    assert take(state, ack("s3", 2, 3)).state.commit_index == 3


# -- 5.4 Safety --------------------------------------------------------------------------------------------------------


def test_5_4_1_a_candidate_without_all_committed_entries_cannot_win() -> None:
    """§5.4.1: the voting process prevents a candidate from winning unless its log contains all committed entries."""
    cluster = formed(NO_PRE_VOTE)
    cluster.cut |= {("s1", "s3")}
    cluster.run("s1", WritesRequested(2, (b"x",)))
    cluster.settle()
    cluster.crash("s1")
    for _ in range(5):
        cluster.tick("s3")
        cluster.settle()
        assert not isinstance(cluster.state("s3").role, Leader)
    cluster.tick("s2")
    cluster.settle()
    assert isinstance(cluster.state("s2").role, Leader)


def test_5_4_1_a_voter_denies_its_vote_if_its_own_log_is_more_up_to_date() -> None:
    """§5.4.1: the request includes the candidate's log; the voter denies if its own is more up-to-date."""
    state = bench.peer(terms=(1, 1, 2))
    assert not only(take(state, request_vote("s2", 3, LogPosition(1, 9))).effects, RequestVoteReply).granted


def test_5_4_1_the_later_last_term_is_more_up_to_date() -> None:
    """§5.4.1: different last terms: the log with the later term is more up-to-date."""
    state = bench.peer(terms=(1, 1, 1, 1))
    assert only(take(state, request_vote("s2", 3, LogPosition(2, 2))).effects, RequestVoteReply).granted


def test_5_4_1_of_the_same_last_term_the_longer_log_is_more_up_to_date() -> None:
    """§5.4.1: same last term: whichever log is longer."""
    state = bench.peer(terms=(1, 1, 1))
    for index, granted in ((2, False), (3, True), (4, True)):
        reply = only(take(state, request_vote("s2", 3, LogPosition(1, index))).effects, RequestVoteReply)
        assert reply.granted is granted


def test_5_4_2_entries_of_previous_terms_are_never_committed_by_counting_replicas() -> None:
    """§5.4.2: only entries of the leader's current term are committed by counting replicas."""
    state = synced(take(bench.candidate(terms=(1, 2, 2), term=4), vote("s2", 4)).state).state
    state = take_all(state, ack("s2", 4, 3), ack("s3", 4, 3))
    assert state.commit_index == 0


def test_5_4_2_then_all_prior_entries_are_committed_indirectly() -> None:
    """§5.4.2: once an entry of the current term is committed this way, all prior entries are committed indirectly."""
    state = synced(take(bench.candidate(terms=(1, 2, 2), term=4), vote("s2", 4)).state).state
    assert take(state, ack("s2", 4, 4)).state.commit_index == 4


def test_5_4_2_entries_keep_their_term_when_a_later_leader_replicates_them() -> None:
    """§5.4.2: log entries retain their original term numbers."""
    state = take(bench.candidate(terms=(1, 2, 2), term=4), vote("s2", 4)).state
    effects = take(state, nack("s3", 4, 3, LogPosition(1, 1))).effects
    assert [one.term for one in only(effects, AppendEntries).entries] == [2, 2, 4]
