"""Sessions in clusters of real actors: whatever happens to leaders, each write of a client is applied once."""

from __future__ import annotations

import gc
import threading

import pytest

import raft_actors as raft
from raft_actors import replica_sessions
from raft_actors.errors import OutcomeUnknown
from raft_actors.machines import Counter
from raft_actors.protocol.sessions import SessionTable, Verdict
from raft_actors.testing import Cluster

WRITES = 40


def counted(cluster: Cluster, disturb) -> tuple[int, int]:
    """Four threads add one, again and again, also after an unknown outcome; returns what they wrote and the value."""

    def add(client: raft.Client) -> None:
        for _ in range(WRITES):
            try:
                client.write(("add", 1))
            except OutcomeUnknown as error:
                error.retry(20.0)

    with raft.Client(cluster.names, timeout=20.0) as client:
        threads = [threading.Thread(target=add, args=(client,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        disturb(cluster)
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        return 4 * WRITES, client.read("value")


def kill_leaders(cluster: Cluster) -> None:
    for _ in range(3):
        leader = cluster.leader()
        cluster.crash(leader)
        cluster.start(leader)
        cluster.leader()


def isolate_leaders(cluster: Cluster) -> None:
    for _ in range(2):
        leader = cluster.leader()
        others = set(cluster.names) - {leader}
        cluster.partition({leader}, others)
        cluster.eventually(lambda: any(cluster.status(name).role == "leader" for name in others), 10)
        cluster.heal()


@pytest.mark.parametrize("disturb", [kill_leaders, isolate_leaders])
def test_each_write_counts_once_whatever_happens_to_leaders(disturb) -> None:
    with Cluster(Counter) as cluster:
        wrote, value = counted(cluster, disturb)
        assert value == wrote


def test_a_write_whose_answer_did_not_come_in_time_is_gone_on_with_under_its_number() -> None:
    with Cluster(Counter) as cluster, raft.Client(cluster.names, timeout=10.0) as client:
        assert client.write(("add", 1)) == 1
        leader = cluster.leader()
        cluster.disk(leader).hang()
        for name in set(cluster.names) - {leader}:
            cluster.disk(name).hang()
        with pytest.raises(raft.OutcomeUnknown) as raised:
            client.write(("add", 1), timeout=0.3)
        for name in cluster.names:
            cluster.disk(name).heal()
        assert raised.value.retry(10.0) == 2
        assert raised.value.retry(10.0) == 2
        assert client.write(("add", 1)) == 3


@pytest.mark.parametrize("block", [True, False])
def test_the_number_of_a_write_is_free_once_nobody_holds_its_error(block: bool) -> None:
    with Cluster(Counter) as cluster, raft.Client(cluster.names, timeout=10.0) as client:
        client.write(("add", 1))
        for name in cluster.names:
            cluster.disk(name).hang()
        gc.disable()  # what is freed must not need it
        try:
            _time_out(client, block=block)
            for name in cluster.names:
                cluster.disk(name).heal()
            cluster.eventually(lambda: not client._tries.sessions._open, 10)
        finally:
            gc.enable()
        assert client.write(("add", 1)) == 5


def _time_out(client: raft.Client, *, block: bool) -> None:
    """Let three writes run out of time, and hold nothing of them but for a while."""
    if block:
        for _ in range(3):
            with pytest.raises(raft.OutcomeUnknown):
                client.write(("add", 1), timeout=0.1)
    else:
        futures = [client.write(("add", 1), timeout=0.1, block=False) for _ in range(3)]
        for future in futures:
            with pytest.raises(raft.OutcomeUnknown):
                future.get()
        assert len(client._tries.sessions._open) == 3, "as long as somebody holds them"


def test_only_the_write_of_a_client_can_be_gone_on_with() -> None:
    with pytest.raises(raft.Refused, match="only a write of a Client"):
        raft.OutcomeUnknown().retry(1.0)


@pytest.mark.parametrize("storage", ["lmdb", "rocksdb"])
def test_sessions_are_in_snapshots(storage: str) -> None:
    with Cluster(Counter, storage=storage) as cluster, raft.Client(cluster.names, timeout=10.0) as client:
        for number in range(1, 6):
            assert client.write(("add", 1)) == number
        for name in cluster.names:
            raft.snapshot(name)
            cluster.stop(name)
        for name in cluster.names:
            cluster.start(name)
        assert client.write(("add", 1)) == 6, "the session is known to those who start from a snapshot"


def test_a_client_whose_session_has_expired_opens_another() -> None:
    config = raft.Config(session_timeout=1.0)
    with Cluster(Counter, config=config) as cluster, raft.Client(cluster.names, timeout=10.0) as client:
        assert client.write(("add", 1)) == 1
        first = client._tries.sessions.current
        cluster.eventually(lambda: aged(cluster) > 1.5, 5)
        assert client.write(("add", 1)) == 2
        assert client._tries.sessions.current != first


def aged(cluster: Cluster) -> float:
    """Write something that is in no session, and return the seconds of replicated time since the log began."""
    cluster.write(("add", 0))
    log = cluster._stored(cluster.leader())
    return log[-1].time - log[0].time


def test_without_the_table_a_repeated_write_counts_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    class Careless(SessionTable):
        def admit(self, write, time):  # planted: what was applied is applied again
            return Verdict.APPLY

    monkeypatch.setattr(replica_sessions, "SessionTable", Careless)
    with Cluster(Counter) as cluster, raft.Client(cluster.names, timeout=10.0) as client:
        client.write(("add", 1))
        for name in cluster.names:
            cluster.disk(name).hang()
        with pytest.raises(raft.OutcomeUnknown) as raised:
            client.write(("add", 1), timeout=0.3)
        for name in cluster.names:
            cluster.disk(name).heal()
        assert raised.value.retry(10.0) == 3
