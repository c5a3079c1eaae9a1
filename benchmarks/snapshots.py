"""Do snapshots stall, bloat or outgrow anything? Each figure beside its bound, on real peers with a large state.

    python -m benchmarks.snapshots [--storage lmdb|rocksdb] [--keys N] [--writes N] [--dir DIR] [CASE ...]

    stalls    writes while the leader saves a large state: longest gap, p99, elections, memory
    fresh     a peer with an empty disk gets the state while writes go on
    restart   from the snapshot, against replaying the log that it replaces
    growth    disk use over many writes to few keys

All peers are threads of this process and share its one interpreter: peers in processes of their own have it easier.
"""

from __future__ import annotations

import argparse
import gc
import logging
import shutil
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import raft_actors as raft
from raft_actors.bench import bench_folder
from raft_actors.bench.probes import memory
from raft_actors.machines import KV

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS = 1_000_000
WRITES = 10_000_000
FEW = 1_000
"""Keys of ``growth``."""
VALUE = 100
"""Bytes of each value."""
PIECE = 5_000
"""Keys that one command fills: holding up the machine is no part of what is measured."""
IN_FLIGHT = 1_000
PATIENCE = 600.0
NEVER = 2**62
MIB = 1 << 20


class Filled(KV):
    """A dictionary that can be filled with many keys by few commands."""

    def handle_write(self, command: Any, state: dict[Any, Any]) -> tuple[Any, dict[Any, Any]]:
        match command:
            case ("fill", first, count):
                state.update((key, value(key)) for key in range(first, first + count))
                return len(state), state
        return super().handle_write(command, state)


def value(number: int) -> str:
    return f"{number:0{VALUE}d}"


def told(what: str, figure: str, bound: str = "", *, held: bool | None = None) -> None:
    """Print one figure with its bound."""
    verdict = "" if held is None else ("held" if held else "MISSED")
    print(f"  {what:44} {figure:>26}   {bound:22} {verdict}", flush=True)


class Cluster:
    """Peers in this process on stores of their own."""

    def __init__(self, folder: Path, storage: str, size: int, **settings: Any) -> None:
        self.names = tuple(f"snap-{number}" for number in range(1, size + 1))
        self.folder = folder / "cluster"
        self.config = raft.Config(
            data_dir=self.folder, storage=storage, max_pending_writes=1 << 20, max_pending_bytes=1 << 30, **settings
        )

    def __enter__(self) -> Cluster:
        self.start(*self.names)
        raft.set_configuration(self.names[0], list(self.names), timeout=30)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(*self.names)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, *names: str) -> None:
        for name in names:
            raft.start_peer(Filled, name=name, config=self.config)

    def stop(self, *names: str) -> None:
        for name in names:
            with suppress(raft.UnknownPeer):
                raft.stop(name, timeout=60)

    def leader(self) -> str:
        for name in self.names:
            with suppress(raft.UnknownPeer):
                if found := raft.leader(name, timeout=30):
                    return found
        raise TimeoutError("no leader")

    def fill(self, keys: int, but: str = "") -> None:
        leader = self.leader()
        for first in range(0, keys, PIECE):
            raft.write(leader, ("fill", first, min(PIECE, keys - first)), timeout=60)
        self.settle(but)

    def settle(self, but: str = "") -> None:
        end = raft.status(self.leader()).commit_index
        for name in set(self.names) - {but}:
            wait_for(lambda name=name: raft.status(name).last_applied >= end)

    def terms(self) -> tuple[str, int]:
        status = raft.status(self.leader())
        return status.name, status.term


def wait_for(condition: Any, timeout: float = PATIENCE) -> float:
    """Look every few milliseconds until it holds; seconds."""
    begin = time.perf_counter()
    while not condition():
        if time.perf_counter() - begin > timeout:
            raise TimeoutError("it did not come about")
        time.sleep(0.005)
    return time.perf_counter() - begin


class Writers:
    """Threads that write without end to random keys, each waiting for its answer."""

    def __init__(self, leader: str, keys: int, threads: int = 2) -> None:
        self.acknowledged: list[tuple[float, float]] = []
        """When, and how long it took."""
        self.errors: list[BaseException] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(leader, keys, n)) for n in range(threads)]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _write(self, leader: str, keys: int, key: int) -> None:
        while not self._over.is_set():
            key = (key * 48271 + 11) % keys
            begin = time.perf_counter()
            try:
                raft.write(leader, ("set", key, value(key)), timeout=10)
            except raft.RaftError as error:
                self.errors.append(error)
            end = time.perf_counter()
            self.acknowledged.append((end, end - begin))

    def between(self, begin: float, end: float) -> tuple[int, float, float]:
        """Writes, longest gap between two acknowledgements and p99 latency, in that time; ms."""
        seen = sorted(one for one in list(self.acknowledged) if begin <= one[0] <= end)
        times = [begin, *(at for at, _ in seen), end]
        gap = max(late - early for early, late in pairwise(times))
        took = sorted(took for _, took in seen) or [end - begin]
        return len(seen), 1e3 * gap, 1e3 * took[int(0.99 * (len(took) - 1))]


