"""Looking into one replica from outside: its log and its state, as values that share nothing with it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raft_actors import inspection
from raft_actors.futures import RequestFuture
from raft_actors.protocol.configuration import decode as decode_configuration
from raft_actors.protocol.entry import Entry as LogEntry
from raft_actors.protocol.entry import EntryKind
from raft_actors.protocol.sessions import SessionWrite, parse
from raft_actors.store_meta import read_meta

if TYPE_CHECKING:
    from raft_actors.codec import CheckedCodec
    from raft_actors.peer import Peer
    from raft_actors.testing.disk import Disk
    from storage_adapters import StorageAdapter

__all__ = ["Entry", "shown", "state_of", "stored_entries"]

READ_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a peer's log.

    Attributes:
        index: its place, counted from 1.
        term: the term of the leader that made it.
        kind: ``"command"``, ``"noop"``, ``"configuration"`` or ``"session"``.
        command: the decoded command, also of a write in a session; of a configuration the names of its voters; else
            ``None``.
    """

    index: int
    term: int
    kind: str
    command: Any


def shown(entry: LogEntry, codec: CheckedCodec) -> Entry:
    """What a test sees of an entry."""
    command: Any = None
    if entry.kind is EntryKind.COMMAND:
        command = codec.decode(entry.data)
    elif entry.kind is EntryKind.SESSION:
        request = parse(entry)
        command = codec.decode(request.command) if isinstance(request, SessionWrite) else None
    elif entry.kind is EntryKind.CONFIGURATION:
        command = tuple(member.name for member in decode_configuration(entry.data).voters)
    return Entry(entry.index, entry.term, entry.kind.name.lower(), command)


def stored_entries(disk: Disk, folder: Path, peer: Peer | None) -> list[LogEntry]:
    """Everything in a peer's durable log, whether it runs or not, and whatever its disk does."""
    if peer is not None:
        with disk.peeking():
            return _running(peer)
    with disk.opened(folder) as adapter:
        return [] if adapter is None else list(_stopped(adapter))


def _running(peer: Peer) -> list[LogEntry]:
    """The entries of a log that may be cut meanwhile: then it is read again, from where it begins now."""
    while True:
        first = index = peer.engine.state.log.first
        entries: list[LogEntry] = []
        while found := peer.store.read(index, 2**62, READ_BYTES):
            entries += found
            index = found[-1].index + 1
        if peer.engine.state.log.first == first:
            return entries


def _stopped(adapter: StorageAdapter) -> Iterator[LogEntry]:
    """The entries of a store; what was cut off its log may still lie before them."""
    meta = read_meta(adapter.meta, "the store")
    first, last = adapter.bounds()
    return inspection.entries(adapter, first if meta is None else max(first, meta.base.last.index + 1), last)


def state_of(peer: Peer, timeout: float) -> Any:
    """A copy of the machine's state, made in its own thread between two commands.

    Raises:
        Timeout: the machine is busy for longer than ``timeout`` seconds, paused, or gone.
    """
    future: RequestFuture[Any] = RequestFuture()

    def look() -> None:
        try:
            future.try_set(copy.deepcopy(peer.machine.replica.state))
        except Exception as error:  # noqa: BLE001 - the state is the user's
            future.try_fail(error)

    peer.machine.channel.post(look)
    return future.get(timeout=timeout)
