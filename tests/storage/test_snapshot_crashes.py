"""A power cut at every step of taking and installing: log and snapshot together always hold what was promised."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path

import pytest
from msgspec import Struct
from msgspec.structs import replace

from raft_actors.errors import RaftError
from raft_actors.log_store import LogStore
from raft_actors.protocol.effects import Persist
from raft_actors.protocol.entry import Entry
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.protocol.types import Ballot
from raft_actors.snapshot_store import SnapshotStore
from raft_actors.store_meta import base_value
from storage_adapters import Batch, MemoryAdapter, StorageAdapter
from tests.storage.log_tools import ENGINES, commands, everything
from tests.storage.power_cut import Cut, CutFolder, Died, Disk, cuts
from tests.storage.snapshot_tools import at, compacted, foreign, received, state_at, state_in

ROOT = Path(__file__).parents[2]


class Promise(Struct, frozen=True):
    """What a peer may rely on once a change has returned.

    Attributes:
        ballot: the ballot.
        base: the log begins after it.
        entries: the log.
        snapshot: index of the recorded snapshot, 0 for none.
    """

    ballot: Ballot = Ballot()
    base: int = 0
    entries: tuple[Entry, ...] = ()
    snapshot: int = 0

    def after(self, base: int, snapshot: int) -> Promise:
        kept = tuple(entry for entry in self.entries if entry.index > base)
        return replace(self, base=base, entries=kept, snapshot=snapshot)


def appended(promise: Promise, store: LogStore) -> Promise:
    last = promise.entries[-1].index if promise.entries else promise.base
    entries = commands(last + 1, last + 4, term=promise.ballot.term)
    store.write([Persist(entries=entries)])
    return replace(promise, entries=promise.entries + entries)


def voted(promise: Promise, store: LogStore) -> Promise:
    ballot = Ballot(promise.ballot.term + 1, "s1")
    store.write([Persist(ballot=ballot)])
    return replace(promise, ballot=ballot)


def taking(promise: Promise, store: LogStore) -> Promise:
    """A snapshot two before the end, and a log that begins four before it."""
    index = promise.entries[-1].index - 2
    through = max(promise.base, index - 4)
    compacted(store, index, through)
    while store.trim(3):
        pass
    return promise.after(through, index)


def taking_and_cutting_nothing(promise: Promise, store: LogStore) -> Promise:
    """One more snapshot of a log that reaches back to several."""
    index = promise.entries[-1].index - 1
    compacted(store, index, promise.base)
    return promise.after(promise.base, index)


def installing_far_ahead(promise: Promise, store: LogStore) -> Promise:
    snapshot = foreign(promise.entries[-1].index + 30, term=promise.ballot.term)
    store.write([Persist(snapshot=received(store.snapshots, snapshot))])
    return promise.after(snapshot.last.index, snapshot.last.index)


def installing_over_another_history(promise: Promise, store: LogStore) -> Promise:
    """The log goes further than the snapshot, and differs from it there."""
    index = promise.entries[-1].index - 1
    ballot = Ballot(promise.ballot.term + 1, "s2")
    snapshot = received(store.snapshots, foreign(index, term=ballot.term))
    store.write([Persist(ballot=ballot, snapshot=snapshot)])
    return Promise(ballot, index, (), index)


def installing_what_is_held(promise: Promise, store: LogStore) -> Promise:
    index = promise.entries[-1].index - 1
    own = at(store, index)
    snapshot = received(store.snapshots, replace(own, id=f"feed-{index}"))
    store.write([Persist(snapshot=snapshot)])
    while store.trim(3):
        pass
    return promise.after(index, index)


CHANGES = [
    voted,
    appended,
    appended,
    taking,
    appended,
    taking,
    taking_and_cutting_nothing,
    appended,
    taking_and_cutting_nothing,
    appended,
    installing_far_ahead,
    appended,
    installing_over_another_history,
    appended,
    installing_what_is_held,
    appended,
    taking,
]


def opened(disk: Disk) -> LogStore:
    return LogStore.open(disk.adapter, disk.path, name="s1", files=CutFolder(disk))


def run(disk: Disk) -> list[Promise]:
    """Make all changes, up to the power cut; returns what was promised, and what the change under way would have."""
    promises, store = [Promise()], None
    with disk.watching_the_mark():
        try:
            store = opened(disk)
            for change in CHANGES:
                promises.append(change(promises[-1], store))
            store.close()
        except Died:
            if store is not None and store._mark is not None:
                store._mark.close()  # only our process goes on, and would run out of descriptors
    return promises


def check(disk: Disk, may_be: list[Promise], where: object) -> None:
    """Open what is left: it holds one of these promises, and the state that goes with it."""
    with opened(disk) as store:
        found = store.recovered
        snapshot = found.snapshots[0].last.index if found.snapshots else 0
        promise = Promise(found.ballot, found.base.index, everything(store), snapshot)
        assert promise in may_be, where
        for each in found.snapshots:
            assert state_in(store, each) == state_at(each.last.index), where
            assert found.base.index <= each.last.index <= found.log.last.index, where
        assert {f"{each.id}.snap" for each in found.snapshots} == set(store.snapshots.folder.names()), where
        assert store.head(found.base.index + 1) is not None or found.log.last == found.base, where
        appended(promise, store)  # and it goes on


def sweep(path: Path, *, every: int = 1) -> int:
    """Cut the power everywhere, and return how many ways there were."""
    whole = Disk(path / "whole")
    final = run(whole)
    assert len(final) == len(CHANGES) + 1
    count = 0
    for cut in itertools.islice(cuts(whole.steps), 0, None, every):
        disk = Disk(path / f"disk{count}")
        disk.cut = cut
        promises = run(disk)
        left = disk.after_power_cut(path / f"left{count}")
        check(left, final[len(promises) - 1 : len(promises) + 1], (cut, disk.journal[-1], len(promises)))
        count += 1
    return count


@pytest.mark.slow
def test_a_power_cut_at_any_step_loses_nothing(tmp_path: Path) -> None:
    assert sweep(tmp_path) > 1000


def test_a_second_power_cut_while_the_store_is_opened_loses_nothing_either(tmp_path: Path) -> None:
    whole = Disk(tmp_path / "whole")
    final = run(whole)
    count = 0
    for number, cut in enumerate(itertools.islice(cuts(whole.steps), 0, None, 11)):
        disk = Disk(tmp_path / f"disk{number}")
        disk.cut = cut
        promises = run(disk)
        for step in itertools.count():
            left = disk.after_power_cut(tmp_path / f"left{number}-{step}")
            left.engine = copied(disk.engine)
            left.cut = Cut(step, done=bool(step % 2), data="none", names=bool(number % 2), mark="highest")
            try:
                with left.watching_the_mark():
                    opened(left).close(clean=False)
            except Died:
                again = left.after_power_cut(tmp_path / f"again{number}-{step}")
                check(again, final[len(promises) - 1 : len(promises) + 1], (cut, left.cut, left.journal[-1]))
                count += 1
            else:
                break
    assert count > 300


def copied(engine: MemoryAdapter) -> MemoryAdapter:
    copy = MemoryAdapter()
    copy.__dict__.update(engine.__dict__ | {"_values": list(engine._values), "_meta": dict(engine._meta)})
    return copy


def test_a_power_cut_at_every_seventh_step_loses_nothing(tmp_path: Path) -> None:
    assert sweep(tmp_path, every=7) > 150


def test_the_steps_are_in_the_order_that_was_promised(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "s1")
    with disk.watching_the_mark():
        store = opened(disk)
        promise = appended(appended(voted(Promise(), store), store), store)
        begin = disk.steps
        taking(promise, store)
    order = [step for step, _ in itertools.groupby(disk.journal[begin:])]
    assert order == [
        "file is created",
        "file is written",
        "file is synced",
        "file is renamed",
        "folder is synced",
        "engine writes",
        "mark is written",
        "engine compacts",
        "mark is written",
    ]


def compacts_before_it_records(
    self: LogStore, snapshot: object, base: object, meta: object, cut: int | None = None
) -> None:
    """Planted: the log is cut before the snapshot is recorded (BUG-53), where nothing else is written with it."""
    if cut is None and not meta:
        self._adapter.compact(base.last.index)  # type: ignore[attr-defined]
    HONEST_RECORD(self, snapshot, base, meta, cut)  # type: ignore[arg-type]


def records_the_base_alone(
    self: LogStore, snapshot: object, base: object, meta: object, cut: int | None = None
) -> None:
    """Planted: two batches, of which a crash may leave the first."""
    self._adapter.write(Batch(base_value(base)))  # type: ignore[arg-type]
    HONEST_RECORD(self, snapshot, base, meta, cut)  # type: ignore[arg-type]


def removes_before_it_records(
    self: LogStore, snapshot: object, base: object, meta: object, cut: int | None = None
) -> None:
    """Planted: the old snapshot goes before the new one counts."""
    self.snapshots.supersede(snapshot, snapshot.last.index)  # type: ignore[attr-defined]
    HONEST_RECORD(self, snapshot, base, meta, cut)  # type: ignore[arg-type]


def removes_too_much(self: SnapshotStore, recorded: Snapshot, reach: int, damaged: Collection[str] = ()) -> None:
    """Planted: what the log goes on from is taken for superseded."""
    HONEST_SUPERSEDE(self, replace(recorded, id="another"), recorded.last.index + 1, damaged)


HONEST_RECORD = LogStore._record
HONEST_SUPERSEDE = SnapshotStore.supersede
PLANTED: dict[str, tuple[type, str, Callable[..., None]]] = {
    "compacts before it records": (LogStore, "_record", compacts_before_it_records),
    "records the base alone": (LogStore, "_record", records_the_base_alone),
    "removes before it records": (LogStore, "_record", removes_before_it_records),
    "removes too much": (SnapshotStore, "supersede", removes_too_much),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_wrong_order_would_be_found_out(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    owner, method, planted = PLANTED[name]
    monkeypatch.setattr(owner, method, planted)
    assert len(run(Disk(tmp_path / "uncut"))) == len(CHANGES) + 1  # while the power is there, every change goes through
    with pytest.raises((AssertionError, RaftError)):
        sweep(tmp_path)


@pytest.mark.parametrize("forgotten", ["file is synced", "folder is synced", "mark is synced"])
def test_a_sync_that_is_forgotten_would_be_found_out(
    forgotten: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    honest = Disk.step

    def step(self: Disk, name: str, do: Callable[[], None], partly: Callable[[], None] | None = None) -> None:
        if name != forgotten:
            honest(self, name, do, partly)

    monkeypatch.setattr(Disk, "step", step)
    with pytest.raises((AssertionError, RaftError)):
        sweep(tmp_path)


WRITER = """
import sys
import storage_adapters
from raft_actors.log_store import LogStore
from raft_actors.protocol.effects import Persist
from tests.storage.log_tools import commands
from tests.storage.snapshot_tools import compacted, foreign, installed

