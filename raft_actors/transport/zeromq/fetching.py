"""Who waits alone fetches his answer from the socket himself: one thread is woken for it, not two.

::

    the wire's thread:  asleep, listens to everything else -------------------------------------->
    the caller:         sends (``turns``), listens to this socket, takes the answer, goes
                                           '--> others ask at the same node, too: the wire's thread takes all of them

While the caller listens, the wire's thread does not (``Ears.leave``), else both would wake. Nothing but speed hangs on
that: whoever finds that something has come has the turn before he touches it, and the wire's thread listens to
everything again whenever it has slept. If the answer comes another way (a connection breaks, a deadline passes), the
caller's own bell is rung.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raft_actors.transport.zeromq.ears import Bell, Ears

if TYPE_CHECKING:
    from raft_actors.futures import RequestFuture

__all__ = ["fetch"]

LONGEST = 1e6
"""Seconds that ``poll`` can be given at a time."""


class _Mine(threading.local):
    """The bell of the running thread; a child that was forked needs another one."""

    bell: Bell | None = None


_mine = _Mine()


def _forget() -> None:
    global _mine  # noqa: PLW0603 - in a child that has one thread
    _mine = _Mine()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def fetch(ears: Ears, socket: Any, future: RequestFuture[Any], seconds: float, take: Callable[[], bool]) -> None:
    """Listen to ``socket`` until ``future`` is answered, or it is better to wait for the wire's thread.

    Args:
        ears: of the wire.
        socket: where the answer comes.
        future: what this thread waits for.
        seconds: how long; less than 0: for ever.
        take: takes what has come; returns whether to go on listening.
    """
    try:
        bell = _mine.bell = _mine.bell or Bell()
    except OSError:  # there are no more descriptors
        return
    me = threading.get_ident()

    def wake(_: object) -> None:
        if threading.get_ident() != me:
            bell.ring()

    future.when_done(wake)
    descriptor = ears.leave(socket)
    try:
        if descriptor >= 0:
            _listen(descriptor, bell, future, seconds, take)
    finally:
        ears.resume(descriptor)
        future.forget(wake)


def _listen(descriptor: int, bell: Bell, future: RequestFuture[Any], seconds: float, take: Callable[[], bool]) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.register(bell, select.POLLIN)
    until = time.monotonic() + seconds
    left = seconds
    while not future.done() and (left > 0 or seconds < 0):
        happened = [one for one, _ in poll.poll(1000 * min(left, LONGEST) if seconds >= 0 else None)]
        if bell.fileno() in happened:  # for this answer, or for one of before
            bell.hear()
        elif happened and not take():
            return
        left = until - time.monotonic()
