"""Two workers take jobs out of one queue: each job is done once, whoever leads the cluster."""

from __future__ import annotations

import threading

import raft_actors as raft
from raft_actors.machines import Queue
from raft_actors.testing import Cluster


def work(client: raft.Client, done: list[str]) -> None:
    """Take jobs until none is left; a repeated ``get`` of a client is the same one, so no job gets lost on the way."""
    while (job := client.write("get")) is not None:
        done.append(job)


def main() -> list[str]:
    """Run it; returns the jobs that were done."""
    done: list[str] = []
    with Cluster(Queue) as cluster, raft.Client(cluster.names, timeout=20.0) as client:
        for number in range(20):
            client.write(("put", f"job {number}"))
        threads = [threading.Thread(target=work, args=(client, done)) for _ in range(2)]
        for thread in threads:
            thread.start()
        cluster.crash(cluster.leader() or "s1")
        for thread in threads:
            thread.join()
    return done


if __name__ == "__main__":
    print(f"{len(main())} jobs done, each once")
