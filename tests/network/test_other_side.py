"""Whom a process connects to is looked at as well: by its key, for every letter and every request."""

from __future__ import annotations

import queue
import time

import pytest

from raft_actors.errors import RaftError, Unauthorized, UnknownPeer
from raft_actors.keys import Keyring, keygen
from raft_actors.protocol.messages import RequestVote
from raft_actors.protocol.types import NOWHERE
from raft_actors.transport.frames import Answer, Letter
from raft_actors.transport.zeromq.links import MOST_LINKS
from raft_actors.transport.zeromq.wire import Wire
from tests.network.asking import request
from tests.network.guarded import Guarded
from tests.processes.tools import eventually


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    one = Guarded(tmp_path_factory.mktemp("other"))
    yield one
    one.close()


@pytest.fixture
def ring(node, tmp_path):
    """Keys that the node lets in as a peer, and that know the node as the one of ``s1``."""
    keygen(tmp_path / "own")
    node.let_in("peer", "s9", tmp_path / "own")
    (tmp_path / "own/allowed").write_text(f"peer {node.server_key} s1\n")
    return Keyring(tmp_path / "own")


@pytest.fixture
def wire(ring):
    one = Wire(ring)
    one.start()
    yield one
    one.close()


def asked(wire: Wire, node: Guarded, to: str, patience: float = 5.0) -> object:
    """What comes of asking a peer of the node for its status."""
    results: queue.Queue[object] = queue.Queue()
    request(wire, node.address, to, time.monotonic() + patience, results.put)
    return results.get(timeout=patience + 5)


def test_a_node_is_asked_for_the_peers_that_its_key_may_be_only(wire, node) -> None:
    assert isinstance(asked(wire, node, "s1"), Answer)
    assert isinstance(asked(wire, node, "s2"), Unauthorized)
    assert isinstance(asked(wire, node, "s1"), Answer)


def test_a_letter_to_somebody_who_cannot_be_there_does_not_leave(wire, node) -> None:
    assert isinstance(asked(wire, node, "s1"), Answer)
    vote = RequestVote(cluster="", sender="s9", incarnation="x", receiver="", term=1, last=NOWHERE)
    wire.post(node.address, Letter("s2", vote))
    eventually(lambda: wire.refused["not at that node"] == 1)
    assert isinstance(asked(wire, node, "s1"), Answer)


def test_a_node_whose_key_is_taken_off_our_list_is_told_nothing_more(wire, ring, node) -> None:
    assert isinstance(asked(wire, node, "s1"), Answer)
    (ring.folder / "allowed").write_text("# nobody\n")
    eventually(lambda: isinstance(asked(wire, node, "s1", 0.5), RaftError))
    eventually(lambda: wire.link(node.address).state != "ready")
    (ring.folder / "allowed").write_text(f"peer {node.server_key} s1\n")
    eventually(lambda: isinstance(asked(wire, node, "s1", 0.5), Answer))


@pytest.mark.parametrize("text", ["", "\n", "x" * 40, "\udcff"])
def test_a_guest_believes_only_the_keys_that_it_was_given(wire, ring, node, text) -> None:
    (ring.folder / "allowed").write_text("")
    path = ring.folder / "cluster.key"
    path.write_text(f"{node.server_key}\n")
    eventually(lambda: isinstance(asked(wire, node, "s1", 0.5), Answer))
    path.write_bytes(text.encode(errors="surrogateescape"))
    eventually(lambda: isinstance(asked(wire, node, "s1", 0.5), RaftError))
    path.unlink()
    path.mkdir()
    assert isinstance(asked(wire, node, "s1", 0.5), RaftError)


def test_connections_that_nobody_wants_are_forgotten(wire) -> None:
    results: queue.Queue[object] = queue.Queue()
    for port in range(1, 3 * MOST_LINKS):
        request(wire, f"127.0.0.1:{port}", "s1", time.monotonic() + 0.2, results.put)
    for _ in range(1, 3 * MOST_LINKS):
        assert isinstance(results.get(timeout=10), RaftError)
    eventually(lambda: len(wire._links) <= MOST_LINKS)


def test_a_request_to_a_wire_that_is_closed_is_answered() -> None:
    wire = Wire(None)
    wire.start()
    wire.close()
    found: list[object] = []
    request(wire, "127.0.0.1:1", "s1", time.monotonic() + 60, found.append)
    assert isinstance(found[0], UnknownPeer)
