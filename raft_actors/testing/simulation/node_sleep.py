"""A machine is suspended: nothing of its peer happens, and the peer's own clock stands still meanwhile.

The real shell notices it by another clock, before it looks into its inbox; here it is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from raft_actors.protocol.events import Slept
from raft_actors.protocol.types import Moment
from raft_actors.testing.simulation.clock import Clock

if TYPE_CHECKING:
    from raft_actors.engine import Engine
    from raft_actors.testing.simulation.cluster import Cluster
    from raft_actors.testing.simulation.node import Node

__all__ = ["NodeSleep", "suspensions"]

SHORTEST, LONGEST = 0.1, 3.0


class NodeSleep:
    """What a node does with its clock.

    Attributes:
        asleep_since: when its machine was suspended; ``None``: it was not, since it took its last turn.
    """

    cluster: Cluster
    name: str
    clock: Clock
    engine: Engine
    paused_until: float
    asleep_since: float | None = None

    def suspend(self, seconds: float) -> None:
        """Stand still, with the clock."""
        now = self.cluster.world.now
        self.paused_until = max(self.paused_until, now + seconds)
        if self.asleep_since is None:
            self.asleep_since = now
        self.cluster.world.note(self.name, "is suspended until", self.paused_until)

    def _goes_on(self) -> bool:
        """Its clock runs again; whether it stood still."""
        since, self.asleep_since = self.asleep_since, None
        if since is not None:
            self.clock.stood_still(since)
        return since is not None

    def _awake(self) -> Moment:
        """Read the clock for a turn. The peer is told of a suspension before anything else."""
        slept = self._goes_on()
        moment = self.clock.moment()
        if slept:
            self.engine.run(Slept(), moment)
        return moment


def suspensions(cluster: Cluster, some: Callable[[], Iterable[Node]]) -> dict[str, Callable[[], None]]:
    """The fault, by its name. ``some``: chooses whom it strikes."""

    def suspend() -> None:
        for node in some():
            node.suspend(cluster.world.rng.uniform(SHORTEST, LONGEST))

    return {"suspend": suspend}
