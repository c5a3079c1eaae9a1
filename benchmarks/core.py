"""What do the rules cost? Three engines in one thread: no other thread, no disk, no lock, so hardly any noise.

    python -m benchmarks.core [--profile] [--batch 1]

Prints the CPU time that the engines of a leader and of two followers spend on one write and on one linearizable read,
the best of several rounds; with --profile the functions in which they spend it.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from raft_actors.behaviours.recovery import recover
from raft_actors.engine import Engine
from raft_actors.protocol.effects import Load, Send
from raft_actors.protocol.entry import Entry
from raft_actors.protocol.events import Applied, ClusterRequested, Persisted, Received
from raft_actors.protocol.log import Log
from raft_actors.protocol.state import Leader
from raft_actors.protocol.types import Ballot, LogPosition, Moment, Settings
from raft_actors.requests import ReadBatch, Segment, WriteBatch

NAMES = ("s1", "s2", "s3")
PAYLOAD = b"x" * 256


class Ports:
    """A world in which everything arrives, in order, as soon as somebody looks."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.ballot, self.last = Ballot(), LogPosition()

    def send(self, send: Send) -> None:
        self.world.queue.append((send.to, Received(send.message)))

    def persist(self, job: Any) -> None:
        for send in job.sends:
            self.send(send)
        persist = job.persist
        self.ballot = persist.ballot or self.ballot
        if persist.entries:
            self.last = LogPosition(persist.entries[-1].term, persist.entries[-1].index)
        self.world.queue.append((self.name, Persisted(self.ballot, self.last)))

    def load(self, load: Load) -> None:
        raise AssertionError("nothing is loaded here")

    def apply(self, entries: Sequence[Entry], segments: Sequence[Segment]) -> None:
        self.world.queue.append((self.name, Applied(entries[-1].index)))

    def serve(self, batch: ReadBatch) -> None:
        self.world.served += len(batch.futures)

    def noticed(self, before: Any, after: Any) -> None: ...

    def formed(self, effect: Any) -> None: ...

    def discarded(self, effect: Any) -> None:
        raise AssertionError(effect)

    def ready_to_stop(self) -> None: ...


class World:
    """Three engines with a clock of their own."""

    def __init__(self) -> None:
        self.queue: deque[tuple[str, Any]] = deque()
        self.served = 0
        self.now = 1.0
        self.engines = {name: self._engine(name) for name in NAMES}
        self.engines["s1"].run(ClusterRequested(1, "cluster", NAMES, 5.0), self.moment())
        while not any(isinstance(engine.state.role, Leader) for engine in self.engines.values()):
            self.run()
            self.now += 0.01
            for engine in self.engines.values():
                engine.tick(self.moment())
        self.run()
        self.leader = next(engine for engine in self.engines.values() if isinstance(engine.state.role, Leader))

    def moment(self) -> Moment:
        return Moment(self.now, self.now, 0.5)

    def _engine(self, name: str) -> Engine:
        state = recover(
            name=name,
            incarnation=f"i-{name}",
            settings=Settings(),
            cluster="",
            ballot=Ballot(),
            log=Log(),
            configurations=(),
            time=0.0,
            moment=self.moment(),
        )
        return Engine(state, Ports(self, name), lambda batch, count: None)

    def run(self) -> None:
        """A turn per event, as a peer that is never behind takes them."""
        queue, engines = self.queue, self.engines
        while queue:
            name, event = queue.popleft()
            engine, moment = engines[name], self.moment()
            engine.run(event, moment)
            engine.tick(moment)
            _ = engine.deadline

    def write(self, count: int) -> None:
        batch = WriteBatch()
        batch.commands = [PAYLOAD] * count
        batch.futures = [None] * count  # type: ignore[list-item]  # nobody waits
        self.leader.write(batch, self.moment())
        self.run()

    def read(self, count: int) -> None:
        batch = ReadBatch(lease=False)
        batch.queries = batch.futures = [None] * count  # type: ignore[list-item]
        self.leader.read(batch, self.moment())
        self.run()


def best(action: Any, count: int, rounds: int = 15, turns: int = 400) -> float:
    """Microseconds of CPU per request, the best of several rounds."""
    costs = []
    for _ in range(rounds):
        begin = time.thread_time()
        for _ in range(turns):
            action(count)
        costs.append((time.thread_time() - begin) / turns / count)
    return 1e6 * min(costs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", action="store_true", help="show where the time goes")
    parser.add_argument("--batch", type=int, default=1, help="requests that arrive together")
    args = parser.parse_args()
    world = World()
    for name, action in (("write", world.write), ("read", world.read)):
        print(f"{name}: {best(action, args.batch):.2f} us of rules, all three peers, batches of {args.batch}")
        if args.profile:
            profile = cProfile.Profile()
            profile.enable()
            for _ in range(1000):
                action(args.batch)
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
