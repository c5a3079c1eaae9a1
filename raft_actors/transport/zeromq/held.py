"""The larger answers on their way out: how many bytes of them there are, from when they exist until libzmq let go.

::

    a peer's thread: bytes --enter--> [queue of the wire] --pass_on--> frame --sent--> [libzmq] --taken--> gone
                             |                                           |
                             '--no room: the caller is told              '--nobody is there: leave

Nobody waits for room: a peer has other work, and the wire has other connections. So what finds none is let go, and
counted as refused. That is seen where the answer is made, since whoever asked can be told there, in a few bytes.

What one key may have on its way is less than what a node has room for, however many connections it has.

Small answers do not enter, they are bounded by their number (``serving_limits``); they are counted as soon as several
of them are one large frame. The lock is held for a few additions, and only for what is large.
"""

from __future__ import annotations

import collections
import threading
from typing import Any

__all__ = ["COUNTED", "MOST_HELD", "MOST_HELD_OF_A_KEY", "MOST_HELD_OF_ONE", "Held"]

COUNTED = 2048
"""Bytes from which an answer is counted: smaller ones are bounded by their number."""
MOST_HELD, MOST_HELD_OF_A_KEY, MOST_HELD_OF_ONE = 256 << 20, 64 << 20, 32 << 20
"""Bytes of answers on their way: of all connections, of those of one key, of one."""
ALWAYS = 128 << 10
"""Bytes that each connection may have on their way whatever others have: two frames of small answers, and more."""


class Held:
    """What is on its way to whom; used by any thread.

    Args:
        refused: counts what is let go.
    """

    def __init__(self, refused: collections.Counter[str]) -> None:
        self._refused = refused
        self._lock = threading.Lock()
        self._in_libzmq: dict[bytes, collections.deque[tuple[Any, int]]] = {}
        self._bytes: dict[bytes, int] = {}
        self._key_of: dict[bytes, str] = {}
        self._of_key: collections.Counter[str] = collections.Counter()
        self._all = 0

    def enter(self, route: bytes, size: int, key: str = "") -> bool:
        """Count the bytes of an answer that was made; False: there is no room, let it go.

        Args:
            route: whose it is.
            size: bytes of it.
            key: whose connection it is, if what that key has is bounded.
        """
        with self._lock:
            key = self._key_of.get(route, key)
            fits = self._room(route, size, key)
            if fits:
                if key and route not in self._key_of:  # frames of small answers may be on their way already
                    self._key_of[route] = key
                    self._of_key[key] += self._bytes.get(route, 0)
                self._add(route, size)
        if not fits:
            self.let_go(1)
        return fits

    def pass_on(self, route: bytes, size: int, entered: int) -> bool:
        """Whether a frame may be sent; it is counted in place of those answers in it that have entered.

        Args:
            route: whose it is.
            size: bytes of it.
            entered: bytes of those answers; they were promised to leave, so with any there is room.
        """
        with self._lock:
            fits = entered > 0 or self._room(route, size, self._key_of.get(route, ""))
            if fits:
                self._add(route, size - entered)
        return fits

    def sent(self, route: bytes, tracker: Any, size: int) -> None:
        """A frame was handed to libzmq, whose tracker tells when it has let go."""
        with self._lock:
            self._in_libzmq.setdefault(route, collections.deque()).append((tracker, size))

    def leave(self, route: bytes, size: int) -> None:
        """A frame that was counted is gone, and was not sent."""
        with self._lock:
            self._add(route, -size)

    def let_go(self, answers: int) -> None:
        """So many answers never leave."""
        with self._lock:  # several threads count
            self._refused["an answer that nobody took"] += answers

    def _room(self, route: bytes, size: int, key: str) -> bool:
        """Whether there is room for so much; one may be larger than what is for a connection, if it is the only one."""
        self._look(route)
        held = self._bytes.get(route, 0)
        if held + size <= ALWAYS:
            return True
        if self._all + size > MOST_HELD or self._is_too_much(key, size):
            for one in list(self._in_libzmq):
                self._look(one)
        if self._all + size > MOST_HELD or self._is_too_much(key, size):
            return False
        return not held or held + size <= MOST_HELD_OF_ONE

    def _is_too_much(self, key: str, size: int) -> bool:
        """Whether so much more is too much for a key; one answer is not, if it is the only one."""
        held = self._of_key.get(key, 0)
        return held > 0 and held + size > MOST_HELD_OF_A_KEY

    def _look(self, route: bytes) -> None:
        """Forget what libzmq has let go of."""
        waiting = self._in_libzmq.get(route)
        while waiting and waiting[0][0].done:
            self._add(route, -waiting.popleft()[1])
        if waiting is not None and not waiting:
            del self._in_libzmq[route]

    def _add(self, route: bytes, size: int) -> None:
        self._all += size
        held = self._bytes[route] = self._bytes.get(route, 0) + size
        key = self._key_of.get(route)
        if key is not None:
            self._of_key[key] += size
        if not held:
            del self._bytes[route]
            self._key_of.pop(route, None)
        if key is not None and not self._of_key[key]:
            del self._of_key[key]
