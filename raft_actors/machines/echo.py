"""A machine without a state: it returns what it gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raft_actors.state_machine import StateMachine

if TYPE_CHECKING:
    from random import Random

__all__ = ["Echo"]


class Echo(StateMachine[Any, Any]):
    """Writes and reads ``x`` -> ``x``."""

    def init(self, name: str) -> None:
        """Return no state."""

    def handle_write(self, command: Any, state: None) -> tuple[Any, None]:
        """Return the command."""
        return command, state

    def handle_read(self, query: Any, state: None) -> tuple[Any, None]:
        """Return the query."""
        return query, state

    @staticmethod
    def examples(rng: Random) -> tuple[str, int]:
        """Return a random request for a simulation."""
        return rng.choice(("write", "read")), rng.randrange(1000)
