"""Frames that nobody sends: refused, one after the other, and nobody notices."""

from __future__ import annotations

import pytest

from raft_actors.keys import ROLES
from raft_actors.protocol.validity import why_malformed
from raft_actors.transport.frames import Answer, pack, unpack
from tests.network.fuzzing import Fuzzer, at_socket, campaign
from tests.network.guarded import Guarded, Stranger, works
from tests.network.sound_frames import all_bodies, all_messages
from tests.processes.tools import eventually

MIB = 1 << 20


@pytest.mark.parametrize("seed", [1, 2])
def test_no_frame_does_more_than_being_refused(seed) -> None:
    target = campaign(10_000, seed)
    assert target.answers > 100
    assert target.refused["malformed"] > 1000


def test_the_fuzzer_begins_with_frames_that_are_sound() -> None:
    for body in all_bodies():
        assert unpack(pack(body)) == body
    for message in all_messages():
        assert why_malformed(message) == ""


def test_the_frames_of_a_seed_are_always_the_same() -> None:
    one, other = Fuzzer(7), Fuzzer(7)
    assert [one.frame() for _ in range(1000)] == [other.frame() for _ in range(1000)]


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    one = Guarded(tmp_path_factory.mktemp("fuzzed"))
    yield one
    one.close()


@pytest.mark.parametrize("role", ROLES)
def test_a_node_lives_through_whatever_a_key_sends(node, role) -> None:
    before = node.seen()["rss"]
    keys = node.let_in(role, "nobody")
    (keys / "cluster.key").write_text(node.server_key)
    at_socket(node.address, keys, 5000, seed=len(role))
    with Stranger(node, node.let_in("writer")) as good:
        eventually(lambda: isinstance(good.writes("good", 1), Answer))
        works(node, good)
    assert node.seen()["rss"] - before < 64 * MIB


def test_a_node_without_keys_lives_through_whatever_is_sent(tmp_path) -> None:
    node = Guarded(tmp_path, keyed=False)
    with Stranger(node) as good:
        at_socket(node.address, None, 5000, seed=1)
        eventually(lambda: isinstance(good.writes("good", 1), Answer))
        works(node, good)
    node.close()
