"""Snapshots on the disks of the test kit: kept like the log, and with the same faults."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from raft_actors.log_store import LogStore
from raft_actors.protocol.effects import Persist
from raft_actors.testing.disk import Disk
from storage_adapters import LMDBAdapter, MemoryAdapter, StorageAdapter
from tests.storage.log_tools import commands
from tests.storage.snapshot_tools import at, compacted, state_at, state_in, taken


@pytest.fixture(params=[MemoryAdapter, LMDBAdapter])
def disk(request: pytest.FixtureRequest) -> Disk:
    factory: Callable[[str], StorageAdapter] = request.param
    return Disk(factory, getattr(factory, "engine", "memory"))


def filled(disk: Disk, path: Path) -> LogStore:
    store = LogStore.open(disk, path, name="s1")
    store.write([Persist(entries=commands(1, 20))])
    return store


def test_a_peer_finds_its_snapshots_again(disk: Disk, tmp_path: Path) -> None:
    with filled(disk, tmp_path / "s1") as store:
        snapshot = compacted(store, 15, 10)
    with LogStore.open(disk, tmp_path / "s1", name="s1") as store:
        assert store.recovered.snapshots == (snapshot,)
        assert state_in(store, snapshot) == state_at(15)


def test_a_wiped_disk_has_no_snapshots(tmp_path: Path) -> None:
    disk = Disk(MemoryAdapter, "memory")
    with filled(disk, tmp_path / "s1") as store:
        compacted(store, 15, 10)
    disk.forget()
    with LogStore.open(disk, tmp_path / "s1", name="s1") as store:
        assert store.recovered.snapshots == ()
        assert store.snapshots.found() == []


def test_a_disk_that_fails_takes_no_snapshot(disk: Disk, tmp_path: Path) -> None:
    with filled(disk, tmp_path / "s1") as store:
        output = store.snapshots.create(at(store, 15), cluster="", codec="", version=0)
        output.write(b"state")
        disk.fail(errno.ENOSPC)
        with pytest.raises(OSError, match="failed") as raised:
            output.commit()
        assert raised.value.errno == errno.ENOSPC
        assert store.snapshots.folder.names() == []
        taken(store.snapshots, at(store, 15))


def test_a_hanging_disk_lets_go_of_a_snapshot_when_its_peer_is_gone(disk: Disk, tmp_path: Path) -> None:
    store = filled(disk, tmp_path / "s1")
    output = store.snapshots.create(at(store, 15), cluster="", codec="", version=0)
    ended: list[BaseException] = []

    def commit() -> None:
        try:
            output.commit()
        except OSError as error:
            ended.append(error)

    disk.hang()
    worker = threading.Thread(target=commit)
    worker.start()
    disk.let_go()
    worker.join(10)
    assert "is gone" in str(ended[0])
    store.close(clean=False)
