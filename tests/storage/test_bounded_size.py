"""A log that is compacted behind itself keeps its size on the disk, whatever goes through it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from raft_actors.log_store import LogStore
from raft_actors.protocol.effects import Persist
from storage_adapters import LMDBAdapter, RocksDBAdapter, StorageAdapter
from storage_adapters.folder import size
from tests.storage.log_tools import command
from tests.storage.snapshot_tools import at, taken

TOTAL, EVERY, KEPT = 600_000, 10_000, 5_000
DATA = bytes(100)


def size_of(path: Path) -> int:
    """What the store takes, without what RocksDB puts aside for a full disk."""
    reserve = path / "RESERVE"
    return size(path) - (reserve.stat().st_size if reserve.exists() else 0)


@pytest.mark.slow
@pytest.mark.parametrize(("factory", "limit"), [(LMDBAdapter, 8 << 20), (RocksDBAdapter, 36 << 20)])
def test_a_store_under_constant_load_stays_small(
    factory: Callable[[str], StorageAdapter], limit: int, tmp_path: Path
) -> None:
    path = tmp_path / "s1"
    peak = 0
    with LogStore.open(factory, path, name="s1") as store:
        for first in range(1, TOTAL, 500):
            store.write([Persist(entries=tuple(command(index, data=DATA) for index in range(first, first + 500)))])
            last = first + 499
            if last % EVERY == 0:
                snapshot = taken(store.snapshots, at(store, last))
                store.compact(
                    snapshot, through=last - KEPT, configuration_index=0, configuration=snapshot.configuration
                )
                while store.trim(1000):
                    pass
                peak = max(peak, size_of(path))
    assert peak < limit < TOTAL * 133
    with LogStore.open(factory, path, name="s1") as store:
        assert store.recovered.log.last.index - store.recovered.base.index == KEPT
