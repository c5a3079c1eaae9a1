"""A disk that dies at step k, and what a power cut leaves of it.

Every operation on a file, a folder, the engine and the mark is one step. At the step at which the disk dies, the
operation was not begun, or it was done and nobody was told, or (engine) a part of a compaction was done.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec import Struct

from raft_actors import durable_mark
from raft_actors.folders import Folder, MemoryFolder, ReadableFile, WritableFile
from storage_adapters import Batch, MemoryAdapter

BLOCK = 512


class Died(BaseException):
    """The power is gone; no handler of errors may go on."""


class Cut(Struct, frozen=True):
    """How the power goes, and what it leaves of what was not synced.

    Attributes:
        step: the step at which it goes.
        done: whether that step was done all the same.
        data: of the bytes that were not synced: ``"none"``, ``"torn"`` (whole blocks of them, then rubbish), ``"all"``.
        names: whether creations, renames and removals that were not synced are there.
        mark: which of the marks since the last synced one is there: ``"oldest"``, ``"newest"``, or the ``"highest"``.
    """

    step: int
    done: bool
    data: str
    names: bool
    mark: str


def cuts(steps: int) -> Iterator[Cut]:
    """Every way in which the power can go in a run of so many steps."""
    for step in range(steps):
        for done in (False, True):
            for data, mark in (("none", "highest"), ("torn", "oldest"), ("all", "newest")):
                for names in (False, True):
                    yield Cut(step, done, data, names, mark)


def _index_of(block: bytes) -> int:
    mark = durable_mark.decode(block)
    assert mark is not None
    return mark.last.index


class _File:
    def __init__(self) -> None:
        self.data = bytearray()
        self.synced = 0

    def after(self, data: str) -> bytearray:
        if data == "all":
            return self.data[:]
        left = self.data[: self.synced]
        if data == "torn":
            more = self.data[self.synced :]
            half = len(more) // 2 // BLOCK * BLOCK
            left += more[:half] + bytes(len(more) - half)
        return left


class Disk:
    """Everything of one peer: its engine, its snapshots, its mark.

    Attributes:
        steps: how many there were.
        journal: their names.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.journal: list[str] = []
        self.cut: Cut | None = None
        self.names: dict[str, _File] = {}
        self.synced_names: dict[str, _File] = {}
        self.engine = MemoryAdapter()
        self.marks: list[bytes] = []

    @property
    def steps(self) -> int:
        return len(self.journal)

    def step(self, name: str, do: Callable[[], None], partly: Callable[[], None] | None = None) -> None:
        if self.cut is not None and self.steps == self.cut.step:
            if self.cut.done:
                do()
            elif partly is not None and self.cut.names:
                partly()
            self.journal.append(name)
            raise Died(name)
        if self.cut is not None and self.steps > self.cut.step:
            raise Died(name)
        self.journal.append(name)
        do()

    def after_power_cut(self, path: Path) -> Disk:
        """The same disk as the next process finds it."""
        cut = self.cut
        assert cut is not None
        left = Disk(path)
        names = self.names if cut.names else self.synced_names
        for name, file in names.items():
            left.names[name] = kept = _File()
            kept.data = file.after(cut.data)
            kept.synced = len(kept.data)
        left.synced_names = dict(left.names)
        left.engine = self.engine
        if self.marks:
            highest = max(self.marks, key=_index_of)
            left.marks = [{"oldest": self.marks[0], "newest": self.marks[-1], "highest": highest}[cut.mark]]
            (path / "TAIL").write_bytes(left.marks[0])
        return left

    def adapter(self, path: str) -> MemoryAdapter:
        return _Adapter(self)

    @contextmanager
    def watching_the_mark(self) -> Iterator[None]:
        put = os.pwrite

        def putting(descriptor: int, block: bytes, offset: int) -> int:
            def do() -> None:
                put(descriptor, block, offset)
                self.marks.append(bytes(block))

            self.step("mark is written", do)
            return len(block)

        def syncing(descriptor: int) -> None:
            def do() -> None:
                del self.marks[:-1]

            self.step("mark is synced", do)

        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(durable_mark.os, "pwrite", putting)
            monkeypatch.setattr(durable_mark.os, "fdatasync", syncing)
            monkeypatch.setattr(durable_mark, "SYNC_INTERVAL", 3600.0)  # as seldom as possible: most versions to lose
            yield


class _Adapter(MemoryAdapter):
    """The engine of a disk, which outlives it: atomic batches, durable at once."""

    def __init__(self, disk: Disk) -> None:
        super().__init__()
        self._disk = disk

    def write(self, batch: Batch) -> None:
        self._disk.step("engine writes", lambda: self._disk.engine.write(batch))

    def compact(self, through: int) -> None:
        engine = self._disk.engine
        half = (engine.bounds()[0] + through) // 2
        self._disk.step("engine compacts", lambda: engine.compact(through), lambda: engine.compact(half))

    def read(self, first: int, last: int, max_bytes: int) -> list[tuple[int, bytes]]:
        return self._disk.engine.read(first, last, max_bytes)

    def bounds(self) -> tuple[int, int]:
        return self._disk.engine.bounds()

    def meta(self, key: str) -> bytes | None:
        return self._disk.engine.meta(key)

    def stats(self) -> dict[str, object]:
        return self._disk.engine.stats() | {"durable": True}


class CutFolder(Folder):
    """The snapshots on a disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def names(self) -> list[str]:
        return sorted(self._disk.names)

    def create(self, name: str) -> WritableFile:
        file = _File()
        self._disk.step("file is created", lambda: self._disk.names.update({name: file}))
        return _Output(self._disk, file)

    def open(self, name: str) -> ReadableFile:
        if name not in self._disk.names:
            raise FileNotFoundError(name)
        memory = MemoryFolder()
        memory.create(name).write(bytes(self._disk.names[name].data))
        return memory.open(name)

    def rename(self, old: str, new: str) -> None:
        names = self._disk.names
        self._disk.step("file is renamed", lambda: names.update({new: names.pop(old)}))

    def remove(self, name: str) -> None:
        if name not in self._disk.names:
            raise FileNotFoundError(name)

        def do() -> None:
            del self._disk.names[name]

        self._disk.step("file is removed", do)

    def sync(self) -> None:
        def do() -> None:
            self._disk.synced_names = dict(self._disk.names)

        self._disk.step("folder is synced", do)


class _Output(WritableFile):
    def __init__(self, disk: Disk, file: _File) -> None:
        self._disk = disk
        self._file = file

    def write(self, data: bytes) -> None:
        def do() -> None:
            self._file.data += data

        self._disk.step("file is written", do)

    def sync(self) -> None:
        def do() -> None:
            self._file.synced = len(self._file.data)

        self._disk.step("file is synced", do)

    def close(self) -> None:
        pass
