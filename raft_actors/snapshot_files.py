"""One snapshot that is being written, received or read.

Rule: a file has its own name only when every byte of it is durable::

    temporary file ... -> end frame -> sync -> rename -> sync of the folder
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from msgspec.structs import replace

from raft_actors.protocol.snapshot import Snapshot
from raft_actors.snapshot_format import LOG, SESSIONS, STATE, DamagedFrame, FrameReader, FrameWriter, Header

if TYPE_CHECKING:
    from raft_actors.folders import Folder, ReadableFile

__all__ = [
    "DRAFT",
    "SUFFIX",
    "DamagedSnapshot",
    "SnapshotInput",
    "SnapshotOutput",
    "SnapshotReader",
    "check",
    "file_name",
    "frames_of",
    "is_ours",
    "naming",
    "read_snapshot",
]

SYNC_BYTES = 4 << 20
"""So much is written between two syncs: one sync of everything at the end would hold up the log's own for long."""


class DamagedSnapshot(Exception):
    """A snapshot is not what was written.

    Attributes:
        id: the snapshot.
        reason: what is wrong with it, as the rest of a sentence that begins with the snapshot.
    """

    def __init__(self, snapshot_id: str, reason: str) -> None:
        super().__init__(f"snapshot {snapshot_id} {reason}")
        self.id = snapshot_id
        self.reason = reason


SUFFIX, DRAFT = ".snap", ".part"
"""How the names of snapshots end, and of temporary files."""
_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


def file_name(snapshot_id: str) -> str:
    """The name of the file of a snapshot.

    Raises:
        DamagedSnapshot: no snapshot has such an id; it may come from another process, and is no path.
    """
    if not _ID.fullmatch(snapshot_id):
        raise DamagedSnapshot(repr(snapshot_id[:80]), "has a name that no snapshot has")
    return snapshot_id + SUFFIX


def is_ours(name: str) -> bool:
    """Tell whether a file is a snapshot or a temporary file; others are left alone."""
    return name.endswith((SUFFIX, DRAFT))


class _Draft:
    """A temporary file that becomes a snapshot or goes away.

    Args:
        folder: where.
        name: of the temporary file.
        done: called when it is over, with the snapshot, or ``None`` if there is none.

    Attributes:
        failure: the error of the disk while it was written, if there was one.
    """

    failure: OSError | None = None

    def __init__(self, folder: Folder, name: str, done: Callable[[Snapshot | None], None]) -> None:
        self._folder = folder
        self._name = name
        self._done = done
        self._file = folder.create(name)
        self._size = 0
        self._synced = 0
        self._over = False

    def abort(self) -> None:
        """Give it up and remove the file. Nothing happens if it is over already."""
        if self._over:
            return
        self._over = True
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._folder.remove(self._name)
        self._done(None)

    def _write(self, data: bytes) -> None:
        if self._over:
            raise ValueError("the snapshot is finished or given up")
        try:
            self._file.write(data)
            self._size += len(data)
            if self._size - self._synced >= SYNC_BYTES:
                self._file.sync()
                self._synced = self._size
        except OSError as error:
            self.failure = error
            raise

    def _finish(self, snapshot: Snapshot) -> Snapshot:
        """Give the synced file its name, durably."""
        self._folder.rename(self._name, file_name(snapshot.id))
        self._folder.sync()
        self._over = True
        self._done(snapshot)
        return snapshot


