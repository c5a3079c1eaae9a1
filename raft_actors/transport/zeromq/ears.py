"""Waits for many sockets with one system call.

A socket of ZeroMQ has a descriptor that says only that *something* may have happened, once: whoever used the socket
since may have taken the hint. So after every use a socket is asked before the thread sleeps (``touch``), and whoever
reads from one reads until nothing is left, or asks to be called again. ``zmq.Poller`` asks all sockets, several times
each, whenever one has something; with two sockets for every other node that is most of the work of a small message.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import socket as sockets
from collections.abc import Callable
from typing import Any, TypeAlias

import zmq

__all__ = ["MORE", "NOWAIT", "Bell", "Ears", "Ready", "may_read", "receive", "rest_of", "send"]

NOWAIT, MORE, EVENTS, READABLE = int(zmq.NOBLOCK), int(zmq.SNDMORE), int(zmq.EVENTS), int(zmq.POLLIN)
"""As plain numbers: the flags of pyzmq are enumerations, whose operators cost more than a small message."""
Ready: TypeAlias = "Callable[[], object]"
"""What is called when something may have come for a socket. True: it was taken, and nothing follows from it."""
MOST = 64
"""So many sockets are told of at a time."""
send = zmq.backend.Socket.send
"""``send(socket, data, flags)``, without what pyzmq does for other kinds of sockets before."""


def may_read(socket: Any) -> bool:
    """Whether something has come."""
    return bool(int(socket.get(EVENTS)) & READABLE)


def rest_of(first: Any, socket: Any) -> list[bytes]:
    """The other parts of the message that begins with ``first``."""
    parts: list[bytes] = []
    while first.more:
        first = socket.recv(NOWAIT, copy=False)
        parts.append(first.bytes)
    return parts


def receive(socket: Any) -> bytes:
    """A message, whose parts are put together.

    Raises:
        zmq.Again: there is none.
    """
    first = socket.recv(NOWAIT, copy=False)
    data: bytes = first.bytes
    return b"".join([data, *rest_of(first, socket)]) if first.more else data


class Bell:
    """Wakes the thread that listens to it; rung by any thread.

    Its descriptors are open for as long as anybody holds it: one that was closed may be another file a moment later.
    """

    _counter: int = -1
    _sockets: tuple[sockets.socket, ...] = ()

    def __init__(self) -> None:
        self._counter = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) if hasattr(os, "eventfd") else -1
        self._sockets = () if self._counter >= 0 else sockets.socketpair()
        for one in self._sockets:
            one.setblocking(False)

    def fileno(self) -> int:
        """The descriptor to listen to."""
        return self._sockets[0].fileno() if self._sockets else self._counter

    def ring(self) -> None:
        """Wake it."""
        with contextlib.suppress(OSError):  # it was rung often enough
            if self._sockets:
                self._sockets[1].send(b"\0")
            else:
                os.eventfd_write(self._counter, 1)

    def hear(self) -> None:
        """It was rung: once is as good as many times."""
        with contextlib.suppress(OSError):
            if self._sockets:
                self._sockets[0].recv(4096)
            else:
                os.eventfd_read(self._counter)

    def __del__(self) -> None:
        if self._counter >= 0:
            os.close(self._counter)
        for one in self._sockets:
            one.close()


class Ears:
    """The sockets of one thread, each with what is to be called when something may have come.

    Attributes:
        sleep: waits so many seconds for something to happen, and returns where: pairs of a descriptor and what. No
            socket is used: others may use them meanwhile.
    """

    sleep: Callable[[float], list[tuple[int, int]]]

    def __init__(self) -> None:
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._poll = self._epoll or select.poll()
        self.sleep = self._sleep if self._epoll is None else functools.partial(self._epoll.poll, maxevents=MOST)
        self._deaf: dict[int, None] = {}
        self._process = os.getpid()
        self._of: dict[int, tuple[Any, Ready]] = {}
        self._descriptors: dict[Any, int] = {}
        self._touched: dict[Any, None] = {}

    def add(self, socket: Any, ready: Ready) -> None:
        """Listen to a socket of ZeroMQ, or of the system; ``ready`` reads until nothing is left."""
        ours = isinstance(socket, zmq.Socket)
        descriptor = int(socket.get(zmq.FD)) if ours else socket.fileno()
        self._of[descriptor] = (socket, ready)
        self._descriptors[socket] = descriptor
        self._poll.register(descriptor, select.POLLIN)
        if ours:
            self._touched[socket] = None

    def remove(self, socket: Any) -> None:
        """Listen to it no more; nothing happens if nobody did."""
        descriptor = self._descriptors.pop(socket, None)
        self._touched.pop(socket, None)
        if descriptor is not None:
            self._deaf.pop(descriptor, None)
            self._poll.unregister(descriptor)
            del self._of[descriptor]

    def touch(self, socket: Any) -> None:
        """It was used, or not read to its end: ask it before the next sleep."""
        self._touched[socket] = None

    def ask(self) -> dict[int, Ready]:
        """Ask the sockets that were touched; those of which something can be read, by their descriptors."""
        touched, self._touched = self._touched, {}
        ready = {}
        for socket in touched:
            descriptor = self._descriptors.get(socket)
            if descriptor is not None and may_read(socket):
                ready[descriptor] = self._of[descriptor][1]
        return ready

    def _sleep(self, seconds: float) -> list[tuple[int, int]]:
        """Where there is no ``epoll``."""
        return self._poll.poll(int(seconds * 1000) + (1 if seconds > 0 else 0))

    # -- somebody else listens for a while -----------------------------------------------------------------------------

    def leave(self, socket: Any) -> int:
        """Let somebody else listen to a socket of ours; any thread. Returns its descriptor, -1 if that cannot be."""
        descriptor = self._descriptors.get(socket, -1)
        if self._epoll is None or descriptor < 0 or os.getpid() != self._process:  # a child shares it with its parent
            return -1
        self._deaf[descriptor] = None
        with contextlib.suppress(OSError):  # it was closed just now
            self._epoll.modify(descriptor, 0)
        self._deaf[descriptor] = None  # if all was listened to again meanwhile, and this thread is interrupted now
        return descriptor

    def resume(self, descriptor: int) -> None:
        """Listen to it again; any thread. What has come meanwhile is heard now.

        Several may have left it to themselves. Each says at last that it is listened to, so the last word is that.
        """
        self._deaf.pop(descriptor, None)
        if self._epoll is not None and descriptor >= 0:
            with contextlib.suppress(OSError):
                self._epoll.modify(descriptor, select.EPOLLIN)

    def resume_all(self) -> None:
        """Listen to everything: who wanted to listen may have been interrupted."""
        if self._deaf:
            for descriptor in list(self._deaf):
                self.resume(descriptor)

    def calls(self, ready: dict[int, Ready], happened: list[tuple[int, int]]) -> list[Ready]:
        """What is to be called, each once."""
        for descriptor, _ in happened:
            found = self._of.get(descriptor)
            if found is not None:
                ready[descriptor] = found[1]
        return list(ready.values())

    def restless(self) -> bool:
        """After the sockets were used while their thread sleeps: whether it must be woken.

        Whoever used a socket may have taken the only hint that something has come for it.
        """
        ready = self.ask()
        for descriptor in ready:
            self._touched[self._of[descriptor][0]] = None
        return bool(ready)
