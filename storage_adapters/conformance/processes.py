"""Checks that need a second process: one that holds the store, and one that is killed (SIGKILL, no goodbye)."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from storage_adapters.conformance.harness import Contents, Factory, Failed, Lab, check, contents, expect, refused
from storage_adapters.conformance.worker import Order, batch
from storage_adapters.interface import Batch, StorageError, StoreInUse
from storage_adapters.memory import MemoryAdapter

_FOR_EVER = 1 << 40
_BEFORE_THE_KILL = 30
_DELAYS = (0.0, 0.002, 0.01)
"""Seconds from the last write waited for to the kill: so that it meets different moments of the writes that follow."""


@contextmanager
def _worker(factory: Factory, path: Path, count: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker on a store; it is killed at the end of the block at the latest."""
    order = Order(_pickled(factory), str(path), count)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path)}
    command = [sys.executable, "-m", "storage_adapters.conformance.worker"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment) as process:
        try:
            stdin = _piped(process.stdin)
            pickle.dump(order, stdin)
            stdin.flush()
            yield process
        finally:
            process.kill()


def _piped(stream: IO[bytes] | None) -> IO[bytes]:
    """Return a stream of the worker, all of which were asked for as pipes."""
    if stream is None:
        raise Failed("the other process has no pipe")
    return stream


def _pickled(factory: Factory) -> bytes:
    try:
        import cloudpickle
    except ImportError:
        return pickle.dumps(factory)
    pickled: bytes = cloudpickle.dumps(factory)
    return pickled


def _await(process: subprocess.Popen[bytes], word: str) -> None:
    """Read what the worker tells until it says ``word``."""
    for line in _piped(process.stdout):
        if line.strip() == word.encode():
            return
    said = _piped(process.stderr).read().decode(errors="replace").strip()
    raise Failed(f"the other process ended: {said[-300:]}")


def _kill(process: subprocess.Popen[bytes]) -> int:
    """Kill the worker and return the last number that it told."""
    process.kill()
    numbers = [int(line) for line in _piped(process.stdout) if line.endswith(b"\n") and line.strip().isdigit()]
    process.wait()
    return numbers[-1] if numbers else 0


def _after(count: int) -> Contents:
    """Return what a store must hold after so many of the worker's batches."""
    model = MemoryAdapter()
    for number in range(1, count + 1):
        model.write(batch(number))
    return contents(model, "number")


@check("a store that another process holds is refused, and the error names that process", durable=True)
def _in_use(lab: Lab) -> None:
    with _worker(lab.factory, lab.path(), 3) as process:
        _await(process, "done")
        with refused(StoreInUse, what="opening a store that another process holds") as caught:
            lab.open()
        expect(getattr(caught[0], "pid", None), process.pid, "the process named")
        expect(str(process.pid) in str(caught[0]), True, f"the text names it: {caught[0]}")


@check("a killed process leaves no lock, and all that it wrote", durable=True)
def _killed(lab: Lab) -> None:
    with _worker(lab.factory, lab.path(), 20) as process:
        _await(process, "done")
        _kill(process)
        store = lab.open()
        expect(contents(store, "number"), _after(20), "the store")
        store.write(Batch({}, None, [(101, b"on")]))
        expect(store.bounds(), (1, 101), "bounds after going on")


@check("a write that a kill interrupts is there wholly or not at all", durable=True)
def _killed_in_the_act(lab: Lab) -> None:
    for delay in _DELAYS:
        path = lab.path(f"store {delay}")
        with _worker(lab.factory, path, _FOR_EVER) as process:
            _await(process, str(_BEFORE_THE_KILL))
            time.sleep(delay)
            told = max(_kill(process), _BEFORE_THE_KILL)
        with lab.open(path.name) as store:
            found = contents(store, "number")
        if found not in (_after(told), _after(told + 1)):
            raise Failed(
                f"{told} writes had returned, and the store has {found.bounds}, number {found.meta['number']!r}"
            )


@check("a process that takes over a store finds what the last one left", durable=True)
def _handed_over(lab: Lab) -> None:
    store = lab.open()
    store.write(batch(1))
    store.close()
    with _worker(lab.factory, lab.path(), 2) as process:
        _await(process, "done")
        _kill(process)
    expect(contents(lab.open(), "number"), _after(2), "the store")
    with refused(StorageError, what="the adapter closed before"):
        store.bounds()
