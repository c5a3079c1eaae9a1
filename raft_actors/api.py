"""The public functions: thin, one screen each.

What they do is done by the peers; here a peer is found, asked and waited for.
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any, Literal, overload

import pykka

from raft_actors import names, supervisor
from raft_actors.addresses import shown
from raft_actors.arguments import PeerRef, name_of, patience_of, seconds_of
from raft_actors.beginnings import beginning_of
from raft_actors.config import Config
from raft_actors.errors import RaftError
from raft_actors.forking import forget_in_child
from raft_actors.forwarding import living_leader
from raft_actors.futures import RequestFuture, refuse_if_forbidden
from raft_actors.intake import Mailbox
from raft_actors.network import NETWORK, elsewhere
from raft_actors.protocol.state import PeerState
from raft_actors.remote import LOOKING, RemoteMailbox, call
from raft_actors.remote_values import name_from, status_from
from raft_actors.requests import check_read
from raft_actors.state_machine import StateMachine
from raft_actors.subscriptions import PeerEvent, Subscription
from raft_actors.supervisor import Handle, handle_of, running
from raft_actors.transport import frames
from raft_actors.values import Status

__all__ = [
    "leader",
    "read",
    "start_peer",
    "status",
    "stop",
    "stop_peer",
    "subscribe",
    "write",
]

DEFAULTS = Config()


def start_peer(
    machine: Callable[[], StateMachine[Any, Any]],
    *,
    name: str,
    config: Config = DEFAULTS,
    join: Iterable[PeerRef] | PeerRef | None = None,
    bootstrap_expect: int | None = None,
) -> pykka.ActorRef[Any]:
    """Start a peer of this process: open, check and recover its store ``config.data_dir/name``, then return.

    It waits for no election and no cluster. A peer whose store knows its cluster takes part in it at once; a new one
    waits for ``set_configuration``, or gets into a cluster by itself with ``join``.

    Args:
        machine: a ``StateMachine`` class, or a function without arguments that makes one; called once per peer.
        name: 1 to 64 letters, digits, ``_ - .``, not starting with a dot.
        config: its settings.
        join: names of members of a cluster, or one name: as long as its store knows of no cluster, the peer asks them
            until it is let in, and becomes a voter once it has caught up. Refused where a living peer has its name.
        bootstrap_expect: how many peers are to form a cluster by themselves, once, in whatever order they start; all of
            them are given the same names in ``join``, their own too. Who comes later, with an empty store, joins.

    Returns:
        The peer's ``ActorRef``, accepted wherever a name is.

    Raises:
        InvalidName: nobody can have this name.
        AlreadyStarted: the name is in use.
        StoreInUse: another process has the store open.
        Incompatible: the store belongs to another peer, format or codec.
        CorruptLog: the store is damaged below its durable-tail mark.
        StorageFailed: the disk failed.
        MissingExtra: the storage engine is not installed.
        InvalidConfig: ``join`` and ``bootstrap_expect`` do not go together.
    """
    if not callable(machine):
        raise TypeError(f"machine must be a StateMachine class or a function that makes one, not {machine!r:.100}")
    if not isinstance(config, Config):
        raise TypeError(f"config must be a raft_actors.Config, not {config!r:.100}")
    names.check_name(name)
    handle = supervisor.start(name, machine, config, beginning_of(name, join, bootstrap_expect))
    if handle.ref is None:
        raise handle.why_closed()
    return handle.ref


def stop_peer(name: PeerRef, *, timeout: float | None = 5.0) -> None:
    """Stop a peer gracefully, or cancel its restart; nothing happens if it is not there.

    A leader hands its leadership over first, if anybody can take it; what was accepted is finished; every waiting
    caller gets an answer; the store is closed and the name free.

    Not to be called from a signal handler, which may have interrupted a call of the same thread that holds what this
    one needs: let the handler set an event, and stop the peer from where you wait for it.

    Args:
        name: the peer.
        timeout: seconds, after which user code that hangs is abandoned; ``None``: never.

    Raises:
        Refused: called from inside a state machine.
    """
    refuse_if_forbidden()
    supervisor.stop(name_of(name), patience_of(timeout, "timeout"))


stop = stop_peer


def leader(peer: PeerRef, *, timeout: float | None = 5.0) -> str | None:
    """The name of the leader as ``peer`` knows it; waits while an election runs. Never a peer known to be dead.

    Args:
        peer: whom to ask.
        timeout: seconds; ``None``: for ever.

    Returns:
        The leader's name, or ``None`` if there was none within ``timeout``.

    Raises:
        NotConfigured: the peer belongs to no cluster.
        UnknownPeer: it does not run.
    """
    refuse_if_forbidden()
    there = elsewhere(peer)
    if there is not None:
        deadline = time.monotonic() + patience_of(timeout, "timeout")
        return call(there, frames.FindLeader(), name_from, deadline=deadline)
    handle = running(peer)
    seconds = seconds_of(timeout, "timeout")
    deadline = float("inf") if seconds is None else time.monotonic() + seconds
    return handle.wait_for(lambda state: _shown_leader(handle, state), deadline)


def status(peer: PeerRef) -> Status:
    """What ``peer`` last published of itself: at once, even while it is busy, its disk hangs, or it has failed.

    Raises:
        UnknownPeer: nothing is known under this name.
    """
    there = elsewhere(peer)
    if there is not None:
        return call(there, frames.GetStatus(), status_from, deadline=time.monotonic() + LOOKING)
    return handle_of(name_of(peer)).status()


@overload
def write(peer: PeerRef, command: Any, *, timeout: float | None = 3.0, block: Literal[True] = True) -> Any: ...


@overload
def write(peer: PeerRef, command: Any, *, timeout: float | None = 3.0, block: Literal[False]) -> RequestFuture[Any]: ...


@overload
def write(peer: PeerRef, command: Any, *, timeout: float | None = 3.0, block: bool) -> Any: ...


def write(peer: PeerRef, command: Any, *, timeout: float | None = 3.0, block: bool = True) -> Any:
    """Apply ``command`` on every replica, once, and return the machine's reply.

    Writes that one thread pipelines to one leader with ``block=False`` are applied in their order. Not to be called
    from a signal handler: it may have interrupted a call of the same thread that holds the peer's inbox.

    Args:
        peer: the leader; others refuse with ``NotLeader``.
        command: anything that the peer's codec can encode.
        timeout: seconds; ``None``: for ever. A write that timed out may still be applied.
        block: ``False`` returns a future at once, which carries every ``RaftError``.

    Returns:
        What ``handle_write`` replied, or the future of it.

    Raises:
        NotLeader: another peer leads; ``.leader`` names it.
        ElectionInProgress: no leader is known.
        NotConfigured: the peer belongs to no cluster.
        Overloaded: too much is unfinished.
        InvalidCommand: it cannot be encoded or is too large.
        CommandFailed: ``handle_write`` raised; ``__cause__`` is the exception.
        OutcomeUnknown: it may or may not be applied; ``Timeout`` is one.
        UnknownPeer: the peer does not run.
    """
    future = _request(timeout, block=block)
    try:
        mailbox_of(peer).write(command, future, watch=not block)
    except RaftError as error:
        future.try_fail(error)
    return future.get() if block else future


@overload
def read(
    peer: PeerRef,
    query: Any,
    *,
    consistency: str = "linearizable",
    min_index: int | None = None,
    timeout: float | None = 3.0,
    block: Literal[True] = True,
) -> Any: ...


@overload
def read(
    peer: PeerRef,
    query: Any,
    *,
    consistency: str = "linearizable",
    min_index: int | None = None,
    timeout: float | None = 3.0,
    block: Literal[False],
) -> RequestFuture[Any]: ...


def read(
    peer: PeerRef,
    query: Any,
    *,
    consistency: str = "linearizable",
    min_index: int | None = None,
    timeout: float | None = 3.0,
    block: bool = True,
) -> Any:
    """Answer ``query`` from the machine's state.

    Args:
        peer: any member.
        query: given to ``handle_read``.
        consistency: ``"linearizable"``: sees every write finished before the call (thesis §6.4). ``"lease"``: the same
            without asking a majority, where the leader has ``Config.lease_reads`` on. ``"stale"``: what is here, at
            once; from a peer that has lost its snapshot, when its leader has sent it one.
        min_index: with ``"stale"``: once this index is applied here.
        timeout: seconds; ``None``: for ever.
        block: ``False`` returns a future at once, which carries every ``RaftError``.

    Returns:
        What ``handle_read`` replied, or the future of it.

    Raises:
        ValueError: an unknown ``consistency``.
        ElectionInProgress: no leader is known.
        NotConfigured: the peer belongs to no cluster.
        Overloaded: too much is unfinished.
        CommandFailed: ``handle_read`` raised.
        Timeout: no answer in time.
        UnknownPeer: the peer does not run.
    """
    check_read(consistency, min_index)
    future = _request(timeout, block=block)
    try:
        mailbox_of(peer).read(query, consistency, future, watch=not block, min_index=min_index)
    except RaftError as error:
        future.try_fail(error)
    return future.get() if block else future


def subscribe(
    peer: PeerRef, callback: Callable[[PeerEvent], object], *, events: Collection[type[PeerEvent]] | None = None
) -> Subscription:
    """Call ``callback`` with what happens to ``peer``: in order, on a thread of its own, never slowing the peer.

    If the callback is slow, older events may be dropped, the latest never is. Exceptions in it are logged. The
    subscription outlives restarts of the peer by its supervisor.

    Args:
        peer: whose events.
        callback: called with ``LeaderChanged``, ``RoleChanged``, ``ConfigurationCommitted``, ``SnapshotTaken`` or
            ``PeerStopped``.
        events: the classes wanted; ``None``: all.

    Returns:
        A handle with ``close()``; also a context manager.

    Raises:
        UnknownPeer: nothing is known under this name.
        TypeError: the callback cannot be called, or ``events`` holds something else than such classes.
    """
    if not callable(callback):
        raise TypeError(f"callback must be callable, not {callback!r:.100}")
    if events is not None and not isinstance(events, Collection):
        raise TypeError(f"events must be a collection such as [raft_actors.LeaderChanged], not {events!r:.100}")
    for kind in events or ():
        if kind not in PeerEvent.__args__:
            raise TypeError(f"events may hold the event classes of raft_actors, not {kind!r:.100}")
    return handle_of(name_of(peer)).hub.subscribe(callback, events)


def _shown_leader(handle: Handle, state: PeerState) -> str | None:
    name = living_leader(handle, state)
    return None if name is None else shown(state, name)


def mailbox_of(peer: PeerRef) -> Mailbox | RemoteMailbox:
    """What takes the requests of callers to a peer, wherever it is.

    Raises:
        RaftError: it does not run in this process; or there is no way to the other one.
    """
    found: RemoteMailbox | None = NETWORK.found(peer) if isinstance(peer, str) else None
    if found is not None:
        return found
    there = elsewhere(peer)
    if there is None:
        return running(peer).open_mailbox()
    wire = NETWORK.wire_to(there.address)
    found = RemoteMailbox(there, wire)
    NETWORK.remember(there, wire, found)
    return found


def _request(timeout: float | None, *, block: bool) -> RequestFuture[Any]:
    future: RequestFuture[Any] = RequestFuture()
    if block:
        refuse_if_forbidden()
    if timeout is not None:
        future.deadline = time.monotonic() + patience_of(timeout, "timeout")
    return future


atexit.register(supervisor.stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_in_child)
