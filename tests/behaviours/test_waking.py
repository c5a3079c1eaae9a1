"""A process that slept for longer than an election timeout gives up leadership, and listens before it stands."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from raft_actors.behaviours.deadlines import next_deadline
from raft_actors.protocol.effects import Effect, Persist, Refusal, Reject, Send
from raft_actors.protocol.events import (
    PeerDown,
    ReadsRequested,
    Slept,
    StopRequested,
    Tick,
    TransferRequested,
    WritesRequested,
)
from raft_actors.protocol.messages import PreVoteReply, ReadIndexReply, RequestVoteReply, TimeoutNow
from raft_actors.protocol.state import NEVER, Follower, Leader, PeerState, PreCandidate
from raft_actors.protocol.types import LogPosition, Moment, Settings
from tests.behaviours import bench
from tests.behaviours.bench import NOW, ack, at, of_type, only, sent, take, take_all

TIMEOUT = 0.6
"""The longest election timeout."""


def after_sleep(state: PeerState, seconds: float = TIMEOUT + 0.01) -> Moment:
    """So late for what it had to do next."""
    return at(next_deadline(state) + seconds)


def listens(state: PeerState, moment: Moment) -> bool:
    """Whether it would stand only after a timeout that begins now."""
    return isinstance(state.role, Follower) and state.role.election_deadline == moment.now + 0.45


# -- leaders -----------------------------------------------------------------------------------------------------------


def test_a_leader_leads_on_after_a_sleep_that_is_shorter() -> None:
    state = take(bench.leader(), ack("s2", 2, 2), at(NOW + 0.59)).state
    assert isinstance(state.role, Leader)


def test_no_sleep_of_a_leader_that_is_longer_goes_unnoticed() -> None:
    state = bench.leader(role={"heartbeat_deadline": NOW + 0.05})
    assert isinstance(take(state, ack("s2", 2, 2), at(NOW + 0.601)).state.role, Follower)


def test_a_leader_that_slept_longer_follows_in_its_term_and_knows_no_leader() -> None:
    state = bench.leader()
    now = after_sleep(state)
    after, effects = take(state, Tick(), now)
    assert listens(after, now)
    assert (after.term, after.leader, effects) == (2, None, ())


@pytest.mark.parametrize(
    ("event", "answer"),
    [
        (WritesRequested(7, (b"x",)), Reject(7, Refusal.ELECTION_IN_PROGRESS)),
        (ReadsRequested(7), Reject(7, Refusal.ELECTION_IN_PROGRESS)),
        (ReadsRequested(7, lease=True), Reject(7, Refusal.ELECTION_IN_PROGRESS)),
    ],
)
def test_it_gives_up_leadership_before_it_answers_anybody(event: ReadsRequested, answer: Reject) -> None:
    """BUG-26, BUG-27. Its lease may look good: a clock may have stood still with the process."""
    state = bench.leader(settings=Settings(lease_reads=True))
    role = bench.leading(state)
    bound = {name: replace(one, promised_until=NEVER) for name, one in role.progress.items()}
    state = replace(state, role=replace(role, progress=bound))
    assert take(state, event, after_sleep(state)).effects == (answer,)


def test_an_answer_that_waited_in_its_inbox_is_no_sign_of_a_quorum() -> None:
    """BUG-27: whoever sent it may follow somebody else by now."""
    state = take(bench.leader(), ReadsRequested(7)).state
    after, effects = take(state, ack("s2", 2, 2, number=1), after_sleep(state))
    assert not isinstance(after.role, Leader)
    assert effects == (Reject(7, Refusal.ELECTION_IN_PROGRESS),)


def test_a_follower_that_asked_for_a_read_is_told_that_it_had_no_effect() -> None:
    state = take(bench.leader(), bench.read_index("s2", 2)).state
    assert only(take(state, Tick(), after_sleep(state)).effects, ReadIndexReply).index is None


def test_it_helps_another_one_into_office_at_once() -> None:
    state = bench.leader()
    now = after_sleep(state)
    assert only(take(state, bench.pre_vote("s2", 3, LogPosition(2, 2)), now).effects, PreVoteReply).granted


def test_a_leader_that_is_a_quorum_alone_leads_on() -> None:
    """Nobody could have taken its place, and whoever waits for an election would wait for nothing."""
    state = bench.leader(members=bench.configuration("s1"))
    assert isinstance(take(state, Tick(), after_sleep(state)).state.role, Leader)
    assert isinstance(take(state, Slept()).state.role, Leader)


def test_a_lone_leader_that_slept_counts_on_no_lease_when_its_learners_vote() -> None:
    """What they promised is over by their clocks, whatever its own says."""
    state = bench.leader(members=bench.configuration("s1"), settings=Settings(lease_reads=True))
    assert not bench.leading(state).lease_given_up
    assert bench.leading(take(state, Slept()).state).lease_given_up


def test_a_hand_over_is_not_begun_after_a_sleep() -> None:
    state = bench.leader()
    effects = take(state, TransferRequested(7, "s2", 5.0), after_sleep(state)).effects
    assert sent(effects, TimeoutNow) == []
    assert sent(take(state, StopRequested(5.0), after_sleep(state)).effects, TimeoutNow) == []


# -- the others --------------------------------------------------------------------------------------------------------

OTHERS: dict[str, Callable[[], PeerState]] = {
    "follower": lambda: bench.following("s2"),
    "late follower": lambda: bench.following("s2", role=Follower(NOW + 0.45, forgiven=True)),
    "without leader": bench.peer,
    "pre-candidate": bench.pre_candidate,
    "candidate": bench.candidate,
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=list(OTHERS))
def test_everybody_else_listens_for_an_election_timeout_before_it_stands(make: Callable[[], PeerState]) -> None:
    state = make()
    now = after_sleep(state)
    after, effects = take(state, Tick(), now)
    assert listens(after, now)
    assert (after.term, effects) == (state.term, ())
    assert isinstance(bench.timed_out(after).state.role, PreCandidate), "and then it stands"


@pytest.mark.parametrize("make", OTHERS.values(), ids=list(OTHERS))
def test_a_sleep_that_is_told_is_like_one_that_is_seen(make: Callable[[], PeerState]) -> None:
    state = make()
    after, effects = take(state, Slept())
    assert listens(after, at())
    assert effects == ()


def test_a_candidate_that_slept_does_not_win_by_an_old_vote() -> None:
    state = bench.candidate()
    after, effects = take(state, bench.vote("s2", 2), after_sleep(state))
    assert isinstance(after.role, Follower)
    assert effects == ()


def test_a_pre_candidate_that_slept_does_not_stand_by_an_old_promise() -> None:
    state = bench.pre_candidate()
    after, effects = take(state, bench.pre_vote_reply("s2", 2, granted=True), after_sleep(state))
    assert (after.term, effects) == (1, ())


def test_a_candidate_that_slept_has_its_vote_still() -> None:
    state = bench.candidate()
    effects: tuple[Effect, ...] = take(state, bench.request_vote("s3", 2), after_sleep(state)).effects
    assert not only(effects, RequestVoteReply).granted


def test_a_follower_that_slept_takes_what_its_leader_sent_meanwhile() -> None:
    state = bench.following("s2")
    now = after_sleep(state)
    after, effects = take(state, bench.append("s2", 1, LogPosition(1, 1), bench.entries(2, 1)), now)
    assert of_type(effects, Persist)
    assert of_type(effects, Send)
    assert after.heard_at == now.now


def test_a_sleeper_listens_again_after_every_sleep() -> None:
    state = bench.peer()
    for _ in range(5):
        now = after_sleep(state)
        state = take(state, Tick(), now).state
        assert listens(state, now)


def test_the_death_of_a_leader_still_counts_after_a_sleep() -> None:
    state = bench.following("s2")
    now = after_sleep(state)
    state = take(state, PeerDown("s2"), now).state
    assert next_deadline(state) == pytest.approx(now.now + 0.01)


def test_who_never_stands_sleeps_as_it_likes() -> None:
    for state in (bench.unconfigured(), bench.following(role=Follower(NEVER), removed=9)):
        assert take(state, Slept(), at(NOW + 999)).state.role.election_deadline == NEVER
        assert take_all(state, Tick(), moment=at(NOW + 999)).role == state.role
