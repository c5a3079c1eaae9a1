"""Scenes that break what must hold of terms, commits, elections and beliefs, and nothing else."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from raft_actors.protocol.configuration import Configuration
from raft_actors.protocol.effects import Persist
from raft_actors.protocol.events import Received
from raft_actors.protocol.state import PeerState
from tests.behaviours.bench import (
    ack,
    candidate,
    configuration,
    entry,
    leader,
    leading,
    peer,
    vote,
)
from tests.simulation.observing import ALL, Stage, stage_engine, violates


def committed(stage: Stage, state: PeerState, index: int) -> PeerState:
    """``state``, a leader's, that commits up to ``index`` now; the observer sees it."""
    before = replace(state, commit_index=0, handed=0, last_applied=0)
    after = replace(before, commit_index=index)
    stage.step(before, after)
    return after


# -- nothing goes back -------------------------------------------------------------------------------------------------


def goes_back(**change: Any) -> None:
    before = peer(terms=(1, 2), commit=2)
    Stage(**ALL).step(before, replace(before, **change))


@violates("nothing goes back")
def the_commit_index_goes_back() -> None:
    goes_back(commit_index=1)


@violates("nothing goes back")
def what_was_handed_to_the_machine_goes_back() -> None:
    goes_back(handed=1)


@violates("nothing goes back")
def what_was_applied_goes_back() -> None:
    goes_back(last_applied=1)


@violates("nothing goes back")
def a_term_goes_back() -> None:
    goes_back(ballot=replace(peer(terms=(1, 2)).ballot, term=1))


@violates("nothing goes back")
def a_term_on_disk_goes_back() -> None:
    stage = Stage()
    stage.vote("s1", 3, None)
    stage.vote("s1", 2, None)


@violates("nothing goes back", "older than the one before")
def the_time_in_the_log_goes_back() -> None:
    stage = Stage()
    stage.nodes["s1"].engine = stage_engine(peer(terms=()))
    times = (replace(entry(1, 1), time=5.0), replace(entry(2, 1), time=4.0))
    stage.observer.persists(stage.nodes["s1"], Persist(entries=times))


# -- effect order: what a peer believes of its own disk ----------------------------------------------------------------


@violates("effect order", "not persisted")
def a_log_is_longer_than_what_was_persisted() -> None:
    Stage(s1=(1,)).step(peer(terms=(1,)), peer(terms=(1, 1), durable=1))


@violates("effect order", "not persisted")
def a_log_ends_with_another_term_than_what_was_persisted() -> None:
    Stage(s1=(1, 1)).step(peer(terms=(1,), term=2), peer(terms=(1, 2), durable=1))


@violates("effect order", "takes 2 for durable")
def a_log_counts_as_durable_before_the_disk_has_it() -> None:
    stage = Stage(s1=(1,))
    stage.remember("s1", (1, 1))
    stage.step(peer(terms=(1,)), peer(terms=(1, 1), durable=2))


@violates("effect order", "takes 2 for durable")
def a_log_counts_as_durable_where_the_disk_has_another_term() -> None:
    stage = Stage(s1=(1, 1))
    stage.remember("s1", (1, 2))
    stage.step(peer(terms=(1,), term=2), peer(terms=(1, 2), durable=2))


# -- commits -----------------------------------------------------------------------------------------------------------


@violates("commit rule", "its log ends at 1")
def a_peer_commits_beyond_its_log() -> None:
    before = peer(terms=(1,))
    Stage(s1=(1,)).step(before, replace(before, commit_index=2))


@violates("state machine safety", "was committed there")
def a_peer_commits_another_entry_than_was_committed() -> None:
    stage = Stage(s1=(1, 2), s2=(1, 2), s3=(1, 1))
    committed(stage, leader("s1"), 2)
    before = peer("s3", terms=(1, 1), term=2)
    stage.step(before, replace(before, commit_index=2))


@violates("commit rule", "no leader")
def a_follower_commits_first() -> None:
    before = peer("s2", terms=(1, 2))
    Stage(**ALL).step(before, replace(before, commit_index=2))


@violates("commit rule", "of term 3 commits up to 2 of term 2")
def a_leader_commits_by_an_entry_of_an_older_term() -> None:
    stage = Stage(s1=(1, 2, 3), s2=(1, 2, 3), s3=(1, 2, 3))
    committed(stage, leader("s1", terms=(1, 2, 3)), 2)


@violates("durable commits", "disks end at")
def a_leader_commits_what_half_of_the_disks_have() -> None:
    committed(Stage(s1=(1, 2), s2=(1,), s3=(1,)), leader("s1"), 2)


@violates("durable commits")
def a_leader_commits_where_the_disks_have_another_term() -> None:
    committed(Stage(s1=(1, 2), s2=(1, 1), s3=(1, 1)), leader("s1"), 2)


