"""The simulator's own state machine: a few lists that are only ever appended to.

Every appended value is unique, so each read of a list tells the whole order of what came before it: the strongest
evidence that a client can have, and checked in n log n. Writes ``("append", key, value)`` -> the list's new length;
reads ``("read", key)`` -> the list, as a tuple.
"""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

from raft_actors.state_machine import StateMachine

__all__ = ["Ledger", "examples_of"]

KEYS = ("a", "b", "c")


class Ledger(StateMachine[tuple[str, str, int], int]):
    """Lists by name; the state is ``[digest, {name: values}]``."""

    def init(self, name: str) -> list[Any]:
        """Return empty lists."""
        return [0, dict.fromkeys(KEYS, ())]

    def handle_write(self, command: tuple[str, str, int], state: list[Any]) -> tuple[int, list[Any]]:
        """Append."""
        _, key, value = command
        lists = state[1]
        lists[key] = values = (*lists[key], value)
        state[0] = (state[0] * 1_000_003 + value) & 0xFFFF_FFFF_FFFF
        return len(values), state

    def handle_read(self, query: tuple[str, str], state: list[Any]) -> tuple[tuple[int, ...], list[Any]]:
        """Return a list as a tuple."""
        return state[1][query[1]], state

    @staticmethod
    def digest(state: list[Any]) -> int:
        """A number that is the same exactly for the same appends in the same order."""
        return int(state[0])


def examples_of(read_share: float) -> Any:
    """Return ``commands(rng)`` with unique values and this share of reads."""
    numbers = itertools.count(1)

    def commands(rng: Random) -> tuple[str, Any]:
        key = KEYS[int(rng.random() * len(KEYS))]
        if rng.random() < read_share:
            return "read", ("read", key)
        return "write", ("append", key, next(numbers))

    return commands
