"""A peer asks to be let in until it is: whom it asks, who refuses it, and why."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from raft_actors.behaviours.joining import RETRY
from raft_actors.protocol.configuration import Configuration
from raft_actors.protocol.effects import ChangeAnswer
from raft_actors.protocol.events import Tick
from raft_actors.protocol.messages import Join, JoinRefusal, JoinReply
from raft_actors.protocol.progress import Progress
from raft_actors.protocol.state import NEVER, Joining, PeerState
from raft_actors.protocol.types import LogPosition
from tests.behaviours import bench
from tests.behaviours.bench import NOW, at, join, join_reply, leading, only, receivers, take, unconfigured


def asking(*seeds: str, **more: object) -> PeerState:
    return unconfigured(joining=Joining(seeds), **more)


def answer(state: PeerState, message: Join) -> JoinRefusal:
    return only(take(state, message).effects, JoinReply).refusal


def unheard(name: str) -> PeerState:
    """A leader that has not heard ``name`` for long."""
    progress = leading(bench.leader()).progress
    return bench.leader(role={"progress": {**progress, name: replace(progress[name], heard_at=NOW - 9)}})


def test_the_seeds_are_asked_in_turn() -> None:
    state, asked = asking("s2", "s3"), []
    for turn in range(3):
        state, effects = take(state, Tick(), at(NOW + turn * 2 * RETRY))
        asked += receivers(effects)
    assert asked == ["s2", "s3", "s2"]


def test_whoever_is_said_to_lead_is_asked_next_and_at_once() -> None:
    state = take(asking("s2"), Tick()).state
    state = take(state, join_reply("s2", 1, JoinRefusal.NO_LEADER, leader="s3")).state
    assert receivers(take(state, Tick()).effects) == ["s3"]


def test_who_is_let_in_waits_to_see_it_and_asks_nobody_at_once() -> None:
    state = take(asking("s2"), Tick()).state
    state = take(state, join_reply("s2", 1, JoinRefusal.ACCEPTED, leader="s3")).state
    assert receivers(take(state, Tick()).effects) == []
    assert receivers(take(state, Tick(), at(NOW + 9)).effects) == ["s2"], "what was lost is asked for again"


@pytest.mark.parametrize("refusal", [JoinRefusal.REPLACED, JoinRefusal.FOREIGN, JoinRefusal.UNEXPECTED])
def test_what_no_waiting_changes_ends_the_asking(refusal: JoinRefusal) -> None:
    state = take(take(asking("s2"), Tick()).state, join_reply("s2", 1, refusal)).state
    assert state.joining is not None
    assert (state.joining.retry, state.joining.refusal) == (NEVER, refusal)


@pytest.mark.parametrize("refusal", [JoinRefusal.BUSY, JoinRefusal.NAME_TAKEN, JoinRefusal.NO_MEMBER])
def test_anything_else_is_asked_again(refusal: JoinRefusal) -> None:
    state = take(take(asking("s2"), Tick()).state, join_reply("s2", 1, refusal)).state
    assert receivers(take(state, Tick(), at(NOW + 1)).effects) == ["s2"]


def test_a_voter_of_a_committed_configuration_asks_no_more() -> None:
    state = bench.peer("s1", joining=Joining(("s2",)), commit=0)
    assert take(state, Tick()).state.joining is not None, "not committed yet"
    assert take(replace(state, commit_index=1), Tick()).state.joining is None


def test_a_learner_that_wants_to_vote_goes_on_asking() -> None:
    members = Configuration(bench.configuration("s2", "s3").voters, (), bench.configuration("s1").voters)
    state = bench.peer("s1", members=members, commit=1, joining=Joining(("s2",)))
    assert receivers(take(state, Tick()).effects)[:1] == ["s2"]
    content = replace(state, joining=Joining(("s2",), learner=True))
    assert take(content, Tick()).state.joining is None


# -- who is asked ------------------------------------------------------------------------------------------------------


def test_only_a_leader_lets_anybody_in() -> None:
    assert answer(bench.following("s2"), join("s9", 0, cluster="")) is JoinRefusal.NO_LEADER
    assert answer(unconfigured(), join("s9", 0, cluster="")) is JoinRefusal.NO_MEMBER
    assert answer(bench.leader(), join("s9", 0, cluster="")) is JoinRefusal.ACCEPTED


def test_a_name_that_a_living_member_has_is_taken() -> None:
    fresh = join("s2", 0, cluster="", incarnation="a new store")
    assert answer(bench.leader(), fresh) is JoinRefusal.NAME_TAKEN
    assert answer(unheard("s2"), fresh) is JoinRefusal.ACCEPTED
    assert answer(bench.leader(), replace(fresh, sender="s1")) is JoinRefusal.NAME_TAKEN


def test_a_store_that_was_replaced_by_another_one_of_its_name_is_told_so() -> None:
    """BUG-62: it knows our cluster, and another store has its name now."""
    assert answer(unheard("s2"), join("s2", 1, incarnation="the old store")) is JoinRefusal.REPLACED


def test_a_leader_that_is_deposed_before_it_has_let_somebody_in_answers_nobody() -> None:
    """Who joins by itself asks the next leader; only callers are told."""
    state = take(bench.leader(commit=1), join("s4", 2, cluster="", address="h:4")).state
    assert leading(state).preparing is not None, "it has not committed anything of its term"
    assert not bench.of_type(take(state, bench.append("s3", 3, LogPosition(2, 2))).effects, ChangeAnswer)


def test_a_member_that_joins_twice_is_in_already() -> None:
    state, effects = take(bench.leader(), join("s2", 2))
    assert only(effects, JoinReply).refusal is JoinRefusal.ACCEPTED
    assert leading(state).preparing is None
    assert state.configuration == bench.THREE


def test_who_comes_while_the_members_are_changing_comes_again() -> None:
    state = take(bench.leader(), join("s9", 0, cluster="")).state
    assert state.configuration.goal is not None
    assert answer(state, join("s8", 0, cluster="")) is JoinRefusal.BUSY
    assert answer(state, join("s9", 0, cluster="")) is JoinRefusal.BUSY, "it wants a vote, and gets it in time"


def test_it_begins_as_a_learner_whom_its_leader_feeds() -> None:
    state = take(bench.leader(), join("s9", 0, cluster="")).state
    assert [one.name for one in state.configuration.learners] == ["s9"]
    assert isinstance(leading(state).progress["s9"], Progress)
