"""Three workers share one lock; who cannot get it waits for the state to move on instead of asking again and again."""

from __future__ import annotations

import threading

import raft_actors as raft
from raft_actors.machines import Lock
from raft_actors.testing import Cluster


def work(client: raft.Client, peer: str, owner: str, done: list[tuple[int, str]]) -> None:
    """Do something that only one may do at a time; the token goes with it, so that a late one can be refused."""
    while True:
        asked = client.write(("acquire", "printer", owner, 5.0), block=False)
        token = asked.get()
        if token is not None:
            break
        later = (asked.index or 0) + 1
        raft.read(peer, ("holder", "printer"), consistency="stale", min_index=later, timeout=6.0)
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
