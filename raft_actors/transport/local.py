"""Messages between peers of this process: a look-up and a post, nothing is copied.

Messages are immutable values, so sharing them shares nothing that can change. A peer that dies is announced to all
others at once (``PeerDown``), as Erlang's monitors do. A link may be given a *fault*, which then decides what becomes
of each message; tests use it to cut, lose, delay and duplicate.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from raft_actors.protocol.events import PeerDown, Received
from raft_actors.protocol.messages import Message
from raft_actors.transport.port import News, Post

__all__ = ["LOCAL", "Fault", "LocalTransport"]

Fault = Callable[[str, str, Callable[[], None]], None]
"""Called with source, destination and what delivers the message: now, later, twice, or never."""


class LocalTransport:
    """All peers of this process by name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._posts: dict[str, Post] = {}
        self._faults: dict[str, Fault] = {}

    def join(self, name: str, post: Post) -> None:
        """From now on, messages for ``name`` are posted with ``post``."""
        with self._lock:
            self._posts = {**self._posts, name: post}

    def leave(self, name: str) -> None:
        """``name`` is gone: tell everybody else."""
        with self._lock:
            posts = dict(self._posts)
            if posts.pop(name, None) is None:
                return
            self._posts = posts
        for other, post in posts.items():
            self._pass(name, other, post, PeerDown(name))

    def send(self, source: str, to: str, message: Message) -> None:
        """Deliver ``message``, or lose it if nobody is there; who has left says nothing more after its ``PeerDown``."""
        post = self._posts.get(to)
        if post is not None and source in self._posts:
            self._pass(source, to, post, Received(message))

    def deliver(self, to: str, event: News) -> None:
        """Hand on what came over a network, or late; nobody may be there."""
        post = self._posts.get(to)
        if post is not None:
            post(event)

    def has(self, name: str) -> bool:
        """Whether this peer is here."""
        return name in self._posts

    def forget_all(self) -> None:
        """In a forked child: nobody of the parent is here."""
        self.__init__()  # type: ignore[misc]

    def set_fault(self, names: tuple[str, ...], fault: Fault | None) -> None:
        """Let ``fault`` decide about every message that leaves one of ``names``; ``None``: no more."""
        with self._lock:
            faults = {name: one for name, one in self._faults.items() if name not in names}
            self._faults = faults if fault is None else {**faults, **dict.fromkeys(names, fault)}

    def _pass(self, source: str, to: str, post: Post, event: News) -> None:
        fault = self._faults.get(source)
        if fault is None:
            post(event)
        else:
            fault(source, to, lambda: self.deliver(to, event))


LOCAL = LocalTransport()
"""The one of this process."""
