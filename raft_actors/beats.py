"""What the nodes say for peers that rest: one frame to each node that has any of their partners, a few times a second.

::

    peers here --rest(name, others, term)--> ours --one Beat for each node, again and again--> the other node
    the other node's Beat --take--> theirs: the same words as before? then only the time is noted
    a peer's deadline --vouched(name, others, term)--> when each of the others was last said to rest with it

So a beat costs nearly the same for one peer as for a thousand, and wakes none of them. What a beat does not repeat is
not said any more. Who may speak as a peer (``Guest.may_speak_as``) may vouch for it, and nobody else.

``rest`` and ``vouched`` are called by peers, in their threads; the rest by the one thread of the wire.
"""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable, Iterable, Sequence
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
    """A peer here that rests: with whom, in which term, and what is said of it at which addresses."""

    others: tuple[str, ...]
    term: int
    said: tuple[tuple[str, Rest], ...]


class _Theirs:
    """What a node said last, and when."""

    __slots__ = ("at", "said")

    def __init__(self) -> None:
        self.said: tuple[Rest, ...] = ()
        self.at = 0.0


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
        self._lock = threading.Lock()  # of what is ours: peers change it, the wire says it
        self._ours: dict[str, _Ours] = {}
        self._said: dict[str, dict[Rest, float]] = {}
        self._letters: dict[str, tuple[Rest, ...]] = {}
        self._sent: dict[str, float] = {}
        self._again = FOREVER
        self._nodes: dict[tuple[Guest, str], _Theirs] = {}
        self._theirs: dict[Rest, _Theirs] = {}

    def rest(self, name: str, others: Sequence[str], term: int, every: float) -> bool:
        """Vouch for ``name`` to each of ``others`` from now on; to none of them: no more.

        Returns:
            Whether ``due`` would come too late for it.
        """
        places = [(self._where(name, other), Rest(name, other, term)) for other in others]
        with self._lock:
            before = self._ours.pop(name, None)
            if before is not None:
                self._take_back(before.said)
            if not others:
                return False
            said = tuple([one for one in places if one[0]])
            self._ours[name] = _Ours(tuple(others), term, said)
            for address, rest in said:
                self._said.setdefault(address, {})[rest] = every
                self._letters.pop(address, None)
            return bool(said) and time.monotonic() + every < self._again

    def _take_back(self, said: tuple[tuple[str, Rest], ...]) -> None:
        for address, rest in said:
            self._letters.pop(address, None)
            del self._said[address][rest]
            if not self._said[address]:
                del self._said[address]
                self._sent.pop(address, None)

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
        late, again = [], FOREVER
        with self._lock:
            for address, said in self._said.items():
                every, at = min(said.values()), self._sent.get(address, -FOREVER)
                if now >= at + every:
                    self._sent[address] = at = now
                    late.append((address, self._letters.setdefault(address, tuple(said))))
                again = min(again, at + every)
            self._again = again
        return late, again

    def take(self, guest: Guest, beat: Beat, now: float) -> bool:
        """Another node's word; whether it is to hear ours now, since it is listening anyway."""
        key = (guest, beat.address)
        node = self._nodes.get(key) or self._new_node(key)
        if node.said != beat.rests:
            self._hear_anew(guest, node, beat.rests)
        node.at = now
        with self._lock:
            sent, ours = self._sent.get(beat.address), self._said.get(beat.address)
            if sent is None or ours is None or now < sent + SOON * min(ours.values()):
                return False
            self._sent[beat.address] = -FOREVER
        return True

    def _new_node(self, key: tuple[Guest, str]) -> _Theirs:
        if len(self._nodes) >= MOST_NODES:
            self._forget(next(iter(self._nodes)))
        node = self._nodes[key] = _Theirs()
        return node

    def _hear_anew(self, guest: Guest, node: _Theirs, said: tuple[Rest, ...]) -> None:
        """Mostly one peer of many has begun to rest, or was roused."""
        before, after = set(node.said), set(said)
        self._let_go(node, before - after)
        for one in after - before:
            if not guest.may_speak_as(one.name):
                self._refused["speaks as another"] += 1
            elif self._is_here(one.to):
                self._theirs[one] = node
        node.said = said

    def _let_go(self, node: _Theirs, said: Iterable[Rest]) -> None:
        for one in said:
            if self._theirs.get(one) is node:
                del self._theirs[one]

    def _forget(self, key: tuple[Guest, str]) -> None:
        node = self._nodes.pop(key)
        self._let_go(node, node.said)

    def lost(self, address: str) -> None:
        """Nobody there is reached any more: what was said from there is old."""
        for key in [key for key in self._nodes if key[1] == address]:
            self._forget(key)
