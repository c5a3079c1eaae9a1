"""Writes and reads as callers see them: one after the other, from 32 threads, with 1,000 in flight."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import raft_actors as raft
from raft_actors.bench.measuring import Slice
from raft_actors.bench.rig import PAYLOAD

__all__ = ["pipelined", "reads_sequential", "reads_threads", "writes_sequential", "writes_threads"]

IN_FLIGHT = 1000
THREADS = 32
TIMEOUT = 30.0
TIMED_EVERY = 16
"""Of pipelined writes only some are timed: the timing must not cost what it measures."""


def _sequential(action: Callable[[], object], seconds: float) -> Slice:
    clock, times = time.perf_counter, []
    begin = now = clock()
    while now - begin < seconds:
        before = now
        action()
        now = clock()
        times.append(now - before)
    return Slice(len(times), now - begin, times)


def _threads(action: Callable[[], object], seconds: float) -> Slice:
    """``THREADS`` callers, each waiting for its answer before it asks again; they start together."""
    ready = threading.Barrier(THREADS + 1)
    done: list[Slice] = []
    failed: list[BaseException] = []

    def caller() -> None:
        ready.wait()
        try:
            done.append(_sequential(action, seconds))
        except BaseException as error:  # noqa: BLE001 - raised in the thread that measures
            failed.append(error)

    threads = [threading.Thread(target=caller, daemon=True) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    ready.wait()
    begin = time.perf_counter()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - begin
    if failed:
        raise failed[0]
    return Slice(sum(each.operations for each in done), took, [second for each in done for second in each.times])


def _write(leader: str) -> None:
    raft.write(leader, PAYLOAD, timeout=TIMEOUT)


def _read(leader: str) -> None:
    raft.read(leader, PAYLOAD, timeout=TIMEOUT)


def writes_sequential(leader: str, seconds: float) -> Slice:
    """One write after the other."""
    return _sequential(partial(_write, leader), seconds)


def reads_sequential(leader: str, seconds: float) -> Slice:
    """One linearizable read after the other."""
    return _sequential(partial(_read, leader), seconds)


def writes_threads(leader: str, seconds: float) -> Slice:
    """Writes from 32 threads."""
    return _threads(partial(_write, leader), seconds)


def reads_threads(leader: str, seconds: float) -> Slice:
    """Linearizable reads from 32 threads."""
    return _threads(partial(_read, leader), seconds)


def pipelined(leader: str, *, seconds: float = float("inf"), writes: int | None = None) -> Slice:
    """Writes of one thread with 1,000 in flight, until ``seconds`` are over or ``writes`` are done.

    The last ones are waited for within the time measured.
    """
    clock, waiting, times = time.perf_counter, deque[Any](), list[float]()
    begin = clock()
    done = 0
    for done in count(1):
        future = raft.write(leader, PAYLOAD, timeout=TIMEOUT, block=False)
        if done % TIMED_EVERY == 0:
            future.when_done(partial(_note, times, clock()))
        waiting.append(future)
        if len(waiting) >= IN_FLIGHT:
            waiting.popleft().get()
        if done == writes or clock() - begin >= seconds:
            break
    while waiting:
        waiting.popleft().get()
    return Slice(done, clock() - begin, times)


def _note(times: list[float], begin: float, _: object) -> None:
    times.append(time.perf_counter() - begin)