class SnapshotOutput(_Draft):
    """A snapshot that is being taken; a file for the machine to write its state to.

    Attributes:
        snapshot: what it stands for, without its size.
        codec: name of the codec of its commands.
        version: of the machine.
    """

    def __init__(self, folder: Folder, name: str, done: Callable[[Snapshot | None], None], header: Header) -> None:
        file_name(header.snapshot.id)
        super().__init__(folder, name, done)
        self.snapshot = header.snapshot
        self.codec = header.codec
        self.version = header.version
        try:
            self._frames = FrameWriter(self._write, header)
        except BaseException:
            self.abort()
            raise

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append bytes of state, and return how many.

        Raises:
            OSError: the disk failed.
            ValueError: it is finished or given up.
        """
        self._frames.state(data)
        return len(data)

    def sessions(self, data: bytes) -> None:
        """Append bytes of the session table; before any state.

        Raises:
            OSError: the disk failed.
            ValueError: it is finished or given up, or has state already.
        """
        self._frames.sessions(data)

    def commit(self) -> Snapshot:
        """Make it durable under its own name; it is the log's when the log has recorded it.

        Raises:
            OSError: the disk failed; it is given up.
        """
        try:
            self._frames.end()
            self._file.sync()
            self._file.close()
            return self._finish(replace(self.snapshot, size=self._size))
        except BaseException:
            self.abort()
            raise


class SnapshotInput(_Draft):
    """A snapshot that is being received from another peer.

    Attributes:
        id: the snapshot.
    """

    def __init__(self, folder: Folder, name: str, done: Callable[[Snapshot | None], None], snapshot_id: str) -> None:
        file_name(snapshot_id)
        super().__init__(folder, name, done)
        self.id = snapshot_id

    @property
    def received(self) -> int:
        """How many bytes of the file are here."""
        return self._size

    def append(self, data: bytes) -> None:
        """Append the next bytes of the file.

        Raises:
            OSError: the disk failed.
            ValueError: it is finished or given up.
        """
        self._write(data)

    def commit(self) -> Snapshot:
        """Check all of it and make it durable under its own name.

        Raises:
            DamagedSnapshot: it is not a whole snapshot of that id; it is given up.
            OSError: the disk failed; it is given up.
        """
        try:
            self._file.sync()
            self._file.close()
            with self._folder.open(self._name) as file:
                snapshot = check(self.id, file).snapshot
            return self._finish(replace(snapshot, size=self._size))
        except BaseException:
            self.abort()
            raise


class SnapshotReader(io.BufferedReader):
    """The state in a snapshot, as a file for the machine to load it from. No byte of it comes unchecked.

    What the machine read is the whole state only if ``finish`` returns: a machine may stop early.

    Attributes:
        snapshot: what it stands for.
        cluster: id of the cluster.
        codec: name of the codec of its commands.
        version: of the machine that wrote it.
        sessions: the session table, as bytes.
    """

    def __init__(self, snapshot_id: str, file: ReadableFile) -> None:
        """Begin to read; the file is closed with this object.

        Raises:
            DamagedSnapshot: its beginning is damaged, or it is another snapshot.
        """
        try:
            self._frames = frames_of(snapshot_id, file.read)
            header = self._frames.header
            self._state = _State(snapshot_id, self._frames, file)
            super().__init__(self._state, 1 << 16)
        except BaseException:
            file.close()
            raise
        self.snapshot = replace(header.snapshot, size=file.size)
        self.cluster = header.cluster
        self.codec = header.codec
        self.version = header.version
        self.sessions = self._state.sessions

    def finish(self) -> None:
        """Check what was not read, up to the end of the file.

        Raises:
            DamagedSnapshot: the rest is damaged, or the file ends too early or too late.
        """
        self._state.finish()


class _State(io.RawIOBase):
    """The payloads of the state frames, one after the other; those of the sessions before them are kept apart."""

    def __init__(self, snapshot_id: str, frames: FrameReader, file: ReadableFile) -> None:
        self._id = snapshot_id
        self._frames = frames
        self._file = file
        self._rest = memoryview(b"")
        self._ended = False
        self.sessions = bytearray()
        while not self._ended and not self._rest:
            self._next()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            if self._ended or not self._next():
                return 0
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def finish(self) -> None:
        while not self._ended:
            self._next()

    def close(self) -> None:
        self._file.close()
        super().close()

    def _next(self) -> bool:
        """Check the next frame and keep it if it is of the state."""
        with naming(self._id):
            frame = self._frames.next()
        if frame is None:
            self._ended = True
            return False
        if frame[0] == SESSIONS:
            self.sessions += frame[1]
        elif frame[0] == STATE:
            self._rest = memoryview(frame[1])
        return True  # the log of a backup image: of no interest here, and checked all the same


def check(snapshot_id: str, file: ReadableFile) -> Header:
    """Check every byte of a snapshot that is open.

    Raises:
        DamagedSnapshot: something is wrong with it.
    """
    frames = frames_of(snapshot_id, file.read)
    with naming(snapshot_id):
        while frame := frames.next():
            if frame[0] == LOG:
                raise DamagedFrame("is a backup image")
    return frames.header


def read_snapshot(name: str, file: ReadableFile) -> Snapshot | None:
    """Return what the file ``name`` stands for, or ``None`` if its beginning does not say it."""
    try:
        frames = FrameReader(file.read)
    except DamagedFrame:
        return None
    snapshot = replace(frames.header.snapshot, size=file.size)
    return snapshot if name == snapshot.id + SUFFIX else None


def frames_of(snapshot_id: str, read: Callable[[int], bytes]) -> FrameReader:
    """Begin to check a file that should be the snapshot of that id.

    Raises:
        DamagedSnapshot: its beginning is damaged, or it is another one.
    """
    with naming(snapshot_id):
        frames = FrameReader(read)
        found = frames.header.snapshot.id
        if found != snapshot_id:
            raise DamagedFrame(f"is another one: {found}")
        return frames


@contextlib.contextmanager
def naming(snapshot_id: str) -> Iterator[None]:
    """Say which snapshot is damaged."""
    try:
        yield
    except DamagedFrame as error:
        raise DamagedSnapshot(snapshot_id, str(error)) from error
