"""RocksDB: damage in its log, files that go missing, handles, and life without its library."""

from __future__ import annotations

import errno
import gc
from pathlib import Path

import pytest

from storage_adapters import Batch, DamagedStore, RocksDBAdapter, StorageError
from storage_adapters.interface import MissingExtra
from storage_adapters.rocksdb import _errno
from tests.storage.adapters.support import entries, fill, run_python, write_and_crash

pytest.importorskip("rocksdict")


def wal(path: Path) -> Path:
    """Return the write-ahead log that holds data."""
    return max((path / "db").glob("*.log"), key=lambda file: file.stat().st_size)


def test_a_torn_tail_is_dropped(tmp_path: Path) -> None:
    write_and_crash("RocksDBAdapter", tmp_path / "s", 200)
    file = wal(tmp_path / "s")
    file.write_bytes(file.read_bytes()[:-100])
    with RocksDBAdapter(tmp_path / "s", reserve=0) as store:
        assert store.bounds() == (1, 199)
        assert store.read(1, 199, 1 << 30) == entries(1, 199)


def test_damage_in_the_middle_of_the_log_is_reported_not_cut_off(tmp_path: Path) -> None:
    write_and_crash("RocksDBAdapter", tmp_path / "s", 1000)
    file = wal(tmp_path / "s")
    image = bytearray(file.read_bytes())
    image[len(image) // 2] ^= 0xFF
    file.write_bytes(image)
    for _ in range(2):  # and a failed opening leaves neither a lock nor a handle
        with pytest.raises(DamagedStore, match="Corruption"):
            RocksDBAdapter(tmp_path / "s", reserve=0)


def sorted_file(path: Path) -> Path:
    """Return a file of sorted entries, which RocksDB makes of its log when a store is closed."""
    return max((path / "db").glob("*.sst"), key=lambda file: file.stat().st_size)


def test_entries_after_a_torn_tail_follow_the_last_whole_one(tmp_path: Path) -> None:
    write_and_crash("RocksDBAdapter", tmp_path / "s", 50)
    file = wal(tmp_path / "s")
    file.write_bytes(file.read_bytes()[:-10])
    with RocksDBAdapter(tmp_path / "s", reserve=0) as store:
        fill(store, 10)
        assert store.read(1, 100, 1 << 30) == entries(1, 59)


def test_a_missing_file_is_damage(tmp_path: Path) -> None:
    with RocksDBAdapter(tmp_path / "s", reserve=0) as store:
        fill(store, 1000)
    sorted_file(tmp_path / "s").unlink()
    with pytest.raises(DamagedStore):
        RocksDBAdapter(tmp_path / "s", reserve=0)


def test_a_flipped_bit_in_a_sorted_file_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    with RocksDBAdapter(tmp_path / "s", reserve=0) as store:
        fill(store, 1000)
    file = sorted_file(tmp_path / "s")
    image = bytearray(file.read_bytes())
    image[len(image) // 3] ^= 0x40
    file.write_bytes(image)
    store = RocksDBAdapter(tmp_path / "s", reserve=0)
    with pytest.raises(DamagedStore) as kept:
        store.read(1, 1000, 1 << 30)
    store.close()
    # The error is kept, and with it its traceback: it must not keep the database open.
    RocksDBAdapter(tmp_path / "s", reserve=0).close()
    assert kept.value.errno is None


def test_long_truncations_and_short_ones_leave_the_same(tmp_path: Path) -> None:
    with RocksDBAdapter(tmp_path / "s", reserve=0) as store:
        for cut in (990, 900, 872, 871, 500, 1):
            fill(store, 1000 - store.bounds()[1])
            store.write(Batch({}, cut, [(cut, b"new")]))
            assert store.bounds() == (1, cut)
            assert store.read(1, 2000, 1 << 30) == [*entries(1, cut - 1), (cut, b"new")]
            store.write(Batch({}, cut, entries(cut, cut)))


def test_a_log_that_is_always_compacted_does_not_grow(tmp_path: Path) -> None:
    with RocksDBAdapter(tmp_path / "s", reserve=0) as store:
        for _ in range(30):
            fill(store, 2000, size=2048, batch=500)  # 4 MB a round, 120 MB in all
            store.compact(store.bounds()[1] - 100)
        assert store.stats()["bytes"] < 60e6
        last = store.bounds()[1]
        assert store.read(1, last, 1 << 30) == entries(last - 99, last, 2048)


def test_errors_carry_the_number_that_rocksdb_quotes() -> None:
    assert _errno("IO error: No space left on device: While appending to file: /x/000004.log") == errno.ENOSPC
    assert _errno("IO error: Permission denied: while open a file for lock: /x/LOCK") == errno.EACCES
    assert _errno("IO error: Input/output error") == errno.EIO
    assert _errno("Invalid argument") == errno.EINVAL
    assert _errno("Busy") is None


def test_the_reserve_is_made_again_when_there_is_room(tmp_path: Path) -> None:
    with RocksDBAdapter(tmp_path / "s", reserve=1 << 20) as store:
        assert store.stats()["reserve"]
    (tmp_path / "s" / "RESERVE").unlink()
    with RocksDBAdapter(tmp_path / "s", reserve=1 << 20):
        assert (tmp_path / "s" / "RESERVE").stat().st_blocks * 512 >= 1 << 20


def test_a_store_that_is_forgotten_unclosed_loses_nothing(tmp_path: Path) -> None:
    store = RocksDBAdapter(tmp_path / "s", reserve=0)
    fill(store, 10)
    store._lock.release()
    del store
    gc.collect()
    with RocksDBAdapter(tmp_path / "s", reserve=0) as store:
        assert store.bounds() == (1, 10)


WITHOUT = """
import sys
sys.modules["rocksdict"] = None
import storage_adapters
from storage_adapters.interface import MissingExtra
try:
    storage_adapters.RocksDBAdapter(sys.argv[1])
except MissingExtra as error:
    assert isinstance(error, ImportError)
    print(error.extra, "|", error)
print([result.ok for result in storage_adapters.conformance.run(storage_adapters.RocksDBAdapter)].count(True))
"""


def test_without_its_library_the_package_works_and_the_adapter_says_what_to_install(tmp_path: Path) -> None:
    done = run_python(WITHOUT, tmp_path / "s")
    expected = "rocksdb | rocksdict is not installed: pip install 'raft-actors[rocksdb]'\n0\n"
    assert (done.returncode, done.stdout) == (0, expected), done.stderr
    assert not (tmp_path / "s").exists()
    assert issubclass(MissingExtra, ImportError)


def test_importing_the_package_does_not_import_rocksdict() -> None:
    done = run_python("import sys, storage_adapters; print('rocksdict' in sys.modules)")
    assert done.stdout == "False\n"


def test_a_store_opened_by_other_means_is_a_storage_error(tmp_path: Path) -> None:
    import rocksdict

    RocksDBAdapter(tmp_path / "s", reserve=0).close()
    other = rocksdict.Rdict(
        str(tmp_path / "s" / "db"),
        rocksdict.Options(raw_mode=True),
        {name: rocksdict.Options(raw_mode=True) for name in ("log", "meta")},
    )
    with pytest.raises(StorageError, match="lock hold by current process"):
        RocksDBAdapter(tmp_path / "s", reserve=0)
    other.close()
    RocksDBAdapter(tmp_path / "s", reserve=0).close()
