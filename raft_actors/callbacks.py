"""Where users' callbacks run: on one thread of this process that nothing else waits for.

A future is answered by a peer, a machine or the timekeeper. None of them may run code of a user: it could block, wait
for the very peer that runs it, or raise ``SystemExit``. So they only pass it on.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["CALLBACKS", "CallbackThread"]

logger = logging.getLogger("raft_actors")


class CallbackThread:
    """Runs callbacks in the order in which they came due, each to its end; what they raise is logged."""

    def __init__(self) -> None:
        self._due: queue.SimpleQueue[tuple[Callable[[Any], object], Any]] = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def run(self, fn: Callable[[Any], object], argument: Any) -> None:
        """Let ``fn(argument)`` run soon; never waits."""
        self._due.put((fn, argument))
        thread = self._thread
        if thread is None or not thread.is_alive():
            self._start()

    def forget_all(self) -> None:
        """In a forked child: what is due is the parent's to run, and the thread is not here."""
        self.__init__()  # type: ignore[misc]

    def _start(self) -> None:
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="raft-callbacks", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            fn, argument = self._due.get()
            try:
                fn(argument)
            except BaseException:
                logger.exception("a callback of a future failed: %r", fn)
            del fn, argument


CALLBACKS = CallbackThread()
"""The one of this process."""
