"""Three workers share one lock; who cannot get it waits until it is free, or until a lease is over, and asks then."""

from __future__ import annotations

import threading
import time

import raft_actors as raft
from raft_actors.machines import Lock
from raft_actors.testing import Cluster

LEASE = 5.0


def acquire(client: raft.Client, peer: str, name: str, owner: str) -> int:
    """Wait for the lock; returns the token."""
    while True:
        asked = client.write(("acquire", name, owner, LEASE), block=False)
        token = asked.get()
        if token is not None:
            return int(token)
        wait_until_free(peer, name, asked.index or 0)


def wait_until_free(peer: str, name: str, index: int) -> None:
    """Look at what is written after ``index``, no longer than for a lease: a holder that died releases nothing."""
    end = time.monotonic() + LEASE
    while (left := end - time.monotonic()) > 0:
        seen = raft.read(peer, ("holder", name), consistency="stale", min_index=index + 1, timeout=left, block=False)
        try:
            if seen.get() is None:
                return
        except raft.Timeout:
            return
        index = seen.index or index


def work(client: raft.Client, peer: str, owner: str, done: list[tuple[int, str]]) -> None:
    """Do something that only one may do at a time; the token goes with it, so that a late one can be refused."""
    token = acquire(client, peer, "printer", owner)
    done.append((token, owner))
    client.write(("release", "printer", token))


def main() -> list[tuple[int, str]]:
    """Run it; returns who had the lock, by token."""
    done: list[tuple[int, str]] = []
    with Cluster(Lock) as cluster, raft.Client(cluster.names) as client:
        cluster.leader()
        threads = [threading.Thread(target=work, args=(client, "s1", owner, done)) for owner in ("ann", "bob", "eve")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return done


if __name__ == "__main__":
    for token, owner in main():
        print(f"{owner} printed with token {token}")
