"""The snapshots of a simulated peer: the real keeper on simulated files, one thing after the other, in its own time."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from raft_actors.errors import RaftError
from raft_actors.machine_actor import AdoptState
from raft_actors.protocol.effects import Adopt, Capture, Compact, SnapshotAnswer, SnapshotWork
from raft_actors.protocol.events import SnapshotRequested
from raft_actors.snapshot_keeper import Keeper, Saving
from raft_actors.snapshot_store import DamagedSnapshot
from raft_actors.state_sharing import let_go
from raft_actors.testing.simulation.ports import Died
from raft_actors.testing.simulation.watched import Watched
from raft_actors.testing.simulation.world import Violated

if TYPE_CHECKING:
    from raft_actors.engine import Engine
    from raft_actors.log_store import LogStore
    from raft_actors.log_writer import Job
    from raft_actors.machine_actor import Replica
    from raft_actors.protocol.effects import Load
    from raft_actors.protocol.sessions import SessionTable
    from raft_actors.protocol.snapshot import Snapshot
    from raft_actors.testing.simulation.cluster import Cluster
    from raft_actors.testing.simulation.node import Node

__all__ = ["NodeSnapshots"]


class NodeSnapshots:
    """What a node does with snapshots.

    Attributes:
        asked: tokens of the requests for snapshots that are not answered.
    """

    cluster: Cluster
    name: str
    engine: Engine
    replica: Replica
    keeper: Keeper
    store: LogStore
    asked: set[int]
    life: int
    up: bool
    paused_until: float
    _disk_queue: deque[Job | Load | Compact]
    _machine_queue: deque[Any]
    _keeper_queue: deque[Saving | SnapshotWork]
    _keeping: bool

    @property
    def _this(self) -> Node:
        return cast("Node", self)

    def _begin_keeping(self, store: LogStore) -> None:
        self._keeper_queue = deque()
        self._keeping = False
        self.asked = set()
        self.store = store
        self.keeper = Keeper(self.name, store, self.replica, self.cluster.codec.name, self._this._report)

    # -- ports ---------------------------------------------------------------------------------------------------------

    def capture(self, capture: Capture) -> None:
        """Queue a snapshot for the machine."""
        self._this._boundary()
        self._machine_queue.append(lambda: self._take_image(capture))

    def _take_image(self, capture: Capture) -> None:
        index = capture.last.index
        self.cluster.judge.saved(self.name, index, self._digest(self.replica.state), "has it when it is saved")
        saving = self.keeper.capture(capture)
        self._this._boundary()
        if saving is not None:
            self.keep(saving)

    def adopt(self, adopt: Adopt) -> None:
        """Queue a loaded state for the machine."""
        self._this._boundary()
        snapshot = adopt.snapshot
        self.cluster.invariants.adopted(self._this, snapshot)
        self._machine_queue.append(AdoptState(lambda: self._taken(snapshot), snapshot.last.index, let_go))

    def _taken(self, snapshot: Snapshot) -> tuple[Any, SessionTable[Any]]:
        loaded = self.keeper.take(snapshot)
        self.cluster.judge.saved(self.name, snapshot.last.index, self._digest(loaded[0]), "loads it from a snapshot")
        return loaded

    def compact(self, compact: Compact) -> None:
        """Queue a durable snapshot for the store to record."""
        self._this._boundary()
        self._disk_queue.append(compact)

    def keep(self, work: Saving | SnapshotWork) -> None:
        """Queue work on the files of snapshots."""
        self._this._boundary()
        self._keeper_queue.append(work)
        if not self._keeping:
            self._work_on_files()

    def saved(self, answer: SnapshotAnswer) -> None:
        """A request for a snapshot is answered."""
        if answer.token not in self.asked:
            raise Violated("exactly one answer", f"{self.name} answers the request {answer.token} for a snapshot twice")
        self.asked.remove(answer.token)
        state = self.engine.state
        if answer.index is not None and answer.index != state.snapshot_index:
            raise Violated(
                "exactly one answer", f"{self.name} answers with a snapshot of {answer.index}, which it does not have"
            )

    # -- work ----------------------------------------------------------------------------------------------------------

    def ask_for_snapshot(self, token: int) -> None:
        """A caller wants one."""
        self.asked.add(token)
        self._this.post(SnapshotRequested(token))

    def check_newest(self) -> None:
        """The snapshot on our disk is the state of its index, unless somebody damaged it."""
        snapshot = self._this.disk.snapshot
        if snapshot is None or self._this.disk.files.damaged:
            return
        try:
            with self.store.snapshots.open(snapshot.id) as reader:
                state = self.replica.load(reader)
                reader.finish()
        except (DamagedSnapshot, OSError) as error:
            raise Violated("snapshots load", f"{self.name} cannot load {snapshot.id}: {error}") from error
        self.cluster.judge.saved(self.name, snapshot.last.index, self._digest(state), "has it in a snapshot in the end")

    def loaded(self, snapshot: Snapshot) -> None:
        """The state with which this process began is that of ``snapshot``."""
        self._this.handed = snapshot.last.index
        self.cluster.judge.saved(
            self.name, snapshot.last.index, self._digest(self.replica.state), "starts with it from a snapshot"
        )

    def _digest(self, state: Any) -> Any:
        machine = self.replica.machine
        return machine.digest_of(state) if isinstance(machine, Watched) else None

    def die_over_files(self) -> None:
        """What is under way when the process dies is done in part."""
        rng = self.cluster.world.rng
        if self._keeping and self._keeper_queue and rng.random() < 0.5:
            self._this.fuse = rng.randrange(1, 12)
            with contextlib.suppress(Died, RaftError, OSError):
                self.keeper.perform(self._keeper_queue[0])

    def _work_on_files(self) -> None:
        self._keeping = True
        self.cluster.world.after(self.cluster.faults.sync_time(self._this), self._worked_on_files, self.life)

    def _worked_on_files(self, life: int) -> None:
        if life != self.life or not self.up:
            return
        if self.paused_until > self.cluster.world.now:
            self.cluster.world.at(self.paused_until, self._worked_on_files, life)
            return
        item = self._keeper_queue.popleft()
        self._this._guarded(lambda: self.keeper.perform(item))
        if life == self.life:
            self._keeping = False
            if self._keeper_queue:
                self._work_on_files()
            self._this._look_if_stirred()
