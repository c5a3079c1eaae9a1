"""Peers that look for each other: the lowest asks, all have to be free, and other lists are refused."""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.behaviours.bootstrap import ATTEMPT
from raft_actors.behaviours.deadlines import next_deadline
from raft_actors.protocol.effects import Persist
from raft_actors.protocol.events import Tick
from raft_actors.protocol.messages import FormCluster, FormClusterReply, Join, JoinRefusal, JoinReply
from raft_actors.protocol.state import NEVER, Bootstrap, Forming, Joining, PeerState
from tests.behaviours import bench
from tests.behaviours.bench import NOW, at, form_cluster, only, receivers, sent, take, unconfigured

NAMES = ("s1", "s2", "s3")


def looking(name: str = "s1", names: tuple[str, ...] = NAMES) -> PeerState:
    return unconfigured(name, bootstrap=Bootstrap(names))


def test_the_lowest_asks_all_others_and_nobody_else_asks() -> None:
    assert receivers(take(looking(), Tick()).effects) == ["s2", "s3"]
    for name in ("s2", "s3"):
        state, effects = take(looking(name), Tick())
        assert (receivers(effects), next_deadline(state)) == ([], NEVER)


def test_it_forms_the_cluster_when_all_are_free_and_looks_no_more() -> None:
    state = take(looking(), Tick()).state
    assert isinstance(state.formation, Forming)
    proposal = state.formation.proposal
    state = take(state, bench.form_cluster_reply("s2", proposal)).state
    state, effects = take(state, bench.form_cluster_reply("s3", proposal))
    assert state.cluster == proposal
    assert [one.name for one in state.configuration.voters] == list(NAMES)
    assert only(effects, Persist).entries[0].index == 1
    assert take(state, Tick(), at(NOW + 9)).state.bootstrap is None


def test_an_attempt_in_vain_is_repeated_with_another_proposal() -> None:
    first = take(looking(), Tick()).state
    later = take(take(first, Tick(), at(NOW + ATTEMPT)).state, Tick(), at(NOW + ATTEMPT)).state
    assert isinstance(first.formation, Forming)
    assert isinstance(later.formation, Forming)
    assert later.formation.proposal != first.formation.proposal


def test_two_stores_never_make_the_same_proposal() -> None:
    other = replace(looking(), incarnation="another store")
    proposals = {take(state, Tick()).state.formation.proposal for state in (looking(), other)}  # type: ignore[union-attr]
    assert len(proposals) == 2


def test_who_looks_for_other_peers_refuses_and_the_one_who_asked_knows_who() -> None:
    other = looking("s2", ("s1", "s2", "s4"))
    asked = sent(take(looking(), Tick()).effects, FormCluster, "s2")[0]
    state, effects = take(other, asked)
    assert state == other, "it keeps itself free for nobody"
    reply = only(effects, FormClusterReply)
    assert reply.refusal == "different"
    state = take(take(looking(), Tick()).state, reply).state
    assert state.bootstrap is not None
    assert (state.bootstrap.refused, state.formation) == ("s2", None)


def test_a_list_in_another_order_is_the_same() -> None:
    asked = sent(take(looking(), Tick()).effects, FormCluster, "s2")[0]
    assert only(take(looking("s2", ("s3", "s2", "s1")), asked).effects, FormClusterReply).refusal == ""


def test_who_asks_anew_has_given_up_what_it_asked_before() -> None:
    """It was restarted: whoever keeps itself free for its old proposal would refuse it for a while."""
    state = take(unconfigured(), form_cluster("s2", "old", "s1", "s2")).state
    assert only(take(state, form_cluster("s2", "new", "s1", "s2")).effects, FormClusterReply).refusal == ""
    other = replace(form_cluster("s3", "other", "s1", "s3"))
    assert only(take(state, other).effects, FormClusterReply).refusal == "forming"


# -- those who come later ----------------------------------------------------------------------------------------------


def test_who_looks_for_others_also_asks_to_be_let_in_and_says_whom_it_expects() -> None:
    joining = Joining(("s2", "s3"), expected=NAMES)
    effects = take(unconfigured(joining=joining), Tick()).effects
    assert only(effects, Join).expected == NAMES


def test_a_cluster_takes_a_new_store_of_an_expected_name_and_no_stranger() -> None:
    silent = replace(
        bench.leading(bench.leader()).progress["s3"],
        heard_at=NOW - 9,
    )
    state = bench.leader(role={"progress": {**bench.leading(bench.leader()).progress, "s3": silent}})
    fresh = bench.join("s3", 0, cluster="", incarnation="a new store", expected=NAMES)
    assert only(take(state, fresh).effects, JoinReply).refusal is JoinRefusal.ACCEPTED
    forgotten = bench.join("s4", 0, cluster="", expected=(*NAMES, "s4"))
    assert only(take(bench.leader(), forgotten).effects, JoinReply).refusal is JoinRefusal.ACCEPTED
    stranger = bench.join("s9", 0, cluster="", expected=("s1", "s9"))
    assert only(take(state, stranger).effects, JoinReply).refusal is JoinRefusal.UNEXPECTED


def test_who_was_not_expected_asks_no_more() -> None:
    state = unconfigured(joining=Joining(("s2",), expected=NAMES))
    state = take(state, bench.join_reply("s2", 1, JoinRefusal.UNEXPECTED)).state
    assert state.joining is not None
    assert state.joining.retry == NEVER
