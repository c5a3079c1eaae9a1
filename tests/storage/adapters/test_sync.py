"""What the kernel sees of a change: a sync before it returns, and a failed sync that is never tried again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from storage_adapters import LMDBAdapter, RocksDBAdapter
from storage_adapters.disk import DiskAdapter
from tests.storage.adapters.support import run_python

pytest.importorskip("rocksdict")

SYNCED = """
import os, sys, lmdb
from storage_adapters import Batch, LMDBAdapter, RocksDBAdapter, SharedLMDB
if sys.argv[3] == "nosync":
    opened = lmdb.open
    lmdb.open = lambda *args, **more: opened(*args, sync=False, **more)
engines = {"lmdb": LMDBAdapter, "rocksdb": RocksDBAdapter, "shared-lmdb": SharedLMDB(sys.argv[2] + "hared")}
store = engines[sys.argv[1]](sys.argv[2])
for index in range(1, 4):
    os.write(2, b"BEGIN\\n")
    store.write(Batch({"a": b"%d" % index}, index, [(index, b"x" * 300)]))
    os.write(2, b"END\\n")
os.write(2, b"BEGIN\\n")
store.compact(2)
os.write(2, b"END\\n")
"""


def strace(trace: Path, *options: str) -> tuple[str, ...]:
    """Return the beginning of a command that runs under strace, or skip the test."""
    program = shutil.which("strace")
    if program is None:
        pytest.skip("strace is not installed")
    prefix = (program, "-f", "-o", str(trace), *options)
    if run_python("", prefix=prefix).returncode:
        pytest.skip("strace may not trace here")
    return prefix


def syncs_per_change(tmp_path: Path, *arguments: str) -> list[int]:
    """Return how many fsync or fdatasync calls that succeeded lay within each change, as the kernel saw them."""
    trace = tmp_path / "trace"
    prefix = strace(trace, "-e", "trace=fsync,fdatasync,write")
    done = run_python(SYNCED, arguments[0], tmp_path / "s", *arguments[1:], prefix=prefix)
    assert done.returncode == 0, done.stderr
    lines = trace.read_text().splitlines()
    begins = [number for number, line in enumerate(lines) if "write(2" in line and "BEGIN" in line]
    ends = [number for number, line in enumerate(lines) if "write(2" in line and "END" in line]
    spans = [lines[begin:end] for begin, end in zip(begins, ends, strict=True)]
    return [sum("sync" in line and line.endswith("= 0") for line in span) for span in spans]


@pytest.mark.parametrize("engine", ["lmdb", "rocksdb", "shared-lmdb"])
def test_every_change_is_synced_before_it_returns(engine: str, tmp_path: Path) -> None:
    counts = syncs_per_change(tmp_path, engine, "sync")
    assert len(counts) == 4
    assert min(counts) >= 1


@pytest.mark.parametrize("engine", ["lmdb", "shared-lmdb"])
def test_the_test_above_sees_a_missing_sync(engine: str, tmp_path: Path) -> None:
    assert syncs_per_change(tmp_path, engine, "nosync") == [0, 0, 0, 0]


FAILING = """
import sys
from storage_adapters import Batch, LMDBAdapter, RocksDBAdapter, StorageError
store = {"lmdb": LMDBAdapter, "rocksdb": RocksDBAdapter}[sys.argv[1]](sys.argv[2])
index, said = 1, []
while index < 100 and len(said) < 3:
    try:
        store.write(Batch({}, None, [(index, b"x" * 300)]))
        index += 1
        if said:
            said.append("written after a failed sync")
    except StorageError as error:
        said.append(error.errno)
print(index - 1, said, store.bounds(), len(store.read(1, 1000, 1 << 30)) >= index - 1)
store.close()
"""


@pytest.mark.parametrize("adapter", [LMDBAdapter, RocksDBAdapter])
def test_a_sync_that_fails_once_fails_every_later_change(adapter: type[DiskAdapter], tmp_path: Path) -> None:
    """BUG-17: the second sync returns success although the pages of the first are lost."""
    prefix = strace(tmp_path / "trace", "-e", "inject=fdatasync:error=EIO:when=20")
    done = run_python(FAILING, adapter.engine, tmp_path / "s", prefix=prefix)
    assert done.returncode == 0, done.stderr
    written, rest = done.stdout.split(" ", 1)
    assert rest == f"[5, 5, 5] (1, {written}) True\n"
    with adapter(tmp_path / "s") as store:
        first, last = store.bounds()
        assert first == 1
        assert last in (int(written), int(written) + 1)
        assert len(store.read(first, last, 1 << 30)) == last
