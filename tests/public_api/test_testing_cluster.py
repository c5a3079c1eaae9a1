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
from raft_actors.testing.disk import Disk
from raft_actors.testing.network import Link, Network
from raft_actors.transport.local import LOCAL
from storage_adapters import Batch, LMDBAdapter, MemoryAdapter, StorageError
from tests.threads.tools import Recorder, alive, assert_nothing_left, outcome, remember, wait_until

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
        with pytest.raises(AssertionError, match="no peer runs\n  s1: stopped"):
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


# -- faults of links ---------------------------------------------------------------------------------------------------


def test_a_cut_is_one_way_and_cuts_add_up_until_heal() -> None:
    network = Network(["a", "b", "c"])
    arrived: list[tuple[str, str]] = []

    def send(source: str, to: str) -> None:
        network._pass(source, to, lambda: arrived.append((source, to)))

    network.cut("a", "b")
    network.cut("b", "c")
    for pair in (("a", "b"), ("b", "a"), ("b", "c"), ("c", "b"), ("a", "c")):
        send(*pair)
    assert arrived == [("b", "a"), ("c", "b"), ("a", "c")]
    assert not network.connected("a", "b")
    assert network.connected("a", "c")
    network.heal()
    send("a", "b")
    assert arrived[-1] == ("a", "b")
    network.close()


def test_a_partition_separates_the_groups_and_whoever_is_in_none() -> None:
    network = Network(["a", "b", "c", "d", "e"])
    network.partition({"a", "b"}, {"c"})
    together = [("a", "b"), ("d", "e")]
    for one in "abcde":
        for other in "abcde":
            expected = one == other or (one, other) in together or (other, one) in together
            assert network.connected(one, other) == expected, (one, other)
    network.close()


def test_loss_and_duplication_happen_as_often_as_asked_for() -> None:
    network = Network(["a", "b"])
    arrived: list[int] = []
    network.link("a", "b", Link(loss=0.5))
    for number in range(2000):
        network._pass("a", "b", lambda number=number: arrived.append(number))
    assert 800 < len(arrived) < 1200
    arrived.clear()
    network.link("a", "b", Link(duplicate=0.5))
    for number in range(2000):
        network._pass("a", "b", lambda number=number: arrived.append(number))
    assert 2800 < len(arrived) < 3200
    network.close()


def test_delayed_messages_arrive_late_and_in_order_unless_the_link_is_cut_meanwhile() -> None:
    network = Network(["a", "b"])
    arrived: list[tuple[float, int]] = []
    network.link("a", "b", Link(delay=0.1))
    begin = time.monotonic()
    for number in range(10):
        network._pass("a", "b", lambda number=number: arrived.append((time.monotonic() - begin, number)))
    wait_until(lambda: len(arrived) == 10)
    assert [number for _, number in arrived] == list(range(10))
    assert arrived[0][0] >= 0.1
    network._pass("a", "b", lambda: arrived.append((0.0, -1)))
    network.cut("a", "b")
    network.link("b", "a", Link(delay=0.15))
    back = threading.Event()
    network._pass("b", "a", back.set)
    assert back.wait(5)
    assert len(arrived) == 10
    network.close()
    assert "raft-testing-network" not in alive()


def test_a_network_that_is_closed_leaves_the_transport_as_it_was() -> None:
    Network(["a", "b"]).close()
    assert LOCAL._faults == {}


def test_a_cluster_lives_with_bad_links() -> None:
    with Cluster(Recorder) as cluster:
        for source in cluster.names:
            for to in others_of(cluster, source):
                cluster.link(source, to, loss=0.1, delay=0.005, duplicate=0.1)
        written = []
        for number in range(60):
            cluster.eventually(lambda number=number: _wrote(cluster, number, written), 20)
        cluster.heal()
        assert cluster.converged()
        applied = cluster.read("all")
        assert [number for number in dict.fromkeys(applied) if number in written] == written


