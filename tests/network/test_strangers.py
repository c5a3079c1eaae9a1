"""Nobody is let in who is not on the list, and nobody may do more than its role: with real sockets, real processes."""

from __future__ import annotations

import contextlib
import pickle
import socket
import time
from pathlib import Path

import pytest

import raft_actors as raft
from raft_actors.keys import keygen
from raft_actors.network import is_loopback
from raft_actors.protocol.changes import AddMember, SetMembers
from raft_actors.protocol.messages import RequestVote
from raft_actors.protocol.types import NOWHERE
from raft_actors.transport.frames import (
    Answer,
    Beat,
    ChangeMembers,
    Failed,
    FindLeader,
    GetStatus,
    Gone,
    Hello,
    Letter,
    OpenSession,
    Post,
    Query,
    SessionCommand,
    SetConfiguration,
    Submit,
    TakeSnapshot,
    Transfer,
)
from tests.network.guarded import PLAIN, Guarded, Stranger, Touch, counts, is_refused, works
from tests.processes.tools import KV, RAFT_ACTORS, eventually, raft_actors, start

WRITE = Submit(PLAIN.encode(("set", "a", 1)), "plain")
READ = Query(PLAIN.encode(("get", "a")), "plain", "linearizable")
ADMIN = (
    ChangeMembers(AddMember("s2"), (("s2", "127.0.0.1:1"),)),
    ChangeMembers(SetMembers(("s1", "s2")), here=True),
    SetConfiguration((("s1", ""),)),
    Transfer("s1"),
    Transfer("s1", here=True),
    TakeSnapshot(),
)


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A node with keys."""
    one = Guarded(tmp_path_factory.mktemp("keyed"))
    yield one
    one.close()


@pytest.fixture(scope="module")
def good(node):
    """A client with the role of a writer."""
    with Stranger(node, node.let_in("writer", "good")) as client:
        yield client


@pytest.fixture(autouse=True)
def nobody_suffers(node, good):
    """After whatever was done, a good client is served at once."""
    yield
    works(node, good)


def with_role(node: Guarded, role: str, name: str = "guest") -> Stranger:
    """Somebody new on the list."""
    return Stranger(node, node.let_in(role, name))


# -- who gets in -------------------------------------------------------------------------------------------------------


def test_a_connection_without_a_key_gets_no_answer_and_is_counted(node) -> None:
    before = node.refused("no handshake")
    with Stranger(node) as stranger:
        stranger.send(Hello(1, 1))
        counts(node, "no handshake", before)
        assert stranger.hears(0.1) is None


def test_a_key_that_is_not_on_the_list_gets_no_answer_and_is_counted(node) -> None:
    before = node.refused("key not allowed")
    with Stranger(node, node.new_keys()) as stranger:
        stranger.send(Hello(1, 1))
        counts(node, "key not allowed", before)
        assert stranger.hears(0.1) is None


def test_who_does_not_know_the_key_of_the_node_gets_no_answer_and_is_counted(node) -> None:
    before, other = node.refused("no handshake"), node.new_keys()
    with Stranger(node, node.let_in("peer", "*"), (other / "public.key").read_text().strip()) as stranger:
        stranger.send(Hello(1, 1))
        counts(node, "no handshake", before)
        assert stranger.hears(0.1) is None


def test_a_key_that_is_taken_off_the_list_is_refused_on_its_open_connection_at_once(node) -> None:
    keys = node.let_in("writer")
    with Stranger(node, keys) as stranger:
        assert isinstance(stranger.writes("revoked", 1), Answer)
        before = node.refused("key not allowed")
        node.throw_out(keys)
        begun = time.monotonic()
        eventually(lambda: stranger.asks(GetStatus(), patience=0.05) is None)
        assert time.monotonic() - begun < 1.0
        assert stranger.asks(WRITE, patience=0.2) is None
        counts(node, "key not allowed", before)


def test_a_refused_key_gets_in_without_a_restart_once_it_is_on_the_list(node) -> None:
    keys, before = node.new_keys(), node.refused("key not allowed")
    with Stranger(node, keys) as stranger:
        stranger.send(Hello(1, 1))
        counts(node, "key not allowed", before)
    node.let_in("writer", keys=keys)
    eventually(lambda: _is_let_in(node, keys), 5.0)


def _is_let_in(node: Guarded, keys: Path) -> bool:
    with Stranger(node, keys) as stranger:
        return stranger.greets(0.5) is not None


def test_a_key_that_is_made_a_reader_writes_no_more_on_its_open_connection(node) -> None:
    keys = node.let_in("writer")
    with Stranger(node, keys) as stranger:
        assert isinstance(stranger.writes("demoted", 1), Answer)
        node.throw_out(keys)
        node.let_in("reader", keys=keys)
        eventually(lambda: is_refused(_again(node, keys)))


def _again(node: Guarded, keys: Path) -> object:
    with Stranger(node, keys) as stranger:
        return stranger.asks(WRITE, patience=0.5)


@pytest.mark.parametrize("text", [None, b"\xff\xfe\x00 peer", b"peer", b"let everybody in\n* * *\npeer * *\n"])
def test_a_list_that_cannot_be_read_lets_nobody_in(node, text) -> None:
    allowed = node.keys / "allowed"
    sound = allowed.read_bytes()
    keys = node.let_in("peer", "*")
    with Stranger(node, keys) as stranger:
        assert stranger.greets() is not None
        allowed.unlink()
        if text is None:
            allowed.mkdir()
        else:
            allowed.write_bytes(text)
        eventually(lambda: stranger.greets(0.05) is None)
    with Stranger(node, keys) as stranger:
        assert stranger.greets(0.2) is None
    allowed.rmdir() if text is None else allowed.unlink()
    allowed.write_bytes(sound)


def test_a_line_of_a_peer_that_is_half_written_lets_nobody_in(node) -> None:
    keys = node.new_keys()
    with (node.keys / "allowed").open("a") as file:
        file.write(f"peer {(keys / 'public.key').read_text().strip()}\n")
    with Stranger(node, keys) as stranger:
        assert stranger.greets(0.3) is None


@pytest.mark.parametrize("text", ["x" * 40, "~" * 40, "short", ""])
def test_keys_that_do_not_belong_together_are_refused_at_the_start(tmp_path, text) -> None:
    keygen(tmp_path / "keys")
    (tmp_path / "keys/public.key").write_text(text)
    with pytest.raises(raft.InvalidConfig):
        raft.start_node("127.0.0.1:0", keys=tmp_path / "keys")


def test_a_node_that_cannot_listen_leaves_nothing_behind(tmp_path) -> None:
    keygen(tmp_path / "keys")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for _ in range(3):
            with pytest.raises(raft.InvalidConfig, match="cannot listen"):
                raft.start_node(f"127.0.0.1:{taken.getsockname()[1]}", keys=tmp_path / "keys")
    with raft.start_node("127.0.0.1:0", keys=tmp_path / "keys") as one:
        assert one.refused == {}


def test_an_address_that_this_machine_does_not_have_is_said_to_be_none(tmp_path) -> None:
    keygen(tmp_path / "keys")
    for address in ("no-such-host.invalid:7001", "192.0.2.1:7001"):
        with pytest.raises(raft.InvalidConfig, match="this machine has no such address"):
            raft.start_node(address, keys=tmp_path / "keys")


@pytest.mark.parametrize(("address", "told"), [("0.0.0.0:0", True), ("127.0.0.1:0", False), ("localhost:0", False)])
def test_who_listens_everywhere_is_told_that_nobody_gets_there(tmp_path, caplog, address: str, told: bool) -> None:
    keygen(tmp_path / "keys")
    raft.start_node(address, keys=tmp_path / "keys").close()
    assert ("an address of no host" in caplog.text) == told


# -- roles -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [WRITE, OpenSession(1), SessionCommand(1, 1, 1, 0, 0, b"", "plain"), *ADMIN])
def test_a_reader_changes_nothing(node, operation) -> None:
    before = node.refused("role")
    with with_role(node, "reader") as reader:
        assert is_refused(reader.asks(operation))
        assert isinstance(reader.asks(READ), Answer)
        assert isinstance(reader.asks(FindLeader()), Answer)
    counts(node, "role", before)


@pytest.mark.parametrize("operation", ADMIN)
@pytest.mark.parametrize("role", ["writer", "trusted"])
def test_who_writes_does_not_change_the_members(node, role, operation) -> None:
    before = node.refused("role")
    with with_role(node, role) as writer:
        assert is_refused(writer.asks(operation))
        assert isinstance(writer.asks(WRITE), Answer)
    counts(node, "role", before)


@pytest.mark.parametrize("role", ["writer", "reader", "trusted", "admin"])
def test_nobody_but_a_peer_speaks_as_a_peer(node, role) -> None:
    before, term = node.refused("role"), node.seen()["term"]
    vote = RequestVote(cluster="", sender="s1", incarnation="x", receiver="", term=99, last=NOWHERE)
    with with_role(node, role) as guest:
        for one in (Post("", (Letter("s1", vote),)), Gone("127.0.0.1:1", "s1"), Beat("127.0.0.1:1", ())):
            guest.send(one)
        assert guest.greets().role == role
    assert node.refused("role") == before + 3
    assert node.seen()["term"] == term


def test_the_peer_of_one_name_does_not_speak_as_another(node) -> None:
    before = node.refused("speaks as another")
    with with_role(node, "peer", "s2") as peer:
        for name in ("s1", "s22", "S2", "", "*"):
            vote = RequestVote(cluster="", sender=name, incarnation="x", receiver="", term=99, last=NOWHERE)
            peer.send(Post("", (Letter("s1", vote),)))
        assert peer.greets().role == "peer"
    assert node.refused("speaks as another") == before + 5


@pytest.mark.parametrize("role", ["admin", "writer", "reader"])
@pytest.mark.parametrize("codec", ["cloudpickle", "plain", "pickle", ""])
def test_a_pickle_of_somebody_who_is_not_trusted_is_never_loaded(node, tmp_path, role, codec) -> None:
    mark = tmp_path / "loaded"
    data = pickle.dumps(("set", "a", Touch(mark)))
    with with_role(node, role) as guest:
        session = 0 if role == "reader" else 1
        for operation in (
            Submit(data, codec),
            SessionCommand(session, 1, 1, 0, 0, data, codec),
            Query(data, codec, "linearizable"),
            Query(data, codec, "stale"),
        ):
            assert isinstance(guest.asks(operation), Failed)
    assert not mark.exists()


@pytest.mark.parametrize("role", ["trusted", "peer"])
def test_a_pickle_of_somebody_who_is_trusted_is_loaded(node, tmp_path, role) -> None:
    mark = tmp_path / "loaded"
    with with_role(node, role, "nobody") as guest:
        guest.asks(Submit(pickle.dumps(("set", "pickled", Touch(mark))), "cloudpickle"))
        assert mark.exists()


# -- what makes no sense -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "operation",
    [
        ChangeMembers(SetMembers(()), here=True),
        ChangeMembers(SetMembers(("s1", "s1")), here=True),
        ChangeMembers(SetMembers(("../..",)), here=True),
        ChangeMembers(AddMember(""), here=True),
        ChangeMembers(AddMember("s2"), (("s2", "not an address"),), here=True),
        ChangeMembers(AddMember("s2"), (("s2", "127.0.0.1:99999"),)),
        Transfer("a b", here=True),
        SetConfiguration(()),
        SetConfiguration((("s1", "nowhere"),)),
    ],
)
def test_a_change_that_makes_no_sense_is_refused_before_a_peer_sees_it(node, operation) -> None:
    with with_role(node, "admin") as admin:
        answer = admin.asks(operation)
        assert isinstance(answer, Failed)
        assert answer.kind in ("InvalidName", "InvalidConfiguration")


@pytest.mark.parametrize("address", ["nowhere", "a:1 b", "127.0.0.1:99999", "x" * 250 + ":1\n"])
def test_an_address_that_is_none_is_not_believed(node, address) -> None:
    before = node.refused("an address that is none")
    vote = RequestVote(cluster="", sender="s7", incarnation="x", receiver="", term=1, last=NOWHERE)
    with with_role(node, "peer", "s7") as peer:
        peer.send(Post(address, (Letter("s1", vote),)))
        counts(node, "an address that is none", before)


def test_a_dict_whose_keys_collide_stops_nobody(node) -> None:
    prime = 2**61 - 1
    keys = [(TUPLE, *(1 + prime * (number >> shift & 7) for shift in range(0, 18, 3))) for number in range(20_000)]
    with with_role(node, "reader") as reader:
        begun = time.monotonic()
        assert isinstance(reader.asks(Query(_msgpack((SET, *keys)), "plain", "stale")), Failed)
        assert time.monotonic() - begun < 2.0


TUPLE, SET = 0, 3


def _msgpack(value: object) -> bytes:
    import msgspec

    return msgspec.msgpack.encode(value)


def test_a_request_larger_than_a_command_may_be_is_not_even_decoded(node) -> None:
    with with_role(node, "reader") as reader:
        assert reader.greets()
        answer = reader.asks(Query(b"\x90" * (20 << 20), "plain", "stale"))
        assert is_refused(answer, "InvalidCommand")
        assert "max_command_bytes" in answer.text


# -- without keys ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["0.0.0.0:0", "10.0.0.1:0", "127.example.org:0", "[::]:0", "localhost.example:0"])
def test_without_keys_a_node_is_on_loopback_only(address) -> None:
    with pytest.raises(raft.Unauthorized):
        raft.start_node(address, insecure=True)
    with pytest.raises(raft.Unauthorized):
        raft.start_node("127.0.0.1:0")
    assert is_loopback("127.0.0.1:1")
    assert is_loopback("[::1]:1")
    assert is_loopback("localhost:1")


def test_a_process_that_serves_refuses_to_be_insecure_on_all_interfaces(tmp_path) -> None:
    options = ("--machine", KV, "--data-dir", tmp_path, "--insecure")
    assert raft_actors("serve", "s1@0.0.0.0:0", *options, folder=tmp_path).returncode != 0


def test_a_process_that_serves_lets_in_who_has_a_key_and_nobody_else(tmp_path) -> None:
    keygen(tmp_path / "keys")
    keygen(tmp_path / "others")
    with socket.create_server(("127.0.0.1", 0)) as one:
        name = f"s1@127.0.0.1:{one.getsockname()[1]}"
    options = ("--machine", KV, "--data-dir", tmp_path, "--storage", "memory", "--peers", name, "--keys", "keys")
    with start([*RAFT_ACTORS, "serve", name, *options], tmp_path) as server:
        assert b"ready" in server.stdout.readline()
        ask = ("write", "--connect", name, '["set", "a", 1]')
        assert raft_actors(*ask, "--keys", "keys", folder=tmp_path).returncode == 0
        assert raft_actors(*ask, "--keys", "others", "--timeout", "1", folder=tmp_path).returncode != 0
        assert raft_actors(*ask, "--insecure", "--timeout", "1", folder=tmp_path).returncode != 0
        server.terminate()
        assert server.wait(30) == 0


@pytest.mark.parametrize("role", ["trusted", "peer"])
def test_a_peer_that_speaks_plain_takes_no_pickle_from_anybody(tmp_path, role) -> None:
    node = Guarded(tmp_path, codec="plain")
    with contextlib.closing(node), with_role(node, role, "nobody") as guest:
        mark = tmp_path / "loaded"
        data = pickle.dumps(("set", "a", Touch(mark)))
        assert guest.greets().pickle is False
        for operation in (Submit(data, "cloudpickle"), Query(data, "cloudpickle", "stale")):
            assert is_refused(guest.asks(operation), "InvalidCommand")
        assert not mark.exists()
        assert node.refused("pickle") == 2
        assert isinstance(guest.asks(Submit(PLAIN.encode(("set", "a", 1)), "plain")), Answer)
