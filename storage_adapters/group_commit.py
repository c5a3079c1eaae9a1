"""Changes of many threads in one transaction: whoever comes first commits for all that came meanwhile.

Rule: ``run`` returns when the change of its caller is durable, never before, and raises what became of that one change.

::

    A: run ── commits a ────────────┐
    B: run ─ waits ─────────────────┤ B leads: commits b, c, d ──┐ everybody returns
    C: run ───── waits ─────────────┼────────────────────────────┤
    D: run ───────── waits ─────────┘                            └ E: run ...

No thread of its own: the caller that leads lends its own. Each waits on a lock of its own, so that nobody wakes for
nothing. What gathers while one transaction is on its way to the disk is the next one: alone, a change waits for nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Change = TypeVar("Change")


class Ticket(Generic[Change]):
    """A change that waits for its turn.

    Attributes:
        change: what is to be done.
        error: why it was not, None if it was; set by the ``perform`` of the ``GroupCommit``.
    """

    __slots__ = ("change", "done", "error", "leads", "turn")

    def __init__(self, change: Change) -> None:
        self.change = change
        self.error: BaseException | None = None
        self.done = False
        self.leads = False
        self.turn = threading.Lock()
        self.turn.acquire()


class GroupCommit(Generic[Change]):
    """Gathers changes.

    Args:
        perform: makes the changes of some tickets durable, all in one transaction, and sets ``error`` of those that
            it could not. It runs in one thread at a time. What it raises is raised to the thread that leads, and the
            others get it as their error.
    """

    def __init__(self, perform: Callable[[Sequence[Ticket[Change]]], None]) -> None:
        self._perform = perform
        self._mutex = threading.Lock()
        self._queue: list[Ticket[Change]] = []
        self._busy = False

    def run(self, change: Change) -> None:
        """Make a change durable, together with others.

        Raises:
            BaseException: what ``perform`` says about this change.
        """
        ticket = Ticket(change)
        with self._mutex:
            self._queue.append(ticket)
            ticket.leads, self._busy = not self._busy, True
        if not ticket.leads:
            self._wait(ticket)
        if not ticket.done:
            self._lead()
        if ticket.error is not None:
            raise ticket.error

    def _wait(self, ticket: Ticket[Change]) -> None:
        """Wait until the change is done, or its turn has come to lead; a Ctrl-C leaves no gap in the queue."""
        try:
            ticket.turn.acquire()
        except BaseException:
            with self._mutex:
                if ticket in self._queue:
                    self._queue.remove(ticket)
                if ticket.leads:
                    self._pass_on()
            raise

    def _lead(self) -> None:
        """Perform everything that is queued, this thread's own change among it."""
        group: list[Ticket[Change]] = []
        try:
            with self._mutex:
                group, self._queue = self._queue, []
            self._perform(group)
        except BaseException as error:
            for ticket in group:
                ticket.error = ticket.error or error
            raise
        finally:
            with self._mutex:
                self._pass_on()
            for ticket in group:
                ticket.done = True
                ticket.turn.release()

    def _pass_on(self) -> None:
        """Let the first one that waits lead; the disk need not wait until those who are done have gone."""
        self._busy = bool(self._queue)
        if self._queue:
            self._queue[0].leads = True
            self._queue[0].turn.release()
