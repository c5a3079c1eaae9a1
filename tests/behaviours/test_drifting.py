"""Leadership drifts to the voter of the highest priority that is up to date, and only if that costs next to nothing."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace

from raft_actors.protocol.configuration import Configuration
from raft_actors.protocol.effects import Effect, Reject
from raft_actors.protocol.events import SnapshotRequested, StopRequested, Tick, TransferRequested
from raft_actors.protocol.messages import AppendEntriesReply, PreVoteReply, RequestVoteReply, TimeoutNow
from raft_actors.protocol.progress import ProgressState
from raft_actors.protocol.state import Drift, PeerState
from raft_actors.protocol.types import LogPosition, Settings
from tests.behaviours import bench
from tests.behaviours.bench import NOW, ack, at, leading, only, sent, take, take_all
from tests.behaviours.test_transfers import WRITE, with_progress

GRACE = 1.8
"""Three of the longest election timeouts."""


def ready(**more: Any) -> PeerState:
    """A leader that has looked once, and may hand over from now on; ``s3`` is of higher priority than all others."""
    state = bench.leader(role={"drift_at": NOW, "drift_mark": 2}, **more)
    return with_progress(state, "s3", priority=5)


def told(effects: tuple[Effect, ...]) -> list[str]:
    return [name for name in ("s2", "s3") if sent(effects, TimeoutNow, name)]


def elected(now: float = NOW, **more: Any) -> PeerState:
    """A peer that becomes leader of term 2 at ``now``."""
    state = take(bench.candidate(terms=(1, 1), **more), bench.vote("s2", 2), at(now)).state
    return bench.synced(state, at(now)).state


def first_try(state: PeerState, now: float) -> tuple[PeerState, float]:
    """When the leader tells ``s3`` to stand, if both followers answer all the time, and the state after that."""
    while True:
        now += 0.05
        end = state.log.last.index
        answers = (ack("s2", state.term, end), ack("s3", state.term, end, priority=5))
        state, effects = take(take_all(state, *answers, moment=at(now)), Tick(), at(now))
        if told(effects):
            return state, now
        assert now < NOW + 1000


# -- to whom -----------------------------------------------------------------------------------------------------------


def test_a_follower_tells_its_priority_with_every_answer() -> None:
    state = bench.following("s2", settings=Settings(priority=-3))
    assert only(take(state, bench.append("s2", 1, LogPosition(1, 1))).effects, AppendEntriesReply).priority == -3


def test_the_leader_remembers_the_newest_one() -> None:
    state = take_all(bench.leader(), ack("s2", 2, 2, priority=7), ack("s2", 2, 2, priority=4))
    assert leading(state).progress["s2"].priority == 4


def test_the_highest_priority_is_told_to_stand() -> None:
    state, effects = take(with_progress(ready(), "s2", priority=3), Tick())
    assert told(effects) == ["s3"]
    assert bench.of_type(take(state, WRITE).effects, Reject), "no writes meanwhile"
    assert leading(state).lease_given_up


@pytest.mark.parametrize("own", [5, 6, 1000])
def test_an_equal_or_lower_priority_is_not(own: int) -> None:
    assert told(take(ready(settings=Settings(priority=own)), Tick()).effects) == []


def test_the_next_best_is_told_if_the_best_cannot_lead() -> None:
    state = with_progress(with_progress(ready(), "s2", priority=3), "s3", heard_at=NOW - 0.7)
    assert told(take(state, Tick()).effects) == ["s2"]


@pytest.mark.parametrize(
    "lacks",
    [
        {"heard_at": NOW - 0.61},
        {"lost": True},
        {"state": ProgressState.PROBE},
        {"state": ProgressState.LOADING},
        {"state": ProgressState.SNAPSHOT},
        {"match_index": 1},
        {"next_index": 2},
    ],
    ids=lambda lacks: next(iter(lacks)),
)
def test_who_could_not_lead_within_a_moment_is_not_told(lacks: dict[str, Any]) -> None:
    assert told(take(with_progress(ready(), "s3", **lacks), Tick()).effects) == []


def test_a_learner_is_not_told() -> None:
    members = Configuration(voters=bench.configuration("s1", "s2").voters, learners=bench.configuration("s3").voters)
    assert told(take(ready(members=members), Tick()).effects) == []


def test_under_steady_writes_it_is_enough_to_have_what_was_there_a_heartbeat_ago() -> None:
    state = take(bench.synced(take(ready(), WRITE).state).state, Tick()).state
    assert leading(state).transfer is not None
    assert leading(state).transfer.target == "s3"
    effects = take(state, ack("s3", 2, 3)).effects
    assert told(effects) == ["s3"], "as soon as it has the rest"


# -- when --------------------------------------------------------------------------------------------------------------


def test_a_young_leadership_is_left_alone() -> None:
    _, now = first_try(elected(), NOW)
    assert NOW + GRACE <= now < NOW + GRACE + 0.2


def test_a_try_is_given_up_after_the_shortest_election_timeout() -> None:
    state = take(ready(), Tick()).state
    state = take_all(state, ack("s2", 2, 2), Tick(), moment=at(NOW + 0.29))
    assert bench.of_type(take(state, WRITE).effects, Reject)
    state = take(state, Tick(), at(NOW + 0.3)).state
    assert not bench.of_type(take(state, WRITE).effects, Reject)


def test_the_pause_after_a_try_doubles_up_to_a_bound() -> None:
    state, now = elected(), NOW
    times = []
    for _ in range(9):
        state, now = first_try(state, now)
        times.append(now)
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses == pytest.approx([GRACE, 3.6, 7.2, 14.4, 28.8, 57.6, 60.0, 60.0], abs=0.2)


def test_the_pause_outlives_the_leadership_however_it_ended() -> None:
    state = elected(drift=Drift(NOW - 1, 30.0))
    state, now = first_try(state, NOW)
    assert now == pytest.approx(NOW + 29, abs=0.2)
    assert state.drift == Drift(now, 60.0)


def test_a_try_is_forgotten_after_a_long_time() -> None:
    state, now = first_try(elected(drift=Drift(NOW - 301, 30.0)), NOW)
    assert state.drift == Drift(now, pytest.approx(GRACE))


@pytest.mark.parametrize(
    "busy",
    [
        lambda state: take(take(state, StopRequested(5.0)).state, Tick()),
        lambda state: take(replace(state, stop_after_snapshot=(NOW + 1, NOW + 2), snapshot_wanted=2), Tick()),
        lambda state: take(take(state, TransferRequested(7, "s2", 5.0)).state, Tick()),
        lambda state: take(replace(state, commit_index=1, handed=1, last_applied=1), Tick()),
        lambda state: take(_changing(state), Tick()),
    ],
    ids=["stopping", "saving before a stop", "transfer", "its first entry is not committed", "joint"],
)
def test_nothing_drifts_while_something_else_is_under_way(busy: Any) -> None:
    assert "s3" not in told(busy(ready()).effects)


def _changing(state: PeerState) -> PeerState:
    joint = Configuration(voters=bench.THREE.voters, outgoing=bench.THREE.voters)
    return replace(state, configurations=((1, joint),))


def test_a_snapshot_is_no_reason_to_wait() -> None:
    assert told(take(take(ready(), SnapshotRequested(3)).state, Tick()).effects) == ["s3"]


# -- elections ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [-1000, 1000])
def test_a_priority_makes_no_difference_to_a_vote_or_a_candidacy(own: int) -> None:
    """Whoever is up to date may win: a priority that kept somebody from standing could keep everybody from it."""
    state = bench.peer(settings=Settings(priority=own))
    assert only(take(state, bench.pre_vote("s2", 2)).effects, PreVoteReply).granted
    assert only(take(state, bench.request_vote("s2", 2)).effects, RequestVoteReply).granted
    plain = bench.timed_out(bench.peer())
    assert bench.timed_out(state).effects == plain.effects