class Paced(Writers):
    """One thread that offers so many writes each second, whether or not they are answered."""

    def __init__(self, leader: str, keys: int, rate: int) -> None:
        super().__init__(leader, keys, threads=1)
        self._rate = rate

    def _write(self, leader: str, keys: int, key: int) -> None:
        begin, sent = time.perf_counter(), 0
        while not self._over.wait(0.002):
            due = int((time.perf_counter() - begin) * self._rate)
            for _ in range(sent, min(due, sent + 200)):
                key = (key * 48271 + 11) % keys
                future = raft.write(leader, ("set", key, value(key)), timeout=30, block=False)
                future.add_done_callback(self._noted(time.perf_counter()))
                sent += 1

    def _noted(self, began: float) -> Any:
        def note(future: Any) -> None:
            end = time.perf_counter()
            try:
                future.get(timeout=0)
            except raft.RaftError as error:
                self.errors.append(error)
            else:
                self.acknowledged.append((end, end - began))

        return note


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """The most anonymous memory of this process in the block, looked at every 10 ms."""
    most, over = [memory().anonymous], threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            most[0] = max(most[0], memory().anonymous)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


# -- cases -------------------------------------------------------------------------------------------------------------


def stalls(folder: Path, args: argparse.Namespace) -> None:
    """Writes while the leader saves a large state."""
    with Cluster(folder, args.storage, 3, snapshot_threshold=NEVER, snapshot_threshold_bytes=NEVER) as cluster:
        gc.collect()
        before = memory().anonymous
        cluster.fill(args.keys)
        gc.collect()
        state = (memory().anonymous - before) / 3
        leader, term = cluster.terms()
        with Writers(leader, args.keys) as writers:
            time.sleep(1)
            begin = time.perf_counter()
            time.sleep(args.seconds)
            quiet = writers.between(begin, time.perf_counter())
            held = memory().anonymous
            with peak_memory() as most:
                begin = time.perf_counter()
                raft.snapshot(leader, timeout=PATIENCE)
                end = time.perf_counter()
            busy = writers.between(begin, end)
        told("state of each peer", f"{state / MIB:.0f} MiB")
        told("snapshot taken in", f"{end - begin:.2f} s")
        told("writes/s without / during", f"{quiet[0] / args.seconds:.0f} / {busy[0] / (end - begin):.0f}")
        told("longest gap without", f"{quiet[1]:.1f} ms")
        told("longest gap during", f"{busy[1]:.1f} ms", "< 250 ms", held=busy[1] < 250)
        told("p99 without / during", f"{quiet[2]:.2f} / {busy[2]:.2f} ms")
        told("p99 during over without", f"{busy[2] / quiet[2]:.2f}", "< 4", held=busy[2] < 4 * quiet[2])
        extra = (most[0] - held) / state
        told("extra memory over state", f"{extra:.2f}", "<= 1.2", held=extra <= 1.2)
        same = cluster.terms() == (leader, term)
        told("leader and term", "unchanged" if same else "changed", "unchanged", held=same)
        told("failed writes", f"{len(writers.errors)}", "0", held=not writers.errors)