def _wrote(cluster: Cluster, number: int, written: list[int]) -> bool:
    cluster.write(number, timeout=1.0)
    written.append(number)
    return True


def test_leader_is_whom_a_majority_can_reach() -> None:
    with Cluster(Counter) as cluster:
        old = leader_of(cluster)
        cluster.partition({old}, set(others_of(cluster, old)))
        assert cluster.leader() in others_of(cluster, old)
        assert cluster.write(("add", 1)) == 1
        cluster.heal()
        assert cluster.converged()


def test_leader_is_none_without_a_majority() -> None:
    with Cluster(Counter) as cluster:
        for name in cluster.names:
            cluster.partition({name})
        assert cluster.leader(timeout=0.1) is None
        with pytest.raises(raft.ElectionInProgress):
            cluster.write(("add", 1), timeout=0.1)


def test_a_one_way_cut_around_the_leader_does_not_stop_the_cluster() -> None:
    with Cluster(Counter) as cluster:
        leader = leader_of(cluster)
        for name in others_of(cluster, leader):
            cluster.cut(leader, name)
        cluster.eventually(lambda: cluster.leader() not in (None, leader))
        assert cluster.write(("add", 1)) == 1
        cluster.heal()
        assert cluster.converged()


# -- faults of peers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ENGINES)
def test_a_crashed_peer_comes_back_with_its_data(storage: str) -> None:
    with Cluster(Recorder, storage=storage) as cluster:
        for number in range(20):
            cluster.write(number)
        for name in cluster.names:
            incarnation = cluster.status(name).incarnation
            cluster.crash(name)
            with pytest.raises(raft.UnknownPeer):
                cluster.status(name)
            cluster.write("meanwhile")
            cluster.start(name)
            assert cluster.status(name).incarnation == incarnation
        assert cluster.converged()
        assert cluster.read("all") == [*range(20), "meanwhile", "meanwhile", "meanwhile"]


def test_a_crashed_peer_flushes_nothing_more() -> None:
    with Cluster(Recorder, 1) as cluster:
        cluster.write("on the disk")
        cluster.disk("s1").hang()
        waiting = raft.write("s1", "in the queue", block=False)
        cluster.crash("s1")
        assert isinstance(outcome(waiting), raft.OutcomeUnknown)
        assert [entry.command for entry in cluster.entries("s1") if entry.kind == "command"] == ["on the disk"]
        cluster.disk("s1").heal()
        cluster.start("s1")
        assert cluster.read("all") == ["on the disk"]


def test_a_crashed_peer_is_not_restarted_by_its_supervisor() -> None:
    with Cluster(Recorder, config=raft.Config(restart=raft.Restart(backoff=(0.0, 0.0)))) as cluster:
        cluster.crash("s1")
        with pytest.raises(AssertionError):
            cluster.eventually(lambda: names.whereis("s1") is not None, 0.2)


def test_crash_and_stop_of_a_peer_that_does_not_run_do_nothing() -> None:
    with Cluster(Counter) as cluster:
        cluster.crash("s1")
        cluster.crash("s1")
        cluster.stop("s1")
        assert cluster.write(("add", 1)) == 1


def test_a_frozen_peer_does_nothing_and_catches_up_when_it_goes_on() -> None:
    with Cluster(Counter) as cluster:
        old = leader_of(cluster)
        cluster.pause(old)
        assert cluster.leader() in others_of(cluster, old)
        for number in range(1, 20):
            assert cluster.write(("add", 1)) == number
        assert cluster.status(old).role == "leader"
        cluster.resume(old)
        assert cluster.converged()
        assert cluster.status(old).role == "follower"


def test_a_wiped_peer_starts_with_an_empty_disk_and_another_identity() -> None:
    for storage in ENGINES:
        with Cluster(Counter, storage=storage) as cluster:
            cluster.write(("add", 1))
            victim = others_of(cluster, leader_of(cluster))[0]
            incarnation = cluster.status(victim).incarnation
            cluster.stop(victim)
            cluster.wipe(victim)
            assert cluster.entries(victim) == []
            cluster.start(victim)
            assert cluster.status(victim).incarnation != incarnation
            assert cluster.status(victim).last_index == 0
            assert cluster.write(("add", 1)) == 2


