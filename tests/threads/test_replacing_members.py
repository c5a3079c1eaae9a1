"""The peers of a cluster are replaced while it works: no acknowledged write is lost, and nobody waits for long."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable

import pytest

import raft_actors as raft
from raft_actors.testing import Cluster
from tests.threads.snapshot_machines import leader_of
from tests.threads.test_membership import STORAGES, members_of
from tests.threads.tools import Recorder, wait_until


class Load:
    """Threads that write numbers without a pause, and when each was acknowledged."""

    def __init__(self, peers: Iterable[str], threads: int = 2) -> None:
        self.acknowledged: list[tuple[float, int]] = []
        self.failed: list[BaseException] = []
        self._numbers = itertools.count(1)
        self._over = threading.Event()
        self._client = raft.Client(peers, timeout=10.0)
        self._threads = [threading.Thread(target=self._write) for _ in range(threads)]

    def _write(self) -> None:
        while not self._over.is_set():
            number = next(self._numbers)
            try:
                self._client.write(number)
            except Exception as error:
                self.failed.append(error)
                return
            self.acknowledged.append((time.monotonic(), number))

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(20)
        self._client.close()

    def longest_gap(self) -> float:
        """Seconds without an acknowledged write."""
        times = sorted(moment for moment, _ in self.acknowledged)
        return max(after - before for before, after in itertools.pairwise(times))


@pytest.mark.parametrize("storage", STORAGES)
def test_all_three_peers_are_replaced_under_load_without_a_gap_and_nothing_is_lost(storage: str) -> None:
    with Cluster(Recorder, storage=storage) as cluster:
        with Load(["s1", "s2", "s3"]) as load:
            wait_until(lambda: len(load.acknowledged) > 50)
            for number in (1, 2, 3):
                cluster.add(f"n{number}")
                raft.remove_peer(f"n{number}", f"s{number}")
                cluster.stop(f"s{number}")
            enough = len(load.acknowledged) + 50
            wait_until(lambda: len(load.acknowledged) > enough)
        assert load.failed == []
        assert members_of(leader_of(cluster)) == ({"n1", "n2", "n3"}, set())
        found = cluster.read("all")
        assert sorted(found) == sorted(number for _, number in load.acknowledged), "each acknowledged write, once"
        assert load.longest_gap() < 2 * raft.Config().max_election_timeout


def test_a_cluster_that_stood_still_would_be_noticed() -> None:
    with Cluster(Recorder) as cluster, Load(["s1", "s2", "s3"]) as load:
        wait_until(lambda: len(load.acknowledged) > 50)
        for name in cluster.names:
            cluster.partition({name}, set(cluster.names) - {name})
        began = time.monotonic()
        wait_until(lambda: all(cluster.status(name).role != "leader" for name in cluster.names))
        stood_still = time.monotonic() - began
        cluster.heal()
        enough = len(load.acknowledged) + 50
        wait_until(lambda: len(load.acknowledged) > enough)
        assert load.longest_gap() >= stood_still > raft.Config().min_election_timeout / 2
