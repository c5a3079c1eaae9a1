"""The values of the interface, and what a bad batch is told."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

import storage_adapters
from storage_adapters import Batch, DamagedStore, MemoryAdapter, StorageAdapter, StorageError, StoreInUse
from storage_adapters.interface import MAX_INDEX, MissingExtra


def test_the_package_exports_what_it_promises() -> None:
    assert set(storage_adapters.__all__) == {
        "StorageAdapter", "Batch", "MemoryAdapter", "LMDBAdapter", "RocksDBAdapter",
        "SharedLMDB",        "StorageError", "StoreInUse", "DamagedStore", "conformance",
    }  # fmt: skip
    assert all(hasattr(storage_adapters, name) for name in storage_adapters.__all__)


def test_a_batch_is_frozen_and_small() -> None:
    batch = Batch({"a": b"1"}, 3, [(3, b"x")])
    with pytest.raises(AttributeError):
        batch.truncate_from = 4  # type: ignore[misc]
    assert not hasattr(batch, "__dict__")
    assert (Batch().meta, Batch().truncate_from, Batch().entries) == ({}, None, ())
    assert batch == Batch(meta={"a": b"1"}, truncate_from=3, entries=[(3, b"x")])


def test_batches_do_not_share_their_default_meta() -> None:
    assert Batch().meta is not Batch().meta


def test_errors_tell_what_they_know() -> None:
    assert StorageError("x").errno is None
    assert StorageError("x", errno=28).errno == 28
    error = StoreInUse("/data/s1", 41)
    assert (error.pid, error.path, error.errno) == (41, "/data/s1", None)
    assert "/data/s1" in str(error)
    assert "41" in str(error)
    assert issubclass(StoreInUse, StorageError)
    assert issubclass(DamagedStore, StorageError)


@pytest.mark.parametrize(
    "error",
    [
        StorageError("x", errno=28),
        DamagedStore("y"),
        StoreInUse("/s", 4),
        StoreInUse("/s", None),
        MissingExtra("a", "b"),
    ],
)
def test_errors_cross_to_another_process_whole(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_the_interface_cannot_be_opened_itself() -> None:
    with pytest.raises(TypeError, match="abstract"):
        StorageAdapter()  # type: ignore[abstract]


def test_a_memory_store_needs_no_path() -> None:
    with MemoryAdapter() as store:
        assert store.stats()["path"] == ""


BAD: list[tuple[Batch, type[Exception], str]] = [
    (Batch({}, None, [(7, b"")]), ValueError, "go on at index 6, not 7"),
    (Batch({}, None, [(6, b""), (8, b"")]), ValueError, "go on at index 7, not 8"),
    (Batch({}, 2, []), ValueError, "truncate_from 2 lies below the first index 3"),
    (Batch({}, None, [(6, "text")]), TypeError, "entry 6 must be bytes, not str"),  # type: ignore[list-item]
    (Batch({}, None, [("6", b"")]), TypeError, "index must be an int, not str"),  # type: ignore[list-item]
    (Batch({"ballot": 7}), TypeError, "meta key 'ballot' must be bytes, not int"),  # type: ignore[dict-item]
    (Batch({b"ballot": b"7"}), TypeError, "key must be a str, not bytes"),  # type: ignore[dict-item]
    (Batch({"": b"7"}), ValueError, "1 to 511 bytes, not 0"),
    (Batch({"x" * 512: b"7"}), ValueError, "1 to 511 bytes, not 512"),
]


@pytest.mark.parametrize(("batch", "error", "text"), BAD, ids=[text for _, _, text in BAD])
def test_a_bad_batch_is_told_what_is_wrong(batch: Any, error: type[Exception], text: str) -> None:
    store = MemoryAdapter()
    store.compact(2)
    store.write(Batch({}, None, [(3, b""), (4, b""), (5, b"")]))
    with pytest.raises(error, match=text):
        store.write(batch)


def test_the_largest_index_is_the_end() -> None:
    store = MemoryAdapter()
    store.compact(MAX_INDEX - 1)
    store.write(Batch({}, None, [(MAX_INDEX, b"last")]))
    with pytest.raises(ValueError, match="largest"):
        store.write(Batch({}, None, [(MAX_INDEX + 1, b"")]))
    with pytest.raises(ValueError, match="largest"):
        store.compact(MAX_INDEX)
    assert store.bounds() == (MAX_INDEX, MAX_INDEX)
