"""The snapshots of one peer in their folder, ``ID.snap`` each: taken, received, read, sent, and removed.

Rule: what has a name is whole and durable (``snapshot_files``); which of them count is known to the log alone
(``log_store``), so none is removed here unless the log says so.

One thread at a time may take, one may receive, and any may read, send and remove.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator

from msgspec.structs import replace

from raft_actors.folders import Folder
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.snapshot_files import (
    DRAFT,
    SUFFIX,
    DamagedSnapshot,
    SnapshotInput,
    SnapshotOutput,
    SnapshotReader,
    check,
    file_name,
    is_ours,
    read_snapshot,
)
from raft_actors.snapshot_format import Header
from raft_actors.snapshot_sending import SentFiles

__all__ = ["DamagedSnapshot", "SnapshotInput", "SnapshotOutput", "SnapshotReader", "SnapshotStore"]

_TAKING, _RECEIVING = f"taken{DRAFT}", f"received{DRAFT}"


class SnapshotStore:
    """The snapshots in a folder.

    Args:
        folder: whose files these are; nothing else lies in it.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._drafts: set[str] = set()
        self._known = {snapshot.id: snapshot for snapshot in self.found()}
        self._sending = SentFiles(folder)

    def create(self, snapshot: Snapshot, *, cluster: str, codec: str, version: int) -> SnapshotOutput:
        """Begin to take a snapshot.

        Args:
            snapshot: what it stands for; its size is not known yet.
            cluster: id of the cluster.
            codec: name of the codec of its commands.
            version: of the machine.

        Raises:
            OSError: the disk failed.
            ValueError: another one is being taken.
        """
        header = Header(replace(snapshot, size=0), cluster, codec, version)
        with self._beginning(_TAKING) as over:
            return SnapshotOutput(self.folder, _TAKING, over, header)

    def receive(self, snapshot_id: str) -> SnapshotInput:
        """Begin to receive a snapshot.

        Raises:
            DamagedSnapshot: no snapshot has such an id.
            OSError: the disk failed.
            ValueError: another one is being received.
        """
        with self._beginning(_RECEIVING) as over:
            return SnapshotInput(self.folder, _RECEIVING, over, snapshot_id)

    def open(self, snapshot_id: str) -> SnapshotReader:
        """Begin to read the state of a snapshot.

        Raises:
            DamagedSnapshot: its beginning is damaged.
            OSError: it is gone (``FileNotFoundError``), or the disk failed.
        """
        return SnapshotReader(snapshot_id, self.folder.open(file_name(snapshot_id)))

    def chunk(self, snapshot_id: str, offset: int, max_bytes: int) -> bytes | None:
        """Return bytes of the file as they lie there, for sending.

        They are checked on the way, once: the receiver would refuse a damaged snapshot only when it has all of it.

        A file of which something was sent goes on to be there for this method after it was removed, until ``sent``.

        Args:
            snapshot_id: which.
            offset: where to begin.
            max_bytes: how many at most; none are left at the end of the file.

        Returns:
            The bytes, or ``None`` if the snapshot is gone.

        Raises:
            DamagedSnapshot: it is damaged before the end of these bytes.
            OSError: the disk failed.
        """
        return self._sending.read(snapshot_id, offset, max_bytes)

    def sent(self, snapshot_id: str) -> None:
        """Nobody is being sent this snapshot any more: if it was removed, its room is free now."""
        self._sending.let_go(snapshot_id)

    def get(self, snapshot_id: str) -> Snapshot | None:
        """Return the snapshot of that id, or ``None`` if it is not here."""
        return self._known.get(snapshot_id)

    def found(self) -> list[Snapshot]:
        """Return the snapshots whose headers can be read, newest first; their states are not looked at.

        Raises:
            OSError: the disk failed.
        """
        found = []
        for name in self.folder.names():
            if name.endswith(SUFFIX):
                with contextlib.suppress(FileNotFoundError), self.folder.open(name) as file:
                    snapshot = read_snapshot(name, file)
                    if snapshot is not None:
                        found.append(snapshot)
        return sorted(found, key=lambda snapshot: (snapshot.last.index, snapshot.last.term), reverse=True)

    def verify(self, snapshot_id: str) -> list[str]:
        """Return what is wrong with a snapshot, every byte of which is read; nothing if it is sound.

        Raises:
            OSError: the disk failed.
        """
        try:
            with self.folder.open(file_name(snapshot_id)) as file:
                check(snapshot_id, file)
        except DamagedSnapshot as damage:
            return [str(damage)]
        except FileNotFoundError:
            return [f"snapshot {snapshot_id} is missing"]
        return []

    def retain(self, ids: Collection[str]) -> None:
        """Remove all snapshots and temporary files but these snapshots; while nothing is taken or received.

        A removal is not synced: what a power cut brings back is removed again when the store is opened.

        Raises:
            OSError: the disk failed.
        """
        kept = {file_name(snapshot_id) for snapshot_id in ids}
        with self._lock:
            for snapshot_id in self._known.keys() - set(ids):
                del self._known[snapshot_id]
            doomed = [name for name in self.folder.names() if is_ours(name) and name not in kept]
        self._remove(doomed)

    def supersede(self, recorded: Snapshot, reach: int, damaged: Collection[str] = ()) -> None:
        """Remove what ``recorded`` takes the place of: every older snapshot but the newest that is of any use.

        One that is newer is not recorded yet, and stays.

        Args:
            recorded: what the log goes on from.
            reach: an older snapshot is of use if it does not end before this index: the log goes on from there.
            damaged: ids of snapshots that are of no use.

        Raises:
            OSError: the disk failed.
        """
        with self._lock:
            old = [
                one for one in self._known.values() if one.last.index <= recorded.last.index and one.id != recorded.id
            ]
            useful = [one for one in old if one.last.index >= reach and one.id not in damaged]
            kept = {max(useful, key=lambda one: one.last.index).id} if useful else set()
            doomed = ({one.id for one in old} | set(damaged)) - kept
            for snapshot_id in doomed:
                self._known.pop(snapshot_id, None)
        self._remove([file_name(snapshot_id) for snapshot_id in sorted(doomed)])

    def close(self) -> None:
        """Let go of the files that are open for sending; what is being taken or received stays a temporary file."""
        self._sending.close()

    def _remove(self, names: list[str]) -> None:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                self.folder.remove(name)
        if names:
            self._sending.retire(self._known)

    @contextlib.contextmanager
    def _beginning(self, name: str) -> Iterator[Callable[[Snapshot | None], None]]:
        """Keep the temporary file ``name`` for one draft, until that is over or could not begin."""
        with self._lock:
            if name in self._drafts:
                raise ValueError(f"{name} is in use: one snapshot at a time")
            self._drafts.add(name)

        def over(snapshot: Snapshot | None) -> None:
            with self._lock:
                if snapshot is not None:
                    self._known[snapshot.id] = snapshot
                    self._sending.let_go(snapshot.id)
                self._drafts.discard(name)

        try:
            yield over
        except BaseException:
            over(None)
            raise
