"""How much of what other processes ask may be under way, and what of it makes no sense.

Rule: nobody takes the place of another. What one key may have under way is less than what a peer or a node has room
for, however many connections it has; and the threads that readers and writers wait in are never all of them. Who has
the role of a peer, or comes to a node without keys, may do everything: there only connections are bounded.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from raft_actors.addresses import check_address
from raft_actors.errors import InvalidConfiguration
from raft_actors.names import check_name
from raft_actors.protocol.changes import SetMembers
from raft_actors.transport.frames import ChangeMembers, Operation, SetConfiguration, Transfer

if TYPE_CHECKING:
    from raft_actors.transport.zeromq.door import Incoming

__all__ = ["OpenRequests", "OpenedSessions", "SlowLane", "WaitingRoom", "bounded_key", "check_sense"]

MOST_OPEN, MOST_OPEN_BYTES = 4096, 64 << 20
"""Writes and reads of one connection that may be unanswered, and bytes of them."""
MOST_OF_A_KEY, MOST_BYTES_OF_A_KEY = 8192, 32 << 20
"""The same of all connections of one key."""
MOST_WAITING, MOST_GUESTS_WAITING, MOST_WAITING_OF_A_KEY = 64, 32, 8
"""Requests that wait in threads of their own: all, those of readers and writers, and of those the ones of one key."""
MOST_SESSIONS_OF_A_KEY, AN_HOUR = 4096, 3600.0
"""Sessions that one key may open in an hour: of too many, a cluster forgets those of others."""
WITHOUT_LIMIT = ("peer", "insecure")


def bounded_key(incoming: Incoming) -> str:
    """Whose what is under way is bounded, however many connections he has; ``""``: nobody's."""
    return "" if incoming.guest.role in WITHOUT_LIMIT else incoming.key


class OpenRequests:
    """The writes and reads that are not answered; used by whoever has the turn of the wire only."""

    def __init__(self) -> None:
        self._count: collections.Counter[object] = collections.Counter()
        self._bytes: collections.Counter[object] = collections.Counter()

    def enter(self, incoming: Incoming, count: int = 1) -> int:
        """Take so many requests in, each of the size of ``incoming``, or as many as there is room for; returns that."""
        size, route = incoming.size, incoming.route
        taken = self._room(route, size, count, MOST_OPEN, MOST_OPEN_BYTES)
        key = bounded_key(incoming)
        if key:
            taken = self._room(key, size, taken, MOST_OF_A_KEY, MOST_BYTES_OF_A_KEY)
        if taken:
            for whose in (route, key) if key else (route,):
                self._count[whose] += taken
                self._bytes[whose] += taken * size
        return taken

    def count(self, route: bytes) -> int:
        """How many of this connection there are; any thread may ask."""
        return self._count.get(route, 0)

    def _room(self, whose: object, size: int, count: int, most: int, most_bytes: int) -> int:
        """For how many of ``count`` there is room; for the first one there always is."""
        there = self._count.get(whose, 0)
        room = min(count, most - there, (most_bytes - self._bytes.get(whose, 0)) // max(1, size))
        return min(count, max(room, 0 if there else 1))

    def leave(self, incoming: Incoming, count: int = 1) -> None:
        """So many of them were answered."""
        self._leave(incoming.route, count, incoming.size)
        key = bounded_key(incoming)
        if key:
            self._leave(key, count, incoming.size)

    def _leave(self, whose: object, count: int, size: int) -> None:
        self._count[whose] -= count
        self._bytes[whose] -= count * size
        if self._count[whose] <= 0:
            del self._count[whose], self._bytes[whose]


class OpenedSessions:
    """When the keys have opened sessions; used by the wire's thread only."""

    def __init__(self) -> None:
        self._of: dict[str, collections.deque[float]] = {}

    def enter(self, incoming: Incoming, now: float) -> bool:
        """Whether one more may be opened."""
        if incoming.guest.role in WITHOUT_LIMIT:
            return True
        opened = self._of.setdefault(incoming.key, collections.deque())
        while opened and opened[0] < now - AN_HOUR:
            opened.popleft()
        if len(opened) >= MOST_SESSIONS_OF_A_KEY:
            return False
        opened.append(now)
        return True


class WaitingRoom:
    """The requests that wait in threads of their own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all = 0
        self._guests: collections.Counter[str] = collections.Counter()

    def enter(self, key: str, *, reserved: bool) -> bool:
        """Take a place, if there is one; ``reserved``: some are for others."""
        with self._lock:
            if self._all >= MOST_WAITING:
                return False
            if reserved:
                if self._guests.total() >= MOST_GUESTS_WAITING or self._guests[key] >= MOST_WAITING_OF_A_KEY:
                    return False
                self._guests[key] += 1
            self._all += 1
        return True

    def leave(self, key: str, *, reserved: bool) -> None:
        """Give it back."""
        with self._lock:
            self._all -= 1
            if reserved:
                self._guests[key] -= 1
                self._guests += collections.Counter()  # forgets those that have none


class SlowLane:
    """What takes longer: done one after the other, in a thread that is there as long as there is something to do."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: collections.deque[Callable[[], None]] = collections.deque()
        self._runs = False

    def put(self, job: Callable[[], None]) -> None:
        """Do this as well; it never raises."""
        with self._lock:
            self._jobs.append(job)
            if self._runs:
                return
            self._runs = True
        try:
            threading.Thread(target=self._run, name="raft-slow-requests", daemon=True).start()
        except RuntimeError:  # no thread can be had: then here
            self._run()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._runs = False
                    return
                job = self._jobs.popleft()
            job()


def check_sense(operation: Operation) -> None:
    """Refuse what the functions for callers of this process would refuse before they ask a peer.

    Raises:
        InvalidName: a name or an address is none.
        InvalidConfiguration: nobody is named, or somebody twice.
    """
    match operation:
        case SetConfiguration(members=members):
            _check_places(members)
            _check_several([name for name, _ in members])
        case ChangeMembers(change=change, places=places):
            _check_places(places)
            if isinstance(change, SetMembers):
                _check_several(change.names)
            else:
                check_name(change.name)
        case Transfer(target=str() as target):
            check_name(target)


def _check_places(places: Iterable[tuple[str, str]]) -> None:
    for name, address in places:
        check_name(name)
        if address:
            check_address(address)


def _check_several(names: Iterable[str]) -> None:
    names = list(names)
    for name in names:
        check_name(name)
    if not names or len(set(names)) < len(names):
        raise InvalidConfiguration("a cluster needs at least one peer, and each of them once")
