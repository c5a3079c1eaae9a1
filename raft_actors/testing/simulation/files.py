"""The files beside a simulated disk: what a folder that keeps its promises, and no more, leaves behind.

The real snapshot code runs on it. A process that dies leaves what it wrote; a power cut leaves of each file what was
synced and perhaps some of the rest, torn at 512 bytes, and of the names those as of the last sync of the folder, each
later change done or not.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from raft_actors.folders import Folder, ReadableFile, WritableFile

if TYPE_CHECKING:
    from raft_actors.testing.simulation.disk import Disk

__all__ = ["Files", "SimulatedFolder"]

SECTOR = 512


class _File:
    """Bytes, and how many of them are safe."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.synced = 0


class Files:
    """The files of one medium.

    Attributes:
        now: by name, as the system shows them.
        safe: by name, as of the last sync of the folder.
        damaged: whether one of them was damaged.
    """

    def __init__(self) -> None:
        self.now: dict[str, _File] = {}
        self.safe: dict[str, _File] = {}
        self.damaged = False

    def power_cut(self, rng: Random) -> None:
        """Lose what was not synced, or a part of it."""
        names = sorted({*self.now, *self.safe})
        kept = {name: rng.choice((self.now, self.safe)).get(name) for name in names}
        self.now = {name: file for name, file in kept.items() if file is not None}
        self.safe = dict(self.now)
        for file in self.now.values():
            loose = len(file.data) - file.synced
            if loose > 0:
                del file.data[file.synced + min(loose, rng.randrange(loose // SECTOR + 2) * SECTOR) :]
                file.synced = len(file.data)

    def damage(self, name: str, bit: int | None) -> None:
        """Flip one bit of a file; ``None`` takes the file away."""
        file = self.now.get(name)
        if file is None:
            return
        self.damaged = True
        if bit is None:
            del self.now[name]
            self.safe.pop(name, None)
        else:
            file.data[bit // 8 % len(file.data)] ^= 1 << bit % 8

    def is_safe(self, name: str) -> bool:
        """Whether a power cut leaves the file of this name as it is."""
        file = self.safe.get(name)
        return file is not None and file is self.now.get(name) and file.synced == len(file.data)


class SimulatedFolder(Folder):
    """One opening of the files of a disk; after its process has died, every further call dies too.

    Args:
        disk: the medium.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._files = disk.files
        self._dead: BaseException | None = None

    def step(self, work: Callable[[], None]) -> None:
        """Do one thing to the medium, or fail, or die before or after it."""
        if self._dead is not None:
            raise self._dead
        try:
            self._disk.boundary()
            if self._disk.failing > 0:
                self._disk.failing -= 1
                self._disk.failed_once = True
                raise OSError(errno.ENOSPC, "the disk is full")
            work()
            self._disk.boundary()
        except OSError:
            raise
        except BaseException as death:
            self._dead = death
            raise

    def names(self) -> list[str]:
        """The names of all files."""
        return sorted(self._files.now)

    def create(self, name: str) -> WritableFile:
        """A new file."""
        file = _File()
        self.step(lambda: self._files.now.update({name: file}))
        return _Output(self, file)

    def open(self, name: str) -> ReadableFile:
        """The file of that name."""
        if name not in self._files.now:
            raise FileNotFoundError(errno.ENOENT, "there is no such file", name)
        return _Input(self._files.now[name])

    def rename(self, old: str, new: str) -> None:
        """Rename a file."""
        self.step(lambda: self._files.now.update({new: self._files.now.pop(old)}))

    def remove(self, name: str) -> None:
        """Remove a file."""
        if name not in self._files.now:
            raise FileNotFoundError(errno.ENOENT, "there is no such file", name)
        self.step(lambda: self._files.now.__delitem__(name))

    def sync(self) -> None:
        """Make the names durable."""
        self.step(self._sync)

    def _sync(self) -> None:
        self._files.safe = dict(self._files.now)


class _Output(WritableFile):
    def __init__(self, folder: SimulatedFolder, file: _File) -> None:
        self._folder = folder
        self._file = file

    def write(self, data: bytes) -> None:
        piece = bytes(data)
        self._folder.step(lambda: self._file.data.extend(piece))

    def sync(self) -> None:
        self._folder.step(self._sync)

    def _sync(self) -> None:
        self._file.synced = len(self._file.data)

    def close(self) -> None:
        pass


class _Input(ReadableFile):
    def __init__(self, file: _File) -> None:
        self._data = file.data
        self._offset = 0

    @property
    def size(self) -> int:
        return len(self._data)

    def read(self, count: int) -> bytes:
        data = bytes(self._data[self._offset : self._offset + count])
        self._offset += len(data)
        return data

    def seek(self, offset: int) -> None:
        self._offset = offset

    def close(self) -> None:
        pass
