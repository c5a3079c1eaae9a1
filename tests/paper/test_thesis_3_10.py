"""Section 3.10 of the Raft thesis (leadership transfer), sentence by sentence. A docstring paraphrases it."""

from __future__ import annotations

import pytest

from raft_actors.protocol.effects import Persist, Refusal, Reject
from raft_actors.protocol.events import PeerDown, StopRequested, Tick, TransferRequested, WritesRequested
from raft_actors.protocol.messages import AppendEntries, RequestVote, RequestVoteReply, TimeoutNow
from raft_actors.protocol.state import Candidate, Follower, Leader, PeerState, PreCandidate
from raft_actors.protocol.types import Ballot, LogPosition
from tests.behaviours import bench
from tests.behaviours.bench import (
    NOW,
    ack,
    append,
    at,
    of_type,
    only,
    receivers,
    sent,
    take,
    take_all,
)
from tests.behaviours.test_drifting import first_try, ready

REQUEST = TransferRequested(7, "s3", 5.0)
WRITE = WritesRequested(1, (b"x",))


def test_3_10_a_leader_that_must_step_down_for_a_restart_hands_over_first() -> None:
    """3.10: a leader that is to be restarted or removed would leave the cluster idle for an election timeout."""
    assert len(sent(take(bench.leader(), StopRequested(5.0)).effects, TimeoutNow)) == 1


def test_3_10_a_more_suitable_server_takes_over_from_time_to_time() -> None:
    """3.10: the leader checks now and then whether another server would be better suited, and transfers to it."""
    _, now = first_try(ready(), NOW)
    assert now < NOW + 1


def test_3_10_1_the_prior_leader_stops_accepting_client_requests() -> None:
    """3.10, step 1."""
    state = take(bench.leader(), REQUEST).state
    assert take(state, WRITE).effects == (Reject(1, Refusal.ELECTION_IN_PROGRESS),)


def test_3_10_2_it_brings_the_target_up_to_date_by_ordinary_replication() -> None:
    """3.10, step 2."""
    state, effects = take(bench.leader(match={"s3": 1}), WRITE)
    assert "s3" in receivers(effects)
    state, effects = take(state, REQUEST)
    assert sent(effects, TimeoutNow) == []
    state, effects = take(state, bench.nack("s3", 2, 2, LogPosition(1, 1)))
    assert [one.index for one in only(effects, AppendEntries).entries] == [2, 3]
    assert sent(take(state, ack("s3", 2, 3)).effects, TimeoutNow, "s3")


def test_3_10_3_then_it_sends_timeout_now_which_acts_like_the_election_timer() -> None:
    """3.10, step 3: the target starts a new election, incrementing its term and becoming a candidate."""
    state, effects = take(bench.following("s2"), bench.timeout_now("s2", 1))
    assert isinstance(state.role, Candidate)
    assert state.ballot == Ballot(2, "s1")
    assert [message.term for message in sent(effects, RequestVote)] == [2, 2]
    assert isinstance(effects[0], Persist)


def test_3_10_the_targets_next_message_makes_the_prior_leader_step_down() -> None:
    """3.10: it carries the new term; with that the transfer is complete."""
    state = take(bench.leader(), REQUEST).state
    state, effects = take(state, bench.request_vote("s3", 3, LogPosition(2, 2), transfer=True))
    assert isinstance(state.role, Follower)
    assert state.term == 3
    assert only(effects, RequestVoteReply).granted


def test_3_10_a_transfer_that_takes_an_election_timeout_is_aborted_and_requests_are_accepted_again() -> None:
    """3.10: the target may fail; the cluster must resume client operations."""
    state = take(bench.leader(), REQUEST).state
    state = take_all(state, ack("s2", 2, 2), ack("s3", 2, 2), Tick(), moment=at(NOW + 0.59))
    state = take(state, Tick(), at(NOW + 0.6)).state
    assert isinstance(state.role, Leader)
    assert not of_type(take(state, WRITE).effects, Reject)


def aborted() -> PeerState:
    """A leader that told ``s3`` to stand, gave up, and took a write."""
    return take_all(bench.leader(), REQUEST, PeerDown("s3"), WRITE)


def test_3_10_a_target_that_was_only_slow_costs_an_extra_election_at_worst() -> None:
    """3.10: if the prior leader was mistaken, an election follows, after which client operations go on."""
    state, effects = take(aborted(), bench.request_vote("s3", 3, LogPosition(2, 2), transfer=True))
    assert not only(effects, RequestVoteReply).granted, "it lacks what was written meanwhile"
    assert isinstance(bench.timed_out(state).state.role, PreCandidate), "and stands itself"


@pytest.mark.parametrize("name", ["s2", "s3"])
def test_4_2_3_a_request_for_a_vote_that_a_leader_asked_for_is_heard_although_there_is_a_leader(name: str) -> None:
    """4.2.3: leadership transfer must not be stopped by those who hear a leader; it says so in its requests."""
    state = bench.following("s2" if name == "s3" else "s3")
    assert not only(take(state, bench.request_vote(name, 2)).effects, RequestVoteReply).granted
    assert only(take(state, bench.request_vote(name, 2, transfer=True)).effects, RequestVoteReply).granted


def test_3_10_the_old_leader_follows_the_new_one() -> None:
    """3.10: there is one leader again."""
    state = take(bench.leader(), REQUEST).state
    state = take(state, append("s3", 3, LogPosition(2, 2), bench.entries(3, 3))).state
    assert state.leader == "s3"
