"""What the engine of a simulated peer sees of the world; between any two of these calls its process may die."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from raft_actors.log_writer import Job
from raft_actors.machine_actor import ApplyBatch, RoleNotice
from raft_actors.protocol.effects import ClusterFormed, ClusterRefused, Compact, Discard, Load, Send
from raft_actors.protocol.state import Leader, PeerState

if TYPE_CHECKING:
    from raft_actors.protocol.entry import Entry
    from raft_actors.requests import ReadBatch, Segment
    from raft_actors.testing.simulation.cluster import Cluster
    from raft_actors.testing.simulation.node import Node

__all__ = ["Died", "NodePorts"]


class Died(BaseException):
    """The process ended here."""


class NodePorts:
    """The ports of a node.

    Attributes:
        fuse: how many more ports are passed before the process dies, 0 if it does not.
    """

    cluster: Cluster
    name: str
    fuse: int
    _disk_queue: deque[Job | Load | Compact]
    _machine_queue: deque[Any]
    _ending: bool

    @property
    def _node(self) -> Node:
        return cast("Node", self)

    def _boundary(self) -> None:
        """Between two effects a process may die."""
        if self.fuse:
            self.fuse -= 1
            if not self.fuse:
                raise Died

    def send(self, send: Send) -> None:
        """Hand a message to the network."""
        if self.fuse:
            self._boundary()
        self.cluster.invariants.leaves(self._node, send.to, send.message)
        self.cluster.network.send(self.name, send)

    _send_synced = send

    def persist(self, job: Job) -> None:
        """Queue a batch for the disk."""
        if self.fuse:
            self._boundary()
        self._disk_queue.append(job)

    def load(self, load: Load) -> None:
        """Queue a read of entries."""
        if self.fuse:
            self._boundary()
        self._disk_queue.append(load)

    def apply(self, entries: Sequence[Entry], segments: Sequence[Segment]) -> None:
        """Queue committed entries for the machine."""
        if self.fuse:
            self._boundary()
        self.cluster.invariants.handed(self._node, entries)
        self._machine_queue.append(ApplyBatch(entries, segments))

    def serve(self, batch: ReadBatch) -> None:
        """Queue reads for the machine."""
        if self.fuse:
            self._boundary()
        self._machine_queue.append(batch)

    def noticed(self, before: PeerState, after: PeerState) -> None:
        """Tell the machine whether it leads."""
        leads, led = isinstance(after.role, Leader), isinstance(before.role, Leader)
        if leads != led:
            self._machine_queue.append(RoleNotice(leads, after.term))
            if leads:
                self.cluster.clients.somebody_leads(self._node)

    def formed(self, effect: ClusterFormed | ClusterRefused) -> None:
        """A request to form a cluster was answered."""
        self.cluster.world.note(self.name, "forms", effect)
        if effect.token:
            self.cluster.formation_answered(self._node, effect)

    def discarded(self, effect: Discard) -> None:
        """A message was refused."""
        self.cluster.world.note(self.name, "discards", effect.sender, effect.reason)

    def ready_to_stop(self) -> None:
        """A graceful stop has nothing more to wait for."""
        self._ending = True
