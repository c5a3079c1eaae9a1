"""A cluster of cores on a bench: a clock, a network and disks that move only when they are told to.

::

    run(name, event) -> step() -> a Persist and the sends behind it: a job of that peer's disk, first in, first out
                                  everything else: at once

A disk that is not held syncs as soon as the network is looked at. Links are first in, first out. Every step checks the
safety properties of the paper's Figure 3 over the whole cluster, and that reads are linearizable.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from raft_actors.behaviours.deadlines import next_deadline
from raft_actors.behaviours.recovery import recover
from raft_actors.behaviours.step import step
from raft_actors.protocol import effects as fx
from raft_actors.protocol.entry import Entry
from raft_actors.protocol.events import (
    Applied,
    EntriesLoaded,
    Event,
    PeerDown,
    Persisted,
    ReadsRequested,
    Received,
    SnapshotRecorded,
    Tick,
    TransferRequested,
)
from raft_actors.protocol.messages import Message
from raft_actors.protocol.state import Leader, PeerState
from raft_actors.protocol.types import LogPosition, Moment, Settings
from tests.behaviours.disks import Broken, Disk
from tests.behaviours.files import Files, Made

__all__ = ["Broken", "Cluster", "Job", "Node", "Packet"]

OnStep = Callable[[PeerState, PeerState, tuple[fx.Effect, ...]], None]


class Packet(NamedTuple):
    """A message under way."""

    source: str
    target: str
    message: Message


class Job(NamedTuple):
    """A batch for a disk, and what may leave when it is there."""

    batch: fx.Persist | fx.Compact
    sends: tuple[fx.Send, ...] = ()


class Node:
    """One peer with its disk and its machine."""

    def __init__(self, name: str, dice: float, made: dict[str, Made]) -> None:
        self.name = name
        self.dice = dice
        self.disk = Disk()
        self.held = False
        self.jobs: deque[Job] = deque()
        self.files = Files(name, self.disk, made)
        self.state: PeerState | None = None
        self.asked: set[int] = set()

    @property
    def machine(self) -> list[Entry]:
        """What its machine has applied."""
        return self.files.machine

    @property
    def alive(self) -> PeerState:
        assert self.state is not None, f"{self.name} is down"
        return self.state


class Cluster:
    """Several peers and everything between them.

    Args:
        names: the peers, unconfigured.
        settings: of all of them.
    """

    def __init__(
        self,
        names: tuple[str, ...] = ("s1", "s2", "s3"),
        settings: Settings | None = None,
    ) -> None:
        self.now = 100.0
        self.settings = settings or Settings()
        self.priorities: dict[str, int] = {}
        made: dict[str, Made] = {}
        self.nodes = {name: Node(name, 0.1 + 0.3 * place, made) for place, name in enumerate(names)}
        self.network: deque[Packet] = deque()
        self.cut: set[tuple[str, str]] = set()
        self.answers: dict[int, str] = {}
        self.read_at: dict[int, int] = {}
        self.leaders: dict[int, str] = {}
        self.committed: list[Entry] = []
        self._on_event: Callable[[str, Event], None] = lambda name, event: None
        self._on_step: OnStep = lambda before, after, effects: None
        self._accepted: dict[tuple[int, int], int] = {}
        self._later: deque[tuple[str, Event]] = deque()
        self._answered = 0
        self._must_see: dict[int, int] = {}
        for name in names:
            self.restart(name)

    def watch(self, on_event: Callable[[str, Event], None], on_step: OnStep) -> None:
        """Tell ``on_event`` every event before its step, and ``on_step`` what it changed and wants."""
        self._on_event, self._on_step = on_event, on_step

    # -- steps ---------------------------------------------------------------------------------------------------------

    def state(self, name: str) -> PeerState:
        return self.nodes[name].alive

    def moment(self, name: str) -> Moment:
        return Moment(now=self.now, wall=self.now, jitter=self.nodes[name].dice)

    def run(self, name: str, event: Event) -> None:
        """One step of one peer and what its machine and its store answer to it, each followed by the check."""
        self._step(name, event)
        while self._later:
            name, event = self._later.popleft()
            self._step(name, event)

    def _step(self, name: str, event: Event) -> None:
        node = self.nodes[name]
        before = node.alive
        self._on_event(name, event)
        if isinstance(event, TransferRequested):
            node.asked.add(event.token)
        if isinstance(event, ReadsRequested):
            self._must_see[event.token] = self._answered
        node.state, effects = step(before, event, self.moment(name))
        self._on_step(before, node.state, effects)
        self.perform(node, effects)
        self._check_leader(node.state)

    def perform(self, node: Node, effects: tuple[fx.Effect, ...]) -> None:
        persist: fx.Persist | None = None
        waiting: list[fx.Send] = []
        for effect in effects:
            if isinstance(effect, fx.Persist):
                assert persist is None, "two batches in one step"
                persist = effect
            elif isinstance(effect, fx.Send) and persist is not None:
                waiting.append(effect)
            else:
                self._perform_one(node, effect)
        if persist is not None:
            node.jobs.append(Job(persist, tuple(waiting)))

    def _perform_one(self, node: Node, effect: fx.Effect) -> None:
        match effect:
            case fx.Send():
                self.send(node.name, effect)
            case fx.Apply():
                self._apply(node, effect)
            case fx.Load():
                self._later.append((node.name, EntriesLoaded(effect.reader, effect.first, node.disk.read(effect))))
            case fx.Accept():
                self._accepted[effect.first, effect.term] = effect.token
            case fx.Reject():
                self.answers[effect.token] = effect.refusal.name
            case fx.ServeReads():
                self._serve(node, effect)
            case fx.ClusterFormed():
                self.answers[effect.token] = "formed"
            case fx.ClusterRefused():
                self.answers[effect.token] = f"{effect.refusal.name} by {effect.peer}"
            case fx.ChangeAnswer():
                self.answers[effect.token] = effect.refusal.name if effect.refusal else "changed"
            case fx.TransferAnswer():
                self._answer_transfer(node, effect)
            case fx.Compact():
                node.jobs.append(Job(effect))
            case fx.SnapshotAnswer():
                self.answers[effect.token] = f"snapshot of {effect.index}"
            case fx.Discard() | fx.ReadyToStop() | fx.Persist():
                pass
            case _:
                self._later.extend((node.name, event) for event in node.files.perform(effect))

    def _answer_transfer(self, node: Node, effect: fx.TransferAnswer) -> None:
        if effect.token not in node.asked:
            raise Broken(f"{node.name} answers request {effect.token}, which nobody waits for")
        node.asked.remove(effect.token)
        told = effect.refusal.name if effect.refusal else "done"
        self.answers[effect.token] = f"{told}: {effect.leader} leads"

    def send(self, source: str, send: fx.Send) -> None:
        if (source, send.to) not in self.cut and send.to in self.nodes:
            self.network.append(Packet(source, send.to, send.message))

    def _apply(self, node: Node, effect: fx.Apply) -> None:
        for one in effect.entries:
            if one.index != len(node.machine) + 1:
                raise Broken(f"{node.name} applies {one.index} after {len(node.machine)}")
            if one.index > node.disk.last.index:
                raise Broken(f"{node.name} applies {one.index}, its disk ends at {node.disk.last} (BUG-03)")
            if one.index > len(self.committed):
                self.committed.append(one)
            if self.committed[one.index - 1] != one:
                raise Broken(f"{node.name} applies another entry {one.index} than others did")
            node.machine.append(one)
            token = self._accepted.get((one.index, one.term))
            if token is not None:
                self.answers[token] = f"written at {one.index}"
                self._answered = max(self._answered, one.index)
        self._later.append((node.name, Applied(effect.entries[-1].index)))

    def _serve(self, node: Node, effect: fx.ServeReads) -> None:
        """A read sees everything that was answered before it was asked (linearizability)."""
        seen = len(node.machine)
        if seen < self._must_see[effect.token]:
            raise Broken(f"{node.name} reads at {seen}, {self._must_see[effect.token]} was answered before it asked")
        self.answers[effect.token] = "read"
        self.read_at[effect.token] = seen
        self._answered = max(self._answered, seen)

    def _check_leader(self, state: PeerState) -> None:
        """Election Safety and Leader Completeness (Figure 3)."""
        if not isinstance(state.role, Leader):
            return
        if self.leaders.setdefault(state.term, state.name) != state.name:
            raise Broken(f"{state.name} and {self.leaders[state.term]} lead term {state.term}")
        for one in self.committed[-3:]:
            kept = one.index >= state.log.previous.index  # what was cut off was committed
            if kept and one.term <= state.term and not state.log.has(LogPosition(one.term, one.index)):
                raise Broken(f"leader {state.name} of term {state.term} lacks the committed entry {one.index}")

    # -- network, disks, clock -----------------------------------------------------------------------------------------

    def deliver_next(self, source: str | None = None, target: str | None = None) -> bool:
        """Deliver the oldest message, of one link if it is named. Whether there was one."""
        for place, packet in enumerate(self.network):
            if source in (None, packet.source) and target in (None, packet.target):
                del self.network[place]
                if self.nodes[packet.target].state is not None and packet[:2] not in self.cut:
                    self.run(packet.target, Received(packet.message))
                return True
        return False

    def settle(self) -> None:
        """Deliver and sync until nothing moves; held disks stay as they are."""
        for _ in range(10_000):
            moved = [self.sync(name) for name, node in self.nodes.items() if not node.held]
            if not self.deliver_next() and not any(moved):
                return
        raise Broken("the cluster does not come to rest")

    def sync(self, name: str) -> bool:
        """Complete every job of a disk, in one batch. Whether there was one."""
        node = self.nodes[name]
        if not node.jobs or node.state is None:
            return False
        jobs = list(node.jobs)
        node.jobs.clear()
        self._complete(node, jobs)
        return True

    def sync_one(self, name: str) -> None:
        """Complete the oldest job of a disk only."""
        node = self.nodes[name]
        self._complete(node, [node.jobs.popleft()])

    def _complete(self, node: Node, jobs: list[Job]) -> None:
        for job in jobs:
            node.disk.write(job.batch)
        for job in jobs:
            for send in job.sends:
                self.send(node.name, send)
        for job in jobs:
            if isinstance(job.batch, fx.Compact):
                self.run(node.name, SnapshotRecorded(job.batch.snapshot.id))
        if any(isinstance(job.batch, fx.Persist) for job in jobs):
            self.run(node.name, Persisted(node.disk.ballot, node.disk.last))

    def write_snapshot(self, name: str) -> None:
        """A peer whose snapshots are slow writes what it has captured."""
        for event in list(self.nodes[name].files.write()):
            self.run(name, event)

    def tick(self, name: str) -> None:
        """Let the clock reach this peer's next deadline, and wake it alone."""
        self.now = max(self.now, next_deadline(self.state(name)))
        self.run(name, Tick())

    # -- faults --------------------------------------------------------------------------------------------------------

    def crash(self, name: str) -> None:
        """Lose everything that is not on disk."""
        node = self.nodes[name]
        node.state = None
        node.asked.clear()
        node.jobs.clear()
        node.files.crash()

    def restart(self, name: str) -> None:
        node = self.nodes[name]
        node.files.recover()
        node.state = recover(
            name=name,
            incarnation=f"{name}'s store",
            settings=replace(self.settings, priority=self.priorities.get(name, 0)),
            cluster=node.disk.cluster,
            ballot=node.disk.ballot,
            log=node.disk.log(),
            configurations=node.disk.configurations(),
            time=node.disk.time(),
            snapshot=node.disk.snapshot,
            moment=self.moment(name),
        )

    def down(self, name: str) -> None:
        """Tell every other living peer that ``name`` died."""
        for other, node in self.nodes.items():
            if other != name and node.state is not None:
                self.run(other, PeerDown(name))
