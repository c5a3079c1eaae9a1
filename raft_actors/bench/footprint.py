"""What a cluster costs: idle, after a million entries, at a restart, and among threads that hog the interpreter."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import NamedTuple

import raft_actors as raft
from raft_actors.bench.probes import Memory, memory
from raft_actors.bench.rig import NAMES, PAYLOAD, Rig
from raft_actors.bench.throughput import pipelined

__all__ = ["Growth", "busy_threads", "fill", "growth", "idle", "restart", "term"]

BUSY = 4
"""Threads that compute without end."""
SHARE = 10_000
"""Writes over which the CPU time of a write is taken, several times."""
SHARES = 5


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


class Growth(NamedTuple):
    """A small log and a large one.

    Attributes:
        cpu_small: CPU seconds of a write, callers included, at the small one.
        cpu_large: the same at the large one.
        memory: by how much this process has grown in between.
        times: wall-clock seconds per write at the large one.
    """

    cpu_small: float
    cpu_large: float
    memory: Memory
    times: list[float]


def growth(rig: Rig, small: int, large: int) -> Growth:
    """Compare the cost of a write at ``small`` and at ``large`` entries of the log."""
    fill(rig, small)
    cpu_small, _ = _cost(rig)
    gc.collect()
    before = memory()
    fill(rig, large)
    gc.collect()
    grown = memory().since(before)
    cpu_large, times = _cost(rig)
    return Growth(cpu_small, cpu_large, grown, times)


def _cost(rig: Rig) -> tuple[float, list[float]]:
    leader, costs, times = rig.leader(), [], []
    for _ in range(SHARES):
        cpu = time.process_time()
        times += pipelined(leader, writes=SHARE).times
        rig.settle()
        costs.append((time.process_time() - cpu) / SHARE)
    return median(costs), times


def restart(rig: Rig) -> tuple[float, float]:
    """Stop all peers, start them again on their stores, and read; seconds for the start, and to the answer."""
    rig.stop()
    begin = time.perf_counter()
    rig.start(*NAMES)
    started = time.perf_counter() - begin
    raft.read(rig.leader(), PAYLOAD, timeout=30.0)
    return started, time.perf_counter() - begin


def term() -> int:
    """The highest term of any peer: it counts elections."""
    return max(raft.status(name).term for name in NAMES)


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
