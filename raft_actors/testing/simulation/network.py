"""The simulated network: everything a network may do to a message, except to change it.

Each directed link counts how many partitions cut it at the moment; a message is looked at when it leaves and again when
it arrives, so a cut also takes what is under way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from raft_actors.protocol.events import Received

if TYPE_CHECKING:
    from raft_actors.protocol.effects import Send
    from raft_actors.protocol.messages import Message
    from raft_actors.testing.simulation.plan import Plan
    from raft_actors.testing.simulation.world import World

__all__ = ["LOST", "Flight", "Network"]

Flight: TypeAlias = "tuple[float, float, str, str, Message]"
"""When it left, when it arrives (``LOST`` if it does not), source, target, and the message."""
REMEMBERED = 64
"""How many old messages may come again."""
DRAWN = 4096
"""Of so many messages the way is remembered, so that a picture can be drawn; of all of them, it would cost time."""
LOST = float("inf")
"""When a message arrives that is lost."""
LONGEST = 5.0
"""Seconds that a message may be under way."""


class Network:
    """All links between the peers of a run.

    Args:
        world: time and dice.
        plan: how bad it is.
        names: the peers.

    Attributes:
        posts: where each peer takes what arrives.
        beats: where its node takes that others rest.
        faulty: whether the network loses, duplicates, delays and replays; cuts are apart from it.
        flights: the way of each of the newest messages, in the order in which they left.
    """

    def __init__(self, world: World, plan: Plan, names: Sequence[str]) -> None:
        self.posts: dict[str, Callable[[object], None]] = {}
        self.beats: dict[str, Callable[[str, int], None]] = {}
        self.faulty = True
        self.flights: deque[Flight] = deque(maxlen=DRAWN)
        self._world = world
        self._plan = plan
        self._cuts = {(source, target): 0 for source in names for target in names}
        self._old: deque[tuple[str, str, Message]] = deque(maxlen=REMEMBERED)
        self._newest = dict.fromkeys(self._cuts, 0.0)

    def send(self, source: str, send: Send) -> None:
        """Take a message; it arrives once, later, twice, out of order, or never."""
        plan, rng, target, message = self._plan, self._world.rng, send.to, send.message
        if self._cuts.get((source, target), 1):
            self.flights.append((self._world.now, LOST, source, target, message))
            return
        if self.faulty:
            if plan.loss and rng.random() < plan.loss:
                self._world.log.append((self._world.now, source, "lost", target, message))
                self.flights.append((self._world.now, LOST, source, target, message))
                return
            if plan.duplicate and rng.random() < plan.duplicate:
                self._deliver(source, target, message, self._way())
            if plan.replay:
                self._replay(source, target, message)
        self._deliver(source, target, message, self._way())

    def _replay(self, source: str, target: str, message: Message) -> None:
        rng = self._world.rng
        if self._old and rng.random() < self._plan.replay:
            self._deliver(*self._old[rng.randrange(len(self._old))], LONGEST * rng.random())
        self._old.append((source, target, message))

    def _way(self) -> float:
        """How long a message takes: usually little, with a heavy tail where messages may overtake."""
        plan, rng = self._plan, self._world.rng
        if self.faulty and plan.tail and rng.random() < plan.tail:
            return min(plan.delay * rng.paretovariate(0.7) * 10, LONGEST)
        return plan.delay * (0.5 + rng.random())

    def _deliver(self, source: str, target: str, message: Message, seconds: float) -> None:
        now = self._world.now
        time = now + seconds
        if self._plan.ordered:
            link = (source, target)
            self._newest[link] = time = max(time, self._newest[link])
        flight = (now, time, source, target, message)
        self.flights.append(flight)
        self._world.at(time, self._arrive, flight)

    def _arrive(self, flight: Flight) -> None:
        _, _, source, target, message = flight
        if not self._cuts[source, target]:
            self.posts[target](Received(message))

    def tell(self, source: str, target: str, event: object) -> None:
        """Let ``target`` hear something about ``source`` that needs no message, unless the link is cut."""
        if not self._cuts[source, target]:
            self._world.after(self._way(), self.posts[target], event)

    def vouch(self, source: str, target: str, term: int) -> None:
        """Let the node of ``target`` hear that ``source`` rests in ``term``, unless that is lost on the way."""
        if not (self.faulty and self._plan.loss and self._world.rng.random() < self._plan.loss):
            self._world.after(self._way(), self._arrive_beat, (source, target, term))

    def _arrive_beat(self, beat: tuple[str, str, int]) -> None:
        source, target, term = beat
        if not self._cuts[source, target]:
            self.beats[target](source, term)

    def cut(self, links: Sequence[tuple[str, str]]) -> None:
        """Cut directed links; cuts add up."""
        if links:
            self._world.note("network", "cuts", links)
        for link in links:
            self._cuts[link] += 1

    def mend(self, links: Sequence[tuple[str, str]]) -> None:
        """Take back one cut of each of ``links``."""
        if any(self._cuts[link] for link in links):
            self._world.note("network", "mends", links)
        for link in links:
            self._cuts[link] = max(0, self._cuts[link] - 1)

    def heal(self) -> None:
        """No cut and no fault from now on."""
        self._world.note("network", "heals")
        self.faulty = False
        self._cuts = dict.fromkeys(self._cuts, 0)
