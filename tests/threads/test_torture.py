"""Random faults on a real cluster, with clients that write and read all the time: what they saw must be explainable."""

from __future__ import annotations

import errno
import random
import threading
import time
from collections.abc import Callable
from itertools import count

import pytest

import raft_actors as raft
from raft_actors import names
from raft_actors.supervisor import Handle
from raft_actors.testing import Cluster, Operation, check_linearizable
from tests.threads.tools import NEVER, Recorder, wait_until

CLIENTS = 4
CALL = 1.0
"""Seconds that a client waits for an answer."""


class Client:
    """Writes and reads at random peers, also at those that are dead, frozen or deposed."""

    def __init__(self, number: int, cluster: Cluster, end: threading.Event) -> None:
        self.history: list[Operation] = []
        self._number = number
        self._cluster = cluster
        self._end = end
        self._dice = random.Random(number)
        self._values = count()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive(), "a client waits for ever"

    def _run(self) -> None:
        while not self._end.is_set():
            name = self._cluster._leading() or self._dice.choice(self._cluster.names)
            if self._dice.random() < 0.3:
                name = self._dice.choice(self._cluster.names)
            if self._dice.random() < 0.6:
                value = f"{self._number}.{next(self._values)}"
                self._call("append", value, lambda name=name, value=value: raft.write(name, value, timeout=CALL))
            else:
                self._call("read", None, lambda name=name: raft.read(name, "all", timeout=CALL))

    def _call(self, op: str, value: str | None, call: Callable[[], object]) -> None:
        begin, status, output = time.monotonic(), "ok", None
        try:
            output = call()
        except raft.OutcomeUnknown:
            status = "unknown"
        except (raft.NotApplied, raft.PeerFailed):
            status = "fail"
        took = time.monotonic() - begin
        assert took < CALL + 0.5, f"{op} took {took:.2f} s"
        end = None if status == "unknown" else begin + took
        output = output if op == "read" and status == "ok" else None
        self.history.append(Operation(self._number, op, None, value, output, begin, end, status))
        if status == "fail":
            NEVER.wait(0.002)


def runs(name: str) -> bool:
    """Whether a peer runs; while it waits to be restarted its name is taken as well."""
    handle = names.whereis(name)
    return isinstance(handle, Handle) and handle.running


class Trouble:
    """One random fault at a time, and its end."""

    def __init__(self, cluster: Cluster, dice: random.Random) -> None:
        self._cluster = cluster
        self._dice = dice
        self.done: list[str] = []

    def strike(self) -> None:
        cluster, dice = self._cluster, self._dice
        kind = dice.choice(
            ["crash", "stop", "partition", "one way", "pause", "hang", "fail", "slow", "bad links", "all"]
        )
        victim = cluster._leading() if dice.random() < 0.6 else None
        victim = victim or dice.choice(cluster.names)
        self.done.append(f"{kind} {victim}")
        getattr(self, "_" + kind.replace(" ", "_"))(victim)

    def _while(self, most: float = 0.8) -> None:
        NEVER.wait(self._dice.random() * most)

    def _crash(self, victim: str) -> None:
        self._cluster.crash(victim)
        self._while(0.3)
        self._cluster.start(victim)

    def _stop(self, victim: str) -> None:
        self._cluster.stop(victim)
        self._while(0.3)
        self._cluster.start(victim)

    def _all(self, victim: str) -> None:
        for name in self._cluster.names:
            self._cluster.crash(name)
        for name in self._cluster.names:
            self._cluster.start(name)

    def _partition(self, victim: str) -> None:
        self._cluster.partition({victim})
        self._while()
        self._cluster.heal()

    def _one_way(self, victim: str) -> None:
        for name in self._cluster.names:
            if name != victim:
                self._cluster.cut(*self._dice.sample([victim, name], 2))
        self._while()
        self._cluster.heal()

    def _bad_links(self, victim: str) -> None:
        for source in self._cluster.names:
            for to in self._cluster.names:
                self._cluster.link(source, to, loss=0.2, delay=self._dice.random() * 0.02, duplicate=0.2)
        self._while(1.5)
        self._cluster.heal()

    def _pause(self, victim: str) -> None:
        self._cluster.pause(victim)
        self._while(1.5)
        self._cluster.resume(victim)

    def _hang(self, victim: str) -> None:
        self._cluster.disk(victim).hang()
        self._while(2.0)
        if self._dice.random() < 0.5:
            self._cluster.crash(victim)
            self._cluster.disk(victim).heal()
            self._cluster.start(victim)
        self._cluster.disk(victim).heal()

    def _fail(self, victim: str) -> None:
        self._cluster.disk(victim).fail(errno.EIO, times=self._dice.choice([1, 2]))
        self._while(0.5)
        self._cluster.disk(victim).heal()

    def _slow(self, victim: str) -> None:
        self._cluster.disk(victim).delay(0.1)
        self._while()
        self._cluster.disk(victim).heal()


@pytest.mark.parametrize(
    ("storage", "seconds"),
    [
        ("lmdb", 5.0),
        ("rocksdb", 5.0),
        pytest.param("lmdb", 40.0, marks=pytest.mark.slow),
        pytest.param("rocksdb", 40.0, marks=pytest.mark.slow),
    ],
)
def test_whatever_happens_what_clients_saw_is_linearizable(storage: str, seconds: float) -> None:
    restart = raft.Restart(max=1000, backoff=(0.02, 0.1))
    with Cluster(Recorder, storage=storage, config=raft.Config(restart=restart)) as cluster:
        end = threading.Event()
        clients = [Client(number, cluster, end) for number in range(CLIENTS)]
        trouble = Trouble(cluster, random.Random())
        until = time.monotonic() + seconds
        try:
            while time.monotonic() < until:
                trouble.strike()
                wait_until(lambda: all(runs(name) for name in cluster.names), 10)
                NEVER.wait(0.2 * random.random())
            cluster.eventually(lambda: cluster.write("calm", timeout=2.0) or True, 15)
        finally:  # or they would write into the clusters of other tests
            end.set()
            for client in clients:
                client.join()
        assert cluster.converged(15), trouble.done
    history = [op for client in clients for op in client.history]
    history += [Operation("test", "append", None, "calm", None, 0.0, None, "unknown")]
    verdict = check_linearizable([op for op in history if op.output is None or "calm" not in op.output], "append")
    assert verdict, f"{trouble.done}\n{verdict.detail}"
    assert sum(op.status == "ok" for op in history) > 50
