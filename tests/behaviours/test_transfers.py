"""A caller wants another peer to lead: what is refused, what happens, and what the caller is told."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from raft_actors.behaviours.attention import ANSWERS, concerns
from raft_actors.behaviours.deadlines import next_deadline
from raft_actors.protocol.configuration import Configuration, Member
from raft_actors.protocol.effects import Effect, ReadyToStop, Refusal, Reject, TransferAnswer, TransferRefusal
from raft_actors.protocol.events import (
    PeerDown,
    ReadsRequested,
    StopRequested,
    Tick,
    TransferRequested,
    WritesRequested,
)
from raft_actors.protocol.messages import RequestVoteReply, TimeoutNow
from raft_actors.protocol.progress import ProgressState
from raft_actors.protocol.state import NEVER, Leader, PeerState
from raft_actors.protocol.types import LogPosition, Settings
from tests.behaviours import bench
from tests.behaviours.bench import NOW, ack, append, at, leading, only, receivers, sent, take, take_all

TO_S2 = TransferRequested(7, "s2", 5.0)
TO_ANYBODY = TransferRequested(7, None, 5.0)
WRITE = WritesRequested(1, (b"x",))


def told(effects: tuple[Effect, ...]) -> TransferAnswer:
    return only(effects, TransferAnswer)


def answers(effects: tuple[Effect, ...]) -> list[TransferAnswer]:
    return bench.of_type(effects, TransferAnswer)


def with_progress(peer: PeerState, name: str, **changes: object) -> PeerState:
    """The leader knows something else of ``name``."""
    role = leading(peer)
    return replace(peer, role=replace(role, progress={**role.progress, name: replace(role.progress[name], **changes)}))


def far_behind(name: str = "s2") -> PeerState:
    """A leader that reads old entries from its store for a follower."""
    return with_progress(bench.leader(), name, state=ProgressState.LOADING, match_index=1, next_index=2)


# -- refused -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["s1", "s2", "s9", None])
def test_whoever_does_not_lead_says_who_does(target: str | None) -> None:
    request = TransferRequested(7, target, 5.0)
    expected = TransferAnswer(7, TransferRefusal.NOT_LEADER, "", "s2")
    assert take(bench.following("s2"), request).effects == (expected,)
    for state in (bench.peer(), bench.candidate(), bench.pre_candidate(), bench.unconfigured()):
        assert take(state, request).effects == (replace(expected, leader=None),)


def test_the_leader_itself_is_refused() -> None:
    assert take(bench.leader(), TransferRequested(7, "s1", 5.0)).effects == (
        TransferAnswer(7, TransferRefusal.LEADS, "s1", "s1"),
    )


def test_a_stranger_is_refused() -> None:
    effects = take(bench.leader(), TransferRequested(7, "s9", 5.0)).effects
    assert effects == (TransferAnswer(7, TransferRefusal.UNKNOWN, "s9", "s1"),)


def test_a_learner_is_refused_however_well_it_follows() -> None:
    members = Configuration(voters=bench.THREE.voters, learners=(Member("s4", bench.store("s4")),))
    state, effects = take(bench.leader(members=members), TransferRequested(7, "s4", 5.0))
    assert effects == (TransferAnswer(7, TransferRefusal.LEARNER, "s4", "s1"),)
    assert state == bench.leader(members=members), "nothing has changed"


def test_the_only_voter_can_hand_over_to_nobody() -> None:
    alone = Configuration(voters=bench.configuration("s1").voters, learners=bench.configuration("s4").voters)
    assert told(take(bench.leader(members=alone), TO_ANYBODY).effects).refusal is TransferRefusal.ALONE


def test_a_peer_that_was_silent_for_an_election_timeout_is_refused() -> None:
    state = take(bench.awake(bench.leader(), NOW + 0.58), ack("s3", 2, 2), at(NOW + 0.62)).state
    assert told(take(state, TO_S2, at(NOW + 0.62)).effects) == TransferAnswer(7, TransferRefusal.SILENT, "s2", "s1")


def test_a_peer_that_is_known_to_be_dead_is_refused() -> None:
    state = take(bench.leader(), PeerDown("s2")).state
    assert told(take(state, TO_S2).effects).refusal is TransferRefusal.SILENT


def test_a_peer_that_lost_its_state_is_refused_until_it_has_another_one() -> None:
    state = take(bench.leader(), ack("s2", 2, 2, wants=1)).state
    assert told(take(state, TO_S2).effects) == TransferAnswer(7, TransferRefusal.LOST_STATE, "s2", "s1")
    state = take(state, ack("s2", 2, 2)).state
    assert receivers(take(state, TO_S2).effects) == ["s2"]


def test_nobody_is_told_to_stand_if_nobody_can_lead() -> None:
    state = take_all(bench.leader(), PeerDown("s3"), ack("s2", 2, 2, wants=1))
    assert take(state, TO_ANYBODY).effects == (TransferAnswer(7, TransferRefusal.NOBODY, "", "s1"),)


def test_a_second_caller_is_refused_whomever_it_wants() -> None:
    waiting = take(far_behind(), TO_S2).state
    handing = take(bench.leader(), TO_S2).state
    for state in (waiting, handing):
        for target in ("s2", "s3", None):
            answer = told(take(state, TransferRequested(8, target, 5.0)).effects)
            assert answer == TransferAnswer(8, TransferRefusal.UNDER_WAY, "s2", "s1")


def test_a_stopping_leader_is_handing_over_already() -> None:
    state = take(bench.leader(), StopRequested(5.0)).state
    assert told(take(state, TransferRequested(8, "s3", 5.0)).effects).peer == "s2"


# -- handing over ------------------------------------------------------------------------------------------------------


def test_a_caught_up_peer_is_told_at_once() -> None:
    state, effects = take(bench.leader(), TO_S2)
    assert only(effects, TimeoutNow).term == 2
    assert receivers(effects) == ["s2"]
    assert answers(effects) == []
    assert next_deadline(state) <= NOW + 5


def test_no_writes_are_taken_and_no_lease_is_trusted_meanwhile() -> None:
    state = take(bench.leader(settings=Settings(lease_reads=True)), TO_S2).state
    assert take(state, WRITE).effects == (Reject(1, Refusal.ELECTION_IN_PROGRESS),)
    assert leading(state).lease_given_up


def test_a_peer_is_brought_up_to_date_first() -> None:
    state = take(bench.leader(), WRITE).state
    state, effects = take(state, TO_S2)
    assert effects == ()
    assert concerns(state) & ANSWERS, "its answer is waited for"
    state, effects = take(state, ack("s3", 2, 3))
    assert sent(effects, TimeoutNow) == [], "it is not about s3"
    assert receivers(take(state, ack("s2", 2, 3)).effects) == ["s2"]


def test_writes_go_on_until_a_peer_far_behind_is_within_reach() -> None:
    state, effects = take(far_behind(), TO_S2)
    assert effects == ()
    assert concerns(state) & ANSWERS
    assert not bench.of_type(take(state, WRITE).effects, Reject)
    state = with_progress(state, "s2", state=ProgressState.REPLICATE)
    state = take(state, Tick(), at(NOW + 0.01)).state
    assert bench.of_type(take(state, WRITE).effects, Reject)
    assert sent(take(state, ack("s2", 2, 2)).effects, TimeoutNow)


def test_no_lease_is_trusted_from_the_request_on() -> None:
    """The step that answers a read must not be the one in which the target is told to stand."""
    settings = Settings(lease_reads=True)
    state = with_progress(bench.leader(settings=settings), "s2", state=ProgressState.LOADING)
    state = with_progress(state, "s3", promised_until=NOW + 1.0)
    assert take(state, ReadsRequested(3, lease=True)).effects != ()
    state = take(state, TO_S2).state
    assert leading(state).transfer is None
    assert leading(state).lease_given_up


def test_the_best_is_the_most_caught_up_then_of_the_highest_priority_then_the_first() -> None:
    five = bench.configuration("s1", "s2", "s3", "s4", "s5")
    state = bench.leader(terms=(1, 2, 2, 2), members=five, match={"s2": 3, "s3": 4, "s4": 4, "s5": 4})
    assert receivers(take(state, TO_ANYBODY).effects) == ["s3"]
    state = with_progress(state, "s5", priority=1)
    assert receivers(take(state, TO_ANYBODY).effects) == ["s5"]


# -- what becomes of it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [TO_S2, TO_ANYBODY])
def test_the_caller_hears_of_the_new_leader_from_the_old_one(request_: TransferRequested) -> None:
    state = take(bench.leader(), request_).state
    state, effects = take(state, bench.request_vote("s2", 3, LogPosition(2, 2), transfer=True))
    assert only(effects, RequestVoteReply).granted
    assert answers(effects) == [], "it is not elected yet"
    state, effects = take(state, append("s2", 3, LogPosition(2, 2), bench.entries(3, 3)))
    assert told(effects) == TransferAnswer(7, None, "s2", "s2")
    assert state.handing is None
    assert answers(take(state, append("s2", 3, LogPosition(3, 3))).effects) == [], "told once"


def test_the_caller_hears_that_another_one_was_elected() -> None:
    state = take(bench.leader(), TO_S2).state
    effects = take(state, append("s3", 3, LogPosition(2, 2))).effects
    assert told(effects) == TransferAnswer(7, TransferRefusal.OTHER, "s2", "s3")


def test_whoever_is_elected_will_do_for_a_caller_who_named_nobody() -> None:
    state = take(bench.leader(), TO_ANYBODY).state
    assert told(take(state, append("s3", 3, LogPosition(2, 2))).effects).refusal is None


def test_an_old_leader_that_is_elected_again_says_so() -> None:
    state = take(bench.leader(), TO_S2).state
    state = take(state, bench.vote("s2", 3, granted=False)).state
    state = bench.awake(state, NOW + 0.45)
    state = take(state, bench.pre_vote_reply("s3", 4, granted=True), at(NOW + 0.45)).state
    state = bench.synced(state, at(NOW + 0.45)).state
    state, effects = take(state, bench.vote("s3", 4), at(NOW + 0.45))
    assert isinstance(state.role, Leader)
    assert told(effects) == TransferAnswer(7, TransferRefusal.NOT_ELECTED, "s2", "s1")


def test_a_peer_that_is_not_elected_within_an_election_timeout_is_given_up() -> None:
    state = take(bench.leader(), TO_S2).state
    state = take_all(state, ack("s2", 2, 2), ack("s3", 2, 2), Tick(), moment=at(NOW + 0.59))
    assert bench.of_type(take(state, WRITE).effects, Reject)
    state, effects = take(state, Tick(), at(NOW + 0.6))
    assert told(effects) == TransferAnswer(7, TransferRefusal.NOT_ELECTED, "s2", "s1")
    assert not bench.of_type(take(state, WRITE).effects, Reject), "it leads on"
    assert next_deadline(state) <= NOW + 0.66


def test_the_time_of_the_caller_is_kept_if_it_is_shorter() -> None:
    state = take(bench.leader(), TransferRequested(7, "s2", 0.2)).state
    assert answers(take(state, Tick(), at(NOW + 0.19)).effects) == []
    assert told(take(state, Tick(), at(NOW + 0.2)).effects).refusal is TransferRefusal.NOT_ELECTED


def test_a_peer_that_does_not_catch_up_in_time_was_told_nothing() -> None:
    state = take(far_behind(), TransferRequested(7, "s2", 0.2)).state
    assert next_deadline(take(state, Tick(), at(NOW + 0.19)).state) == NOW + 0.2
    state, effects = take(state, Tick(), at(NOW + 0.2))
    assert told(effects) == TransferAnswer(7, TransferRefusal.BEHIND, "s2", "s1")
    assert sent(effects, TimeoutNow) == []


def test_a_peer_that_is_near_and_does_not_get_the_last_entries_is_behind() -> None:
    state = take(bench.synced(take(bench.leader(), WRITE).state).state, TO_S2).state
    state = take_all(state, ack("s2", 2, 2), ack("s3", 2, 2), Tick(), moment=at(NOW + 0.59))
    assert told(take(state, Tick(), at(NOW + 0.6)).effects).refusal is TransferRefusal.BEHIND


@pytest.mark.parametrize("state", [far_behind(), take(bench.leader(), WRITE).state], ids=["waiting", "handing over"])
def test_a_peer_that_dies_before_it_was_told_is_given_up_at_once(state: PeerState) -> None:
    state = take(state, TO_S2).state
    assert answers(take(state, PeerDown("s3")).effects) == []
    state, effects = take(state, PeerDown("s2"))
    assert told(effects) == TransferAnswer(7, TransferRefusal.SILENT, "s2", "s1")
    assert leading(state).transfer is None


def test_a_peer_that_dies_after_it_was_told_may_still_have_been_elected() -> None:
    state = take(bench.leader(), TO_S2).state
    assert told(take(state, PeerDown("s2")).effects).refusal is TransferRefusal.NOT_ELECTED


def test_a_peer_that_falls_silent_while_it_is_waited_for_is_given_up() -> None:
    state = bench.awake(take(far_behind(), TO_S2).state, NOW + 0.55)
    state, effects = take(state, ack("s3", 2, 2), at(NOW + 0.59))
    assert answers(effects) == []
    assert told(take(state, Tick(), at(NOW + 0.61)).effects).refusal is TransferRefusal.SILENT


def test_a_peer_that_is_no_voter_any_more_is_given_up() -> None:
    state = take(far_behind(), TO_S2).state
    without = bench.configuration("s1", "s3")
    role = leading(state)
    role = replace(role, progress={"s3": role.progress["s3"]})
    state = replace(state, configurations=(*state.configurations, (2, without)), role=role)
    assert told(take(state, Tick(), at(NOW + 0.01)).effects).refusal is TransferRefusal.UNKNOWN


def test_if_nobody_was_named_the_next_one_is_told_when_the_first_dies() -> None:
    state = take(bench.leader(), TO_ANYBODY).state
    state, effects = take(state, PeerDown("s2"))
    assert receivers(effects) == ["s3"]
    assert answers(effects) == []
    assert told(take(state, PeerDown("s3")).effects) == TransferAnswer(7, TransferRefusal.NOT_ELECTED, "s3", "s1")


def test_if_nobody_was_named_and_all_die_before_one_is_near_the_caller_hears_that() -> None:
    state = take(with_progress(far_behind(), "s3", state=ProgressState.PROBE), TO_ANYBODY).state
    state, effects = take(state, PeerDown("s2"))
    assert effects == ()
    assert told(take(state, PeerDown("s3")).effects) == TransferAnswer(7, TransferRefusal.NOBODY, "", "s1")


def test_nobody_is_told_a_second_time_by_the_same_caller() -> None:
    state = take(bench.leader(), TO_ANYBODY).state
    for now in (NOW + 0.6, NOW + 1.2):
        state = take_all(bench.awake(state, now - 0.02), ack("s2", 2, 2), ack("s3", 2, 2), moment=at(now - 0.02))
        state, effects = take(state, Tick(), at(now))
    assert told(effects).refusal is TransferRefusal.NOT_ELECTED


def test_a_hand_over_is_gone_with_its_term_and_its_caller_is_not() -> None:
    state = take(bench.leader(), TO_S2).state
    state, effects = take(state, bench.vote("s3", 9))
    assert answers(effects) == []
    assert not isinstance(state.role, Leader)
    state, effects = take(state, append("s3", 9, LogPosition(2, 2)))
    assert told(effects).leader == "s3"


def test_if_nobody_leads_in_the_end_the_caller_hears_that() -> None:
    state = take(bench.leader(), TransferRequested(7, "s2", 0.4)).state
    state = take(state, bench.vote("s3", 9)).state
    assert next_deadline(state) == NOW + 0.4
    state, effects = take(state, Tick(), at(NOW + 0.4))
    assert told(effects) == TransferAnswer(7, TransferRefusal.NO_LEADER, "s2", None)
    assert state.handing is None


def test_a_leader_that_is_stopped_meanwhile_goes_on_with_the_same_successor() -> None:
    state = take(bench.leader(), TransferRequested(7, "s3", 5.0)).state
    state, effects = take(state, StopRequested(5.0))
    assert effects == ()
    state, effects = take(state, append("s3", 3, LogPosition(2, 2), bench.entries(3, 3)))
    assert told(effects).refusal is None
    assert ReadyToStop() in effects
    assert state.stopping == NEVER


def test_a_leader_that_is_stopped_meanwhile_turns_to_another_successor_if_the_first_dies() -> None:
    state = take_all(bench.leader(), TransferRequested(7, "s3", 5.0), StopRequested(5.0))
    state, effects = take(state, PeerDown("s3"))
    assert receivers(effects) == ["s2"]
    assert answers(effects) == [], "somebody may be elected still"
    assert told(take(state, append("s2", 3, LogPosition(2, 2))).effects).refusal is TransferRefusal.OTHER


def test_a_caller_is_answered_in_time_although_a_stop_goes_on_handing_over() -> None:
    state = take_all(bench.leader(), TransferRequested(7, "s3", 0.2), StopRequested(5.0), PeerDown("s3"))
    assert next_deadline(bench.awake(state, NOW + 0.19)) == pytest.approx(NOW + 0.2)
    state, effects = take(bench.awake(state, NOW + 0.19), Tick(), at(NOW + 0.2))
    assert told(effects) == TransferAnswer(7, TransferRefusal.NOT_ELECTED, "s3", "s1")
    assert leading(state).transfer is not None
    assert next_deadline(state) > NOW + 0.2
