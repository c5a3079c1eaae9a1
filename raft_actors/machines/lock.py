"""Locks that are leased: who holds one and is silent for too long has lost it, and a token tells old holders apart."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from raft_actors.machines._words import unknown
from raft_actors.state_machine import StateMachine

if TYPE_CHECKING:
    from random import Random

__all__ = ["Lock"]

KNOWN = '("acquire", name, owner, ttl), ("release", name, token), ("refresh", name, token, ttl)'
SWEPT = 2
"""So many leases are looked at in each write, in turn, so that those that are over do not pile up."""


class _Lease(NamedTuple):
    owner: Any
    token: int
    until: float


class Lock(StateMachine[tuple[Any, ...], Any]):
    """Named locks.

    Writes ``("acquire", name, owner, ttl)`` -> fencing token, or ``None`` while somebody else has it;
    ``("refresh", name, token, ttl)`` and ``("release", name, token)`` -> bool, False if the lease is over.
    Reads ``("holder", name)`` -> ``(owner, token)`` or ``None``.

    ``ttl`` is in seconds of replicated time, which goes on with what is written. A token is higher than all that were
    given before: give it to whatever the lock protects, and let that refuse a lower one, since a holder may sleep for
    longer than its lease and not know it. An owner that has the lock gets the same token again, and a new lease: so
    ``acquire`` may be repeated, and two users of one lock must not use one name.

    Source: Gray and Cheriton, "Leases", SOSP 1989.
    """

    def init(self, name: str) -> dict[str, Any]:
        """Return no locks."""
        return {"time": 0.0, "leases": {}}

    def handle_write(self, command: tuple[Any, ...], state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Acquire, refresh or release.

        Raises:
            ValueError: the word is unknown, or ``ttl`` is not positive.
            TypeError: ``ttl`` is no number.
        """
        state["time"] = self.context.time
        _sweep(state)
        match command:
            case ("acquire", name, owner, ttl):
                return self._acquire(state, name, owner, _checked(ttl)), state
            case ("refresh", name, token, ttl):
                lease = _held(state, name)
                if lease is None or lease.token != token:
                    return False, state
                return self._lease(state, name, lease.owner, token, _checked(ttl)) == token, state
            case ("release", name, token):
                lease = _held(state, name)
                if lease is None or lease.token != token:
                    return False, state
                del state["leases"][name]
                return True, state
        raise unknown(command, known=KNOWN)

    def _acquire(self, state: dict[str, Any], name: Any, owner: Any, ttl: float) -> int | None:
        lease = _held(state, name)
        if lease is None:
            return self._lease(state, name, owner, self.context.index, ttl)
        return self._lease(state, name, owner, lease.token, ttl) if lease.owner == owner else None

    def _lease(self, state: dict[str, Any], name: Any, owner: Any, token: int, ttl: float) -> int:
        state["leases"][name] = (owner, token, state["time"] + ttl)
        return token

    def handle_read(self, query: Any, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Tell who holds a lock, as of the newest write to any.

        Raises:
            ValueError: the word is unknown.
        """
        match query:
            case ("holder", name):
                lease = _held(state, name)
                return (None if lease is None else (lease.owner, lease.token)), state
        raise unknown(query, known='("holder", name)')

    @staticmethod
    def examples(rng: Random) -> tuple[str, Any]:
        """Return a random request for a simulation."""
        name, owner = rng.choice("ab"), rng.choice(("x", "y", "z"))
        draw = rng.random()
        if draw < 0.4:
            return "write", ("acquire", name, owner, rng.choice((0.1, 1.0)))
        if draw < 0.5:
            return "write", ("refresh", name, rng.randrange(100), 1.0)
        if draw < 0.6:
            return "write", ("release", name, rng.randrange(100))
        return "read", ("holder", name)


def _held(state: dict[str, Any], name: Any) -> _Lease | None:
    found = state["leases"].get(name)
    lease = None if found is None else _Lease(*found)
    return lease if lease is not None and state["time"] < lease.until else None


def _sweep(state: dict[str, Any]) -> None:
    leases = state["leases"]
    for name in list(islice(leases, SWEPT)):
        lease = leases.pop(name)
        if state["time"] < lease[2]:
            leases[name] = lease  # to the end of the line: a long lease keeps nobody from those behind it


def _checked(ttl: Any) -> float:
    if isinstance(ttl, bool) or not isinstance(ttl, int | float):
        raise TypeError(f"ttl must be a number of seconds, not {ttl!r:.60}")
    if not 0 < ttl < math.inf:
        raise ValueError(f"ttl must be positive and finite, not {ttl!r}")
    return float(ttl)
