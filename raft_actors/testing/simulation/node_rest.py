"""The nodes of simulated peers: they vouch for those that rest, over links that are cut and lose as all others."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from raft_actors.behaviours.resting import beat_interval, partners

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raft_actors.protocol.state import PeerState
    from raft_actors.testing.simulation.node import Node

__all__ = ["NodeRest"]


class NodeRest:
    """Resting, as the transport of a node knows it."""

    _rests_with: tuple[str, ...] = ()
    _rests_in = 0
    _rests_every = 0.0
    _beating = False
    _vouched: dict[tuple[str, int], float]

    @property
    def _resting_node(self) -> Node:
        return cast("Node", self)

    def wake_rested(self) -> None:
        """A new process: it knows of nobody who rests."""
        self._rests_with, self._beating, self._vouched = (), False, {}

    def rest(self, state: PeerState) -> None:
        """Vouch for this peer from now on, or no more."""
        self._rests_with = partners(state) if state.role.resting else ()
        self._rests_in, self._rests_every = state.term, beat_interval(state)
        if self._rests_with and not self._beating:
            self._beating = True
            self._plan_beat()

    def _plan_beat(self) -> None:
        node = self._resting_node
        node.cluster.world.after(self._rests_every, self._beat, node.life)

    def _beat(self, life: int) -> None:
        node = self._resting_node
        if life != node.life or not node.up:
            return
        self._beating = bool(self._rests_with)
        if not self._beating:
            return
        if node.paused_until <= node.cluster.world.now:
            for name in self._rests_with:
                node.cluster.network.vouch(node.name, name, self._rests_in)
        self._plan_beat()

    def take_beat(self, source: str, term: int) -> None:
        """Another node vouches for a peer of it; while this process stands still, its beats wait."""
        node = self._resting_node
        world = node.cluster.world
        if node.up and node.paused_until > world.now:
            world.at(node.paused_until, lambda _: self.take_beat(source, term))
        elif node.up:
            self._vouched[source, term] = node.clock.reading()

    def vouched(self, names: Sequence[str], term: int) -> dict[str, float]:
        """When each of ``names`` was last said to rest with us in ``term``."""
        return {name: self._vouched[name, term] for name in names if (name, term) in self._vouched}
