"""Whom a peer votes for, and whom it promises a vote."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from raft_actors.protocol.configuration import Configuration
from raft_actors.protocol.effects import Persist
from raft_actors.protocol.events import PeerDown
from raft_actors.protocol.messages import PreVote, PreVoteReply, RequestVote, RequestVoteReply
from raft_actors.protocol.state import Candidate, Follower, PeerState
from raft_actors.protocol.types import Ballot, LogPosition, Settings
from tests.behaviours import bench
from tests.behaviours.bench import NOW, at, only, persist_then_send, pre_vote, request_vote, sent, take


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_only_a_log_as_up_to_date_as_ours_gets_the_vote(term: int, index: int, our_term: int, our_index: int) -> None:
    state = bench.peer(terms=[our_term] * our_index, term=8)
    reply = only(take(state, request_vote("s2", 9, LogPosition(term, index))).effects, RequestVoteReply)
    assert reply.granted is ((term, index) >= (our_term, our_index))
    promise = only(take(state, pre_vote("s2", 9, LogPosition(term, index))).effects, PreVoteReply)
    assert promise.granted is reply.granted


def test_a_vote_is_on_disk_before_it_leaves() -> None:
    state, effects = take(bench.peer(), request_vote("s2", 2))
    assert persist_then_send(effects, RequestVoteReply).granted
    assert only(effects, Persist).ballot == state.ballot == Ballot(2, "s2")


def test_a_voter_votes_once_per_term() -> None:
    state = take(bench.peer(), request_vote("s2", 2)).state
    after, effects = take(state, request_vote("s3", 2))
    assert not only(effects, RequestVoteReply).granted
    assert after.ballot == Ballot(2, "s2")


def test_a_newer_term_brings_a_new_vote() -> None:
    state = take(bench.peer(), request_vote("s2", 2)).state
    after, effects = take(state, request_vote("s3", 3))
    assert only(effects, RequestVoteReply).granted
    assert after.ballot == Ballot(3, "s3")


def test_the_same_candidate_may_ask_again_and_waits_for_the_same_sync() -> None:
    """BUG-32; and the second answer must not overtake the first one's sync."""
    state = take(bench.peer(), request_vote("s2", 2)).state
    after, effects = take(state, request_vote("s2", 2))
    assert persist_then_send(effects, RequestVoteReply).granted
    assert after.ballot == state.ballot


def test_granting_a_vote_restarts_the_election_timeout() -> None:
    later = at(NOW + 0.4)
    after = take(bench.peer(), request_vote("s2", 2), later).state
    assert after.role == Follower(later.now + 0.45)


def test_refusing_a_vote_restarts_nothing() -> None:
    """Else a candidate that cannot win keeps those who can from standing."""
    state = bench.peer(terms=(1, 1))
    after, effects = take(state, request_vote("s2", 7, LogPosition(1, 1)), at(NOW + 0.4))
    assert not only(effects, RequestVoteReply).granted
    assert after.term == 7
    assert after.role == state.role


def test_a_candidate_votes_for_nobody_else_in_its_term() -> None:
    after, effects = take(bench.candidate(), request_vote("s2", 2, LogPosition(9, 9)))
    assert not only(effects, RequestVoteReply).granted
    assert isinstance(after.role, Candidate)


def test_an_outdated_candidate_is_told_the_term() -> None:
    reply = only(take(bench.peer(term=5), request_vote("s2", 4)).effects, RequestVoteReply)
    assert (reply.granted, reply.term) == (False, 5)


def test_a_voter_whose_configuration_lacks_the_candidate_votes_all_the_same() -> None:
    """Its configuration may be the older one (thesis §4.1)."""
    assert only(take(bench.peer(), request_vote("s7", 2)).effects, RequestVoteReply).granted


# -- stickiness --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("since", "granted"), [(0.0, False), (0.29, False), (0.3, True)])
def test_who_heard_a_leader_lately_helps_nobody_to_depose_it(since: float, granted: bool) -> None:
    state, now = bench.following("s3"), at(NOW + since)
    assert only(take(state, pre_vote("s2", 2), now).effects, PreVoteReply).granted is granted
    after, effects = take(state, request_vote("s2", 2), now)
    assert only(effects, RequestVoteReply).granted is granted
    assert after.term == (2 if granted else 1), "a refused candidate's term is not even adopted"


def test_a_leader_helps_nobody_to_depose_it() -> None:
    state = bench.leader()
    after, effects = take(state, request_vote("s2", 9, LogPosition(9, 9)))
    assert not only(effects, RequestVoteReply).granted
    assert after == state


def test_a_hand_over_is_no_disturbance() -> None:
    after, effects = take(bench.following("s3"), request_vote("s2", 2, transfer=True))
    assert only(effects, RequestVoteReply).granted
    assert after.leader is None


def test_a_forgotten_leader_is_not_protected() -> None:
    state = take(bench.following("s3"), PeerDown("s3")).state
    assert only(take(state, pre_vote("s2", 2)).effects, PreVoteReply).granted


