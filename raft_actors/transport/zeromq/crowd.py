"""Who is connected to a door: not more than there is room for, and nobody who is not wanted any more.

libzmq accepts whoever comes, keeps a connection whose key was taken off the list, and lets an answer that is not taken
wait without counting its bytes. It tells, though, which descriptor each connection has (socket monitor, ``SRCFD``):
such a connection is shut down here, after a look at whether it is one of this door. And it tells when it has let go of
a message (``MessageTracker``).

Everything here runs in the thread of the wire.
"""

from __future__ import annotations

import collections
import os
import socket as sockets
from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

__all__ = ["Crowd", "Held"]

FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_ACCEPT_FAILED | zmq.EVENT_DISCONNECTED | FAILED
MOST_CONNECTIONS = 4096
"""To one door, but never more than half of the files that this process may have open."""
TRACKED = 2048
"""Bytes from which an answer is counted until it has left: smaller ones are bounded by their number."""
MOST_HELD, MOST_HELD_OF_ONE = 256 << 20, 32 << 20
"""Bytes of answers that wait in libzmq: of all connections, of one."""


def most_connections() -> int:
    """How many connections there is room for."""
    try:
        import resource

        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    except (ImportError, OSError, ValueError):
        return MOST_CONNECTIONS
    return MOST_CONNECTIONS if files < 0 else max(16, min(MOST_CONNECTIONS, files // 2))


class Crowd:
    """The connections of a door.

    Args:
        context: makes sockets.
        door: the socket that listens.
        refused: counts what is refused, by reason.

    Attributes:
        news: the socket on which libzmq tells of connections.
        open: descriptors of the connections.
    """

    def __init__(self, context: zmq.Context[Any], door: zmq.Socket[Any], refused: collections.Counter[str]) -> None:
        self._refused = refused
        self._door = door
        self._most = most_connections()
        self.port = 0
        self.open: set[int] = set()
        address = f"inproc://crowd-{id(self)}"
        door.monitor(address, EVENTS)
        self.news: zmq.Socket[Any] = context.socket(zmq.PAIR)
        self.news.setsockopt(zmq.RCVHWM, 0)  # or whoever tells would wait for us
        self.news.setsockopt(zmq.LINGER, 0)
        self.news.connect(address)

    def ready(self) -> None:
        """Something is told."""
        while True:
            try:
                parts = self.news.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._noticed(parse_monitor_message(parts))

    def _noticed(self, told: Any) -> None:
        kind, descriptor = told["event"], told["value"]
        if kind == zmq.EVENT_ACCEPTED:
            self.open.add(int(descriptor))
            if len(self.open) > self._most:
                self.throw_out(int(descriptor), "too many connections")
        elif kind == zmq.EVENT_DISCONNECTED:
            self.open.discard(int(descriptor))
        elif kind == zmq.EVENT_ACCEPT_FAILED:
            self._refused["too many connections"] += 1
        else:
            self._refused["no handshake"] += 1

    def throw_out(self, descriptor: int, why: str) -> None:
        """Shut a connection down, and count it; what comes of it until then is refused as before."""
        self._refused[why] += 1
        if descriptor not in self.open:
            return
        try:
            with sockets.socket(fileno=os.dup(descriptor)) as connection:
                connection.getpeername()
                if connection.getsockname()[1] == self.port:  # else it was closed meanwhile, and is another's
                    connection.shutdown(sockets.SHUT_RDWR)
        except OSError:
            return

    def close(self) -> None:
        """Hear nothing more."""
        self._door.disable_monitor()
        self.news.close(0)


class Held:
    """The larger answers that libzmq has not let go of yet."""

    def __init__(self) -> None:
        self._of: dict[bytes, collections.deque[tuple[Any, int]]] = {}
        self._bytes: collections.Counter[bytes] = collections.Counter()
        self._all = 0

    def room(self, route: bytes, size: int) -> bool:
        """Whether an answer of this size may be sent: the first one always may."""
        self._look(route)
        if self._all + size > MOST_HELD:
            for one in list(self._of):
                self._look(one)
        held = self._bytes[route] if route in self._of else 0
        return not held or (held + size <= MOST_HELD_OF_ONE and self._all + size <= MOST_HELD)

    def add(self, route: bytes, tracker: Any, size: int) -> None:
        """It was handed to libzmq."""
        self._of.setdefault(route, collections.deque()).append((tracker, size))
        self._bytes[route] += size
        self._all += size

    def _look(self, route: bytes) -> None:
        waiting = self._of.get(route)
        while waiting and waiting[0][0].done:
            size = waiting.popleft()[1]
            self._bytes[route] -= size
            self._all -= size
        if not waiting:
            self._of.pop(route, None)
            self._bytes.pop(route, None)
