"""Peers that die are started again, with growing pauses and a cap; never after damage or a broken invariant."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

import raft_actors as raft
from raft_actors import supervisor
from raft_actors.engine import Engine
from raft_actors.testing import Cluster
from storage_adapters import LMDBAdapter
from tests.threads.tools import Recorder, outcome, wait_until

KILL = ("on", "s1", MemoryError("planted"))
"""Stops peer s1 whenever it is applied: also again, when the restarted peer applies its log."""


def quick(**restart: Any) -> raft.Config:
    return raft.Config(restart=raft.Restart(**{"max": 3, "within": 60.0, "backoff": (0.02, 0.1)} | restart))


class Openings:
    """The moments at which peers were opened, and what to do then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times: list[float] = []
        original = supervisor.open_peer

        def opened(*args: Any) -> Any:
            self.times.append(time.monotonic())
            return original(*args)

        monkeypatch.setattr(supervisor, "open_peer", opened)

    @property
    def pauses(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]


class Mortal(Recorder):
    """Dies of ``"die"`` as often as ``lives`` says, and then no more."""

    lives = 0

    def handle_write(self, command: Any, state: list[Any]) -> Any:
        if command == "die" and type(self).lives > 0:
            type(self).lives -= 1
            raise MemoryError("planted")
        return super().handle_write(command, state)


def start_alone(config: raft.Config, tmp_path: Path, machine: Any = Recorder) -> None:
    raft.start_peer(machine, name="s1", config=_at(config, tmp_path))
    raft.set_configuration("s1", ["s1"])
    raft.leader("s1")


def _at(config: raft.Config, tmp_path: Path) -> raft.Config:
    import dataclasses

    return dataclasses.replace(config, data_dir=tmp_path)


def test_a_peer_that_died_of_an_exception_is_started_again_on_its_data(tmp_path: Path) -> None:
    Mortal.lives = 1
    start_alone(quick(), tmp_path, Mortal)
    raft.write("s1", "before")
    assert isinstance(outcome(raft.write("s1", "die", block=False)), raft.OutcomeUnknown)
    wait_until(lambda: raft.status("s1").failure is None and raft.status("s1").role == "leader")
    assert raft.read("s1", "all") == ["before", "die"]
    raft.stop("s1")


def test_the_pauses_grow_up_to_the_longest_and_end_at_the_cap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    openings = Openings(monkeypatch)
    start_alone(quick(max=5, backoff=(0.05, 0.2)), tmp_path)
    raft.write("s1", KILL, block=False)
    wait_until(lambda: len(openings.times) == 6, 10)
    wait_until(lambda: isinstance(_error_of("s1"), raft.PeerFailed))
    assert len(openings.times) == 6  # the first start, and five restarts
    for pause, least in zip(openings.pauses[1:], (0.1, 0.2, 0.2, 0.2), strict=False):
        assert pause >= least
    with pytest.raises(raft.PeerFailed, match="MemoryError"):
        raft.write("s1", "x")
    raft.stop("s1")


def test_deaths_that_are_long_ago_do_not_count(tmp_path: Path) -> None:
    start_alone(quick(max=1, within=0.05), tmp_path, Mortal)
    for _ in range(4):
        Mortal.lives = 1
        raft.write("s1", "die", block=False)
        wait_until(lambda: raft.status("s1").failure is not None)
        wait_until(lambda: raft.status("s1").failure is None and raft.status("s1").role == "leader")
        begin = time.monotonic()
        wait_until(lambda begin=begin: time.monotonic() > begin + 0.06)
    raft.stop("s1")


def test_without_a_policy_nothing_is_restarted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    openings = Openings(monkeypatch)
    start_alone(raft.Config(restart=None), tmp_path)
    raft.write("s1", KILL, block=False)
    wait_until(lambda: isinstance(_error_of("s1"), raft.PeerFailed))
    assert len(openings.times) == 1
    raft.stop("s1")


def _error_of(name: str) -> Any:
    try:
        return raft.leader(name, timeout=0)
    except raft.RaftError as error:
        return error


# -- while it waits --------------------------------------------------


