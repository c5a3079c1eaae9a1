"""Which messages are heard at all: everything else is refused, counted, and never answered."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from raft_actors.protocol.effects import Discard
from raft_actors.protocol.messages import AppendEntriesReply, Message, RequestVoteReply
from raft_actors.protocol.state import Forming, PeerState, Reserved
from raft_actors.protocol.types import LogPosition
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


STRANGERS = ("FormCluster", "Introduce", "Join")
"""What peers say before they belong together: the rules for them look at the cluster."""


@pytest.mark.parametrize("name", [name for name in MESSAGES if not name.startswith(STRANGERS)])
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


ANSWERS = [
    vote("s2", 2),
    ack("s2", 2, 2),
    bench.pre_vote_reply("s2", 2, granted=True),
    bench.piece_reply("s2", 2, 0, 5),
]


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: type(answer).__name__)
def test_another_store_of_a_members_name_is_not_counted(answer: Message) -> None:
    """BUG-62: a wiped disk must not vote or acknowledge under the old name."""
    for state in (bench.pre_candidate(), bench.candidate(), bench.leader()):
        assert refused(state, replace(answer, incarnation="a new store")) == "replaced incarnation"


def test_a_leader_is_followed_that_took_the_place_of_a_member_we_know() -> None:
    """Its cluster has replaced it, and our log does not tell so yet: only this leader can bring us up to date."""
    state = bench.peer("s1", terms=(1,))
    after, effects = take(state, replace(append("s2", 2, LogPosition(1, 1)), incarnation="a new store"))
    assert after.leader == "s2"
    assert bench.only(effects, AppendEntriesReply).receiver == "a new store"
    after, effects = take(state, replace(bench.piece("s2", 2, LogPosition(2, 9)), incarnation="a new store"))
    assert after.receiving is not None


def test_it_gets_a_vote_as_well() -> None:
    """It stands only as a voter of a configuration that has replaced the old store for good."""
    request = replace(request_vote("s2", 2, LogPosition(1, 1)), incarnation="a new store")
    reply = bench.only(take(bench.peer("s1", terms=(1,)), request).effects, RequestVoteReply)
    assert reply.granted
    assert reply.receiver == "a new store"


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
