"""What do the stores cost, alone and three at a time on one disk? The floor under `write_sequential`.

    python -m benchmarks.stores [--dir DIR] [--rounds 9]

Each line: the median time of one durable write of one 256-byte entry, over a bare append + fdatasync measured beside
it; then for three stores that write at the same time, the fastest, the second (a quorum) and the slowest of them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from storage_adapters import Batch, LMDBAdapter, RocksDBAdapter

RECORD = b"x" * 300
WRITES = 60


class Bare:
    """An append and a sync, without any store."""

    def __init__(self, path: str) -> None:
        os.makedirs(path)
        self.file = os.open(f"{path}/file", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def write(self, batch: Batch) -> None:
        os.write(self.file, RECORD)
        os.fdatasync(self.file)

    def close(self) -> None:
        os.close(self.file)


def alone(store: object, index: int) -> tuple[float, int]:
    times = []
    for number in range(index, index + WRITES):
        begin = time.perf_counter()
        store.write(Batch(entries=[(number, RECORD)]))  # type: ignore[attr-defined]
        times.append(time.perf_counter() - begin)
    return median(times), index + WRITES


def together(stores: list[object], index: int) -> tuple[list[float], int]:
    """Medians of the fastest, the second and the slowest of all stores, started together each time."""
    start, end = threading.Barrier(len(stores)), threading.Barrier(len(stores))
    took = [[0.0] * WRITES for _ in stores]

    def run(place: int) -> None:
        for number in range(WRITES):
            start.wait()
            begin = time.perf_counter()
            stores[place].write(Batch(entries=[(index + number, RECORD)]))  # type: ignore[attr-defined]
            took[place][number] = time.perf_counter() - begin
            end.wait()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(stores))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ordered = [sorted(each) for each in zip(*took, strict=True)]
    return [median(each) for each in zip(*ordered, strict=True)], index + WRITES


def measure(name: str, factory: Callable[[str], object], folder: Path, rounds: int) -> None:
    bare = Bare(str(folder / f"bare-{name}"))
    stores = [factory(str(folder / f"{name}-{number}")) for number in range(3)]
    index, singles, triples, disks = 1, [], [], []
    for _ in range(rounds):
        disk, _ = alone(bare, 1)
        single, after = alone(stores[0], index)
        for store in stores[1:]:
            store.write(Batch(entries=[(number, RECORD) for number in range(index, after)]))  # type: ignore[attr-defined]
        triple, index = together(stores, after)
        disk = (disk + alone(bare, 1)[0]) / 2
        disks.append(disk)
        singles.append(single / disk)
        triples.append([each / disk for each in triple])
    fastest, quorum, slowest = (median(each) for each in zip(*triples, strict=True))
    print(
        f"{name:8} alone {median(singles):.2f} x disk; three at a time: fastest {fastest:.2f}, "
        f"quorum {quorum:.2f}, slowest {slowest:.2f} x disk (disk {1e6 * median(disks):.0f} us)"
    )
    for store in (*stores, bare):
        store.close()  # type: ignore[attr-defined]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", help="a folder on the disk to measure")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        for name, factory in (("bare", Bare), ("lmdb", LMDBAdapter), ("rocksdb", RocksDBAdapter)):
            measure(name, factory, Path(folder), args.rounds)


if __name__ == "__main__":
    main()
