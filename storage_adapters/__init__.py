"""Durable logs for consensus: small, strict, and usable without the rest.

    from storage_adapters import Batch, LMDBAdapter

    with LMDBAdapter("data/s1") as store:
        store.write(Batch({"ballot": b"..."}, None, [(1, b"first"), (2, b"second")]))
        store.read(1, 2, 1 << 20)      # [(1, b"first"), (2, b"second")]

An adapter of your own subclasses ``StorageAdapter`` and passes ``storage_adapters.conformance.run(factory)``.
"""

from __future__ import annotations

from storage_adapters import conformance
from storage_adapters.interface import Batch, DamagedStore, StorageAdapter, StorageError, StoreInUse
from storage_adapters.lmdb import LMDBAdapter
from storage_adapters.memory import MemoryAdapter
from storage_adapters.rocksdb import RocksDBAdapter
from storage_adapters.shared_lmdb import SharedLMDB

__all__ = [
    "StorageAdapter",
    "Batch",
    "MemoryAdapter",
    "LMDBAdapter",
    "RocksDBAdapter",
    "SharedLMDB",
    "StorageError",
    "StoreInUse",
    "DamagedStore",
    "conformance",
]