@pytest.fixture
def restarting(tmp_path: Path) -> raft.Config:
    """A peer s1 that waits a long time for its restart."""
    config = _at(quick(backoff=(60.0, 60.0)), tmp_path)
    Mortal.lives = 1
    raft.start_peer(Mortal, name="s1", config=config)
    raft.set_configuration("s1", ["s1"])
    raft.leader("s1")
    raft.write("s1", "die", block=False)
    wait_until(lambda: isinstance(_error_of("s1"), raft.Restarting))
    return config


def test_calls_during_the_pause_say_that_it_is_restarting(restarting: raft.Config) -> None:
    with pytest.raises(raft.Restarting, match="peer 's1' is restarting") as caught:
        raft.write("s1", "x")
    assert caught.value.name == "s1"
    assert isinstance(outcome(raft.read("s1", "len", block=False)), raft.Restarting)
    raft.stop("s1")


def test_the_name_stays_taken_during_the_pause(restarting: raft.Config) -> None:
    with pytest.raises(raft.AlreadyStarted, match="'s1'"):
        raft.start_peer(Mortal, name="s1", config=restarting)
    raft.stop("s1")


def test_status_tells_the_failure_during_the_pause(restarting: raft.Config) -> None:
    status = raft.status("s1")
    assert isinstance(status.failure, raft.PeerFailed)
    assert "MemoryError: planted" in str(status.failure)
    assert status.last_index > 0
    raft.stop("s1")


def test_stop_cancels_the_restart_at_once(restarting: raft.Config) -> None:
    begin = time.monotonic()
    raft.stop("s1")
    assert time.monotonic() - begin < 1.0
    with pytest.raises(raft.UnknownPeer):
        raft.status("s1")
    raft.start_peer(Mortal, name="s1", config=restarting)
    assert raft.leader("s1") == "s1"
    raft.stop("s1")


def test_the_end_of_the_process_cancels_restarts(restarting: raft.Config) -> None:
    supervisor.stop_all()
    with pytest.raises(raft.UnknownPeer):
        raft.status("s1")


def test_a_stop_while_the_store_is_being_opened_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opening, go_on = threading.Event(), threading.Event()
    original = supervisor.open_peer

    def slow(*args: Any) -> Any:
        opening.set()
        go_on.wait(5)
        return original(*args)

    monkeypatch.setattr(supervisor, "open_peer", slow)
    starter = threading.Thread(
        target=raft.start_peer, args=(Recorder,), kwargs={"name": "s1", "config": _at(quick(), tmp_path)}
    )
    starter.start()
    assert opening.wait(5)
    stopper = threading.Thread(target=raft.stop, args=("s1",))
    stopper.start()
    go_on.set()
    starter.join(5)
    stopper.join(5)
    wait_until(lambda: isinstance(_error_of("s1"), raft.UnknownPeer))


# -- never --------------------------------------------------


def test_a_broken_invariant_stops_the_peer_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    with Cluster(Recorder) as cluster:
        leader = cluster.leader()
        victim = next(name for name in cluster.names if name != leader)
        original = Engine.tick

        def broken(self: Engine, moment: Any) -> Any:
            if self.state.name == victim:
                raise raft.InvariantViolated("planted")
            return original(self, moment)

        monkeypatch.setattr(Engine, "tick", broken)
        cluster.eventually(lambda: cluster.status(victim).failure is not None)
        monkeypatch.setattr(Engine, "tick", original)
        assert isinstance(cluster.status(victim).failure, raft.InvariantViolated)
        _stays_down(victim, raft.InvariantViolated)
        assert cluster.write("the others go on") == 1
        cluster.start(victim)  # a person may start it again
        cluster.converged()


def test_an_entry_that_cannot_be_decoded_stops_the_peer_for_good() -> None:
    class Picky:
        """A codec that one peer lost the ability to read."""

        name = "picky"
        broken_at: str | None = None

        def encode(self, value: Any) -> bytes:
            return repr(value).encode()

        def decode(self, data: bytes) -> Any:
            if self.broken_at and threading.current_thread().name == f"raft-machine-{self.broken_at}":
                raise ValueError("planted")
            import ast

            return ast.literal_eval(data.decode())

    codec = Picky()
    with Cluster(Recorder, config=raft.Config(codec=codec)) as cluster:
        leader = cluster.leader()
        victim = next(name for name in cluster.names if name != leader)
        codec.broken_at = victim
        cluster.write("x")
        cluster.eventually(lambda: cluster.status(victim).failure is not None)
        assert isinstance(cluster.status(victim).failure, raft.Incompatible)
        _stays_down(victim, raft.Incompatible)
        assert cluster.status(victim).last_applied < cluster.status(leader).last_applied, "it was skipped"
        codec.broken_at = None
        cluster.stop(victim)
        cluster.start(victim)
        cluster.converged()


