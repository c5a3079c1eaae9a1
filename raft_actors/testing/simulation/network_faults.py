"""Faults of the network: links are cut for a while, alone or together with what makes it worse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raft_actors.protocol.events import PeerDown
from raft_actors.protocol.state import Leader
from raft_actors.testing.simulation.partitions import both_ways, draw_partition

if TYPE_CHECKING:
    from raft_actors.testing.simulation.cluster import Cluster
    from raft_actors.testing.simulation.node import Node

__all__ = ["NetworkFaults"]

FAINTING = 0.03
"""Seconds for which answers still reach a leader that stands still."""


class NetworkFaults:
    """The part of ``Faults`` that cuts links."""

    _cluster: Cluster
    _over: bool
    _hung: dict[str, float]

    if TYPE_CHECKING:

        def _any(self) -> Node: ...
        def _outage(self) -> float: ...
        def _long_outage(self) -> float: ...
        def start(self, node: Node) -> None:
            """Let a peer run."""

    def _partition(self) -> None:
        """Cut links; some partitions flap, and come back several times."""
        rng = self._cluster.world.rng
        links = draw_partition(rng, self._cluster.names, self._any().name)
        self._cut((links, rng.randint(2, 6) if rng.random() < 0.2 else 0))

    def _ambush(self) -> None:
        """One peer loses sight of the leader and wants to stand; then the leader is cut off, and all others restart.

        Whoever could still tell that there is a leader has forgotten it.
        """
        world, nodes, leader = self._cluster.world, self._cluster.nodes, self._leader()
        if not leader or len(nodes) < 3:
            return
        others = world.rng.sample([name for name in nodes if name != leader], len(nodes) - 1)
        world.note("network", "is an ambush for", leader)
        self._cut((both_ways([leader], others[:1]), 0))
        world.after(world.rng.uniform(0.4, 0.8), self._spring, (leader, others))

    def _spring(self, work: tuple[str, list[str]]) -> None:
        if self._over:
            return
        leader, others = work
        world = self._cluster.world
        self._cut((both_ways([leader], others), 0))
        for name in others[1:]:
            node = self._cluster.nodes[name]
            if node.up:
                node.crash()
                world.after(0.01 * world.rng.random(), self.start, node)

    def _faint(self) -> None:
        """The leader stands still while answers are under way to it, and is cut off before it goes on.

        In its inbox it then finds old answers and nothing newer: what it concludes from them is out of date.
        """
        world, leader = self._cluster.world, self._leader()
        if not leader:
            return
        node, seconds = self._cluster.nodes[leader], world.rng.uniform(0.4, 1.5)
        node.paused_until = max(node.paused_until, world.now + seconds)
        world.note(leader, "faints until", node.paused_until)
        links = both_ways([leader], self._cluster.names)
        world.after(FAINTING, self._isolate, (links, seconds + world.rng.random()))

    def _limbo(self) -> None:
        """The leader and others, a minority, are cut off, and their disks hang until after that.

        What waits for these disks is of a leader that is deposed meanwhile; what overwrites it then waits behind it.
        """
        world, leader = self._cluster.world, self._leader()
        if not leader:
            return
        others = [name for name in self._cluster.names if name != leader]
        world.rng.shuffle(others)
        few = max(0, len(others) // 2 - 1)
        seconds = world.rng.uniform(0.5, 2.0)
        world.note("network", "is a limbo for", leader, others[:few])
        self._isolate((both_ways([leader, *others[:few]], others[few:]), seconds))
        for name in others[:few]:
            self._hung[name] = world.now + seconds + world.rng.random() / 2

    def _isolate(self, work: tuple[tuple[tuple[str, str], ...], float]) -> None:
        links, seconds = work
        if not self._over:
            self._cluster.network.cut(links)
            self._cluster.world.after(seconds, self._mend, (links, 0))

    def _leader(self) -> str:
        """The last named of the peers that believe to lead, if there is one."""
        nodes = self._cluster.nodes.values()
        return max((node.name for node in nodes if node.up and isinstance(node.engine.state.role, Leader)), default="")

    def _cut(self, work: tuple[tuple[tuple[str, str], ...], int]) -> None:
        if self._over:
            return
        self._cluster.network.cut(work[0])
        if self._cluster.plan.monitors and self._cluster.world.rng.random() < 0.5:
            self._notice_broken_links(work[0])
        self._cluster.world.after(self._long_outage(), self._mend, work)

    def _notice_broken_links(self, links: tuple[tuple[str, str], ...]) -> None:
        """A broken connection looks like a death: the others stand at once; a leader may know of nothing."""
        world, leader = self._cluster.world, self._leader()
        for source, target in links:
            if target != leader or world.rng.random() < 0.3:
                world.after(0.001 * world.rng.random(), self._cluster.nodes[target].post, PeerDown(source))

    def _mend(self, work: tuple[tuple[tuple[str, str], ...], int]) -> None:
        links, again = work
        self._cluster.network.mend(links)
        if again and not self._over:
            self._cluster.world.after(self._outage() / 4, self._cut, (links, again - 1))

    def _exile(self) -> None:
        """A follower dies or is cut off; the others go on meanwhile, take snapshots and cut their logs."""
        world, leader = self._cluster.world, self._leader()
        names = [name for name in self._cluster.names if name != leader]
        if not leader or not names:
            return
        node = self._cluster.nodes[names[int(world.rng.random() * len(names))]]
        seconds = world.rng.uniform(0.5, 4.0)
        world.note(node.name, "is exiled until", world.now + seconds)
        if node.up and world.rng.random() < 0.3:
            node.crash()
            world.after(seconds, self.start, node)
        else:
            self._isolate((both_ways([node.name], self._cluster.names), seconds))
