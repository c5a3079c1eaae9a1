"""A waiting line of requests that were refused without effect, and the thread that tries them again.

Rule: a request that waits here has certainly not been sent since its last refusal, and whoever takes that refusal out
of it (one atomic ``pop``) owns it: the thread to send it, or whoever sees its deadline pass to answer it with the
refusal. So a request is never sent after it was answered, and one that ran out of time here says that nothing happened.

::

    caller --try--> peer --refused--> [line, by number] --pause--> thread: all of it, in order --try--> peer

While the line is busy, new requests join it at its end: writes that were given in one order are tried in that order.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from bisect import insort
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from raft_actors.errors import NotApplied, NotLeader, RaftError, Timeout
from raft_actors.futures import RequestFuture

if TYPE_CHECKING:
    from raft_actors.intake import Mailbox
    from raft_actors.remote import RemoteMailbox

__all__ = ["Request", "RetryLine"]

FIRST_PAUSE = 0.002
LONGEST_PAUSE = 0.05
"""Seconds between two tries: doubling from the first to the longest, each half to one and a half times that."""
REDIRECTS = 3
"""How many times a request follows the name of a leader at once; if the peers still disagree, it pauses."""
IDLE = 1.0
"""Seconds without work after which the thread ends."""
NEVER = float("inf")

_numbers = itertools.count()


class Request(RequestFuture[Any]):
    """What a client's caller waits for, over as many tries as it takes.

    Args:
        post: makes one try: hands the request to a peer's mailbox, for the future given.
        harmless: repeating it does no harm, whatever became of it.
        anywhere: any peer can answer it, not only one that knows a leader.
        first: it goes before all others.

    Attributes:
        number: its place among all requests.
        tries: how many times it was refused.
        refusal: the last one.
        fetches: its caller waits, and may fetch the answer himself. Not the main thread: it may be interrupted, and
            more than one answer hangs on what becomes of a client's.
    """

    tries = 0
    fetches = False
    refusal: RaftError | None = None

    def __init__(
        self,
        post: Callable[[Mailbox | RemoteMailbox, RequestFuture[Any]], None],
        *,
        harmless: bool = False,
        anywhere: bool = False,
        first: bool = False,
    ) -> None:
        self.number = -1 if first else next(_numbers)
        self.post = post
        self.harmless = harmless
        self.anywhere = anywhere

    def try_fail(self, error: BaseException, index: int | None = None) -> bool:
        """Answer with ``error``; while it waits for its next try, a timeout means that nothing has happened.

        Of any other timeout the last refusal is the ``__cause__``: it tells more than that the time is over.
        """
        if isinstance(error, Timeout):
            if isinstance(self.refusal, NotApplied):
                error.__cause__ = self.refusal
            error = self.claim() or error
        return super().try_fail(error, index)

    def park(self, refusal: RaftError) -> None:
        """It waits from now on; ``refusal`` is its answer if the time runs out."""
        self.refusal = self.__dict__["_refusal"] = refusal

    def claim(self) -> RaftError | None:
        """Take it out of waiting: the refusal, or ``None`` if somebody else has taken it."""
        refusal: RaftError | None = self.__dict__.pop("_refusal", None)
        return refusal

    @property
    def parked(self) -> bool:
        """Whether it waits."""
        return "_refusal" in self.__dict__

    def late(self, now: float) -> bool:
        """Whether its deadline has passed."""
        return self.deadline is not None and now >= self.deadline


class RetryLine:
    """The waiting line of one client.

    Args:
        send: tries a request once more; a refusal comes back by ``park``.

    Attributes:
        busy: requests wait, or are being sent: new ones must join.
    """

    def __init__(self, send: Callable[[Request], None]) -> None:
        self.busy = False
        self._send = send
        self._changed = threading.Condition()
        self._line: list[Request] = []
        self._due = NEVER
        self._last = RaftError()
        self._closed = False
        self._thread: threading.Thread | None = None

    def park(self, request: Request, refusal: RaftError) -> bool:
        """Try ``request`` again after a pause; False if its time is over or the line is closed."""
        now = time.monotonic()
        request.tries += 1
        with self._changed:
            if self._closed or request.late(now):
                return False
            self._due = min(self._due, now + _pause(request.tries, refusal))
            self._add(request, refusal)
        return True

    def join(self, request: Request) -> bool:
        """Wait behind those that wait; False if nobody does any more."""
        with self._changed:
            if self._closed or not self.busy:
                return False
            if self._due == NEVER:  # the others are being sent just now
                self._due = time.monotonic() + FIRST_PAUSE
            self._add(request, self._last)
        return True

    def hurry(self) -> None:
        """What they wait for has come: try those that wait now."""
        with self._changed:
            if self._line:
                self._due = 0.0
                self._changed.notify()

    def close(self) -> None:
        """Answer those that wait with their last refusal, and refuse what comes."""
        with self._changed:
            self._closed = True
            waiting, self._line = self._line, []
            self._changed.notify()
        for request in waiting:
            _give_up(request)

    def _add(self, request: Request, refusal: RaftError) -> None:
        self.busy = True
        self._last = refusal
        request.park(refusal)
        insort(self._line, request, key=_number)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="raft-client-retries", daemon=True)
            self._thread.start()
        self._changed.notify()

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            now = time.monotonic()
            for request in batch:
                if request.late(now):
                    _give_up(request)
            self._send_all(batch)

    def _next(self) -> Sequence[Request] | None:
        """Everything that waits, when its time has come; ``None`` when this thread is no longer needed."""
        with self._changed:
            while not self._closed:
                if self._line:
                    left = self._due - time.monotonic()
                    if left <= 0:
                        batch, self._line, self._due = self._line, [], NEVER
                        return batch
                    self._changed.wait(left)
                else:
                    self.busy = False
                    if not self._changed.wait_for(lambda: self._line or self._closed, IDLE):
                        break
            self._thread = None
            return None

    def _send_all(self, batch: Sequence[Request]) -> None:
        """Send in order; behind one that is refused again at once, nobody is sent."""
        for place, request in enumerate(batch, 1):
            if self._closed:
                _give_up(request)
            elif request.claim() is not None:
                self._send(request)
                if request.parked:
                    self._put_back(batch[place:])
                    return

    def _put_back(self, rest: Sequence[Request]) -> None:
        with self._changed:
            if not self._closed:
                self._line = sorted([*self._line, *rest], key=_number)
                return
        for request in rest:
            _give_up(request)


def _give_up(request: Request) -> None:
    refusal = request.claim()
    if refusal is not None:
        request.try_fail(refusal)


def _number(request: Request) -> int:
    return request.number


def _pause(tries: int, refusal: RaftError) -> float:
    if isinstance(refusal, NotLeader) and tries <= REDIRECTS:
        return 0.0
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(tries - 1, 10)) * random.uniform(0.5, 1.5)
