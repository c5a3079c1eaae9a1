"""This process as a node: what is refused, what a name means, and what is left when it closes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import raft_actors as raft
from raft_actors.keys import keygen
from raft_actors.machines import KV
from raft_actors.transport.frames import Answer
from raft_actors.transport.zeromq.wire import Wire
from tests.network.asking import request
from tests.threads.tools import wait_until


@pytest.fixture
def node() -> Iterator[raft.Node]:
    with raft.start_node("127.0.0.1:0", insecure=True) as one:
        yield one


def config(folder: Path, **more) -> raft.Config:
    return raft.Config(data_dir=folder, codec="plain", **more)


@pytest.mark.parametrize(
    ("address", "options", "error", "says"),
    [
        ("127.0.0.1:0", {}, raft.Unauthorized, "without keys"),
        ("0.0.0.0:0", {"insecure": True}, raft.Unauthorized, "let everybody in"),
        ("10.1.2.3:7000", {"insecure": True}, raft.Unauthorized, "loopback"),
        ("127.0.0.1", {"insecure": True}, raft.InvalidName, "host:port"),
        (None, {"insecure": True}, raft.InvalidName, "None.*host:port"),
        (7001, {"insecure": True}, raft.InvalidName, "7001.*host:port"),
        ("127.0.0.1:70000", {"insecure": True}, raft.InvalidName, "host:port"),
        ("127.0.0.1:0", {"keys": "nowhere"}, raft.InvalidConfig, "nowhere"),
    ],
)
def test_a_node_that_is_not_safe_or_not_possible_is_refused(address, options, error, says) -> None:
    with pytest.raises(error, match=says):
        raft.start_node(address, **options)


def test_a_port_that_somebody_has_is_refused_and_leaves_nothing_behind(node: raft.Node) -> None:
    address = node.address
    node.close()
    with raft.start_node(address, insecure=True):
        pass
    with raft.start_node("127.0.0.1:0", insecure=True) as other:
        from raft_actors.node import open_transport

        with pytest.raises(raft.InvalidConfig, match=other.address):
            open_transport(other.address)


def test_a_process_is_one_node(node: raft.Node) -> None:
    with pytest.raises(raft.AlreadyStarted, match=f"{node.address}.*close that Node"):
        raft.start_node("127.0.0.1:0", insecure=True)
    node.close()
    node.close()
    with raft.start_node("127.0.0.1:0", insecure=True) as other:
        assert other.address != "127.0.0.1:0"


def test_a_peer_of_a_node_has_a_full_name_and_answers_to_both(node: raft.Node, tmp_path: Path) -> None:
    raft.start_peer(KV, name="s1", config=config(tmp_path))
    full = f"s1@{node.address}"
    assert raft.set_configuration(full, [full]).voters == (full,)
    assert raft.leader("s1") == raft.leader(full) == raft.status("s1").name == raft.status(full).leader == full
    assert raft.write(full, ("set", "a", 1)) == ("ok", "a", 1)
    assert raft.read("s1", ("get", "a")) == 1
    with raft.Client(full) as client:
        assert client.leader() == full
        assert client.read("len") == 1
    raft.stop(full)


def test_events_name_a_peer_of_a_node_by_its_full_name(node: raft.Node, tmp_path: Path) -> None:
    raft.start_peer(KV, name="s1", config=config(tmp_path))
    full, events = f"s1@{node.address}", []
    with raft.subscribe("s1", events.append):
        raft.set_configuration(full, [full])
        raft.snapshot(full)
        raft.stop(full)
        wait_until(lambda: any(isinstance(event, raft.PeerStopped) for event in events))
    named = [event for event in events if isinstance(event, raft.RoleChanged | raft.SnapshotTaken | raft.PeerStopped)]
    assert {type(event) for event in named} == {raft.RoleChanged, raft.SnapshotTaken, raft.PeerStopped}
    assert {event.name for event in named} == {full}


def test_a_peer_that_was_started_before_the_node_stays_of_this_process(tmp_path: Path) -> None:
    raft.start_peer(KV, name="before", config=raft.Config(data_dir=tmp_path))
    raft.set_configuration("before", ["before"])
    with raft.start_node("127.0.0.1:0", insecure=True):
        assert raft.leader("before") == "before"
        assert raft.configuration("before").voters == ("before",)
    assert raft.leader("before") == "before"
    raft.stop("before")


def test_a_node_without_keys_takes_only_peers_that_unpickle_nothing(node: raft.Node, tmp_path: Path) -> None:
    with pytest.raises(raft.InvalidConfig, match="codec must be 'plain'") as refusal:
        raft.start_peer(KV, name="s1", config=raft.Config(data_dir=tmp_path))
    assert refusal.value.fields == ("codec",)
    assert not list(tmp_path.iterdir())


def test_commands_that_no_frame_holds_are_refused_at_the_start(node: raft.Node, tmp_path: Path) -> None:
    large = config(tmp_path, max_command_bytes=65 << 20, max_pending_bytes=1 << 30)
    with pytest.raises(raft.InvalidConfig, match="over a network") as refusal:
        raft.start_peer(KV, name="s1", config=large)
    assert refusal.value.fields == ("max_command_bytes",)


def test_closing_a_node_stops_its_peers(tmp_path: Path) -> None:
    with raft.start_node("127.0.0.1:0", insecure=True):
        raft.start_peer(KV, name="s1", config=config(tmp_path))
    with pytest.raises(raft.UnknownPeer):
        raft.status("s1")


def test_what_belongs_to_another_process_says_so(node: raft.Node) -> None:
    for call in (raft.stop, lambda name: raft.subscribe(name, print), lambda name: raft.backup(name, "x")):
        with pytest.raises(raft.UnknownPeer, match=r"another process|no node listens"):
            call("s9@127.0.0.1:1")


def test_a_node_with_keys_speaks_with_itself_by_its_full_name(tmp_path: Path) -> None:
    keygen(tmp_path / "keys")
    with raft.start_node("127.0.0.1:0", keys=tmp_path / "keys") as node:
        raft.start_peer(KV, name="s1", config=raft.Config(data_dir=tmp_path))
        raft.set_configuration("s1", [f"s1@{node.address}"])
        with raft.Client([f"s1@{node.address}"], keys=tmp_path / "keys") as client:
            assert client.write(("set", "a", {1, 2})) == ("ok", "a", {1, 2})
        wait_until(lambda: not node.refused)


@pytest.mark.parametrize("address", ["[::1]:0", "localhost:0"])
def test_an_address_of_ipv6_and_a_name_are_reached_as_they_are_given(address: str, tmp_path: Path) -> None:
    with raft.start_node(address, insecure=True) as node:
        raft.start_peer(KV, name="s1", config=config(tmp_path))
        raft.set_configuration("s1", ["s1"])
        caller = Wire(None)
        caller.start()
        found: list[object] = []
        request(caller, node.address, "s1", time.monotonic() + 5, found.append)
        wait_until(lambda: found)
        caller.close()
        assert isinstance(found[0], Answer), found


def test_three_peers_of_one_node_are_a_cluster(node: raft.Node, tmp_path: Path) -> None:
    names = [f"s{number}@{node.address}" for number in (1, 2, 3)]
    for number in (1, 2, 3):
        raft.start_peer(KV, name=f"s{number}", config=config(tmp_path), join=["s1", *names[1:]], bootstrap_expect=3)
    with raft.Client(names, timeout=20) as client:
        client.write(("set", "a", 1))
        assert client.leader() in names
    assert set(raft.configuration("s1").voters) == set(names)
