"""Asking for other members: who is asked to introduce itself, what is refused, and who is told."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from raft_actors.behaviours.membership import RETRY
from raft_actors.protocol.changes import AddMember, Change, RemoveMember, SetMembers
from raft_actors.protocol.configuration import Configuration, Goal, Member
from raft_actors.protocol.effects import ChangeAnswer, ChangeRefusal, Persist, ServeReads
from raft_actors.protocol.events import ChangeRequested, ReadsRequested, Tick
from raft_actors.protocol.messages import Introduce, JoinRefusal, JoinReply, Removed
from raft_actors.protocol.state import Follower, PeerState, Transfer
from tests.behaviours import bench
from tests.behaviours.bench import NOW, THREE, ack, at, join, leading, of_type, only, receivers, take, take_all

S4 = Member("s4", bench.store("s4"))
STEP = 1 / 16


def wanted(change: Change, expected: int | None = None, timeout: float = 5.0) -> ChangeRequested:
    return ChangeRequested(7, change, expected, timeout)


def asking(timeout: float = 5.0) -> PeerState:
    """A leader that was asked to add ``s4``, which has not introduced itself yet."""
    return take(bench.leader(), wanted(AddMember("s4"), timeout=timeout)).state


def changing() -> PeerState:
    """A leader whose newest configuration is on its way to ``s4`` as a voter."""
    goal = Goal((*THREE.voters, S4), fresh=("s4",))
    return bench.leader(members=replace(THREE, learners=(S4,), goal=goal))


def heartbeats(state: PeerState, until: float) -> tuple[PeerState, list[float]]:
    """All followers answer every 1/16 s; the state then, and after how many seconds ``s4`` was asked who it is."""
    now, asked = NOW, []
    while now + STEP <= until:
        now += STEP
        for event in (ack("s2", 2, 2), ack("s3", 2, 2), Tick()):
            state, effects = take(state, event, at(now))
            asked += [now - NOW] if bench.sent(effects, Introduce, "s4") else []
    return state, asked


# -- newcomers ---------------------------------------------------------------------------------------------------------


def test_a_newcomer_is_asked_who_it_is_and_asked_again_until_it_answers() -> None:
    state, effects = take(bench.leader(), wanted(AddMember("s4")))
    assert bench.sent(effects, Introduce, "s4")
    assert STEP < RETRY <= 2 * STEP
    assert heartbeats(state, NOW + 6 * STEP)[1] == [2 * STEP, 4 * STEP, 6 * STEP]
    answered = take(state, bench.introduce_reply("s4", 0, cluster="")).state
    assert heartbeats(answered, NOW + 0.4)[1] == []


def test_a_newcomer_that_never_answers_is_named_when_the_time_is_over() -> None:
    state, _ = heartbeats(asking(timeout=1.0), NOW + 0.95)
    assert leading(state).preparing is not None
    state, effects = take(state, Tick(), at(NOW + 1.0))
    assert only(effects, ChangeAnswer) == ChangeAnswer(7, ChangeRefusal.UNREACHABLE, "s4")
    assert leading(state).preparing is None
    assert heartbeats(state, NOW + 0.3)[1] == []


def test_a_member_that_is_not_heard_is_asked_anew_since_its_store_may_be_another_one() -> None:
    """BUG-62."""
    heard = bench.leader()
    assert only(take(heard, wanted(AddMember("s2"))).effects, ChangeAnswer) == ChangeAnswer(7)
    progress = leading(heard).progress
    lost = bench.leader(role={"progress": {**progress, "s2": replace(progress["s2"], heard_at=NOW - 9)}})
    assert receivers(take(lost, wanted(AddMember("s2"))).effects) == ["s2"]
    again = take(lost, wanted(SetMembers(("s1", "s2", "s3")))).effects
    assert only(again, ChangeAnswer) == ChangeAnswer(7), "that means names, not stores"


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "role",
    [{"leaving": True}, {"transfer": Transfer("s2", NOW + 9)}],
    ids=["it votes no more", "it hands over"],
)
def test_a_leader_that_is_about_to_go_names_nobody_and_lets_nobody_in(role: dict[str, Any]) -> None:
    state = bench.leader(role=role)
    answer = only(take(state, wanted(RemoveMember("s3"))).effects, ChangeAnswer)
    assert answer == ChangeAnswer(7, ChangeRefusal.NOT_LEADER)
    assert only(take(state, join("s4", 2, cluster="")).effects, JoinReply).refusal is JoinRefusal.BUSY


def test_a_follower_names_its_leader() -> None:
    answer = only(take(bench.following("s2"), wanted(RemoveMember("s3"))).effects, ChangeAnswer)
    assert answer == ChangeAnswer(7, ChangeRefusal.NOT_LEADER, leader="s2")


def test_who_wants_what_is_under_way_waits_for_it_and_everybody_else_is_refused() -> None:
    """BUG-67."""
    state, effects = take(changing(), wanted(AddMember("s4")))
    assert not of_type(effects, ChangeAnswer)
    assert leading(state).callers == ((7, Goal((*THREE.voters, S4), fresh=("s4",))),)
    for other in (wanted(RemoveMember("s3")), wanted(AddMember("s5")), wanted(AddMember("s4"), expected=1)):
        assert only(take(changing(), other).effects, ChangeAnswer) == ChangeAnswer(7, ChangeRefusal.IN_PROGRESS)


def test_a_change_of_another_configuration_than_expected_is_refused() -> None:
    assert only(take(bench.leader(), wanted(RemoveMember("s3"), expected=9)).effects, ChangeAnswer) == ChangeAnswer(
        7, ChangeRefusal.CHANGED
    )
    assert of_type(take(bench.leader(), wanted(RemoveMember("s3"), expected=1)).effects, Persist)


def test_a_cluster_with_a_learner_is_not_yet_one_of_its_voters_alone() -> None:
    state = bench.leader(members=Configuration(THREE.voters, learners=(S4,)))
    effects = take(state, wanted(SetMembers(("s1", "s2", "s3")))).effects
    assert of_type(effects, Persist), "the learner is dropped"
    assert not of_type(effects, ChangeAnswer)


# -- the joint step ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("silent", [(), ("s2",), ("s2", "s3")], ids=["all answer", "one is silent", "two are"])
def test_a_joint_configuration_is_begun_only_while_a_quorum_of_both_halves_answers(silent: tuple[str, ...]) -> None:
    """It cannot be undone."""
    state = changing()
    known = leading(state).progress.items()
    progress = {name: replace(one, heard_at=NOW - 9 * (name in silent)) for name, one in known}
    state = replace(state, role=replace(leading(state), progress=progress))
    state = take_all(state, ack("s4", 2, 2), ack("s4", 2, 2))  # its first round begins, and is over
    assert bool(state.configuration.outgoing) is (len(silent) < 2)


def test_reads_that_waited_for_the_next_round_are_served_when_the_others_leave() -> None:
    """Nobody is left who could confirm that round."""
    one, two = bench.configuration("s1"), bench.configuration("s1", "s2")
    joint = replace(one, outgoing=two.voters, goal=Goal(one.voters, ()))
    state = bench.leader(terms=(1, 2, 2), commit=2, handed=2, match={"s2": 2}, members=two)
    state = replace(state, configurations=((1, two), (3, joint)))
    state = take_all(state, ReadsRequested(7), ReadsRequested(8))
    state, effects = take(state, ack("s2", 2, 3))
    assert state.configuration == one
    waiting = [token for _, token in state.confirmed_reads]
    assert [effect.token for effect in of_type(effects, ServeReads)] + waiting == [7, 8]


# -- who is out --------------------------------------------------------------------------------------------------------


def test_who_is_out_is_told_so_once_that_is_committed_and_only_once() -> None:
    without = bench.configuration("s1", "s2")
    state = bench.leader(terms=(1, 2, 2), commit=2, match={"s2": 2, "s3": 2})
    state = replace(state, configurations=((1, THREE), (3, without)))
    state, effects = take(state, ack("s2", 2, 3))
    told = only(effects, Removed)
    assert (told.index, told.receiver, receivers(effects)) == (3, bench.store("s3"), ["s3"])
    assert not bench.sent(take(state, ack("s2", 2, 3)).effects, Removed)


def test_a_leader_that_is_out_and_finds_nobody_who_could_lead_steps_down_all_the_same() -> None:
    state = bench.leader(terms=(1, 2, 2), commit=2, match={"s2": 2, "s3": 2})
    deaf = {name: replace(one, heard_at=NOW - 9) for name, one in leading(state).progress.items()}
    without = bench.configuration("s2", "s3")
    state = replace(state, configurations=((1, THREE), (3, without)), role=replace(leading(state), progress=deaf))
    state = replace(state, commit_index=3, role=replace(leading(state), told=3))
    left = take(state, Tick()).state
    assert leading(left).leaving
    assert isinstance(take(left, Tick()).state.role, Follower)
