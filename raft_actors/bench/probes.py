"""The yardsticks: a bare disk, a bare actor, and what the operating system says of this process."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import pykka

from raft_actors.bench.measuring import Run

__all__ = ["Memory", "Probes", "filesystem_of", "memory", "timed"]

SLICE = 0.05
"""Seconds that each yardstick is measured for at a time."""
LEAST = 20
"""How often at least, on a disk so slow that the seconds would not do."""
BLOCK = b"x" * 256


class _Bare(pykka.ThreadingActor):
    """An actor of stock Pykka that answers with what it is asked."""

    use_daemon_thread = True

    def on_receive(self, message: Any) -> Any:
        """Answer."""
        return message


class Probes:
    """Measures a bare append + fdatasync in ``folder`` and a bare ask; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / "yardstick", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        self._bare = _Bare.start()

    def __enter__(self) -> Self:
        """Ready."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the actor and close the file."""
        self._bare.stop()
        os.close(self._file)

    def into(self, run: Run) -> None:
        """Take a moment of each and add it to ``run``."""
        run.probed(timed(self._sync), timed(self._ask))

    def _sync(self) -> None:
        os.write(self._file, BLOCK)
        getattr(os, "fdatasync", os.fsync)(self._file)

    def _ask(self) -> None:
        self._bare.ask(BLOCK)


def timed(action: Any) -> list[float]:
    """The time of each of as many actions as a moment holds, in seconds."""
    clock, times = time.perf_counter, []
    until = clock() + SLICE
    while True:
        begin = clock()
        action()
        end = clock()
        times.append(end - begin)
        if end >= until and len(times) >= LEAST:
            return times


def filesystem_of(path: Path) -> str:
    """The type of the filesystem that holds ``path``, such as ``"ext4"``; ``"unknown"`` where nobody tells."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return "unknown"
    kinds = [line.partition(" - ")[2].split()[0] for line in mounts if line.split()[2] == wanted]
    return kinds[-1] if kinds else "unknown"


class Memory(NamedTuple):
    """Resident memory of this process in bytes: all of it, and without the pages of files."""

    resident: int
    anonymous: int

    def since(self, before: Memory) -> Memory:
        """The growth."""
        return Memory(self.resident - before.resident, self.anonymous - before.anonymous)


def memory() -> Memory:
    """What this process holds now; zeros where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    except OSError:
        return Memory(0, 0)
    sizes = {
        name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines) if "kB" in rest
    }
    return Memory(sizes.get("VmRSS", 0), sizes.get("RssAnon", 0))
