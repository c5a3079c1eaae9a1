"""Figure 2 of the Raft paper, rule by rule. A docstring names the box and paraphrases its rule."""

from __future__ import annotations

from raft_actors.protocol.effects import Apply, Persist
from raft_actors.protocol.events import Tick, WritesRequested
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
    leading,
    nack,
    only,
    persist_then_send,
    request_vote,
    sent,
    synced,
    take,
    take_all,
    timed_out,
    vote,
)

# -- State -------------------------------------------------------------------------------------------------------------


def test_term_vote_and_log_are_on_disk_before_an_answer() -> None:
    """State: persistent state is updated on stable storage before RPCs are answered."""
    effects = take(bench.peer(), request_vote("s2", 2)).effects
    assert persist_then_send(effects, RequestVoteReply).granted
    assert only(effects, Persist).ballot == Ballot(2, "s2")
    effects = take(bench.following(), append("s2", 2, LogPosition(1, 1), entries(2, 2))).effects
    assert persist_then_send(effects, AppendEntriesReply).success
    assert only(effects, Persist) == Persist(Ballot(2), None, entries(2, 2))


def test_the_volatile_state_of_leaders_starts_anew_after_an_election() -> None:
    """State: nextIndex begins just behind the leader's last entry, matchIndex at 0."""
    state = take(bench.candidate(terms=(1, 1, 1)), vote("s2", 2)).state
    assert [(one.next_index, one.match_index) for one in leading(state).progress.values()] == [(4, 0), (4, 0)]


# -- AppendEntries RPC -------------------------------------------------------------------------------------------------


def test_append_entries_1_an_older_term_is_refused() -> None:
    """AppendEntries 1: reply false if term < currentTerm."""
    reply = only(take(bench.peer(term=3), append("s2", 2, LogPosition(1, 1))).effects, AppendEntriesReply)
    assert (reply.success, reply.term) == (False, 3)


def test_append_entries_2_a_log_without_the_previous_entry_is_refused() -> None:
    """AppendEntries 2: reply false if the log has no entry at prevLogIndex with prevLogTerm."""
    state = bench.following(terms=(1, 1))
    for previous in (LogPosition(1, 3), LogPosition(2, 2)):
        reply = only(take(state, append("s2", 2, previous, entries(previous.index + 1, 2))).effects, AppendEntriesReply)
        assert not reply.success


def test_append_entries_3_an_entry_that_conflicts_is_deleted_with_all_that_follow() -> None:
    """AppendEntries 3: same index, different term: delete it and everything after it."""
    state = take(bench.following(terms=(1, 1, 1, 1)), append("s2", 2, LogPosition(1, 1), entries(2, 2))).state
    assert state.log.last == LogPosition(2, 2)


def test_append_entries_4_entries_that_are_new_are_appended() -> None:
    """AppendEntries 4: append what is not in the log already."""
    effects = take(bench.following(terms=(1, 1)), append("s2", 1, LogPosition(1, 1), entries(2, 1, 1, 1))).effects
    assert only(effects, Persist).entries == entries(3, 1, 1)


def test_append_entries_5_the_commit_index_is_that_of_the_leader_or_of_the_last_new_entry() -> None:
    """AppendEntries 5: commitIndex = min(leaderCommit, index of last new entry)."""
    for leaders, expected in ((2, 2), (9, 3)):
        message = append("s2", 1, LogPosition(1, 1), entries(2, 1, 1), commit=leaders)
        assert take(bench.following(), message).state.commit_index == expected


# -- RequestVote RPC ---------------------------------------------------------------------------------------------------


def test_request_vote_1_an_older_term_is_refused() -> None:
    """RequestVote 1: reply false if term < currentTerm."""
    reply = only(take(bench.peer(term=3), request_vote("s2", 2)).effects, RequestVoteReply)
    assert (reply.granted, reply.term) == (False, 3)


def test_request_vote_2_a_free_vote_goes_to_a_log_that_is_up_to_date() -> None:
    """RequestVote 2: votedFor is null or the candidate, and its log is at least as up-to-date: grant."""
    state = bench.peer(terms=(1, 1), term=2)
    assert not only(take(state, request_vote("s2", 2, LogPosition(1, 1))).effects, RequestVoteReply).granted
    assert only(take(state, request_vote("s2", 2, LogPosition(1, 2))).effects, RequestVoteReply).granted
    voted = bench.peer(terms=(1, 1), term=2, voted_for="s3")
    assert not only(take(voted, request_vote("s2", 2, LogPosition(1, 2))).effects, RequestVoteReply).granted
    assert only(take(voted, request_vote("s3", 2, LogPosition(1, 2))).effects, RequestVoteReply).granted


# -- Rules for all servers ---------------------------------------------------------------------------------------------


def test_all_servers_apply_what_is_committed() -> None:
    """All servers: if commitIndex > lastApplied, apply in log order."""
    state, effects = take(bench.following(terms=(1, 1, 1)), append("s2", 1, LogPosition(1, 3), commit=2))
    assert [one.index for one in only(effects, Apply).entries] == [1, 2]
    assert [
        one.index for one in only(take(state, append("s2", 1, LogPosition(1, 3), commit=3)).effects, Apply).entries
    ] == [3]


