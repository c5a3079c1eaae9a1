"""Telling users what happens to a peer, without ever waiting for them.

Each subscription has a thread and a bounded queue of its own: a slow callback loses old events, never the newest, and
never slows a peer. Exceptions in it are logged.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from raft_actors.values import Configuration

__all__ = [
    "ConfigurationCommitted",
    "Hub",
    "LeaderChanged",
    "PeerEvent",
    "PeerStopped",
    "RoleChanged",
    "SnapshotTaken",
    "Subscription",
]

logger = logging.getLogger("raft_actors")

BACKLOG = 1000
"""How many undelivered events a subscription keeps."""


@dataclass(frozen=True, slots=True)
class LeaderChanged:
    """The peer knows another leader than before; ``leader`` is ``None`` while there is none."""

    leader: str | None
    term: int


@dataclass(frozen=True, slots=True)
class RoleChanged:
    """Peer ``name`` has another role."""

    name: str
    role: str
    term: int


@dataclass(frozen=True, slots=True)
class ConfigurationCommitted:
    """A configuration was committed."""

    configuration: Configuration


@dataclass(frozen=True, slots=True)
class PeerStopped:
    """Peer ``name`` stopped; ``reason`` is ``"stopped"`` or what went wrong."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class SnapshotTaken:
    """Peer ``name`` has a new durable snapshot of everything up to ``index``, its own or its leader's."""

    name: str
    index: int


PeerEvent = LeaderChanged | RoleChanged | ConfigurationCommitted | SnapshotTaken | PeerStopped


class Subscription:
    """What ``subscribe`` returns; a context manager.

    Args:
        callback: called with each event, in order, on a thread of this subscription.
        events: the wanted classes of events; ``None``: all.
        closed: told when it is closed.
    """

    def __init__(
        self,
        callback: Callable[[PeerEvent], object],
        events: Collection[type[PeerEvent]] | None,
        closed: Callable[[Subscription], None],
    ) -> None:
        self._callback = callback
        self._events = None if events is None else tuple(events)
        self._closed = closed
        self._queue: deque[PeerEvent] = deque(maxlen=BACKLOG)
        self._wake = threading.Condition()
        self._open = True
        self._thread = threading.Thread(target=self._run, name="raft-subscription", daemon=True)
        self._thread.start()

    def publish(self, event: PeerEvent) -> None:
        """Queue ``event``; the oldest undelivered one makes room if need be."""
        if self._events is not None and not isinstance(event, self._events):
            return
        with self._wake:
            if self._open:
                self._queue.append(event)
                self._wake.notify()

    def close(self) -> None:
        """No more calls after the one that may be running; idempotent."""
        with self._wake:
            self._open = False
            self._queue.clear()
            self._wake.notify()
        self._closed(self)

    def finish(self) -> None:
        """Nothing more will happen: tell what is queued, then end."""
        with self._wake:
            self._open = False
            self._wake.notify()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next(self) -> PeerEvent | None:
        with self._wake:
            while self._open and not self._queue:
                self._wake.wait()
            return self._queue.popleft() if self._queue else None

    def _run(self) -> None:
        while (event := self._next()) is not None:
            try:
                self._callback(event)
            except Exception:
                logger.exception("a subscriber's callback failed for %r", event)


class Hub:
    """The subscriptions of one peer; outlives its restarts, and ends with its name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = True
        self._subscriptions: tuple[Subscription, ...] = ()

    def subscribe(
        self, callback: Callable[[PeerEvent], object], events: Collection[type[PeerEvent]] | None
    ) -> Subscription:
        """Add a subscription."""
        subscription = Subscription(callback, events, self._remove)
        with self._lock:
            self._subscriptions = (*self._subscriptions, subscription)
            if not self._open:
                subscription.finish()
        return subscription

    def close(self) -> None:
        """The peer is gone for good: what was published is told, and the threads end."""
        with self._lock:
            self._open = False
            for subscription in self._subscriptions:
                subscription.finish()

    def _remove(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions = tuple(one for one in self._subscriptions if one is not subscription)

    def publish(self, event: PeerEvent) -> None:
        """Tell every subscription; never blocks for long."""
        for subscription in self._subscriptions:
            subscription.publish(event)
