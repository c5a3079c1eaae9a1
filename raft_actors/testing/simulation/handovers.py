"""Callers who want another leader, and what they are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from raft_actors.protocol.effects import TransferAnswer
from raft_actors.protocol.events import TransferRequested
from raft_actors.protocol.state import Leader
from raft_actors.testing.simulation.world import Violated

if TYPE_CHECKING:
    from raft_actors.engine import Engine
    from raft_actors.testing.simulation.cluster import Cluster
    from raft_actors.testing.simulation.node import Node

__all__ = ["NodeHandovers", "handovers"]

TIMEOUTS = (0.05, 0.5, 5.0)


class Wish(NamedTuple):
    """What a caller waits for: that ``target`` (``None``: anybody else) leads, in a later term than ``term``."""

    target: str | None
    term: int


class NodeHandovers:
    """The callers of a node who want another leader.

    Attributes:
        wishes: of those who were not answered, by their tokens. They end with the process.
    """

    cluster: Cluster
    name: str
    engine: Engine
    wishes: dict[int, Wish]
    post: Callable[[Any], None]

    def ask_for_leader(self, token: int, target: str | None, timeout: float) -> None:
        """A caller wants ``target`` to lead."""
        self.cluster.world.note(self.name, "is asked to let lead", target or "anybody")
        self.wishes[token] = Wish(target, self.engine.state.term)
        self.post(TransferRequested(token, target, timeout))

    def transferred(self, answer: TransferAnswer) -> None:
        """A caller is told what became of it."""
        self.cluster.world.note(self.name, "answers who asked for a leader", answer)
        wish = self.wishes.pop(answer.token, None)
        if wish is None:
            raise Violated("exactly one answer", f"{self.name} answers {answer} twice")
        if answer.refusal is None:
            self._check(wish, answer)

    def _check(self, wish: Wish, answer: TransferAnswer) -> None:
        led = self.cluster.invariants.terms_of(answer.leader)
        if wish.target not in (None, answer.leader) or answer.leader == self.name or max(led, default=0) <= wish.term:
            what = f"{self.name} says that {answer.leader} leads now, which led in {led}; wanted was {wish}"
            raise Violated("right answer", what)


def handovers(cluster: Cluster, any_: Callable[[], Node]) -> dict[str, Callable[[], None]]:
    """The callers, as a fault by its name: they come at any time. ``any_``: chooses whom they ask."""
    tokens = iter(range(1, 1 << 30))

    def hand_over() -> None:
        rng, node = cluster.world.rng, any_()
        target = rng.choice((*cluster.names, None, None))
        if node.up and (isinstance(node.engine.state.role, Leader) or rng.random() < 0.1):
            node.ask_for_leader(next(tokens), target, rng.choice(TIMEOUTS))

    return {"transfer": hand_over}
