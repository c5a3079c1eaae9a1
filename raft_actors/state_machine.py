"""What a user writes: a state, and two functions of it.

Rule: ``handle_write`` runs on every replica, and again after a restart, and must come to the same result each time: no
side effects, nothing random, no clock (``self.context.time`` is one that agrees everywhere).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, NoReturn, TypeVar

__all__ = ["Context", "StateMachine"]

Command = TypeVar("Command")
Reply = TypeVar("Reply")


class Context:
    """Where in the log the command stands that ``handle_write`` is applying; the same on every replica.

    Attributes:
        index: the index of its entry.
        term: the term of the leader that appended it.
        time: that leader's time in seconds, which never goes back, not even when the leader changes.
    """

    __slots__ = ("index", "term", "time")

    def __init__(self, index: int, term: int, time: float) -> None:
        self.index = index
        self.term = term
        self.time = time

    def __repr__(self) -> str:
        return f"Context(index={self.index}, term={self.term}, time={self.time})"


class _NoContext(Context):
    """The context while no command is applied: it has nothing to tell."""

    __slots__ = ()

    def __init__(self) -> None:
        pass

    def _refuse(self) -> NoReturn:
        raise RuntimeError("self.context has values only while handle_write runs: keep what you need in the state")

    index = property(_refuse)
    term = property(_refuse)
    time = property(_refuse)

    def __repr__(self) -> str:
        return "<no context outside of handle_write>"


class StateMachine(ABC, Generic[Command, Reply]):
    """A replicated state machine: subclass it, and give the class to ``start_peer``.

    ``StateMachine[Command, Reply]`` lets a type checker know what it takes and returns. Every peer makes an instance of
    its own, and calls it from one thread only. A blocking call into a peer from inside a machine is refused.

    An ``Exception`` in ``handle_write`` is a recorded result: the caller gets ``CommandFailed``, the cluster goes on,
    and changes that were made in place before it stay. So check first, then change.

    Attributes:
        context: see ``Context``; only while ``handle_write`` runs.

    Example:
        >>> class Counter(StateMachine[int, int]):
        ...     def init(self, name):
        ...         return 0
        ...
        ...     def handle_write(self, command, state):
        ...         return state + command, state + command
        ...
        ...     def handle_read(self, query, state):
        ...         return state, state
    """

    context: Context = _NoContext()  # the machine actor puts the real one into the instance while it applies

    @abstractmethod
    def init(self, name: str) -> Any:
        """Return the state before the first command.

        Args:
            name: the peer; a state that depends on it differs between replicas.
        """

    @abstractmethod
    def handle_write(self, command: Command, state: Any) -> tuple[Reply, Any]:
        """Apply a command.

        Args:
            command: this replica's own copy.
            state: what the previous command returned; may be changed in place.

        Returns:
            The reply for the caller and the new state (or the same object, changed).
        """

    def handle_read(self, query: Any, state: Any) -> tuple[Any, Any]:
        """Answer a question without changing anything.

        Args:
            query: this replica's own copy.
            state: the current state.

        Returns:
            The reply, and the state; the state is ignored.
        """
        raise NotImplementedError(f"{type(self).__name__} answers no reads: give it handle_read(self, query, state)")

    def on_leader(self, term: int) -> None:
        """Hear that this peer became the leader of ``term``; runs between commands and must not block."""

    def on_follower(self, term: int) -> None:
        """Hear that this peer no longer leads, in ``term``; runs between commands and must not block."""
