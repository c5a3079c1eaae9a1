"""Runs the user's state machine: one thread, one command after the other, nothing else waits for it.

``Replica`` holds the machine and its state and does the work, without a thread; ``MachineActor`` is the thread. The
simulator runs the same ``Replica``.

An ``Exception`` of the user's code is a recorded result (BUG-70); ``MemoryError`` and any other ``BaseException`` stop
this peer alone. A reply leaves through the codec unless nobody can change it, so that no caller ever holds a piece of
a replica (BUG-71).
"""

from __future__ import annotations

import heapq
import itertools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from raft_actors.codec import CheckedCodec, is_immutable_reply
from raft_actors.copies import detached
from raft_actors.errors import CommandFailed, Incompatible, InvariantViolated
from raft_actors.futures import RequestFuture, forbid_waiting
from raft_actors.machine_snapshots import MachineSnapshots
from raft_actors.mailbox import FINISH, Envelope, InboxActor, WorkChannel
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.sessions import SessionTable
from raft_actors.replica_sessions import ReplicaSessions
from raft_actors.requests import ReadBatch, Segment, WriteBatch
from raft_actors.state_machine import Context, StateMachine

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AdoptState", "ApplyBatch", "MachineActor", "Replica", "RoleNotice", "StaleRead"]

logger = logging.getLogger("raft_actors")

CROWD = 64
"""So many reads may wait for an index before those among them are looked for that were answered meanwhile."""


class Replica:
    """One peer's instance of the user's machine, and its state.

    Args:
        machine: the instance.
        name: the peer.
        codec: decodes commands, copies replies.

    Attributes:
        state: what the machine returned last.
        sessions: those of its clients; like the state, a result of the entries applied.
        applied: index of the newest applied entry.
        least: with less applied than this, the state is none to read from: it was lost, and is on its way.
        abandoned: nobody waits for this replica any more; it stops before its next command.
    """

    def __init__(self, machine: StateMachine[Any, Any], name: str, codec: CheckedCodec) -> None:
        self.machine = machine
        self.state = machine.init(name)
        self.applied = 0
        self.least = 0
        self.abandoned = False
        self._name = name
        self._codec = codec
        self.sessions = ReplicaSessions(name, codec)
        self._snapshots = MachineSnapshots(machine, name, codec)

    def apply(self, entries: Sequence[Entry], segments: Sequence[Segment]) -> None:
        """Apply ``entries`` in order and answer whoever of ``segments`` waits for them.

        Raises:
            Incompatible: an entry cannot be decoded: it is never skipped.
            BaseException: the machine raised something that is no ``Exception``.
        """
        offset = entries[0].index
        begin = 0
        for segment in segments:
            first, stop = segment.first - offset, segment.last - offset + 1
            if begin < first:
                self._run(entries[begin:first], None)
            self._run(entries[first:stop], segment.batch.futures[segment.start : segment.stop])
            begin = stop
        if begin < len(entries):
            self._run(entries[begin:], None)

    def _run(self, entries: Sequence[Entry], futures: Sequence[RequestFuture[Any]] | None) -> None:
        """The inner loop: one turn per command."""
        machine, command = self.machine, EntryKind.COMMAND
        context = Context(0, 0, 0.0)
        machine.context = context
        for place, entry in enumerate(entries):
            future = futures[place] if futures is not None else None
            data, write = entry.data, None
            if entry.kind is not command:
                write = self.sessions.admit(entry, future) if entry.kind is EntryKind.SESSION else None
                if write is None:
                    continue
                data = write.command
            if self.abandoned:
                raise SystemExit
            value = self._decoded(data, entry)
            context.index, context.term, context.time = entry.index, entry.term, entry.time
            try:
                result = machine.handle_write(value, self.state)
                if type(result) is not tuple or len(result) != 2:
                    raise TypeError(f"handle_write must return a pair (reply, state), not {result!r:.100}")
                reply, self.state = result
                if write is not None:
                    self.sessions.record_reply(write, reply)
            except MemoryError:  # not the command's fault, and not the same on every replica
                raise
            except Exception as error:  # noqa: BLE001 - a recorded result
                if write is not None:
                    self.sessions.record_error(write, error)
                if future is not None:
                    future.try_fail(CommandFailed.because(detached(error)), entry.index)
            else:
                if future is not None:
                    self._answer(future, reply, entry.index)
        self.applied = entries[-1].index
        del machine.context

    def _decoded(self, data: bytes, entry: Entry) -> Any:
        try:
            return self._codec.decode(data)
        except Incompatible as error:
            raise Incompatible(f"peer {self._name!r} cannot apply entry {entry.index}: {error.__cause__}") from error

    def read(self, query: Any, future: RequestFuture[Any]) -> None:
        """Answer one query from the current state."""
        if self.abandoned:
            raise SystemExit
        try:
            result = self.machine.handle_read(query, self.state)
            if type(result) is not tuple or len(result) != 2:
                raise TypeError(f"handle_read must return a pair (reply, state), not {result!r:.100}")
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a recorded result
            future.try_fail(CommandFailed.because(detached(error)), self.applied)
        else:
            self._answer(future, result[0], self.applied)

    def capture(self) -> Any:
        """Return an image of the state, between two commands; it tells what was ``applied``, whatever comes later."""
        return self._snapshots.capture(self.state)

    def dump(self, image: Any, file: Any) -> None:
        """Write an image to ``file``; any thread. See ``MachineSnapshots.dump``."""
        self._snapshots.dump(image, file)

    def load(self, file: Any) -> Any:
        """Return the state in ``file``, which is not ours yet; any thread. See ``MachineSnapshots.load``."""
        return self._snapshots.load(file)

    def adopt(self, state: Any, index: int, sessions: SessionTable[Any] | None = None) -> list[Any]:
        """Go on from a loaded state, at once.

        Args:
            state: what ``load`` returned.
            index: of the newest entry that is in it.
            sessions: those of that index; none if not given.

        Returns:
            The old state in a box, for ``let_go`` on a thread that has time; it is freed at once if nobody takes it.

        Raises:
            InvariantViolated: newer entries than that are applied already.
        """
        if index < self.applied:
            raise InvariantViolated(f"peer {self._name!r} has applied {self.applied} and would go back to {index}")
        box = [self.state]
        self.state, self.applied = state, index
        self.sessions.table = SessionTable() if sessions is None else sessions
        return box

    def _answer(self, future: RequestFuture[Any], reply: Any, index: int) -> None:
        if not is_immutable_reply(reply):
            try:
                reply = self._codec.decode(self._codec.encode(reply))
            except Exception as error:  # noqa: BLE001 - the reply is the user's
                future.try_fail(CommandFailed.because(detached(error)), index)
                return
        future.try_set(reply, index)


