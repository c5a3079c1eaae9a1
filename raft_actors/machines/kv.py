"""A dictionary with compare-and-set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raft_actors.machines._words import unknown
from raft_actors.state_machine import StateMachine

if TYPE_CHECKING:
    from random import Random

__all__ = ["KV"]


class KV(StateMachine[Any, Any]):
    """Values by keys; a key can be anything hashable.

    Writes ``("set", k, v)`` -> ``("ok", k, v)``, ``("delete", k)`` -> whether it was there, ``("cas", k, old, new)`` ->
    whether ``k`` had the value ``old`` (a missing key has ``None``) and has ``new`` now, ``("get", k)`` as in a read;
    reads ``("get", k)`` -> value or ``None``, ``"keys"`` -> list, oldest first, ``"len"``.
    """

    def init(self, name: str) -> dict[Any, Any]:
        """Return an empty dictionary."""
        return {}

    def handle_write(self, command: Any, state: dict[Any, Any]) -> tuple[Any, dict[Any, Any]]:
        """Set, delete, compare and set, or get.

        Raises:
            ValueError: the word is unknown.
            TypeError: the key is not hashable.
        """
        match command:
            case ("set", key, value):
                state[key] = value
                return ("ok", key, value), state
            case ("delete", key):
                there = key in state
                state.pop(key, None)
                return there, state
            case ("cas", key, old, new):
                if state.get(key) != old:
                    return False, state
                state[key] = new
                return True, state
            case ("get", key):
                return state.get(key), state
        raise unknown(command, known='("set", k, v), ("delete", k), ("cas", k, old, new), ("get", k)')

    def handle_read(self, query: Any, state: dict[Any, Any]) -> tuple[Any, dict[Any, Any]]:
        """Look at a key, or at all of them.

        Raises:
            ValueError: the word is unknown.
            TypeError: the key is not hashable.
        """
        match query:
            case ("get", key):
                return state.get(key), state
            case "keys":
                return list(state), state
            case "len":
                return len(state), state
        raise unknown(query, known='("get", k), "keys", "len"')

    @staticmethod
    def examples(rng: Random) -> tuple[str, Any]:
        """Return a random request for a simulation."""
        key, old, new = f"k{rng.randrange(5)}", rng.randrange(4), rng.randrange(4)
        words: tuple[tuple[str, Any], ...] = (
            ("write", ("set", key, new)),
            ("write", ("delete", key)),
            ("write", ("cas", key, old, new)),
            ("write", ("get", key)),
            ("read", ("get", key)),
            ("read", "keys"),
            ("read", "len"),
        )
        return rng.choices(words, weights=(4, 1, 3, 1, 4, 1, 1))[0]
