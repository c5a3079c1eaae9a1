"""A waiting line of requests that were refused without effect, and the thread that tries them again.

Rule: a request that waits here has certainly not been sent since its last refusal, and whoever takes that refusal out
of it (one atomic ``pop``) owns it: the thread to send it, or whoever sees its deadline pass to answer it with the
refusal. So a request is never sent after it was answered, and one that ran out of time here says that nothing happened.

::

    caller --try--> peer --refused--> [line, by number] --pause--> thread: all of it, in order --try--> peer

While the line is busy, new requests join it: writes that one thread gave in one order are tried in that order.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from raft_actors.errors import NotApplied, NotLeader, OutcomeUnknown, RaftError, Timeout
from raft_actors.futures import RequestFuture

if TYPE_CHECKING:
    from raft_actors.intake import Mailbox
    from raft_actors.remote import RemoteMailbox

__all__ = ["Request", "RetryLine"]

FIRST_PAUSE = 0.002
LONGEST_PAUSE = 0.05
"""Seconds between two tries: doubling from the first to the longest, each half to one and a half times that."""
LONGEST_QUIET = 0.25
"""Seconds at the most for which nobody is sent, so that writes come back that are out of their order."""
REDIRECTS = 3
"""How many times a request follows the name of a leader at once; if the peers still disagree, it pauses."""
TOGETHER = 256
"""So many are taken out of the line at a time."""
IDLE = 1.0
"""Seconds without work after which the thread ends."""
NEVER = float("inf")
BEFORE_ALL, ALONE = -(1 << 62), -(1 << 61)

_numbers = itertools.count()


class Request(RequestFuture[Any]):
    """What a client's caller waits for, over as many tries as it takes.

    Args:
        anywhere: any peer can answer it, not only one that knows a leader.
        first: it goes before all others.

    Attributes:
        number: its place among all requests.
        size: about how many bytes it takes under way.
        unknown: why it may have been applied by an earlier try; ``None`` while no try has, and of what changes nothing.
        tries: how many times it was refused.
        sent: when it was tried last, on the monotonic clock.
        refusal: the last one.
        alone: whether its thread has no other write under way.
        fetches: its caller waits, and may fetch the answer himself. Not the main thread: it may be interrupted, and
            more than one answer hangs on what becomes of a client's.
    """

    tries = size = 0
    sent = 0.0
    alone = fetches = False
    refusal: RaftError | None = None
    unknown: OutcomeUnknown | None = None

    def __init__(self, *, anywhere: bool = False, first: bool = False) -> None:
        self.number = next(_numbers) + (BEFORE_ALL if first else 0)
        self.anywhere = anywhere

    def post(self, mailbox: Mailbox | RemoteMailbox, attempt: RequestFuture[Any]) -> None:
        """Make one try: hand it to a peer's mailbox, which answers ``attempt``."""
        raise NotImplementedError

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
        holds: nothing but others under way keeps those that wait.
    """

    def __init__(self, send: Callable[[Request], None]) -> None:
        self.busy = self.holds = False
        self._send = send
        self._changed = threading.Condition()
        self._line: list[tuple[int, Request]] = []  # a heap: the first one in front
        self._due = NEVER
        self._late_at = NEVER
        self._last = RaftError()
        self._closed = False
        self._thread: threading.Thread | None = None

    def park(self, request: Request, refusal: RaftError) -> bool:
        """Try ``request`` again after a pause; False if its time is over or the line is closed."""
        request.tries += 1
        return self._wait(request, refusal, _pause(request.tries, refusal), holds=False)

    def hold(self, request: Request, refusal: RaftError) -> bool:
        """Try ``request`` again when others have been answered (``go_on``); False as of ``park``."""
        return self._wait(request, refusal, LONGEST_PAUSE, holds=True)

    def settle(self, request: Request, refusal: RaftError, quiet: float) -> bool:
        """Try ``request`` again when for ``quiet`` seconds no other has come back like this; False as of ``park``.

        What came out of its order is put in order here. Whatever is sent meanwhile would come too early as well, behind
        those which are still on their way back, and so on without an end.
        """
        request.tries += 1
        pause = min(max(quiet, _pause(request.tries, refusal)), LONGEST_QUIET)
        return self._wait(request, refusal, pause, holds=False, settles=True)

    def join(self, request: Request) -> bool:
        """Wait behind those that wait; False if nobody does any more."""
        with self._changed:
            if self._closed or not self.busy:
                return False
            due = self._due if self._due < NEVER else time.monotonic() + FIRST_PAUSE  # or they are being sent just now
            self._add(request, self._last, due)
        return True

    def go_on(self) -> None:
        """Others have been answered: try those that were held."""
        if self.holds:
            self.hurry()

    def hurry(self) -> None:
        """What they wait for has come: try those that wait now."""
        with self._changed:
            if self._line:
                self._be_due(0.0)

    def close(self) -> None:
        """Answer those that wait with their last refusal, and refuse what comes."""
        with self._changed:
            self._closed = True
            waiting, self._line = self._line, []
            self._changed.notify()
        for _, request in sorted(waiting):
            _give_up(request)

    def _wait(self, request: Request, refusal: RaftError, pause: float, *, holds: bool, settles: bool = False) -> bool:
        now = time.monotonic()
        with self._changed:
            if self._closed or request.late(now) or request.done():
                return False
            self.holds = holds
            self._add(request, refusal, now + pause)
            if settles:
                self._due = now + pause  # later than it was, too
        return True

    def _add(self, request: Request, refusal: RaftError, due: float) -> None:
        self.busy = True
        self._last = refusal
        request.park(refusal)
        self._push(request)
        if request.deadline is not None:
            self._late_at = min(self._late_at, request.deadline)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="raft-client-retries", daemon=True)
            self._thread.start()
        self._be_due(due)

    def _push(self, request: Request) -> None:
        """Those who are alone go past those who have more, and may have very much."""
        heapq.heappush(self._line, (request.number + (ALONE if request.alone else 0), request))

    def _be_due(self, due: float) -> None:
        if due < self._due:
            self._due = due
            self._changed.notify()

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._is_due():
            self._give_up_late()
            batch, more = self._front()
            if self._send_all(batch) and more:
                self._send_on()

    def _send_on(self) -> None:
        """There are more; unless one was refused meanwhile, it is their turn."""
        with self._changed:
            if self._due == NEVER:
                self._due = 0.0

    def _is_due(self) -> bool:
        """Wait until those that wait are to be tried; False when this thread is no longer needed."""
        with self._changed:
            while not self._closed:
                if self._line:
                    left = self._due - time.monotonic()
                    if left <= 0:
                        return True
                    self._changed.wait(left)
                else:
                    self.busy = False
                    if not self._changed.wait_for(lambda: self._line or self._closed, IDLE):
                        break
            self._thread = None
            return False

    def _give_up_late(self) -> None:
        """Those whose time is over, wherever in the line they are."""
        now = time.monotonic()
        if now < self._late_at:
            return
        with self._changed:
            waiting = [request for _, request in self._line]
            self._late_at = min((one.deadline or NEVER for one in waiting if not one.late(now)), default=NEVER)
        for request in waiting:
            if request.late(now):
                _give_up(request)

    def _front(self) -> tuple[list[Request], bool]:
        """Take the first ones; and whether there are more."""
        with self._changed:
            line = self._line
            batch = [heapq.heappop(line)[1] for _ in range(min(TOGETHER, len(line)))]
            self._due, self.holds = NEVER, False
            return batch, bool(line)

    def _send_all(self, batch: Sequence[Request]) -> bool:
        """Send in order; behind one that is refused again at once, nobody is sent: then it is False."""
        for place, request in enumerate(batch, 1):
            if self._closed:
                _give_up(request)
            elif request.claim() is not None:
                self._send(request)
                if request.parked:
                    self._put_back(batch[place:])
                    return False
        return True

    def _put_back(self, rest: Sequence[Request]) -> None:
        with self._changed:
            if not self._closed:
                for request in rest:
                    self._push(request)
                return
        for request in rest:
            _give_up(request)


def _give_up(request: Request) -> None:
    refusal = request.claim()
    if refusal is not None:
        request.try_fail(refusal)


def _pause(tries: int, refusal: RaftError) -> float:
    if isinstance(refusal, NotLeader) and tries <= REDIRECTS:
        return 0.0
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(tries - 1, 10)) * random.uniform(0.5, 1.5)
