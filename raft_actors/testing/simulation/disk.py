"""The simulated disk: what a storage adapter that keeps its promises, and no more, leaves behind.

The real ``LogStore`` runs on it. A ``Disk`` is the medium and survives its peer; ``SimulatedAdapter`` is one opening of
it. A batch is atomic and durable when ``write`` returns. A crash before that leaves it there wholly or not at all; so
does a failed call, after which every further change is refused until the store is opened again.

The durable-tail mark is a file beside an engine; this one has none (``durable`` is False), so any damage is found as
``CorruptLog`` and nothing is ever taken for a torn tail.

Beside the bytes, a disk keeps what they say - ballot, and term and checksum of each record - read from the bytes by
code of its own, so that the invariants need not trust the code under test.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import Any

import msgspec

from raft_actors.protocol.snapshot import Snapshot
from raft_actors.protocol.types import Ballot
from raft_actors.records import FORMAT
from raft_actors.store_meta import ballot_value, seal
from raft_actors.testing.simulation.files import Files
from storage_adapters import Batch, MemoryAdapter
from storage_adapters.interface import Entry, StorageError

__all__ = ["Disk", "SimulatedAdapter"]

_HEAD = struct.Struct("<IIQQ")
_ballot = msgspec.msgpack.Decoder(Ballot)
_snapshot = msgspec.msgpack.Decoder(Snapshot)


def _nothing() -> None:
    """No fault."""


class Disk:
    """One peer's medium.

    Args:
        name: the peer.
        incarnation: identity of the store on it.
        written: told ``(disk, batch)`` when a batch is on it.
        recorded: told ``(disk, snapshot)`` before, when the batch records one.

    Attributes:
        boundary: called before and after each batch is on the medium; may raise to let the process die there.
        failing: how many of the next calls fail.
        failed_once: whether a call ever failed.
        survives: whether what fails is on the medium all the same.
        ballot: term and vote on the medium.
        terms: of the entries on the medium, from index 1 on; also of those that a recorded snapshot covers.
        checksums: of their records.
        damaged: whether something on it was damaged.
        first: the lowest index whose entry is on it; what comes before is in ``snapshot``.
        snapshot: the one that is recorded on it.
        files: beside the log.
    """

    def __init__(
        self,
        name: str,
        incarnation: str,
        written: Callable[[Disk, Batch], None],
        recorded: Callable[[Disk, Snapshot], None],
    ) -> None:
        self.name = name
        self.incarnation = incarnation
        self.boundary: Callable[[], None] = _nothing
        self.failing = 0
        self.failed_once = False
        self.survives = False
        self.ballot = Ballot()
        self.terms: list[int] = []
        self.checksums: list[int] = []
        self.damaged = False
        self.first = 1
        self.snapshot: Snapshot | None = None
        self.files = Files()
        self.values: list[bytes] = []
        self.meta: dict[str, bytes] = {}
        self._written = written
        self._recorded = recorded
        plain = {"format": b"%d" % FORMAT, "name": name.encode(), "incarnation": incarnation.encode()}
        self.meta.update({key: seal(key, value) for key, value in plain.items()} | ballot_value(Ballot()))

    def term_at(self, index: int) -> int:
        """The term of the entry at ``index``, 0 if there is none."""
        return self.terms[index - 1] if 0 < index <= len(self.terms) else 0

    def note(self, batch: Batch) -> None:
        """Read what a batch that is on the medium says."""
        if batch.truncate_from is not None:
            del self.terms[batch.truncate_from - 1 :]
            del self.checksums[batch.truncate_from - 1 :]
        if "snapshot" in batch.meta:
            self.snapshot = _snapshot.decode(batch.meta["snapshot"][4:])
            self._recorded(self, self.snapshot)
        for _, record in batch.entries:
            checksum, _, _, term = _HEAD.unpack_from(record)
            self.terms.append(term)
            self.checksums.append(checksum)
        if "ballot" in batch.meta:
            self.ballot = _ballot.decode(batch.meta["ballot"][4:])
        self._written(self, batch)

    def damage(self, index: int, bit: int) -> None:
        """Flip one bit of the record at ``index``, or of a value beside the log if that is 0."""
        self.damaged = True
        if index:
            place = index - self.first
            self.values[place] = _flipped(self.values[place], bit)
        else:
            key = sorted(self.meta)[bit % len(self.meta)]
            self.meta[key] = _flipped(self.meta[key], bit)


def _flipped(value: bytes, bit: int) -> bytes:
    changed = bytearray(value)
    changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    return bytes(changed)


class SimulatedAdapter(MemoryAdapter):
    """One opening of a disk.

    Args:
        disk: the medium.
    """

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk.name)
        self._values = disk.values
        self._meta = disk.meta
        self._first = disk.first
        self._disk = disk
        self._broken = False

    def write(self, batch: Batch) -> None:
        """Make a batch durable, or fail, or die on the way."""
        disk = self._disk
        if self._broken:
            raise StorageError("the disk failed before", errno=errno.EIO)
        disk.boundary()
        fails = disk.failing > 0
        if not fails or disk.survives:
            super().write(batch)
            disk.note(batch)
        if fails:
            disk.failing -= 1
            disk.failed_once = self._broken = True
            raise StorageError("the disk failed", errno=errno.EIO)
        disk.boundary()

    def read(self, first: int, last: int, max_bytes: int) -> list[Entry]:
        """Return entries, or fail."""
        if self._disk.failing > 0:
            self._disk.failing -= 1
            self._disk.failed_once = True
            raise StorageError("the disk cannot be read", errno=errno.EIO)
        return super().read(first, last, max_bytes)

    def compact(self, through: int) -> None:
        """Drop a prefix, or fail, or die on the way."""
        disk = self._disk
        if self._broken:
            raise StorageError("the disk failed before", errno=errno.EIO)
        disk.boundary()
        super().compact(through)
        disk.first = self._first
        disk.boundary()

    def stats(self) -> dict[str, Any]:
        """As ``MemoryAdapter``; the engine is called ``simulated``."""
        return {**super().stats(), "engine": "simulated"}
