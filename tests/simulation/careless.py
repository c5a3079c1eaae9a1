"""Machines that break a rule; they have a module of their own that other processes can import."""

from __future__ import annotations

from random import Random
from typing import Any

from raft_actors.state_machine import StateMachine


class FirstOfASet(StateMachine[str, str]):
    """Answers some word of all that it was given: which one, a hash decides."""

    def init(self, name: str) -> set[str]:
        """Return no words."""
        return set()

    def handle_write(self, command: str, state: set[str]) -> tuple[str, set[str]]:
        """Add a word and answer any."""
        state.add(command)
        return next(iter(state)), state

    @staticmethod
    def examples(rng: Random) -> tuple[str, Any]:
        """Return a word."""
        return "write", f"word{rng.randrange(20)}"


class LeastOfASet(FirstOfASet):
    """The same, done right."""

    def handle_write(self, command: str, state: set[str]) -> tuple[str, set[str]]:
        """Add a word and answer the least."""
        state.add(command)
        return min(state), state


class Nosy(LeastOfASet):
    """Remembers that it was asked: a read changes its state, in every process alike."""

    def handle_read(self, query: str, state: set[str]) -> tuple[int, set[str]]:
        """Add the question and answer how many words there are."""
        state.add(query)
        return len(state), state

    @staticmethod
    def examples(rng: Random) -> tuple[str, Any]:
        """Return a word or a question."""
        return rng.choice(("write", "read")), f"word{rng.randrange(20)}"