store = LogStore.open(getattr(storage_adapters, sys.argv[1]), sys.argv[2], name="s1")
last = store.recovered.log.last.index
for number in range(10**9):
    store.write([Persist(entries=commands(last + 1, last + 40))])
    last += 40
    if number % 7 == 6:
        installed(store, foreign(last + 5))
        last += 5
    elif number % 3 == 2:
        compacted(store, last - 3, last - 20)
    store.trim(50)
    print(last, flush=True)
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_process_comes_back_with_its_log_and_a_snapshot_before_it(
    engine: Callable[[str], StorageAdapter], tmp_path: Path
) -> None:
    path = tmp_path / "s1"
    for lines in (3, 8, 20, 31):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, engine.__name__, str(path)],  # type: ignore[attr-defined]
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(lines)]
        writer.send_signal(signal.SIGKILL)
        said += writer.stdout.readlines()
        writer.wait()
        writer.stdout.close()
        promised = int([line for line in said if line.endswith("\n")][-1])
        with LogStore.open(engine, path, name="s1") as store:
            found = store.recovered
            assert found.log.last.index >= promised
            assert len(everything(store)) == found.log.last.index - found.base.index
            newest = found.snapshots[0]
            assert state_in(store, newest) == state_at(newest.last.index)
            assert found.base.index <= newest.last.index <= found.log.last.index
