r"""One simulated peer: the real engine, writer, replica and mailbox, with virtual time between them.

::

    network, callers --> Mailbox --turn--> Engine --Job--> disk queue --sync--> Writer --Persisted--> Mailbox
                                              \--committed entries--> machine queue --> Replica --Applied--> Mailbox

A turn does what the peer's actor does when it wakes: it takes everything queued, reads its clock, runs the events in
their order, then writes, reads, stops and deadlines. A process dies between any two effects: every port counts down
``fuse``, and the one that finds it burnt raises ``Died``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from raft_actors.behaviours.attention import ANSWERS, APPLIED, SYNCED, concerns
from raft_actors.behaviours.recovery import recover
from raft_actors.errors import CorruptLog, Incompatible, InvariantViolated, OutcomeUnknown, RaftError, UnknownPeer
from raft_actors.intake import Mailbox
from raft_actors.log_store import LogStore
from raft_actors.log_writer import Job, Writer
from raft_actors.machine_actor import Replica
from raft_actors.protocol.effects import Compact, Load
from raft_actors.protocol.events import Applied, Event, PeerDown, Persisted, Received, StopRequested
from raft_actors.protocol.messages import AppendEntriesReply
from raft_actors.protocol.state import Bootstrap, PeerState
from raft_actors.protocol.types import Settings
from raft_actors.snapshot_loading import load_newest
from raft_actors.testing.simulation.clock import Clock
from raft_actors.testing.simulation.disk import Disk, SimulatedAdapter
from raft_actors.testing.simulation.files import SimulatedFolder
from raft_actors.testing.simulation.handovers import NodeHandovers
from raft_actors.testing.simulation.membership import NodeMembers, joining
from raft_actors.testing.simulation.node_rest import NodeRest
from raft_actors.testing.simulation.node_sleep import NodeSleep
from raft_actors.testing.simulation.node_snapshots import NodeSnapshots
from raft_actors.testing.simulation.node_work import NodeWork
from raft_actors.testing.simulation.ports import Died, NodePorts
from raft_actors.testing.simulation.watched import Watched
from raft_actors.testing.simulation.watched_engine import SimulatedMachine, WatchedEngine
from raft_actors.testing.simulation.world import Violated

if TYPE_CHECKING:
    from raft_actors.protocol.entry import Entry
    from raft_actors.protocol.snapshot import Snapshot
    from raft_actors.testing.simulation.cluster import Cluster

__all__ = ["Died", "Node"]

NEVER, SOON = float("inf"), 1e-6
EVERYTHING = ANSWERS | APPLIED | SYNCED


class Node(NodePorts, NodeWork, NodeSnapshots, NodeSleep, NodeHandovers, NodeMembers, NodeRest):
    """One peer.

    Args:
        cluster: everything around it.
        name: its name.
        settings: its settings.

    Attributes:
        up: whether its process runs.
        life: how many processes it has had; what an earlier one planned is not done any more.
        retired: it lost what it had promised and stays away.
        disk: its medium.
        mirror: its log, as given to the disk.
        handed: index of the newest entry its machine was given.
        fuse: how many more ports are passed before it dies, 0 if it does not.
        paused_until: it stands still until then.
    """

    def __init__(self, cluster: Cluster, name: str, settings: Settings) -> None:
        self.cluster = cluster
        self.name = name
        self.settings = settings
        self.clock = Clock(cluster.world)
        self.up = False
        self.life = 0
        self.wiped = 0
        self.retired = False
        self.fuse = 0
        self.paused_until = 0.0
        self.mirror: list[Entry] = []
        self.handed = 0
        self.disk = self.new_disk()
        cluster.network.posts[name] = self.post
        cluster.network.beats[name] = self.take_beat

    def new_disk(self) -> Disk:
        """An empty medium with an incarnation of its own."""
        invariants = self.cluster.invariants
        disk = Disk(self.name, f"{self.name}-{self.wiped}".rjust(16, "0"), invariants.written, invariants.recorded)
        self.cluster.invariants.disks[disk.incarnation] = disk
        disk.boundary = self._boundary
        return disk

    # -- start and end -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the disk, recover, and run.

        Raises:
            RaftError: the store cannot be opened.
        """
        disk, cluster = self.disk, self.cluster
        where, folder = f"simulated disk of {self.name}", SimulatedFolder(disk)
        store = LogStore.open(lambda path: SimulatedAdapter(disk), where, name=self.name, files=folder)
        known = cluster.invariants.entries
        self.mirror = [known[index, term][1] for index, term in enumerate(disk.terms, 1)]
        self.handed = 0
        self._goes_on()
        self.life += 1
        self.up = True
        self.fuse = 0
        self._wake_at = NEVER
        self._turning = False
        self._busy_until = 0.0
        self._ending = False
        self._stirred = False
        self._attention = EVERYTHING
        self._disk_queue: deque[Job | Load | Compact] = deque()
        self._syncing: list[Job | Load | Compact] = []
        self._machine_queue: deque[Any] = deque()
        self._working = False
        self.wake_rested()
        self.mailbox = Mailbox(self.name, cluster.config, cluster.codec)
        self.mailbox.refusal = lambda: UnknownPeer(self.name)
        self.replica = Replica(Watched(cluster.judge, self.name), self.name, cluster.codec)
        self.machine = SimulatedMachine(self, self.replica)
        self._begin_keeping(store)
        self.wishes, self.wanted = {}, {}
        snapshot = load_newest(store, self.replica, self.name)
        if snapshot is not None:
            self.loaded(snapshot)
        state = self._recovered(store, snapshot)
        self.engine: WatchedEngine = WatchedEngine(state, self, self.mailbox.release)
        self.engine.node = self
        self.writer = Writer(store, state.ballot, state.log.last, self._send_synced, self._report)
        cluster.world.note(self.name, "starts", state.ballot, state.log.last)
        self._plan_wake()

    def _recovered(self, store: LogStore, snapshot: Snapshot | None) -> PeerState:
        recovered = store.recovered
        state = recover(
            name=self.name,
            incarnation=store.identity.incarnation,
            settings=self.settings,
            cluster=recovered.cluster,
            ballot=recovered.ballot,
            log=recovered.log,
            configurations=recovered.configurations,
            time=recovered.time,
            moment=self.clock.moment(),
            snapshot=snapshot,
            joining=joining(self),
            bootstrap=Bootstrap(self.cluster.founders) if self._looks_for_others() else None,
        )
        return replace(state, rests=self.cluster.plan.rests)

    def _looks_for_others(self) -> bool:
        """Not if its disk was lost: if those of all were, they would form another cluster, as they are told."""
        return self.cluster.plan.bootstrap and self.name in self.cluster.founders and not self.wiped

    def crash(self) -> None:
        """Die now: what a disk has under way is on it in part, or not at all."""
        rng = self.cluster.world.rng
        if self._syncing and rng.random() < 0.5:
            self.fuse = rng.randrange(1, 3 * len(self._syncing) + 2)
            try:
                self.writer.perform(self._syncing)
            except Died:
                pass
            except (RaftError, OSError) as error:
                self.cluster.world.note(self.name, "fails while it dies", str(error))
        self.die_over_files()
        self.died()

    def died(self) -> None:
        """The process is gone: callers hear so, and the others perhaps."""
        self.cluster.world.note(self.name, "dies")
        if self.cluster.world.rng.random() < 0.5:
            self.disk.files.power_cut(self.cluster.world.rng)
        self._end(OutcomeUnknown(f"peer {self.name!r} crashed"))

    def _end(self, late: RaftError) -> None:
        self.up = False
        self.fuse = 0
        self.life += 1
        self.cluster.invariants.lost(self)
        unknown = OutcomeUnknown(f"peer {self.name!r} stopped before the outcome was known")
        self.mailbox.turn_away(late)
        self.engine.waiters.close(unapplied=late, unknown=unknown)
        self.cluster.abandoned(self.name, unknown)
        if self.cluster.plan.monitors:
            for other in self.cluster.nodes.values():
                if other is not self:
                    self.cluster.network.tell(self.name, other.name, PeerDown(self.name))

    def finish(self) -> None:
        """A graceful end: what the machine and the disk were given, they do."""
        self.cluster.world.note(self.name, "stops")
        for item in self._machine_queue:
            self.machine.work(item)
        self.writer.perform([*self._syncing, *self._disk_queue])
        self.keeper.give_up()
        self._end(UnknownPeer(self.name, f"peer {self.name!r} has stopped"))

    def failed(self, error: BaseException) -> None:
        """The peer stops itself; the supervisor starts it again unless it is damaged."""
        if isinstance(error, InvariantViolated | Incompatible) or not isinstance(error, RaftError | OSError):
            raise Violated("no peer fails", f"{self.name}: {type(error).__name__}: {error}") from error
        self.cluster.world.note(self.name, "fails", str(error))
        unknown = OutcomeUnknown(f"peer {self.name!r} failed")
        unknown.__cause__ = error
        self._end(unknown)
        self.cluster.faults.after_failure(self, damaged=isinstance(error, CorruptLog))

    # -- turns ---------------------------------------------------------------------------------------------------------

    def post(self, item: object) -> None:
        """Something arrives."""
        if not self.up:
            return
        self.mailbox.post(item)
        if type(item) is not Received or type(item.message) is not AppendEntriesReply or self._attention & ANSWERS:
            self.look()

    def _report(self, event: Event) -> None:
        """The writer tells something; a sync wakes the peer only if that could change anything now."""
        self.mailbox.post(event)
        if type(event) is not Persisted or self._attention & SYNCED:
            self._stirred = True

    def applied(self, index: int) -> None:
        """The machine reports back."""
        self._boundary()
        self.mailbox.post(Applied(index))
        if self._attention & APPLIED:
            self._stirred = True

    def look(self) -> None:
        """Take a turn now, or as soon as this peer can."""
        if self._turning:
            return
        world = self.cluster.world
        free = max(self._busy_until, self.paused_until)
        if free > world.now:
            self._turning = True
            world.at(free, self._late_turn, self.life)
        else:
            self.turn()

    def _look_if_stirred(self) -> None:
        if self._stirred:
            self._stirred = False
            self.look()

    def _late_turn(self, life: int) -> None:
        if life == self.life and self.up:
            self._turning = False
            self.look()

    def turn(self) -> None:
        """Handle everything queued, then the deadlines that have passed."""
        self._guarded(self._turn)
        if not self.up:
            return
        if self._ending:
            self._guarded(self.finish)
            self.cluster.faults.after_stop(self)
            return
        busy = self.cluster.plan.busy
        if busy:
            world = self.cluster.world
            self._busy_until = world.now + busy * world.rng.random()
        self._attention = EVERYTHING if self.cluster.plan.attentive else concerns(self.engine.state)
        self._plan_wake()
        if self._disk_queue and not self._syncing:
            self._sync()
        if self._machine_queue and not self._working:
            self._work()

    def _turn(self) -> None:
        drained = self.mailbox.drain()
        moment = self._awake()
        engine = self.engine
        engine.listen(moment)
        stops = []
        for item in drained.items:
            if type(item) is StopRequested:
                stops.append(item)
            else:
                engine.run(item, moment)
        writes = None if self._ending else self.mailbox.take_writes()
        if writes is not None:
            engine.write(writes, moment)
        if drained.reads is not None:
            engine.read(drained.reads, moment)
        if drained.lease_reads is not None:
            engine.read(drained.lease_reads, moment)
        for stop in stops:  # after the requests that were there before it
            engine.run(stop, moment)
        engine.tick(moment)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Died:
            self.died()
            self.cluster.faults.after_crash(self)
        except Exception as error:  # noqa: BLE001 - fail-stop, as the peer's actor
            self.failed(error)

    def _plan_wake(self) -> None:
        deadline = self.engine.deadline
        if deadline == NEVER:
            return
        world = self.cluster.world
        time = max(self.clock.when(deadline), world.now + SOON)
        if time < self._wake_at:
            self._wake_at = time
            world.at(time, self._wake, (self.life, time))

    def _wake(self, planned: tuple[int, float]) -> None:
        if planned != (self.life, self._wake_at) or not self.up:
            return
        self._wake_at = NEVER
        if self.clock.moment().now >= self.engine.deadline:
            self.look()
        else:
            self._plan_wake()

    def clock_changed(self) -> None:
        """The clock runs differently: deadlines come at other times."""
        self._wake_at = NEVER
        self._plan_wake()

    def recover_from_pause(self) -> None:
        """Go on now, whatever was planned."""
        self.paused_until = 0.0
        self._turning = False
        if self.up:
            self.clock_changed()
            self.look()

    def standing(self) -> str:
        """Where this peer stands, in a few words."""
        if not self.up:
            return f"{self.name} is {'retired' if self.retired else 'down'}"
        state = self.engine.state
        last = f"{state.log.last.term}/{state.log.last.index}"
        return (
            f"{self.name} {type(state.role).__name__} term {state.term} leader {state.leader} last {last} "
            f"durable {state.log.durable} commit {state.commit_index} applied {self.replica.applied}"
        )

    def digest(self) -> object:
        """What stands for the state of its machine."""
        machine = self.replica.machine
        return machine.digest_of(self.replica.state) if isinstance(machine, Watched) else None
