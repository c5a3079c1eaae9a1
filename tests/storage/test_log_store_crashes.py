"""Crashes between any two steps: nothing acknowledged is lost, nothing sound is refused.

The steps of a real run (commits of the engine, writes and syncs of the mark) are recorded. For each point between two
of them the disk is rebuilt as a power cut there could leave it: every commit before that point (each is durable when
it returns), and for the mark any version from the last synced one on (the system may have written any of them back).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import Struct
from msgspec.structs import replace

from raft_actors import durable_mark
from raft_actors.durable_mark import MarkFile, data_file_state, decode, encode
from raft_actors.errors import CorruptLog
from raft_actors.log_store import LogStore
from raft_actors.protocol.effects import Persist
from raft_actors.protocol.entry import Entry
from raft_actors.protocol.types import Ballot
from storage_adapters import Batch, LMDBAdapter, RocksDBAdapter, StorageAdapter
from tests.storage.log_tools import ENGINES, commands, everything

Factory = Callable[[str], StorageAdapter]
ROOT = Path(__file__).parents[2]

PERSISTS = [
    Persist(ballot=Ballot(1, "s1"), cluster="c1"),
    Persist(entries=commands(1, 4)),
    Persist(entries=commands(5, 6)),
    Persist(ballot=Ballot(3, None), truncate_from=4, entries=commands(4, 5, term=3)),
    Persist(truncate_from=5),
    Persist(ballot=Ballot(4, "s2"), truncate_from=2, entries=commands(2, 2, term=4)),
    Persist(entries=commands(3, 9, term=4)),
]


class State(Struct, frozen=True):
    """What a store holds for its peer."""

    ballot: Ballot = Ballot()
    entries: tuple[Entry, ...] = ()

    def after(self, persist: Persist) -> State:
        cut = persist.truncate_from
        kept = self.entries if cut is None else tuple(entry for entry in self.entries if entry.index < cut)
        return State(persist.ballot or self.ballot, kept + persist.entries)


class Recording:
    """The steps of one run: ``("commit", batch)``, ``("mark", bytes)``, ``("sync",)``, ``("done", number)``."""

    def __init__(self) -> None:
        self.steps: list[tuple[object, ...]] = []

    def factory(self, inner: Factory) -> Factory:
        def opened(path: str) -> StorageAdapter:
            adapter = inner(path)
            write = adapter.write

            def recorded(batch: Batch) -> None:
                write(batch)
                self.steps.append(("commit", batch))

            adapter.write = recorded  # type: ignore[method-assign]
            return adapter

        return opened

    def watch_the_mark(self, monkeypatch: pytest.MonkeyPatch) -> None:
        put, sync = os.pwrite, os.fdatasync

        def putting(descriptor: int, block: bytes, offset: int) -> int:
            self.steps.append(("mark", bytes(block)))
            return put(descriptor, block, offset)

        def syncing(descriptor: int) -> None:
            sync(descriptor)
            self.steps.append(("sync",))

        monkeypatch.setattr(durable_mark.os, "pwrite", putting)
        monkeypatch.setattr(durable_mark.os, "fdatasync", syncing)
        monkeypatch.setattr(durable_mark, "SYNC_INTERVAL", 3600.0)  # as seldom as possible: most versions to lose


def recorded_run(factory: Factory, path: Path, *, mid_way: bool = False) -> list[tuple[object, ...]]:
    """Run all of PERSISTS, with a restart in the middle if wanted, and return the steps."""
    recording = Recording()
    with pytest.MonkeyPatch.context() as monkeypatch:
        recording.watch_the_mark(monkeypatch)
        store = LogStore.open(recording.factory(factory), path, name="s1")
        for number, persist in enumerate(PERSISTS):
            store.write([persist])
            recording.steps.append(("done", number))
            if mid_way and number == 3:
                store.close()
                store = LogStore.open(recording.factory(factory), path, name="s1")
        store.close()
    return recording.steps


def disks_after(steps: list[tuple[object, ...]], point: int) -> tuple[list[Batch], list[bytes | None], int]:
    """Return the commits, the possible marks, and how many writes had returned, when the power goes at ``point``."""
    commits: list[Batch] = []
    marks: list[bytes | None] = [None]
    done = 0
    for step in steps[:point]:
        match step:
            case ("commit", Batch() as batch):
                commits.append(batch)
            case ("mark", bytes() as block):
                marks.append(block)
            case ("sync",):
                marks = marks[-1:]
            case ("done", int() as number):
                done = number + 1
    return commits, marks, done


def rebuilt(factory: Factory, path: Path, commits: list[Batch], mark: bytes | None) -> None:
    """Make the disk: the engine after ``commits``, and the mark, which is made to know the new data file."""
    with factory(str(path)) as adapter:
        for batch in commits:
            adapter.write(batch)
    found = None if mark is None else decode(mark)
    if found is not None:
        (path / "TAIL").write_bytes(encode(replace(found, data=data_file_state(path))))


def check_all_crashes(factory: Factory, steps: list[tuple[object, ...]], path: Path, *, every: int = 1) -> int:
    """Open every disk that a power cut could leave, and return how many there were."""
    count = 0
    states = [State()]
    for persist in PERSISTS:
        states.append(states[-1].after(persist))
    for point in reversed(range(len(steps) + 1)):
        commits, marks, done = disks_after(steps, point)
        for mark in marks[::-every]:
            disk = path / f"disk{count}"
            rebuilt(factory, disk, commits, mark)
            count += 1
            with LogStore.open(factory, disk, name="s1") as store:
                found = State(store.recovered.ballot, everything(store))
            assert found in states[done : done + 2], f"after {point} steps, {done} writes had returned"
    return count


@pytest.mark.parametrize("mid_way", [False, True])
def test_a_power_cut_between_any_two_steps_loses_nothing_on_lmdb(mid_way: bool, tmp_path: Path) -> None:
    steps = recorded_run(LMDBAdapter, tmp_path / "s1", mid_way=mid_way)
    assert check_all_crashes(LMDBAdapter, steps, tmp_path) > 50


def test_a_power_cut_between_any_two_steps_loses_nothing_on_rocksdb(tmp_path: Path) -> None:
    steps = recorded_run(RocksDBAdapter, tmp_path / "s1")
    assert check_all_crashes(RocksDBAdapter, steps, tmp_path, every=4) > 20


def test_a_mark_that_is_not_lowered_before_a_truncation_would_be_found_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def lower_nothing(self: LogStore, index: int) -> int:
        self._last, self._chain, _ = self._head(index - 1)
        return index

    monkeypatch.setattr(LogStore, "_truncate_to", lower_nothing)
    steps = recorded_run(LMDBAdapter, tmp_path / "s1")
    with pytest.raises(CorruptLog, match="was durable"):
        check_all_crashes(LMDBAdapter, steps, tmp_path)


def test_a_lowered_mark_that_is_not_synced_would_be_found_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(MarkFile, "sync", lambda self: None)
    steps = recorded_run(LMDBAdapter, tmp_path / "s1")
    with pytest.raises(CorruptLog, match="was durable"):
        check_all_crashes(LMDBAdapter, steps, tmp_path)


def test_a_mark_that_leads_would_be_found_out(tmp_path: Path) -> None:
    steps = recorded_run(LMDBAdapter, tmp_path / "s1")
    for place in range(len(steps) - 1, 0, -1):
        if steps[place][0] == "mark" and steps[place - 1][0] == "commit":
            steps[place - 1 : place + 1] = [steps[place], ("sync",), steps[place - 1]]
    with pytest.raises(CorruptLog, match="was durable"):
        check_all_crashes(LMDBAdapter, steps, tmp_path)


WRITER = """
import sys
import storage_adapters
from raft_actors.log_store import LogStore
from raft_actors.protocol.effects import Persist
from raft_actors.protocol.types import Ballot
from tests.storage.log_tools import commands

