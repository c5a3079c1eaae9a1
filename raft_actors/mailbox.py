"""Inboxes that hand over everything queued at once, wake at a deadline, and close atomically.

Pykka's own inbox is a ``queue.Queue``: one message at a time, no deadline, and a message put while the actor stops is
lost without an answer. Here a put and the close exclude each other by a lock: what is put before is handed over, what
is put after is turned away at once, and nothing is in between (BUG-77).
"""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable
from typing import Any

import pykka
from pykka._envelope import Envelope  # private: the one import of it; tests/threads pins what is used of it

from raft_actors.futures import RequestFuture

__all__ = ["FINISH", "NEVER", "Channel", "Envelope", "InboxActor", "WorkChannel", "forget_actors", "is_wake"]

NEVER = float("inf")


class _Wake:
    """The message of every envelope that ``Channel.get`` returns: look into the channel."""


class Channel:
    """An actor's inbox: many threads post, its own thread takes everything queued.

    Attributes:
        deadline: when to wake although nothing came; set in the owner's turn only.
        attention: bits of the concerns for which a whisper wakes the owner; set in the owner's turn only.
    """

    def __init__(self) -> None:
        self.deadline = NEVER
        self.attention = 0
        self._lock = threading.Lock()
        self._items: list[Any] = []
        self._closed = False
        self._asleep = False
        self._bell = threading.Lock()
        self._bell.acquire()
        self._gate: threading.Event | None = None

    def post(self, item: Any) -> bool:
        """Queue ``item``; False if the channel is closed."""
        with self._lock:
            if self._closed:
                return False
            self._items.append(item)
            if self._asleep:
                self._asleep = False
                self._bell.release()
        return True

    def leave(self, items: list[Any]) -> None:
        """Queue several items and wake nobody: somebody will ``rouse`` the owner, or it finds them before it sleeps.

        A closed channel takes nothing; who closes it answers for its owner.
        """
        with self._lock:
            if not self._closed:
                self._items += items

    def rouse(self) -> None:
        """Wake the owner if it sleeps and there is something for it."""
        with self._lock:
            if self._has_work():
                self._ring()

    def whisper(self, item: Any, concern: int) -> bool:
        """Queue ``item``, but wake the owner only if it said that this concerns it.

        It finds the item in any case before it sleeps, or with whatever wakes it next. Every wake-up saved is a thread
        switch saved for the whole process.
        """
        with self._lock:
            if self._closed:
                return False
            self._items.append(item)
            if self._asleep and self.attention & concern:
                self._asleep = False
                self._bell.release()
        return True

    def take(self) -> list[Any]:
        """Everything queued, in order; possibly nothing."""
        with self._lock:
            items, self._items = self._items, []
        return items

    def close(self) -> list[Any]:
        """Turn away whatever comes from now on; returns what was queued and not taken."""
        with self._lock:
            self._closed = True
            items, self._items = self._items, []
            self._ring()
        return items

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def __len__(self) -> int:
        return len(self._items)

    # -- what Pykka wants of an inbox ----------------------------------------------------------------------------------

    def put(self, envelope: Envelope[Any]) -> None:
        """Queue a message from outside, as ``ActorRef.tell`` and ``ask`` do."""
        if not self.post(envelope) and envelope.reply_to is not None:
            envelope.reply_to.set(None)

    def get(self) -> Envelope[Any]:
        """Wait until something is queued or the deadline has come; the owner then calls ``take``."""
        if self._gate is not None:
            self._stand_still()
        self._wait()
        if self._gate is not None:
            self._stand_still()
        return _WAKE

    def _stand_still(self) -> None:
        while (gate := self._gate) is not None:
            gate.wait()

    def empty(self) -> bool:
        """Always true: what is left at the close is answered by whoever closes, not by Pykka."""
        return True

    def qsize(self) -> int:
        """How many items are queued."""
        return len(self._items)

    # -- testing -------------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Freeze the owner as soon as it comes back for more."""
        if self._gate is None:
            self._gate = threading.Event()
            self._wake_up()

    def resume(self) -> None:
        """Let a frozen owner go on."""
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.set()

    # -- within --------------------------------------------------------------------------------------------------------

    def _due(self) -> float:
        """When to wake although nothing came; the lock is held."""
        return self.deadline

    def _has_work(self) -> bool:
        return bool(self._items) or self._closed

    def _ring(self) -> None:
        """Wake the owner if it sleeps; the lock is held."""
        if self._asleep:
            self._asleep = False
            self._bell.release()

    def _wake_up(self) -> None:
        with self._lock:
            self._ring()

    def _wait(self) -> None:
        with self._lock:
            if self._has_work():
                return
            self._asleep, due = True, self._due()
        left = due - time.monotonic()
        if self._bell.acquire(timeout=min(left, threading.TIMEOUT_MAX) if left > 0 else 0):
            return
        with self._lock:
            if self._asleep:
                self._asleep = False
            else:  # somebody rang between the timeout and the lock
                self._bell.acquire()


