"""What carries messages between peers: the port that every transport fills.

Rules, which ``transport.conformance`` checks:

- ``send`` never blocks and never raises. What cannot be delivered is lost; Raft sends again what matters.
- What arrives is handed to ``post`` of the receiver, from any thread, unchanged and whole. It may come late, twice, or
  in another order; it never goes to somebody else, and never comes in after ``leave`` of the receiver has returned.
- ``PeerDown(name)`` is posted to whoever talks to ``name`` as soon as that peer is known to be gone, or cannot be
  reached any more. It is a hint that saves waiting: nothing depends on its coming, or on its being true.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from raft_actors.protocol.events import AddressHeard, PeerDown, Received
from raft_actors.protocol.messages import Message

__all__ = ["News", "Post", "Transport"]

News = Received | PeerDown | AddressHeard
"""What a transport tells a peer."""
Post = Callable[[Any], bool]
"""Takes ``News`` for a peer; False if the peer is gone. Never blocks."""


class Transport(Protocol):
    """How one process reaches the peers that its own peers talk to."""

    def join(self, name: str, post: Post) -> None:
        """From now on, what is sent to ``name`` is handed to ``post``."""

    def leave(self, name: str) -> None:
        """``name`` is gone: nothing is handed to it any more, and who talks to it is told."""

    def send(self, source: str, to: str, message: Message) -> None:
        """Deliver ``message`` of ``source``, a peer that has joined, to ``to``, or lose it."""
