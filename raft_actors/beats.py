"""What the nodes say for peers that rest: one frame to each node that has any of their partners, a few times a second.

::

    peers here --rest(name, others, term)--> ours --one Beat for each node, again and again--> the other node
    the other node's Beat --take--> theirs: the same words as before? then only the time is noted
    a peer's deadline --vouched(name, others, term)--> when each of the others was last said to rest with it

So a beat costs the same for one peer as for a thousand, and wakes none of them. What a beat does not repeat is not said
any more. Who may speak as a peer (``Guest.may_speak_as``) may vouch for it, and nobody else.

``rest`` and ``vouched`` are called by peers, in their threads; the rest by the one thread of the wire.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from raft_actors.transport.frames import Beat, Rest

if TYPE_CHECKING:
    from raft_actors.keys import Guest

__all__ = ["Beats"]

FOREVER = float("inf")
MOST_NODES = 1024
"""Nodes whose words are remembered."""
SOON = 0.6
"""A beat is answered by ours if this share of the time until our next one has passed: both nodes are awake then."""


class _Ours(NamedTuple):
    """A peer here that rests: with whom, in which term, and how many seconds its node may be silent."""

    others: tuple[str, ...]
    term: int
    every: float


class _Theirs:
    """What a node said last, and when."""

    __slots__ = ("at", "said")

    def __init__(self, said: tuple[Rest, ...], at: float) -> None:
        self.said, self.at = said, at


class Beats:
    """Those of one node.

    Args:
        where: the address of a peer that a peer here, named first, talks to; ``""``: here.
        is_here: whether a peer of this name is here.
        refused: counts what is refused, by reason.
    """

    def __init__(
        self, where: Callable[[str, str], str], is_here: Callable[[str], bool], refused: collections.Counter[str]
    ) -> None:
        self._where, self._is_here, self._refused = where, is_here, refused
        self._ours: dict[str, _Ours] = {}
        self._changed = False
        self._letters: dict[str, tuple[tuple[Rest, ...], float]] = {}
        self._sent: dict[str, float] = {}
        self._nodes: dict[tuple[Guest, str], _Theirs] = {}
        self._theirs: dict[Rest, _Theirs] = {}

    def rest(self, name: str, others: Sequence[str], term: int, every: float) -> bool:
        """Vouch for ``name`` to each of ``others`` from now on; to none of them: no more. Whether this is any news."""
        if others:
            self._ours[name] = _Ours(tuple(others), term, every)
        elif self._ours.pop(name, None) is None:
            return False
        self._changed = True
        return True

    def vouched(self, name: str, others: Sequence[str], term: int) -> dict[str, float]:
        """When each of ``others`` was last said to rest with ``name`` in ``term``, on the monotonic clock."""
        at = {}
        for other in others:
            theirs = self._theirs.get(Rest(other, name, term))
            here = self._ours.get(other)
            if here is not None and here.term == term and name in here.others:
                at[other] = time.monotonic()
            elif theirs is not None:
                at[other] = theirs.at
        return at

    # -- in the wire's thread ------------------------------------------------------------------------------------------

    def due(self, now: float) -> tuple[list[tuple[str, tuple[Rest, ...]]], float]:
        """What is to be said to which addresses now, and when to come again."""
        if self._changed:
            self._changed = False
            self._write_letters()
        late, again = [], FOREVER
        for address, (said, every) in self._letters.items():
            at = self._sent.get(address, -FOREVER)
            if now >= at + every:
                self._sent[address] = at = now
                late.append((address, said))
            again = min(again, at + every)
        return late, again

    def _write_letters(self) -> None:
        letters: dict[str, list[Rest]] = {}
        every: dict[str, float] = {}
        for name, ours in list(self._ours.items()):
            for other in ours.others:
                address = self._where(name, other)
                if address:
                    letters.setdefault(address, []).append(Rest(name, other, ours.term))
                    every[address] = min(every.get(address, FOREVER), ours.every)
        self._letters = {address: (tuple(said), every[address]) for address, said in letters.items()}
        self._sent = {address: at for address, at in self._sent.items() if address in letters}

    def take(self, guest: Guest, beat: Beat, now: float) -> bool:
        """Another node's word; whether it is to hear ours now, since it is listening anyway."""
        key = (guest, beat.address)
        node = self._nodes.get(key)
        if node is None or node.said != beat.rests:
            self._hear_anew(key, beat.rests, now)
        else:
            node.at = now
        sent, ours = self._sent.get(beat.address), self._letters.get(beat.address)
        if sent is None or ours is None or now < sent + SOON * ours[1]:
            return False
        self._sent[beat.address] = -FOREVER
        return True

    def _hear_anew(self, key: tuple[Guest, str], said: tuple[Rest, ...], now: float) -> None:
        self._forget(key)
        if len(self._nodes) >= MOST_NODES:
            self._forget(next(iter(self._nodes)))
        guest = key[0]
        node = self._nodes[key] = _Theirs(said, now)
        allowed = [one for one in said if guest.may_speak_as(one.name)]
        self._refused["speaks as another"] += len(said) - len(allowed)
        self._theirs |= {one: node for one in allowed if self._is_here(one.to)}

    def _forget(self, key: tuple[Guest, str]) -> None:
        node = self._nodes.pop(key, None)
        if node is not None:
            for one in node.said:
                if self._theirs.get(one) is node:
                    del self._theirs[one]

    def lost(self, address: str) -> None:
        """Nobody there is reached any more: what was said from there is old."""
        for key in [key for key in self._nodes if key[1] == address]:
            self._forget(key)
