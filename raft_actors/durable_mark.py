"""The durable-tail mark: a small file beside the engine that remembers how far the log was safely on disk.

An engine that loses its newest entries opens as if they had never been: a vote or an acknowledgement is forgotten, and
the cluster may lose what it promised. The mark tells such a loss from a tail that was never promised.

Rule: **the mark may lag, it never leads.** ::

    append     engine commits and syncs -> mark says so                          a crash in between: it lags
    truncate   mark is lowered and synced -> engine truncates -> mark says so    a crash in between: it lags

It is rewritten in place after every commit without a sync (a crash of the process loses nothing; a power cut sets it
back to what the system wrote last), and synced at most once a second and when the store is closed. Of stores that share
one flush, at most ``MOST_SYNCS`` marks are synced a second.

The file ``TAIL``, one block that no disk tears, little-endian::

    offset  bytes  field
         0      8  "RAFTTAIL"
         8      2  version of this layout: 1
        10      1  1 if the store was closed cleanly, else 0
        11      1  0
        12     16  incarnation of the store, ASCII
        28      8  index  \
        36      8  term    } of the last durable entry (or of what was compacted before it)
        44      4  chain  /
        48      8  term of the newest durable ballot
        56      4  its vote: CRC-32 of the name, 0 for none
        60      8  size of data.mdb, 0 if there is no such file
        68      8  its time of modification in nanoseconds since the epoch
        76      4  CRC-32 of everything before

LMDB maps its file into the process, and one mangled page of it can kill the process. Size and time show on opening
whether the file is exactly as this program left it; if not, another process reads it first (``store_probe``).
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from zlib import crc32

from msgspec import Struct

from raft_actors.protocol.types import Ballot, LogPosition

__all__ = ["SYNC_INTERVAL", "Mark", "MarkFile", "data_file_state", "mark_path", "read_mark", "vote_number"]

SYNC_INTERVAL: Final = 1.0
"""Seconds between two syncs of the mark while the store is written to."""
MOST_SYNCS: Final = 20
"""How many marks of stores that share a flush are synced within ``SYNC_INTERVAL``."""

_LAYOUT = struct.Struct("<8sHBx16sQQIQIQq")
_CRC = struct.Struct("<I")
_MAGIC = b"RAFTTAIL"
_VERSION = 1


class Mark(Struct, frozen=True):
    """What the file says.

    Attributes:
        incarnation: identity of the store.
        last: position of the last durable entry.
        chain: its chain value.
        ballot_term: term of the newest durable ballot.
        vote: ``vote_number`` of that ballot.
        data: size and time of modification of the engine's data file, ``(0, 0)`` if it has none of that name.
        clean: whether the store was closed in order.
    """

    incarnation: str
    last: LogPosition
    chain: int
    ballot_term: int
    vote: int
    data: tuple[int, int]
    clean: bool = False


def vote_number(ballot: Ballot) -> int:
    """Return a number that stands for whom ``ballot`` votes for, 0 for nobody."""
    return 0 if ballot.voted_for is None else crc32(ballot.voted_for.encode()) or 1


def mark_path(store: Path) -> Path:
    """Return where the mark of ``store`` is: in its folder, or beside it if an adapter made it a single file."""
    return store.with_name(store.name + ".TAIL") if store.is_file() else store / "TAIL"


def data_file_state(store: Path) -> tuple[int, int]:
    """Return size and time of modification (ns) of the file that LMDB maps, ``(0, 0)`` if there is none."""
    try:
        return _state_of(str(store / "data.mdb"))
    except (FileNotFoundError, NotADirectoryError):
        return 0, 0


def _state_of(file: str) -> tuple[int, int]:
    state = os.stat(file)
    return state.st_size, state.st_mtime_ns


def encode(mark: Mark) -> bytes:
    """Return the contents of the file."""
    body = _LAYOUT.pack(
        _MAGIC,
        _VERSION,
        mark.clean,
        mark.incarnation.encode(),
        mark.last.index,
        mark.last.term,
        mark.chain,
        mark.ballot_term,
        mark.vote,
        *mark.data,
    )
    return body + _CRC.pack(crc32(body))


def decode(block: bytes) -> Mark | None:
    """Return what the file says, or ``None`` if these bytes are no whole mark of a version we know."""
    body, checksum = block[: _LAYOUT.size], block[_LAYOUT.size :]
    if len(body) < _LAYOUT.size or checksum != _CRC.pack(crc32(body)):
        return None
    magic, version, clean, incarnation, index, term, chain, ballot_term, vote, size, changed = _LAYOUT.unpack(body)
    if magic != _MAGIC or version != _VERSION:
        return None
    name = incarnation.rstrip(b"\0").decode("ascii", "replace")
    return Mark(name, LogPosition(term, index), chain, ballot_term, vote, (size, changed), bool(clean))


def read_mark(store: Path) -> Mark | None:
    """Return the mark of a store, or ``None`` if it is missing or cannot be read as one.

    Raises:
        OSError: the file is there and the disk does not give it.
    """
    try:
        return decode(mark_path(store).read_bytes())
    except FileNotFoundError:
        return None


class MarkFile:
    """The mark of an open store, written by one thread at a time, by whoever holds the store's lock."""

    def __init__(self, store: Path, incarnation: str, sharers: Callable[[], int] = lambda: 1) -> None:
        """Open the file of a store that is open already, or make it; nothing is written yet.

        Args:
            store: its folder.
            incarnation: its identity.
            sharers: tells how many stores share its flush. The more, the rarer is each mark synced: one flush for all
                would be worth nothing if every mark had one of its own.

        Raises:
            OSError: it cannot be opened.
        """
        data = store / "data.mdb"
        self._data_file = str(data) if data.exists() else ""
        self._incarnation = incarnation
        self._sharers = sharers
        path = mark_path(store)
        self._new_in: Path | None = None if path.exists() else path.parent
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._synced_at = float("-inf")
        self._dirty = False

    def put(self, last: LogPosition, chain: int, ballot: Ballot, *, clean: bool = False) -> None:
        """Write what is durable in the store now; not synced.

        Raises:
            OSError: the disk failed.
        """
        data = _state_of(self._data_file) if self._data_file else (0, 0)
        mark = Mark(self._incarnation, last, chain, ballot.term, vote_number(ballot), data, clean)
        os.pwrite(self._descriptor, encode(mark), 0)
        self._dirty = True

    def sync(self) -> None:
        """Bring what was written, and the file's name if it is new, to the disk.

        Raises:
            OSError: the disk failed; what is on it is unknown.
        """
        os.fdatasync(self._descriptor)
        if self._new_in is not None:
            folder, self._new_in = self._new_in, None
            _sync_folder(folder)
        self._synced_at = time.monotonic()
        self._dirty = False

    def sync_if_due(self) -> None:
        """Sync if something was written and the last time is long enough ago.

        Raises:
            OSError: as for ``sync``.
        """
        if self._dirty and time.monotonic() - self._synced_at >= SYNC_INTERVAL * max(1, self._sharers() / MOST_SYNCS):
            self.sync()

    def close(self) -> None:
        """Let go of the file, as it is. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