store = LogStore.open(getattr(storage_adapters, sys.argv[1]), sys.argv[2], name="s1")
last, term = store.recovered.log.last.index, store.recovered.ballot.term + 1
store.write([Persist(ballot=Ballot(term, "s1"))])
while True:
    if last % 7 == 6:  # now and then the newest entries are replaced
        last -= 2
        store.write([Persist(truncate_from=last + 1, entries=commands(last + 1, last + 3, term=term))])
        last += 3
    else:
        store.write([Persist(entries=commands(last + 1, last + 40, term=term))])
        last += 40
    print(last, term, flush=True)
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_process_loses_nothing_that_it_was_told_is_durable(engine: Factory, tmp_path: Path) -> None:
    path = tmp_path / "s1"
    name = engine.__name__  # type: ignore[attr-defined]
    for lines in (1, 20, 45):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, name, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(lines)]
        writer.send_signal(signal.SIGKILL)
        said += writer.stdout.readlines()
        writer.wait()
        writer.stdout.close()
        last, term = map(int, [line for line in said if line.endswith("\n")][-1].split())
        with LogStore.open(engine, path, name="s1") as store:
            assert store.recovered.ballot == Ballot(term, "s1")
            assert store.recovered.log.last.index >= last
            assert store.recovered.log.term_at(last) == term
            assert len(everything(store)) == store.recovered.log.last.index
