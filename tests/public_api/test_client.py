"""``Client``: follows the leader, repeats what had no effect, and nothing else."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import raft_actors as raft
from raft_actors import supervisor
from raft_actors.client_sessions import ClientSessions
from raft_actors.codec import resolve
from raft_actors.machines import KV
from tests.public_api.client_tools import NAMES, config_with, crash, started
from tests.threads.tools import wait_until


class Gate(KV):
    """A KV whose ``("wait", key)`` waits for a gate that is closed."""

    opened = threading.Event()

    def handle_write(self, command, state):
        if command[0] == "wait":
            self.opened.wait(20)
            return None, state
        return super().handle_write(command, state)

    def handle_read(self, query, state):
        if query == "wait":
            self.opened.wait(20)
            return "waited", state
        return super().handle_read(query, state)


@pytest.fixture
def gate(monkeypatch):
    event = threading.Event()
    monkeypatch.setattr(Gate, "opened", event)
    yield event
    event.set()


# -- following the leader ----------------------------------------------------------------------------------------------


def test_writes_and_reads_go_to_whoever_leads(cluster):
    with raft.Client(cluster()) as client:
        assert client.write(("set", "a", 1)) == ("ok", "a", 1)
        assert client.read(("get", "a")) == 1
        assert client.read(("get", "a"), consistency="lease") == 1
        assert client.leader() == raft.leader("c1")


def test_the_leader_may_be_stopped_or_crash_and_the_client_goes_on(cluster, config):
    with raft.Client(cluster()) as client:
        for number, end in enumerate((raft.stop, crash)):
            leader = client.leader()
            end(leader)
            assert client.write(("set", "n", number)) == ("ok", "n", number)
            assert client.read(("get", "n")) == number
            assert client.leader() != leader
            raft.start_peer(KV, name=leader, config=config)


def test_one_running_member_is_enough_to_find_the_others(cluster):
    cluster()
    leader = raft.leader("c1")
    follower = next(name for name in NAMES if name != leader)
    with raft.Client([follower, "nobody"]) as client:
        assert client.leader() == leader
        assert client.write(("set", "a", 1)) == ("ok", "a", 1)


def test_a_refusal_by_a_follower_is_redirected_at_once(cluster):
    cluster()
    leader = raft.leader("c1")
    client = raft.Client(NAMES)
    for follower in set(NAMES) - {leader}:
        client._peers.leader = supervisor.handle_of(follower)
        begun = time.monotonic()
        assert client.write(("set", "a", follower)) == ("ok", "a", follower)
        assert time.monotonic() - begun < 1.0


def test_one_name_and_an_actor_ref_are_peers_too(cluster, config):
    ref = raft.start_peer(KV, name="c9", config=config)
    raft.set_configuration(ref, ["c9"])
    for peers in ("c9", ref, [ref, "c9"]):
        with raft.Client(peers) as client:
            assert client.write(("set", "a", 1)) == ("ok", "a", 1)
            assert list(client.status()) == ["c9"]


# -- retrying ----------------------------------------------------------------------------------------------------------


def test_a_write_waits_for_peers_that_do_not_run_yet_and_for_their_cluster(config):
    with raft.Client(NAMES, timeout=30.0) as client:
        futures = [client.write(("set", n, n), block=False) for n in range(20)]
        read = client.read("len", block=False)
        for name in NAMES:
            raft.start_peer(KV, name=name, config=config)
        assert not any(future.done() for future in futures)
        raft.set_configuration("c1", NAMES)
        assert [future.get() for future in futures] == [("ok", n, n) for n in range(20)]
        assert read.get() in range(21)


@pytest.mark.parametrize("block", [True, False])
def test_the_last_refusal_is_the_answer_when_the_time_is_over(config, block):
    with raft.Client(NAMES, timeout=0.3) as client:
        refused(client, raft.UnknownPeer, block=block)
        raft.start_peer(KV, name="c2", config=config)
        refused(client, raft.NotConfigured, block=block)


def test_whose_time_is_over_while_a_try_is_under_way_is_told_of_the_last_refusal(config):
    """The machine hangs in a read, after nobody was there. Nothing is its own cause, and no timeout that of another."""
    Gate.opened.clear()
    raft.start_peer(Gate, name="c1", config=config)
    with raft.Client(NAMES, timeout=3.0) as client:
        future = client.read("wait", block=False)
        wait_until(lambda: future.refusal is not None)
        raft.set_configuration("c1", ["c1"])
        with pytest.raises(raft.Timeout) as caught:
            future.get()
        assert isinstance(caught.value.__cause__, raft.NotApplied)
        future.refusal = late = raft.Timeout("late")
        for error in (late, raft.Timeout("later")):
            assert future.try_fail(error) is False
            assert error.__cause__ is None
    Gate.opened.set()


def refused(client, error, *, block):
    begun = time.monotonic()
    with pytest.raises(error) as caught:
        client.write(("set", "a", 1)) if block else client.write(("set", "a", 1), block=False).get()
    assert isinstance(caught.value, raft.NotApplied)
    assert 0.2 < time.monotonic() - begun < 2.0


def test_a_future_without_anybody_waiting_is_answered_at_its_deadline(config):
    answered = threading.Event()
    with raft.Client(NAMES) as client:
        future = client.write("x", timeout=0.2, block=False)
        future.add_done_callback(lambda _: answered.set())
        assert answered.wait(5)
        with pytest.raises(raft.UnknownPeer):
            future.get()


def test_no_leader_is_an_election_in_progress_until_the_timeout(cluster):
    cluster()
    leader = raft.leader("c1")
    others = [name for name in NAMES if name != leader]
    with raft.Client(NAMES, timeout=0.5) as client:
        crash(leader)
        crash(others[0])
        with pytest.raises((raft.ElectionInProgress, raft.Timeout)):
            client.write(("set", "a", 1))
        with pytest.raises(raft.ElectionInProgress, match="knows a leader"):
            client.write(("set", "a", 1))
        with pytest.raises(raft.ElectionInProgress, match="knows a leader"):
            client.write(("set", "a", 1), timeout=0)  # the session has no more time to be opened in than the write
        assert client.leader() is None


def test_reads_are_repeated_whatever_became_of_them(cluster, gate):
    with raft.Client(cluster(Gate), timeout=20.0) as client:
        leader = client.leader()
        reads = [client.read("wait", block=False) for _ in range(50)]
        supervisor.handle_of(leader).stop(5.0, crash=True)
        gate.set()
        assert [read.get() for read in reads] == ["waited"] * 50


def test_a_timeout_says_that_a_write_may_still_be_applied(cluster, gate):
    with raft.Client(cluster(Gate)) as client:
        begun = time.monotonic()
        with pytest.raises(raft.Timeout):
            client.write(("wait", 1), timeout=0.3)
        waiting = client.write(("wait", 1), timeout=0.3, block=False)
        answered = threading.Event()
        waiting.add_done_callback(lambda _: answered.set())
        assert answered.wait(5), "nobody waits for it, and it is answered all the same"
        with pytest.raises(raft.OutcomeUnknown):
            waiting.get()
        assert time.monotonic() - begun < 5.0


def test_the_failure_of_all_peers_is_told_at_once(config):
    class Broken(KV):
        def handle_write(self, command, state):
            raise MemoryError

    one = config_with(config, restart=None)
    raft.start_peer(Broken, name="c1", config=one)
    raft.set_configuration("c1", ["c1"])
    with raft.Client(["c1"], timeout=20.0) as client:
        with pytest.raises(raft.OutcomeUnknown):
            client.write(("set", "a", 1))
        begun = time.monotonic()
        with pytest.raises(raft.PeerFailed, match="MemoryError"):
            client.write(("set", "a", 1))
        assert time.monotonic() - begun < 2.0
        assert client.status()["c1"].failure is not None


# -- copies ------------------------------------------------------------------------------------------------------------


def test_a_command_or_query_that_is_changed_after_the_call_changes_nothing(config):
    command, query = ["set", "a", [1]], {"get": "a"}

    class Mutable(KV):
        def handle_write(self, command, state):
            return super().handle_write(tuple(command), state)

        def handle_read(self, query, state):
            return super().handle_read(next(iter(query.items())), state)

    with raft.Client(NAMES, timeout=30.0) as client:
        write = client.write(command, block=False)
        command[2].append(2)
        started(Mutable, config)
        assert write.get() == ("ok", "a", [1])
        read = client.read(query, block=False)
        query["get"] = "b"
        assert read.get() == [1]


def test_a_codec_that_no_peer_could_name_yet_is_used_in_the_end(config):
    with raft.Client(NAMES, timeout=30.0) as client:
        write = client.write(("set", "a", (1, 2)), block=False)
        started(KV, config_with(config, codec="plain"))
        assert write.get() == ("ok", "a", (1, 2))
        with pytest.raises(raft.InvalidCommand):
            client.write(object())


# -- errors, status, close ---------------------------------------------------------------------------------------------


def test_the_machines_own_errors_and_refused_commands_are_not_retried(cluster):
    with raft.Client(cluster(max_command_bytes=1024)) as client:
        with pytest.raises(raft.CommandFailed) as caught:
            client.write("nonsense")
        assert isinstance(caught.value.__cause__, ValueError)
        with pytest.raises(raft.InvalidCommand, match="max_command_bytes"):
            client.write("x" * 2000)
        with pytest.raises(raft.InvalidCommand):
            client.write(threading.Lock())
        future = client.write(threading.Lock(), block=False)
        with pytest.raises(raft.InvalidCommand):
            future.get()


def test_wrong_arguments_raise_at_once_with_or_without_block(cluster):
    with raft.Client(cluster()) as client:
        for block in (True, False):
            with pytest.raises(ValueError, match="consistency='strong'"):
                client.read("len", consistency="strong", block=block)
            with pytest.raises(TypeError, match="timeout"):
                client.write("x", timeout="soon", block=block)
            with pytest.raises(ValueError, match="negative"):
                client.write("x", timeout=-1, block=block)


@pytest.mark.parametrize(
    ("peers", "error", "says"),
    [
        ("s1@10.0.0.1:7000", raft.Unauthorized, "reached with keys only"),
        (["s1", "s2@host"], raft.InvalidName, "name@host:port"),
        (["s/1"], raft.InvalidName, "s/1"),
        ([1], raft.InvalidName, "1"),
        ([], ValueError, "at least one peer"),
        ("", raft.InvalidName, "''"),
    ],
)
def test_peers_that_cannot_be_reached_or_named_are_refused_at_once(peers, error, says):
    with pytest.raises(error, match=says):
        raft.Client(peers)


def test_status_tells_of_every_peer_its_status_or_why_there_is_none(cluster):
    cluster()
    crash("c2")
    with raft.Client([*NAMES, "nobody"]) as client:
        status = client.status()
        assert list(status) == [*NAMES, "nobody"]
        assert isinstance(status["c1"], raft.Status)
        assert {type(status[name]) for name in ("c2", "nobody")} == {raft.UnknownPeer}


def test_a_stale_read_needs_no_leader(cluster):
    with raft.Client(cluster()) as client:
        client.write(("set", "a", 1))
        crash(client.leader())
        crash(next(name for name in NAMES if isinstance(client.status()[name], raft.Status)))
        assert client.read("len", consistency="stale") in (0, 1)


def test_a_machine_may_not_wait_for_its_own_cluster_through_a_client(config):
    class Recursive(KV):
        def handle_write(self, command, state):
            if command == "again":
                client.write(("set", "b", 1))
            return super().handle_write(command, state)

    client = raft.Client(NAMES)
    started(Recursive, config)
    with pytest.raises(raft.CommandFailed, match="Refused"):
        client.write("again")
    assert client.read(("get", "b")) is None


def test_a_future_of_a_client_can_be_awaited_and_knows_its_index(cluster):
    async def work(client: raft.Client) -> list[int | None]:
        futures = [client.write(("set", "a", number), block=False) for number in range(3)]
        assert [await future for future in futures] == [("ok", "a", number) for number in range(3)]
        read = client.read(("get", "a"), block=False)
        assert await read == 2
        return [future.index for future in (*futures, read)]

    with raft.Client(cluster()) as client:
        first, second, third, read = asyncio.run(work(client))
    assert first < second < third <= read


def test_an_awaited_future_ends_at_its_deadline(config):
    async def work(client: raft.Client) -> None:
        await client.write("x", timeout=0.1, block=False)

    with raft.Client(NAMES) as client, pytest.raises(raft.UnknownPeer):
        asyncio.run(work(client))


def test_a_write_is_told_why_its_session_could_not_even_be_asked_for():
    """The opening fails at once, before it was ever put into the line of those that wait."""
    why = raft.ElectionInProgress("none of the peers knows a leader")
    sessions = ClientSessions(
        start=lambda opening: opening.try_fail(why), opened=lambda: None, again=lambda request, timeout: None
    )
    assert sessions.admit(sessions.write(resolve("plain"), b"command")) is why
