"""A cluster is formed of unconfigured peers, once: refusals leave no trace, and of two coordinators one goes on."""

from __future__ import annotations

import pytest

from raft_actors.behaviours.deadlines import next_deadline
from raft_actors.protocol.configuration import Member, decode
from raft_actors.protocol.effects import ClusterFormed, ClusterRefused, Persist, Refusal, Send
from raft_actors.protocol.events import ClusterRequested, Tick
from raft_actors.protocol.messages import FormCluster, FormClusterReply, PreVote
from raft_actors.protocol.state import NEVER, Forming, PeerState, PreCandidate, Reserved
from raft_actors.protocol.types import Ballot
from tests.behaviours import bench
from tests.behaviours.bench import (
    NOW,
    at,
    form_cluster,
    form_cluster_reply,
    only,
    receivers,
    sent,
    store,
    synced,
    take,
    take_all,
    unconfigured,
)
from tests.behaviours.cluster import Cluster

NAMES = ("s1", "s2", "s3")
REQUEST = ClusterRequested(7, "p", NAMES, 5.0)


def asking() -> PeerState:
    return take(unconfigured(), REQUEST).state


def refusal(effects: tuple[object, ...]) -> tuple[Refusal, str]:
    refused = [effect for effect in effects if isinstance(effect, ClusterRefused)]
    assert len(refused) == 1
    assert refused[0].token == 7
    return refused[0].refusal, refused[0].peer


# -- the coordinator ---------------------------------------------------------------------------------------------------


def test_everybody_is_asked_before_anything_is_stored() -> None:
    state, effects = take(unconfigured(), REQUEST)
    assert receivers(effects) == ["s2", "s3"]
    assert {(message.proposal, message.names, message.until) for message in sent(effects, FormCluster)} == {
        ("p", NAMES, 6.0)
    }
    state, effects = take(state, form_cluster_reply("s2", "p"))
    assert effects == ()
    assert (state.cluster, state.log.last.index) == ("", 0)


def test_when_all_are_free_the_cluster_is_on_disk_before_anybody_hears_of_it() -> None:
    state = take(asking(), form_cluster_reply("s2", "p")).state
    state, effects = take(state, form_cluster_reply("s3", "p"))
    batch, *sends = effects
    assert isinstance(batch, Persist)
    assert (batch.cluster, batch.ballot) == ("p", Ballot(1))
    assert [type(one.message) for one in sends if isinstance(one, Send)] == [PreVote, PreVote]
    assert isinstance(state.role, PreCandidate)
    configuration = decode(batch.entries[0].data)
    assert configuration.voters == tuple(Member(name, store(name)) for name in NAMES)
    assert (batch.entries[0].index, batch.entries[0].term, batch.entries[0].time) == (1, 1, NOW)
    assert state.configurations == ((1, configuration),)


def test_alone_a_peer_forms_a_cluster_at_once_and_says_so_when_it_is_committed() -> None:
    state, effects = take(unconfigured(), ClusterRequested(7, "p", ("s1",), 5.0))
    assert [type(effect) for effect in effects] == [Persist]
    state, effects = synced(state)
    assert ClusterFormed(7) not in effects
    state, effects = synced(state)
    assert ClusterFormed(7) in effects
    assert state.formed == 0


@pytest.mark.parametrize(
    ("state", "request_", "expected"),
    [
        (bench.peer(), REQUEST, (Refusal.CONFIGURED, "s1")),
        (unconfigured("s9"), REQUEST, (Refusal.NOT_A_MEMBER, "s9")),
        (unconfigured(formation=Reserved("q", NOW + 1)), REQUEST, (Refusal.FORMING, "s1")),
        (asking(), ClusterRequested(7, "q", NAMES, 5.0), (Refusal.FORMING, "s1")),
    ],
    ids=["configured", "not a member", "kept free for another", "forming already"],
)
def test_a_coordinator_refuses_its_caller(
    state: PeerState, request_: ClusterRequested, expected: tuple[Refusal, str]
) -> None:
    after, effects = take(state, request_)
    assert refusal(effects) == expected
    assert after == state
    assert receivers(effects) == []


def test_a_reservation_that_has_expired_does_not_hinder() -> None:
    assert receivers(take(unconfigured(formation=Reserved("q", NOW)), REQUEST).effects) == ["s2", "s3"]


