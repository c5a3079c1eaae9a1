"""Peers of this process that can be hurt: their links, their disks, and the peers themselves.

Rule: a hook never decides what a peer does, it only decides what the peer's links and disks do, and when its threads
run. What is started here ends here.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raft_actors import api, names
from raft_actors.config import Config
from raft_actors.errors import InvalidConfiguration, Refused, UnknownPeer
from raft_actors.opening import ADAPTERS
from raft_actors.supervisor import Handle
from raft_actors.testing.disk import Disk
from raft_actors.testing.network import Link, Network

if TYPE_CHECKING:
    from raft_actors.peer import Peer
    from raft_actors.state_machine import StateMachine
    from storage_adapters import StorageAdapter

__all__ = ["PATIENCE", "FaultyPeers"]

PATIENCE = 5.0
"""Seconds that a peer gets to end, or to show its state."""
BESIDE = (".TAIL", ".snapshots")
"""How the names end of what belongs to a store that is a single file."""
LAST_STEPS = 1.0
"""Seconds that its threads get to end after it."""


class FaultyPeers:
    """Peers with hooks in their links and disks.

    Args:
        machine: makes their machines.
        members: their names.
        storage: an engine's name, or a factory of adapters.
        config: settings of all.
        data_dir: where their stores are; ``None``: a temporary folder.

    Attributes:
        names: of all peers, running or not.
    """

    def __init__(
        self,
        machine: Callable[[], StateMachine[Any, Any]],
        members: Iterable[str],
        *,
        storage: str | Callable[[str], StorageAdapter],
        config: Config,
        data_dir: str | os.PathLike[str] | None,
    ) -> None:
        self.names = tuple(names.check_name(name) for name in members)
        if not self.names:
            raise InvalidConfiguration("a cluster needs at least one peer")
        factory, engine = _engine(storage)
        self._machine = machine
        self._temporary = None if data_dir is not None else tempfile.TemporaryDirectory(prefix="raft-actors-")
        self._folder = Path(self._temporary.name if self._temporary else os.fspath(data_dir or ""))
        self._engine = factory, engine
        self._config = config
        self._disks: dict[str, Disk] = {}
        self._configs: dict[str, Config] = {}
        for name in self.names:
            self._equip(name)
        self._paused: set[str] = set()
        self._network: Network | None = None

    def _equip(self, name: str) -> None:
        disk = self._disks[name] = Disk(*self._engine)
        self._configs[name] = dataclasses.replace(self._config, data_dir=self._folder, storage=disk)

    # -- begin and end -------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._network = Network(self.names)
        for name in self.names:
            self.start(name)

    def _take_in(self, name: str) -> None:
        """Give one more peer a disk and links of its own; it is not started."""
        self._net.include(names.check_name(name))
        self._equip(name)
        self.names += (name,)

    def _end(self) -> None:
        for disk in self._disks.values():
            disk.heal()
        stoppers = [
            threading.Thread(target=handle.stop, args=(PATIENCE,), kwargs={"hand_over": False})
            for handle in map(self._handle_or_none, self.names)
            if handle is not None
        ]
        for thread in stoppers:
            thread.start()
        for thread in stoppers:
            thread.join()
        for name in self.names:
            self._clean_up(name)
        if self._network is not None:
            self._network.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    # -- faults of links -----------------------------------------------------------------------------------------------

    def cut(self, src: str, dst: str) -> None:
        """Lose everything from ``src`` to ``dst``; the way back stays open. Cuts add up until ``heal``."""
        self._net.cut(self._known(src), self._known(dst))

    def partition(self, *groups: Collection[str]) -> None:
        """Cut every link between the groups, both ways. Peers that are in none form one more group."""
        self._net.partition(*[{self._known(name) for name in group} for group in groups])

    def link(self, src: str, dst: str, *, loss: float = 0.0, delay: float = 0.0, duplicate: float = 0.0) -> None:
        """Make the link from ``src`` to ``dst`` bad.

        Args:
            src: who sends.
            dst: who receives.
            loss: share of the messages that are lost, 0 to 1.
            delay: seconds that each message takes longer.
            duplicate: share of the messages that arrive twice, 0 to 1.
        """
        self._net.link(self._known(src), self._known(dst), Link(loss, delay, duplicate))

    def heal(self) -> None:
        """Make all links good again."""
        self._net.heal()

    # -- faults of peers and disks -------------------------------------------------------------------------------------

    def crash(self, name: str) -> None:
        """End ``name`` as if its process had died.

        No goodbye, its callers get ``OutcomeUnknown``, nothing more is flushed, its supervisor does not start it again,
        and only peers to which the link is not cut hear of it.
        """
        handle = self._handle_or_none(self._known(name))
        if handle is not None:
            if handle.peer is not None:
                handle.peer.crash()  # first of all: what lets go below must not look like a failure
            self._disks[name].let_go()
            handle.stop(PATIENCE, crash=True)
        self._clean_up(name)

    def stop(self, name: str, *, timeout: float = 5.0) -> None:
        """Stop ``name`` gracefully, as ``stop_peer`` does; nothing happens if it does not run."""
        api.stop_peer(self._known(name), timeout=timeout)
        self._clean_up(name)

    def start(self, name: str) -> None:
        """Start ``name`` again, on its own data.

        Raises:
            AlreadyStarted: it runs.
            RaftError: as ``start_peer``.
        """
        api.start_peer(self._machine, name=self._known(name), config=self._configs[name])

    def pause(self, name: str) -> None:
        """Freeze ``name``, as SIGSTOP does a process: its threads stand still after what they do now."""
        self._peer(name).pause()
        self._paused.add(name)

    def resume(self, name: str) -> None:
        """Let a frozen peer go on."""
        self._paused.discard(name)
        self._peer(name).resume()

    def wipe(self, name: str) -> None:
        """Remove the store of a stopped peer: the next ``start`` finds an empty disk.

        Raises:
            Refused: the peer runs.
        """
        if self._handle_or_none(self._known(name)) is not None:
            raise Refused(f"peer {name!r} runs on its store", advice="stop or crash it before its disk is wiped")
        self._disks[name].forget()
        _remove(self._folder / name)

    def disk(self, name: str) -> Disk:
        """The disk of ``name``, with ``delay(seconds)``, ``fail(errno, times=1)``, ``hang()`` and ``heal()``."""
        return self._disks[self._known(name)]

    # -- within --------------------------------------------------------------------------------------------------------

    @property
    def _net(self) -> Network:
        if self._network is None:
            raise Refused("the cluster is not started", advice="use it as a context manager: with Cluster(...) as c")
        return self._network

    def _known(self, name: str) -> str:
        if name not in self._disks:
            raise UnknownPeer(name, f"this cluster has no peer {name!r}", advice=f"it has {', '.join(self.names)}")
        return name

    def _handle_or_none(self, name: str) -> Handle | None:
        """What runs under ``name``, unless it is somebody else's."""
        handle = names.whereis(name)
        ours = isinstance(handle, Handle) and handle.config is self._configs[name]
        return handle if ours and isinstance(handle, Handle) else None

    def _peer(self, name: str) -> Peer:
        handle = self._handle_or_none(self._known(name))
        peer = None if handle is None else handle.peer
        if peer is None:
            raise UnknownPeer(name, f"peer {name!r} of this cluster does not run", advice="start it first")
        return peer

    def _clean_up(self, name: str) -> None:
        """After its end: free what hung in its disk, and wait for its threads, but not for user code that hangs."""
        self._paused.discard(name)
        self._disks[name].let_go()
        ours = {f"raft-{part}-{name}" for part in ("peer", "machine", "writer", "snapshots", "restart")}
        deadline = time.monotonic() + LAST_STEPS
        for thread in threading.enumerate():
            if thread.name in ours and thread is not threading.current_thread():
                thread.join(max(deadline - time.monotonic(), 0.0))

    def _awake(self, name: str) -> Handle | None:
        handle = self._handle_or_none(name)
        return handle if handle is not None and handle.running and name not in self._paused else None


def _remove(store: Path) -> None:
    """Remove a store; if an adapter made it a single file, its mark and its snapshots lie beside it."""
    for path in (store, *(store.with_name(store.name + suffix) for suffix in BESIDE)):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _engine(storage: str | Callable[[str], StorageAdapter]) -> tuple[Callable[[str], StorageAdapter], str]:
    """The factory of an engine and its name.

    Raises:
        ValueError: unknown name.
    """
    if callable(storage):
        return storage, str(getattr(storage, "engine", None) or getattr(storage, "__name__", type(storage).__name__))
    if storage not in ADAPTERS:
        raise ValueError(f"storage={storage!r} is none of {', '.join(map(repr, ADAPTERS))} and no factory")
    return ADAPTERS[storage], storage
