"""Files of snapshots while they are sent: they stay open, and are checked on the way.

A removed file goes on to be there for whoever is receiving it. A damaged one is noticed here, where another can be
taken: a receiver knows only when it has all of it, and would be sent the same again.
"""

from __future__ import annotations

import threading
from collections.abc import Collection

from raft_actors.folders import Folder
from raft_actors.snapshot_files import DamagedSnapshot, file_name, frames_of, naming
from raft_actors.snapshot_format import FrameReader

__all__ = ["SentFiles"]

_MOST_OPEN = 4
"""More files than this are not kept open."""
_PATIENCE = 16
"""How many removals a removed file waits for being asked for again."""


class SentFiles:
    """The files that are being sent.

    They are few, and a removed one that was not asked for while many others were removed is let go: its room on the
    disk is wanted.

    Args:
        folder: where they are.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._files: dict[str, _SentFile] = {}
        self._removals = 0
        self._wanted_at: dict[str, int] = {}

    def read(self, snapshot_id: str, offset: int, count: int) -> bytes | None:
        """Return bytes of a file, ``None`` if it is gone.

        Raises:
            DamagedSnapshot: it is damaged before the end of these bytes.
            OSError: the disk failed.
        """
        with self._lock:
            file = self._files.get(snapshot_id)
            if file is None:
                try:
                    file = _SentFile(self._folder, snapshot_id)
                except FileNotFoundError:
                    return None
                if len(self._files) >= _MOST_OPEN:
                    self._let_go(next(iter(self._files)))
            self._files[snapshot_id] = self._files.pop(snapshot_id, file)  # the one in use longest ago comes first
            self._wanted_at[snapshot_id] = self._removals
            return file.read(offset, count)

    def let_go(self, snapshot_id: str) -> None:
        """Nobody wants this file any more, or there is another one under its name."""
        with self._lock:
            self._let_go(snapshot_id)

    def retire(self, known: Collection[str]) -> None:
        """Files were removed; those of ``known`` are there."""
        with self._lock:
            self._removals += 1
            for snapshot_id in self._files.keys() - set(known):
                if self._removals - self._wanted_at[snapshot_id] > _PATIENCE:
                    self._let_go(snapshot_id)

    def close(self) -> None:
        """Let go of all files."""
        with self._lock:
            for snapshot_id in list(self._files):
                self._let_go(snapshot_id)

    def _let_go(self, snapshot_id: str) -> None:
        file = self._files.pop(snapshot_id, None)
        if file is not None:
            file.close()


class _SentFile:
    """One file. What is read in its order is checked before it is handed out, once.

    Who goes on with a part that it has gets the rest unchecked: checking all that comes before takes long, and if the
    rest is damaged, it begins anew.
    """

    def __init__(self, folder: Folder, snapshot_id: str) -> None:
        self._id = snapshot_id
        self._file = folder.open(file_name(snapshot_id))
        self._frames: FrameReader | None = None
        self._checked = 0
        self._damage: DamagedSnapshot | None = None
        self._whole = False

    def read(self, offset: int, count: int) -> bytes:
        if offset <= self._checked:
            self._check(offset + count)
        self._file.seek(offset)
        return self._file.read(count)

    def close(self) -> None:
        self._file.close()

    def _check(self, end: int) -> None:
        if self._damage is not None:
            raise self._damage
        try:
            while self._checked < end and not self._whole:
                self._check_frame()
        except DamagedSnapshot as damage:
            self._damage = damage
            raise

    def _check_frame(self) -> None:
        if self._frames is None:
            self._checked = 0
            self._frames = frames_of(self._id, self._next)
            return
        with naming(self._id):
            self._whole = self._frames.next() is None

    def _next(self, count: int) -> bytes:
        self._file.seek(self._checked)
        data = self._file.read(count)
        self._checked += len(data)
        return data
