"""Run something on exactly one host: wherever the leader is. It stops when another one leads."""

from __future__ import annotations

import threading
import time
from typing import ClassVar

from raft_actors.machines import Counter
from raft_actors.testing import Cluster


class Scheduler(Counter):
    """A counter whose leader also runs a schedule, in a thread of its own: the machine itself must not wait."""

    running: ClassVar[list[tuple[int, str]]] = []

    def init(self, name: str) -> int:
        """Remember whose machine this is."""
        self.name, self.stop = name, threading.Event()
        return super().init(name)

    def on_leader(self, term: int) -> None:
        """Begin."""
        self.stop = threading.Event()
        threading.Thread(target=self.run, args=(term, self.stop), daemon=True).start()

    def on_follower(self, term: int) -> None:
        """End. Who must never run twice checks its term with each thing that it does: this news may come late."""
        self.stop.set()

    def run(self, term: int, stop: threading.Event) -> None:
        """The schedule."""
        self.running.append((term, self.name))
        stop.wait()


def main() -> list[tuple[int, str]]:
    """Run it through one change of the leader; returns who ran the schedule, by term."""
    Scheduler.running = []
    with Cluster(Scheduler) as cluster:
        first = cluster.leader() or "s1"
        cluster.crash(first)
        while len(Scheduler.running) < 2 or cluster.leader() is None:
            time.sleep(0.01)
    return Scheduler.running


if __name__ == "__main__":
    for term, name in main():
        print(f"{name} runs the schedule of term {term}")
