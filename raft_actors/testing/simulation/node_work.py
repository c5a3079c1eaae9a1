"""The disk and the machine of a node: each takes what is queued, and is done with it after a while."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raft_actors.log_writer import Job, Writer
from raft_actors.protocol.effects import Compact, Load

if TYPE_CHECKING:
    from raft_actors.testing.simulation.cluster import Cluster
    from raft_actors.testing.simulation.node import Node
    from raft_actors.testing.simulation.watched_engine import SimulatedMachine

__all__ = ["NodeWork"]


class NodeWork:
    """What a node's disk and machine do."""

    cluster: Cluster
    up: bool
    life: int
    paused_until: float
    machine: SimulatedMachine
    writer: Writer
    _disk_queue: deque[Job | Load | Compact]
    _syncing: list[Job | Load | Compact]
    _machine_queue: deque[Any]
    _working: bool

    if TYPE_CHECKING:

        @property
        def _node(self) -> Node: ...
        def _guarded(self, work: Callable[[], None]) -> None: ...
        def _look_if_stirred(self) -> None: ...

    def _sync(self) -> None:
        """The disk takes what is queued."""
        world, plan, queue = self.cluster.world, self.cluster.plan, self._disk_queue
        count = 1 if plan.one_job and world.rng.random() < 0.8 else len(queue)
        self._syncing = [queue.popleft() for _ in range(count)]
        world.after(self.cluster.faults.sync_time(self._node), self._synced, self.life)

    def _synced(self, life: int) -> None:
        if life != self.life or not self.up:
            return
        if self.paused_until > self.cluster.world.now:
            self.cluster.world.at(self.paused_until, self._synced, life)
            return
        work, self._syncing = self._syncing, []
        self._guarded(lambda: self._perform(work))
        if self.up:
            if self._disk_queue:
                self._sync()
            self._look_if_stirred()

    def _perform(self, work: list[Any]) -> None:
        self.writer.perform(work)
        if self.writer.untrimmed and (work[0] is not work[-1] or self.cluster.world.rng.random() < 0.5):
            self.writer.trim()

    def _work(self) -> None:
        """The machine takes what is queued."""
        world = self.cluster.world
        self._working = True
        world.after(self.cluster.faults.machine_time() * world.rng.random(), self._worked, self.life)

    def _worked(self, life: int) -> None:
        if life != self.life or not self.up:
            return
        if self.paused_until > self.cluster.world.now:
            self.cluster.world.at(self.paused_until, self._worked, life)
            return
        self._working = False
        self._guarded(self._work_off)
        if self.up:
            self._look_if_stirred()

    def _work_off(self) -> None:
        work, self._machine_queue = self._machine_queue, deque()
        for item in work:
            self.machine.work(item)
