"""What a peer on the bench does with snapshots: captures, pieces in and out, and the switch to a new state.

Files are read and written at once, in pieces of at most ``PIECE`` bytes. A peer whose snapshots are slow writes its own
only when it is told to.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from raft_actors.protocol import effects as fx
from raft_actors.protocol.entry import Entry
from raft_actors.protocol.events import (
    Applied,
    ChunkLoaded,
    ChunkStored,
    Event,
    SnapshotLoaded,
    SnapshotWritten,
)
from raft_actors.protocol.snapshot import Snapshot
from tests.behaviours.disks import FILE_BYTES, Broken, Disk, contents

PIECE = 4


class Made(NamedTuple):
    """A snapshot that was written somewhere, and what is in its file."""

    snapshot: Snapshot
    entries: tuple[Entry, ...]
    cluster: str


class Files:
    """The files of snapshots of one peer, and its machine.

    Args:
        name: the peer.
        disk: its disk.
        made: every snapshot of the cluster by id, shared by all peers.
    """

    def __init__(self, name: str, disk: Disk, made: dict[str, Made]) -> None:
        self.name = name
        self.disk = disk
        self.machine: list[Entry] = []
        self.slow = False
        self._made = made
        self._captured: list[tuple[fx.Capture, tuple[Entry, ...]]] = []
        self._incoming: tuple[str, bytes] | None = None

    def crash(self) -> None:
        """Only what is whole and on disk stays."""
        self.machine, self._captured, self._incoming = [], [], None

    def recover(self) -> None:
        """The machine begins with the snapshot that the store knows."""
        snapshot = self.disk.snapshot
        self.machine = list(self.disk.files[snapshot.id]) if snapshot is not None else []

    def perform(self, effect: fx.Effect) -> Iterator[Event]:
        """Do it, and tell what comes of it."""
        match effect:
            case fx.Capture():
                self._capture(effect)
                if not self.slow:
                    yield from self.write()
            case fx.LoadChunk():
                known = effect.id in self.disk.files
                data = contents(effect.id)[effect.offset : effect.offset + PIECE] if known else None
                yield ChunkLoaded(effect.reader, effect.id, effect.offset, data)
            case fx.StoreChunk():
                yield self._store(effect)
            case fx.DropChunks():
                self._incoming = None
            case fx.Restore():
                yield SnapshotLoaded(effect.snapshot.id)
            case fx.Adopt():
                yield self._adopt(effect.snapshot)

    def write(self) -> Iterator[Event]:
        """The captured state becomes a durable file."""
        for capture, entries in self._captured:
            last = capture.last
            snapshot = Snapshot(
                id=f"{self.name}-{last.index}",
                last=last,
                time=entries[-1].time,
                configuration_index=capture.configuration_index,
                configuration=capture.configuration,
                size=FILE_BYTES,
            )
            self._made[snapshot.id] = Made(snapshot, entries, self.disk.cluster)
            self.disk.files[snapshot.id] = entries
            yield SnapshotWritten(snapshot)
        self._captured = []

    def _capture(self, capture: fx.Capture) -> None:
        if len(self.machine) != capture.last.index:
            raise Broken(f"{self.name} captures {len(self.machine)} entries as {capture.last}")
        self._captured.append((capture, tuple(self.machine)))

    def _store(self, effect: fx.StoreChunk) -> ChunkStored:
        before = self._incoming[1] if self._incoming is not None and effect.offset else b""
        if effect.offset and (self._incoming is None or self._incoming[0] != effect.id):
            return ChunkStored(effect.id, -1)
        if len(before) != effect.offset:
            return ChunkStored(effect.id, -1)
        data = before + effect.data
        self._incoming = (effect.id, data)
        if len(data) < effect.size:
            return ChunkStored(effect.id, len(data))
        if data != contents(effect.id):
            raise Broken(f"{self.name} has mixed pieces: {data!r} for {effect.id}")
        self._incoming = None
        made = self._made[effect.id]
        self.disk.files[effect.id] = made.entries
        return ChunkStored(effect.id, len(data), made.snapshot, made.cluster)

    def _adopt(self, snapshot: Snapshot) -> Applied:
        if len(self.machine) > snapshot.last.index:
            raise Broken(f"{self.name} goes back from {len(self.machine)} to {snapshot.last}")
        self.machine = list(self.disk.files[snapshot.id])
        return Applied(snapshot.last.index)
