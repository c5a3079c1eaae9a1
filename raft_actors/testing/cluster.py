"""A real cluster in this process with faults at your fingertips, for testing your own machine.

Real actors, real stores, real names; only the links and the disks have hooks. Everything that a ``Cluster`` started has
ended when its ``with`` block is left: no thread is alive, no name registered, no store locked.

::

    with Cluster(MyMachine) as cluster:
        cluster.write(("set", "a", 1))
        cluster.crash(cluster.leader())
        assert cluster.read(("get", "a")) == 1
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import cloudpickle

from raft_actors import administration, api
from raft_actors.behaviours.transition import is_removed
from raft_actors.codec import resolve
from raft_actors.config import Config
from raft_actors.errors import ElectionInProgress, NotApplied
from raft_actors.protocol.configuration import has_quorum
from raft_actors.protocol.state import Leader, PeerState
from raft_actors.testing.faulty_peers import PATIENCE, FaultyPeers
from raft_actors.testing.replica import Entry, shown, state_of, stored_entries

if TYPE_CHECKING:
    from raft_actors.protocol.entry import Entry as LogEntry
    from raft_actors.state_machine import StateMachine
    from raft_actors.values import Status
    from storage_adapters import StorageAdapter

__all__ = ["Cluster"]

logger = logging.getLogger("raft_actors")

Reply = TypeVar("Reply")
LOOK_AGAIN = 0.005
"""Seconds between two looks at something that is waited for."""


class Cluster(FaultyPeers):
    """A cluster of peers of this process; a context manager.

    Args:
        machine: a ``StateMachine`` class, or a function without arguments that makes one.
        size: how many peers.
        names: their names; ``None``: s1, s2, ...
        storage: ``"lmdb"``, ``"rocksdb"``, ``"memory"`` (here it survives its peer, but not the cluster), or a factory
            ``path -> StorageAdapter``.
        config: settings of every peer; its ``storage`` and ``data_dir`` are not looked at.
        data_dir: where the stores are; ``None``: in a temporary folder, which is removed at the end. A cluster that is
            there already goes on, with the members that it has.

    Raises:
        InvalidConfiguration: the names cannot be a cluster.

    Attributes:
        names: of all peers, running or not.
    """

    def __init__(
        self,
        machine: Callable[[], StateMachine[Any, Any]],
        size: int = 3,
        *,
        names: Iterable[str] | None = None,
        storage: str | Callable[[str], StorageAdapter] = "lmdb",
        config: Config | None = None,
        data_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        members = (f"s{number}" for number in range(1, size + 1)) if names is None else names
        super().__init__(machine, members, storage=storage, config=config or Config(), data_dir=data_dir)

    def __enter__(self) -> Self:
        """Start every peer, and form the cluster if there is none yet."""
        try:
            self._begin()
            self._form()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop everything, without hand-over."""
        self._end()

    def _form(self) -> None:
        """Form the cluster, unless it is there already: then the configuration in the stores is the one that counts."""
        known = max((administration.configuration(name) for name in self.names), key=lambda one: one.index)
        if not known.index:
            administration.set_configuration(self.names[0], self.names, timeout=2 * PATIENCE)
            self.eventually(self._is_formed_everywhere, 2 * PATIENCE)
            return
        stored = known.voters + known.learners
        if set(stored) != set(self.names):
            wanted, there = ", ".join(self.names), ", ".join(stored)
            logger.warning("the stores hold a cluster of %s, which goes on; %s were named", there, wanted)
        leader = self.leader(2 * PATIENCE)
        if leader is None:
            raise ElectionInProgress(f"the cluster of {', '.join(stored)} elected no leader\n{self._portrait()}")
        self.eventually(lambda: administration.configuration(leader).committed, 2 * PATIENCE)

    # -- use -----------------------------------------------------------------------------------------------------------

    def leader(self, timeout: float = 5.0) -> str | None:
        """The name of the leader that a majority can reach: a deposed one that does not know it yet does not count.

        Args:
            timeout: seconds to wait for one.

        Returns:
            Its name, or ``None`` if there was none in time.
        """
        deadline = time.monotonic() + timeout
        while True:
            found = self._leading()
            if found is not None or time.monotonic() >= deadline:
                return found
            time.sleep(LOOK_AGAIN)

    def write(self, command: Any, *, timeout: float = 5.0) -> Any:
        """Apply ``command`` at whoever leads; tries again while it was certainly not applied.

        Raises:
            RaftError: as ``raft_actors.write``.
        """
        return self._at_leader(lambda leader, left: api.write(leader, command, timeout=left), timeout)

    def add(self, name: str, *, learner: bool = False, timeout: float = 30.0) -> None:
        """Start ``name``, unless it runs, and make it a member: on its own data, or as a new peer.

        Args:
            name: a new name, or that of a peer that was wiped or removed.
            learner: whether it stays a learner.
            timeout: seconds.

        Raises:
            RaftError: as ``raft_actors.add_peer``.
        """
        if name not in self._disks:
            self._take_in(name)
        if self._handle_or_none(name) is None:
            self.start(name)
        self._at_leader(
            lambda leader, left: administration.add_peer(leader, name, learner=learner, timeout=left), timeout
        )

    def read(self, query: Any, *, consistency: str = "linearizable", timeout: float = 5.0) -> Any:
        """Answer ``query`` at whoever leads.

        Raises:
            RaftError: as ``raft_actors.read``.
        """
        return self._at_leader(
            lambda leader, left: api.read(leader, query, consistency=consistency, timeout=left), timeout
        )

    def status(self, name: str) -> Status:
        """What peer ``name`` last published of itself.

        Raises:
            UnknownPeer: it is stopped.
        """
        return api.status(self._known(name))

    def state(self, name: str) -> Any:
        """A copy of the state of the machine of ``name``.

        Raises:
            UnknownPeer: it does not run.
            Timeout: its machine is busy or paused.
        """
        return state_of(self._peer(name), PATIENCE)

    def entries(self, name: str) -> list[Entry]:
        """The log of ``name`` as it is on its disk, also while it is stopped."""
        codec = resolve(self._configs[self._known(name)].codec)
        return [shown(entry, codec) for entry in self._stored(name)]

    def eventually(self, predicate: Callable[[], object], timeout: float = 5.0) -> bool:
        """Wait until ``predicate()`` is true; an exception in it counts as not yet.

        Returns:
            True.

        Raises:
            AssertionError: not in time; says what the predicate returned or raised last, and how the peers are.
        """
        deadline = time.monotonic() + timeout
        while True:
            seen: object
            try:
                seen = predicate()
                if seen:
                    return True
                text = f"returned {seen!r:.200}"
            except Exception as error:  # noqa: BLE001 - shown if it stays
                text = f"raised {type(error).__name__}: {error}"
            if time.monotonic() >= deadline:
                raise AssertionError(f"not within {timeout} s: the condition {text}\n{self._portrait()}")
            time.sleep(LOOK_AGAIN)

    def converged(self, timeout: float = 10.0) -> bool:
        """Wait until all running members have applied equal logs and have equal states.

        Returns:
            True.

        Raises:
            AssertionError: not in time; says what differs.
        """
        deadline = time.monotonic() + timeout
        while True:
            difference = self._difference()
            if difference is None:
                return True
            if time.monotonic() >= deadline:
                raise AssertionError(f"not converged within {timeout} s: {difference}\n{self._portrait()}")
            time.sleep(LOOK_AGAIN)

    # -- within --------------------------------------------------------------------------------------------------------

    def _is_formed_everywhere(self) -> bool:
        """Whether every peer has its configuration on disk: who crashes before belongs to no cluster afterwards."""
        leader = self._leading()
        handle = None if leader is None else self._handle_or_none(leader)
        state = None if handle is None else handle.state
        if state is None or not isinstance(state.role, Leader):
            return False
        reached = [state.log.durable, *(one.match_index for one in state.role.progress.values())]
        return min(reached) >= state.configuration_index

    def _stored(self, name: str) -> list[LogEntry]:
        handle = self._handle_or_none(name)
        peer = None if handle is None else handle.peer
        return stored_entries(self._disks[name], self._folder / name, peer)

    def _leading(self) -> str | None:
        found: tuple[int, str] | None = None
        for name in self.names:
            handle = self._awake(name)
            state = None if handle is None else handle.state
            if state is None or not isinstance(state.role, Leader) or not self._reaches_quorum(state):
                continue
            found = max(found or (0, ""), (state.term, name))
        return None if found is None else found[1]

    def _reaches_quorum(self, state: PeerState) -> bool:
        reached = [
            name
            for name in state.configuration.members()
            if name == state.name
            or (name in self._disks and self._awake(name) is not None and self._net.connected(state.name, name))
        ]
        return has_quorum(state.configuration, reached)

    def _at_leader(self, call: Callable[[str, float], Reply], timeout: float) -> Reply:
        deadline = time.monotonic() + timeout
        refusal: NotApplied = ElectionInProgress(f"no leader within {timeout} seconds")
        while True:
            left = max(deadline - time.monotonic(), 0.0)
            leader = self.leader(left)
            if leader is None:
                raise refusal
            try:
                return call(leader, left)
            except NotApplied as error:
                refusal = error
            time.sleep(LOOK_AGAIN)

    def _difference(self) -> str | None:
        """What tells the running peers apart, or ``None``."""
        running = [name for name in self.names if self._is_running_member(name)]
        if not running:
            return "no member runs"
        seen = [api.status(name) for name in running]
        ends = {(one.last_index, one.last_term, one.commit_index, one.last_applied) for one in seen}
        if len(ends) > 1 or seen[0].last_index != seen[0].last_applied:
            return "logs are of different length, or not applied to their end"
        first, *others = running
        begin = max(one.first_index for one in seen)  # what a snapshot covers is compared as state
        log = [entry for entry in self._stored(first) if entry.index >= begin]
        for name in others:
            if [entry for entry in self._stored(name) if entry.index >= begin] != log:
                return f"the logs of {first} and {name} differ"
        return self._different_states(running)

    def _is_running_member(self, name: str) -> bool:
        """Whether it runs, and does not know that it belongs to no cluster, or not any more."""
        handle = self._handle_or_none(name)
        state = None if handle is None else handle.state
        return handle is not None and (state is None or (bool(state.cluster) and not is_removed(state)))

    def _different_states(self, running: list[str]) -> str | None:
        state = self.state(running[0])
        for name in running[1:]:
            other = self.state(name)
            if other != state and cloudpickle.dumps(other) != cloudpickle.dumps(state):
                return f"the states of {running[0]} and {name} differ: {state!r:.300} and {other!r:.300}"
        return None

    def _portrait(self) -> str:
        return "\n".join(self._line(name) for name in self.names)

    def _line(self, name: str) -> str:
        handle = self._handle_or_none(name)
        if handle is None:
            return f"  {name}: stopped"
        seen = handle.status()
        words = "paused " if name in self._paused else "" if handle.running else "not running "
        return (
            f"  {name}: {words}{seen.role} of term {seen.term}, leader {seen.leader}, log to {seen.last_index}, "
            f"committed {seen.commit_index}, applied {seen.last_applied}"
            + (f", failed: {seen.failure}" if seen.failure else "")
        )
