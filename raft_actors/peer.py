"""The peer's actor: messages in, ``step()``, effects performed in order. It owns no rule.

One peer is three actors: this one (consensus), its machine (user code) and its log writer (the store). So heartbeats,
refusals, deadlines and status never wait for a disk or for user code.

::

    caller --write/read--> [peer] --Job--> [log writer] --Persisted--> [peer]
                            |  ^                |
                            v  | messages       +--acknowledgements--> other peers
                       other peers
                            [peer] --committed entries--> [machine] --reply--> caller

Any exception here is fail-stop: everybody who waits is answered, the store is closed, the others hear of it, and the
supervisor decides what comes next.
"""

from __future__ import annotations

import logging
import math
import random
import time
import uuid
from typing import TYPE_CHECKING, Any, get_args

from raft_actors.behaviours.addresses import may_be_elsewhere
from raft_actors.behaviours.applying import MAX_APPLYING
from raft_actors.behaviours.attention import ANSWERS, concerns, is_committing
from raft_actors.callers import Callers
from raft_actors.engine import Engine
from raft_actors.errors import OutcomeUnknown, RaftError
from raft_actors.lending import rouse
from raft_actors.log_writer import Job, LogWriter, Writer
from raft_actors.machine_actor import ApplyBatch, MachineActor, Replica
from raft_actors.mailbox import FINISH, Envelope, InboxActor
from raft_actors.orders import CallerOrder, ChangeOrder, Ended, FormRequest, SnapshotOrder, StopNow, TransferOrder
from raft_actors.peer_ports import Owner, PeerPorts
from raft_actors.protocol.effects import Compact, Load, Send
from raft_actors.protocol.events import (
    ChangeRequested,
    ClusterRequested,
    Received,
    Slept,
    SnapshotRequested,
    StopRequested,
    TransferRequested,
)
from raft_actors.protocol.messages import AppendEntries, AppendEntriesReply
from raft_actors.protocol.state import Leader, PeerState
from raft_actors.protocol.types import Moment
from raft_actors.snapshot_keeper import Keeper, SnapshotKeeper
from raft_actors.suspension import Suspension
from raft_actors.transport.local import LOCAL
from raft_actors.transport.port import Vouching

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raft_actors.intake import Mailbox
    from raft_actors.log_store import LogStore
    from raft_actors.transport.port import News, Transport

__all__ = ["Owner", "Peer"]

logger = logging.getLogger("raft_actors")

HOLD = 0.004
"""Seconds for which a leader may keep new writes while an earlier batch commits, so that they form one batch."""
TOGETHER = 0.125
"""Share of a heartbeat interval by which heartbeats over a network may be late."""
_FOR_THE_ACTOR = frozenset((Envelope, *get_args(CallerOrder), StopNow))
"""What is queued and is no event for the rules."""
ABRUPT_PATIENCE = 1.0
"""Seconds that a crashing or failing peer waits for its own threads to end."""


