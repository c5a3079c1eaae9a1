"""Which messages are heard at all: everything else is refused, counted, and never answered."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from raft_actors.protocol.effects import Discard
from raft_actors.protocol.messages import Message
from raft_actors.protocol.state import Forming, PeerState, Reserved
from tests.behaviours import bench
from tests.behaviours.bench import CLUSTER, NOW, ack, append, request_vote, take, unconfigured, vote
from tests.behaviours.test_table import MESSAGES

FORMING = Forming(1, "mine", ("s1", "s2"), {}, NOW + 5, NOW + 1)


def refused(state: PeerState, message: Message) -> str:
    """Why a message was refused; it must have had no effect then."""
    after, effects = take(state, message)
    discards = bench.of_type(effects, Discard)
    if not discards:
        return ""
    assert effects == (discards[0],)
    assert after == state
    assert discards[0].sender == message.sender
    return discards[0].reason


@pytest.mark.parametrize("name", [name for name in MESSAGES if not name.startswith("FormCluster")])
def test_a_foreign_cluster_is_not_heard(name: str) -> None:
    message = replace(MESSAGES[name](9), cluster="another")
    for state in (bench.following(), bench.candidate(), bench.leader()):
        assert refused(state, message) == "foreign cluster"


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_for_a_store_that_is_gone_is_not_heard(name: str) -> None:
    """BUG-62: it was meant for what this peer was before it was wiped."""
    message = replace(MESSAGES[name](9), receiver="the store before")
    assert refused(bench.following(), message) == "meant for another incarnation"
    assert refused(unconfigured(), message) == "meant for another incarnation"


def test_a_replaced_member_is_not_heard() -> None:
    """BUG-62: a wiped disk must not vote or acknowledge under the old name."""
    state = bench.candidate()
    assert refused(state, replace(vote("s2", 2), incarnation="a new store")) == "replaced incarnation"
    assert refused(bench.leader(), replace(ack("s2", 2, 2), incarnation="a new store")) == "replaced incarnation"


def test_a_stranger_of_our_cluster_is_heard() -> None:
    """Our configuration may be the older one (thesis §4.1)."""
    assert refused(bench.peer(), request_vote("s9", 2)) == ""


def test_a_message_of_no_cluster_is_not_heard() -> None:
    assert refused(bench.peer(), replace(request_vote("s2", 2), cluster="")) == "no cluster"


def test_a_sender_that_cannot_know_our_store_is_heard_by_a_member() -> None:
    assert refused(bench.peer(), replace(request_vote("s2", 2), receiver="")) == ""


# -- unconfigured ------------------------------------------------------------------------------------------------------


def test_an_unconfigured_peer_hears_only_who_knows_its_store() -> None:
    assert refused(unconfigured(), append("s2", 2)) == ""
    assert refused(unconfigured(), replace(append("s2", 2), receiver="")) == "not meant for this store"


def test_an_unconfigured_peer_hears_only_the_cluster_it_keeps_itself_free_for() -> None:
    free = unconfigured(formation=Reserved(CLUSTER, NOW + 5))
    other = unconfigured(formation=Reserved("another", NOW + 5))
    assert refused(free, request_vote("s2", 2)) == ""
    assert refused(other, request_vote("s2", 2)) == "kept free for another cluster"
    assert refused(unconfigured(formation=FORMING), request_vote("s2", 2)) == "forming a cluster of its own"


def test_a_message_that_is_heard_makes_an_unconfigured_peer_a_member() -> None:
    assert take(unconfigured(), append("s2", 2)).state.cluster == CLUSTER
    assert take(unconfigured(), bench.pre_vote("s2", 2)).state.cluster == "", "a pre-vote changes nothing"
