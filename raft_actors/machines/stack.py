"""A stack: the last item in is the first one out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raft_actors.machines._words import unknown
from raft_actors.state_machine import StateMachine

if TYPE_CHECKING:
    from random import Random

__all__ = ["Stack"]


class Stack(StateMachine[Any, Any]):
    """A stack of any values.

    Writes ``("put", x)`` -> new length, ``"pop"`` -> item or ``None``; reads ``"all"`` -> list, newest first,
    ``"length"``.
    """

    def init(self, name: str) -> list[Any]:
        """Return an empty stack."""
        return []

    def handle_write(self, command: Any, state: list[Any]) -> tuple[Any, list[Any]]:
        """Put or pop.

        Raises:
            ValueError: the word is unknown.
        """
        match command:
            case ("put", item):
                state.append(item)
                return len(state), state
            case "pop":
                return (state.pop() if state else None), state
        raise unknown(command, known='("put", x), "pop"')

    def handle_read(self, query: Any, state: list[Any]) -> tuple[Any, list[Any]]:
        """Look at the items.

        Raises:
            ValueError: the word is unknown.
        """
        match query:
            case "all":
                return state[::-1], state
            case "length":
                return len(state), state
        raise unknown(query, known='"all", "length"')

    @staticmethod
    def examples(rng: Random) -> tuple[str, Any]:
        """Return a random request for a simulation."""
        draw = rng.random()
        if draw < 0.4:
            return "write", ("put", rng.randrange(1000))
        return ("write", "pop") if draw < 0.6 else ("read", rng.choice(("all", "length")))