@violates("durable commits")
def a_leader_commits_without_a_majority_of_the_outgoing_voters() -> None:
    joint = Configuration(configuration("s1", "s2").voters, configuration("s1", "s3").voters)
    committed(Stage(s1=(1, 2), s2=(1, 2), s3=(1,)), leader("s1", members=joint), 2)


@violates("durable commits")
def a_leader_of_nobody_commits() -> None:
    committed(Stage(**ALL), leader("s1", members=Configuration()), 2)


@violates("durable commits", "a quorum lacks the committed")
def the_disks_of_a_quorum_drop_what_is_committed() -> None:
    stage = Stage(**ALL)
    stage.elect(candidate("s1", terms=(1, 2)), leader("s1", commit=0))
    committed(stage, leader("s1"), 2)
    stage.cut("s2", 2)
    stage.cut("s3", 2)


# -- elections ---------------------------------------------------------------------------------------------------------


@violates("election safety", "s1 and s2 lead term 2")
def two_peers_lead_one_term() -> None:
    stage = Stage(**ALL)
    stage.elect(candidate("s1", terms=(1, 2)), leader("s1", commit=0))
    stage.step(candidate("s2", terms=(1, 2)), leader("s2", commit=0))


@violates("election safety", "without votes on a quorum of disks")
def a_peer_leads_with_votes_that_are_on_no_disk() -> None:
    stage = Stage(**ALL)
    stage.vote("s1", 2, "s1")
    stage.step(candidate("s1", terms=(1, 2)), leader("s1", commit=0))


@violates("election safety", "without votes on a quorum of disks")
def votes_of_another_term_elect() -> None:
    stage = Stage(**ALL)
    for name in stage.nodes:
        stage.vote(name, 1, "s1")
    stage.step(candidate("s1", terms=(1, 2)), leader("s1", commit=0))


@violates("leader completeness", "leads term 3 without")
def a_leader_lacks_what_is_committed() -> None:
    stage = Stage(s1=(1, 2), s2=(1, 2), s3=(1,))
    committed(stage, leader("s1"), 2)
    stage.elect(candidate("s3"), leader("s3", terms=(1,), term=3, commit=0))


@violates("leader completeness", "leads term 3 without")
def a_leader_has_another_entry_where_one_is_committed() -> None:
    stage = Stage(s1=(1, 2), s2=(1, 2), s3=(1, 1))
    committed(stage, leader("s1"), 2)
    stage.elect(candidate("s3", terms=(1, 1)), leader("s3", terms=(1, 1), term=3, commit=0))


@violates("leader completeness", "was elected in term 3 without")
def a_leader_was_elected_without_what_an_older_one_commits_later() -> None:
    stage = Stage(s1=(1, 2), s2=(1, 2), s3=(1,))
    stage.elect(candidate("s3"), leader("s3", terms=(1,), term=3, commit=0))
    committed(stage, leader("s1"), 2)


@violates("leader completeness", "was elected in term 3 without")
def a_leader_was_elected_with_another_entry_there() -> None:
    stage = Stage(s1=(1, 2), s2=(1, 2), s3=(1, 1))
    stage.elect(candidate("s3", terms=(1, 1)), leader("s3", terms=(1, 1), term=3, commit=0))
    committed(stage, leader("s1"), 2)


@violates("one vote")
def a_disk_holds_two_votes_of_one_term() -> None:
    stage = Stage()
    stage.vote("s1", 2, "s2")
    stage.vote("s1", 2, "s3")


@violates("one vote")
def a_vote_on_disk_was_given_to_somebody_else_before() -> None:
    stage = Stage()
    stage.vote("s1", 2, "s2")
    stage.nodes["s1"].disk.ballot = replace(stage.nodes["s1"].disk.ballot, voted_for="s3")
    stage.leave("s1", vote("s1", 2, to="s3"), to="s3")


# -- what a leader believes of others ----------------------------------------------------------------------------------


def hears(stage: Stage, before: PeerState, **progress: Any) -> None:
    """The leader makes something of an answer of ``s2``."""
    stage.vote("s2", 2, "s1")
    role = leading(before)
    told = {**role.progress, "s2": replace(role.progress["s2"], **progress)}
    stage.step(before, replace(before, role=replace(role, progress=told)), Received(ack("s2", 2, 2)))


@violates("match index", "back from 2 to 1")
def what_a_follower_has_goes_back() -> None:
    hears(Stage(**ALL), leader("s1"), match_index=1)


@violates("match index", "its disk ends at 1")
def a_follower_is_taken_to_have_more_than_its_disk() -> None:
    hears(Stage(s1=(1, 2), s2=(1,)), leader("s1", match={"s2": 1}), match_index=2)


@violates("match index")
def a_follower_is_taken_to_have_the_same_where_it_has_another_term() -> None:
    hears(Stage(s1=(1, 2), s2=(1, 1)), leader("s1", match={"s2": 1}), match_index=2)
