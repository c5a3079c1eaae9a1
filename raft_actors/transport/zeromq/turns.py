"""Whose turn it is: the sockets of a wire are touched by one thread at a time, mostly by its own.

::

    the wire's thread:  awake, has the turn --> asleep, waits for plain descriptors --------------> awake, has the turn
    who has something
    to send meanwhile:                            borrows the turn, sends, asks the sockets, returns it
                                                                                  '--> rings, if more is to be done

To wake a thread takes longer than to send what it would be woken for. So while the wire's thread sleeps, whoever has
something to send does it himself. Nobody waits for the turn but the wire's thread: who does not get it leaves what he
brought in the queue, *before* he tries, and goes on. Nothing is left lying there, since whoever has had the turn looks
into the queue *after* he returned it: one of the two sees the other.

The main thread may be interrupted (``KeyboardInterrupt``) at any step, so the turn is kept by a lock that only its
holder can release, and released by a first step that cannot be missed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Turns"]


class Turns:
    """The turn of a wire.

    Attributes:
        asleep: the wire's thread waits for the network, or for the bell, and nobody has rung yet.
    """

    def __init__(self) -> None:
        self.asleep = False
        self._lock = threading.RLock()
        self._holder = self._owner = 0

    def begin(self) -> None:
        """In the wire's thread, first: the turn is its own."""
        self._owner = threading.get_ident()
        self.take()

    def take(self) -> None:
        """In the wire's thread: have the turn, as soon as whoever has borrowed it is done."""
        self._lock.acquire()
        self._holder = self._owner

    def give(self) -> None:
        """In the wire's thread: let others have it."""
        self._holder = 0
        self._lock.release()

    def borrow(self, work: Callable[[], bool]) -> bool:
        """Do ``work`` here and now, if nobody has the turn; returns what it returns, False if it was not done.

        Somebody who has the turn already, and has more to send as a consequence, does not get it a second time.
        """
        me = threading.get_ident()
        if not self.asleep or self._holder == me:
            return False
        try:
            if not self._lock.acquire(blocking=False) or not self.asleep:  # it has waked, perhaps for good
                return False
            return self._do(work, me)
        finally:
            self._release()

    def _do(self, work: Callable[[], bool], me: int) -> bool:
        self._holder = me
        try:
            return work()
        finally:
            self._holder = 0

    def _release(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:  # we never had it
            return
