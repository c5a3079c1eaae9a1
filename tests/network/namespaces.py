"""Hosts of a network that a test makes for itself: a network namespace each, and a cable to one switch.

::

    [hub: guests]---br0---port1---eth0 [s1]
                     +----port2---eth0 [s2]
                     +----port3---eth0 [s3]

All of it is in namespaces, the switch too, so nothing of it meets another test or the machine, and removing the
namespaces removes everything.
"""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.processes.tools import environment

HUB = "hub"
NETWORK = "10.77.0"
_numbers = itertools.count(1)


def _ip(*words: object) -> None:
    done = subprocess.run(["ip", *map(str, words)], capture_output=True, text=True, check=False, timeout=20.0)
    assert done.returncode == 0, f"ip {' '.join(map(str, words))}: {done.stderr}"


@functools.cache
def why_none() -> str:
    """Why no namespaces can be made here, ``""``: they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces need root on Linux"
    if shutil.which("ip") is None or shutil.which("tc") is None:
        return "network namespaces need the commands ip and tc (iproute2)"
    try:
        with Hosts("probe"):
            return ""
    except (AssertionError, OSError) as error:
        return f"network namespaces cannot be made here: {error}"


class Hosts:
    """Some hosts, each with a cable to the switch; ``hub`` is where guests are. Removed at the end of the block.

    Args:
        names: of the hosts; they get the addresses 10.77.0.11, 10.77.0.12, and so on.

    Attributes:
        address: of each host.
    """

    def __init__(self, *names: str) -> None:
        self._prefix = f"raft{os.getpid()}x{next(_numbers)}"
        self._made: list[str] = []
        self._processes: list[subprocess.Popen] = []
        self._ports = {name: f"port{number}" for number, name in enumerate(names, 1)}
        self.address: dict[str, str] = {}

    def __enter__(self) -> Hosts:
        try:
            self._make()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def space(self, name: str) -> str:
        """The namespace of a host."""
        return f"{self._prefix}{name}"

    def _make(self) -> None:
        self._make_space(HUB)
        hub = self.space(HUB)
        _ip("-n", hub, "link", "add", "br0", "type", "bridge")
        _ip("-n", hub, "address", "add", f"{NETWORK}.1/24", "dev", "br0")
        _ip("-n", hub, "link", "set", "br0", "up")
        for number, (name, port) in enumerate(self._ports.items(), 11):
            self._make_space(name)
            end = ("type", "veth", "peer", "name", "eth0", "netns", self.space(name))
            _ip("-n", hub, "link", "add", port, *end)
            _ip("-n", hub, "link", "set", port, "master", "br0", "up")
            self.move(name, f"{NETWORK}.{number}")

    def _make_space(self, name: str) -> None:
        _ip("netns", "add", self.space(name))
        self._made.append(self.space(name))
        _ip("-n", self.space(name), "link", "set", "lo", "up")

    def close(self) -> None:
        """End the processes and remove everything."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        while self._made:
            subprocess.run(["ip", "netns", "delete", self._made.pop()], capture_output=True, check=False, timeout=20.0)

    # -- cables --------------------------------------------------------------------------------------------------------

    def move(self, name: str, address: str) -> None:
        """Give a host another address."""
        space = self.space(name)
        _ip("-n", space, "address", "flush", "dev", "eth0")
        _ip("-n", space, "address", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", space, "link", "set", "eth0", "up")
        self.address[name] = address

    def unplug(self, name: str) -> None:
        """Pull the cable of a host."""
        _ip("-n", self.space(HUB), "link", "set", self._ports[name], "down")

    def plug(self, name: str) -> None:
        """Put it in again."""
        _ip("-n", self.space(HUB), "link", "set", self._ports[name], "up")

    def deafen(self, name: str) -> None:
        """What others send to it is lost."""
        self._queue(HUB, self._ports[name], "replace", "pfifo", "limit", "0")

    def mute(self, name: str) -> None:
        """What it sends is lost."""
        self._queue(name, "eth0", "replace", "pfifo", "limit", "0")

    def narrow(self, name: str, rate: str) -> None:
        """What others send to it goes through a thin cable, with a queue of half a second."""
        self._queue(HUB, self._ports[name], "replace", "tbf", "rate", rate, "burst", "16kb", "latency", "500ms")

    def mend(self, name: str) -> None:
        """Its cable is as new, in both directions."""
        for where, device in ((HUB, self._ports[name]), (name, "eth0")):
            subprocess.run(
                ["tc", "-n", self.space(where), "qdisc", "delete", "dev", device, "root"],
                capture_output=True,
                check=False,
                timeout=20.0,
            )

    def _queue(self, where: str, device: str, how: str, *what: str) -> None:
        words = ["tc", "-n", self.space(where), "qdisc", how, "dev", device, "root", *what]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=20.0)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"

    # -- programs ------------------------------------------------------------------------------------------------------

    def start(self, where: str, words: list[object], folder: Path, log: str, **options: Any) -> subprocess.Popen:
        """Start a program on a host, with its output in ``folder/log``; it ends with the hosts at the latest."""
        with open(folder / log, "ab") as output:
            pipes = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.space(where), *map(str, words)],
                cwd=folder,
                env=environment(),
                **{**pipes, **options},
            )
        self._processes.append(process)
        return process
