"""What several tests of adapters need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from storage_adapters import Batch, StorageAdapter

ROOT = Path(__file__).parents[3]
MIB = 1 << 20


def entries(first: int, last: int, size: int = 256) -> list[tuple[int, bytes]]:
    return [(index, index.to_bytes(8, "big") + b"x" * (size - 8)) for index in range(first, last + 1)]


def fill(store: StorageAdapter, count: int, size: int = 256, batch: int = 100) -> None:
    last = store.bounds()[1]
    for first in range(last + 1, last + count + 1, batch):
        store.write(Batch({"last": b"%d" % first}, None, entries(first, min(first + batch - 1, last + count), size)))


CRASHING = """
import os, sys
import storage_adapters
from tests.storage.adapters.support import entries
store = getattr(storage_adapters, sys.argv[1])(sys.argv[2])
for index in range(1, int(sys.argv[3]) + 1):
    store.write(storage_adapters.Batch({}, None, entries(index, index)))
os._exit(0)
"""


def write_and_crash(adapter: str, path: Path, count: int) -> None:
    """Write ``count`` batches of one entry each in a process that ends without closing the store."""
    done = run_python(CRASHING, adapter, path, count)
    assert done.returncode == 0, done.stderr


def run_python(program: str, *arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own; it may die of whatever it likes."""
    command = [*prefix, sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)


THREE_SHARED = """
import sys, threading
from storage_adapters import Batch, SharedLMDB
from tests.storage.adapters.support import entries

shared, said = SharedLMDB(sys.argv[1] + "/shared"), threading.Lock()

def keep_writing(name):
    store = shared(sys.argv[1] + "/" + name)
    for index in range(1, 1 << 40):
        store.write(Batch({"last": b"%d" % index}, None, entries(index, index)))
        with said:
            print(name, index, flush=True)

for name in ("a", "b", "c"):
    threading.Thread(target=keep_writing, args=(name,)).start()
"""
