"""Nodes vouch for their peers that rest: what is said, to whom, when, and what of it counts."""

from __future__ import annotations

import collections
import queue
import time

import pytest

import raft_actors as raft
from raft_actors.beats import MOST_NODES, Beats
from raft_actors.keys import Guest
from raft_actors.machines import KV
from raft_actors.network import NodeTransport
from raft_actors.supervisor import Handle, handle_of
from raft_actors.transport.frames import Beat, Rest
from raft_actors.transport.zeromq.wire import Wire
from tests.network.servers import Servers, eventually

ADDRESSES = {"s1": "one:1", "s2": "two:2", "s3": "three:3", "t2": "two:2"}
EVERYBODY = Guest("peer", "*")
EVERY = 0.1
NOW = 1000.0
LONG = 1.5
"""Seconds: longer than anybody waits who hears nothing."""


class Side:
    """The beats of the node at ``address``."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.here = {name for name, at in ADDRESSES.items() if at == address}
        self.refused: collections.Counter[str] = collections.Counter()
        self.beats = Beats(self._where, self.here.__contains__, self.refused)

    def _where(self, name: str, other: str) -> str:
        assert name in self.here
        return "" if ADDRESSES[other] == self.address else ADDRESSES[other]

    def says(self, now: float) -> dict[str, tuple[Rest, ...]]:
        return dict(self.beats.due(now)[0])

    def hears(self, address: str, *rests: Rest, now: float = NOW, guest: Guest = EVERYBODY) -> bool:
        return self.beats.take(guest, Beat(address, rests), now)


@pytest.fixture
def one() -> Side:
    return Side("one:1")


@pytest.fixture
def two() -> Side:
    return Side("two:2")


# -- what is said ------------------------------------------------------------------------------------------------------


def test_nobody_says_anything_where_nobody_rests(one: Side) -> None:
    assert one.beats.due(NOW) == ([], float("inf"))


def test_a_leader_is_vouched_for_at_each_node_of_its_followers(one: Side) -> None:
    one.beats.rest("s1", ("s2", "s3"), 7, EVERY)
    assert one.says(NOW) == {"two:2": (Rest("s1", "s2", 7),), "three:3": (Rest("s1", "s3", 7),)}


def test_all_peers_of_a_node_are_vouched_for_with_one_beat(two: Side) -> None:
    two.beats.rest("s2", ("s1",), 7, EVERY)
    two.beats.rest("t2", ("s1",), 9, EVERY)
    assert two.says(NOW) == {"one:1": (Rest("s2", "s1", 7), Rest("t2", "s1", 9))}


def test_a_beat_is_repeated_in_time_and_not_before(one: Side) -> None:
    one.beats.rest("s1", ("s2",), 7, EVERY)
    letters, again = one.beats.due(NOW)
    assert (len(letters), again) == (1, NOW + EVERY)
    assert one.says(NOW + EVERY / 2) == {}
    assert one.says(again)


def test_at_each_node_the_most_impatient_peer_decides_how_often(two: Side) -> None:
    two.beats.rest("s2", ("s1", "s3"), 7, EVERY)
    two.beats.rest("t2", ("s1",), 9, EVERY / 4)
    assert two.beats.due(NOW)[1] == NOW + EVERY / 4
    assert set(two.says(NOW + EVERY / 2)) == {"one:1"}


def test_what_has_ended_is_not_said_any_more(one: Side) -> None:
    one.beats.rest("s1", ("s2", "s3"), 7, EVERY)
    one.says(NOW)
    one.beats.rest("s1", (), 7, EVERY)
    assert one.beats.due(NOW + 1) == ([], float("inf"))


def test_only_one_that_rests_where_nobody_does_or_less_patiently_asks_for_a_beat_soon(two: Side) -> None:
    assert two.beats.rest("s2", ("s1",), 7, EVERY)
    two.beats.due(time.monotonic())
    assert not two.beats.rest("t2", ("s1",), 9, EVERY * 2)
    assert two.beats.rest("t2", ("s1",), 9, EVERY / 4)
    assert not two.beats.rest("t2", (), 9, EVERY / 4)


def test_who_begins_to_rest_is_named_from_the_next_beat_on_and_who_is_roused_no_more(two: Side) -> None:
    two.beats.rest("s2", ("s1",), 7, EVERY)
    two.says(NOW)
    two.beats.rest("t2", ("s1",), 9, EVERY)
    assert two.says(NOW + EVERY) == {"one:1": (Rest("s2", "s1", 7), Rest("t2", "s1", 9))}
    two.beats.rest("s2", (), 7, EVERY)
    assert two.says(NOW + 2 * EVERY) == {"one:1": (Rest("t2", "s1", 9),)}


def test_peers_of_one_node_need_no_beat(two: Side) -> None:
    two.beats.rest("s2", ("t2",), 7, EVERY)
    assert two.says(NOW) == {}
    assert two.beats.vouched("t2", ("s2",), 7)["s2"] == pytest.approx(time.monotonic(), abs=5)
    assert two.beats.vouched("t2", ("s2",), 8) == {}


def test_a_beat_is_answered_by_ours_since_that_node_is_awake(two: Side) -> None:
    two.beats.rest("s2", ("s1",), 7, EVERY)
    two.says(NOW)
    assert not two.hears("one:1", Rest("s1", "s2", 7), now=NOW + EVERY / 4)
    assert two.hears("one:1", Rest("s1", "s2", 7), now=NOW + EVERY * 0.9)
    assert two.says(NOW + EVERY * 0.9)
    assert two.says(NOW + EVERY) == {}


# -- what counts -------------------------------------------------------------------------------------------------------


def test_what_a_node_says_counts_from_when_it_came(two: Side) -> None:
    two.hears("one:1", Rest("s1", "s2", 7))
    assert two.beats.vouched("s2", ("s1", "s3"), 7) == {"s1": NOW}
    two.hears("one:1", Rest("s1", "s2", 7), now=NOW + 0.1)
    assert two.beats.vouched("s2", ("s1",), 7) == {"s1": NOW + 0.1}


def test_it_counts_in_its_term_and_for_its_receiver_only(two: Side) -> None:
    two.hears("one:1", Rest("s1", "s2", 7), Rest("s1", "s3", 7))
    assert two.beats.vouched("s2", ("s1",), 8) == two.beats.vouched("t2", ("s1",), 7) == {}
    assert two.beats.vouched("s3", ("s1",), 7) == {}, "nobody of that name is here"


def test_what_a_beat_does_not_repeat_is_said_no_more(two: Side) -> None:
    two.hears("one:1", Rest("s1", "s2", 7), Rest("s1", "t2", 9))
    two.hears("one:1", Rest("s1", "t2", 9), now=NOW + 0.1)
    assert two.beats.vouched("s2", ("s1",), 7) == {}
    assert two.beats.vouched("t2", ("s1",), 9) == {"s1": NOW + 0.1}


def test_a_key_vouches_for_its_own_peers_only(two: Side) -> None:
    two.hears("one:1", Rest("s1", "s2", 7), Rest("s3", "s2", 7), guest=Guest("peer", "s3"))
    assert two.beats.vouched("s2", ("s1", "s3"), 7) == {"s3": NOW}
    assert two.refused == {"speaks as another": 1}


def test_a_key_does_not_take_back_what_another_said_from_the_same_address(two: Side) -> None:
    two.hears("one:1", Rest("s1", "s2", 7), guest=Guest("peer", "s1"))
    two.hears("one:1", guest=Guest("peer", "s3"))
    assert two.beats.vouched("s2", ("s1",), 7) == {"s1": NOW}


def test_what_was_said_from_a_lost_node_is_forgotten(two: Side) -> None:
    two.hears("one:1", Rest("s1", "s2", 7))
    two.beats.lost("one:1")
    assert two.beats.vouched("s2", ("s1",), 7) == {}


def test_not_more_nodes_are_remembered_than_there_is_room_for(two: Side) -> None:
    for number in range(MOST_NODES + 10):
        two.hears(f"there:{number}", Rest("s1", "s2", number))
    remembered = [number for number in range(MOST_NODES + 10) if two.beats.vouched("s2", ("s1",), number)]
    assert remembered == list(range(10, MOST_NODES + 10))


# -- real processes ----------------------------------------------------------------------------------------------------


def test_peers_on_three_nodes_rest_until_somebody_writes_and_rest_again(tmp_path) -> None:
    with Servers(tmp_path) as servers:
        servers.serve("s2", "s3")
        here = servers.addresses["s1"]
        with raft.start_node(here.partition("@")[2], insecure=True):
            config = raft.Config(data_dir=tmp_path / "data", codec="plain")
            raft.start_peer(KV, name="s1", config=config, join=servers.peers.split(","), bootstrap_expect=3)
            with servers.client(timeout=20.0) as client:
                client.write(("set", "a", 1))
                if client.leader() != here:
                    raft.transfer_leadership(here, here)
                peer = handle_of("s1")
                eventually(lambda: rests(peer))
                client.write(("set", "a", 2))
                assert client.read(("get", "a")) == 2
                eventually(lambda: rests(peer))
            term, begin = peer.state.term, time.monotonic()
            eventually(lambda: rests(peer) and peer.state.role.heartbeat_deadline > begin + LONG)
            assert (peer.state.term, raft.status(here).role) == (term, "leader")


def rests(peer: Handle) -> bool:
    return peer.state is not None and peer.state.role.resting


def test_what_answers_a_beat_is_said_by_the_timer_of_the_wire_which_is_set_anew(monkeypatch) -> None:
    """An answer that left past that timer would have it wake the thread for nothing, beat after beat."""
    wire = Wire(None)
    said: queue.SimpleQueue[float] = queue.SimpleQueue()
    wire.serve(lambda _: None, lambda *_: None, lambda now: said.put(now) or float("inf"))
    transport = NodeTransport(wire, "127.0.0.1:1")
    monkeypatch.setattr(transport._beats, "take", lambda *_: True)
    transport.take_beat(EVERYBODY, Beat("127.0.0.1:2", ()))
    assert said.empty()
    wire.start()
    said.get(timeout=10)
    wire.close()