def test_a_configured_peer_refuses_with_its_configuration_and_the_others_are_let_go() -> None:
    state = take(asking(), form_cluster_reply("s2", "p")).state
    state, effects = take(state, form_cluster_reply("s3", "p", "configured", configuration=bench.THREE))
    assert refusal(effects) == (Refusal.CONFIGURED, "s3")
    assert only(effects, ClusterRefused).configuration == bench.THREE
    assert receivers(effects) == ["s2"]
    assert only(effects, FormCluster).until == 0.0
    assert state.formation is None


def test_a_busy_peer_is_asked_again_until_the_time_is_up() -> None:
    """The attempt that it keeps itself free for may give way to ours."""
    state = take(asking(), form_cluster_reply("s2", "p", "forming")).state
    state, effects = take(state, Tick(), at(NOW + 0.1))
    assert receivers(effects) == ["s2", "s3"]
    free = take_all(state, form_cluster_reply("s2", "p"), form_cluster_reply("s3", "p"))
    assert free.cluster == "p"
    state, effects = take(state, Tick(), at(NOW + 5.0))
    assert refusal(effects) == (Refusal.FORMING, "s2")


def test_a_silent_peer_is_asked_again_and_named_in_the_end() -> None:
    state = take(asking(), form_cluster_reply("s2", "p")).state
    assert next_deadline(state) == NOW + 0.1
    state, effects = take(state, Tick(), at(NOW + 0.1))
    assert receivers(effects) == ["s3"]
    assert only(effects, FormCluster).until == pytest.approx(5.9)
    assert next_deadline(state) == NOW + 0.2
    assert take(state, Tick(), at(NOW + 0.15)).effects == ()
    state, effects = take(state, Tick(), at(NOW + 5.0))
    assert refusal(effects) == (Refusal.UNREACHABLE, "s3")
    assert receivers(effects) == ["s2"], "let go"
    assert next_deadline(state) == NEVER


def test_a_coordinator_with_little_time_is_woken_when_it_is_up() -> None:
    assert next_deadline(take(unconfigured(), ClusterRequested(7, "p", NAMES, 0.05)).state) == NOW + 0.05


def test_an_answer_that_comes_too_late_forms_nothing_and_crashes_nobody() -> None:
    state = take(asking(), form_cluster_reply("s2", "p")).state
    state, effects = take(state, form_cluster_reply("s3", "p"), at(NOW + 5.0))
    assert state.cluster == ""
    assert only(effects, FormCluster).until == 0.0, "and its sender is let go"
    assert refusal(take(state, Tick(), at(NOW + 5.0)).effects) == (Refusal.UNREACHABLE, "s3")


def test_answers_to_another_proposal_or_of_strangers_count_for_nothing() -> None:
    state = take(asking(), form_cluster_reply("s9", "p")).state
    state = take(state, form_cluster_reply("s2", "q")).state
    assert isinstance(state.formation, Forming)
    assert list(state.formation.free) == ["s1"]


def test_free_for_an_attempt_that_is_over_is_let_go() -> None:
    effects = take(unconfigured(), form_cluster_reply("s2", "q")).effects
    assert (only(effects, FormCluster).until, only(effects, FormCluster).proposal) == (0.0, "q")
    assert take(unconfigured(), form_cluster_reply("s2", "q", "forming")).effects == ()
    assert take(bench.peer(), form_cluster_reply("s2", bench.CLUSTER)).effects == ()


def test_a_store_that_was_wiped_after_its_answer_is_not_the_member_that_answered() -> None:
    state = take(asking(), form_cluster_reply("s2", "p")).state
    state, effects = take(state, form_cluster_reply("s2", "p", incarnation="another store"))
    assert refusal(effects) == (Refusal.FORMING, "s2")


def test_names_given_twice_form_no_cluster_with_a_member_too_many() -> None:
    state = take(unconfigured(), ClusterRequested(7, "p", ("s1", "s2", "s2"), 5.0)).state
    state = take(state, form_cluster_reply("s2", "p")).state
    assert state.cluster == "p"


# -- whoever is asked --------------------------------------------------------------------------------------------------


def test_a_free_peer_keeps_itself_free_and_stores_nothing() -> None:
    state, effects = take(unconfigured(), form_cluster("s2", "p", *NAMES))
    reply = only(effects, FormClusterReply)
    assert (reply.refusal, reply.incarnation) == ("", store("s1"))
    assert state.formation == Reserved("p", NOW + 5.0, bench.store("s2"))
    assert bench.of_type(effects, Persist) == []
    assert next_deadline(state) == NOW + 5.0
    assert take(unconfigured(), form_cluster("s2", "p", *NAMES, until=0.5)).state.formation is not None


