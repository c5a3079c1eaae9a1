"""Threads of the host process that hog the interpreter must not cost elections (BUG-73)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import raft_actors as raft
from raft_actors.testing import Cluster
from tests.threads.tools import Recorder


@contextmanager
def hogs(count: int) -> Iterator[None]:
    """Threads that compute all the time."""
    end = threading.Event()

    def compute() -> None:
        number = 1
        while not end.is_set():
            for _ in range(10_000):
                number = (number * 1_103_515_245 + 12_345) % 2**31

    threads = [threading.Thread(target=compute, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("seconds", [5.0, pytest.param(60.0, marks=pytest.mark.slow)])
def test_four_busy_threads_cost_no_election(seconds: float) -> None:
    with Cluster(Recorder) as cluster:
        leader = cluster.leader()
        assert leader is not None
        term = cluster.status(leader).term
        roles: list[raft.RoleChanged] = []
        subscriptions = [raft.subscribe(name, roles.append, events=[raft.RoleChanged]) for name in cluster.names]
        written = 0
        with hogs(4):
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                assert raft.write(leader, written, timeout=10) == written + 1
                written += 1
        for subscription in subscriptions:
            subscription.close()
        assert roles == []
        assert cluster.status(leader).term == term
        assert written > 3
        assert cluster.converged()


def test_a_peer_that_really_dies_is_replaced_in_a_busy_process_too() -> None:
    with Cluster(Recorder) as cluster, hogs(4):
        leader = cluster.leader()
        assert leader is not None
        cluster.crash(leader)
        assert cluster.write("x", timeout=20) == 1