def test_damage_found_while_it_runs_stops_the_peer_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    from storage_adapters import DamagedStore

    with Cluster(Recorder) as cluster:
        leader = cluster.leader()
        victim = next(name for name in cluster.names if name != leader)
        original = LMDBAdapter.write

        def damaged(self: LMDBAdapter, batch: Any) -> None:
            if self.stats()["path"].endswith(victim):
                raise DamagedStore("planted")
            original(self, batch)

        monkeypatch.setattr(LMDBAdapter, "write", damaged)
        cluster.write("x")
        cluster.eventually(lambda: cluster.status(victim).failure is not None)
        monkeypatch.setattr(LMDBAdapter, "write", original)
        assert isinstance(cluster.status(victim).failure, raft.CorruptLog)
        _stays_down(victim, raft.CorruptLog)
        raft.stop(victim)


def _stays_down(name: str, error: type[raft.RaftError]) -> None:
    """It is neither running nor restarting, and every call says why; its status is still shown."""
    with pytest.raises(error):
        raft.write(name, "x")
    with pytest.raises(error):
        raft.read(name, "len", consistency="stale")
    assert isinstance(raft.status(name).failure, error)
    assert not [one for one in threading.enumerate() if one.name == f"raft-restart-{name}"]


def test_a_failed_peer_is_started_again_by_hand(tmp_path: Path) -> None:
    Mortal.lives = 1
    start_alone(raft.Config(restart=None), tmp_path, Mortal)
    raft.write("s1", "die", block=False)
    wait_until(lambda: raft.status("s1").failure is not None)
    raft.start_peer(Mortal, name="s1", config=raft.Config(data_dir=tmp_path))
    assert raft.status("s1").failure is None
    assert raft.leader("s1") == "s1"
    assert raft.read("s1", "all") == ["die"]
    raft.stop("s1")


def test_a_peer_that_has_failed_and_is_about_to_end_is_waited_for(tmp_path: Path, monkeypatch) -> None:
    """Its failure is known before it turns callers away: in between somebody may start it again already."""
    failed, waited_for = threading.Event(), threading.Event()
    await_end = supervisor.Handle.await_end

    def tell(*_: Any, **__: Any) -> None:
        failed.set()
        assert waited_for.wait(10)

    def wait(handle: supervisor.Handle) -> None:
        with handle.changed:  # what it waits for cannot come before it waits
            waited_for.set()
            await_end(handle)

    Mortal.lives = 1
    start_alone(raft.Config(restart=None), tmp_path, Mortal)
    monkeypatch.setattr(supervisor.logger, "error", tell)
    monkeypatch.setattr(supervisor.Handle, "await_end", wait)
    raft.write("s1", "die", block=False)
    assert failed.wait(10)
    raft.start_peer(Mortal, name="s1", config=raft.Config(data_dir=tmp_path))
    assert raft.status("s1").failure is None
    raft.stop("s1")


def test_a_subscription_outlives_restarts(tmp_path: Path) -> None:
    Mortal.lives = 2
    start_alone(quick(), tmp_path, Mortal)
    events: list[Any] = []
    with raft.subscribe("s1", events.append, events=[raft.PeerStopped, raft.RoleChanged]):
        for deaths in (1, 2):
            raft.write("s1", "die", block=False)
            wait_until(lambda deaths=deaths: sum(isinstance(one, raft.PeerStopped) for one in events) == deaths)
            wait_until(lambda: isinstance(events[-1], raft.RoleChanged) and events[-1].role == "leader")
        raft.stop("s1")
        wait_until(lambda: events[-1] == raft.PeerStopped("s1", "stopped"))
