"""Three peers in this process, on real stores in a folder of their own, and how to reach their leader."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import raft_actors as raft
from raft_actors.bench.probes import filesystem_of
from raft_actors.bench.result import IN_MEMORY
from raft_actors.machines import Echo
from raft_actors.supervisor import Handle, handle_of

__all__ = ["PAYLOAD", "SIZE", "Rig", "bench_folder"]

SIZE = 3
PAYLOAD = b"x" * 256
PATIENCE = 30.0
"""Seconds after which a cluster that does not answer is a failed benchmark, not a slow one."""


@contextmanager
def bench_folder(chosen: Path | None) -> Iterator[Path]:
    """A new folder on a disk, removed afterwards.

    Args:
        chosen: where; ``None``: where temporary files go, unless that is in memory and the current folder is not.
    """
    if chosen is None:
        chosen = Path(tempfile.gettempdir())
        here = Path.cwd()
        if filesystem_of(chosen) in IN_MEMORY and os.access(here, os.W_OK):
            chosen = here
    with tempfile.TemporaryDirectory(prefix="raft-actors-bench-", dir=chosen) as folder:
        yield Path(folder)


class Rig:
    """A cluster of three in this process; a context manager, which removes its stores at the end.

    Args:
        folder: where its folder is made.
        storage: the engine.
        name: of the cluster, with which the names of its peers begin.
    """

    def __init__(self, folder: Path, storage: str, name: str = "bench") -> None:
        self.names = tuple(f"{name}-{number}" for number in range(1, SIZE + 1))
        self.folder = folder / name
        self._config = raft.Config(data_dir=self.folder, storage=storage)

    def __enter__(self) -> Self:
        """Start the peers and form the cluster."""
        try:
            self.start(*self.names)
            raft.set_configuration(self.names[0], self.names, timeout=PATIENCE)
            self.settle()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the peers and remove their stores."""
        self.remove()

    def remove(self) -> None:
        """Stop the peers and remove their stores."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, *names: str) -> None:
        """Start peers on the stores they have."""
        for name in names:
            raft.start_peer(Echo, name=name, config=self._config)

    def stop(self) -> None:
        """Stop all peers at once, without hand-over."""
        handles = self._handles()
        stopping = [threading.Thread(target=one.stop, args=(PATIENCE,), kwargs={"hand_over": False}) for one in handles]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()

    def leader(self, other_than: str = "") -> str:
        """The leader, as a peer that is not ``other_than`` knows it; waits for one.

        Raises:
            Timeout: there was none for half a minute.
        """
        until = time.monotonic() + PATIENCE
        witnesses = [name for name in self.names if name != other_than]
        while time.monotonic() < until:
            with suppress(raft.RaftError):
                found = raft.leader(witnesses[0], timeout=PATIENCE)
                if found is not None and found != other_than:
                    return found
            witnesses.append(witnesses.pop(0))
            time.sleep(0.0005)
        raise raft.Timeout(f"no leader within {PATIENCE:.0f} seconds")

    def write(self, target: str, dying: str = "") -> str:
        """Write once, wherever the leader is; returns who acknowledged.

        Args:
            target: whom to try first; ``""``: nobody in particular.
            dying: whom not to go back to.
        """
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            target = target or self.leader(other_than=dying)
            try:
                raft.write(target, PAYLOAD, timeout=PATIENCE)
            except raft.NotLeader as error:
                target = error.leader if error.leader != dying else ""
            except (raft.NotApplied, raft.OutcomeUnknown):
                target = ""
            else:
                return target
        raise raft.Timeout(f"no write within {PATIENCE:.0f} seconds")

    def settle(self) -> None:
        """Wait until every peer follows the leader and has applied all there is.

        Raises:
            Timeout: they do not.
        """
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            leader = self.leader()
            seen = [raft.status(name) for name in self.names]
            end = max(status.last_index for status in seen)
            if all(status.last_applied == end and status.leader == leader for status in seen):
                return
            time.sleep(0.002)
        raise raft.Timeout(f"the peers did not agree within {PATIENCE:.0f} seconds")

    def _handles(self) -> list[Handle]:
        found = []
        for name in self.names:
            with suppress(raft.UnknownPeer):
                found.append(handle_of(name))
        return found
