"""The real engine and the real machine's work, watched and without threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from raft_actors.engine import Engine
from raft_actors.machine_actor import MachineActor, Replica
from raft_actors.protocol.configuration import Configuration
from raft_actors.protocol.effects import Effect, Persist, Send, ServeReads
from raft_actors.protocol.events import Event
from raft_actors.protocol.state import PeerState
from raft_actors.protocol.types import Moment
from raft_actors.testing.simulation.invariants import deciding

if TYPE_CHECKING:
    from raft_actors.testing.simulation.node import Node

__all__ = ["SimulatedMachine", "WatchedEngine"]


class WatchedEngine(Engine):
    """The real engine; each step is counted, noted, and checked before its effects are performed."""

    node: Node
    _before: PeerState
    _event: Event
    _checked: bool

    @property
    def deciding(self) -> Configuration:
        """The configuration by which the current step decides."""
        return deciding(self._before, self.state)

    def run(self, event: Event, moment: Moment) -> None:
        """Take a step, check it, perform it."""
        node = self.node
        world = node.cluster.world
        world.steps += 1
        world.log.append((world.now, node.name, event))
        self._before, self._event, self._checked = self.state, event, False
        super().run(event, moment)
        if not self._checked:
            self._check(())

    def _perform(self, effects: Sequence[Effect]) -> None:
        self._check(effects)
        super()._perform(effects)  # type: ignore[arg-type]

    def _check(self, effects: Sequence[Effect]) -> None:
        self._checked = True
        node, event, before, after = self.node, self._event, self._before, self.state
        moved = after.commit_index != before.commit_index or after.ballot is not before.ballot
        if moved or type(after.role) is not type(before.role):
            self._note(before, after)
        invariants, reads = node.cluster.invariants, node.cluster.read_rules
        reads.begins(node, event, before)
        for effect in effects:
            if type(effect) is Persist:
                invariants.persists(node, effect)
            elif type(effect) is Send:
                reads.sends(node, event, effect)
            elif type(effect) is ServeReads:
                reads.serves(node, event, effect)
        invariants.stepped(node, event, before, after)
        reads.stepped(node, event, before, after)

    def _note(self, before: PeerState, after: PeerState) -> None:
        """Remember what matters of a step, also of one that is about to be found wrong."""
        world = self.node.cluster.world
        if type(after.role) is not type(before.role) or after.ballot.term != before.ballot.term:
            world.note(self.node.name, "becomes", type(after.role).__name__, "of term", after.ballot.term)
        if after.commit_index != before.commit_index:
            world.note(self.node.name, "commits", after.commit_index)


class SimulatedMachine(MachineActor):
    """The real machine actor's work, without its thread and its inbox."""

    def __init__(self, node: Node, replica: Replica) -> None:
        self.name = node.name
        self.replica = replica
        self._release = node.mailbox.release
        self._applied = node.applied
        self._waiting = []
        self.work = self._work
