"""What do many clusters cost that share three processes? CPU while idle, memory, threads, files; and do they write?

    python -m benchmarks.many [--clusters 300] [--heartbeat 0.5] [--seconds 10] [--dir DIR] [--stores shared own]

Each cluster has a peer in each process. All peers of a process share its connections and its transport thread, and
with ``shared`` also one LMDB file and one flush; with ``own`` each has its own. Both are measured one after the other.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import raft_actors as raft
from raft_actors.machines import KV
from storage_adapters import SharedLMDB

PROCESSES = 3
PATIENCE = 120.0
WRITES = 300
THREADS = 32


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def config(folder: Path, heartbeat: float, stores: str) -> raft.Config:
    return raft.Config(
        data_dir=folder,
        storage=SharedLMDB(folder / "shared") if stores == "shared" else "lmdb",
        codec="plain",
        heartbeat_interval=heartbeat,
        min_election_timeout=6 * heartbeat,
        max_election_timeout=12 * heartbeat,
    )


def serve(address: str, clusters: int, folder: str, heartbeat: float, stores: str) -> None:
    """One process: a peer of each cluster, until standard input ends."""
    place = int(Path(folder).name)
    with raft.start_node(address, insecure=True):
        settings = config(Path(folder), heartbeat, stores)
        for number in range(clusters):
            raft.start_peer(KV, name=f"c{number}-{place}", config=settings)
        print("ready", flush=True)
        sys.stdin.read()


def raise_limit() -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Process:
    """One of the three."""

    def __init__(self, place: int, args: argparse.Namespace, folder: Path, stores: str) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        own = folder / str(place)
        own.mkdir()
        words = ["--serve", self.address, str(args.clusters), str(own), str(args.heartbeat), stores]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.many", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def wait(self) -> None:
        if self.process.stdout is None or "ready" not in self.process.stdout.readline():
            raise raft.PeerFailed("a process did not start")

    def cpu(self) -> float:
        words = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def holds(self) -> tuple[float, int, int]:
        """Resident MiB, threads, open files."""
        status = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in status if ":" in line)
        files = len(os.listdir(f"/proc/{self.process.pid}/fd"))
        return int(fields["VmRSS"].split()[0]) / 1024, int(fields["Threads"]), files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clusters", type=int, default=300)
    parser.add_argument("--heartbeat", type=float, default=0.5)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--dir", type=Path)
    parser.add_argument("--stores", nargs="+", choices=("shared", "own"), default=["shared"])
    args = parser.parse_args()
    print(f"open files allowed: {raise_limit()}")
    for stores in args.stores:
        run(args, stores)


def run(args: argparse.Namespace, stores: str) -> None:
    print(f"{stores} stores")
    with tempfile.TemporaryDirectory(dir=args.dir) as name:
        processes = [Process(place, args, Path(name), stores) for place in range(PROCESSES)]
        try:
            measure(args, processes)
        finally:
            for one in processes:
                one.process.kill()
                one.process.wait()


def measure(args: argparse.Namespace, processes: list[Process]) -> None:
    begun = time.perf_counter()
    for one in processes:
        one.wait()
    print(f"{args.clusters} clusters of {PROCESSES}: started in {time.perf_counter() - begun:.1f} s")
    begun = time.perf_counter()
    members = {
        number: [f"c{number}-{place}@{one.address}" for place, one in enumerate(processes)]
        for number in range(args.clusters)
    }
    for number, names in members.items():
        raft.set_configuration(names[number % PROCESSES], names, timeout=PATIENCE)
    print(f"formed in {time.perf_counter() - begun:.1f} s")
    time.sleep(2 * args.heartbeat)
    before, begun = [one.cpu() for one in processes], time.perf_counter()
    time.sleep(args.seconds)
    took = time.perf_counter() - begun
    loads = [100 * (one.cpu() - was) / took for one, was in zip(processes, before, strict=True)]
    print(f"idle, a heartbeat each {args.heartbeat} s: {', '.join(f'{load:.1f} %' for load in loads)} of a core")
    for one in processes:
        memory, threads, files = one.holds()
        print(f"  {memory:.0f} MiB, {threads} threads, {files} files: {memory * 1024 / args.clusters:.0f} KiB a peer")
    write(members)
    write_at_once(members, args.seconds)


def write(members: dict[int, list[str]]) -> None:
    """Write to clusters at random: each write finds its leader anew."""
    times, failed = [], 0
    for count in range(WRITES):
        names = members[random.randrange(len(members))]
        begun = time.perf_counter()
        with raft.Client(names, timeout=PATIENCE) as client:
            failed += client.write(("set", "key", count)) != ("ok", "key", count)
        times.append(time.perf_counter() - begun)
    figures = f"p50 {1e3 * median(times):.1f}, worst {1e3 * max(times):.0f} ms"
    print(f"{WRITES} writes to random clusters, {failed} failed: {figures}")


def write_at_once(members: dict[int, list[str]], seconds: float) -> None:
    """Write from many threads, each to clusters at random whose leaders are known."""
    clients = [raft.Client(names, timeout=PATIENCE) for names in members.values()]
    for client in clients:
        client.write(("set", "key", 0))
    end = time.perf_counter() + seconds
    times: list[float] = []

    def keep_writing() -> None:
        while (begun := time.perf_counter()) < end:
            random.choice(clients).write(("set", "key", begun))
            times.append(time.perf_counter() - begun)

    threads = [threading.Thread(target=keep_writing) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in clients:
        client.close()
    figures = f"{len(times) / seconds:.0f} writes/s, p50 {1e3 * median(times):.1f}, worst {1e3 * max(times):.0f} ms"
    print(f"{THREADS} threads write to random clusters: {figures}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        raise_limit()
        serve(sys.argv[2], int(sys.argv[3]), sys.argv[4], float(sys.argv[5]), sys.argv[6])
    else:
        main()
