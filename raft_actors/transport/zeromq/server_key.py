"""The key at the other end of a connection that we made: whose node it may be, by our own list.

Rule: it is looked at for every letter and every request. A node whose key was taken off the list is told nothing more,
and one that may be the node of ``s2`` only is never asked as the one of ``s1``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raft_actors.keys import Keyring

__all__ = ["ServerKey"]

MOST_NAMES = 1024
"""Names of which we remember whether the other side may have them."""


class ServerKey:
    """That of one connection after the other.

    Args:
        keys: ours; ``None``: without, and then everybody may be everybody.
    """

    def __init__(self, keys: Keyring | None) -> None:
        self._keys = keys
        self._key = ""
        self._version = -1
        self._may_be: dict[str, bool] = {}

    def choose(self, keys: Keyring, peer: str, attempt: int) -> str:
        """The key that the node of ``peer`` is believed to have in this attempt."""
        servers = keys.servers(peer) or [keys.public]
        self._key, self._version = servers[attempt % len(servers)], -1
        return self._key

    def may_be(self, peer: str) -> bool:
        """Whether this key may be the one of this peer's node, by the list as it is now."""
        if self._keys is None:
            return True
        version = self._keys.current()
        known = self._may_be.get(peer) if version == self._version else None
        return known if known is not None else self._look_up(peer, version)

    def _look_up(self, peer: str, version: int) -> bool:
        keys = self._keys
        if version != self._version or len(self._may_be) >= MOST_NAMES:
            self._version, self._may_be = version, {}
        found = self._may_be[peer] = keys is None or self._key in keys.servers(peer)
        return found
