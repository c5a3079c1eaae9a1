"""Three processes are one cluster: started, written to, asked, changed, killed, frozen and moved."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import raft_actors as raft
from raft_actors.keys import keygen
from tests.network.servers import PATIENCE, Servers, Writer, eventually, free_port
from tests.processes.tools import one_line, raft_actors


@pytest.fixture(params=["insecure", "keys"])
def trust(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    if request.param == "insecure":
        return None
    keygen(tmp_path / "keys")
    return tmp_path / "keys"


@pytest.fixture
def servers(tmp_path: Path, trust: Path | None) -> Iterator[Servers]:
    with Servers(tmp_path, trust) as some:
        yield some


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Servers]:
    with Servers(tmp_path) as some:
        yield some


def read_at(servers: Servers, name: str):
    """Reads of one peer alone, linearizable."""
    client = raft.Client(servers.addresses[name], keys=servers.keys, timeout=PATIENCE)
    return client.read


def test_the_demo_story_with_a_killed_leader(servers: Servers) -> None:
    servers.serve()
    with servers.client(timeout=PATIENCE) as client, Writer(client) as writer:
        leader = servers.leader()
        servers.kill(leader)
        writer.go_on()
        assert servers.leader() != leader
        servers.serve(leader)
        writer.go_on()
    assert not writer.unknown
    for name in servers.addresses:
        writer.check(read_at(servers, name))
    assert max(writer.gaps) < 5


def test_status_tells_the_truth(plain: Servers) -> None:
    plain.serve()
    leader = plain.leader()
    dead = next(name for name in plain.addresses if name != leader)
    plain.kill(dead)
    found = {one["name"]: one for one in plain.command("status")}
    assert set(found) == set(plain.addresses.values())
    assert "UnknownPeer" in found[plain.addresses[dead]]["error"]
    assert [one["role"] for one in found.values() if "role" in one].count("leader") == 1
    assert found[plain.addresses[leader]]["role"] == "leader"
    one = raft_actors("status", "--connect", plain.addresses[leader], "--insecure", folder=plain.folder)
    assert all(address in one.stdout.decode() for address in plain.addresses.values())


def test_one_command_after_the_other(plain: Servers) -> None:
    plain.serve()
    assert plain.command("write", '["set", "a", [1, 2]]') == ["ok", "a", [1, 2]]
    for consistency in ("linearizable", "lease", "stale"):
        assert plain.command("read", '["get", "a"]', "--consistency", consistency) in ([1, 2], None)
    assert plain.command("members") == {"voters": list(plain.addresses.values()), "learners": [], "index": 1}
    wanted = next(name for name in plain.addresses if name != plain.leader())
    assert plain.command("transfer", wanted) == plain.addresses[wanted] == plain.addresses[plain.leader()]
    assert plain.command("snapshot", wanted) >= 1
    assert len(plain.command("top", "--count", 1)) == 3


def test_a_peer_is_added_and_another_one_removed(servers: Servers) -> None:
    servers.serve()
    new = f"s4@127.0.0.1:{free_port()}"
    with servers.client(timeout=PATIENCE) as client, Writer(client) as writer:
        servers.addresses["s4"] = new
        servers.serve("s4", begin=())
        assert servers.command("add", new, "--learner")["learners"] == [new]
        assert new in servers.command("add", new)["voters"]
        removed = servers.leader()
        assert servers.addresses[removed] not in servers.command("remove", removed)["voters"]
        writer.go_on()
    writer.check(read_at(servers, "s4"))
    assert servers.terminate(removed) == 0


def test_a_peer_joins_by_itself(plain: Servers) -> None:
    plain.serve()
    known = plain.peers
    plain.addresses["s4"] = f"s4@127.0.0.1:{free_port()}"
    plain.serve("s4", begin=("--join", known))
    eventually(lambda: plain.addresses["s4"] in plain.command("members")["voters"])


def test_a_peer_that_comes_back_under_another_address_is_followed(servers: Servers) -> None:
    servers.serve()
    moved = next(name for name in servers.addresses if name != servers.leader())
    with servers.client(timeout=PATIENCE) as client, Writer(client) as writer:
        assert servers.terminate(moved) == 0
        servers.addresses[moved] = f"{moved}@127.0.0.1:{free_port()}"
        servers.serve(moved)
        eventually(lambda: servers.addresses[moved] in servers.command("members")["voters"])
        writer.go_on()
    writer.check(read_at(servers, moved))


def test_a_dead_peer_is_replaced_by_one_of_its_name_elsewhere(plain: Servers) -> None:
    plain.serve()
    dead = next(name for name in plain.addresses if name != plain.leader())
    plain.kill(dead)
    shutil.rmtree(plain.folder / "data" / dead)
    plain.addresses[dead] = f"{dead}@127.0.0.1:{free_port()}"
    plain.serve(dead, begin=())
    assert plain.addresses[dead] in plain.command("add", plain.addresses[dead])["voters"]
    with plain.client(timeout=PATIENCE) as client:
        client.write(("set", "a", 1))
    assert read_at(plain, dead)(("get", "a")) == 1


def test_a_leader_that_comes_back_under_another_address_is_followed(plain: Servers) -> None:
    plain.serve()
    moved = plain.leader()
    plain.kill(moved)
    plain.addresses[moved] = f"{moved}@127.0.0.1:{free_port()}"
    plain.serve(moved)
    eventually(lambda: plain.addresses[moved] in plain.command("members")["voters"])


def test_a_frozen_leader_is_replaced_and_follows_when_it_wakes(servers: Servers) -> None:
    servers.serve()
    frozen = servers.leader()
    with servers.client(timeout=PATIENCE) as client, Writer(client) as writer:
        servers.signal(frozen, signal.SIGSTOP)
        writer.go_on()
        servers.signal(frozen, signal.SIGCONT)
        writer.go_on()
    assert not writer.unknown
    writer.check(read_at(servers, frozen))


def test_a_graceful_stop_hands_over(servers: Servers) -> None:
    servers.serve()
    leader = servers.leader()
    with servers.client(timeout=PATIENCE) as client, Writer(client) as writer:
        assert servers.terminate(leader) == 0
        writer.go_on()
    assert not writer.unknown
    assert max(writer.gaps) < 2


class Fatal(raft.StateMachine):
    """Its first write ends the peer."""

    def init(self, name: str) -> None:
        return None

    def handle_write(self, command: object, state: None) -> tuple[None, None]:
        raise SystemExit("planted")

    def handle_read(self, query: object, state: None) -> tuple[None, None]:
        return None, state


def test_a_process_whose_peer_has_failed_for_good_ends(tmp_path) -> None:
    with Servers(tmp_path, names=("s1",)) as servers:
        servers.serve(machine=f"{__name__}:Fatal")
        with servers.client(timeout=PATIENCE) as client:
            client.write("anything", block=False)
            assert servers.processes["s1"].wait(PATIENCE) == 1
        assert "planted" in servers.log("s1")


def test_peers_that_are_started_in_any_order_form_one_cluster_once(plain: Servers) -> None:
    for name in ("s3", "s1", "s2"):
        plain.serve(name)
    with plain.client(timeout=PATIENCE) as client:
        client.write(("set", "a", 1))
    for name in plain.addresses:
        assert plain.terminate(name) == 0
    plain.serve()
    with plain.client(timeout=PATIENCE) as client:
        assert client.read(("get", "a")) == 1
    assert plain.command("members")["index"] == 1


def test_a_hundred_threads_use_one_client(plain: Servers) -> None:
    plain.serve()
    from concurrent.futures import ThreadPoolExecutor

    with plain.client(timeout=PATIENCE) as client, ThreadPoolExecutor(100) as pool:
        assert len(list(pool.map(lambda number: client.write(("set", number, number)), range(500)))) == 500
        assert client.read("len") == 500
        futures = [client.write(("set", "last", number), block=False) for number in range(500)]
        assert [future.get()[2] for future in futures] == list(range(500))
        assert client.read(("get", "last")) == 499


def test_a_killed_leader_costs_a_client_little(plain: Servers) -> None:
    plain.serve()
    with plain.client(timeout=PATIENCE) as client:
        client.write(("set", "a", 1))
        plain.kill(plain.leader())
        begun = time.monotonic()
        client.write(("set", "a", 2))
        assert time.monotonic() - begun < 3
        assert client.status()


SERVE = ("serve", "s1@127.0.0.1:1", "--machine", "raft_actors.machines:KV", "--data-dir", "d", "--insecure")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["serve", "s1@127.0.0.1:1", "--machine", "raft_actors.machines:KV", "--data-dir", "d"], "give --keys DIR"),
        (["serve", "s1", "--machine", "raft_actors.machines:KV", "--data-dir", "d", "--insecure"], "name@host:port"),
        (["serve", "s1@h:1", "--machine", "nothing:KV", "--data-dir", "d", "--insecure"], "nothing"),
        ([*SERVE, "--peers", "s1@127.0.0.1:1,s1@127.0.0.1:2"], "--peers has a name twice"),
        ([*SERVE, "--join", "s1@127.0.0.1:1"], "--join names this peer itself"),
        (["status", "--connect", "s1@127.0.0.1:1"], "give --keys DIR"),
        (["status", "--connect", "s1", "--insecure"], "name@host:port"),
        (["write", "[1", "--connect", "s1@127.0.0.1:1", "--insecure"], "is not JSON"),
        (["write", "1", "--connect", "s1@127.0.0.1:1", "--keys", "nowhere"], "no folder nowhere"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(tmp_path: Path, words: list[str], says: str) -> None:
    done = raft_actors(*words, folder=tmp_path)
    assert done.returncode == 2
    assert says in one_line(done.stderr)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["members", "--connect", "s1@127.0.0.1:1", "--insecure"], "no node listens at 127.0.0.1:1"),
        (["write", "1", "--connect", "s1@127.0.0.1:1", "--insecure", "--timeout", "0.3"], "127.0.0.1:1"),
        (["write", "1", "--connect", "s1@10.0.0.1:1", "--insecure"], "reached with keys only"),
        (
            ["serve", "s1@10.0.0.1:1", "--machine", "raft_actors.machines:KV", "--data-dir", "d", "--insecure"],
            "without keys",
        ),
    ],
)
def test_what_cannot_be_reached_or_done_is_one_line_and_status_1(tmp_path: Path, words: list[str], says: str) -> None:
    done = raft_actors(*words, folder=tmp_path)
    assert done.returncode == 1
    assert says in one_line(done.stderr)