def test_a_cluster_goes_on_in_its_data_dir(tmp_path: Path) -> None:
    for turn in range(3):
        with Cluster(Counter, data_dir=tmp_path) as cluster:
            assert cluster.write(("add", 1)) == turn + 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s1", "s2", "s3"]


def test_a_temporary_folder_is_removed_at_the_end() -> None:
    with Cluster(Counter) as cluster:
        folder = cluster._folder
        assert folder.exists()
    assert not folder.exists()


# -- faults of disks ---------------------------------------------------------------------------------------------------


def test_a_disk_fails_as_often_as_it_was_told_and_changes_nothing(tmp_path: Path) -> None:
    disk = Disk(LMDBAdapter, "lmdb")
    disk.fail(errno.ENOSPC, times=2)
    for _ in range(2):
        with disk(str(tmp_path / "store")) as adapter:
            with pytest.raises(StorageError) as caught:
                adapter.write(Batch(entries=[(1, b"x")]))
            assert caught.value.errno == errno.ENOSPC
            with pytest.raises(StorageError):  # as the interface wants it: nothing more until it is opened again
                adapter.write(Batch(entries=[(1, b"x")]))
    with disk(str(tmp_path / "store")) as adapter:
        assert adapter.bounds() == (1, 0)
        adapter.write(Batch(entries=[(1, b"x")]))
        assert adapter.read(1, 1, 10) == [(1, b"x")]


def test_a_slow_disk_takes_its_time(tmp_path: Path) -> None:
    disk = Disk(LMDBAdapter, "lmdb")
    with disk(str(tmp_path / "store")) as adapter:
        disk.delay(0.1)
        begin = time.monotonic()
        adapter.write(Batch(entries=[(1, b"x")]))
        assert time.monotonic() - begin >= 0.1
        disk.heal()
        begin = time.monotonic()
        adapter.write(Batch(entries=[(2, b"x")]))
        assert time.monotonic() - begin < 0.1


@pytest.mark.parametrize("end", ["heal", "let_go"])
def test_a_hung_disk_waits_until_it_heals_or_its_peer_is_gone(tmp_path: Path, end: str) -> None:
    disk = Disk(LMDBAdapter, "lmdb")
    results: list[Any] = []
    with disk(str(tmp_path / "store")) as adapter:
        disk.hang()

        def write() -> None:
            try:
                adapter.write(Batch(entries=[(1, b"x")]))
                results.append("written")
            except StorageError as error:
                results.append(error)

        thread = threading.Thread(target=write)
        thread.start()
        thread.join(0.1)
        assert thread.is_alive()
        getattr(disk, end)()
        thread.join(5)
        assert not thread.is_alive()
        assert (results == ["written"]) == (end == "heal")
        assert adapter.bounds() == ((1, 1) if end == "heal" else (1, 0))


def test_a_memory_store_survives_its_peer_until_it_is_forgotten() -> None:
    disk = Disk(MemoryAdapter, "memory")
    with disk("anywhere") as adapter:
        adapter.write(Batch(entries=[(1, b"x")]))
    with disk("anywhere") as adapter:
        assert adapter.read(1, 1, 10) == [(1, b"x")]
    disk.forget()
    with disk("anywhere") as adapter:
        assert adapter.bounds() == (1, 0)


def test_the_log_of_a_peer_can_be_seen_while_its_disk_hangs() -> None:
    with Cluster(Counter) as cluster:
        cluster.write(("add", 1))
        cluster.converged()
        log = cluster.entries("s1")
        cluster.disk("s1").hang()
        assert cluster.entries("s1") == log
        cluster.disk("s1").heal()


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
