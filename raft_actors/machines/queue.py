"""A queue: the first item in is the first one out, and each goes to one taker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raft_actors.machines._words import unknown
from raft_actors.state_machine import StateMachine

if TYPE_CHECKING:
    from random import Random

__all__ = ["Queue"]

SPARE = 64
"""So many places of taken items, and no more than half of all, are kept before the list is cut."""


class Queue(StateMachine[Any, Any]):
    """A queue of any values. Writes ``("put", x)`` -> new length, ``"get"`` -> item or ``None``; reads ``"len"``.

    ``get`` takes: whoever may crash with an item in hand should write through a ``Client``, whose repeated ``get`` is
    the same one, and put back what it could not do.
    """

    def init(self, name: str) -> dict[str, Any]:
        """Return an empty queue."""
        return {"first": 0, "items": []}

    def handle_write(self, command: Any, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Put or get.

        Raises:
            ValueError: the word is unknown.
        """
        items = state["items"]
        match command:
            case ("put", item):
                items.append(item)
                return _length(state), state
            case "get":
                return (_taken(state) if _length(state) else None), state
        raise unknown(command, known='("put", x), "get"')

    def handle_read(self, query: Any, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Return the length.

        Raises:
            ValueError: the word is unknown.
        """
        if query == "len":
            return _length(state), state
        raise unknown(query, known='"len"')

    @staticmethod
    def examples(rng: Random) -> tuple[str, Any]:
        """Return a random request for a simulation."""
        draw = rng.random()
        if draw < 0.4:
            return "write", ("put", rng.randrange(1000))
        return ("write", "get") if draw < 0.7 else ("read", "len")


def _length(state: dict[str, Any]) -> int:
    return len(state["items"]) - int(state["first"])


def _taken(state: dict[str, Any]) -> Any:
    """Take the first item; the list is cut now and then, since cutting it each time would cost its length."""
    first, items = state["first"], state["items"]
    item, items[first] = items[first], None
    state["first"] = first = first + 1
    if first > SPARE and 2 * first > len(items):
        del items[:first]
        state["first"] = 0
    return item