class Peer(PeerPorts, InboxActor):
    """One Raft server.

    Args:
        owner: told of every change, and of the end.
        mailbox: its inbox.
        store: its opened store.
        replica: its machine.
        state: what it recovered.
        transport: what carries its messages.
    """

    def __init__(
        self,
        owner: Owner,
        mailbox: Mailbox,
        store: LogStore,
        replica: Replica,
        state: PeerState,
        transport: Transport = LOCAL,
    ) -> None:
        self.mailbox = mailbox
        super().__init__(mailbox)
        self.owner = owner
        self.transport = transport
        self._vouching = transport if isinstance(transport, Vouching) else None
        self.name = state.name
        self.store = store
        self.engine = Engine(state, self, mailbox.release, owner.measures.commits)
        writer = Writer(store, state.ballot, state.log.last, self._send_now, self._report, owner.measures)
        self.writer = LogWriter(self.name, writer, failed=self._fail, owner=mailbox.put)
        self.machine = MachineActor(
            self.name,
            replica,
            release=mailbox.release,
            applied=self._applied,
            failed=self._fail,
            owner=mailbox.put,
        )
        keeper = Keeper(self.name, store, replica, mailbox.codec.name, mailbox.post)
        self.keeper = SnapshotKeeper(self.name, keeper, failed=self._fail, owner=mailbox.put)
        self._outbox: list[Send] = []
        self._for_disk: list[Job | Load | Compact] = []
        self._for_machine: list[Any] = []
        self._for_keeper: list[Any] = []
        self._callers = Callers()
        self._grid = 0.0 if transport is LOCAL else state.settings.heartbeat_interval * TOGETHER
        self._suspension = Suspension()
        self._stop_by = float("inf")
        self._stoppers: list[Envelope[Any]] = []
        self._ending: StopNow | None = None
        self._crashed = False
        mailbox.read_stale = self._read_stale
        mailbox.turn = self._take_turn
        mailbox.deadline = self.engine.deadline

    def __str__(self) -> str:
        return f"raft-peer-{self.name}"

    def begin(self) -> None:
        """Start the machine and the log writer, and listen. Called once, before this actor's own loop starts."""
        for actor in (self.machine, self.writer):
            actor.start_prepared()
        self.transport.join(self.name, self._deliver)

    def _deliver(self, event: News) -> bool:
        """A message of another peer; called in its thread. A heartbeat is handled right there if this peer sleeps."""
        if type(event) is not Received:
            return self.mailbox.post(event)
        message = event.message
        if type(message) is AppendEntriesReply:
            return self.mailbox.whisper(event, ANSWERS)
        if type(message) is AppendEntries and not message.entries:
            return self.mailbox.lend(event)
        return self.mailbox.post(event)

    # -- from other threads --------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """End as if the process had died: what is queued is not handled any more."""
        self._crashed = True
        self.mailbox.post(StopNow(crash=True))
        self.resume()

    def pause(self) -> None:
        """Freeze all three threads, each as soon as it comes back for more."""
        for channel in (self.mailbox, self.machine.channel, self.keeper.channel, self.writer.channel):
            channel.pause()

    def resume(self) -> None:
        """Let frozen threads go on."""
        for channel in (self.machine.channel, self.keeper.channel, self.writer.channel, self.mailbox):
            channel.resume()

    # -- the loop ------------------------------------------------------------------------------------------------------

    def on_receive(self, message: Any) -> None:
        """Handle everything queued, then the deadlines that have passed."""
        if self._take_turn():
            self._end(self._ending or StopNow(crash=True))

    def _take_turn(self) -> bool:
        """One turn, in our thread or in that of a sender while we sleep; returns whether this peer must end."""
        try:
            if not self._crashed and self._ending is None:
                self._turn()
        except BaseException as error:  # noqa: BLE001 - fail-stop
            self._ending = StopNow(error=error)
        if self._crashed:
            self._ending = StopNow(crash=True)
        return self._ending is not None

    def _turn(self) -> None:
        mailbox = self.mailbox
        drained = mailbox.drain()
        moment = Moment(time.monotonic(), time.time(), random.random())
        engine = self.engine
        stops: list[StopRequested] = []
        if self._suspension.noticed():
            engine.run(Slept(), moment)
        engine.listen(moment)
        for item in drained.items:
            if type(item) is StopRequested:
                stops.append(item)
            elif type(item) in _FOR_THE_ACTOR:
                self._control(item, moment)
            else:
                engine.run(item, moment)
        self._take_writes(moment, hand_over=bool(stops))
        if drained.reads is not None:
            engine.read(drained.reads, moment)
        if drained.lease_reads is not None:
            engine.read(drained.lease_reads, moment)
        for stop in stops:  # after the requests that were there before it
            self._stop_by = moment.now + stop.timeout
            engine.run(stop, moment)
        deadline = engine.tick(moment)
        self._flush()
        if moment.now >= mailbox.hold_until or not is_committing(engine.state):
            mailbox.hold_until = 0.0
        mailbox.deadline = self._together(deadline)
        mailbox.attention = concerns(engine.state)
        self.owner.state = engine.state

    def _together(self, deadline: float) -> float:
        """Let heartbeats that go over a network leave together with those of other clusters: a little late, on a grid.

        They are one frame then, handled by one wake-up of the other process, and so are their answers.
        """
        role = self.engine.state.role
        if not self._grid or not isinstance(role, Leader) or deadline != role.heartbeat_deadline:
            return deadline
        return math.ceil(deadline / self._grid) * self._grid

    def _take_writes(self, moment: Moment, *, hand_over: bool) -> None:
        """Append what came, unless a batch was appended just now and commits: then more may come together.

        Not if this peer ends with this turn: what it has not taken has certainly had no effect.
        """
        if self._ending is not None:
            return
        mailbox = self.mailbox
        if not hand_over and moment.now < mailbox.hold_until and is_committing(self.engine.state):
            return
        writes = mailbox.take_writes()
        if writes is not None:
            self.engine.write(writes, moment)
            mailbox.hold_until = moment.now + HOLD

    def _flush(self) -> None:
        """Pass on what the turn produced, all at its end: who is woken earlier only queues up for the interpreter."""
        if self._outbox:
            outbox, self._outbox = self._outbox, []
            for send in outbox:
                self.transport.send(self.name, send.to, send.message)
        busy = bool(self._for_disk)
        if busy:
            jobs, self._for_disk = self._for_disk, []
            self.writer.channel.leave(jobs)
            rouse(self.writer.channel)
        if self._for_machine and not (busy and self._machine_can_wait()):
            work, self._for_machine = self._for_machine, []
            self.machine.channel.leave(work)
            rouse(self.machine.channel)
        if self._for_keeper:
            for item in self._for_keeper:
                self.keeper.hand(item)
            self._for_keeper.clear()

    def _machine_can_wait(self) -> bool:
        """Whether nobody here waits for the entries to be applied: they may wait for the disk, which others wait for.

        They are handed over when it is done (``_report``), or with the next turn that brings nothing for it.
        """
        work = self._for_machine
        if self.machine.awaited:
            return False
        return len(work) < MAX_APPLYING and all(type(one) is ApplyBatch and not one.segments for one in work)

    def _control(self, item: Envelope[Any] | CallerOrder | StopNow, moment: Moment) -> None:
        match item:
            case SnapshotOrder():
                self.engine.run(SnapshotRequested(self._callers.admit(item.future)), moment)
            case FormRequest():
                self._told(item.places, moment)
                token = self._callers.admit(item.future)
                self.engine.run(ClusterRequested(token, uuid.uuid4().hex, item.names, item.timeout), moment)
            case ChangeOrder():
                self._told(item.places, moment)
                token = self._callers.admit(item.future)
                self.engine.run(ChangeRequested(token, item.change, item.expected, item.timeout), moment)
            case TransferOrder():
                token = self._callers.admit(item.future)
                self.engine.run(TransferRequested(token, item.target, item.timeout), moment)
            case StopNow():
                self._ending = self._ending or item
            case Envelope():
                self._from_pykka(item)

    def _told(self, places: Sequence[tuple[str, str]], moment: Moment) -> None:
        """A caller has said where peers are: believed of those that are not heard from where they are looked for."""
        state = self.engine.state
        self.owner.tell([place for place in places if may_be_elsewhere(state, place[0], moment)])

    def _from_pykka(self, envelope: Envelope[Any]) -> None:
        """``ref.stop()`` stops without hand-over; anything else is answered as Pykka's own actors do."""
        if type(envelope.message).__name__ == "_ActorStop":
            self._stoppers.append(envelope)
            self._ending = self._ending or StopNow()
            return
        answer = super().on_receive(envelope.message)
        if envelope.reply_to is not None:
            envelope.reply_to.set(answer)

    # -- the end -------------------------------------------------------------------------------------------------------

    def _end(self, ending: StopNow) -> None:
        """Answer everybody, close the store, tell the others and the supervisor."""
        self.transport.leave(self.name)
        self.owner.ending(Ended(ending.crash, ending.error))
        late = OutcomeUnknown(f"peer {self.name!r} crashed") if ending.crash else self.mailbox.refusal()
        left_over = self.mailbox.turn_away(late)
        patience = self._patience(ending)
        self._end_machine(ending, patience)
        self._end_keeper(patience)
        self._end_writer(ending, patience)
        self._answer_all(ending, late, left_over)
        self.finish()
        self.owner.ended(Ended(ending.crash, ending.error))
        for envelope in self._stoppers:
            if envelope.reply_to is not None:
                envelope.reply_to.set(None)

    def _patience(self, ending: StopNow) -> float:
        """Until when to wait for user code and disk, on the monotonic clock."""
        now = time.monotonic()
        if ending.crash or ending.error is not None or self._stop_by == float("inf"):
            return now + ABRUPT_PATIENCE
        return max(self._stop_by, now + 0.1)

    def _end_machine(self, ending: StopNow, until: float) -> None:
        """Let the machine finish what it was handed, unless this is a crash; abandon it if it hangs."""
        if ending.crash or ending.error is not None:
            self.machine.channel.close()
        else:
            self.machine.channel.post(FINISH)
        if not self.machine.join(until - time.monotonic()):
            logger.warning("peer %s: its state machine hangs and is abandoned", self.name)
            self.machine.abandon()

    def _end_keeper(self, until: float) -> None:
        if not self.keeper.end(until - time.monotonic()):
            logger.warning("peer %s: a snapshot hangs and is abandoned", self.name)
            self.keeper.abandon()

    def _end_writer(self, ending: StopNow, until: float) -> None:
        if ending.crash:
            self.writer.discard = True
            self.writer.channel.close()
        else:
            self.writer.channel.post(FINISH)
        if not self.writer.join(max(until - time.monotonic(), 0.5)):
            logger.error("peer %s: its disk hangs; the store stays locked until it answers", self.name)
            self.writer.abandon()

    def _answer_all(self, ending: StopNow, late: RaftError, left_over: list[Any]) -> None:
        unknown = OutcomeUnknown(f"peer {self.name!r} stopped before the outcome was known")
        unknown.__cause__ = ending.error or late
        self.engine.waiters.close(unapplied=late, unknown=unknown)
        for future in self.mailbox.unanswered():
            future.try_fail(unknown)
        self._callers.close(unknown)
        for item in left_over:
            if isinstance(item, CallerOrder):
                item.future.try_fail(late)
            elif isinstance(item, Envelope):
                self._answer_left_over(item, late)

    def _answer_left_over(self, envelope: Envelope[Any], late: RaftError) -> None:
        if type(envelope.message).__name__ == "_ActorStop":
            self._stoppers.append(envelope)
        elif envelope.reply_to is not None:
            envelope.reply_to.set_exception((type(late), late, None))
