"""What goes wrong, when, and for how long.

During the safety phase a fault strikes every now and then, whatever else is broken at that time; each has an end of its
own. ``end`` repairs everything that can be repaired; then the liveness phase begins.

A peer whose disk lost what it had promised is retired. A minority at most is, since Raft promises nothing beyond that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from raft_actors.errors import CorruptLog, RaftError
from raft_actors.protocol.events import StopRequested
from raft_actors.protocol.state import Leader
from raft_actors.testing.simulation.handovers import handovers
from raft_actors.testing.simulation.membership import changes_of_members, may_lose
from raft_actors.testing.simulation.network_faults import NetworkFaults
from raft_actors.testing.simulation.node_sleep import suspensions
from raft_actors.testing.simulation.plan import NEEDED_FOR_LEASES
from raft_actors.testing.simulation.world import Violated

if TYPE_CHECKING:
    from raft_actors.testing.simulation.cluster import Cluster
    from raft_actors.testing.simulation.node import Node

__all__ = ["Faults"]

BOUNDARIES = 12
"""A crash comes at one of so many of the next boundaries between two effects."""
LONG_PAUSE, RECHECK, USUAL_WORK = 3.0, 0.05, 0.0002
SHORTEST_INTERVAL, LONGEST_INTERVAL = 0.02, 2.0
OFTEN = 3
"""So many times as often as others links are cut, and with leases whatever takes a leader out of sight."""


class Faults(NetworkFaults):
    """Strikes and repairs.

    Args:
        cluster: what it strikes.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._over = False
        self._committed = self._asked = 0
        self._struck_at = 0.0
        self._hung: dict[str, float] = {}
        self._slow: dict[str, float] = {}
        kinds: dict[str, Callable[[], None]] = {
            "partition": self._partition,
            "crash": self._crash,
            "ambush": self._ambush,
            "faint": self._faint,
            "limbo": self._limbo,
            "stop": self._stop,
            "pause": self._pause,
            "clock": self._clock,
            "slow_disk": self._slow_disk,
            "disk_error": self._disk_error,
            "damage": self._damage,
            "wipe": self._wipe,
            "rot": self._rot,
            "exile": self._exile,
            "snapshot": self._snapshot,
            **suspensions(cluster, self._some),
            **handovers(cluster, self._any),
            **changes_of_members(cluster, self._any),
        }
        chosen = [name for name in cluster.plan.faults if name in kinds]
        often = {"partition", "member", *(NEEDED_FOR_LEASES if cluster.plan.settings.lease_reads else ())}
        self._kinds = [kinds[name] for name in chosen for _ in range(OFTEN if name in often else 1)]

    def begin(self) -> None:
        """Set the clocks, and let the first fault come."""
        spread = self._cluster.plan.clock_spread
        if spread:
            for node in self._cluster.nodes.values():
                node.clock.set_rate(1 + spread * (2 * self._cluster.world.rng.random() - 1))
        self._plan_next()

    def _plan_next(self) -> None:
        """Strike after about so many steps: where nothing moves any more, there is time to recover."""
        world = self._cluster.world
        pace = world.now / max(world.steps, 1)
        mean = min(max(self._cluster.plan.fault_every * pace, SHORTEST_INTERVAL), LONGEST_INTERVAL)
        world.after(world.rng.expovariate(1 / mean), self._strike)

    def _strike(self, _: object) -> None:
        if self._over or not self._kinds:
            return
        world, committed = self._cluster.world, len(self._cluster.invariants.committed)
        if self._cluster.plan.considerate and committed <= self._committed and world.now < self._struck_at + LONG_PAUSE:
            world.after(RECHECK, self._strike)
            return
        self._committed, self._struck_at = committed, world.now
        self._kinds[int(world.rng.random() * len(self._kinds))]()
        self._plan_next()

    def end(self) -> None:
        """Repair what can be repaired; from now on nothing goes wrong."""
        self._over = True
        cluster = self._cluster
        cluster.world.note("faults", "end")
        cluster.network.heal()
        self._hung, self._slow = {}, {}
        for node in cluster.nodes.values():
            node.disk.failing = node.fuse = 0
            node.clock.set_rate(1.0)
            node.recover_from_pause()
            if not node.up and not node.retired:
                cluster.world.after(0.01, self.start, node)

    # -- drawing -------------------------------------------------------------------------------------------------------

    def _outage(self) -> float:
        """How long a fault lasts: usually about as the plan says, sometimes very long or no time at all."""
        rng = self._cluster.world.rng
        return rng.expovariate(1 / self._cluster.plan.outage) * rng.choice((0.1, 1, 1, 1, 4))

    def _long_outage(self) -> float:
        """Often long enough for an election."""
        rng = self._cluster.world.rng
        return rng.uniform(0.3, 2.0) if rng.random() < 0.5 else self._outage()

    def _any(self) -> Node:
        """A peer; the leader half of the time, since that is where it hurts."""
        rng, nodes = self._cluster.world.rng, list(self._cluster.nodes.values())
        leaders = [node for node in nodes if node.up and isinstance(node.engine.state.role, Leader)]
        chosen = leaders if leaders and rng.random() < 0.5 else nodes
        return chosen[int(rng.random() * len(chosen))]

    def _some(self) -> list[Node]:
        """One, several, a majority, or all."""
        rng, nodes = self._cluster.world.rng, list(self._cluster.nodes.values())
        if rng.random() < 0.6:
            return [self._any()]
        return rng.sample(nodes, rng.choice((rng.randint(1, len(nodes)), len(nodes) // 2 + 1, len(nodes))))

    def _may_lose(self, node: Node) -> bool:
        """Whether this peer may lose what it promised: a formed cluster, and a minority with it."""
        if self._cluster.plan.renews:
            return may_lose(self._cluster, node)
        nodes = self._cluster.nodes.values()
        lossy = sum(one.retired or one.disk.damaged or one.disk.files.damaged for one in nodes)
        return self._cluster.everybody_joined() and not node.retired and lossy < (len(nodes) - 1) // 2

    # -- processes -----------------------------------------------------------------------------------------------------

    def _crash(self) -> None:
        """Processes die, at once or between two of their next effects, and come back after a while."""
        rng = self._cluster.world.rng
        for node in self._some():
            if not node.up:
                continue
            if rng.random() < 0.6:
                node.fuse = rng.randint(1, BOUNDARIES)
            else:
                node.crash()
                self.after_crash(node)

    def after_crash(self, node: Node) -> None:
        """A peer died."""
        self._cluster.world.after(self._outage(), self.start, node)

    def after_stop(self, node: Node) -> None:
        """A peer stopped gracefully."""
        self._cluster.world.after(self._outage(), self.start, node)

    def after_failure(self, node: Node, *, damaged: bool) -> None:
        """A peer stopped itself."""
        if damaged:
            self._retire(node)
        else:
            self._cluster.world.after(0.1, self.start, node)

    def _retire(self, node: Node) -> None:
        if not node.disk.damaged:
            raise Violated("no peer fails", f"{node.name} takes its disk for damaged, which it is not")
        node.retired = True
        self._cluster.world.note(node.name, "retires")
        if self._cluster.plan.renews:
            self._replace_disk(node)

    def _replace_disk(self, node: Node) -> None:
        """It begins anew, with an empty disk; where members change, it may become one again, as somebody else."""
        node.wiped += 1
        node.disk = node.new_disk()
        node.retired = not self._cluster.plan.renews
        self._cluster.lost_at = self._cluster.world.now
        self.after_crash(node)

    def start(self, node: Node) -> None:
        """Let a peer run, again or for the first time."""
        if node.up or (node.retired and not node.wiped):
            return
        try:
            node.start()
        except CorruptLog:
            self._retire(node)
        except RaftError as error:
            if node.disk.failing == 0 and not node.disk.failed_once:
                raise Violated("no peer fails", f"{node.name} cannot start: {error}") from error
            self._cluster.world.after(0.1, self.start, node)

    def _stop(self) -> None:
        node = self._any()
        if node.up:
            self._cluster.world.note(node.name, "is asked to stop")
            node.post(StopRequested(self._outage()))

    def _pause(self) -> None:
        now = self._cluster.world.now
        for node in self._some():
            node.paused_until = max(node.paused_until, now + min(self._long_outage(), LONG_PAUSE))
            self._cluster.world.note(node.name, "pauses until", node.paused_until)

    def _clock(self) -> None:
        rng, plan, node = self._cluster.world.rng, self._cluster.plan, self._any()
        if rng.random() < 0.3:
            node.clock.set_wall(rng.uniform(-10_000, 10_000))
        elif rng.random() < 0.3 and not plan.settings.lease_reads:
            node.clock.jump(rng.choice((0.05, 0.5, 5.0)) * rng.random())
        else:
            node.clock.set_rate(1 + plan.clock_spread * (2 * rng.random() - 1))
        self._cluster.world.note(node.name, "has its clock changed")
        if node.up:
            node.clock_changed()

    def machine_time(self) -> float:
        """How long a machine takes at most for what it was handed."""
        return USUAL_WORK if self._over else USUAL_WORK + self._cluster.plan.machine

    # -- disks ---------------------------------------------------------------------------------------------------------

    def sync_time(self, node: Node) -> float:
        """How long the next sync of a peer's disk takes."""
        world, plan = self._cluster.world, self._cluster.plan
        usual = plan.disk * (0.5 + world.rng.random())
        if self._over:
            return usual
        if self._hung.get(node.name, 0.0) > world.now:
            return self._hung[node.name] - world.now + usual
        if self._slow.get(node.name, 0.0) > world.now:
            return usual + world.rng.expovariate(1 / plan.slow_disk)
        return usual

    def _slow_disk(self) -> None:
        world = self._cluster.world
        kind = self._hung if world.rng.random() < 0.3 else self._slow
        for node in self._some():
            kind[node.name] = world.now + self._outage()
            world.note(node.name, "disk is slow")

    def _disk_error(self) -> None:
        disk = self._any().disk
        disk.failing = self._cluster.world.rng.choice((1, 1, 2))
        disk.survives = self._cluster.world.rng.random() < 0.5
        self._cluster.world.note(disk.name, "disk fails")

    def _damage(self) -> None:
        node = self._any()
        if not node.disk.terms or node.disk.damaged or not self._may_lose(node):
            return
        rng = self._cluster.world.rng
        index, bit = rng.randint(1, len(node.disk.terms)), rng.getrandbits(16)
        if bit >> 13 == 0 or index < node.disk.first:  # an eighth strikes ballot, name and the like
            index = 0
        node.disk.damage(index, bit)
        self._cluster.world.note(node.name, "disk is damaged at", index)
        if self._cluster.plan.renews and node.up:  # it must notice before it is all that a cluster has
            self._cluster.lost_at = self._cluster.world.now
            node.crash()
            self.after_crash(node)

    def _wipe(self) -> None:
        node = self._any()
        if not self._may_lose(node) or node.disk.damaged:
            return
        if node.up:
            node.crash()
        self._cluster.world.note(node.name, "disk is wiped")
        self._replace_disk(node)

    def _rot(self) -> None:
        """The newest snapshot is damaged; its peer dies, too, since it would not look at it while it runs."""
        node = self._any()
        snapshot = node.disk.snapshot
        if snapshot is None or node.disk.damaged or self._cluster.plan.renews or not self._may_lose(node):
            return
        if node.up:
            node.crash()
            self.after_crash(node)
        world = self._cluster.world
        node.disk.files.damage(f"{snapshot.id}.snap", world.rng.getrandbits(16) if world.rng.random() < 0.8 else None)
        world.note(node.name, "snapshot is damaged", snapshot.last.index)

    def _snapshot(self) -> None:
        node, self._asked = self._any(), self._asked + 1
        if node.up:
            self._cluster.world.note(node.name, "is asked for a snapshot")
            node.ask_for_snapshot(self._asked)
