"""Where does the time of one request go? When each thread begins and ends its turns, from the caller's point of view.

    python -m benchmarks.timeline [--storage lmdb] [--read]

Medians over the requests that took a usual time; "peer(1" is the beginning of a thread's first turn, "peer)1" its end.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections import Counter, defaultdict
from statistics import median
from typing import Any

import raft_actors as raft
from raft_actors.bench import bench_folder
from raft_actors.bench.rig import PAYLOAD, Rig
from raft_actors.log_store import LogStore
from raft_actors.log_writer import LogWriter
from raft_actors.machine_actor import MachineActor
from raft_actors.peer import Peer

REQUESTS = 600
WATCHED = ((Peer, "on_receive", "turn"), (LogWriter, "on_receive", "turn"), (LogStore, "write", "sync"))
WATCHED += ((MachineActor, "on_receive", "turn"),)

events: list[tuple[float, str, str]] = []


def watch(cls: Any, method: str, label: str) -> None:
    """Note when ``method`` begins and ends, and in which thread."""
    original = getattr(cls, method)

    def noted(*args: Any, **kwargs: Any) -> Any:
        thread = threading.current_thread().name
        events.append((time.perf_counter(), thread, f"{label} ("))
        try:
            return original(*args, **kwargs)
        finally:
            events.append((time.perf_counter(), thread, f"{label} )"))

    setattr(cls, method, noted)


def collect(request: Any) -> list[tuple[float, list[tuple[float, str, str]]]]:
    """Duration and events of each request, the events relative to its beginning."""
    seen = []
    for _ in range(REQUESTS):
        events.clear()
        begin = time.perf_counter()
        request()
        end = time.perf_counter()
        noted = [(at - begin, thread, what) for at, thread, what in events if begin <= at <= end]
        seen.append((end - begin, noted))
        time.sleep(0.001)  # what the followers still do belongs to this request, not to the next
    return seen


def show(seen: list[tuple[float, list[tuple[float, str, str]]]], leader: str) -> None:
    usual = median(took for took, _ in seen)
    kept = [noted for took, noted in seen if took < 1.5 * usual]
    moments = defaultdict(list)
    for noted in kept:
        counts: Counter[tuple[str, str]] = Counter()
        for at, thread, what in noted:
            counts[thread, what] += 1
            moments[thread, what, counts[thread, what]].append(at)
    print(f"{1e6 * usual:8.0f} us  answered")
    for (thread, what, number), times in sorted(moments.items(), key=lambda item: median(item[1])):
        if len(times) > len(kept) / 2:
            role = "leader" if thread.endswith(leader) else "follower"
            print(f"{1e6 * median(times):8.0f} us  {role:9} {thread.removeprefix('raft-'):20} {what}{number}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", default="lmdb")
    parser.add_argument("--read", action="store_true", help="a linearizable read instead of a write")
    args = parser.parse_args()
    for cls, method, label in WATCHED:
        watch(cls, method, label)
    with bench_folder(None) as folder, Rig(folder, args.storage) as rig:
        leader = rig.leader()
        request = (lambda: raft.read(leader, PAYLOAD)) if args.read else (lambda: raft.write(leader, PAYLOAD))
        for _ in range(200):
            request()
        show(collect(request), leader)


if __name__ == "__main__":
    main()