_WAKE: Envelope[Any] = Envelope(_Wake())


def is_wake(message: object) -> bool:
    """Whether ``message`` only says "look into the channel"."""
    return isinstance(message, _Wake)


class _Finish(enum.Enum):
    FINISH = "finish"


FINISH = _Finish.FINISH
"""Queued last: end after everything before it is done."""


class WorkChannel(Channel):
    """The inbox of a worker inside a peer: work comes by ``post``; what Pykka sends goes to the peer.

    So ``ActorRegistry.stop_all()`` stops a peer as a whole, whichever of its actors it meets first.
    """

    def __init__(self, owner: Callable[[Envelope[Any]], None]) -> None:
        super().__init__()
        self._owner = owner

    def put(self, envelope: Envelope[Any]) -> None:
        """Pass a message from outside on to the peer."""
        self._owner(envelope)


class InboxActor(pykka.ThreadingActor):
    """A Pykka actor with one of our inboxes, light futures, and a daemon thread that can be joined.

    ``on_receive`` is called with every wake-up and must never raise.
    """

    use_daemon_thread = True
    actor_inbox: Channel

    def __init__(self, inbox: Channel) -> None:
        super().__init__()
        self.actor_inbox = inbox
        self._actor_ref = pykka.ActorRef(self)
        self.thread: threading.Thread | None = None

    @staticmethod
    def _create_future() -> pykka.Future[Any]:
        future: RequestFuture[Any] = RequestFuture()
        return future

    def _start_actor_loop(self) -> None:
        self.thread = threading.Thread(target=self._actor_loop, name=str(self), daemon=True)
        self.thread.start()

    def start_prepared(self) -> pykka.ActorRef[Any]:
        """Register and start this actor, made by its constructor: as ``start`` does after making one."""
        pykka.ActorRegistry.register(self.actor_ref)
        self._start_actor_loop()
        return self.actor_ref

    def abandon(self) -> None:
        """Give up on a thread that hangs: it ends when it comes back, and Pykka forgets it now."""
        self.actor_inbox.close()
        self.finish()

    def finish(self) -> None:
        """End the loop after the current message; called by the actor itself."""
        pykka.ActorRegistry.unregister(self.actor_ref)
        self.actor_stopped.set()

    def join(self, timeout: float) -> bool:
        """Wait until the thread has ended; False if it has not within ``timeout`` seconds."""
        if self.thread is None or self.thread is threading.current_thread():
            return True
        self.thread.join(max(timeout, 0.0))
        return not self.thread.is_alive()


def forget_actors() -> None:
    """In a forked child: Pykka's registry lists our actors of the parent, whose threads are not here."""
    registry = pykka.ActorRegistry
    registry._actor_refs_lock = threading.RLock()
    registry._actor_refs = [ref for ref in registry._actor_refs if not issubclass(ref.actor_class, InboxActor)]
