"""A cluster on hosts of its own, somebody who writes all the time, and what must be true at the end of every story."""

from __future__ import annotations

import collections
import itertools
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from raft_actors.keys import keygen
from tests.network import namespaces
from tests.network.namespaces import HUB, Hosts
from tests.processes.tools import PYTHON, RAFT_ACTORS, eventually

PORT = 7001
MACHINE = "tests.network.journal:Journal"
HERE = Path(__file__).parent
NAMES = ("s1", "s2", "s3")


class Cluster:
    """Peers of one cluster, each a process on its host.

    Args:
        hosts: where they run.
        folder: for their data, their keys and what they print.
        serve: the program that each is.
    """

    def __init__(self, hosts: Hosts, folder: Path, serve: Iterable[object] = (*RAFT_ACTORS, "serve")) -> None:
        self.hosts, self.folder, self.keys = hosts, folder, folder / "keys"
        self.process: dict[str, subprocess.Popen] = {}
        self._serve = tuple(serve)
        keygen(self.keys)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._guest = hosts.start(HUB, [PYTHON, HERE / "guest_program.py"], folder, "guest.log", **pipes)

    def full(self, name: str) -> str:
        """The full name of a peer."""
        return f"{name}@{self.hosts.address[name]}:{PORT}"

    def all(self) -> list[str]:
        """All full names."""
        return [self.full(name) for name in NAMES]

    def start(self, name: str, *beginning: object) -> None:
        """Start the process of a peer, and wait until it says that it is ready."""
        eventually(self.begin(name, *beginning))

    def begin(self, name: str, *beginning: object) -> Callable[[], bool]:
        """Start the process of a peer; returns what tells whether it is ready."""
        log = self.folder / f"{name}.log"
        said = log.read_text().count("is ready") if log.exists() else 0
        words = [*self._serve, self.full(name), "--machine", MACHINE, "--data-dir", self.folder, "--keys", self.keys]
        process = self.process[name] = self.hosts.start(name, [*words, *beginning], self.folder, log.name)

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            return log.read_text().count("is ready") > said

        return ready

    def stop(self, name: str) -> None:
        """Stop the process of a peer gracefully."""
        self.process[name].terminate()
        assert self.process[name].wait(20.0) == 0

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to the process of a peer."""
        self.process[name].send_signal(number)

    def command(self, *words: object) -> str:
        """What a command of a guest prints."""
        line = json.dumps([*map(str, words), "--keys", str(self.keys)])
        self._guest.stdin.write(line.encode() + b"\n")
        self._guest.stdin.flush()
        result, output, complaint = json.loads(self._guest.stdout.readline())
        assert result == 0, complaint
        return output

    def status(self, timeout: float = 2.0) -> dict[str, dict[str, Any]]:
        """What ``raft-actors status`` says, by short name."""
        told = self.command("status", "--json", "--timeout", timeout, "--connect", ",".join(self.all()))
        return {one["name"].partition("@")[0]: one for one in json.loads(told)}

    def leaders(self, *, without: tuple[str, ...] = (), timeout: float = 0.5) -> list[str]:
        """Who says that it leads, of all but some."""
        asked = [self.full(name) for name in NAMES if name not in without]
        told = self.command("status", "--json", "--timeout", timeout, "--connect", ",".join(asked))
        by_name = {one["name"].partition("@")[0]: one for one in json.loads(told)}
        return [name for name, one in by_name.items() if name not in without and one.get("role") == "leader"]

    def leader(self, *, without: tuple[str, ...] = (), timeout: float = 20.0) -> str:
        """Who leads, once exactly one does."""
        found: list[str] = []

        def there() -> bool:
            found[:] = self.leaders(without=without)
            return len(found) == 1

        eventually(there, timeout)
        return found[0]

    def journal(self, name: str) -> list[int]:
        """The numbers that a peer has applied, in their order."""
        said = self.command("read", '"all"', "--consistency", "stale", "--json", "--connect", self.full(name))
        return json.loads(said)


class Ack(NamedTuple):
    """A write that was acknowledged."""

    number: int
    begun: float
    answered: float


class Writer:
    """A process of a guest that writes all the time.

    Args:
        cluster: to whom.
        log: the name of the file with what it prints.
        pause: seconds between two writes.
        size: bytes of each.
        first: its first number.
        most: so many, and no more.
    """

    def __init__(
        self,
        cluster: Cluster,
        log: str = "writer.log",
        pause: float = 0.005,
        size: int = 20,
        first: int = 0,
        most: int = 10**5,
    ) -> None:
        self._log = cluster.folder / log
        words = [PYTHON, HERE / "writer_program.py", cluster.keys, first, pause, size, most, *cluster.all()]
        self._process = cluster.hosts.start(HUB, words, cluster.folder, log)
        eventually(self.acks)

    def _rows(self) -> list[list[str]]:
        whole = self._log.read_text().rpartition("\n")[0]
        return [line.split() for line in whole.split("\n") if line and not line.startswith("#")]

    def acks(self) -> list[Ack]:
        """All that were acknowledged until now."""
        rows = [row for row in self._rows() if row[2] != "unknown"]
        return [Ack(int(row[0]), float(row[1]), float(row[2])) for row in rows]

    def wait_for(self, count: int, timeout: float = 20.0) -> None:
        """Wait until so many more are acknowledged that were begun from now on."""
        now = time.monotonic()

        def happened() -> bool:
            assert self._process.poll() is None, self._log.read_text()[-2000:]
            return sum(ack.begun >= now for ack in self.acks()) >= count

        eventually(happened, timeout)

    def gap(self, since: float) -> float:
        """The longest time between two acknowledgements, from ``since`` on."""
        times = [since, *(ack.answered for ack in self.acks() if ack.answered > since)]
        return max((later - sooner for sooner, later in itertools.pairwise(times)), default=float("inf"))

    def wait(self) -> None:
        """Wait until it has written all that it was to write."""
        eventually(lambda: "# all" in self._log.read_text(), 60.0)

    def stop(self) -> tuple[list[int], list[int]]:
        """End it: the numbers that were acknowledged, and those of which it does not know."""
        self._process.terminate()
        assert self._process.wait(60.0) == 0, self._log.read_text()[-2000:]
        assert self._log.read_text().endswith("# end\n")
        unknown = [int(row[0]) for row in self._rows() if row[2] == "unknown"]
        return [ack.number for ack in self.acks()], unknown


@contextmanager
def cluster_of_three(folder: Path, serve: Iterable[object] = (*RAFT_ACTORS, "serve")) -> Iterator[Cluster]:
    """Three peers on three hosts; what they printed is shown if the story fails."""
    if namespaces.why_none():
        pytest.skip(namespaces.why_none())
    with Hosts(*NAMES) as hosts:
        cluster = Cluster(hosts, folder, serve)
        try:
            begun = [cluster.begin(name, "--peers", ",".join(cluster.all())) for name in NAMES]
            eventually(lambda: all(ready() for ready in begun))
            cluster.leader()
            yield cluster
        except BaseException:
            for log in sorted(folder.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text()[-3000:]}")
            raise


def check_the_end(cluster: Cluster, *writers: Writer) -> None:
    """All peers have the same, each acknowledged write exactly once, and ``status`` says so."""
    outcomes = [writer.stop() for writer in writers]
    acknowledged = {number for numbers, _ in outcomes for number in numbers}
    unknown = {number for _, numbers in outcomes for number in numbers}
    eventually(lambda: _agree(cluster.status()), 30.0)
    journals = {name: cluster.journal(name) for name in NAMES}
    for name, journal in journals.items():
        counts = collections.Counter(journal)
        assert max(counts.values()) == 1, f"{name} applied twice: {counts.most_common(3)}"
        assert acknowledged <= counts.keys(), f"{name} lost {sorted(acknowledged - counts.keys())[:9]}"
        assert counts.keys() <= acknowledged | unknown, f"{name} made up {sorted(counts.keys() - acknowledged)[:9]}"
    assert len({tuple(journal) for journal in journals.values()}) == 1, "the peers have another order"


def _agree(status: dict[str, dict[str, Any]]) -> bool:
    """Whether all are there with the same, and exactly one leads."""
    if set(status) != set(NAMES) or any("error" in one for one in status.values()):
        return False
    same = {(one["term"], one["last_index"], one["last_applied"], one["leader"]) for one in status.values()}
    members = {tuple(one["configuration"]["voters"]) for one in status.values()}
    roles = sorted(one["role"] for one in status.values())
    return len(same) == 1 and len(members) == 1 and roles == ["follower", "follower", "leader"]


def timed(happened: Callable[[], object], timeout: float = 20.0) -> float:
    """Wait until something has happened; returns the seconds that it took."""
    begun = time.monotonic()
    eventually(happened, timeout)
    return time.monotonic() - begun
