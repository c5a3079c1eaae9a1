"""Three peers in processes of their own on this machine, with keys, as ``raft-actors serve`` runs them."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import raft_actors as raft
from raft_actors.bench.measuring import Run
from raft_actors.bench.probes import timed
from raft_actors.bench.rig import PATIENCE, SIZE
from raft_actors.keys import keygen
from raft_actors.network import NETWORK

__all__ = ["ProcessRig", "WireProbe"]


def _clock_of(pid: int) -> int:
    """The clock that Linux keeps of a process: how long its threads have run (as ``clock_getcpuclockid`` makes it)."""
    scheduled = 2
    return (~pid << 3) | scheduled


def _reserved() -> socket.socket:
    """Hold a free port, so that nobody else is given it; a server that sets ``SO_REUSEADDR`` may listen there."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(("127.0.0.1", 0))
    return one


class ProcessRig:
    """A cluster of three processes; a context manager, which ends them and removes their stores.

    Args:
        folder: where its folder is made.
        storage: the engine.
    """

    def __init__(self, folder: Path, storage: str) -> None:
        self.folder = folder / "processes"
        self.keys = self.folder / "keys"
        self._ports = [_reserved() for _ in range(SIZE)]
        self.names = tuple(f"bench-{n}@127.0.0.1:{one.getsockname()[1]}" for n, one in enumerate(self._ports, 1))
        self._storage = storage
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Self:
        """Start the processes and wait until they follow a leader."""
        keygen(self.keys)
        NETWORK.keys = self.keys
        try:
            for name in self.names:
                self.start(name)
            self.settle()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the processes and remove their stores."""
        self.remove()

    def start(self, name: str) -> None:
        """Start a process, and wait until it is ready."""
        words = ["serve", name, "--machine", "raft_actors.machines:Echo", "--data-dir", str(self.folder / "data")]
        words += ["--peers", ",".join(self.names), "--storage", self._storage, "--keys", str(self.keys)]
        command = [sys.executable, "-m", "raft_actors", *words]
        said = self.folder / f"{name}.log"
        with said.open("w") as log:  # what it logs would stand between the results
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        self._processes[name] = process
        if process.stdout is None or "ready" not in process.stdout.readline():
            why = said.read_text().strip().rpartition("\n")[2]
            raise raft.PeerFailed(f"{name} did not start: {why}", advice="try `raft-actors serve` by hand")

    def kill(self, name: str) -> None:
        """As ``kill -9``."""
        self.signal(name, signal.SIGKILL)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process."""
        self._processes[name].send_signal(number)

    def restart(self, name: str) -> None:
        """Start a process that was killed."""
        self._end(self._processes[name])
        self.start(name)

    def revive(self, name: str) -> None:
        """Start a process that was killed, and wait until all agree again."""
        self.restart(name)
        self.settle()

    def remove(self) -> None:
        """End everything."""
        for process in self._processes.values():
            process.kill()
            self._end(process)
        for port in self._ports:
            port.close()
        NETWORK.keys = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, process: subprocess.Popen[str]) -> None:
        process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def leader(self) -> str:
        """The full name of the leader.

        Raises:
            Timeout: there was none for half a minute.
        """
        with raft.Client(self.names, timeout=PATIENCE, keys=self.keys) as client:
            found = client.leader()
        if found is None:
            raise raft.Timeout(f"no leader within {PATIENCE:.0f} seconds")
        return found

    def settle(self) -> None:
        """Wait until every peer follows the leader and has applied all there is.

        Raises:
            Timeout: they do not.
        """
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            with suppress(raft.RaftError):
                seen = [raft.status(name) for name in self.names]
                end = max(one.last_index for one in seen)
                leader = seen[0].leader
                if leader is not None and all(one.last_applied == end and one.leader == leader for one in seen):
                    return
            time.sleep(0.01)
        raise raft.Timeout(f"the peers did not agree within {PATIENCE:.0f} seconds")

    def cpu(self) -> float:
        """Seconds of CPU that the processes have used, by the clocks that Linux keeps of them: exact, not in ticks."""
        return sum(time.clock_gettime(_clock_of(process.pid)) for process in self._processes.values())


_ECHO = """
import sys, zmq
public, secret = sys.stdin.readline().split()
socket = zmq.Context().socket(zmq.ROUTER)
socket.curve_server, socket.curve_publickey, socket.curve_secretkey = True, public.encode(), secret.encode()
print(socket.bind_to_random_port("tcp://127.0.0.1"), flush=True)
while True:
    route, data = socket.recv_multipart()
    if not data:
        break
    socket.send_multipart([route, data])
"""


class WireProbe:
    """A bare round trip of 256 bytes over ZeroMQ with keys, to a process that does nothing but answer.

    A context manager; stands beside the other yardsticks.
    """

    def __init__(self) -> None:
        import zmq

        public, secret = zmq.curve_keypair()
        self._echo = subprocess.Popen(
            [sys.executable, "-c", _ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        port = _said(self._echo, f"{public.decode()} {secret.decode()}")
        self._context: Any = zmq.Context()
        self._socket: Any = self._context.socket(zmq.DEALER)
        self._socket.curve_serverkey = public
        self._socket.curve_publickey, self._socket.curve_secretkey = zmq.curve_keypair()
        self._socket.connect(f"tcp://127.0.0.1:{port}")

    def __enter__(self) -> Self:
        """Ready."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the process and close the socket."""
        self._echo.kill()
        self._echo.communicate()
        self._context.destroy(0)

    def into(self, run: Run) -> None:
        """Take a moment of it."""
        run.wire += timed(self._ask)

    def _ask(self) -> None:
        self._socket.send(b"x" * 256)
        self._socket.recv()


def _said(process: subprocess.Popen[str], line: str) -> str:
    """What a process answers to a line."""
    if process.stdin is None or process.stdout is None:
        raise raft.PeerFailed("there is no pipe to the process")
    process.stdin.write(f"{line}\n")
    process.stdin.flush()
    return process.stdout.readline().strip()
