"""What carries messages between peers: the port that every transport fills.

Rules, which ``transport.conformance`` checks:

- ``send`` never blocks and never raises. What cannot be delivered is lost; Raft sends again what matters.
- What arrives is handed to ``post`` of the receiver, from any thread, unchanged and whole. It may come late, twice, or
  in another order; it never goes to somebody else, and never comes in after ``leave`` of the receiver has returned,
  but for what another thread is just handing in then.
- ``PeerDown(name)`` is posted to whoever talks to ``name`` as soon as that peer is known to be gone, or cannot be
  reached any more. It is a hint that saves waiting: nothing depends on its coming, or on its being true.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from raft_actors.protocol.events import AddressHeard, PeerDown, Received
from raft_actors.protocol.messages import Message

__all__ = ["News", "Post", "Transport", "Vouching"]

News = Received | PeerDown | AddressHeard
"""What a transport tells a peer."""
Post = Callable[[Any], bool]
"""Takes ``News`` for a peer; False if the peer is gone. Never blocks."""


class Transport(Protocol):
    """How one process reaches the peers that its own peers talk to."""

    def join(self, name: str, post: Post) -> None:
        """From now on, what is sent to ``name`` is handed to ``post``."""

    def leave(self, name: str) -> None:
        """``name`` is gone, and who talks to it is told.

        Nothing is handed to it any more, but for what another thread is just handing in then.
        """

    def send(self, source: str, to: str, message: Message) -> None:
        """Deliver ``message`` of ``source``, a peer that has joined, to ``to``, or lose it."""


@runtime_checkable
class Vouching(Protocol):
    """What a transport may do besides: vouch for peers that rest, so that they need not speak (``behaviours.resting``).

    A transport without these methods is a transport all the same: its peers send heartbeats.
    """

    def rest(self, name: str, others: Sequence[str], term: int, every: float) -> None:
        """Vouch for ``name`` to each of ``others``, anew within ``every`` seconds; to none of them: no more.

        What was said before is taken back at once: it must not be repeated. The end of ``name``, or of the connection,
        is told by ``PeerDown`` as ever.
        """

    def vouched(self, name: str, others: Sequence[str], term: int) -> dict[str, float]:
        """When each of ``others`` was last said to rest with ``name`` in ``term``: arrival, on the monotonic clock."""
