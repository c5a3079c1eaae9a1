"""The folder of a store: the mark of its engine, its durable making, and its end."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from storage_adapters import (
    Batch,
    DamagedStore,
    LMDBAdapter,
    MemoryAdapter,
    RocksDBAdapter,
    StorageAdapter,
    StorageError,
    folder,
)
from storage_adapters.folder import engine_of
from tests.storage.adapters.support import entries, fill


def test_a_store_is_marked_with_its_engine(disk_adapter: type[StorageAdapter], tmp_path: Path) -> None:
    assert engine_of(tmp_path / "s") is None
    with disk_adapter(tmp_path / "s") as store:  # type: ignore[call-arg]
        assert engine_of(tmp_path / "s") == store.stats()["engine"]
        store.backup(tmp_path / "image")
        assert engine_of(tmp_path / "image") == store.stats()["engine"]


def test_one_engine_does_not_start_an_empty_store_beside_another(tmp_path: Path) -> None:
    pytest.importorskip("rocksdict")
    LMDBAdapter(tmp_path / "s").close()
    with pytest.raises(StorageError, match="'lmdb 1', not rocksdb"):
        RocksDBAdapter(tmp_path / "s")
    assert not (tmp_path / "s" / "db").exists()


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    LMDBAdapter(tmp_path / "s").close()
    (tmp_path / "s" / "FORMAT").write_text("lmdb 2\n")
    with pytest.raises(StorageError, match="lmdb 2"):
        LMDBAdapter(tmp_path / "s")


def test_a_mark_of_junk_is_refused(tmp_path: Path) -> None:
    LMDBAdapter(tmp_path / "s").close()
    (tmp_path / "s" / "FORMAT").write_bytes(b"\xff\xfe junk")
    with pytest.raises(StorageError, match="junk"):
        LMDBAdapter(tmp_path / "s")


@pytest.mark.parametrize("rest", [None, b""])
def test_a_store_whose_data_file_is_gone_is_damaged_not_new(tmp_path: Path, rest: bytes | None) -> None:
    with LMDBAdapter(tmp_path / "s") as store:
        fill(store, 10)
    (tmp_path / "s" / "data.mdb").unlink()
    if rest is not None:
        (tmp_path / "s" / "data.mdb").write_bytes(rest)
    with pytest.raises(DamagedStore, match="lost its data"):
        LMDBAdapter(tmp_path / "s")


def test_a_rocksdb_store_whose_files_are_gone_is_damaged_not_new(tmp_path: Path) -> None:
    pytest.importorskip("rocksdict")
    with RocksDBAdapter(tmp_path / "s") as store:
        fill(store, 10)
    (tmp_path / "s" / "db" / "CURRENT").unlink()
    with pytest.raises(DamagedStore, match="lost its data"):
        RocksDBAdapter(tmp_path / "s")


def test_a_store_that_was_never_finished_is_made_again(disk_adapter: type[StorageAdapter], tmp_path: Path) -> None:
    disk_adapter(tmp_path / "s").close()  # type: ignore[call-arg]
    (tmp_path / "s" / "FORMAT").unlink()
    with disk_adapter(tmp_path / "s") as store:  # type: ignore[call-arg]
        fill(store, 10)
    assert engine_of(tmp_path / "s") is not None


def test_the_names_of_new_folders_reach_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    sync = folder.sync

    def noted(path: Path) -> None:
        synced.append(path)
        sync(path)

    monkeypatch.setattr(folder, "sync", noted)
    LMDBAdapter(tmp_path / "a" / "b").close()
    assert [tmp_path, tmp_path / "a"] == synced[:2]
    assert tmp_path / "a" / "b" == synced[-1]


def test_destroy_leaves_files_of_others_alone(disk_adapter: type[StorageAdapter], tmp_path: Path) -> None:
    store = disk_adapter(tmp_path / "s")  # type: ignore[call-arg]
    (tmp_path / "s" / "tail").write_bytes(b"not the adapter's")
    store.destroy()
    assert [file.name for file in (tmp_path / "s").iterdir()] == ["tail"]


def test_a_destroyed_adapter_does_not_destroy_the_store_made_after_it(tmp_path: Path) -> None:
    old = LMDBAdapter(tmp_path / "s")
    old.destroy()
    with LMDBAdapter(tmp_path / "s") as store:
        fill(store, 3)
    old.destroy()
    with LMDBAdapter(tmp_path / "s") as store:
        assert store.bounds() == (1, 3)


def test_destroying_a_closed_store_that_another_has_opened_is_refused(tmp_path: Path) -> None:
    old = LMDBAdapter(tmp_path / "s")
    old.close()
    with LMDBAdapter(tmp_path / "s"), pytest.raises(StorageError, match="in use"):
        old.destroy()


def test_a_read_only_file_system_is_a_storage_error(disk_adapter: type, small_disk: Callable[..., Path]) -> None:
    disk = small_disk(16, options=",ro")
    with pytest.raises(StorageError) as caught:
        disk_adapter(disk / "s")
    assert caught.value.errno == errno.EROFS


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_a_storage_error(disk_adapter: type, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError) as caught:
        disk_adapter(tmp_path / "s")
    assert caught.value.errno == errno.EACCES


def test_a_backup_of_a_memory_store_is_an_lmdb_store(tmp_path: Path) -> None:
    store = MemoryAdapter()
    store.write(Batch({"ballot": b"7"}, None, entries(1, 9)))
    store.compact(4)
    store.backup(tmp_path / "image")
    with LMDBAdapter(tmp_path / "image") as image:
        assert (image.bounds(), image.meta("ballot"), image.read(1, 9, 1 << 20)) == ((5, 9), b"7", entries(5, 9))
    with pytest.raises(StorageError) as caught:
        store.backup(tmp_path / "image")
    assert caught.value.errno == errno.EEXIST
