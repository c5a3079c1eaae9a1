"""Who is connected to a door: not more than there is room for, and nobody who is not wanted any more.

libzmq accepts whoever comes, and keeps a connection whose key was taken off the list; of a message in parts it takes as
many as come. It tells, though, which descriptor each connection has (socket monitor, ``SRCFD``): such a connection is
shut down here, after a look at whether it is one of this door. The kernel tells how much has come on it, which is
compared with what was handed to us (Linux only).

Everything here runs in the thread of the wire.
"""

from __future__ import annotations

import collections
import os
import socket as sockets
import struct
import sys
from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

from raft_actors.transport.frames import LARGEST

__all__ = ["Crowd"]

FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_ACCEPT_FAILED | zmq.EVENT_DISCONNECTED | FAILED
MOST_CONNECTIONS = 4096
"""To one door, but never more than half of the files that this process may have open."""
MOST_UNSEEN, MOST_UNSEEN_AT_FIRST, MOST_UNSEEN_OF_ALL = 2 * LARGEST, 1 << 20, 512 << 20
"""Bytes that have come on a connection and were not handed to us yet; before its first frame; of all connections."""
MUCH = 64 << 20
"""Bytes that have come, and were not handed to us, from which on the large requests of guests are not looked at."""
OVERHEAD, SLACK = 256, 4096
"""Bytes that a frame may take beside itself, and those that may come between two looks without one."""
LOOK, LOOK_WHERE_QUIET = 0.1, 0.25
"""Seconds between two looks at that, and after one that has found next to nothing new."""
_BYTES_RECEIVED = struct.Struct("<128xQ")
_TCP_INFO = getattr(sockets, "TCP_INFO", None) if sys.platform == "linux" else None


class _Connection:
    """What has come on one: by the kernel, handed to us, and the difference."""

    __slots__ = ("handed", "received", "spoke", "unseen")

    def __init__(self) -> None:
        self.received = self.handed = self.unseen = 0
        self.spoke = False

    def look(self, received: int) -> int:
        """So many bytes have come by now; returns how many since the last look."""
        grown, self.received = max(0, received - self.received), received
        unseen = self.unseen + grown - self.handed - SLACK
        self.unseen, self.handed = max(0, unseen), 0
        return grown


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
        open: the connections by their descriptors.
    """

    def __init__(self, context: zmq.Context[Any], door: zmq.Socket[Any], refused: collections.Counter[str]) -> None:
        self._refused = refused
        self._door = door
        self._most = most_connections()
        self.port = 0
        self.open: dict[int, _Connection] = {}
        self._look_at = 0.0
        self._waiting = self._handed = 0
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
            self.open[int(descriptor)] = _Connection()
            if len(self.open) > self._most:
                self.throw_out(int(descriptor), "too many connections")
        elif kind == zmq.EVENT_DISCONNECTED:
            self.open.pop(int(descriptor), None)
        elif kind == zmq.EVENT_ACCEPT_FAILED:
            self._refused["too many connections"] += 1
        else:
            self._refused["no handshake"] += 1

    def handed(self, descriptor: int, size: int) -> None:
        """A frame has come on this connection."""
        self._handed += size + OVERHEAD
        connection = self.open.get(descriptor)
        if connection is not None:
            connection.handed += size + OVERHEAD
            connection.spoke = True

    def look(self, now: float) -> float:
        """Throw out those of whom more waits in libzmq than may; returns when to look again."""
        if not self.open or _TCP_INFO is None:
            return float("inf")
        if now < self._look_at:
            return self._look_at
        quiet = True
        for descriptor, connection in self.open.items():
            grown = connection.look(_received(descriptor))
            self._waiting += grown
            quiet = quiet and grown < SLACK
        self._look_at = now + (LOOK_WHERE_QUIET if quiet else LOOK)
        self._waiting = max(0, self._waiting - self._handed - SLACK * len(self.open))
        self._handed = 0
        if waiting := sum([one.unseen for one in self.open.values()]):
            self._throw_out_whom_too_much_waits_of(waiting)
        return self._look_at

    def _throw_out_whom_too_much_waits_of(self, waiting: int) -> None:
        """Who is over his own bound; of all together, those of whom most waits first."""
        for descriptor, one in sorted(self.open.items(), key=lambda item: -item[1].unseen):
            if one.unseen > (MOST_UNSEEN if one.spoke else MOST_UNSEEN_AT_FIRST) or waiting > MOST_UNSEEN_OF_ALL:
                self.throw_out(descriptor, "too much that is no frame")
                waiting -= one.unseen
                one.unseen = 0
            elif not one.unseen:
                break

    @property
    def overloaded(self) -> bool:
        """Whether more has come than we can look at: what was sent by those who are no more still waits, too."""
        return self._waiting > MUCH

    def throw_out(self, descriptor: int, why: str) -> None:
        """Shut a connection down, and count it; what comes of it until then is refused as before."""
        self._refused[why] += 1
        one = self.open.get(descriptor)
        if one is None:
            return
        received = _received(descriptor)
        self._waiting += max(0, received - one.received)
        one.received = max(one.received, received)
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


def _received(descriptor: int) -> int:
    """Bytes that have come on a connection, as the kernel counts them."""
    try:  # no ``socket.socket``, which takes several times as long: each connection is looked at some times a second
        connection = sockets.SocketType(sockets.AF_INET, sockets.SOCK_STREAM, 0, descriptor)
    except OSError:
        return 0
    try:
        data = connection.getsockopt(sockets.IPPROTO_TCP, _TCP_INFO or 0, 256)
        return int(_BYTES_RECEIVED.unpack_from(data)[0])
    except (OSError, struct.error):
        return 0
    finally:
        connection.detach()  # it is libzmq's
