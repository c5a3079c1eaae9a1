"""Writes, sends, receives and loads snapshots, beside the log and the machine, which both go on meanwhile.

::

    machine --image--> [keeper] --temporary file, synced, renamed--> SnapshotWritten --> peer
    peer --LoadChunk, StoreChunk, Restore--> [keeper] --ChunkLoaded, ChunkStored, SnapshotLoaded--> peer

``Keeper`` does the work without a thread; ``SnapshotKeeper`` is the thread, which exists only once there is something
to do. The simulator runs the same ``Keeper``.

What fails in taking or receiving costs nothing but the snapshot: nobody was promised it. A state that cannot be loaded
stops the peer.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, NamedTuple, assert_never

from raft_actors.errors import CommandFailed, CorruptLog, Incompatible, InvariantViolated, RaftError
from raft_actors.mailbox import Envelope, InboxActor, WorkChannel
from raft_actors.protocol.effects import Capture, DropChunks, LoadChunk, Restore, SnapshotWork, StoreChunk
from raft_actors.protocol.events import ChunkLoaded, ChunkStored, SnapshotFailed, SnapshotLoaded, SnapshotWritten
from raft_actors.protocol.sessions import SessionTable
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.snapshot_store import DamagedSnapshot, SnapshotInput, SnapshotOutput
from raft_actors.state_sharing import let_go

if TYPE_CHECKING:
    from collections.abc import Callable

    from raft_actors.log_store import LogStore
    from raft_actors.machine_actor import Replica
    from raft_actors.protocol.events import Event

__all__ = ["Keeper", "Saving", "SnapshotKeeper"]

logger = logging.getLogger("raft_actors")


class Saving(NamedTuple):
    """An image of the machine, and its sessions, to be written."""

    image: Any
    sessions: SessionTable[Any]
    capture: Capture


class Keeper:
    """Works on the files of one peer's snapshots.

    Args:
        name: the peer.
        store: its store.
        replica: its machine.
        codec: name of its codec.
        report: tells the peer what happened.

    Attributes:
        failure: why the last snapshot could not be taken.
    """

    def __init__(
        self, name: str, store: LogStore, replica: Replica, codec: str, report: Callable[[Event], object]
    ) -> None:
        self.failure: Exception | None = None
        self._name = name
        self._store = store
        self._replica = replica
        self._codec = codec
        self._report = report
        self._output: SnapshotOutput | None = None
        self._given_up = False
        self._input: SnapshotInput | None = None
        self._loaded: dict[str, tuple[Any, SessionTable[Any]]] = {}

    # -- in the thread of the machine ----------------------------------------------------------------------------------

    def capture(self, capture: Capture) -> Saving | None:
        """Take an image of the machine; ``None`` if the user's code could not."""
        if self._replica.applied != capture.last.index:
            raise InvariantViolated(f"asked to save {capture.last}, the machine has applied {self._replica.applied}")
        try:
            return Saving(self._replica.capture(), self._replica.sessions.table.copy(), capture)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - user code
            self._failed(error)
            return None

    def take(self, snapshot: Snapshot) -> tuple[Any, SessionTable[Any]]:
        """The loaded state of ``snapshot``, and its sessions, once."""
        loaded = list(self._loaded)
        if snapshot.id not in loaded:
            raise InvariantViolated(f"peer {self._name!r} is to adopt snapshot {snapshot.id}, loaded are {loaded}")
        for overtaken in loaded[: loaded.index(snapshot.id)]:
            del self._loaded[overtaken]
        return self._loaded.pop(snapshot.id)  # the next one may be here already (BUG-49)

    # -- in the thread of the keeper -----------------------------------------------------------------------------------

    def perform(self, item: Saving | SnapshotWork | list[Any]) -> None:
        """Do one thing.

        Raises:
            PeerFailed: a state that is needed cannot be loaded.
        """
        match item:
            case Saving():
                self._save(item)
            case LoadChunk():
                self._read_piece(item)
            case StoreChunk():
                self._store_piece(item)
            case DropChunks():
                self._drop()
            case Restore():
                self._load(item.snapshot)
            case list():  # a state that was replaced, in its box
                let_go(item)
            case _:
                assert_never(item)

    def _save(self, saving: Saving) -> None:
        try:
            snapshot = self._written(saving)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - user code, or a disk that nothing was promised on
            self._failed(error)
        else:
            self._report(SnapshotWritten(snapshot))

    def _written(self, saving: Saving) -> Snapshot:
        capture, store = saving.capture, self._store
        head = store.head(capture.last.index)
        if head is None or head[0] != capture.last:
            raise InvariantViolated(
                f"entry {capture.last.index} is not in the log any more: another snapshot came first"
            )
        snapshot = Snapshot(
            f"{store.identity.incarnation}-{capture.last.index}",
            *head,
            capture.configuration_index,
            capture.configuration,
        )
        version = self._replica.machine.version
        output = store.snapshots.create(snapshot, cluster=store.identity.cluster, codec=self._codec, version=version)
        self._output = output
        try:
            if self._given_up:  # looked at after _output was set, and set before that is looked at: one of the two sees
                raise ValueError("the peer ends")
            for part in saving.sessions.dump(self._replica.sessions.encoded):
                output.sessions(part)
            self._dump(saving, output)
            return output.commit()
        finally:
            output.abort()
            self._output = None

    def _dump(self, saving: Saving, output: SnapshotOutput) -> None:
        """Let the machine write; an ``OSError`` of its own is no failure of our disk."""
        try:
            self._replica.dump(saving.image, output)
        except OSError as error:
            if error is output.failure:
                raise
            raise CommandFailed.because(error) from error

    def _failed(self, error: Exception) -> None:
        self.failure = error
        logger.error("peer %s could not take a snapshot: %s: %s", self._name, type(error).__name__, error)
        self._report(SnapshotFailed())

    def _read_piece(self, item: LoadChunk) -> None:
        try:
            data = self._store.snapshots.chunk(item.id, item.offset, item.max_bytes)
        except (OSError, DamagedSnapshot) as error:
            logger.error("peer %s cannot send snapshot %s: %s", self._name, item.id, error)
            data = None
        self._report(ChunkLoaded(item.reader, item.id, item.offset, data))

    def _store_piece(self, item: StoreChunk) -> None:
        try:
            stored = self._stored(item)
        except (OSError, ValueError, DamagedSnapshot) as error:
            logger.error("peer %s could not take over snapshot %s: %s", self._name, item.id, error)
            self._drop()
            stored = ChunkStored(item.id, -1)
        self._report(stored)

    def _stored(self, item: StoreChunk) -> ChunkStored:
        if item.offset == 0:
            self._drop()
            self._input = self._store.snapshots.receive(item.id)
        draft = self._input
        if draft is None or (draft.id, draft.received) != (item.id, item.offset):
            raise ValueError(f"bytes from {item.offset} on do not go on with what is here")
        draft.append(item.data)
        if draft.received < item.size:
            return ChunkStored(item.id, draft.received)
        self._input = None
        snapshot = draft.commit()
        with self._store.snapshots.open(snapshot.id) as reader:
            return ChunkStored(item.id, item.size, snapshot, reader.cluster)

    def _drop(self) -> None:
        draft, self._input = self._input, None
        if draft is not None:
            draft.abort()

    def _load(self, snapshot: Snapshot) -> None:
        try:
            with self._store.snapshots.open(snapshot.id) as reader:
                loaded = self._replica.load(reader), self._replica.sessions.loaded(reader.sessions)
                reader.finish()
        except (DamagedSnapshot, FileNotFoundError) as error:
            raise CorruptLog(f"peer {self._name!r} cannot load its snapshot: {error}") from error
        except (RaftError, OSError, MemoryError):
            raise
        except Exception as error:
            raise Incompatible(
                f"peer {self._name!r} cannot load the state in snapshot {snapshot.id}: {type(error).__name__}: {error}"
            ) from error
        self._loaded.pop(snapshot.id, None)  # to the end of the line
        self._loaded[snapshot.id] = loaded
        self._report(SnapshotLoaded(snapshot.id))

    def give_up(self) -> None:
        """End what is being written, from another thread: its next write fails. Nothing more is begun."""
        self._given_up = True
        output = self._output
        if output is not None:
            output.abort()