def test_a_promise_binds_even_when_no_leader_is_known() -> None:
    state = bench.peer(no_vote_until=NOW + 0.2, settings=Settings(lease_reads=True))
    for moment, granted in ((at(NOW + 0.1), False), (at(NOW + 0.2), True)):
        assert only(take(state, pre_vote("s2", 2), moment).effects, PreVoteReply).granted is granted
        assert only(take(state, request_vote("s2", 2), moment).effects, RequestVoteReply).granted is granted


# -- pre-votes ---------------------------------------------------------------------------------------------------------


def test_a_pre_vote_changes_nothing() -> None:
    state = bench.peer()
    after, effects = take(state, pre_vote("s2", 5))
    assert after is state or after == state
    reply = only(effects, PreVoteReply)
    assert (reply.granted, reply.term) == (True, 5)
    assert not bench.of_type(effects, Persist)


def test_a_refused_pre_vote_tells_the_own_term() -> None:
    reply = only(take(bench.peer(term=5), pre_vote("s2", 4)).effects, PreVoteReply)
    assert (reply.granted, reply.term) == (False, 5)


def test_a_pre_vote_is_only_for_a_newer_term() -> None:
    assert not only(take(bench.peer(term=5), pre_vote("s2", 5)).effects, PreVoteReply).granted


@pytest.mark.parametrize(
    ("name", "terms", "rival", "rival_last", "granted"),
    [
        ("s1", (1,), "s2", LogPosition(1, 1), False),
        ("s2", (1,), "s1", LogPosition(1, 1), True),
        ("s1", (1,), "s2", LogPosition(1, 2), True),
        ("s2", (1, 1), "s1", LogPosition(1, 1), False),
    ],
    ids=["equal logs, lower name", "equal logs, higher name", "lower name, shorter log", "higher name, longer log"],
)
def test_of_two_pre_candidates_the_better_log_wins_and_then_the_lower_name(
    name: str, terms: tuple[int, ...], rival: str, rival_last: LogPosition, granted: bool
) -> None:
    state = bench.pre_candidate(name, terms=terms)
    assert only(take(state, pre_vote(rival, 2, rival_last, to=name)).effects, PreVoteReply).granted is granted


def test_exactly_one_of_two_pre_candidates_goes_on() -> None:
    for terms in ((1,), (1, 1), (1, 2)):
        for other in ((1,), (1, 1), (1, 2)):
            s1, s2 = bench.pre_candidate("s1", terms=terms, term=2), bench.pre_candidate("s2", terms=other, term=2)
            to_s2 = only(take(s2, pre_vote("s1", 3, s1.log.last, to="s2")).effects, PreVoteReply)
            to_s1 = only(take(s1, pre_vote("s2", 3, s2.log.last)).effects, PreVoteReply)
            assert to_s1.granted is not to_s2.granted, (terms, other)


def test_a_pre_candidate_of_an_older_term_gives_way() -> None:
    assert only(take(bench.pre_candidate("s1"), pre_vote("s2", 3)).effects, PreVoteReply).granted


def test_a_plain_follower_compares_no_names() -> None:
    state = replace(bench.pre_candidate("s1"), role=Follower(NOW + 0.4))
    assert only(take(state, pre_vote("s2", 2)).effects, PreVoteReply).granted


# -- candidates that are asked for pre-votes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "asked"),
    [
        (bench.candidate(), pre_vote("s2", 2)),
        (bench.candidate(terms=(1, 1)), pre_vote("s2", 2)),
        (bench.candidate(terms=(1, 1)), pre_vote("s2", 3)),
    ],
    ids=["of an older term", "of an older term, with a shorter log", "of this term, with a shorter log"],
)
def test_a_candidate_asks_a_voter_again_that_would_rather_stand_itself(state: PeerState, asked: PreVote) -> None:
    """It was down when it was asked, or its vote is lost."""
    after, effects = take(state, asked)
    assert after == state, "it waits for the others as before"
    assert not only(effects, PreVoteReply).granted
    assert sent(effects, RequestVote, "s2") == [only(effects, RequestVote)]
    again = only(effects, RequestVote)
    assert (again.term, again.last, again.transfer) == (2, state.log.last, False)


@pytest.mark.parametrize(
    ("state", "asked"),
    [
        (bench.candidate(), pre_vote("s2", 3)),
        (bench.candidate(terms=(1, 1)), pre_vote("s2", 4)),
        (bench.candidate(votes=()), pre_vote("s2", 2)),
        (bench.candidate(), pre_vote("s7", 2)),
        (bench.pre_candidate(terms=(1, 1)), pre_vote("s2", 2)),
    ],
    ids=["that it lets stand", "of a newer term", "before its ballot is on disk", "a stranger", "before it has asked"],
)
def test_it_does_not_ask_one_again(state: PeerState, asked: PreVote) -> None:
    assert sent(take(state, asked).effects, RequestVote) == []


def test_nor_a_learner() -> None:
    members = Configuration(voters=bench.THREE.voters, learners=bench.configuration("s4").voters)
    assert sent(take(bench.candidate(members=members), pre_vote("s4", 2)).effects, RequestVote) == []
