"""The snapshots of one peer behind a disk that is slow, fails or hangs.

What takes long or fails on a real disk does so here: syncs are slow and fail, everything hangs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raft_actors.folders import Folder, ReadableFile, WritableFile
from storage_adapters import StorageError

if TYPE_CHECKING:
    from raft_actors.testing.disk import Disk

__all__ = ["FaultyFolder"]


class FaultyFolder(Folder):
    """A folder behind a ``Disk``.

    Args:
        disk: its faults.
        inner: the real one.

    Attributes:
        off: the peer is gone.
    """

    def __init__(self, disk: Disk, inner: Folder) -> None:
        self.off = False
        self._disk = disk
        self._inner = inner

    def names(self) -> list[str]:
        """The names of all files."""
        self.reach()
        return self._inner.names()

    def create(self, name: str) -> WritableFile:
        """A new file."""
        self.reach()
        return _FaultyOutput(self, self._inner.create(name))

    def open(self, name: str) -> ReadableFile:
        """The file of that name."""
        self.reach()
        return _FaultyInput(self, self._inner.open(name))

    def rename(self, old: str, new: str) -> None:
        """Rename a file."""
        self.reach()
        self._inner.rename(old, new)

    def remove(self, name: str) -> None:
        """Remove a file."""
        self.reach()
        self._inner.remove(name)

    def sync(self) -> None:
        """Wait, then fail or make the names durable."""
        self.reach(sync=True)
        self._inner.sync()

    def reach(self, *, sync: bool = False) -> None:
        """Wait as long as the disk takes, and fail if it does.

        Raises:
            OSError: the disk fails, or its peer is gone.
        """
        try:
            self._disk.wait(self, delay=sync)
            if sync:
                self._disk.fail_if_due()
        except StorageError as error:
            raise OSError(error.errno or 0, str(error)) from error


class _FaultyOutput(WritableFile):
    def __init__(self, folder: FaultyFolder, inner: WritableFile) -> None:
        self._folder = folder
        self._inner = inner

    def write(self, data: bytes) -> None:
        self._folder.reach()
        self._inner.write(data)

    def sync(self) -> None:
        self._folder.reach(sync=True)
        self._inner.sync()

    def close(self) -> None:
        self._inner.close()


class _FaultyInput(ReadableFile):
    def __init__(self, folder: FaultyFolder, inner: ReadableFile) -> None:
        self._folder = folder
        self._inner = inner

    @property
    def size(self) -> int:
        return self._inner.size

    def read(self, count: int) -> bytes:
        self._folder.reach()
        return self._inner.read(count)

    def seek(self, offset: int) -> None:
        self._inner.seek(offset)

    def close(self) -> None:
        self._inner.close()
