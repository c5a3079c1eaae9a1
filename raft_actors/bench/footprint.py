"""What a cluster costs: idle, after a million entries, at a restart, and among threads that hog the interpreter."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import raft_actors as raft
from raft_actors.bench.measuring import Slice
from raft_actors.bench.probes import Memory, memory
from raft_actors.bench.rig import PAYLOAD, Rig
from raft_actors.bench.throughput import pipelined

__all__ = ["BUSY", "busy_threads", "fill", "grow", "idle", "restart", "term", "write_cost"]

BUSY = 4
"""Threads that compute without end."""


def idle(seconds: float) -> float:
    """CPU time of this process per second, while nobody asks anything of it."""
    cpu, wall = time.process_time(), time.perf_counter()
    time.sleep(seconds)
    return (time.process_time() - cpu) / (time.perf_counter() - wall)


def fill(rig: Rig, entries: int) -> None:
    """Write until the log holds ``entries``."""
    leader = rig.leader()
    missing = entries - raft.status(leader).last_index
    if missing > 0:
        pipelined(leader, writes=missing)


def grow(rig: Rig, small: int, large: int) -> Memory:
    """Let the log grow from ``small`` to ``large`` entries; by how much this process has grown with it."""
    fill(rig, small)
    gc.collect()
    before = memory()
    fill(rig, large)
    gc.collect()
    return memory().since(before)


def write_cost(rig: Rig, writes: int) -> tuple[float, Slice]:
    """CPU seconds of a write, the caller's included, until it is applied everywhere."""
    leader = rig.leader()
    cpu = time.process_time()
    done = pipelined(leader, writes=writes)
    rig.settle()
    return (time.process_time() - cpu) / writes, done


def restart(rig: Rig) -> tuple[float, float]:
    """Stop all peers, start them again on their stores, and read; seconds for the start, and to the answer."""
    rig.stop()
    begin = time.perf_counter()
    rig.start(*rig.names)
    started = time.perf_counter() - begin
    raft.read(rig.leader(), PAYLOAD, timeout=30.0)
    return started, time.perf_counter() - begin


def term(rig: Rig) -> int:
    """The highest term of any peer: it counts elections."""
    return max(raft.status(name).term for name in rig.names)


@contextmanager
def busy_threads() -> Iterator[None]:
    """Four threads that compute without end, until the block is left."""
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            sum(range(10_000))

    threads = [threading.Thread(target=compute, daemon=True) for _ in range(BUSY)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
