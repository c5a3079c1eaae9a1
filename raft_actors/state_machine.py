"""What a user writes: a state, and two functions of it.

Rule: ``handle_write`` runs on every replica, and again after a restart, and must come to the same result each time: no
side effects, nothing random, no clock (``self.context.time`` is one that agrees everywhere).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from raft_actors import state_images

if TYPE_CHECKING:
    from raft_actors.state_files import StateInput, StateOutput

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
        version: of the states that ``dump`` writes: raise it when ``load`` of the older class could not read them. A
            peer refuses a state of a newer version than its machine has.

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
    version: int = 0

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

    def snapshot(self, state: Any) -> Any:
        """Return an image of ``state``: what it is now, whatever later commands do to it.

        Runs between commands, which wait for it. The default returns an immutable state as it is, copies a dict, list
        or set whose contents are immutable (exactly ``None bool int float complex str bytes``, and tuples and
        frozensets of them), and encodes everything else, however long that takes. Write your own if your state can be
        had cheaply, as a persistent map can. ``self.context`` has no values here.

        Args:
            state: what the last command returned; must not be changed, and whatever of it others may change must not be
                a part of the image.

        Returns:
            The image, for ``dump``. If it is made here and ``dump`` is your own, it is an equal of the state.
        """
        image = state_images.capture(state)
        return image if type(self).dump is StateMachine.dump else state_images.plain(image)

    def dump(self, image: Any, file: StateOutput) -> None:
        """Write ``image`` to ``file``.

        Runs on another thread than ``handle_write`` and ``handle_read``, at the same time as they: it must not touch
        anything of ``self`` that they change, nor ``self.context``. Every write lets other threads run; write often,
        some kilobytes each time. The default encodes the image with the peer's codec. Whoever overrides ``dump`` must
        override ``load``.

        Args:
            image: what ``snapshot`` returned.
            file: has ``write(bytes)``, and ``codec``, the peer's.
        """
        state_images.dump(image, file)

    def load(self, file: StateInput) -> Any:
        """Return the state that ``dump`` wrote to ``file``.

        Runs on another thread than ``handle_write`` and ``handle_read``, and perhaps at the same time as they go on
        with the old state: it must not touch anything of ``self`` that they change, nor ``self.context``. Every read
        lets other threads run; read some kilobytes each time.

        Args:
            file: has ``read(size)``, ``readinto(buffer)`` and ``readline()``; ``codec``, the peer's; and ``version``,
                that of the machine that wrote it, which is never newer than ours.

        Returns:
            The state as it was when ``snapshot`` was called.
        """
        return state_images.load(file)
