"""Peers in processes of their own, as a user starts them, and a client that remembers what it was promised."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import raft_actors as raft
from tests.processes.tools import KV, RAFT_ACTORS, raft_actors, start
from tests.threads.tools import wait_until

__all__ = ["Servers", "Writer", "eventually", "free_port"]

PATIENCE = 20.0


def free_port() -> int:
    """A port that nobody listens at; somebody else may take it, but hardly so soon."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def eventually(look: Callable[[], Any], patience: float = PATIENCE) -> None:
    """Look until there is something to see."""
    wait_until(look, patience)


class Servers:
    """Three ``raft-actors serve`` on loopback.

    Args:
        folder: for their data.
        keys: a folder of keys; ``None``: insecure.
        names: short names of the peers.
    """

    def __init__(self, folder: Path, keys: Path | None = None, names: tuple[str, ...] = ("s1", "s2", "s3")) -> None:
        self.folder = folder
        self.trust = ["--insecure"] if keys is None else ["--keys", str(keys)]
        self.keys = keys
        self.addresses = {name: f"{name}@127.0.0.1:{free_port()}" for name in names}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for name in self.processes:
            self.kill(name)

    @property
    def peers(self) -> str:
        return ",".join(self.addresses.values())

    def serve(self, *names: str, begin: tuple[str, ...] | None = None, machine: str = KV) -> None:
        """Start some (all), and wait until they say that they are ready."""
        for name in names or tuple(self.addresses):
            words = ["serve", self.addresses[name], "--machine", machine, "--data-dir", self.folder / "data"]
            beginning = ("--peers", self.peers) if begin is None else begin
            log = (self.folder / f"{name}.log").open("ab")
            self.processes[name] = start(
                [*RAFT_ACTORS, *words, *beginning, *self.trust], self.folder, stderr=log, stdin=subprocess.DEVNULL
            )
        for name in names or tuple(self.addresses):
            output = self.processes[name].stdout
            assert output is not None
            assert output.readline() == f"{self.addresses[name]} is ready\n".encode(), self.log(name)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def signal(self, name: str, number: int) -> None:
        os.kill(self.processes[name].pid, number)

    def kill(self, name: str) -> None:
        """As if its machine had died."""
        process = self.processes[name]
        if process.poll() is None:
            self.signal(name, signal.SIGCONT)
            process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()

    def terminate(self, name: str) -> int:
        """Stop it gracefully; returns its exit status."""
        self.signal(name, signal.SIGTERM)
        return self.processes[name].wait(15)

    def client(self, **more: Any) -> raft.Client:
        return raft.Client(self.addresses.values(), keys=self.keys, **more)

    def command(self, *words: object) -> Any:
        """Run a client command with ``--json``; returns what it printed."""
        done = raft_actors(*words, "--connect", self.peers, *self.trust, "--json", folder=self.folder)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    def name_of(self, full: str) -> str:
        return full.partition("@")[0]

    def leader(self) -> str:
        """The short name of who leads."""
        with self.client(timeout=PATIENCE) as client:
            found = client.leader()
        assert found is not None, "nobody leads"
        return self.name_of(found)


class Writer:
    """Writes without a pause through a client, and remembers every promise.

    Args:
        client: used by this writer alone.
    """

    def __init__(self, client: raft.Client, key: str = "n") -> None:
        self.acknowledged: list[int] = []
        self.unknown: list[int] = []
        self.gaps: list[float] = []
        self._client, self._key = client, key
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        eventually(lambda: len(self.acknowledged) > 5)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(PATIENCE)

    def go_on(self, count: int = 20) -> None:
        """Wait until so many more were acknowledged."""
        wanted = len(self.acknowledged) + count
        eventually(lambda: len(self.acknowledged) >= wanted)

    def _run(self) -> None:
        number, last = 0, time.monotonic()
        while not self._stop.is_set():
            number += 1
            try:
                self._client.write(("set", f"{self._key}{number}", number), timeout=PATIENCE)
            except raft.OutcomeUnknown:
                self.unknown.append(number)
            except raft.NotApplied:
                continue
            else:
                self.acknowledged.append(number)
                self.gaps.append(time.monotonic() - last)
            last = time.monotonic()

    def check(self, read: Callable[[Any], Any]) -> None:
        """Every promise is kept."""
        lost = [number for number in self.acknowledged if read(("get", f"{self._key}{number}")) != number]
        assert not lost, f"{len(lost)} of {len(self.acknowledged)} acknowledged writes are lost: {lost[:10]}"
