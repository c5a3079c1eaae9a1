"""The one thread of this process that owns all sockets.

::

    actors, callers --put--> [queue] --bell--> thread: doors, links, timers --> sockets
              |                                  |
              |                                  +--> letters to peers, requests to the server, answers to callers
              +--thread asleep: its turn is borrowed (``turns``), sent here and now--> sockets

Rule: sockets are touched by whoever has the turn only (ZeroMQ's are not thread-safe), and nobody waits for it: what is
to be sent is put into a queue, and the bell is rung only if the thread sleeps and there is more to do than to send.
What comes in, connections and deadlines are the business of this thread alone, but for an answer that its caller
fetches (``fetching``). What comes in is handed on at once, to code that never blocks.

What others are likely to add to leaves better together: of requests and answers of a connection on which some are open
already, and of heartbeats, which the peers of a node send at the same time, the thread collects what there is.
"""

from __future__ import annotations

import collections
import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import zmq
from msgspec import Struct

from raft_actors.errors import OutcomeUnknown
from raft_actors.keys import Keyring
from raft_actors.lending import become_lender, has_brought, lend_all, rouse_all
from raft_actors.protocol.messages import AppendEntries
from raft_actors.transport.frames import FEW, Beat, Gone, Letter
from raft_actors.transport.zeromq import reasons
from raft_actors.transport.zeromq.door import Door, Incoming
from raft_actors.transport.zeromq.ears import Bell, Ears, Ready
from raft_actors.transport.zeromq.fetching import fetch
from raft_actors.transport.zeromq.held import Held
from raft_actors.transport.zeromq.link import Link
from raft_actors.transport.zeromq.links import Links
from raft_actors.transport.zeromq.pending import Pending
from raft_actors.transport.zeromq.replies import Reply, Returns
from raft_actors.transport.zeromq.turns import Turns

if TYPE_CHECKING:
    from raft_actors.futures import RequestFuture

__all__ = ["Wire"]

logger = logging.getLogger("raft_actors")

LONGEST_SLEEP = 1.0
LOOK = 0.1
"""Seconds between two looks at who is connected, and who may be, while there is much to do."""
LATE = 0.15
"""Seconds for which a look at who is connected waits for something else to wake this thread."""
PAUSE = 0.01
FOREVER = float("inf")


class Posted(Struct, frozen=True):
    """A letter for the node at an address."""

    address: str
    letter: Letter


