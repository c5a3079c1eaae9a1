"""A graceful stop: hand leadership over first, if anybody can take it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from raft_actors.behaviours.deadlines import next_deadline
from raft_actors.protocol.configuration import Configuration
from raft_actors.protocol.effects import ReadyToStop, Refusal, Reject
from raft_actors.protocol.events import PeerDown, StopRequested, Tick, TransferRequested, WritesRequested
from raft_actors.protocol.messages import RequestVoteReply, TimeoutNow
from raft_actors.protocol.state import NEVER, Leader, PeerState
from raft_actors.protocol.types import LogPosition
from tests.behaviours import bench
from tests.behaviours.bench import NOW, ack, append, at, leading, only, receivers, sent, take, take_all

STOP = StopRequested(5.0)


def ready(effects: tuple[object, ...]) -> bool:
    return ReadyToStop() in effects


@pytest.mark.parametrize(
    "state",
    [
        bench.unconfigured(),
        bench.following(),
        bench.candidate(),
        bench.leader(members=bench.configuration("s1")),
        take_all(bench.leader(), PeerDown("s2"), PeerDown("s3")),
    ],
    ids=["unconfigured", "follower", "candidate", "alone", "others dead"],
)
def test_nobody_to_hand_over_to_is_ready_at_once(state: PeerState) -> None:
    assert take(state, STOP).effects == (ReadyToStop(),)


def test_a_caught_up_successor_is_told_at_once() -> None:
    state, effects = take(bench.leader(), STOP)
    assert only(effects, TimeoutNow).term == 2
    assert receivers(effects) == ["s2"], "the first of equals"
    assert not ready(effects)
    assert next_deadline(state) <= NOW + 5


def test_the_most_caught_up_voter_takes_over() -> None:
    learner = bench.configuration("s4").voters
    members = Configuration(voters=bench.THREE.voters, learners=learner)
    state = bench.leader(terms=(1, 2, 2, 2), members=members, match={"s2": 2, "s3": 3, "s4": 4})
    state = take(state, STOP).state
    transfer = leading(state).transfer
    assert transfer is not None
    assert transfer.target == "s3"


def test_a_successor_is_brought_up_to_date_first() -> None:
    state = take(bench.leader(), WritesRequested(1, (b"x",))).state
    state, effects = take(state, STOP)
    assert sent(effects, TimeoutNow) == []
    state, effects = take(bench.synced(state).state, ack("s2", 2, 3))
    assert receivers(effects) == ["s2"]
    assert len(sent(effects, TimeoutNow)) == 1
    assert sent(take(state, ack("s2", 2, 3)).effects, TimeoutNow) == [], "told once"


@pytest.mark.parametrize("last", ["our disk", "another follower"])
def test_a_successor_stands_only_when_all_is_known_to_be_committed(last: str) -> None:
    """It has everything, but if it led now, we would not know what became of the writes of our callers."""
    state = take(bench.leader(), WritesRequested(1, (b"x",))).state
    state, effects = take(take(state, STOP).state, ack("s2", 2, 3))
    assert sent(effects, TimeoutNow) == []
    effects = (bench.synced(state) if last == "our disk" else take(state, ack("s3", 2, 3))).effects
    assert len(sent(effects, TimeoutNow, "s2")) == 1


def test_who_goes_on_tells_its_successor_before_all_is_committed() -> None:
    """Such as from a leader whose disk is slow; it hears what became of the writes as a follower."""
    state = take(bench.leader(), WritesRequested(1, (b"x",))).state
    state = take(state, TransferRequested(5, "s2", 5.0)).state
    effects = take(state, ack("s2", 2, 3)).effects
    assert len(sent(effects, TimeoutNow, "s2")) == 1


def test_a_stopping_leader_that_is_alone_no_more_or_was_elected_again_hands_over() -> None:
    state = replace(bench.leader(), stopping=NOW + 1e8, stop_index=2)
    state, effects = take(state, Tick())
    assert len(sent(effects, TimeoutNow, "s2")) == 1
    assert not ready(effects)
    state = take(state, bench.request_vote("s2", 3, LogPosition(2, 2), transfer=True)).state
    assert ready(take(state, append("s2", 3, LogPosition(2, 2), bench.entries(3, 3))).effects)


def test_a_stopping_leader_that_has_lost_the_others_meanwhile_is_ready() -> None:
    state = replace(take_all(bench.leader(), PeerDown("s2"), PeerDown("s3")), stopping=NOW + 1e8, stop_index=2)
    assert ready(take(state, Tick()).effects)


def test_who_was_silent_for_an_election_timeout_is_no_successor() -> None:
    state = take(bench.awake(bench.leader(), NOW + 0.58), ack("s3", 2, 2), at(NOW + 0.62)).state
    assert receivers(take(state, STOP, at(NOW + 0.62)).effects) == ["s3"]


def test_no_writes_are_taken_during_a_hand_over() -> None:
    state = take(bench.leader(), STOP).state
    assert take(state, WritesRequested(7, (b"x",))).effects == (Reject(7, Refusal.ELECTION_IN_PROGRESS),)


def test_the_old_leader_votes_for_its_successor_and_stops_when_it_leads() -> None:
    state = take(bench.leader(), STOP).state
    state, effects = take(state, bench.request_vote("s2", 3, LogPosition(2, 2), transfer=True))
    assert only(effects, RequestVoteReply).granted
    assert not ready(effects)
    state, effects = take(state, append("s2", 3, LogPosition(2, 2), bench.entries(3, 3)))
    assert ready(effects)
    assert state.stopping == NEVER, "told once"


def test_a_hand_over_that_takes_too_long_is_given_up() -> None:
    state = take(bench.leader(), StopRequested(0.2)).state
    state, effects = take(state, Tick(), at(NOW + 0.19))
    assert not ready(effects)
    assert next_deadline(state) <= NOW + 0.2
    state, effects = take(state, Tick(), at(NOW + 0.2))
    assert ready(effects)
    assert leading(state).transfer is None


def test_a_stop_without_time_still_tells_the_successor() -> None:
    effects = take(bench.leader(), StopRequested(0.0)).effects
    assert len(sent(effects, TimeoutNow)) == 1
    assert effects[-1] == ReadyToStop()


def test_a_hand_over_that_was_no_stop_leaves_the_leader_leading() -> None:
    state = take(bench.leader(), StopRequested(0.2)).state
    state = replace(state, stopping=NEVER)
    state, effects = take(state, Tick(), at(NOW + 0.2))
    assert not ready(effects)
    assert isinstance(state.role, Leader)
    assert bench.of_type(take(state, WritesRequested(7, (b"x",))).effects, Reject) == []


def test_a_stopping_leader_turns_from_a_dead_successor_to_the_next() -> None:
    state = take(bench.leader(), STOP).state
    assert receivers(take(state, PeerDown("s3")).effects) == []
    state, effects = take(state, PeerDown("s2"))
    assert receivers(effects) == ["s3"]
    assert not ready(effects)
    state, effects = take(state, PeerDown("s3"))
    assert ready(effects), "nobody is left"
    assert leading(state).transfer is None


def test_a_successor_that_does_not_stand_is_told_again() -> None:
    state = take(bench.leader(), STOP).state
    state = take_all(bench.awake(state, NOW + 0.55), ack("s2", 2, 2), ack("s3", 2, 2), moment=at(NOW + 0.55))
    state, effects = take(state, Tick(), at(NOW + 0.6))
    assert receivers(effects)[0] == "s2"
    assert [one.term for one in sent(effects, TimeoutNow)] == [2]
    assert not ready(effects)


def test_a_successor_is_told_to_stand_once() -> None:
    state, effects = take(bench.leader(), STOP)
    assert len(sent(effects, TimeoutNow)) == 1
    for name in ("s2", "s3"):
        state, effects = take(state, ack(name, 2, 2))
        assert sent(effects, TimeoutNow) == []


def test_a_successor_that_answered_has_an_election_timeout() -> None:
    transfer = leading(take(bench.leader(), STOP).state).transfer
    assert transfer is not None
    assert transfer.deadline == NOW + 0.6


def test_a_successor_that_never_answered_has_two_heartbeats() -> None:
    """It may be dead since before our election."""
    state = bench.leader(match={"s2": 0, "s3": 0})
    state = take(state, STOP).state
    assert next_deadline(take(state, Tick(), at(NOW + 0.09)).state) == pytest.approx(NOW + 0.1)
    state = take(state, Tick(), at(NOW + 0.1)).state
    transfer = leading(state).transfer
    assert transfer is not None
    assert transfer.target == "s3"
    assert ready(take(state, Tick(), at(NOW + 0.2)).effects)


def test_the_death_of_the_target_of_a_hand_over_that_is_no_stop_ends_it() -> None:
    state = replace(take(bench.leader(), STOP).state, stopping=NEVER)
    state, effects = take(state, PeerDown("s2"))
    assert leading(state).transfer is None
    assert not ready(effects)


def test_who_leads_no_more_stays_for_one_election_and_no_longer() -> None:
    """Its vote may be needed."""
    state = take(bench.leader(), STOP).state
    state = take(state, bench.vote("s3", 9)).state
    assert not ready(take(state, Tick(), at(NOW + 0.59)).effects)
    assert ready(take(state, Tick(), at(NOW + 0.6)).effects)


def handed_over_with(commit: int) -> PeerState:
    """Who was asked to stop with three entries, of which its disk has two, and so many known as committed; s2 leads."""
    state = take(take(bench.leader(), WritesRequested(1, (b"x",))).state, STOP).state
    if commit == 3:
        state = take_all(state, ack("s2", 2, 3), ack("s3", 2, 3))
    return take(state, append("s2", 3, LogPosition(2, 3), commit=commit)).state


def test_who_has_handed_over_stays_until_its_machine_has_what_its_callers_wait_for() -> None:
    state = handed_over_with(3)
    assert not ready(take(state, Tick(), at(NOW + 0.6)).effects), (
        "what is known to be committed has all the time there is"
    )
    assert next_deadline(replace(state, role=replace(state.role, election_deadline=NEVER))) == NOW + 5
    state, effects = bench.synced(state, at(NOW + 1))
    assert ready(effects)
    assert state.handed == 3


def test_who_has_handed_over_waits_for_the_fate_of_its_last_entries_for_one_election() -> None:
    state = handed_over_with(2)
    known = bench.synced(take(state, append("s2", 3, LogPosition(2, 3), commit=3)).state)
    assert ready(known.effects)
    assert not ready(bench.synced(state).effects)
    assert ready(take(state, Tick(), at(NOW + 0.6)).effects)


def test_nobody_waits_for_entries_that_the_new_leader_overwrote() -> None:
    state = handed_over_with(2)
    state, effects = take(state, append("s2", 3, LogPosition(2, 2), bench.entries(3, 3)))
    state, effects = take(bench.synced(state).state, append("s2", 3, LogPosition(3, 3), commit=3))
    assert ready(effects)


def test_who_is_alone_stops_when_its_disk_and_its_machine_have_everything() -> None:
    state = bench.leader(members=bench.configuration("s1"))
    state = take(state, WritesRequested(1, (b"x",))).state
    state, effects = take(state, STOP)
    assert not ready(effects)
    assert take(state, WritesRequested(7, (b"y",))).effects == (Reject(7, Refusal.ELECTION_IN_PROGRESS),)
    assert ready(take(state, Tick(), at(NOW + 5)).effects), "its time is up"
    assert ready(bench.synced(state).effects)


def test_a_leader_deposed_while_it_stops_waits_for_a_new_leader_or_its_time() -> None:
    state = take(bench.leader(), StopRequested(0.5)).state
    state, effects = take(state, bench.vote("s3", 9))
    assert not ready(effects)
    assert ready(take(state, Tick(), at(NOW + 0.5)).effects)
    assert ready(take(state, append("s3", 9, LogPosition(2, 2))).effects)
