"""Starts peers, restarts those that died, and knows under each name what is there.

A ``Handle`` is what is registered under a peer's name. It outlives the peer's actors: while a peer restarts, the name
stays reserved, and after a failure it tells why until somebody starts or stops it.

A peer that died of an exception or a passing error of the disk is restarted from its store, with a growing pause and a
cap; one that died of damage, of a broken invariant or of an entry that it cannot decode is not.
"""

from __future__ import annotations

import collections
import copy
import logging
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from raft_actors import names
from raft_actors.addresses import AddressBook, full_name, shown
from raft_actors.arguments import PeerRef, name_of
from raft_actors.codec import resolve
from raft_actors.errors import (
    AlreadyStarted,
    CorruptLog,
    Incompatible,
    InvariantViolated,
    PeerFailed,
    RaftError,
    Restarting,
    UnknownPeer,
)
from raft_actors.failures import failure_of, steps_to
from raft_actors.intake import Mailbox
from raft_actors.measures import Measures
from raft_actors.network import NETWORK, check_settings
from raft_actors.opening import open_peer
from raft_actors.orders import Ended, StopNow
from raft_actors.protocol.events import StopRequested
from raft_actors.restarting import Deaths
from raft_actors.subscriptions import (
    ConfigurationCommitted,
    Hub,
    LeaderChanged,
    PeerStopped,
    RoleChanged,
    SnapshotTaken,
)
from raft_actors.transport.local import LOCAL
from raft_actors.values import Status, configuration_of, retired, role_name, status_of, storage_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pykka

    from raft_actors.beginnings import Beginning
    from raft_actors.config import Config
    from raft_actors.peer import Peer
    from raft_actors.protocol.effects import Discard
    from raft_actors.protocol.state import PeerState
    from raft_actors.transport.port import Transport

__all__ = ["Handle", "handle_of", "running", "start", "stop"]

logger = logging.getLogger("raft_actors")

Found = TypeVar("Found")
LOOK_AGAIN = 0.05
"""Seconds after which a waiting caller looks again although nothing was published: other peers may have died."""
CLOSING = 2.0
"""Longest time, in seconds, that a failed peer takes to let go of its store."""
NEVER_RESTARTED = (CorruptLog, InvariantViolated, Incompatible)