def fresh(folder: Path, args: argparse.Namespace) -> None:
    """A peer with an empty disk gets the state while writes go on."""
    with Cluster(folder, args.storage, 3, trailing_entries=10) as cluster:
        leader, term = cluster.terms()
        empty = next(name for name in cluster.names if name != leader)
        cluster.settle()
        cluster.stop(empty)  # a member that has nothing but the configuration; a wiped one would be another member
        cluster.fill(args.keys, but=empty)
        raft.snapshot(leader, timeout=PATIENCE)
        with Paced(leader, args.keys, args.rate) as writers:
            time.sleep(2)
            begin = time.perf_counter()
            time.sleep(args.seconds)
            quiet = writers.between(begin, time.perf_counter())
            begin = time.perf_counter()
            cluster.start(empty)
            loaded = wait_for(lambda: raft.status(empty).snapshot_index > 0)
            wait_for(lambda: raft.status(leader).last_index - raft.status(empty).last_applied < args.rate // 5)
            end = time.perf_counter()
            busy = writers.between(begin, end)
        told("state there after", f"{loaded:.1f} s")
        told("caught up, writes going on, after", f"{end - begin:.1f} s", "it converges")
        told(
            "writes/s before / during",
            f"{quiet[0] / args.seconds:.0f} / {busy[0] / (end - begin):.0f}",
            f"{args.rate} offered",
        )
        told("longest gap before / during", f"{quiet[1]:.0f} / {busy[1]:.0f} ms")
        told("p99 before / during", f"{quiet[2]:.1f} / {busy[2]:.1f} ms")
        cluster.settle()
        sizes = [raft.read(name, "len", consistency="stale") for name in cluster.names]
        told("keys at each peer", str(sizes[0]), "equal", held=len(set(sizes)) == 1)
        same = cluster.terms() == (leader, term)
        told("leader and term", "unchanged" if same else "changed", "unchanged", held=same)
        told("failed writes", f"{len(writers.errors)}", "0", held=not writers.errors)


def restart(folder: Path, args: argparse.Namespace) -> None:
    """From the snapshot, against replaying the log that it replaces: one write for each key."""
    never = {"snapshot_threshold": NEVER, "snapshot_threshold_bytes": NEVER, "trailing_entries": 0}
    with Cluster(folder, args.storage, 1, **never) as cluster:
        (name,) = cluster.names
        pipelined(name, args.keys, args.keys)
        replaying = _restarted(cluster, args)
        raft.snapshot(name, timeout=PATIENCE)
        loading = _restarted(cluster, args)
        told(f"replay of {args.keys} entries", f"{replaying:.2f} s")
        told("from the snapshot", f"{loading:.2f} s")
        ratio = replaying / loading
        told("times faster", f"{ratio:.1f}", ">= 5", held=ratio >= 5)


def _restarted(cluster: Cluster, args: argparse.Namespace) -> float:
    """Seconds from the start to the answer of a linearizable read."""
    (name,) = cluster.names
    cluster.stop(name)
    gc.collect()
    begin = time.perf_counter()
    cluster.start(name)
    cluster.leader()
    assert raft.read(name, "len", timeout=PATIENCE) == args.keys
    return time.perf_counter() - begin


def growth(folder: Path, args: argparse.Namespace) -> None:
    """Disk use over many writes to few keys, with the snapshots that peers take by themselves."""
    with Cluster(folder, args.storage, args.peers) as cluster:
        leader, begin, sizes = cluster.leader(), time.perf_counter(), []
        for tenth in range(1, 11):
            pipelined(leader, args.writes // 10, FEW)
            sizes.append([disk_use(cluster.folder / name) / MIB for name in cluster.names])
            status = raft.status(leader)
            told(
                f"{tenth * args.writes // 10} writes, {time.perf_counter() - begin:.0f} s",
                " ".join(f"{size:.0f}" for size in sizes[-1]) + " MiB",
                f"first_index {status.first_index}",
            )
        early, late = max(map(max, sizes[:3])), max(map(max, sizes[7:]))
        told("most in the last over the first three tenths", f"{late / early:.2f}", "<= 1.5", held=late <= 1.5 * early)


def pipelined(leader: str, writes: int, keys: int) -> None:
    """Write to one key after the other, with many in flight."""
    waiting: deque[Any] = deque()
    for number in range(writes):
        key = number % keys
        waiting.append(raft.write(leader, ("set", key, value(key)), timeout=60, block=False))
        if len(waiting) >= IN_FLIGHT:
            waiting.popleft().get()
    for future in waiting:
        future.get()


def disk_use(folder: Path) -> int:
    """Bytes of disk under ``folder``, holes not counted."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # removed meanwhile
            total += 512 * path.stat().st_blocks
    return total


CASES = {"stalls": stalls, "fresh": fresh, "restart": restart, "growth": growth}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], metavar="CASE")
    parser.add_argument("--storage", choices=("lmdb", "rocksdb"), default="lmdb")
    parser.add_argument("--keys", type=int, default=KEYS, help="of 100 bytes each")
    parser.add_argument("--writes", type=int, default=WRITES, help="of growth")
    parser.add_argument("--peers", type=int, default=3, help="of growth")
    parser.add_argument("--rate", type=int, default=5_000, help="writes per second that fresh offers")
    parser.add_argument("--seconds", type=float, default=5.0, help="of the quiet time to compare with")
    parser.add_argument("--dir", type=Path, help="on which disk")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    for case in args.cases or CASES:
        print(f"{case}, {args.storage}, {args.keys} keys", flush=True)
        with bench_folder(args.dir) as folder:
            CASES[case](folder, args)


if __name__ == "__main__":
    main()
