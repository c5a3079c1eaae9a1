"""A machine that remembers every command in its order, so that one applied twice is seen; and the list of them."""

from __future__ import annotations

from typing import Any

from raft_actors import StateMachine


class Journal(StateMachine[Any, Any]):
    """Writes ``(number, filling)``; reads ``"all"`` -> the numbers, in their order."""

    def init(self, name: str) -> list[Any]:
        return []

    def handle_write(self, command: Any, state: list[Any]) -> tuple[Any, list[Any]]:
        state.append(command)
        return len(state), state

    def handle_read(self, query: Any, state: list[Any]) -> tuple[Any, list[Any]]:
        return [number for number, _ in state], state