class ApplyBatch(NamedTuple):
    """Committed entries, and who waits for them."""

    entries: Sequence[Entry]
    segments: Sequence[Segment]


class StaleRead(NamedTuple):
    """A batch of one query that needs no leader; ``min_index``: answer once that index is applied here."""

    batch: ReadBatch
    min_index: int


class AdoptState(NamedTuple):
    """A state that was loaded with its sessions, the newest index in it, and who takes the old state apart."""

    take: Callable[[], tuple[Any, SessionTable[Any]]]
    last: int
    freed: Callable[[list[Any]], None]


class RoleNotice(NamedTuple):
    """The peer became leader, or ceased to be, in ``term``."""

    leader: bool
    term: int


class MachineActor(InboxActor):
    """The thread of a ``Replica``.

    Args:
        name: the peer.
        replica: what runs.
        release: told how many requests of a batch are finished.
        applied: told the newest applied index after each batch.
        failed: told the exception that ends this peer.
        owner: takes what Pykka sends to us, since only the whole peer can stop.
    """

    def __init__(
        self,
        name: str,
        replica: Replica,
        *,
        release: Callable[[WriteBatch | ReadBatch, int], None],
        applied: Callable[[int], None],
        failed: Callable[[BaseException], None],
        owner: Callable[[Envelope[Any]], None],
    ) -> None:
        self.channel = WorkChannel(owner)
        super().__init__(self.channel)
        self.name = name
        self.replica = replica
        self._release = release
        self._applied = applied
        self._failed = failed
        self._waiting: list[tuple[int, int, ReadBatch]] = []  # a heap by index, then by arrival

    _crowd = CROWD
    _arrivals = itertools.count()

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for an index that is not applied yet; any thread."""
        return bool(self._waiting)

    def __str__(self) -> str:
        return f"raft-machine-{self.name}"

    def abandon(self) -> None:
        """Give up on user code that hangs: when it comes back, nothing more is run."""
        self.replica.abandoned = True
        super().abandon()

    def on_start(self) -> None:
        """In our thread: user code here must not wait for the peer that waits for it."""
        forbid_waiting(f"a machine of peer {self.name!r} may not wait for a peer")

    def on_receive(self, message: Any) -> None:
        """Do what is queued; an exception that is no ``Exception`` of the user's handlers ends this peer."""
        for item in self.channel.take():
            if self.channel.closed:
                break
            try:
                self._work(item)
            except BaseException as error:  # noqa: BLE001 - told to the peer, which stops
                self.channel.close()
                self._failed(error)
        if self.channel.closed:
            self.finish()

    def _work(self, item: Any) -> None:
        match item:
            case ApplyBatch():
                self._apply(item)
            case ReadBatch():
                self._read(item)
            case StaleRead() if max(item.min_index, self.replica.least) <= self.replica.applied:
                self._read(item.batch)
            case StaleRead():
                self._park(item)
            case AdoptState():
                state, sessions = item.take()
                item.freed(self.replica.adopt(state, item.last, sessions))
                self._caught_up()
            case RoleNotice():
                self._notice(item)
            case _ if item is FINISH:
                self.channel.close()
            case _:
                item()

    def _apply(self, batch: ApplyBatch) -> None:
        self.replica.apply(batch.entries, batch.segments)
        for segment in batch.segments:
            self._release(segment.batch, segment.stop - segment.start)
        self._caught_up()

    def _caught_up(self) -> None:
        """Tell what is applied now, and answer who waited for it."""
        self._applied(self.replica.applied)
        while self._waiting and self._waiting[0][0] <= self.replica.applied:
            _, _, parked = heapq.heappop(self._waiting)
            if not parked.futures[0].done():
                self.replica.read(parked.queries[0], parked.futures[0])

    def _park(self, read: StaleRead) -> None:
        """Keep a read until its index is applied; its place is free as soon as it is answered, if by its deadline."""
        batch = read.batch
        if len(self._waiting) >= self._crowd:
            self._waiting = [one for one in self._waiting if not one[2].futures[0].done()]
            heapq.heapify(self._waiting)
            self._crowd = max(CROWD, 2 * len(self._waiting))
        heapq.heappush(self._waiting, (max(read.min_index, self.replica.least), next(self._arrivals), batch))
        batch.futures[0].when_done(lambda _: self._release(batch, 1))

    def _read(self, batch: ReadBatch) -> None:
        for query, future in zip(batch.queries, batch.futures, strict=True):
            self.replica.read(query, future)
        self._release(batch, len(batch.futures))

    def _notice(self, notice: RoleNotice) -> None:
        call = self.replica.machine.on_leader if notice.leader else self.replica.machine.on_follower
        try:
            call(notice.term)
        except Exception:
            logger.exception("peer %s: %s failed", self.name, call.__qualname__)