class Wire:
    """All connections of one process that use the same keys.

    Args:
        keys: ours; ``None``: without.

    Attributes:
        refused: what was refused, by reason: how often.
        held: what is on its way to whom; a large answer enters it before it is given to ``reply``.
        address: where this process is reached, ``""`` if nowhere.
        has_keys: whether others are known by their keys.
    """

    def __init__(self, keys: Keyring | None) -> None:
        self.address = ""
        self.has_keys = keys is not None
        self.refused: collections.Counter[str] = collections.Counter()
        self.held = Held(self.refused)
        self._keys = keys
        self._take: Callable[[Incoming], None] = _nobody
        self._left: Callable[[list[Incoming | None]], None] = _nobody
        self._lost: Callable[[str, str], None] = _nobody
        self._beat: Callable[[float], float] = lambda _: FOREVER
        self._beat_at = self._look_by = FOREVER
        self._look_at = 0.0
        self._more = False
        self._context: zmq.Context[Any] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 8192)
        self._ears = Ears()
        self._door: Door | None = None
        self._links = Links(keys, self._new_link)
        self._queue: collections.deque[Any] = collections.deque()
        self._turns = Turns()
        self._wakes_at = 0.0
        self._main = threading.main_thread().ident
        self._bell = Bell()
        self._ears.add(self._bell, self._bell.hear)
        self._ids = itertools.count(1)
        self._closing = self._ended = False
        self._thread = threading.Thread(target=self._run, name="raft-wire", daemon=True)

    # -- from other threads --------------------------------------------------------------------------------------------

    def serve(
        self,
        take: Callable[[Incoming], None],
        lost: Callable[[str, str], None],
        beat: Callable[[float], float] | None = None,
        left: Callable[[list[Incoming | None]], None] | None = None,
    ) -> None:
        """Say what becomes of what comes in, before ``listen``; all are called in the wire's thread.

        Args:
            take: given every frame that was let in.
            lost: told ``(address, name)``: the connection to a node is lost (name ``""``), or a peer there has stopped.
            beat: called when its time has come; says something (``tell``), and returns when to come again.
            left: told of answers that have left or never will what each was asked with, by whoever has the turn.
        """
        self._take, self._lost, self._beat, self._left = take, lost, beat or (lambda _: FOREVER), left or _nobody

    def listen(self, host: str, port: int) -> int:
        """Open the door, before ``start``; returns its port.

        Raises:
            InvalidConfig: the address cannot be bound.
        """
        told = (self._take, self._left, self.refused, self.held)
        self._door = Door(self._context, host, port, self._keys, self._ears, *told)
        return self._door.port

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def post(self, address: str, letter: Letter) -> None:
        """Send a letter to the node at ``address``, or lose it."""
        message = letter.message
        self._put(Posted(address, letter), alone=not (type(message) is AppendEntries and not message.entries))

    def gone(self, addresses: set[str], name: str) -> None:
        """Tell those nodes that a peer of ours has stopped."""
        self._put(lambda: self._links.tell(addresses, Gone(self.address, name)))

    def beat_soon(self) -> None:
        """There is something new to be said by the next beat."""
        self._put(self.beat_next)

    def tell(self, address: str, body: Beat) -> None:
        """Say something short to the node at ``address``, if it is connected; in the wire's thread."""
        self._links.tell((address,), body)

    def beat_next(self) -> None:
        """The same, in the wire's thread."""
        self._beat_at = 0.0

    def reply(self, reply: Reply | Returns, *, alone: bool = True) -> None:
        """Answer whoever asked; ``alone``: there are hardly more answers for him within a moment."""
        self._put(reply, alone=alone)

    def request(self, pending: Pending) -> None:
        """Ask a peer elsewhere; it is answered in any case, a few milliseconds after its deadline at the latest."""
        pending.id = next(self._ids)
        if self._turns.asleep and not self._queue and self._turns.borrow(lambda: self._ask_now(pending)):
            self._look_again()
            return
        self._queue.append(pending)
        if self._turns.asleep:
            self._wake()
        if self._ended:  # whoever ended it may have looked into the queue before
            pending.end(reasons.closed(pending.to))

    def fetch(self, address: str, future: RequestFuture[Any], seconds: float) -> None:
        """Wait for an answer of the node at ``address`` at its socket, if nobody else asks there; may return early.

        Not in a process that listens itself: with the answers comes what its peers wait for. ``seconds`` less than 0:
        for ever.
        """
        link = self._links.get(address)
        if self._door is None and link is not None and self._turns.asleep and link.socket is not None:
            fetch(self._ears, link.socket, future, seconds, lambda: self._turns.borrow(lambda: self._take_now(link)))

    def link(self, address: str) -> Link | None:
        """What is known of the connection to ``address``; only to be looked at."""
        return self._links.get(address)

    def close(self) -> None:
        """Close everything; what waits is answered."""
        self._closing = True
        self._wake()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(5.0)
        elif self._thread.ident is None:  # it was never started: a node that could not listen
            self._end()

    def _put(self, item: Callable[[], None] | Posted | Reply | Returns, *, alone: bool = False) -> None:
        """Queue something; ``alone``: send it here if the thread sleeps, for there is hardly more to come."""
        self._queue.append(item)
        if not self._turns.asleep:
            return
        if alone and threading.get_ident() != self._main:  # that one may be interrupted
            self._turns.borrow(self._send_queued)
        self._look_again()

    def _wake(self) -> None:
        self._more = True  # it may be awake already, and just about to listen again
        if self._turns.asleep:
            self._turns.asleep = False
            self._bell.ring()

    # -- in the thread of whoever has borrowed the turn ----------------------------------------------------------------

    def _look_again(self) -> None:
        """The turn was returned, or was not to be had: what lies in the queue now is for the thread."""
        if self._queue:
            self._wake()

    def _ask_now(self, pending: Pending) -> bool:
        """Send a request, if nothing else waits; if this is interrupted, nothing of others is lost."""
        link = self._links.get(pending.address)
        if link is None or link.requests.count > FEW or link.busy or not link.at_hand:
            return False
        more = True
        try:
            sent = link.ask_now(pending)
            more = pending.deadline < self._wakes_at or self._ears.restless()
        finally:
            if more:
                link.touch()
                self._wake()
        return sent

    def _take_now(self, link: Link) -> bool:
        """Take an answer; if this is interrupted, nothing of others is lost."""
        more = True
        try:
            goes_on = link.take_answer()
            more = self._ears.restless()
        except BaseException:
            if link.requests.count == 1:  # that of the caller, who is interrupted
                why = OutcomeUnknown("interrupted while the answer was taken")
                link.requests.fail(unsent=why, sent=why)
            raise
        finally:
            if more:
                link.touch()
                self._wake()
        return goes_on and not more

    def _send_queued(self) -> bool:
        """Send what is queued over connections that stand; what is more than that is left to the thread."""
        more = True
        try:
            more = self._send_over(self._drain())
        except Exception:
            logger.exception("the transport goes on after an error")
        if self._ears.restless() or more:
            self._wake()
        return True

    def _send_over(self, links: set[Link]) -> bool:
        for link in links:
            if link.at_hand:
                link.send()
        return self._beat_at < self._wakes_at or any(link.busy or link.requests.due < self._wakes_at for link in links)

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        become_lender()
        self._turns.begin()
        while not self._closing:
            try:
                self._turn()
            except Exception:
                logger.exception("the transport goes on after an error")
                rouse_all()
                time.sleep(PAUSE)  # an error that comes again and again must not take the whole processor
        self._end()
        self._turns.give()

    def _turn(self) -> None:
        """What time asks for; then the peers, and at once what they send, since somebody may wait for that."""
        self._ears.resume_all()
        now = time.monotonic()
        if now >= self._look_at:
            self._look_round(now)
        if now >= self._beat_at:
            self._beat_at = self._beat(now)
        lend_all()
        self._more = False  # before the look into the queue: what comes after it is looked at again
        if self._queue:
            self._drain()
        due = self._links.attend(now)
        rouse_all()
        due = min(due, self._look_by, self._beat_at, now + LONGEST_SLEEP)
        self._wakes_at = now if has_brought() else due  # a link that fails has news for the peers
        while self._listen(self._wakes_at):
            pass

    def _listen(self, until: float) -> bool:
        """Wait for what comes, and hand it on; returns whether nothing follows from it but to listen again.

        Who was answered wakes up now, and will want the interpreter: nothing is done meanwhile that need not be.
        """
        left = until - time.monotonic()
        calls = self._wait(max(0.0, left))
        quiet = left > 0.0 and bool(calls)  # however much comes, what is due has its turn
        for call in calls:
            quiet = call() is True and quiet
        return quiet and not (self._queue or self._more or has_brought() or self._closing)

    def _look_round(self, now: float) -> None:
        """See who is connected, and who may be; forget connections of no use."""
        look = FOREVER if self._door is None else self._door.look(now)
        self._links.look_round(now)
        nobody = self._door is not None and look == FOREVER  # who comes is looked at from his first turn on
        self._look_at, self._look_by = now if nobody else min(look, now + LOOK), look + LATE

    def _wait(self, seconds: float) -> list[Ready]:
        ready = self._ears.ask()
        if ready or self._queue or self._closing:
            return self._ears.calls(ready, self._ears.sleep(0.0))
        self._turns.asleep = True
        self._turns.give()
        try:
            happened = self._ears.sleep(0.0 if self._queue or self._closing else seconds)
        finally:
            self._turns.asleep = False
            self._turns.take()
        return self._ears.calls(ready, happened)

    def _drain(self) -> set[Link]:
        """Take what is queued; returns the connections over which something is to be sent."""
        replies: dict[tuple[bytes, int], list[Reply]] = {}
        links = set()
        asked: Link | None = None
        for _ in range(len(self._queue)):
            item = self._queue.popleft()
            kind = type(item)
            if kind is Posted:
                links.add(link := self._links[item.address])
                link.letter(item.letter)
            elif kind is Reply or kind is Returns:
                reply: Reply = item if kind is Reply else item.take()
                replies.setdefault((reply.route, reply.version), []).append(reply)
            elif isinstance(item, Pending):
                if asked is None or asked.address != item.address:  # most are for the leader
                    links.add(asked := self._links[item.address])
                asked.ask(item)
            else:
                item()
        if self._door is not None:
            for (route, version), several in replies.items():
                self._door.reply(route, version, several)
        return links

    def _new_link(self, address: str) -> Link:
        return Link(self._context, address, self.address, self._keys, self._ears, self._lost, self.refused)

    def _end(self) -> None:
        error = reasons.closed("")
        self._ended = True  # before the last look into the queue: what comes after it is answered by who brings it
        self._drain()
        for link in self._links.values():
            link.give_up(error)
        if self._door is not None:
            self._door.close()
        self._ears.remove(self._bell)
        self._context.destroy(0)


def _nobody(*_: object) -> None:
    """Nobody wants to know."""
