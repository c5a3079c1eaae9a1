"""A folder of files, as far as snapshots need one: the only way in which they touch a disk.

What a caller may rely on is what a power cut leaves:

* the bytes of a file up to its last ``sync``; of what came after, anything may be there, or nothing;
* the names as of the last ``sync`` of the folder; a ``create``, ``rename`` or ``remove`` after it may be there or not,
  but a ``rename`` puts the old or the new file under a name, never half of one.

An open file stays readable after it was removed or replaced.

A system frees the room of a large file in one go, when its last name and its last opening are gone (1 GB: 0.2 s). A
thread of its own waits for that: whoever removes a file may be the one who writes the log.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from storage_adapters import folder as disk

LARGE_BYTES = 16 << 20
"""Freeing less than this takes a few milliseconds at most."""

__all__ = ["DiskFolder", "Folder", "MemoryFolder", "ReadableFile", "WritableFile"]


class _File(ABC):
    """Something open; closed at the end of a ``with``."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file. Idempotent.

        Raises:
            OSError: what was written did not reach the system.
        """

    def __enter__(self) -> Self:
        """Return the file, which is open since it was made."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()


class WritableFile(_File):
    """A new file that is written from its beginning to its end. Every method may raise ``OSError``."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Append ``data``; nothing is durable yet."""

    @abstractmethod
    def sync(self) -> None:
        """Make everything that was written durable."""


class ReadableFile(_File):
    """A file that is read. Every method may raise ``OSError``."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many bytes it has."""

    @abstractmethod
    def read(self, count: int) -> bytes:
        """Return the next ``count`` bytes; fewer only at the end."""

    @abstractmethod
    def seek(self, offset: int) -> None:
        """Go on reading at ``offset``."""


class Folder(ABC):
    """Files by name. Every method may raise ``OSError``; a name that is not there is a ``FileNotFoundError``."""

    @abstractmethod
    def names(self) -> list[str]:
        """The names of all files, in order; none if the folder was never made."""

    @abstractmethod
    def create(self, name: str) -> WritableFile:
        """A new, empty file, in the place of one that has the name already."""

    @abstractmethod
    def open(self, name: str) -> ReadableFile:
        """The file of that name, at its beginning."""

    @abstractmethod
    def rename(self, old: str, new: str) -> None:
        """Give the file ``old`` the name ``new``, in the place of one that has it already."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Take the file away."""

    @abstractmethod
    def sync(self) -> None:
        """Make the names durable."""


class DiskFolder(Folder):
    """A folder on a disk, made when the first file is.

    Args:
        path: where it is, or will be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"DiskFolder({str(self.path)!r})"

    def names(self) -> list[str]:
        """The names of all files."""
        try:
            return sorted(os.listdir(self.path))
        except FileNotFoundError:
            return []

    def create(self, name: str) -> WritableFile:
        """A new file; the folder is made durably if it is missing."""
        disk.make(self.path)
        return _DiskOutput(self.path / name)

    def open(self, name: str) -> ReadableFile:
        """The file of that name."""
        return _DiskInput(self.path / name)

    def rename(self, old: str, new: str) -> None:
        """Rename a file."""
        os.replace(self.path / old, self.path / new)

    def remove(self, name: str) -> None:
        """Remove a file; it is open meanwhile, so that its room is not freed before it is closed."""
        path = self.path / name
        with _DiskInput(path):
            os.unlink(path)

    def sync(self) -> None:
        """Make the names durable."""
        disk.sync(self.path)


class _DiskOutput(WritableFile):
    def __init__(self, path: Path) -> None:
        self._stream = path.open("wb")

    def write(self, data: bytes) -> None:
        self._stream.write(data)

    def sync(self) -> None:
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        self._stream.close()


class _DiskInput(ReadableFile):
    def __init__(self, path: Path) -> None:
        self._stream = path.open("rb")

    @property
    def size(self) -> int:
        return os.fstat(self._stream.fileno()).st_size

    def read(self, count: int) -> bytes:
        return self._stream.read(count)

    def seek(self, offset: int) -> None:
        self._stream.seek(offset)

    def close(self) -> None:
        if self._stream.closed:
            return
        state = os.fstat(self._stream.fileno())
        if state.st_nlink == 0 and state.st_size >= LARGE_BYTES:
            threading.Thread(target=_let_go, args=(self._stream,), name="raft-freeing", daemon=True).start()
        else:
            _let_go(self._stream)


def _let_go(stream: BinaryIO) -> None:
    stream.close()


class MemoryFolder(Folder):
    """A folder that ends with its object, for stores that do."""

    def __init__(self) -> None:
        self._files: dict[str, bytearray] = {}

    def names(self) -> list[str]:
        """The names of all files."""
        return sorted(self._files)

    def create(self, name: str) -> WritableFile:
        """A new file."""
        self._files[name] = contents = bytearray()
        return _MemoryOutput(contents)

    def open(self, name: str) -> ReadableFile:
        """The file of that name."""
        return _MemoryInput(self._found(name))

    def rename(self, old: str, new: str) -> None:
        """Rename a file."""
        self._files[new] = self._found(old)
        del self._files[old]

    def remove(self, name: str) -> None:
        """Remove a file."""
        self._found(name)
        del self._files[name]

    def sync(self) -> None:
        """Nothing is durable here."""

    def _found(self, name: str) -> bytearray:
        if name not in self._files:
            raise FileNotFoundError(f"there is no file {name!r}")
        return self._files[name]


class _MemoryOutput(WritableFile):
    def __init__(self, contents: bytearray) -> None:
        self._contents = contents

    def write(self, data: bytes) -> None:
        self._contents += data

    def sync(self) -> None:
        pass

    def close(self) -> None:
        pass


class _MemoryInput(ReadableFile):
    def __init__(self, contents: bytearray) -> None:
        self._contents = contents
        self._offset = 0

    @property
    def size(self) -> int:
        return len(self._contents)

    def read(self, count: int) -> bytes:
        data = bytes(self._contents[self._offset : self._offset + count])
        self._offset += len(data)
        return data

    def seek(self, offset: int) -> None:
        self._offset = offset

    def close(self) -> None:
        pass
