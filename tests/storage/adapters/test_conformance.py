"""The adapters of this package, and one of a third party, keep every promise of the interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from storage_adapters import LMDBAdapter, MemoryAdapter, RocksDBAdapter, SharedLMDB, StorageAdapter, conformance
from tests.storage.adapters.sqlite_adapter import SQLiteAdapter


def tiny_map(path: Any) -> StorageAdapter:
    return LMDBAdapter(path, map_size=1 << 16)


def beside(path: Any) -> StorageAdapter:
    """Every store of one check shares a file with the others of that check."""
    return SharedLMDB(Path(path).parent / ".shared", map_size=1 << 16)(path)


@pytest.mark.parametrize("factory", [MemoryAdapter, LMDBAdapter, tiny_map, beside, RocksDBAdapter, SQLiteAdapter])
def test_the_adapter_keeps_every_promise(factory: Any, tmp_path: Path) -> None:
    if factory is RocksDBAdapter:
        pytest.importorskip("rocksdict")
    results = conformance.run(factory, directory=tmp_path)
    assert [(result.name, result.detail) for result in results if not result.ok] == []
    assert len(results) >= (40 if factory is MemoryAdapter else 60)
    assert list(tmp_path.iterdir()) == []


def test_a_shared_file_keeps_every_promise_also_for_all_stores_of_a_long_life(tmp_path: Path) -> None:
    """One file for all stores of all checks; most of their folders are removed under it, as wiped disks are."""
    factory = SharedLMDB(tmp_path / "shared")
    results = conformance.run(factory, directory=tmp_path)
    assert [(result.name, result.detail) for result in results if not result.ok] == []
    assert len(results) >= 60
    assert factory.sweep() > 30


def test_a_store_that_is_not_durable_is_spared_the_checks_of_durability() -> None:
    names = {result.name for result in conformance.run(MemoryAdapter)}
    assert "meta merges by key" in names
    assert "a killed process leaves no lock, and all that it wrote" not in names


def test_names_are_sentences_and_differ() -> None:
    names = [result.name for result in conformance.run(MemoryAdapter)]
    assert len(set(names)) == len(names)
    assert all(len(name.split()) > 3 for name in names)


def test_a_factory_that_only_raises_fails_every_check_and_raises_nothing() -> None:
    def broken(path: object) -> StorageAdapter:
        raise RuntimeError(f"no store at {path}")

    results = conformance.run(broken)
    assert len(results) > 60
    assert not any(result.ok for result in results if "cannot be a folder" not in result.name)
    assert "RuntimeError: no store at" in results[0].detail


def test_a_local_function_is_a_factory_for_other_processes_too(tmp_path: Path) -> None:
    def local(path: Any) -> StorageAdapter:
        return LMDBAdapter(path)

    name = "a killed process leaves no lock, and all that it wrote"
    assert conformance.run(local, directory=tmp_path, names=[name]) == [(name, True, "")]
