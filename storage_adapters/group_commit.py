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

from storage_adapters.interface import StorageError

Change = TypeVar("Change")


class Ticket(Generic[Change]):
    """A change that waits for its turn.

    Attributes:
        change: what is to be done.
        error: why it was not, None if it was; set by the ``perform`` of the ``GroupCommit``.
    """

    __slots__ = ("change", "done", "error", "group", "turn")

    def __init__(self, change: Change) -> None:
        self.change = change
        self.error: BaseException | None = None
        self.done = False
        self.group: list[Ticket[Change]] = []
        self.turn = threading.Lock()
        self.turn.acquire()

    def wake(self) -> None:
        """Let its thread go on. Asked for twice, it does so once."""
        if self.turn.locked():
            self.turn.release()


class GroupCommit(Generic[Change]):
    """Gathers changes.

    An interrupt (Ctrl-C) may come between any two steps of the main thread. Whoever leads is known by ``_leader`` and
    its ``group``, so that ``_end`` can be asked for again and wakes whoever was not woken yet.

    Args:
        perform: makes the changes of some tickets durable, all in one transaction, and sets ``error`` of those that
            it could not. It runs in one thread at a time. What it raises is raised to the thread that leads, and the
            others get a ``StorageError`` caused by it.
    """

    def __init__(self, perform: Callable[[Sequence[Ticket[Change]]], None]) -> None:
        self._perform = perform
        self._mutex = threading.Lock()
        self._queue: list[Ticket[Change]] = []
        self._leader: Ticket[Change] | None = None

    def run(self, change: Change) -> None:
        """Make a change durable, together with others.

        Raises:
            BaseException: what ``perform`` says about this change.
        """
        ticket = Ticket(change)
        try:
            self._join(ticket)
            ticket.turn.acquire()
            if not ticket.done:
                self._lead(ticket)
        except BaseException as error:
            self._end(ticket, error)
            raise
        if ticket.error is not None:
            raise ticket.error

    def _join(self, ticket: Ticket[Change]) -> None:
        with self._mutex:
            self._queue.append(ticket)
            if self._leader is None:
                self._pass_on()

    def _lead(self, ticket: Ticket[Change]) -> None:
        """Perform everything that is queued, this thread's own change among it."""
        with self._mutex:
            ticket.group, self._queue = self._queue, []
        self._perform(ticket.group)
        self._end(ticket)

    def _end(self, ticket: Ticket[Change], error: BaseException | None = None) -> None:
        """Leave the queue, or the lead; an error is one of all who are not known to be done."""
        with self._mutex:
            if error is not None and ticket in self._queue:
                self._queue.remove(ticket)
            if self._leader is ticket:
                self._pass_on()
        for one in ticket.group:
            if error is not None and one.error is None and not one.done:
                one.error = StorageError(f"a change was interrupted by {error!r}")
                one.error.__cause__ = error
            one.done = True
            one.wake()

    def _pass_on(self) -> None:
        """Let the first one that waits lead; the disk need not wait until those who are done have gone."""
        first = self._queue[0] if self._queue else None
        if first is not None:
            first.wake()
        self._leader = first