def test_all_servers_become_followers_of_a_newer_term() -> None:
    """All servers: an RPC or response with a newer term makes it the current one, and a follower."""
    for state in (bench.following("s3"), bench.candidate(), bench.leader()):
        for message in (append("s2", 9, LogPosition(9, 9)), ack("s2", 9, 0), vote("s2", 9, granted=False)):
            after = take(state, message).state
            assert isinstance(after.role, Follower)
            assert after.ballot == Ballot(9)


# -- Followers ---------------------------------------------------------------------------------------------------------


def test_followers_answer_leaders_and_candidates() -> None:
    """Followers: respond to RPCs from candidates and leaders."""
    assert sent(take(bench.peer(), append("s2", 1, LogPosition(1, 1))).effects, AppendEntriesReply, to="s2")
    assert sent(take(bench.peer(), request_vote("s2", 2)).effects, RequestVoteReply, to="s2")


def test_followers_stand_when_they_hear_nobody_and_voted_for_nobody() -> None:
    """Followers: election timeout without AppendEntries and without granting a vote: become candidate."""
    settings = Settings(pre_vote=False)
    assert isinstance(timed_out(bench.following(settings=settings)).state.role, Candidate)
    for message in (append("s2", 1, LogPosition(1, 1)), request_vote("s2", 2, transfer=True)):
        state = take(bench.following(settings=settings), message, at(NOW + 0.4)).state
        assert isinstance(take(state, Tick(), at(NOW + 0.45)).state.role, Follower)


# -- Candidates --------------------------------------------------------------------------------------------------------


def test_candidates_begin_with_a_new_term_their_own_vote_a_new_timeout_and_requests_to_all() -> None:
    """Candidates: increment currentTerm, vote for self, reset the timer, send RequestVote to all."""
    state, effects = timed_out(bench.peer(settings=Settings(pre_vote=False)), jitter=0.2)
    assert state.ballot == Ballot(2, "s1")
    assert isinstance(state.role, Candidate)
    assert state.role.election_deadline == NOW + 0.45 + Settings().election_timeout(0.2)
    assert [message.term for message in sent(effects, RequestVote)] == [2, 2]


def test_candidates_lead_with_the_votes_of_a_majority() -> None:
    """Candidates: votes from a majority: become leader."""
    assert isinstance(take(bench.candidate(), vote("s3", 2)).state.role, Leader)


def test_candidates_follow_a_new_leader() -> None:
    """Candidates: AppendEntries from a new leader: become follower."""
    assert isinstance(take(bench.candidate(), append("s2", 2, LogPosition(1, 1))).state.role, Follower)


def test_candidates_start_over_when_time_runs_out() -> None:
    """Candidates: election timeout elapses: start a new election."""
    state, effects = timed_out(bench.candidate(members=bench.configuration("s1"), votes=["s1"]))
    assert state.ballot == Ballot(3, "s1")
    assert only(effects, Persist).ballot == Ballot(3, "s1")


# -- Leaders -----------------------------------------------------------------------------------------------------------


def test_leaders_speak_to_everybody_upon_election_and_while_idle() -> None:
    """Leaders: send AppendEntries upon election; repeat during idle periods."""
    state, effects = take(bench.candidate(), vote("s2", 2))
    assert len(sent(effects, AppendEntries)) == 2
    state = take(state, ack("s2", 2, 2)).state
    effects = take(state, Tick(), at(NOW + 0.05)).effects
    assert [message.entries for message in sent(effects, AppendEntries)] == [(), ()]


def test_leaders_answer_a_command_after_it_is_applied() -> None:
    """Leaders: append a client's command, respond after it is applied to the state machine."""
    state = take(bench.leader(), WritesRequested(1, (b"x",))).state
    state, effects = synced(state)
    assert not bench.of_type(effects, Apply)
    assert [one.data for one in only(take(state, ack("s3", 2, 3)).effects, Apply).entries] == [b"x"]


def test_leaders_send_what_a_follower_lacks() -> None:
    """Leaders: last log index >= nextIndex: send entries from nextIndex on."""
    state = take(bench.candidate(terms=(1, 1, 1)), vote("s2", 2)).state
    effects = take(state, nack("s2", 2, 3, LogPosition(1, 1))).effects
    assert [one.index for one in only(effects, AppendEntries).entries] == [2, 3, 4]


def test_leaders_note_what_a_follower_has() -> None:
    """Leaders: success: update nextIndex and matchIndex."""
    progress = leading(take_all(bench.leader(), WritesRequested(1, (b"x",)), ack("s2", 2, 3))).progress
    assert (progress["s2"].match_index, progress["s2"].next_index) == (3, 4)


def test_leaders_go_back_and_try_again() -> None:
    """Leaders: failure because of inconsistency: decrement nextIndex and retry."""
    state = take(bench.candidate(terms=(1, 1, 1)), vote("s2", 2)).state
    state, effects = take(state, nack("s2", 2, 3, LogPosition(1, 2)))
    assert leading(state).progress["s2"].next_index == 3
    assert only(effects, AppendEntries).previous == LogPosition(1, 2)


def test_leaders_commit_what_a_majority_has_if_it_is_of_their_term() -> None:
    """Leaders: N > commitIndex, a majority of matchIndex >= N, and log[N].term == currentTerm: commitIndex = N."""
    state = synced(take(bench.candidate(terms=(1, 1)), vote("s2", 2)).state).state
    assert take(state, ack("s2", 2, 2)).state.commit_index == 0
    assert take(state, ack("s2", 2, 3)).state.commit_index == 3
