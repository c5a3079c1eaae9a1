"""What must hold of reads, of the rounds that confirm them, and of leases, checked after every step.

As in ``invariants``, a peer's own bookkeeping is only what is judged. Which rounds a peer answered to, what it promised
and when a read was asked is known from the steps in which it happened, and outlives the peer's process.

The sentences, and why they may be required, are in ``docs/invariants.md``: no stale read, read rounds, lease promises
and lease beliefs.

Thesis: §6.4, §6.4.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from raft_actors.protocol.effects import Send, ServeReads
from raft_actors.protocol.events import Event, ReadsRequested, Received
from raft_actors.protocol.messages import AppendEntries, AppendEntriesReply, ReadIndex, ReadIndexReply, TimeoutNow
from raft_actors.protocol.state import Leader, PeerState
from raft_actors.testing.simulation.plan import LEASE_CLOCK_SPREAD
from raft_actors.testing.simulation.world import Violated

if TYPE_CHECKING:
    from raft_actors.testing.simulation.cluster import Cluster
    from raft_actors.testing.simulation.disk import Disk
    from raft_actors.testing.simulation.node import Node

__all__ = ["ReadRules"]

ROUNDING = 1e-9
FASTEST, SLOWEST = 1 + LEASE_CLOCK_SPREAD, 1 - LEASE_CLOCK_SPREAD


class Question(NamedTuple):
    """A read, or the reads that were asked together.

    Attributes:
        step: when it was asked, in steps of all peers.
        floor: how many entries were committed by then.
        term: of the leader that was asked and has to have itself confirmed; 0 if it need not.
        round: the newest round of that leader until then.
    """

    step: int
    floor: int
    term: int = 0
    round: int = 0


class ReadRules:
    """The observer of reads and leases.

    Args:
        cluster: what it watches.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._asked: dict[tuple[str, int, int], Question] = {}
        self._forwarded: dict[tuple[int, str, int], Question] = {}
        self._named: dict[ReadIndexReply, int] = {}
        self._answered: dict[tuple[str, int], int] = {}
        self._promises: dict[tuple[str, int], float] = {}
        self._released = 0

    # -- in the order of a step ----------------------------------------------------------------------------------------

    def begins(self, node: Node, event: Event, before: PeerState) -> None:
        """A peer is about to take a step: perhaps it is asked to read."""
        if type(event) is Received:
            message = event.message
            if type(message) is ReadIndex and isinstance(before.role, Leader):
                key = before.term, message.sender, message.request
                self._forwarded.setdefault(key, self._question(before))
        elif type(event) is ReadsRequested:
            self._asked[node.name, node.life, event.token] = self._question(before)

    def _question(self, state: PeerState) -> Question:
        steps, floor, role = self._cluster.world.steps, len(self._cluster.invariants.committed), state.role
        return Question(steps, floor, state.term, role.round) if isinstance(role, Leader) else Question(steps, floor)

    def sends(self, node: Node, event: Event, effect: Send) -> None:
        """A step wants something sent."""
        message = effect.message
        if type(message) is AppendEntries:
            return
        if type(message) is AppendEntriesReply:
            asked = event.message if type(event) is Received else None
            if type(asked) is AppendEntries and asked.term == message.term:
                self._answers(node, asked, message.promise)
            elif message.promise:
                raise Violated("lease promises", f"{node.name} promises something to {effect.to}, whom it refuses")
        elif isinstance(message, ReadIndexReply):
            if message.index is not None:
                self._names(node, event, effect.to, message, message.index)
        elif isinstance(message, TimeoutNow):
            self._released = max(self._released, message.term)

    def _answers(self, node: Node, asked: AppendEntries, promise: float) -> None:
        incarnation = node.disk.incarnation
        key = incarnation, asked.term
        if asked.round > self._answered.get(key, 0):
            self._answered[key] = asked.round
        if promise:
            self._promises[key] = node.clock.reading() + promise

    def _names(self, node: Node, event: Event, to: str, reply: ReadIndexReply, index: int) -> None:
        question = self._forwarded.get((reply.term, to, reply.request))
        if question is None:
            raise Violated("read rounds", f"{node.name} names an index to {to}, but was not asked as leader")
        at_once = type(event) is Received and type(event.message) is ReadIndex
        self._require_confirmed(node, question, at_once=at_once)
        self._require_new(node, question, index)
        self._named.setdefault(reply, self._cluster.world.steps)

    def serves(self, node: Node, event: Event, effect: ServeReads) -> None:
        """A step wants reads answered from the machine."""
        question = self._asked.pop((node.name, node.life, effect.token))
        at_once = type(event) is ReadsRequested and event.token == effect.token
        self._require_confirmed(node, question, at_once=at_once)
        self._require_new(node, question, effect.index)
        self._require_late(node, question, event)

    def stepped(self, node: Node, event: Event, before: PeerState, after: PeerState) -> None:
        """A peer took a step."""
        if after is before:
            return
        ballot = after.ballot
        if ballot is not before.ballot and ballot.voted_for is not None and ballot != before.ballot:
            self._require_free(node, after)
        if after.confirmed_reads and after.term != before.term:
            self._require_reachable(node, after)
        if after.confirmed_reads is not before.confirmed_reads:
            self._confirms(node, event, before, after)
        if type(event) is Received and type(event.message) is AppendEntriesReply and isinstance(after.role, Leader):
            self._believes(node, after.role, after, event.message.sender)

    def _confirms(self, node: Node, event: Event, before: PeerState, after: PeerState) -> None:
        """Reads wait only for the machine now."""
        known = {token for _, token in before.confirmed_reads}
        for index, token in after.confirmed_reads:
            if token in known:
                continue
            key = node.name, node.life, token
            question = self._asked[key]
            at_once = type(event) is ReadsRequested and event.token == token
            self._require_confirmed(node, question, at_once=at_once)
            self._require_new(node, question, index)
            self._require_late(node, question, event)
            self._asked[key] = question._replace(term=0)

    # -- what is required ----------------------------------------------------------------------------------------------

    def _require_new(self, node: Node, question: Question, index: int) -> None:
        if index < question.floor:
            what = f"{node.name} reads at {index}, {question.floor} was committed before it was asked"
            raise Violated("no stale read", what)

    def _require_reachable(self, node: Node, state: PeerState) -> None:
        """Its leader is deposed: what no leader committed may never be, and whoever waits for it waits in vain."""
        index, committed = max(index for index, _ in state.confirmed_reads), len(self._cluster.invariants.committed)
        if index > committed:
            what = f"{node.name} lets a read wait for {index} in term {state.term}, only {committed} are committed"
            raise Violated("read rounds", what)

    def _require_late(self, node: Node, question: Question, event: Event) -> None:
        """If this is the answer of a leader, the leader gave it after it was asked."""
        if type(event) is Received and type(event.message) is ReadIndexReply:
            given = self._named.get(event.message, 0)
            if given < question.step:
                what = f"{node.name} takes the answer of step {given} for one to what was asked in step {question.step}"
                raise Violated("read rounds", what)

    def _require_confirmed(self, node: Node, question: Question, *, at_once: bool) -> None:
        """By a lease, if it is answered at once; else by a round that left after it was asked."""
        term, number = question.term, question.round
        if not term:
            return
        own = node.disk.incarnation
        if at_once:
            bound = term > self._released
            why = "at once, but no quorum is bound to it"

            def confirms(disk: Disk) -> bool:
                return disk.incarnation == own or (bound and self._left(disk.incarnation, term) > 0)

        else:
            why = f"but no quorum answered to a round after {number}"

            def confirms(disk: Disk) -> bool:
                return disk.incarnation == own or self._answered.get((disk.incarnation, term), 0) > number

        quorum = self._cluster.invariants.quorum
        # By the members before or after this step: a step from a joint configuration, which is committed, ends it.
        if not any(quorum(one, confirms) for one in (node.engine.deciding, node.engine.state.configuration)):
            raise Violated("read rounds", f"{node.name} answers a read in term {term}, {why}")

    def _left(self, incarnation: str, term: int) -> float:
        """Seconds of its own clock until a promise to the leader of ``term`` has run out; 0 if there is none.

        It stands even if who gave it follows somebody else by now, whom others elected.
        """
        until = self._promises.get((incarnation, term))
        if until is None:
            return 0.0
        name = self._cluster.invariants.disks[incarnation].name
        return max(0.0, until - self._cluster.nodes[name].clock.reading())

    def _require_free(self, node: Node, state: PeerState) -> None:
        """It votes: no promise may stand against it."""
        own = node.disk.incarnation
        for incarnation, term in self._promises:
            binds = incarnation == own and self._released < term < state.term
            left = self._left(own, term) if binds else 0.0
            if left > 0:
                what = f"{node.name} votes in term {state.term}, bound to the leader of {term} for {left:.6f} s more"
                raise Violated("lease promises", what)

    def _believes(self, node: Node, role: Leader, state: PeerState, follower: str) -> None:
        """What a leader makes of an answer."""
        member, progress = state.configuration.members().get(follower), role.progress.get(follower)
        if member is None or progress is None:
            return
        answered = self._answered.get((member.incarnation, state.term), 0)
        if progress.round > answered:
            what = f"{node.name} takes {follower} to confirm round {progress.round}, it answered up to {answered}"
            raise Violated("read rounds", what)
        left = 0.0 if role.lease_given_up else progress.promised_until - node.clock.reading()
        kept = self._left(member.incarnation, state.term)
        if left > 0 and left / SLOWEST > kept / FASTEST + ROUNDING:
            what = f"{node.name} takes {follower} for bound for {left:.6f} s, it is for {kept:.6f} s"
            raise Violated("lease beliefs", what)
