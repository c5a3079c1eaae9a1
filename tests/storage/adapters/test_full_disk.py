"""A disk that really runs full: what is there stays there, nothing is retried as if nothing had happened."""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from storage_adapters import Batch, LMDBAdapter, RocksDBAdapter, StorageAdapter, StorageError
from tests.storage.adapters.support import MIB, entries, fill

SmallDisk = Callable[..., Path]


def fill_up(store: StorageAdapter) -> StorageError:
    with pytest.raises(StorageError) as caught:
        fill(store, 1 << 20)
    return caught.value


def opened(adapter: type[StorageAdapter], path: Path) -> StorageAdapter:
    return RocksDBAdapter(path, reserve=0) if adapter is RocksDBAdapter else LMDBAdapter(path)


def test_a_full_disk_is_an_error_with_its_number(disk_adapter: type[StorageAdapter], small_disk: SmallDisk) -> None:
    with opened(disk_adapter, small_disk(4) / "s") as store:
        error = fill_up(store)
        assert error.errno == errno.ENOSPC, error
        assert store.bounds()[1] > 1000


def test_after_a_full_disk_reads_go_on_and_changes_do_not(
    disk_adapter: type[StorageAdapter], small_disk: SmallDisk
) -> None:
    disk = small_disk(4)
    ballast = disk / "ballast"
    ballast.write_bytes(b"x" * MIB)
    with opened(disk_adapter, disk / "s") as store:
        fill_up(store)
        first, last = store.bounds()
        ballast.unlink()  # there is room again, but what the failed change left behind is not known
        with pytest.raises(StorageError, match="opened again") as caught:
            store.write(Batch({"a": b"b"}))
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(StorageError, match="opened again"):
            store.compact(5)
        assert store.bounds() == (first, last)
        assert store.read(first, last, 1 << 40) == entries(first, last)
        assert store.stats()["failed"]


def test_opening_again_with_room_finds_every_write_that_returned(
    disk_adapter: type[StorageAdapter], small_disk: SmallDisk
) -> None:
    disk = small_disk(6)
    ballast = disk / "ballast"
    ballast.write_bytes(b"x" * 3 * MIB)
    with opened(disk_adapter, disk / "s") as store:
        fill_up(store)
        last = store.bounds()[1]
    ballast.unlink()
    with opened(disk_adapter, disk / "s") as store:
        found = store.bounds()[1]
        assert found in (last, last + 100)
        assert store.meta("last") == b"%d" % (found - 99)
        assert store.read(1, found, 1 << 40) == entries(1, found)
        fill(store, 100)
        assert store.bounds() == (1, found + 100)


def test_an_lmdb_store_opens_on_a_full_disk(small_disk: SmallDisk) -> None:
    path = small_disk(4) / "s"
    with LMDBAdapter(path) as store:
        fill_up(store)
        last = store.bounds()[1]
    with LMDBAdapter(path) as store:
        assert store.read(1, last, 1 << 40) == entries(1, last)


def test_a_rocksdb_store_opens_on_a_full_disk_by_giving_up_its_reserve(
    small_disk: SmallDisk, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("rocksdict")
    path, reserve = small_disk(12) / "s", 6 * MIB
    store = RocksDBAdapter(path, reserve=reserve)
    fill_up(store)
    last = store.bounds()[1]
    store.close()
    assert (path / "RESERVE").stat().st_size == reserve
    with caplog.at_level(logging.WARNING, "storage_adapters"), RocksDBAdapter(path, reserve=reserve) as store:
        assert store.read(1, last, 1 << 40) == entries(1, last)
    assert "its reserve" in caplog.text


def test_without_a_reserve_a_rocksdb_store_on_a_full_disk_does_not_open(small_disk: SmallDisk) -> None:
    pytest.importorskip("rocksdict")
    path = small_disk(6) / "s"
    with RocksDBAdapter(path, reserve=0) as store:
        fill_up(store)
        last = store.bounds()[1]
    for _ in range(2):
        with pytest.raises(StorageError) as caught:
            RocksDBAdapter(path, reserve=0)
        assert caught.value.errno == errno.ENOSPC
    bigger = small_disk(16) / "s"
    shutil.copytree(path, bigger)
    with RocksDBAdapter(bigger, reserve=0) as store:
        assert store.read(1, last, 1 << 40) == entries(1, last)


def test_no_room_for_the_reserve_is_a_warning(small_disk: SmallDisk, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("rocksdict")
    path = small_disk(6) / "s"
    with caplog.at_level(logging.WARNING, "storage_adapters"), RocksDBAdapter(path) as store:
        fill(store, 100)
        assert not store.stats()["reserve"]
    assert "no room for a reserve" in caplog.text
    assert not (path / "RESERVE").exists()


def test_a_backup_without_room_fails_and_harms_nothing(
    disk_adapter: type[StorageAdapter], small_disk: SmallDisk, tmp_path: Path
) -> None:
    full = small_disk(1)
    with opened(disk_adapter, tmp_path / "s") as store:
        fill(store, 20_000)
        with pytest.raises(StorageError) as caught:
            store.backup(full / "image")
        assert caught.value.errno == errno.ENOSPC
        fill(store, 100)
        store.backup(tmp_path / "image")
    with opened(disk_adapter, tmp_path / "image") as image:
        assert image.bounds() == (1, 20_100)
