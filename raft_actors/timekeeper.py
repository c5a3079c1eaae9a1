"""One thread per process that answers requests at their deadline when nobody else can.

Whoever blocks on a future sees to its deadline itself. But a future that only has a callback, or waits behind a peer
that hangs, must not stay open: while such requests are unfinished, this thread looks at them every 50 ms. It sleeps
without waking while there are none.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from raft_actors.errors import Timeout

if TYPE_CHECKING:
    from raft_actors.futures import RequestFuture

logger = logging.getLogger("raft_actors")

__all__ = ["TIMEKEEPER", "Timekeeper"]

INTERVAL = 0.05


class Watched(Protocol):
    """Something that knows unanswered futures."""

    def unanswered(self) -> list[RequestFuture[Any]]:
        """All of them; an empty list ends the watch."""


class Timekeeper:
    """Answers futures with ``Timeout`` at their deadline."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: list[Watched] = []
        self._work = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, watched: Watched) -> None:
        """Look at its futures until it has none."""
        with self._lock:
            self._watched.append(watched)
            self._start()

    def forget_all(self) -> None:
        """In a forked child: what was watched belongs to the parent, and the thread is not here."""
        self.__init__()  # type: ignore[misc]

    def _start(self) -> None:
        self._work.set()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="raft-timekeeper", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            self._work.wait()
            self._pause.wait(INTERVAL)
            try:
                self._look()
            except BaseException:
                logger.exception("the timekeeper goes on after an error")

    _pause = threading.Event()

    def _look(self) -> None:
        with self._lock:
            watched = list(self._watched)
        now = time.monotonic()
        idle = [one for one in watched if not self._look_at(one, now)]
        with self._lock:
            for one in idle:  # once: it may have been added again meanwhile
                self._watched.remove(one)
            if not self._watched:
                self._work.clear()

    def _look_at(self, watched: Watched, now: float) -> bool:
        futures = watched.unanswered()
        for future in futures:
            _expire(future, now)
        return bool(futures)


def _expire(future: RequestFuture[Any], now: float) -> None:
    if future.deadline is not None and now >= future.deadline and not future.done():
        future.try_fail(Timeout("no answer before the deadline of the request"))


TIMEKEEPER = Timekeeper()
"""The one of this process."""
