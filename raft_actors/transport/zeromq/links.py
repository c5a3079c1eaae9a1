"""The connections that this process has made, by the address of the node at the other end; for the wire's thread only.

One is made when the first thing is to be said to a node, and stands from then on. Connections of no use are forgotten
when there are many: names of hosts that nobody answers at come and go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from raft_actors.keys import Keyring
from raft_actors.transport.frames import Beat, Gone
from raft_actors.transport.zeromq.link import Link

__all__ = ["MOST_LINKS", "Links"]

MOST_LINKS = 64
"""Of more connections than this, those of no use are forgotten."""


class Links(dict[str, Link]):
    """The connections; one is made when its address is asked for.

    Args:
        keys: ours; ``None``: without.
        made: makes the connection to an address.
    """

    def __init__(self, keys: Keyring | None, made: Callable[[str], Link]) -> None:
        super().__init__()
        self._keys, self._list = keys, -1
        self._made = made

    def __missing__(self, address: str) -> Link:
        link = self[address] = self._made(address)
        return link

    def tell(self, addresses: Iterable[str], body: Gone | Beat) -> None:
        """Say something short to those nodes that we have a connection to."""
        for address in addresses:
            if address in self:
                self[address].news(body)

    def attend(self, now: float) -> float:
        """Let each do what it can; returns when to come again, on the monotonic clock."""
        due = float("inf")
        for link in list(self.values()):
            due = min(due, link.attend(now))
        return due

    def look_round(self, now: float) -> None:
        """Let go of nodes that are not on our list any more, as soon as it is another list; forget what is useless."""
        if self._keys is not None and self._list != (version := self._keys.current()):
            self._list = version
            for link in list(self.values()):
                link.check_key(now)
        if len(self) > MOST_LINKS:
            for address in [address for address, link in self.items() if link.useless]:
                del self[address]
