"""Everything of one run: peers, network, clients, faults and the observer; and the two phases of it.

**Safety**: faults strike, clients ask, and after each step nothing may be wrong. **Liveness**: the faults end, and
within a bounded time there is one leader, everybody's log and state are equal, every call is answered, and fresh writes
and reads work.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from msgspec.structs import replace

from raft_actors.config import Config
from raft_actors.errors import OutcomeUnknown
from raft_actors.protocol.effects import ClusterFormed, ClusterRefused
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.events import ClusterRequested
from raft_actors.protocol.state import Leader
from raft_actors.protocol.types import Settings
from raft_actors.state_machine import StateMachine
from raft_actors.testing.simulation.clients import Clients, Commands, Request, TaggedCodec
from raft_actors.testing.simulation.faults import Faults
from raft_actors.testing.simulation.invariants import Invariants
from raft_actors.testing.simulation.ledger import Ledger
from raft_actors.testing.simulation.membership import committed, is_member, why_members_differ
from raft_actors.testing.simulation.network import Network
from raft_actors.testing.simulation.node import Node
from raft_actors.testing.simulation.other_order import Command, difference
from raft_actors.testing.simulation.plan import Plan
from raft_actors.testing.simulation.read_rules import ReadRules
from raft_actors.testing.simulation.sessions import Sessions, command_of
from raft_actors.testing.simulation.watched import Judge
from raft_actors.testing.simulation.world import Violated, World

__all__ = ["Cluster"]

PATIENCE = 60.0
"""Virtual seconds within which a healed cluster has to be well."""
DRIFTING = 62.0
"""Virtual seconds that it may take until leadership has drifted: the longest pause after a try, and the next one."""
MOVING = 120.0
"""Virtual seconds that it may take until the members are as they should be, one entry after the other."""
BUSIEST = 200_000
"""Steps within which it has to be well, too: peers that keep each other busy without end are not."""
LATEST = 3.0
"""Virtual seconds until the last of the peers that find each other is started."""
CALM = 1.5
"""Virtual seconds for which one leader has to stay, once it is well."""
POLL = 0.1
FORMING_EVERY = 0.7
LONGEST_RUN = 3600.0
"""Virtual seconds after which a safety phase ends whatever its number of steps."""


class Cluster:
    """One run.

    Args:
        world: time and dice.
        plan: what the seed stands for.
        size: how many peers.
        factory: makes the state machine.
        commands: what clients ask.
    """

    def __init__(
        self, world: World, plan: Plan, *, size: int, factory: Callable[[], StateMachine[Any, Any]], commands: Commands
    ) -> None:
        self.world = world
        self.plan = plan
        self.config = Config(storage="memory", max_pending_writes=plan.max_pending)
        self.codec = TaggedCodec()
        self.names = tuple(f"s{number}" for number in range(1, size + 1))
        self.members_rng = Random(plan.member_seed)
        self.founders = tuple(self.members_rng.sample(self.names, max(1, round(size * plan.founders))))
        self.lost_at = -1e9
        self.invariants = Invariants()
        self.read_rules = ReadRules(self)
        self.judge = Judge(factory)
        self.network = Network(world, plan, self.names)
        self.clients = Clients(self, commands)
        self.sessions = Sessions(self, plan.session_timeout)
        self.invariants.on_commit = self._committed
        self.nodes = {name: Node(self, name, self._settings(place)) for place, name in enumerate(self.names)}
        self.faults = Faults(self)
        self._attempts = 0
        self._fresh: list[Request] = []

    def _committed(self, entry: Entry) -> None:
        if entry.kind is EntryKind.SESSION:
            self.sessions.committed(entry)
        else:
            self.clients.committed(entry)

    def abandoned(self, peer: str, error: OutcomeUnknown) -> None:
        """A peer is gone: whoever still waits for it hears so."""
        self.clients.abandoned(peer, error)
        self.sessions.abandoned(peer, error)

    def _settings(self, place: int) -> Settings:
        return replace(self.plan.settings, priority=place) if self.plan.priorities else self.plan.settings

    # -- phases --------------------------------------------------------------------------------------------------------

    def run_safely(self, steps: int) -> None:
        """The safety phase."""
        for node in self.nodes.values():
            if self.plan.bootstrap:
                self.world.after(LATEST * self.members_rng.random(), self.faults.start, node)
            else:
                node.start()
        self.world.after(0.0, self._form)
        self.clients.begin()
        self.sessions.begin()
        if self.world.rng.random() < 0.5:
            self.faults.begin()
        else:
            self.world.after(1.0, lambda _: self.faults.begin())
        self.world.run(steps=steps, until=LONGEST_RUN)

    def run_until_well(self) -> None:
        """The liveness phase.

        Raises:
            Violated: the cluster is not well in time.
        """
        self.clients.calling = False
        self.faults.end()
        world = self.world
        patience = PATIENCE + DRIFTING * self.plan.priorities + MOVING * self.plan.renews
        until, busiest = world.now + patience, world.steps + BUSIEST
        term, since, why = 0, world.now, None
        while world.now < until and world.steps < busiest:
            world.run(steps=busiest, until=world.now + POLL)
            why = self._why_not_well()
            if why is None:
                why = f"leaders change without a fault: {self._standing()}"
                if term != (term := max(node.engine.state.term for node in self._able())):
                    since = world.now
                elif world.now >= since + CALM:
                    self._final_checks()
                    return
        late = f"{patience:g} s" if world.now >= until else f"{BUSIEST} steps"
        raise Violated("liveness", f"{late} after the last fault {why}")

    def _why_not_well(self) -> str | None:
        """What is wrong still; asks fresh writes and reads as soon as there is a leader."""
        able = self._able()
        down = [node.name for node in able if not node.up]
        if down:
            return f"{', '.join(down)} did not start"
        leaders = [node for node in able if isinstance(node.engine.state.role, Leader)]
        if len(leaders) != 1:
            return f"{len(leaders)} peers lead: {self._standing()}"
        leader = leaders[0]
        if self.plan.renews:
            changing = why_members_differ(self, leader)
            if changing is not None:
                return changing
        if any(node.engine.state.leader != leader.name for node in able):
            return f"not everybody follows {leader.name}: {self._standing()}"
        best = max(node.name for node in able if leader.engine.state.configuration.is_voter(node.name))
        if self.plan.priorities and leader.name != best:
            return f"{leader.name} leads, {best} has a higher priority: {self._standing()}"
        if self.clients.pending:
            waiting = next(iter(self.clients.pending.values()))
            return f"{waiting} is not answered"
        unsaved = [node.name for node in able if node.asked]
        if unsaved:
            return f"{', '.join(unsaved)} did not answer who wants a snapshot"
        wishing = [node.name for node in able if node.wishes]
        if wishing:
            return f"{', '.join(wishing)} did not answer who wants another leader"
        return self._why_not_fresh(leader, able) or self._why_not_equal(able)

    def _able(self) -> list[Node]:
        """Those that can be as they should: not retired, and members."""
        index, configuration = committed(self)
        nodes = [node for node in self.nodes.values() if not node.retired]
        return [node for node in nodes if is_member(node, configuration)] if index and self.plan.renews else nodes

    def _why_not_fresh(self, leader: Node, able: list[Node]) -> str | None:
        """Ask a write of the leader and a read of everybody, again if they are turned away."""
        if not self._fresh:
            self._ask_fresh("write", leader)
            for node in able:
                self._ask_fresh("read", node)
            return "fresh requests are under way"
        bad = [request for request in self._fresh if request.status != "ok"]
        if bad:
            self._fresh = []
            return f"a fresh {bad[0].kind} at {bad[0].peer} got {bad[0].output!r}"
        return None

    def _ask_fresh(self, kind: str, node: Node) -> None:
        found, value = "", None
        while found != kind:
            self._attempts += 1
            found, value = self.clients.commands(self.world.rng)
            if self._attempts > 10_000:
                return
        self._fresh.append(self.clients.call("probe", node, kind, value))

    def _why_not_equal(self, able: list[Node]) -> str | None:
        committed = len(self.invariants.committed)
        for node in able:
            state = node.engine.state
            if not state.log.last.index == state.commit_index == node.replica.applied == committed:
                return f"{node.name} is behind: {self._standing()}"
            if [entry.term for entry in self.invariants.committed] != node.disk.terms:
                return f"the disk of {node.name} differs"
        return None

    def _standing(self) -> str:
        return "; ".join(node.standing() for node in self.nodes.values())

    def _final_checks(self) -> None:
        able = self._able()
        digests = [node.digest() for node in able]
        if any(digest != digests[0] for digest in digests):
            raise Violated("equal states", f"{able[0].name} and others differ in the end: {digests!r:.300}")
        for node in able:
            node.check_newest()
        self.judge.require_apart([(node.name, node.replica.state) for node in able])
        self.sessions.check_all()
        self.judge.replay(self._commands())
        self._try_other_orders(self._commands())

    def _commands(self) -> list[Command]:
        """What was applied, in copies of their own, as every replica gets them."""
        return [
            (entry.index, entry.term, entry.time, self.codec.decode(command))
            for entry in self.invariants.committed
            if (command := command_of(entry)) is not None
            and (entry.kind is EntryKind.COMMAND or entry.index in self.judge.replies)
        ]

    def _try_other_orders(self, commands: list[Command]) -> None:
        """Replay where hashes differ; our own machine is known not to care."""
        found = None if self.judge.factory is Ledger else difference(self.judge.factory, commands)
        if found is not None:
            what = (
                f"{found}, depending on PYTHONHASHSEED or the clock: the machine walks a set, hashes, or reads the time"
            )
            raise Violated("equal in every process", what)

    # -- forming -------------------------------------------------------------------------------------------------------

    def everybody_joined(self) -> bool:
        """Whether every peer that is not retired has the configuration on its disk."""
        return all(node.retired or node.disk.terms for node in (self.nodes[name] for name in self.founders))

    def _form(self, _: object) -> None:
        """Somebody, sometimes two at a time, asks for the cluster until there is one."""
        if self.plan.bootstrap or any("cluster" in node.disk.meta for node in self.nodes.values()):
            return
        rng = self.world.rng
        for name in rng.sample(self.founders, min(len(self.founders), rng.choice((1, 1, 2)))):
            node = self.nodes[name]
            self._attempts += 1
            if node.up and not node.retired:
                timeout = rng.choice((0.3, 2.0))
                node.post(ClusterRequested(self._attempts, f"cluster-{self._attempts}", self.founders, timeout))
        self.world.after(FORMING_EVERY * (0.5 + rng.random()), self._form)

    def formation_answered(self, node: Node, effect: ClusterFormed | ClusterRefused) -> None:
        """A coordinator has an answer; the next attempt, if one is needed, is planned already."""
