"""What the engine of a peer does to the world: each effect goes to the actor that performs it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from raft_actors.addresses import shown
from raft_actors.behaviours.attention import APPLIED, SYNCED
from raft_actors.behaviours.resting import beat_interval, partners
from raft_actors.change_errors import change_error
from raft_actors.errors import CommandFailed, OutcomeUnknown, RaftError, StorageFailed
from raft_actors.formation_errors import formation_error
from raft_actors.machine_actor import AdoptState, ApplyBatch, RoleNotice, StaleRead
from raft_actors.orders import Ended, StopNow
from raft_actors.protocol.configuration import Member
from raft_actors.protocol.effects import (
    Adopt,
    Capture,
    ChangeAnswer,
    ClusterFormed,
    ClusterRefused,
    Compact,
    Discard,
    Load,
    Send,
    SnapshotAnswer,
    SnapshotWork,
    TransferAnswer,
)
from raft_actors.protocol.entry import Entry
from raft_actors.protocol.events import Applied, Event, Persisted
from raft_actors.protocol.state import Leader, PeerState
from raft_actors.requests import ReadBatch, Segment
from raft_actors.transfer_errors import transfer_error
from raft_actors.values import committed_of, configuration_of

if TYPE_CHECKING:
    from raft_actors.callers import Callers
    from raft_actors.engine import Engine
    from raft_actors.intake import Mailbox
    from raft_actors.log_writer import Job
    from raft_actors.machine_actor import MachineActor
    from raft_actors.measures import Measures
    from raft_actors.snapshot_keeper import SnapshotKeeper
    from raft_actors.transport.port import Transport, Vouching

__all__ = ["Owner", "PeerPorts"]


class Owner(Protocol):
    """Who looks after a peer: the supervisor's handle.

    Attributes:
        state: the newest published state.
        measures: what is measured of the peer.
    """

    state: PeerState | None
    measures: Measures

    def noticed(self, before: PeerState, after: PeerState) -> None:
        """Role, term, vote, leader or configuration changed."""

    def discarded(self, effect: Discard) -> None:
        """A message was refused."""

    def tell(self, places: Iterable[tuple[str, str]]) -> None:
        """A caller has said where other peers are."""

    def ending(self, ended: Ended) -> None:
        """The peer has begun to end: turn callers away."""

    def ended(self, ended: Ended) -> None:
        """The peer has ended: its threads are done or abandoned, its store is closed."""


class PeerPorts:
    """The ports of a ``Peer``."""

    name: str
    owner: Owner
    transport: Transport
    _vouching: Vouching | None
    mailbox: Mailbox
    engine: Engine
    machine: MachineActor
    keeper: SnapshotKeeper
    _outbox: list[Send]
    _for_disk: list[Job | Load | Compact]
    _for_machine: list[Any]
    _for_keeper: list[Any]
    _callers: Callers
    _ending: StopNow | None

    def send(self, send: Send) -> None:
        """Hand a message to the transport."""
        self._outbox.append(send)

    def _send_now(self, send: Send) -> None:
        """The same for the log writer, in its thread: what it sends has waited long enough."""
        self.transport.send(self.name, send.to, send.message)

    def persist(self, job: Job) -> None:
        """Queue a batch for the disk."""
        self._for_disk.append(job)

    def load(self, load: Load) -> None:
        """Queue a read of entries."""
        self._for_disk.append(load)

    def apply(self, entries: Sequence[Entry], segments: Sequence[Segment]) -> None:
        """Queue committed entries for the machine."""
        self._for_machine.append(ApplyBatch(entries, segments))

    def serve(self, batch: ReadBatch) -> None:
        """Queue reads for the machine."""
        self._for_machine.append(batch)

    def capture(self, capture: Capture) -> None:
        """Queue a snapshot for the machine; its image goes to the keeper from there."""
        self._for_machine.append(lambda: self._hand_image(capture))

    def _hand_image(self, capture: Capture) -> None:
        """In the machine's thread."""
        saving = self.keeper.keeper.capture(capture)
        if saving is not None:
            self.keeper.hand(saving)

    def adopt(self, adopt: Adopt) -> None:
        """Queue a loaded state for the machine."""
        snapshot = adopt.snapshot
        keeper = self.keeper
        adopted = AdoptState(lambda: keeper.keeper.take(snapshot), snapshot.last.index, keeper.hand)
        self._for_machine.append(adopted)

    def compact(self, compact: Compact) -> None:
        """Queue a durable snapshot for the store to record."""
        self._for_disk.append(compact)

    def keep(self, work: SnapshotWork) -> None:
        """Queue work on the files of snapshots."""
        self._for_keeper.append(work)

    def saved(self, answer: SnapshotAnswer) -> None:
        """Answer the caller who asked for a snapshot."""
        future = self._callers.take(answer.token)
        if answer.index is not None:
            future.try_set(answer.index)
        else:
            future.try_fail(_why_not_saved(self.name, self.keeper.keeper.failure))

    def rest(self, state: PeerState) -> None:
        """Let the transport vouch for this peer, or no more."""
        if self._vouching is not None:
            others = partners(state) if state.role.resting else ()
            self._vouching.rest(self.name, others, state.term, beat_interval(state))

    def vouched(self, names: Sequence[str], term: int) -> dict[str, float]:
        """When each of ``names`` was last said to rest with this peer."""
        return {} if self._vouching is None else self._vouching.vouched(self.name, names, term)

    def noticed(self, before: PeerState, after: PeerState) -> None:
        """Tell the world what changed, and the machine whether it leads."""
        leads, led = isinstance(after.role, Leader), isinstance(before.role, Leader)
        if leads != led:
            self._for_machine.append(RoleNotice(leads, after.term))
        self.owner.noticed(before, after)

    def formed(self, effect: ClusterFormed | ClusterRefused) -> None:
        """Answer the caller who asked for a cluster, if somebody did: it may form by itself."""
        if not effect.token:
            return
        future = self._callers.take(effect.token)
        if isinstance(effect, ClusterFormed):
            future.try_set(configuration_of(self.engine.state))
        else:
            asked = Member(self.name, self.engine.state.incarnation)
            future.try_fail(formation_error(asked, effect))

    def changed(self, answer: ChangeAnswer) -> None:
        """Answer the caller who asked for other members."""
        future = self._callers.take(answer.token)
        if answer.refusal is None:
            future.try_set(committed_of(self.engine.state))
        else:
            future.try_fail(change_error(self.name, answer, configuration_of(self.engine.state)))

    def transferred(self, answer: TransferAnswer) -> None:
        """Answer the caller who asked for another leader."""
        future = self._callers.take(answer.token)
        if answer.refusal is None:
            future.try_set(shown(self.engine.state, answer.leader or ""))
        else:
            future.try_fail(transfer_error(self.name, answer))

    def discarded(self, effect: Discard) -> None:
        """Count a refused message."""
        self.owner.discarded(effect)

    def ready_to_stop(self) -> None:
        """A graceful stop has nothing more to wait for."""
        self._ending = self._ending or StopNow()

    def _read_stale(self, batch: ReadBatch, min_index: int) -> bool:
        return self.machine.channel.post(StaleRead(batch, min_index))

    def _applied(self, index: int) -> None:
        """The machine applied up to ``index``; called in its thread. News only for a peer that has more for it."""
        self.mailbox.whisper(Applied(index), APPLIED)

    def _report(self, event: Event) -> None:
        """The log writer did something; called in its thread. A follower whose log is applied waits for no sync.

        What the machine was not given because of the disk, it is given now: acknowledgements have left.
        """
        if self._for_machine:
            self.mailbox.lend(event)
        elif type(event) is Persisted:
            self.mailbox.whisper(event, SYNCED)
        else:
            self.mailbox.post(event)

    def _fail(self, error: BaseException) -> None:
        """The machine or the log writer cannot go on; called in their threads."""
        self.mailbox.post(StopNow(error=error))


def _why_not_saved(name: str, error: Exception | None) -> RaftError:
    """The error for a caller whose snapshot could not be taken; the peer goes on."""
    if isinstance(error, OSError):
        failure = StorageFailed(f"peer {name!r} could not write a snapshot: {error}")
        failure.__cause__ = error
        return failure
    if isinstance(error, CommandFailed):
        return error
    if isinstance(error, RaftError) or error is None:
        unknown = OutcomeUnknown(f"peer {name!r} could not take a snapshot: {error}")
        unknown.__cause__ = error
        return unknown
    return CommandFailed.because(error)
