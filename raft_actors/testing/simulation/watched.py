"""The user's machine, watched: what it answers, what state it comes to, and what it must not do.

Every replica runs a ``Watched`` machine around its own instance of the user's. All of them tell the same ``Judge``,
which keeps for each index what the first replica answered and compares everybody else, the same replica after a restart
included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from raft_actors.state_machine import Context, StateMachine
from raft_actors.testing.simulation.canonical import canonical, mutable_parts
from raft_actors.testing.simulation.world import Violated

__all__ = ["Judge", "Watched"]

Machine = StateMachine[Any, Any]
STRIDE = 8
"""The state of a machine without a ``digest`` is compared after every so many entries: it costs its size each time."""


class Judge:
    """What all replicas have to agree on.

    Args:
        factory: makes the user's machine.

    Attributes:
        replies: what was answered at each index.
        states: the digest of the state after it.
    """

    def __init__(self, factory: Callable[[], Machine]) -> None:
        self.factory = factory
        self.replies: dict[int, Any] = {}
        self.states: dict[int, Any] = {}
        self._first: dict[int, str] = {}

    def applied(self, name: str, index: int, reply: Any, state: Any) -> None:
        """Hear what a replica made of an entry; ``state`` is ``None`` where it was not looked at."""
        self._first.setdefault(index, name)
        if self.replies.setdefault(index, reply) != reply:
            self._differ("replies", name, index, self.replies[index], reply)
        if state is not None and self.states.setdefault(index, state) != state:
            self._differ("states", name, index, self.states[index], state)

    def saved(self, name: str, index: int, state: Any, how: str) -> None:
        """Hear what state was saved, or came out of a snapshot, at ``index``."""
        if self.states.setdefault(index, state) != state:
            raise Violated(
                "equal states",
                f"at index {index} the state is {self.states[index]!r:.300}, {name} {how} as {state!r:.300}: "
                "the snapshot does not restore, or the machine changes what it gave for one",
            )

    def _differ(self, what: str, name: str, index: int, one: Any, other: Any) -> None:
        raise Violated(
            f"equal {what}",
            f"at index {index} {self._first[index]} came to {one!r:.300}, {name} to {other!r:.300}: "
            "the machine is not deterministic, or replicas share something that changes",
        )

    def require_apart(self, states: list[tuple[str, Any]]) -> None:
        """Refuse states of different replicas that hold one and the same changeable object."""
        owners: dict[int, str] = {}
        for name, state in states:
            for identity, part in mutable_parts(state).items():
                owner = owners.setdefault(identity, name)
                if owner != name:
                    raise Violated("no aliasing", f"the states of {owner} and {name} share one {part!r:.200}")

    def replay(self, commands: Sequence[tuple[int, int, float, Any]]) -> None:
        """Apply all committed commands to a fresh instance: it must come to the same replies and states."""
        machine = Watched(self, "a replay of the log")
        state = machine.init("replay")
        for index, term, time, command in commands:
            machine.context = Context(index, term, time)
            try:
                _, state = machine.handle_write(command, state)
            except Exception:  # noqa: BLE001 - a recorded result, compared by the machine itself
                continue


class Watched(StateMachine[Any, Any]):
    """One replica's instance.

    Args:
        judge: told everything.
        name: the peer.
    """

    def __init__(self, judge: Judge, name: str) -> None:
        self.inner = judge.factory()
        self._judge = judge
        self._name = name
        digest = getattr(self.inner, "digest", None)
        self._digest: Callable[[Any], Any] = digest or canonical
        self._stride = 1 if digest else STRIDE

    def init(self, name: str) -> Any:
        """Return the user's first state."""
        return self.inner.init(name)

    def handle_write(self, command: Any, state: Any) -> tuple[Any, Any]:
        """Let the user's machine apply, and tell what came of it."""
        context = self.context
        index = context.index
        self.inner.context = context
        try:
            reply, after = result = self.inner.handle_write(command, state)
        except Exception as error:
            self._tell(index, ("raised", canonical(error)), state)
            raise
        self._tell(index, canonical(reply), after)
        return result

    @property
    def version(self) -> int:  # type: ignore[override]
        """The user's version."""
        return self.inner.version

    def snapshot(self, state: Any) -> Any:
        """Return the user's image."""
        return self.inner.snapshot(state)

    def dump(self, image: Any, file: Any) -> None:
        """Let the user's machine write its image."""
        self.inner.dump(image, file)

    def load(self, file: Any) -> Any:
        """Return what the user's machine reads."""
        return self.inner.load(file)

    def _tell(self, index: int, reply: Any, state: Any) -> None:
        self._judge.applied(self._name, index, reply, self._digest(state) if index % self._stride == 0 else None)

    def handle_read(self, query: Any, state: Any) -> tuple[Any, Any]:
        """Let the user's machine answer, and see whether its state is what it was."""
        before = self._digest(state)
        try:
            return self.inner.handle_read(query, state)
        finally:
            after = self._digest(state)
            if after != before:
                raise Violated("reads change nothing", f"handle_read({query!r:.100}) left {after!r:.300}")

    def digest_of(self, state: Any) -> Any:
        """What stands for ``state`` when replicas are compared."""
        return self._digest(state)

    def on_leader(self, term: int) -> None:
        """Pass it on."""
        self.inner.on_leader(term)

    def on_follower(self, term: int) -> None:
        """Pass it on."""
        self.inner.on_follower(term)
