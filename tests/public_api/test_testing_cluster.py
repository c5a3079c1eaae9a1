"""``raft_actors.testing.Cluster``: what it shows, what its faults do, and that it leaves nothing behind."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import raft_actors as raft
from raft_actors import names
from raft_actors.machines import KV, Counter
from raft_actors.testing import Cluster, Entry, Operation, check_linearizable
from storage_adapters import LMDBAdapter
from tests.threads.tools import Recorder, assert_nothing_left, remember, wait_until

ENGINES = ["lmdb", "rocksdb", "memory"]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    remember()
    yield
    assert_nothing_left()


def leader_of(cluster: Cluster) -> str:
    leader = cluster.leader()
    assert leader is not None
    return leader


def others_of(cluster: Cluster, name: str) -> list[str]:
    return [other for other in cluster.names if other != name]


# -- what it shows -----------------------------------------------------------------------------------------------------


def test_the_peers_run_under_their_registered_names_and_are_used_like_any_others() -> None:
    with Cluster(KV) as cluster:
        assert cluster.names == ("s1", "s2", "s3")
        leader = raft.leader("s1")
        assert cluster.leader() == leader
        assert raft.write(leader, ("set", "k", 1)) == ("ok", "k", 1)
        assert cluster.read(("get", "k")) == 1
        assert cluster.write(("get", "k")) == 1
        assert cluster.status("s2") == raft.status("s2")
        assert cluster.status("s2").configuration.voters == ("s1", "s2", "s3")


@pytest.mark.parametrize("size", [1, 2, 4, 5])
def test_it_has_as_many_peers_as_are_wanted(size: int) -> None:
    with Cluster(Counter, size) as cluster:
        assert len(cluster.names) == size
        assert cluster.write(("add", 1)) == 1
        assert cluster.converged()


def test_it_is_formed_only_when_every_peer_has_its_configuration_on_disk() -> None:
    """Two of three would do for the cluster; but the third, if it crashed now, would come back as a stranger."""

    class SlowDisk(Cluster):
        def _form(self) -> None:
            self.disk("s3").delay(0.1)
            super()._form()

    with SlowDisk(KV) as cluster:
        cluster.crash("s3")
        cluster.disk("s3").heal()
        cluster.partition({"s3"}, {"s1", "s2"})
        cluster.start("s3")
        assert cluster.status("s3").configuration.voters == ("s1", "s2", "s3")


def test_names_may_be_chosen() -> None:
    with Cluster(Counter, names=["anna", "bob"]) as cluster:
        assert cluster.names == ("anna", "bob")
        assert cluster.leader() in ("anna", "bob")


@pytest.mark.parametrize("storage", ENGINES)
def test_status_names_the_engine(storage: str) -> None:
    with Cluster(Counter, 1, storage=storage) as cluster:
        assert cluster.status("s1").storage == storage


def test_any_factory_of_adapters_will_do(tmp_path: Path) -> None:
    opened: list[str] = []

    def factory(path: str) -> LMDBAdapter:
        opened.append(path)
        return LMDBAdapter(path)

    with Cluster(Counter, 1, storage=factory, data_dir=tmp_path) as cluster:
        assert cluster.write(("add", 2)) == 2
    assert opened == [str(tmp_path / "s1")]


@pytest.mark.parametrize("storage", ENGINES)
def test_entries_are_the_log_whether_the_peer_runs_or_not(storage: str) -> None:
    with Cluster(KV, storage=storage) as cluster:
        cluster.write(("set", "k", [1]))
        cluster.converged()
        log = cluster.entries("s1")
        assert [(entry.index, entry.kind) for entry in log] == [(1, "configuration"), (2, "noop"), (3, "command")]
        assert log[0].command == ("s1", "s2", "s3")
        assert log[1].command is None
        assert log[2] == Entry(index=3, term=log[2].term, kind="command", command=("set", "k", [1]))
        assert cluster.entries("s2") == cluster.entries("s3") == log
        cluster.crash("s2")
        assert cluster.entries("s2") == log
        with pytest.raises(AttributeError):
            log[0].index = 7  # type: ignore[misc]


def test_state_is_a_copy() -> None:
    with Cluster(KV) as cluster:
        cluster.write(("set", "k", [1]))
        cluster.converged()
        cluster.state("s1")["k"].append("planted")
        assert cluster.state("s1") == {"k": [1]}


def test_a_state_that_cannot_be_copied_is_told_and_harms_no_peer() -> None:
    class Locked(Recorder):
        def init(self, name: str) -> Any:
            self.lock = threading.Lock()
            return [self.lock]

        def handle_write(self, command: Any, state: Any) -> Any:
            return command, state

    with Cluster(Locked, 1) as cluster:
        with pytest.raises(TypeError, match="pickle"):
            cluster.state("s1")
        assert cluster.write("x") == "x"


def test_eventually_tells_what_it_saw() -> None:
    with Cluster(Counter) as cluster:
        assert cluster.eventually(cluster.leader) is True
        with pytest.raises(AssertionError, match=r"not within 0.05 s: the condition returned 0\n  s1: .*term"):
            cluster.eventually(lambda: 0, 0.05)
        with pytest.raises(AssertionError, match="the condition raised KeyError: 'k'"):
            cluster.eventually(lambda: {}["k"], 0.05)


def test_converged_is_red_while_a_peer_is_behind() -> None:
    with Cluster(Counter) as cluster:
        follower = others_of(cluster, leader_of(cluster))[0]
        cluster.partition({follower})
        cluster.write(("add", 1))
        with pytest.raises(AssertionError, match="logs are of different length, or not applied"):
            cluster.converged(0.3)
        cluster.heal()
        assert cluster.converged() is True


def test_converged_is_red_when_states_differ() -> None:
    class Different(Recorder):
        def handle_write(self, command: Any, state: Any) -> Any:
            state.append(self.name)
            return None, state

    with Cluster(Different) as cluster:
        cluster.write("x")
        with pytest.raises(AssertionError, match=r"the states of s1 and s2 differ: \['s1'\] and \['s2'\]"):
            cluster.converged(0.3)


def test_converged_is_red_when_logs_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    with Cluster(Counter) as cluster:
        cluster.write(("add", 1))
        cluster.converged()
        original = cluster._stored
        monkeypatch.setattr(cluster, "_stored", lambda name: original(name)[:: -1 if name == "s3" else 1])
        with pytest.raises(AssertionError, match="the logs of s1 and s3 differ"):
            cluster.converged(0.1)


def test_converged_is_red_when_nobody_runs() -> None:
    with Cluster(Counter, 1) as cluster:
        cluster.stop("s1")
        with pytest.raises(AssertionError, match="no member runs\n  s1: stopped"):
            cluster.converged(0.1)


def test_states_without_equality_are_compared_by_their_contents() -> None:
    class Box:
        def __init__(self) -> None:
            self.items: list[Any] = []

    class Boxed(raft.StateMachine):
        def init(self, name: str) -> Any:
            return Box()

        def handle_write(self, command: Any, state: Any) -> Any:
            state.items.append(command)
            return len(state.items), state

        def handle_read(self, query: Any, state: Any) -> Any:
            return len(state.items), state

    with Cluster(Boxed) as cluster:
        cluster.write("x")
        assert cluster.converged()


# -- mistakes ----------------------------------------------------------------------------------------------------------


def test_mistakes_are_named() -> None:
    with pytest.raises(raft.InvalidConfiguration, match="at least one"):
        Cluster(Counter, 0)
    with pytest.raises(raft.InvalidName, match="'no good'"):
        Cluster(Counter, names=["no good"])
    with pytest.raises(ValueError, match="storage='sqlite' is none of 'lmdb'"):
        Cluster(Counter, storage="sqlite")
    with pytest.raises(raft.Refused, match="with Cluster"):
        Cluster(Counter).heal()
    with Cluster(Counter) as cluster:
        for call in (cluster.crash, cluster.stop, cluster.start, cluster.pause, cluster.disk, cluster.state):
            with pytest.raises(raft.UnknownPeer, match="this cluster has no peer 's9': it has s1, s2, s3"):
                call("s9")
        with pytest.raises(raft.UnknownPeer, match="'s9'"):
            cluster.cut("s1", "s9")
        with pytest.raises(ValueError, match="s1 in more than one group"):
            cluster.partition({"s1"}, {"s1", "s2"})
        with pytest.raises(ValueError, match="loss must be from 0 to 1, not 2"):
            cluster.link("s1", "s2", loss=2)
        with pytest.raises(ValueError, match="delay must be a number of seconds of at least 0, not -1"):
            cluster.link("s1", "s2", delay=-1)
        with pytest.raises(ValueError, match="times must be at least 1"):
            cluster.disk("s1").fail(errno.EIO, 0)
        with pytest.raises(raft.Refused, match="peer 's1' runs on its store: stop or crash it before"):
            cluster.wipe("s1")
        with pytest.raises(raft.AlreadyStarted):
            cluster.start("s1")
        cluster.stop("s1")
        with pytest.raises(raft.UnknownPeer, match="peer 's1' of this cluster does not run: start it first"):
            cluster.state("s1")


def test_a_name_that_is_taken_stops_the_whole_cluster_from_starting(tmp_path: Path) -> None:
    raft.start_peer(Counter, name="s2", config=raft.Config(data_dir=tmp_path))
    with pytest.raises(raft.AlreadyStarted, match="'s2'"), Cluster(Counter):
        pass
    assert names.names() == ("s2",), "the peer of somebody else was stopped, or ours were not"
    raft.stop("s2")


# -- the end -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ENGINES)
@pytest.mark.parametrize("fault", ["none", "paused", "hung", "slow", "failed", "restarting", "crashed", "partition"])
def test_nothing_is_left_whatever_happened_to_the_peers(storage: str, fault: str) -> None:
    restart = raft.Restart(backoff=(30.0, 30.0)) if fault == "restarting" else None
    with Cluster(Recorder, storage=storage, config=raft.Config(restart=restart)) as cluster:
        leader = leader_of(cluster)
        match fault:
            case "paused":
                cluster.pause(leader)
            case "hung":
                for name in cluster.names:
                    cluster.disk(name).hang()
            case "slow":
                cluster.disk(leader).delay(0.3)
            case "failed" | "restarting":
                cluster.disk(leader).fail(errno.EIO)
            case "crashed":
                cluster.crash(leader)
                leader = leader_of(cluster)
            case "partition":
                cluster.partition({leader})
        futures = [raft.write(leader, number, block=False) for number in range(100)]
        if fault in ("failed", "restarting"):
            cluster.eventually(lambda: cluster.status(leader).failure is not None)
    assert all(future.done() for future in futures)
    assert_nothing_left()


def test_nothing_is_left_when_the_block_raises() -> None:
    with pytest.raises(ZeroDivisionError), Cluster(Recorder) as cluster:
        cluster.write(1 / 0)
    assert_nothing_left()


def test_a_machine_that_cannot_be_made_leaves_nothing() -> None:
    class Broken(Recorder):
        def init(self, name: str) -> Any:
            if name == "s2":
                raise RuntimeError("planted")
            return []

    with pytest.raises(RuntimeError, match="planted"), Cluster(Broken):
        pass
    assert_nothing_left()


# -- with the checker --------------------------------------------------------------------------------------------------


def test_what_clients_see_of_a_cluster_under_faults_is_linearizable() -> None:
    history: list[Operation] = []
    end = threading.Event()

    def client(number: int, cluster: Cluster) -> None:
        count = 0
        while not end.is_set():
            value, call = f"{number}.{count}", time.monotonic()
            op, output, status = ("append", None, "ok") if count % 2 else ("read", None, "ok")
            try:
                if op == "append":
                    cluster.write(value, timeout=0.5)
                else:
                    output = cluster.read("all", timeout=0.5)
            except raft.NotApplied:
                status = "fail"
            except raft.OutcomeUnknown:
                status = "unknown"
            ret = None if status == "unknown" else time.monotonic()
            history.append(Operation(number, op, None, value if op == "append" else None, output, call, ret, status))
            count += 1

    with Cluster(Recorder) as cluster:
        clients = [threading.Thread(target=client, args=(number, cluster)) for number in range(4)]
        for thread in clients:
            thread.start()
        for fault in ("crash", "partition", "pause", "hang"):
            leader = leader_of(cluster)
            match fault:
                case "crash":
                    cluster.crash(leader)
                    cluster.write("x" + fault)
                    cluster.start(leader)
                case "partition":
                    cluster.partition({leader})
                    cluster.eventually(lambda leader=leader: cluster.leader() not in (None, leader))
                    cluster.heal()
                case "pause":
                    cluster.pause(leader)
                    cluster.eventually(lambda leader=leader: cluster.leader() not in (None, leader))
                    cluster.resume(leader)
                case "hang":
                    cluster.disk(leader).hang()
                    cluster.eventually(lambda leader=leader: cluster.leader() not in (None, leader))
                    cluster.disk(leader).heal()
            enough = len(history) + 100
            wait_until(lambda enough=enough: len(history) > enough, 10)
        end.set()
        for thread in clients:
            thread.join()
        cluster.converged()
    history.append(Operation("test", "append", None, "xcrash", None, 0.0, None, "unknown"))
    verdict = check_linearizable(history, "append")
    assert verdict, verdict.detail
    assert sum(op.status == "ok" for op in history) > 100
