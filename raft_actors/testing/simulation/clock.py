"""One peer's clock: it runs at its own rate, and only ever forward; its idea of the time of day may jump both ways."""

from __future__ import annotations

from raft_actors.protocol.types import Moment
from raft_actors.testing.simulation.world import World

__all__ = ["Clock"]

EPOCH = 1_700_000_000.0


class Clock:
    """A monotonic clock and a wall clock.

    Args:
        world: the true time.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._rate = 1.0
        self._since = 0.0
        self._base = 1000.0 + world.rng.random()
        self._wall = EPOCH

    def reading(self) -> float:
        """What it shows."""
        return self._base + (self._world.now - self._since) * self._rate

    def moment(self) -> Moment:
        """Read it, and throw the dice."""
        now = self.reading()
        return Moment(now, self._wall + now, self._world.rng.random())

    def when(self, deadline: float) -> float:
        """The true time at which this clock will show ``deadline``; slightly later, so that it has come for certain."""
        return self._since + (deadline - self._base) / self._rate + 1e-9

    def set_rate(self, rate: float) -> None:
        """Run at another rate from now on."""
        now = self._world.now
        self._base += (now - self._since) * self._rate
        self._since = now
        self._rate = rate

    def jump(self, seconds: float) -> None:
        """Skip some time, as after a suspend; never back."""
        self._base += seconds

    def stood_still(self, since: float) -> None:
        """It did not run from the true time ``since`` until now, as while a machine is suspended."""
        self._base -= (self._world.now - max(since, self._since)) * self._rate

    def set_wall(self, seconds: float) -> None:
        """Be off by so much from the true time of day."""
        self._wall = EPOCH + seconds
