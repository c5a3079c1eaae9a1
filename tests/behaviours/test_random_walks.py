"""Random walks through a cluster of cores: whatever happens in whatever order, Figure 3 holds, and it recovers."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from raft_actors.behaviours.deadlines import next_deadline
from raft_actors.protocol.events import (
    ClusterRequested,
    PeerDown,
    ReadsRequested,
    SnapshotRequested,
    StopRequested,
    Tick,
    TransferRequested,
    WritesRequested,
)
from raft_actors.protocol.state import Leader
from raft_actors.protocol.types import Settings
from tests.behaviours.cluster import Cluster

SEEDS = 40
STEPS = 600
LONGEST_PAUSE = 70.0
DEPOSED_WITHIN = 60
TINY = 9
"""A threshold of snapshots up to which walks ask for some, too."""


class Walk:
    """One walk: faults first, then everything heals and the cluster must make progress.

    With ``priorities`` the last peer has the highest. In two of three walks every peer wakes in time; in the others any
    may sleep for as long as it likes, and few leaders survive that.
    """

    def __init__(self, seed: int, settings: Settings, size: int = 3, *, priorities: bool = False) -> None:
        self.dice = random.Random(seed)
        self.names = tuple(f"s{number}" for number in range(1, size + 1))
        self.cluster = Cluster(self.names, settings)
        self.token = 0
        self._sleepy = seed % 3 == 0
        for number, name in enumerate(self.names if priorities else ()):
            self.cluster.priorities[name] = number
            self.cluster.restart(name)
        self._moves, self._weights = self._likely()
        self.cluster.run("s1", ClusterRequested(self._new_token(), "the cluster", self.names, 5.0))
        self.cluster.settle()

    def _likely(self) -> tuple[list[Callable[[str], None]], list[int]]:
        """What may happen, and how often; every walk has its own mixture."""
        chances = {
            self._deliver: (30, 60),
            self._sync: (5, 20),
            self._wait: (2, 20),
            self._wake: (1, 8),
            self._write: (5, 15),
            self._read: (5, 15),
            self._isolate: (0, 2),
            self._depose: (0, 2),
            self._cut: (0, 1),
            self._mend: (1, 2),
            self._stop: (0, 1),
            self._transfer: (0, 1),
            self._down: (0, 1),
            self._crash: (0, 2),
        }
        if self.cluster.settings.snapshot_threshold <= TINY:
            chances |= {self._snapshot: (0, 2), self._write_snapshot: (0, 4)}
        return list(chances), [self.dice.randint(*bounds) for bounds in chances.values()]

    def _new_token(self) -> int:
        self.token += 1
        return self.token

    def faults(self, steps: int) -> None:
        for _ in range(steps):
            self._one()

    def _one(self) -> None:
        cluster, dice = self.cluster, self.dice
        name = dice.choice(self.names)
        node = cluster.nodes[name]
        if node.state is None:
            if dice.random() < 0.2:
                cluster.restart(name)
            return
        node.dice = dice.random()
        dice.choices(self._moves, self._weights)[0](name)

    # -- moves ---------------------------------------------------------------------------------------------------------

    def _deliver(self, name: str) -> None:
        """Deliver something to ``name``; now and then twice, never, or out of order."""
        network, dice = self.cluster.network, self.dice
        if not network:
            return
        chance = dice.random()
        if chance < 0.05:
            network.append(dice.choice(network))
        elif chance < 0.08:
            del network[dice.randrange(len(network))]
        elif chance < 0.15:
            network.rotate(-dice.randrange(len(network)))
        self.cluster.deliver_next(target=name)

    def _sync(self, name: str) -> None:
        if self.cluster.nodes[name].jobs:
            (self.cluster.sync if self.dice.random() < 0.7 else self.cluster.sync_one)(name)

    def _wait(self, name: str) -> None:
        self.cluster.now += self.dice.random() * 0.05
        if self.cluster.now >= next_deadline(self.cluster.state(name)):
            self.cluster.run(name, Tick())

    def _wake(self, name: str) -> None:
        """The clock reaches the next deadline of ``name``."""
        cluster = self.cluster
        until = next_deadline(cluster.state(name))
        while not self._sleepy:
            first = min(self._alive(), key=lambda one: next_deadline(cluster.state(one)))
            if first == name or next_deadline(cluster.state(first)) >= until:
                break
            cluster.tick(first)
        cluster.tick(name)

    def _write(self, name: str) -> None:
        commands = tuple(b"%d" % self.dice.randrange(100) for _ in range(self.dice.randrange(1, 4)))
        self.cluster.run(name, WritesRequested(self._new_token(), commands))

    def _read(self, name: str) -> None:
        self.cluster.run(name, ReadsRequested(self._new_token(), lease=self.dice.random() < 0.5))

    def _isolate(self, name: str) -> None:
        self.cluster.cut |= {link for other in self.names for link in ((name, other), (other, name))}

    def _depose(self, name: str) -> None:
        """If ``name`` leads, cut it off until the others have another leader, who is written to."""
        if not isinstance(self.cluster.state(name).role, Leader):
            return
        self._isolate(name)
        for _ in range(DEPOSED_WITHIN):
            self._wake_next()
            others = [one for one in self.leaders() if one != name]
            if others:
                self._write(others[0])
                self.cluster.settle()
                return

    def _cut(self, name: str) -> None:
        self.cluster.cut ^= {(name, self.dice.choice(self.names))}

    def _mend(self, name: str) -> None:
        self.cluster.cut.clear()

    def _stop(self, name: str) -> None:
        self.cluster.run(name, StopRequested(0.5))

    def _transfer(self, name: str) -> None:
        target = self.dice.choice((*self.names, None))
        self.cluster.run(name, TransferRequested(self._new_token(), target, self.dice.random()))

    def hand_over_in_vain(self) -> None:
        """Whoever leads wants one to lead that is cut off, and will not hear of it."""
        for leader in self.leaders():
            target = self.dice.choice([name for name in self.names if name != leader])
            self._isolate(target)
            self.cluster.run(leader, TransferRequested(self._new_token(), target, 0.5))

    def _down(self, name: str) -> None:
        self.cluster.run(name, PeerDown(self.dice.choice(self.names)))

    def _crash(self, name: str) -> None:
        self.cluster.crash(name)

    def _snapshot(self, name: str) -> None:
        self.cluster.nodes[name].files.slow = self.dice.random() < 0.5
        self.cluster.run(name, SnapshotRequested(self._new_token()))

    def _write_snapshot(self, name: str) -> None:
        self.cluster.write_snapshot(name)

    def heal(self) -> None:
        cluster = self.cluster
        for node in cluster.nodes.values():
            node.files.slow = False
            if node.state is not None:
                cluster.write_snapshot(node.name)
        cluster.cut.clear()
        for name, node in cluster.nodes.items():
            if node.state is None:
                cluster.restart(name)
        for _ in range(200):
            self._wake_next()
        cluster.settle()

    def _wake_next(self) -> None:
        self.cluster.settle()
        name = min(self._alive(), key=lambda one: next_deadline(self.cluster.state(one)))
        self.cluster.nodes[name].dice = self.dice.random()
        self.cluster.tick(name)

    def _alive(self) -> list[str]:
        return [name for name in self.names if self.cluster.nodes[name].state is not None]

    def leaders(self) -> list[str]:
        return [name for name in self._alive() if isinstance(self.cluster.state(name).role, Leader)]

    def check_drifted(self) -> None:
        """Within the longest pause, and a little, the peer of the highest priority leads."""
        until = self.cluster.now + LONGEST_PAUSE
        while self.leaders() != [self.names[-1]]:
            self._wake_next()
            assert self.cluster.now < until
        self.cluster.settle()

    def check_alive(self) -> None:
        cluster = self.cluster
        leaders = self.leaders()
        assert len(leaders) == 1, leaders
        assert not [name for name in self.names if cluster.nodes[name].asked], "somebody waits in vain"
        token = self._new_token()
        cluster.run(leaders[0], WritesRequested(token, (b"last",)))
        cluster.settle()
        assert cluster.answers[token].startswith("written")
        for name in self.names:
            token = self._new_token()
            cluster.run(name, ReadsRequested(token))
            cluster.settle()
            cluster.tick(leaders[0])  # commit news may still have to reach it
            cluster.settle()
            assert cluster.answers[token] == "read"
        for _ in range(20):
            cluster.tick(leaders[0])
            cluster.settle()
        machines = [cluster.nodes[name].machine for name in self.names]
        assert all(machine == machines[0] for machine in machines)
        for name in self.names:
            disk = cluster.nodes[name].disk
            assert disk.entries == machines[0][disk.previous.index :]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_committed_is_lost_and_the_cluster_recovers(seed: int) -> None:
    settings = Settings(
        pre_vote=seed % 3 != 0,
        check_quorum=seed % 5 != 0,
        lease_reads=seed % 2 == 0,
        max_batch_bytes=(1 << 20) if seed % 2 else 70,
        max_inflight=64 if seed % 3 else 1,
        snapshot_threshold=100_000 if seed % 4 == 1 else 1 + seed % TINY,
        trailing_entries=seed % 3,
    )
    walk = Walk(seed, settings, size=5 if seed % 4 == 0 else 3)
    walk.faults(STEPS)
    walk.heal()
    walk.check_alive()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_happened_the_peer_of_the_highest_priority_leads_in_the_end(seed: int) -> None:
    walk = Walk(seed, Settings(pre_vote=seed % 3 != 0, lease_reads=seed % 2 == 0), priorities=True)
    walk.faults(STEPS)
    walk.hand_over_in_vain()
    walk.heal()
    walk.check_drifted()
    walk.check_alive()