class SnapshotKeeper(InboxActor):
    """The thread of a ``Keeper``.

    Args:
        name: the peer.
        keeper: what runs.
        failed: told the exception that ends this peer.
        owner: takes what Pykka sends to us, since only the whole peer can stop.
    """

    def __init__(
        self,
        name: str,
        keeper: Keeper,
        *,
        failed: Callable[[BaseException], None],
        owner: Callable[[Envelope[Any]], None],
    ) -> None:
        self.channel = WorkChannel(owner)
        super().__init__(self.channel)
        self.name = name
        self.keeper = keeper
        self._failed = failed
        self._starting = threading.Lock()

    def __str__(self) -> str:
        return f"raft-snapshots-{self.name}"

    def hand(self, item: Saving | SnapshotWork | list[Any]) -> None:
        """Queue work; the first starts the thread."""
        with self._starting:
            if self.thread is None and not self.channel.closed:
                self.start_prepared()
        self.channel.post(item)

    def on_receive(self, message: Any) -> None:
        """Do what is queued, one thing after the other."""
        for item in self.channel.take():
            if self.channel.closed:
                break
            try:
                self.keeper.perform(item)
            except BaseException as error:  # noqa: BLE001 - told to the peer, which stops
                self.channel.close()
                self._failed(error)
        if self.channel.closed:
            self.finish()

    def end(self, timeout: float) -> bool:
        """End as soon as possible: what is being written is given up. False if the thread hangs."""
        self.channel.close()
        self.keeper.give_up()
        return self.join(timeout)
