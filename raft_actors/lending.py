"""A channel whose sleeping owner is not woken for a trifle: the sender runs the owner's turn in its own thread.

Waking a thread and being woken by its answer costs two thread switches, several times what the handling of a heartbeat
costs. The owner's turn stays exclusive: the owner runs it, or one sender while the owner sleeps, never two. Where such
turns have moved the deadline on, the owner sleeps on, too.

::

    owner:   asleep ---------------------------(lent)--------------------------> asleep, or rung if more is to do
    sender:          lend(item): owner asleep? run its turn here, once, give it back

The owner is rung after all when the turn left something for it: more items, an earlier deadline, its own end.

A thread that brings much at a time, as the one that reads from the network, is a *lender*: what it posts wakes nobody.
When it has brought everything, it runs one turn of each sleeping owner, for all of it together. Whoever gets work by
such a turn (the disk, the machine) is roused only when the messages of the turn have left: others wait for those.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from raft_actors.mailbox import NEVER, Channel

__all__ = ["LendingChannel", "become_lender", "has_brought", "lend_all", "rouse", "rouse_all"]


class _Thread(threading.local):
    """Whom the running thread has brought something for, and whom it will rouse; both ``None``: it is no lender."""

    brought: dict[LendingChannel, None] | None = None
    roused: dict[Channel, None] | None = None


_thread = _Thread()


def become_lender() -> None:
    """From now on, what this thread posts waits for ``lend_all``; it must be called before the thread sleeps."""
    _thread.brought, _thread.roused = {}, {}


def lend_all() -> None:
    """Run a turn of every sleeping owner that this thread has brought something for."""
    while _thread.brought:
        brought, _thread.brought = _thread.brought, {}
        for channel in brought:
            channel.help()


def rouse(channel: Channel) -> None:
    """Wake the owner of ``channel`` if there is something for it; a lender does so in ``rouse_all``."""
    roused = _thread.roused
    if roused is None:
        channel.rouse()
    else:
        roused[channel] = None


def rouse_all() -> None:
    """Wake whom this thread, a lender, was to rouse: when it has sent what it had, since they will want its lock."""
    while _thread.roused:
        roused, _thread.roused = _thread.roused, {}
        for channel in roused:
            channel.rouse()


def has_brought() -> bool:
    """Whether this thread, a lender, has brought something for anybody since."""
    return bool(_thread.brought)


class LendingChannel(Channel):
    """A channel that can be handled by others while its owner sleeps.

    Attributes:
        turn: handles what is queued; returns whether the owner itself must go on. Set by the owner before it starts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.turn: Callable[[], bool] | None = None
        self._lent = False
        self._armed = NEVER
        self._overdue = False

    def post(self, item: Any) -> bool:
        """As of every channel; a lender wakes nobody by it."""
        brought = _thread.brought
        if brought is None:
            return super().post(item)
        with self._lock:
            if self._closed:
                return False
            self._items.append(item)
        brought[self] = None
        return True

    def whisper(self, item: Any, concern: int) -> bool:
        """As of every channel; a lender wakes nobody by it."""
        brought = _thread.brought
        if brought is None:
            return super().whisper(item, concern)
        with self._lock:
            if self._closed:
                return False
            self._items.append(item)
        if self.attention & concern:
            brought[self] = None
        return True

    def help(self) -> None:
        """If the owner sleeps, and there is something for it, handle it here and now."""
        turn = self.turn
        with self._lock:
            if self._closed or not self._asleep or not self._has_work():
                return
            self._asleep = False
            if turn is None or self._gate is not None:
                self._bell.release()
                return
            self._lent = True
        self._give_back(owner_must_go_on=turn())

    def _rings(self) -> bool:
        """Whether something new must wake the owner, now; called with the lock. If not, it is woken or helped later."""
        if not self._asleep:
            return False
        brought = _thread.brought
        if brought is not None:
            brought[self] = None
        return brought is None

    def lend(self, item: Any) -> bool:
        """Queue ``item`` and, if the owner sleeps, handle it here and now; False if the channel is closed."""
        if _thread.brought is not None:
            return self.post(item)
        turn = self.turn
        with self._lock:
            if self._closed:
                return False
            self._items.append(item)
            if not self._asleep:
                return True
            self._asleep = False
            if turn is None or self._gate is not None:
                self._bell.release()
                return True
            self._lent = True
        self._give_back(owner_must_go_on=turn())
        return True

    def _give_back(self, *, owner_must_go_on: bool) -> None:
        with self._lock:
            self._lent = False
            if owner_must_go_on or self._overdue or self._gate or self._has_work() or self._due() < self._armed:
                self._overdue = False
                self._bell.release()
            else:
                self._asleep = True

    def _wait(self) -> None:
        with self._lock:
            if self._has_work():
                return
            self._asleep, self._armed = True, self._due()
        while not self._bell.acquire(timeout=min(max(self._armed - time.monotonic(), 0.0), threading.TIMEOUT_MAX)):
            with self._lock:
                if not self._asleep:  # the bell rings now; or somebody runs our turn, and rings when it is done
                    self._overdue, self._armed = self._lent, NEVER
                elif self._has_work() or time.monotonic() >= self._due():
                    self._asleep = False
                    return
                else:  # turns that others ran have moved the deadline: that is no reason for one of our own
                    self._armed = self._due()
