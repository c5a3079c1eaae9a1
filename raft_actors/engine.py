"""Runs the rules and performs their effects in order, through ports. It owns no rule and no thread.

The peer's actor and the simulator run this same engine, each with its own ports: the order in which effects are
performed is shared code, not a copy.

::

    events, batches of requests -> step() -> effects: before the first Persist at once; a Persist and the sends
                                             behind it as one Job to the log writer (docs/durability.md)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, assert_never

from raft_actors.addresses import shown
from raft_actors.behaviours.deadlines import next_deadline
from raft_actors.behaviours.resting import partners
from raft_actors.behaviours.step import step
from raft_actors.behaviours.transition import is_removed
from raft_actors.errors import (
    ElectionInProgress,
    InvariantViolated,
    NotInConfiguration,
    NotLeader,
    RaftError,
)
from raft_actors.formation_errors import not_configured
from raft_actors.log_writer import Job
from raft_actors.measures import CommitTimes, Histogram
from raft_actors.protocol.effects import (
    Accept,
    Adopt,
    Apply,
    Capture,
    ChangeAnswer,
    ClusterFormed,
    ClusterRefused,
    Compact,
    Discard,
    DropChunks,
    Effect,
    Load,
    LoadChunk,
    Persist,
    ReadyToStop,
    Refusal,
    Reject,
    Restore,
    Send,
    ServeReads,
    SnapshotAnswer,
    SnapshotWork,
    StoreChunk,
    TransferAnswer,
)
from raft_actors.protocol.entry import Entry
from raft_actors.protocol.events import Event, Heard, ReadsRequested, Tick, WritesRequested
from raft_actors.protocol.state import Leader, PeerState
from raft_actors.protocol.types import Moment, Violation
from raft_actors.requests import ReadBatch, Segment, Waiters, WriteBatch

__all__ = ["Engine", "Ports"]


class Ports(Protocol):
    """What an engine needs of the world."""

    def send(self, send: Send) -> None:
        """Hand a message to the transport; never blocks, never raises."""

    def persist(self, job: Job) -> None:
        """Queue a batch for the disk, in order."""

    def load(self, load: Load) -> None:
        """Queue a read of entries."""

    def apply(self, entries: Sequence[Entry], segments: Sequence[Segment]) -> None:
        """Queue committed entries for the machine, in order."""

    def serve(self, batch: ReadBatch) -> None:
        """Queue reads for the machine, after everything applied so far."""

    def capture(self, capture: Capture) -> None:
        """Queue a snapshot for the machine, after everything handed to it so far."""

    def adopt(self, adopt: Adopt) -> None:
        """Queue a loaded state for the machine, after everything handed to it so far."""

    def compact(self, compact: Compact) -> None:
        """Queue a durable snapshot for the store to record, and to drop what it covers."""

    def keep(self, work: SnapshotWork) -> None:
        """Queue work on the files of snapshots."""

    def saved(self, answer: SnapshotAnswer) -> None:
        """A request for a snapshot is answered."""

    def rest(self, state: PeerState) -> None:
        """This peer rests with its partners from now on, or no more (``behaviours.resting``)."""

    def vouched(self, names: Sequence[str], term: int) -> dict[str, float]:
        """When each of these peers was last said to rest with us in ``term``, on the monotonic clock."""

    def noticed(self, before: PeerState, after: PeerState) -> None:
        """Role, term, vote, leader or configuration changed."""

    def formed(self, effect: ClusterFormed | ClusterRefused) -> None:
        """A request to form a cluster was answered."""

    def changed(self, answer: ChangeAnswer) -> None:
        """A request for other members was answered."""

    def transferred(self, answer: TransferAnswer) -> None:
        """A request for another leader was answered."""

    def discarded(self, effect: Discard) -> None:
        """A message was refused."""

    def ready_to_stop(self) -> None:
        """A graceful stop has nothing more to wait for."""


class Engine:
    """One peer's rules at work.

    Args:
        state: the recovered peer.
        ports: the world.
        release: told how many requests of a batch are finished.
        commits: where it says how long each batch takes to be committed; ``None``: nobody looks.

    Attributes:
        state: the peer now.
        waiters: who waits for entries in the log.
    """

    def __init__(
        self,
        state: PeerState,
        ports: Ports,
        release: Callable[[WriteBatch | ReadBatch, int], None],
        commits: Histogram | None = None,
    ) -> None:
        self.state = state
        self.waiters = Waiters(release)
        self._times = CommitTimes(commits or Histogram())
        self._ports = ports
        self._release = release

    def run(self, event: Event, moment: Moment) -> None:
        """Take one step and perform what it wants.

        Raises:
            InvariantViolated: the peer must stop.
        """
        before = self.state
        try:
            after, effects = step(before, event, moment)
        except Violation as error:
            raise InvariantViolated(f"peer {before.name!r}: {error}") from error
        self.state = after
        if after.role.resting is not before.role.resting:
            self._ports.rest(after)
        if effects:
            self._perform(effects)
        if self._times.open:
            self._times.committed(after.commit_index, moment.now)
        if _worth_a_notice(before, after):
            if not isinstance(after.role, Leader) and is_removed(after):
                self.waiters.forsaken()
                self._times.forget()
            self._ports.noticed(before, after)

    def listen(self, moment: Moment) -> None:
        """First in a turn: a peer that rests learns who was vouched for meanwhile."""
        state = self.state
        if state.role.resting:
            at = self._ports.vouched(partners(state), state.term)
            if at:
                self.run(Heard(at), moment)

    def write(self, batch: WriteBatch, moment: Moment) -> None:
        """Commands arrived together."""
        event = WritesRequested(self.waiters.admit(batch), tuple(batch.commands), frozenset(batch.sessions))
        end = self.state.log.last.index
        self.run(event, moment)
        if self.state.log.last.index > end:
            self._times.appended(self.state.log.last.index, moment.now)

    def read(self, batch: ReadBatch, moment: Moment) -> None:
        """Reads arrived together."""
        self.run(ReadsRequested(self.waiters.admit(batch), batch.lease), moment)

    def tick(self, moment: Moment) -> float:
        """Handle deadlines that have passed; to be called after everything that had arrived was handled.

        Returns:
            When to call it next, on the monotonic clock.
        """
        deadline = next_deadline(self.state)
        if moment.now < deadline:
            return deadline
        self.run(Tick(), moment)
        return next_deadline(self.state)

    @property
    def deadline(self) -> float:
        """When to call ``tick`` next."""
        return next_deadline(self.state)

    def _perform(self, effects: tuple[Effect, ...]) -> None:
        """Perform ``effects`` in order; sends behind a ``Persist`` become part of its job."""
        ports = self._ports
        persist: Persist | None = None
        sends: list[Send] = []
        for effect in effects:
            if type(effect) is Send:
                if persist is None:
                    ports.send(effect)
                else:
                    sends.append(effect)
            elif type(effect) is Persist:
                if persist is not None:
                    ports.persist(Job(persist, tuple(sends)))
                    sends = []
                if effect.truncate_from is not None:
                    self.waiters.truncated(effect.truncate_from)
                    self._times.truncated(effect.truncate_from)
                if effect.snapshot is not None:
                    self.waiters.truncated(max(self.state.log.last.index, effect.snapshot.last.index) + 1)
                    self.waiters.covered(effect.snapshot.last.index)
                    self._times.forget()
                persist = effect
            else:
                self._perform_local(effect)
        if persist is not None:
            ports.persist(Job(persist, tuple(sends)))

    def _perform_local(self, effect: Effect) -> None:
        match effect:
            case Apply():
                self._ports.apply(effect.entries, self.waiters.committed(effect.entries))
            case Accept():
                self.waiters.accepted(effect.token, effect.first, effect.term)
            case Reject():
                self._reject(effect)
            case ServeReads():
                batch = self.waiters.take(effect.token)
                if isinstance(batch, ReadBatch):
                    self._ports.serve(batch)
            case Load():
                self._ports.load(effect)
            case LoadChunk() | StoreChunk() | DropChunks() | Restore():
                self._ports.keep(effect)
            case Capture() | Adopt() | Compact() | SnapshotAnswer():
                self._perform_snapshot(effect)
            case ClusterFormed() | ClusterRefused():
                self._ports.formed(effect)
            case ChangeAnswer():
                self._ports.changed(effect)
            case TransferAnswer():
                self._ports.transferred(effect)
            case Discard():
                self._ports.discarded(effect)
            case ReadyToStop():
                self._ports.ready_to_stop()
            case Send() | Persist():
                raise InvariantViolated(f"{type(effect).__name__} out of order")
            case _:
                assert_never(effect)

    def _perform_snapshot(self, effect: Capture | Adopt | Compact | SnapshotAnswer) -> None:
        match effect:
            case Capture():
                self._ports.capture(effect)
            case Adopt():
                self._ports.adopt(effect)
            case Compact():
                self._ports.compact(effect)
            case SnapshotAnswer():
                self._ports.saved(effect)
            case _:
                assert_never(effect)

    def _reject(self, effect: Reject) -> None:
        batch = self.waiters.take(effect.token)
        batch.fail(refused(self.state, effect))
        self._release(batch, len(batch.futures))


def _worth_a_notice(before: PeerState, after: PeerState) -> bool:
    return (
        type(after.role) is not type(before.role)
        or after.leader != before.leader
        or after.ballot is not before.ballot
        or after.configurations is not before.configurations
        or after.snapshot is not before.snapshot
        or after.joining is not before.joining
        or after.removed != before.removed
        or (after.commit_index > before.commit_index and _commits_configuration(before, after))
    )


def _commits_configuration(before: PeerState, after: PeerState) -> bool:
    return before.commit_index < after.configuration_index <= after.commit_index


def refused(state: PeerState, effect: Reject) -> RaftError:
    """The error for a request that was turned away."""
    name = state.name
    match effect.refusal:
        case Refusal.NOT_LEADER:
            leader = shown(state, effect.leader or "")
            return NotLeader(leader, f"peer {name!r} is not the leader, {leader!r} is")
        case Refusal.NOT_CONFIGURED:
            return not_configured(state)
        case Refusal.REMOVED:
            return NotInConfiguration(f"peer {name!r} is a member of its cluster no more")
        case _:
            return ElectionInProgress(f"peer {name!r} knows no leader at the moment")
