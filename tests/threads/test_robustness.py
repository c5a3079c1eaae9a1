"""What a program does that nobody planned for: it moves away, wipes folders, hangs in callbacks, ends in between."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import raft_actors as raft
from raft_actors import names, supervisor
from raft_actors.callbacks import CALLBACKS
from raft_actors.testing import Cluster
from raft_actors.timekeeper import TIMEKEEPER
from tests.threads.tools import Gate, Recorder, alive, gated, outcome, wait_until

SOON = 1.5
"""Seconds within which what waits for nobody has happened, also on a busy machine."""


def start_alone(config: raft.Config, machine: Any = Recorder) -> Any:
    ref = raft.start_peer(machine, name="s1", config=config)
    raft.set_configuration("s1", ["s1"])
    raft.leader("s1")
    return ref


class Mortal(Recorder):
    """Dies of ``"die"``, once."""

    died = False

    def handle_write(self, command: Any, state: list[Any]) -> Any:
        if command == "die" and not type(self).died:
            type(self).died = True
            raise MemoryError("planted")
        return super().handle_write(command, state)


@pytest.fixture
def mortal() -> type[Mortal]:
    Mortal.died = False
    return Mortal


# -- folders -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["lmdb", "rocksdb"])
def test_a_peer_stays_in_its_folder_wherever_the_process_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mortal: type[Mortal], storage: str
) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(home)
    quick = raft.Restart(backoff=(0.02, 0.1))
    start_alone(raft.Config(data_dir="data", storage=storage, restart=quick), mortal)
    raft.write("s1", "at home")
    monkeypatch.chdir(elsewhere)
    raft.write("s1", "away")
    assert isinstance(outcome(raft.write("s1", "die", block=False)), raft.OutcomeUnknown)
    wait_until(lambda: raft.status("s1").failure is None and raft.status("s1").role == "leader")
    raft.write("s1", "after the restart")
    raft.stop("s1")
    assert list(elsewhere.iterdir()) == []
    raft.start_peer(Recorder, name="s1", config=raft.Config(data_dir=home / "data", storage=storage))
    assert raft.leader("s1") == "s1"
    assert raft.read("s1", "all") == ["at home", "away", "die", "after the restart"]
    raft.stop("s1")


def test_a_peer_whose_folder_was_wiped_does_not_come_back_without_its_votes(
    config: raft.Config, monkeypatch: pytest.MonkeyPatch, mortal: type[Mortal]
) -> None:
    openings: list[str] = []
    original = supervisor.open_peer
    monkeypatch.setattr(supervisor, "open_peer", lambda *args: openings.append("one") or original(*args))
    start_alone(dataclasses.replace(config, restart=raft.Restart(backoff=(0.01, 0.02))), mortal)
    raft.write("s1", "promised")
    shutil.rmtree(Path(config.data_dir) / "s1")
    raft.write("s1", "die", block=False)
    wait_until(lambda: supervisor.handle_of("s1").failed)
    assert isinstance(raft.status("s1").failure, raft.CorruptLog)
    with pytest.raises(raft.CorruptLog, match="peer 's1' ran on another store"):
        raft.write("s1", "x")
    assert len(openings) == 2  # its start, and one restart that saw what had happened
    raft.stop("s1")


def test_a_peer_without_a_disk_does_not_come_back_without_its_votes(mortal: type[Mortal]) -> None:
    start_alone(raft.Config(storage="memory", restart=raft.Restart(backoff=(0.01, 0.02))), mortal)
    raft.write("s1", "die", block=False)
    wait_until(lambda: supervisor.handle_of("s1").failed)
    with pytest.raises(raft.CorruptLog, match="the one in memory was made after it"):
        raft.write("s1", "x")
    raft.stop("s1")


# -- callbacks ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[Cluster]:
    """Two peers: whoever stalls one of them stalls the cluster."""
    with Cluster(Recorder, 2) as cluster:
        cluster.write("first")
        yield cluster


def roles(cluster: Cluster) -> tuple[str, str]:
    leader = cluster.leader()
    assert leader is not None
    return leader, next(name for name in cluster.names if name != leader)


def refused_later(cluster: Cluster, name: str, callback: Callable[[Any], object]) -> None:
    """Let ``callback`` be due when peer ``name`` refuses a write: that it is not answered before is made sure of."""
    cluster.pause(name)
    future = raft.write(name, "refused", block=False)
    future.add_done_callback(callback)
    assert not future.done()
    cluster.resume(name)


def test_a_callback_may_wait_for_the_leader_that_its_refusal_names(pair: Cluster) -> None:
    leader, follower = roles(pair)
    results: list[Any] = []

    def repeat(future: Any) -> None:
        error = outcome(future)
        try:
            results.append((error.leader, raft.write(error.leader, "again", timeout=1.0)))
        except raft.RaftError as problem:
            results.append(problem)

    refused_later(pair, follower, repeat)
    wait_until(lambda: results)
    assert results == [(leader, 2)]


def test_a_callback_may_stop_the_peer_that_answers_it(pair: Cluster) -> None:
    _, follower = roles(pair)
    stopped = threading.Event()
    refused_later(pair, follower, lambda _: (raft.stop(follower), stopped.set()))
    assert stopped.wait(SOON)
    assert names.whereis(follower) is None


def test_a_callback_that_hangs_stalls_no_peer(pair: Cluster) -> None:
    _, follower = roles(pair)
    entered, opened = threading.Event(), threading.Event()
    refused_later(pair, follower, lambda _: (entered.set(), opened.wait(30)))
    try:
        assert entered.wait(5)
        assert pair.write("x", timeout=SOON) == 2
        assert raft.read(follower, "len", timeout=SOON) == 2
    finally:
        opened.set()


def cut_off(cluster: Cluster) -> str:
    """Cut every link; the leader that cannot commit anything any more."""
    leader, follower = roles(cluster)
    cluster.partition({leader}, {follower})
    return leader


def test_a_callback_that_hangs_delays_no_other_timeout(pair: Cluster) -> None:
    leader = cut_off(pair)
    entered, opened = threading.Event(), threading.Event()
    raft.write(leader, 1, timeout=0.1, block=False).add_done_callback(lambda _: (entered.set(), opened.wait(30)))
    other = raft.write(leader, 2, timeout=0.2, block=False)
    try:
        assert entered.wait(5)
        wait_until(other.done, SOON)
        assert isinstance(outcome(other), raft.OutcomeUnknown)
    finally:
        opened.set()


def leave(_: Any) -> None:
    raise SystemExit("planted")


def test_a_callback_that_exits_ends_neither_the_timekeeper_nor_the_thread_for_callbacks(pair: Cluster) -> None:
    leader = cut_off(pair)
    called = threading.Event()
    for _ in range(2):  # the second would find nobody who watches
        future = raft.write(leader, 1, timeout=0.1, block=False)
        future.add_done_callback(leave)
        future.add_done_callback(lambda _: called.set())
        wait_until(future.done, SOON)
        assert called.wait(SOON)
        called.clear()


def test_a_callback_that_exits_ends_no_peer(pair: Cluster) -> None:
    leader, follower = roles(pair)
    called = threading.Event()
    refused_later(pair, follower, leave)
    pair.pause(leader)
    future = raft.write(leader, "x", block=False)
    future.add_done_callback(leave)
    future.add_done_callback(lambda _: called.set())
    pair.resume(leader)
    assert called.wait(5)
    assert pair.write("y") == 3
    assert [raft.status(name).failure for name in pair.names] == [None, None]


class Startled:
    """Something watched whose first look fails in the worst way."""

    def __init__(self) -> None:
        self.looks = 0

    def unanswered(self) -> list[Any]:
        self.looks += 1
        if self.looks == 1:
            raise SystemExit("planted")
        return []


def test_the_timekeeper_outlives_whatever_happens_in_it(pair: Cluster) -> None:
    leader = cut_off(pair)
    startled = Startled()
    TIMEKEEPER.watch(startled)
    future = raft.write(leader, 1, timeout=0.1, block=False)
    wait_until(future.done, SOON)
    wait_until(lambda: startled.looks > 1)


# -- the end -----------------------------------------------------------------------------------------------------------


def test_the_exit_of_the_process_starts_no_thread(config: raft.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    gate.at = {"s1"}
    for name in ("s1", "s2", "s3"):
        raft.start_peer(gated(gate), name=name, config=config)
        raft.set_configuration(name, [name])
        raft.leader(name)
    waiting = raft.write("s1", "hang", block=False)
    assert gate.entered.wait(5)
    CALLBACKS.forget_all()  # as in a process in which none was due yet
    waiting.add_done_callback(lambda _: None)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with monkeypatch.context() as exiting:
        exiting.setattr(threading.Thread, "start", refuse)
        supervisor.stop_all(3.0)
    assert names.names() == ()
    assert waiting.done()
    gate.opened.set()
    for name in ("s1", "s2", "s3"):  # the stores are unlocked
        raft.start_peer(Recorder, name=name, config=config)
        raft.stop(name)


@pytest.mark.parametrize("consistency", ["stale", "linearizable"])
def test_after_an_abandoned_stop_no_more_user_code_is_run(config: raft.Config, consistency: str) -> None:
    gate, calls = Gate(), []
    gate.at = {"s1"}

    class Counting(gated(gate)):  # type: ignore[misc]
        def handle_read(self, query: Any, state: list[Any]) -> Any:
            calls.append(query)
            return super().handle_read(query, state)

        def on_follower(self, term: int) -> None:
            calls.append("on_follower")

    start_alone(config, Counting)
    peer = supervisor.handle_of("s1").peer
    peer.pause()  # so that the machine finds all of them at once
    futures = [raft.read("s1", query, consistency=consistency, block=False) for query in ("hang", *["len"] * 5)]
    peer.resume()
    assert gate.entered.wait(5)
    raft.stop("s1", timeout=0.1)
    assert all(future.done() for future in futures)
    gate.opened.set()
    wait_until(lambda: not alive())
    assert calls == ["hang"]


@pytest.mark.parametrize("timeout", [None, float("inf")])
def test_a_stop_without_a_limit_abandons_no_user_code(config: raft.Config, timeout: float | None) -> None:
    gate = Gate()
    gate.at = {"s1"}
    start_alone(config, gated(gate))
    hanging = raft.write("s1", "hang", timeout=None, block=False)
    assert gate.entered.wait(5)
    stopping = threading.Thread(target=raft.stop, args=("s1",), kwargs={"timeout": timeout})
    stopping.start()
    stopping.join(0.5)  # what is abandoned without patience is so after a tenth of a second
    assert stopping.is_alive()
    gate.opened.set()
    stopping.join(5)
    assert outcome(hanging) == 1


# -- machines ----------------------------------------------------------------------------------------------------------


def test_an_ask_inside_a_machine_is_refused_and_has_no_effect(config: raft.Config) -> None:
    class Asking(Recorder):
        def handle_write(self, command: Any, state: list[Any]) -> Any:
            if command in ("ask", "ask later"):
                return ref.ask(raft.Write("inner"), timeout=0.5, block=command == "ask"), state
            if command == "ask to read":
                return ref.ask(raft.Read("len"), timeout=0.5), state
            return super().handle_write(command, state)

    ref = start_alone(config, Asking)
    for command in ("ask", "ask to read"):
        with pytest.raises(raft.CommandFailed) as caught:
            raft.write("s1", command)
        assert isinstance(caught.value.__cause__, raft.Refused)
    raft.write("s1", "ask later", block=False)
    assert raft.write("s1", "outer") == 1
    assert raft.read("s1", "all") == ["outer"]
    raft.stop("s1")


def test_peers_that_would_share_one_machine_are_refused(config: raft.Config) -> None:
    machine = Recorder()
    raft.start_peer(lambda: machine, name="s1", config=config)
    with pytest.raises(TypeError, match="peers 's1' and 's2' cannot share one Recorder"):
        raft.start_peer(lambda: machine, name="s2", config=config)
    assert names.names() == ("s1",)
    raft.stop("s1")
    for name in ("s2", "s1"):  # one after the other they may have it, and the refused one has left nothing behind
        raft.start_peer(lambda: machine, name=name, config=config)
        raft.stop(name)


@dataclasses.dataclass(frozen=True)
class Frozen(Recorder):
    """Nothing can be set on it."""


def test_a_machine_that_cannot_be_told_where_it_is_is_refused_at_its_start(config: raft.Config) -> None:
    with pytest.raises(TypeError, match=r"peer 's1' must be able to set \.context of its Frozen"):
        raft.start_peer(Frozen, name="s1", config=config)
    assert names.names() == ()
    start_alone(config)
    raft.stop("s1")


# -- status ------------------------------------------------------------------------------------------------------------


def test_a_failed_leader_does_not_look_like_a_leader() -> None:
    with Cluster(Recorder, config=raft.Config(restart=None)) as cluster:
        leader = cluster.leader()
        assert raft.status(leader).role == "leader"
        assert set(raft.status(leader).progress) == set(cluster.names) - {leader}
        term = raft.status(leader).term
        raft.write(leader, ("on", leader, MemoryError("planted")), block=False)
        wait_until(lambda: raft.status(leader).failure is not None)
        wait_until(lambda: supervisor.handle_of(leader).failed)
        status = raft.status(leader)
        assert (status.name, status.role, status.leader, status.progress) == (leader, "follower", None, {})
        assert isinstance(status.failure, raft.PeerFailed)
        assert status.term == term
        assert status.last_index > 0
        cluster.leader()


def test_the_progress_in_a_status_cannot_be_changed() -> None:
    with Cluster(Recorder, 2) as cluster:
        progress: Any = raft.status(cluster.leader()).progress
        with pytest.raises(TypeError):
            progress["s9"] = None
        with pytest.raises(TypeError):
            del progress[next(iter(progress))]
        assert len(progress) == 1
