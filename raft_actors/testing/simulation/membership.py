"""Callers who want other members, peers that come and go, and what must hold meanwhile.

At the beginning some of the peers form a cluster, the others wait beside it. Changes of every kind are asked for at any
time. A disk that is lost is replaced by an empty one: its peer is another member from then on (BUG-62), and joins by
itself or waits until somebody adds it.

Disks are only lost while every configuration that could count has a quorum without them: beyond that Raft promises
nothing.

Paper: §6. Thesis: chapter 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from raft_actors.behaviours.transition import is_removed
from raft_actors.protocol.changes import AddMember, Change, RemoveMember, SetMembers, is_so
from raft_actors.protocol.configuration import Configuration, Member, decode
from raft_actors.protocol.effects import ChangeAnswer
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.events import ChangeRequested
from raft_actors.protocol.state import Joining, Leader, PeerState
from raft_actors.testing.simulation.world import Violated

if TYPE_CHECKING:
    from raft_actors.engine import Engine
    from raft_actors.testing.simulation.cluster import Cluster
    from raft_actors.testing.simulation.node import Node

__all__ = ["NodeMembers", "changes_of_members", "is_member", "may_lose", "require_step", "why_members_differ"]

TIMEOUTS = (0.1, 1.0, 5.0)
RESTRAINT = 4.0
"""Seconds after the loss of a disk in which nobody asks for a change: its peer may look alive for so long."""


class Wanted(NamedTuple):
    """What a caller waits for."""

    change: Change
    expected: int | None


class NodeMembers:
    """The callers of a node who want other members.

    Attributes:
        wanted: by those who were not answered, by their tokens. They end with the process.
    """

    cluster: Cluster
    name: str
    engine: Engine
    wanted: dict[int, Wanted]
    post: Callable[[Any], None]

    def ask_for_members(self, token: int, change: Change, expected: int | None, timeout: float) -> None:
        """A caller wants ``change``."""
        self.cluster.world.note(self.name, "is asked for members", change)
        self.wanted[token] = Wanted(change, expected)
        self.post(ChangeRequested(token, change, expected, timeout))

    def changed(self, answer: ChangeAnswer) -> None:
        """A caller is told what became of it."""
        self.cluster.world.note(self.name, "answers who asked for members", answer)
        wanted = self.wanted.pop(answer.token, None)
        if wanted is None:
            raise Violated("exactly one answer", f"{self.name} answers {answer} twice")
        if answer.refusal is None:
            self._check_members(wanted)

    def _check_members(self, wanted: Wanted) -> None:
        node = self.cluster.nodes[self.name]
        known = node.mirror[: node.engine.state.commit_index]  # others may know more by now
        configuration = decode(next(one.data for one in reversed(known) if one.kind is EntryKind.CONFIGURATION))
        voters, learners = _names(configuration.voters), _names(configuration.learners)
        if configuration.changing or not is_so(wanted.change, voters=voters, learners=learners):
            what = f"{self.name} says that {wanted.change} is done, committed is {configuration}"
            raise Violated("right answer", what)


def _names(members: tuple[Member, ...]) -> set[str]:
    return {member.name for member in members}


def committed(cluster: Cluster) -> tuple[int, Configuration]:
    """The newest committed configuration, and its index; index 0 before the first."""
    for entry in reversed(cluster.invariants.committed):
        if entry.kind is EntryKind.CONFIGURATION:
            return entry.index, decode(entry.data)
    return 0, Configuration()


def counting(cluster: Cluster) -> Iterator[Configuration]:
    """Every configuration by which anybody may decide: the newest committed one, and those after it in any log."""
    index, configuration = committed(cluster)
    yield configuration
    for node in cluster.nodes.values():
        for entry in node.mirror[index:]:
            if entry.kind is EntryKind.CONFIGURATION:
                yield decode(entry.data)


# -- losing disks ------------------------------------------------------------------------------------------------------


def is_member(node: Node, configuration: Configuration) -> bool:
    """Whether the disk that this peer has now is a member."""
    return configuration.has(node.name, node.disk.incarnation)


def may_lose(cluster: Cluster, node: Node) -> bool:
    """Whether every configuration that may count has a quorum without this peer, and no change is under way."""
    found = list(counting(cluster))
    if len(found) > 1 or found[0].changing or not found[0]:
        return False
    if any(isinstance(one.engine.state.role, Leader) and one.engine.state.role.preparing for one in _running(cluster)):
        return False
    alive = [
        one.name
        for one in cluster.nodes.values()
        if one is not node and is_member(one, found[0]) and not (one.disk.damaged or one.disk.files.damaged)
    ]
    return 2 * sum(member.name in alive for member in found[0].voters) > len(found[0].voters)


def _running(cluster: Cluster) -> list[Node]:
    return [node for node in cluster.nodes.values() if node.up]


def joining(node: Node) -> Joining | None:
    """How a peer without a cluster starts: some ask others to let them in, learners among them."""
    cluster = node.cluster
    dice = cluster.members_rng
    seeds = tuple(name for name in cluster.names if name != node.name)
    if seeds and cluster.plan.bootstrap and node.name in cluster.founders:
        return Joining(
            tuple(name for name in cluster.founders if name != node.name) or seeds, expected=cluster.founders
        )
    if not seeds or not cluster.plan.renews or not committed(cluster)[0] or dice.random() < 0.4:
        return None
    return Joining(seeds, learner=dice.random() < 0.3)


# -- wishes ------------------------------------------------------------------------------------------------------------


def changes_of_members(cluster: Cluster, any_: Callable[[], Node]) -> dict[str, Callable[[], None]]:
    """The callers, as a fault by its name: they come at any time. ``any_``: chooses whom they ask."""
    tokens = iter(range(1, 1 << 30))

    def change() -> None:
        rng, node = cluster.members_rng, any_()
        if not node.up or cluster.world.now < cluster.lost_at + RESTRAINT:
            return
        if isinstance(node.engine.state.role, Leader) or rng.random() < 0.1:
            index = node.engine.state.configuration_index
            expected = rng.choice((None, None, None, index, index - 1))
            node.ask_for_members(next(tokens), _drawn(cluster), expected, rng.choice(TIMEOUTS))

    return {"member": change}


def _drawn(cluster: Cluster) -> Change:
    rng, names = cluster.members_rng, cluster.names
    match rng.choice(("set", "add", "add", "learner", "remove", "replace")):
        case "set":
            return SetMembers(tuple(rng.sample(names, rng.randint(1, len(names)))))
        case "add":
            return AddMember(rng.choice(names))
        case "learner":
            return AddMember(rng.choice(names), learner=True)
        case "remove":
            return RemoveMember(rng.choice(names))
        case _:
            _, configuration = committed(cluster)
            voters = [member.name for member in configuration.voters] or list(names)
            kept = [name for name in voters if name != rng.choice(voters)]
            return SetMembers(tuple(dict.fromkeys((*kept, rng.choice(names)))))


# -- what must hold ----------------------------------------------------------------------------------------------------


def require_step(node: Node, entry: Entry, mirror: list[Entry]) -> None:
    """A leader appends a configuration: a step from the one before it, which is committed, in its own term's light.

    Args:
        node: the leader.
        entry: holds the configuration.
        mirror: its log before.
    """
    before = next((one for one in reversed(mirror) if one.kind is EntryKind.CONFIGURATION), None)
    if before is None:
        return
    old, new = decode(before.data), decode(entry.data)
    if not any(_half(one) == _half(other) for one in _halves(old) for other in _halves(new)):
        raise Violated("one step", f"{node.name} goes from {old} to {new}: majorities of both need not meet")
    known = node.engine.state.commit_index  # as of this step
    if before.index > known:
        what = f"{node.name} appends configuration {entry.index}, the one before it, {before.index}, is not committed"
        raise Violated("one change at a time", what)
    if mirror[known - 1].term != entry.term:
        what = f"{node.name} appends configuration {entry.index}, and has committed nothing of its term {entry.term}"
        raise Violated("one change at a time", what)


def _halves(configuration: Configuration) -> list[tuple[Member, ...]]:
    return [half for half in (configuration.voters, configuration.outgoing) if half]


def _half(members: tuple[Member, ...]) -> set[tuple[str, str]]:
    return {(member.name, member.incarnation) for member in members}


def _could_know(cluster: Cluster, state: PeerState, configuration: Configuration) -> bool:
    """Whether a peer that is out knows somebody to ask who is not, and whose disk is not lost."""
    alive = {(node.name, node.disk.incarnation) for node in cluster.nodes.values()}
    known = [one for one in state.configuration.voters if (one.name, one.incarnation) in alive]
    return any(configuration.has(one.name, one.incarnation) for one in known)


def why_members_differ(cluster: Cluster, leader: Node) -> str | None:
    """What is wrong still: everybody who is a member has the same committed configuration, and no change is left."""
    index, configuration = committed(cluster)
    if leader.engine.state.configuration_index != index or configuration.changing:
        return f"{leader.name} is changing to {leader.engine.state.configuration}, committed is {configuration}"
    for node in _running(cluster):
        state = node.engine.state
        if node.wanted:
            return f"{node.name} did not answer who wants other members"
        if is_member(node, configuration) and state.configuration_index != index:
            return f"{node.name} has configuration {state.configuration_index}, not {index}"
        if not is_member(node, configuration) and _could_know(cluster, state, configuration) and not is_removed(state):
            return f"{node.name} was not told that it is out"
        joining = state.joining
        if joining is not None and joining.retry != float("inf") and _asks_a_member(cluster, joining, configuration):
            return f"{node.name} is not in yet: {joining}"
    return None


def _asks_a_member(cluster: Cluster, joining: Joining, configuration: Configuration) -> bool:
    """Whether one of those that a peer asks can let it in: a store of that name may be lost, and another be there."""
    return any(is_member(cluster.nodes[name], configuration) for name in joining.seeds if name in cluster.nodes)
