"""What the tests of snapshots with real threads share: machines that are saved when the test says so, and files."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import raft_actors as raft
from raft_actors.machines import KV
from raft_actors.testing import Cluster

OFTEN = raft.Config(snapshot_threshold=50, trailing_entries=0)
SELDOM = raft.Config(snapshot_threshold=10**6, trailing_entries=0)


class Slow(KV):
    """A machine whose states are saved, and loaded, when the test says so."""

    gate = threading.Event()
    entered = threading.Event()
    problem: Exception | None = None

    def dump(self, image: Any, file: Any) -> None:
        self._pass()
        super().dump(image, file)

    def load(self, file: Any) -> Any:
        self._pass()
        return super().load(file)

    def _pass(self) -> None:
        type(self).entered.set()
        assert self.gate.wait(20)
        if self.problem is not None:
            raise self.problem


def leader_of(cluster: Cluster) -> str:
    leader = cluster.leader()
    assert leader is not None
    return leader


def other_than(cluster: Cluster, *names: str | None) -> str:
    return next(name for name in cluster.names if name not in names)


def fill(cluster: Cluster, count: int) -> None:
    leader = leader_of(cluster)
    for future in [raft.write(leader, ("set", f"k{n % 20}", n), block=False) for n in range(count)]:
        future.get(timeout=10)


def snapshot_files(folder: Path, name: str) -> list[Path]:
    return sorted((folder / name / "snapshots").glob("*"))


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_off(cluster: Cluster, behind: str) -> None:
    """Let everybody else have a log that begins after all that ``behind`` has; it runs, out of their reach."""
    others = set(cluster.names) - {behind}
    cluster.partition({behind}, others)
    cluster.eventually(lambda: cluster.leader() != behind)
    needed = cluster.status(behind).last_index

    def cut() -> bool:
        """What it needs is kept for a while, as it may come back at once."""
        cluster.write(("set", "k", "new"))
        return all(raft.snapshot(name) and cluster.status(name).first_index > needed + 1 for name in others)

    cluster.eventually(cut)
