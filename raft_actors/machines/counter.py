"""A number that grows and shrinks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raft_actors.machines._words import unknown
from raft_actors.state_machine import StateMachine

if TYPE_CHECKING:
    from random import Random

__all__ = ["Counter"]


class Counter(StateMachine[tuple[str, int], int]):
    """Write ``("add", n)`` -> the new value; read ``"value"``. It starts at 0, and ``n`` may be negative."""

    def init(self, name: str) -> int:
        """Return zero."""
        return 0

    def handle_write(self, command: tuple[str, int], state: int) -> tuple[int, int]:
        """Add.

        Raises:
            ValueError: the word is unknown.
            TypeError: ``n`` is no whole number.
        """
        match command:
            case ("add", n):
                if type(n) is not int:
                    raise TypeError(f"add takes a whole number, not {n!r:.100}")
                return state + n, state + n
        raise unknown(command, known='("add", n)')

    def handle_read(self, query: Any, state: int) -> tuple[int, int]:
        """Return the value.

        Raises:
            ValueError: the word is unknown.
        """
        if query == "value":
            return state, state
        raise unknown(query, known='"value"')

    @staticmethod
    def examples(rng: Random) -> tuple[str, Any]:
        """Return a random request for a simulation."""
        return ("write", ("add", rng.randint(-3, 9))) if rng.random() < 0.6 else ("read", "value")
