"""Standing for election: pre-votes, votes, and what a refusal or a slow disk means."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from raft_actors.behaviours.deadlines import next_deadline
from raft_actors.behaviours.transition import become_follower
from raft_actors.protocol.configuration import Configuration, Member
from raft_actors.protocol.effects import Persist, Reject
from raft_actors.protocol.entry import EntryKind
from raft_actors.protocol.events import PeerDown, Persisted, ReadsRequested, Tick
from raft_actors.protocol.messages import AppendEntries, PreVote, RequestVote
from raft_actors.protocol.state import NEVER, Candidate, Follower, Leader, PreCandidate
from raft_actors.protocol.types import Ballot, LogPosition, Settings
from tests.behaviours import bench
from tests.behaviours.bench import (
    NOW,
    at,
    only,
    persist_then_send,
    pre_vote_reply,
    receivers,
    request_vote,
    sent,
    synced,
    take,
    take_all,
    timed_out,
    vote,
)

NO_PRE_VOTE = Settings(pre_vote=False)


def test_a_silent_leader_is_asked_about_before_anybody_is_disturbed() -> None:
    state, effects = timed_out(bench.following("s2"))
    assert isinstance(state.role, PreCandidate)
    assert (state.term, state.leader) == (1, None)
    assert [(message.term, message.last) for message in sent(effects, PreVote)] == [(2, LogPosition(1, 1))] * 2
    assert receivers(effects) == ["s2", "s3"]
    assert not bench.of_type(effects, Persist), "a pre-vote stores nothing"


def test_a_timeout_is_drawn_anew_each_time() -> None:
    state = timed_out(bench.peer(), jitter=0.0).state
    now = NOW + 0.45
    assert next_deadline(state) == pytest.approx(now + 0.3)
    assert next_deadline(timed_out(state, jitter=0.9).state) == pytest.approx(now + 0.3 + 0.57)


def test_a_quorum_of_pre_votes_starts_the_election() -> None:
    state = timed_out(bench.peer()).state
    state, effects = take(state, pre_vote_reply("s2", 2, granted=True))
    assert isinstance(state.role, Candidate)
    assert state.ballot == Ballot(2, "s1")
    assert persist_then_send(effects[:2], RequestVote).last == LogPosition(1, 1)
    assert receivers(effects) == ["s2", "s3"]


def test_without_pre_vote_the_election_starts_at_once() -> None:
    state, effects = timed_out(bench.peer(settings=NO_PRE_VOTE))
    assert state.ballot == Ballot(2, "s1")
    assert isinstance(effects[0], Persist)
    assert len(sent(effects, RequestVote)) == 2


@pytest.mark.parametrize("settings", [Settings(), NO_PRE_VOTE], ids=["pre-votes", "none"])
def test_only_who_was_told_to_stand_says_so_when_it_asks_for_votes(settings: Settings) -> None:
    """Thesis §3.10: such a request is granted although a leader is heard; any other would disturb it."""
    state, effects = timed_out(bench.following("s2", settings=settings))
    if settings.pre_vote:
        state, effects = take(state, pre_vote_reply("s3", 2, granted=True))
    assert [message.transfer for message in sent(effects, RequestVote)] == [False, False]
    told = take(bench.following("s2", settings=settings), bench.timeout_now("s2", 1)).effects
    assert [message.transfer for message in sent(told, RequestVote)] == [True, True]


def test_one_pre_vote_counts_once() -> None:
    five = bench.configuration("s1", "s2", "s3", "s4", "s5")
    state = timed_out(bench.peer(members=five)).state
    state = take_all(state, *[pre_vote_reply("s2", 2, granted=True)] * 3)
    assert isinstance(state.role, PreCandidate)


def test_a_pre_vote_for_another_term_counts_for_nothing() -> None:
    state = timed_out(bench.peer(term=4)).state
    state = take_all(state, pre_vote_reply("s2", 4, granted=True), pre_vote_reply("s2", 9, granted=True))
    assert isinstance(state.role, PreCandidate)
    assert state.term == 4, "the term of a granted pre-vote is only asked for"


def test_a_refusal_in_a_newer_term_is_a_newer_term() -> None:
    state = take(timed_out(bench.peer()).state, pre_vote_reply("s2", 7, granted=False)).state
    assert isinstance(state.role, Follower)
    assert state.term == 7


@pytest.mark.parametrize("voter_term", [1, 4])
def test_a_refused_pre_candidate_tries_again_soon(voter_term: int) -> None:
    """The voter may only have heard the leader a little longer; its term may be the lower one."""
    state = timed_out(bench.peer(term=4)).state
    now = NOW + 0.46
    state = take(state, pre_vote_reply("s2", voter_term, granted=False), at(now, 0.0)).state
    assert isinstance(state.role, PreCandidate), "the third may still grant its vote"
    assert next_deadline(state) == pytest.approx(now + 0.025)
    state = take(state, pre_vote_reply("s3", voter_term, granted=False), at(now, 0.0)).state
    assert isinstance(state.role, Follower), "it cannot win any more"
    assert next_deadline(state) == pytest.approx(now + 0.025)


def test_a_retry_waits_for_a_promise() -> None:
    state = replace(timed_out(bench.peer()).state, no_vote_until=NOW + 0.6)
    state = take(state, pre_vote_reply("s2", 1, granted=False), at(NOW + 0.46)).state
    assert next_deadline(state) == NOW + 0.6


# -- candidates --------------------------------------------------------------------------------------------------------


def test_a_candidate_leads_with_a_quorum_of_votes_and_its_own_on_disk() -> None:
    state = timed_out(bench.peer(settings=NO_PRE_VOTE)).state
    state = synced(state).state
    state, effects = take(state, vote("s3", 2))
    assert isinstance(state.role, Leader)
    assert (state.leader, state.role.first_index) == ("s1", 2)
    assert [one.entries[0].kind for one in sent(effects, AppendEntries)] == [EntryKind.NOOP] * 2
    assert only(effects, Persist).entries == state.log.tail[1:]


def test_its_own_vote_counts_only_when_it_is_on_disk() -> None:
    state = timed_out(bench.peer(settings=NO_PRE_VOTE)).state
    state = take_all(state, vote("s2", 2), vote("s3", 2))
    assert isinstance(state.role, Candidate)
    assert isinstance(synced(state).state.role, Leader)


def test_the_sync_of_an_older_ballot_is_no_vote() -> None:
    state = timed_out(bench.peer(settings=NO_PRE_VOTE)).state
    state = take(state, vote("s2", 2)).state
    assert isinstance(take(state, Persisted(Ballot(1), state.log.last)).state.role, Candidate)


def test_one_voter_counts_once() -> None:
    five = bench.configuration("s1", "s2", "s3", "s4", "s5")
    state = take_all(bench.candidate(members=five), vote("s2", 2), vote("s2", 2), vote("s2", 2))
    assert isinstance(state.role, Candidate)
    assert isinstance(take(state, vote("s3", 2)).state.role, Leader)


def test_votes_of_an_earlier_election_are_forgotten() -> None:
    five = bench.configuration("s1", "s2", "s3", "s4", "s5")
    state = take(bench.candidate(members=five, settings=NO_PRE_VOTE), vote("s2", 2)).state
    state = synced(timed_out(state).state).state
    assert state.term == 3
    state = take_all(state, vote("s2", 2), vote("s4", 3))
    assert isinstance(state.role, Candidate)
    assert state.role.votes == {"s1", "s4"}


def test_votes_of_strangers_and_learners_count_for_nothing() -> None:
    members = Configuration(voters=bench.THREE.voters, learners=bench.configuration("s4").voters)
    state = take_all(bench.candidate(members=members), vote("s9", 2), vote("s4", 2))
    assert isinstance(state.role, Candidate)


def test_a_candidate_needs_both_halves_of_a_joint_configuration() -> None:
    """BUG-68."""
    joint = Configuration(voters=bench.THREE.voters, outgoing=bench.configuration("s1", "s4", "s5").voters)
    state = take_all(bench.candidate(members=joint), vote("s2", 2), vote("s3", 2))
    assert isinstance(state.role, Candidate)
    assert isinstance(take(state, vote("s5", 2)).state.role, Leader)


def test_a_candidate_that_cannot_win_tries_again_soon() -> None:
    state = take(bench.candidate(), vote("s2", 2, granted=False), at(NOW, 0.0)).state
    assert next_deadline(state) == NOW + 0.45, "the third may still vote"
    state = take(state, vote("s3", 2, granted=False), at(NOW, 0.0)).state
    assert next_deadline(state) == pytest.approx(NOW + 0.025)


def test_a_candidate_that_runs_out_of_time_asks_for_pre_votes_first() -> None:
    state, effects = timed_out(bench.candidate())
    assert isinstance(state.role, PreCandidate)
    assert state.term == 2
    assert [message.term for message in sent(effects, PreVote)] == [3, 3]


def test_a_candidate_whose_ballot_is_not_on_disk_spends_no_further_term() -> None:
    state = timed_out(bench.peer(settings=NO_PRE_VOTE)).state
    for _ in range(3):
        state, effects = timed_out(state)
        assert effects == ()
    assert state.term == 2
    assert isinstance(synced(take(state, vote("s2", 2)).state).state.role, Leader)


def test_the_timeout_of_a_candidate_counts_from_its_sync() -> None:
    state = timed_out(bench.peer(settings=NO_PRE_VOTE)).state
    state = synced(state, at(NOW + 0.8)).state
    assert next_deadline(state) == NOW + 0.8 + 0.45


def test_a_sync_that_is_told_twice_gives_a_candidate_no_more_time() -> None:
    state = synced(timed_out(bench.peer(settings=NO_PRE_VOTE)).state).state
    assert synced(state, at(NOW + 0.7)).state == state


def test_a_refusal_never_postpones_what_is_due_sooner() -> None:
    now = NOW + 0.44
    for state in (bench.pre_candidate(), bench.candidate()):
        for voter in ("s2", "s3"):
            refused = pre_vote_reply(voter, 1, granted=False) if state.term == 1 else vote(voter, 2, granted=False)
            state = take(state, refused, at(now, 0.9)).state
            assert next_deadline(state) == NOW + 0.45


def test_a_candidate_that_hears_the_leader_of_its_term_follows_it() -> None:
    state = take(bench.candidate(), bench.append("s2", 2, LogPosition(1, 1))).state
    assert isinstance(state.role, Follower)
    assert (state.leader, state.ballot) == ("s2", Ballot(2, "s1"))


@pytest.mark.parametrize("term", [None, 2])
def test_who_gives_up_within_its_term_has_voted_all_the_same(term: int | None) -> None:
    """BUG-32: a vote given twice in one term may elect two leaders."""
    assert become_follower(bench.candidate(), at(), term=term)[0].ballot == Ballot(2, "s1")
    assert become_follower(bench.candidate(), at(), term=3)[0].ballot == Ballot(3, None)


def test_alone_a_peer_leads_after_one_sync_and_no_message() -> None:
    state, effects = timed_out(bench.peer(members=bench.configuration("s1")))
    assert isinstance(state.role, Candidate)
    assert [type(effect) for effect in effects] == [Persist]
    state, effects = synced(state)
    assert isinstance(state.role, Leader)
    assert state.commit_index == 0, "its no-op is not on disk yet"
    assert synced(state).state.commit_index == 2


def test_a_learner_never_stands() -> None:
    members = Configuration(voters=bench.configuration("s2", "s3").voters, learners=bench.configuration("s1").voters)
    state = take(bench.peer(members=members, role=Follower()), bench.append("s2", 1, LogPosition(1, 1))).state
    for _ in range(3):
        state, effects = take(state, Tick(), at(next_deadline(state)))
        assert (type(state.role), state.term, state.leader) == (Follower, 1, None)
    assert bench.receivers(effects) == ["s2", "s3"], "who is silent is asked whether it is a member still"
    voter = bench.peer("s2", terms=(1, 1))
    asked = bench.sent(effects, PreVote, "s2")[0]
    assert take(voter, asked).state == voter, "which changes nothing there"


def test_a_store_whose_name_another_one_has_asks_whether_it_is_a_member() -> None:
    """A newcomer that lags knows only a configuration in which the store before it voted."""
    members = Configuration((*bench.configuration("s2", "s3").voters, Member("s1", "the store before")))
    state = bench.peer(members=members, role=Follower(NOW))
    state, effects = take(state, Tick())
    assert (type(state.role), bench.receivers(effects)) == (Follower, ["s2", "s3"])


# -- lateness, and the death of a leader -------------------------------------------------------------------------------


def test_a_late_wake_up_is_forgiven_once() -> None:
    """BUG-73: this process was starved, not the leader."""
    state = bench.following("s2")
    late = at(NOW + 0.45 + 0.06)
    state, effects = take(state, Tick(), late)
    assert effects == ()
    assert isinstance(state.role, Follower)
    assert next_deadline(state) == pytest.approx(late.now + 0.45)
    assert isinstance(take(state, Tick(), at(late.now + 0.45 + 0.06)).state.role, PreCandidate)


def test_a_heartbeat_restores_forgiveness() -> None:
    state = take(bench.following("s2"), Tick(), at(NOW + 0.6)).state
    state = take(state, bench.append("s2", 1, LogPosition(1, 1)), at(NOW + 0.7)).state
    assert isinstance(take(state, Tick(), at(NOW + 2.0)).state.role, Follower)


def test_a_wake_up_in_time_is_not_late() -> None:
    assert isinstance(take(bench.following("s2"), Tick(), at(NOW + 0.45 + 0.04)).state.role, PreCandidate)


def test_lateness_is_not_forgiven_to_who_knows_no_leader() -> None:
    assert isinstance(take(bench.peer(), Tick(), at(NOW + 1.0)).state.role, PreCandidate)


def test_the_death_of_the_leader_is_followed_by_an_election_at_once() -> None:
    state, effects = take(bench.following("s2"), PeerDown("s2"), at(NOW, 0.5))
    assert effects == ()
    assert state.leader is None
    assert next_deadline(state) == pytest.approx(NOW + 0.01)
    assert isinstance(take(state, Tick(), at(NOW + 0.01)).state.role, PreCandidate)


def test_the_death_of_the_leader_postpones_nothing() -> None:
    assert next_deadline(take(bench.following("s2"), PeerDown("s2"), at(NOW + 0.445, 0.9)).state) == NOW + 0.45


def test_the_death_of_another_follower_means_nothing() -> None:
    state = bench.following("s2")
    assert take(state, PeerDown("s3")).state == state


def test_the_death_of_the_candidate_that_got_our_vote_means_as_much_as_that_of_a_leader() -> None:
    state = take(bench.peer(), bench.request_vote("s2", 2)).state
    assert next_deadline(take(state, PeerDown("s2"), at(NOW, 0.5)).state) == pytest.approx(NOW + 0.01)
    assert take(state, PeerDown("s3")).state == state


def test_the_death_of_one_that_got_our_vote_means_nothing_while_another_one_leads() -> None:
    state = bench.following("s2", term=2, voted_for="s3")
    assert take(state, PeerDown("s3")).state == state


def test_the_death_of_the_leader_breaks_no_promise() -> None:
    state = bench.following("s2", no_vote_until=NOW + 0.3, settings=Settings(lease_reads=True))
    assert next_deadline(take(state, PeerDown("s2")).state) == NOW + 0.3


def test_the_death_of_the_leader_does_not_make_a_learner_stand() -> None:
    state = bench.following("s2", role=Follower(NEVER))
    assert next_deadline(take(state, PeerDown("s2")).state) == NEVER


def test_reads_sent_to_a_dead_leader_are_turned_away() -> None:
    state = take(bench.following("s2"), ReadsRequested(7)).state
    state, effects = take(state, PeerDown("s2"))
    assert only(effects, Reject).token == 7
    assert state.forwarded == ()


# -- TimeoutNow --------------------------------------------------------------------------------------------------------


def test_told_by_its_leader_a_follower_stands_at_once() -> None:
    state, effects = take(bench.following("s2"), bench.timeout_now("s2", 1))
    assert state.ballot == Ballot(2, "s1")
    assert all(message.transfer for message in sent(effects, RequestVote))
    assert isinstance(effects[0], Persist)


def test_nobody_but_its_leader_can_tell_it_to() -> None:
    state = bench.following("s2")
    assert take(state, bench.timeout_now("s3", 1)).state == state
    learner = Configuration(voters=bench.configuration("s2", "s3").voters, learners=bench.configuration("s1").voters)
    assert take(bench.following("s2", members=learner), bench.timeout_now("s2", 1)).state.term == 1


def test_a_second_timeout_now_changes_nothing() -> None:
    state = take(bench.following("s2"), bench.timeout_now("s2", 1)).state
    again, effects = take(state, bench.timeout_now("s2", 1))
    assert again == state
    assert effects == ()


def test_a_rival_of_a_newer_term_is_voted_for() -> None:
    state, _ = take(bench.candidate(), request_vote("s2", 3))
    assert isinstance(state.role, Follower)
    assert state.ballot == Ballot(3, "s2")