def test_a_member_of_a_cluster_says_which() -> None:
    reply = only(take(bench.peer(), form_cluster("s2", "p", *NAMES)).effects, FormClusterReply)
    assert (reply.refusal, reply.configuration) == ("configured", bench.THREE)


def test_who_is_free_for_one_proposal_refuses_another_until_its_time_is_up() -> None:
    state = take(unconfigured(), form_cluster("s2", "p", *NAMES)).state
    state, effects = take(state, form_cluster("s3", "q", *NAMES), at(NOW + 4.9))
    reply = only(effects, FormClusterReply)
    assert (reply.refusal, reply.configuration) == ("forming", None)
    assert only(take(state, form_cluster("s2", "p", *NAMES)).effects, FormClusterReply).refusal == ""
    assert only(take(state, form_cluster("s3", "q", *NAMES), at(NOW + 5)).effects, FormClusterReply).refusal == ""
    assert take(state, Tick(), at(NOW + 5.0)).state.formation is None


def test_a_withdrawn_question_lets_go() -> None:
    state = take(unconfigured(), form_cluster("s2", "p", *NAMES)).state
    assert take(state, form_cluster("s2", "q", until=0.0)).state == state, "another proposal"
    state, effects = take(state, form_cluster("s2", "p", until=0.0))
    assert (state.formation, effects) == (None, ())


def test_of_two_coordinators_the_lower_name_goes_on() -> None:
    lower = take(asking(), form_cluster("s2", "q", "s2", "s1"))
    assert only(lower.effects, FormClusterReply).refusal == "forming"
    assert isinstance(lower.state.formation, Forming)
    higher = take(unconfigured("s2"), ClusterRequested(7, "q", ("s2", "s1", "s4"), 5.0)).state
    higher = take(higher, form_cluster_reply("s4", "q", receiver=store("s2"))).state
    state, effects = take(higher, form_cluster("s1", "p", *NAMES, to="s2"))
    assert refusal(effects) == (Refusal.FORMING, "s1")
    assert only(effects, FormClusterReply).refusal == ""
    assert state.formation == Reserved("p", NOW + 5.0, bench.store("s1"))
    assert [send.to for send in bench.of_type(effects, Send)] == ["s4", "s1"], "who was free for us is let go"


def test_joining_begins_with_the_first_message_of_the_new_cluster() -> None:
    state = take(unconfigured(), form_cluster("s2", bench.CLUSTER, *NAMES)).state
    state, effects = take(state, bench.request_vote("s2", 2))
    batch = bench.persist_then_send(effects, bench.vote("s2", 2).__class__)
    assert batch.granted
    assert only(effects, Persist) == Persist(Ballot(2, "s2"), cluster=bench.CLUSTER)
    assert (state.cluster, state.formation) == (bench.CLUSTER, None)


# -- whole clusters ----------------------------------------------------------------------------------------------------


def test_two_coordinators_form_one_cluster_whatever_the_order() -> None:
    """BUG-69. All orders of the first messages, drawn one after the other."""
    for order in range(3**6):
        cluster = Cluster()
        cluster.run("s1", ClusterRequested(1, "p", NAMES, 5.0))
        cluster.run("s2", ClusterRequested(2, "q", NAMES, 5.0))
        for _ in range(6):
            cluster.deliver_next(target=f"s{order % 3 + 1}")
            order //= 3
        for _ in range(4):
            cluster.settle()
            for name in NAMES:
                if next_deadline(cluster.state(name)) < cluster.now + 0.2:
                    cluster.tick(name)
        answers = [cluster.answers.get(token, "") for token in (1, 2)]
        assert answers.count("formed") == 1, answers
        assert len({cluster.nodes[name].disk.cluster for name in NAMES}) == 1


@pytest.mark.parametrize("victim", NAMES)
def test_a_peer_that_restarts_in_between_is_no_obstacle(victim: str) -> None:
    cluster = Cluster()
    cluster.run("s1", ClusterRequested(1, "p", NAMES, 5.0))
    cluster.deliver_next()
    cluster.crash(victim)
    cluster.settle()
    cluster.restart(victim)
    if victim == "s1":
        assert not cluster.nodes["s1"].disk.cluster, "nothing was stored"
        cluster.now += 7
        cluster.run("s1", ClusterRequested(2, "q", NAMES, 5.0))
    for _ in range(4):
        cluster.settle()
        cluster.tick("s1")
    assert "formed" in cluster.answers.values()