class Handle:
    """A name's peer, whatever became of it.

    Attributes:
        name: the name.
        state: the newest published state; ``None`` until a store was opened once.
        failure: what stopped it, or ``None``.
        mailbox: of the running peer, or ``None``.
        ref: of the running peer, or of the last one.
        hub: its subscribers.
        transport: what carries its messages.
        address: where others reach it, ``""``: in this process only.
        shown: its full name, as users see it.
        book: where the peers are that it talks to.
        changed: notified at every change of role, leader or configuration, and at the end.
        refused_messages: how many messages were discarded, by reason.
        measures: what is measured of it.
    """

    def __init__(self, name: str, machine: Callable[[], Any], config: Config, beginning: Beginning) -> None:
        self.name = name
        self.machine = machine
        self.config = config
        self.beginning = beginning
        self.codec = resolve(config.codec)
        self.state: PeerState | None = None
        self.failure: RaftError | None = None
        self.mailbox: Mailbox | None = None
        self.peer: Peer | None = None
        self.ref: pykka.ActorRef[Any] | None = None
        self.hub = Hub()
        self._folder = Path(os.path.abspath(config.data_dir)) / name
        self.changed = threading.Condition()
        self.refused_messages: collections.Counter[str] = collections.Counter()
        self.measures = Measures()
        self.gone = threading.Event()
        node = NETWORK.node
        self.transport: Transport = LOCAL if node is None else node
        self.address = "" if node is None else node.address
        self.shown = full_name(name, self.address)
        self.book = (
            AddressBook(lambda: self.state) if node is None else node.enter(name, lambda: self.state, self.codec.name)
        )
        self.book.tell(beginning.places)
        self._deaths = Deaths()
        self._cancel = threading.Event()
        self._stopping = self._restarting = False
        self._settled = False  # nothing runs, opens, ends or restarts: only a failure is kept

    # -- what callers ask ----------------------------------------------------------------------------------------------

    def open_mailbox(self) -> Mailbox:
        """The inbox of the running peer.

        Raises:
            RaftError: there is no running peer; the error says why.
        """
        mailbox = self.mailbox
        if mailbox is None:
            raise self.why_closed()
        return mailbox

    def why_closed(self) -> RaftError:
        """The error for a call to a peer that does not run: a new one each time, for raising adds to its traceback."""
        if self._restarting:
            return Restarting(self.name)
        if self.failure is not None:
            return copy.copy(self.failure).with_traceback(None)
        what = "is being started" if self.state is None else "has stopped"
        return UnknownPeer(self.name, f"peer {self.name!r} {what}")

    @property
    def running(self) -> bool:
        """Whether a peer runs under this name now."""
        return self.mailbox is not None

    @property
    def failed(self) -> bool:
        """Whether it failed for good: the name may be started again."""
        return self._settled and self.failure is not None

    def status(self) -> Status:
        """The published status: never waits for anything."""
        storage = storage_name(self.config.storage)
        if self.state is None:
            return Status(name=self.name, storage=storage, failure=self.failure)
        peer = self.peer
        if peer is None:  # whatever it was, it is not any more
            return status_of(retired(self.state), storage=storage, applied=0, failure=self.failure)
        applied = peer.machine.replica.applied
        return status_of(self.state, storage=storage, applied=applied, failure=self.failure)

    def wait_for(self, look: Callable[[PeerState], Found | None], deadline: float) -> Found | None:
        """Look at every published state until something is seen, or the time is over.

        Raises:
            RaftError: the peer does not run, or no more.
        """
        with self.changed:
            while True:
                self.open_mailbox()
                found = None if self.state is None else look(self.state)
                left = deadline - time.monotonic()
                if found is not None or left <= 0:
                    return found
                self.changed.wait(min(left, LOOK_AGAIN))

    # -- start and stop ------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the store, recover, and start the actors; returns when the peer runs.

        Raises:
            RaftError: as ``start_peer``.
        """
        mailbox = Mailbox(self.name, self.config, self.codec)
        mailbox.refusal = self.why_closed
        mailbox.status = self.status
        where = (self.transport, self.address)
        peer = open_peer(self, mailbox, self.machine, self.config, self._folder, self.beginning, where)
        self.failure = None
        self._restarting = False
        self.state, self.peer, self.mailbox, self.ref = peer.engine.state, peer, mailbox, peer.actor_ref
        peer.begin()
        peer.start_prepared()
        if self._stopping:  # a stop that came while the store was being opened is not forgotten
            mailbox.post(StopNow())

    def stop(self, timeout: float, *, hand_over: bool = True, crash: bool = False) -> bool:
        """Stop the peer, or cancel its restart; True when it is gone."""
        self.ask_to_stop(timeout, hand_over=hand_over, crash=crash)
        return self.gone.wait(timeout + 1.0)

    def ask_to_stop(self, timeout: float, *, hand_over: bool = True, crash: bool = False) -> None:
        """The same without waiting."""
        self._stopping = True
        self._cancel.set()
        peer = self.peer
        if peer is not None and crash:
            peer.crash()
        elif peer is not None:
            peer.mailbox.post(StopRequested(timeout) if hand_over else StopNow())
            peer.resume()
        elif self._settled:
            self._leave()

    def settle(self) -> None:
        """Nothing of this peer runs any more; its failure is kept, unless somebody wants it gone."""
        self._restarting = False
        self._settled = True
        if self._stopping or self.failure is None:
            self._leave()
        self._wake()

    def await_end(self) -> None:
        """If the peer has failed for good and is still letting go of its store, wait for that."""
        with self.changed:
            self.changed.wait_for(lambda: self._settled or self._restarting or self.failure is None, CLOSING)

    def _leave(self) -> None:
        names.unregister(self.name, self)
        node = NETWORK.node
        if node is self.transport and node is not None:
            node.forget(self.name)
        self.gone.set()
        self.hub.close()

    # -- what the peer reports -----------------------------------------------------------------------------------------

    def noticed(self, before: PeerState, after: PeerState) -> None:
        """Publish a change, log it, and wake who waits for one."""
        self.state = after
        self.measures.noticed(before, after)
        role = role_name(after.role)
        if type(after.role) is not type(before.role):
            logger.info("peer %s is %s in term %d", self.name, role, after.term)
            self.hub.publish(RoleChanged(self.shown, role, after.term))
        if after.leader != before.leader:
            self.hub.publish(LeaderChanged(after.leader and shown(after, after.leader), after.term))
        if after.snapshot_index > before.snapshot_index:
            self.hub.publish(SnapshotTaken(self.shown, after.snapshot_index))
        configuration = configuration_of(after)
        if configuration.committed and configuration != configuration_of(before):
            self.hub.publish(ConfigurationCommitted(configuration))
        self._wake()

    def tell(self, places: Iterable[tuple[str, str]]) -> None:
        """A caller has said where other peers are."""
        self.book.correct(places)

    def discarded(self, effect: Discard) -> None:
        """Count a refused message."""
        self.refused_messages[effect.reason] += 1

    def ending(self, ended: Ended) -> None:
        """The peer has begun to end: from now on callers are turned away."""
        if ended.error is not None:
            self.failure = failure_of(self.name, ended.error)
            self.measures.failures += 1
            logger.error("peer %s stopped itself: %s", self.name, self.failure, exc_info=steps_to(ended.error))
        self._restarting = ended.error is not None and self._may_restart()
        self.mailbox = None
        self._wake()

    def ended(self, ended: Ended) -> None:
        """The peer has ended: free the name, keep the failure, or start again."""
        self.hub.publish(PeerStopped(self.shown, "stopped" if ended.error is None else str(self.failure)))
        self.peer = None
        if self._restarting and not self._stopping:
            threading.Thread(target=self._restart, name=f"raft-restart-{self.name}", daemon=True).start()
        else:
            self.settle()

    def _wake(self) -> None:
        with self.changed:
            self.changed.notify_all()

    # -- restarting ----------------------------------------------------------------------------------------------------

    def _may_restart(self) -> bool:
        policy = self.config.restart
        if policy is None or self._stopping or isinstance(self.failure, NEVER_RESTARTED):
            return False
        return self._deaths.another(policy)

    def _restart(self) -> None:
        """Wait, then open again; runs in a thread of its own that lives only for this."""
        policy = self.config.restart
        while policy is not None:
            if self._cancel.wait(self._deaths.pause(policy)):
                break
            try:
                self.open()
            except Exception as error:  # noqa: BLE001 - kept as the failure
                self.failure = failure_of(self.name, error)
                logger.error("peer %s could not be restarted: %s", self.name, self.failure)
                if not self._may_restart():
                    break
            else:
                logger.warning("peer %s was restarted", self.name)
                return
        self.settle()


def start(name: str, machine: Callable[[], Any], config: Config, beginning: Beginning) -> Handle:
    """Start a peer under ``name``.

    Raises:
        AlreadyStarted: the name is in use.
        RaftError: the store cannot be opened; after a ``PeerFailed`` the name tells the failure.
    """
    handle = Handle(name, machine, config, beginning)
    check_settings(name, handle.codec.name, config.max_command_bytes)
    _reserve(handle)
    try:
        handle.open()
    except BaseException as error:
        handle.failure = error if isinstance(error, PeerFailed) else None
        handle.settle()
        raise
    return handle


def _reserve(handle: Handle) -> None:
    old = names.whereis(handle.name)
    if isinstance(old, Handle) and old.failure is not None:
        old.await_end()
    if isinstance(old, Handle) and old.failed and names.replace(handle.name, old, handle):
        old.gone.set()
        old.hub.close()
        return
    if old is not None:
        raise AlreadyStarted(handle.name)
    names.register(handle.name, handle)


def handle_of(name: str) -> Handle:
    """What is registered under ``name``.

    Raises:
        UnknownPeer: nothing is.
    """
    handle = names.whereis(name)
    if not isinstance(handle, Handle):
        raise UnknownPeer(name)
    return handle


def running(peer: PeerRef) -> Handle:
    """The handle of a peer that runs.

    Raises:
        UnknownPeer: nothing is known under this name.
        RaftError: it does not run; the error says why.
    """
    handle = names.whereis(peer) if isinstance(peer, str) else None  # the common case first
    if not isinstance(handle, Handle):
        handle = handle_of(name_of(peer))
    handle.open_mailbox()
    return handle


def stop(name: str, timeout: float) -> None:
    """Stop the peer of ``name`` gracefully; nothing happens if there is none."""
    handle = names.whereis(name)
    if isinstance(handle, Handle):
        handle.stop(timeout)


def stop_all(timeout: float = 0.8) -> None:
    """At the end of the process: stop every peer without hand-over, and let go of the stores.

    It starts no thread: from Python 3.12 on, none can be started while the interpreter ends.
    """
    handles = [one for one in map(names.whereis, names.names()) if isinstance(one, Handle)]
    for handle in handles:
        handle.ask_to_stop(timeout, hand_over=False)
    until = time.monotonic() + timeout
    for handle in handles:
        handle.gone.wait(max(0.0, until - time.monotonic()))
