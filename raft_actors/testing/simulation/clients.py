"""Callers: they write and read at peers, wait or give up, and remember what they were told.

Every answer is checked when it comes: that it is the only one, that its class is right, that a reply is the one of the
caller's own command, and that a read is not older than anything that was acknowledged before it was asked.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias

from raft_actors.codec import CloudpickleCodec, is_immutable_reply
from raft_actors.errors import CommandFailed, NotApplied, NotLeader, OutcomeUnknown, Timeout, UnknownPeer
from raft_actors.futures import RequestFuture
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.state import Leader
from raft_actors.testing.simulation.canonical import canonical, mutable_parts
from raft_actors.testing.simulation.world import Violated

if TYPE_CHECKING:
    from raft_actors.testing.simulation.cluster import Cluster
    from raft_actors.testing.simulation.node import Node

__all__ = ["TAG_BYTES", "Clients", "Commands", "Request", "TaggedCodec"]

Commands: TypeAlias = Callable[[Random], tuple[str, Any]]
"""Returns ``("write", command)`` or ``("read", query)``."""

TAG_BYTES = 8
REFUSED_PAUSE = 0.1
LEASE_SHARE = 0.8
PATIENT = 1000
"""So many times a certain kind of request is asked for before it is taken for one that does not come."""


class TaggedCodec(CloudpickleCodec):
    """The default codec; commands carry the number of their request behind the pickle, where unpickling ignores it."""

    tag = b""

    def encode_checked(self, value: Any) -> bytes:
        """As the default codec, with the tag."""
        return super().encode_checked(value) + self.tag


class Request:
    """One request and what became of it.

    Attributes:
        number: its own.
        client: who asked.
        kind: ``"write"`` or ``"read"``.
        value: the command or query.
        peer: who was asked.
        call: when.
        ret: when it was answered, or ``None``.
        status: ``""`` while it waits, then ``"ok"``, ``"fail"`` or ``"unknown"``.
        output: the reply, or the error.
        index: where it was applied or read.
        committed: the index of its entry, 0 if it has none that is committed.
        floor: the highest index that was acknowledged to anybody before it was asked.
    """

    __slots__ = (
        "call",
        "client",
        "committed",
        "floor",
        "future",
        "index",
        "kind",
        "number",
        "output",
        "peer",
        "ret",
        "status",
        "value",
    )

    def __init__(self, number: int, client: str, kind: str, value: Any, peer: str, call: float, floor: int) -> None:
        self.number = number
        self.client = client
        self.kind = kind
        self.value = value
        self.peer = peer
        self.call = call
        self.floor = floor
        self.ret: float | None = None
        self.status = ""
        self.output: Any = None
        self.index = 0
        self.committed = 0
        self.future: RequestFuture[Any] | None = None

    def __str__(self) -> str:
        return f"request {self.number} ({self.kind} at {self.peer})"


class _Answer(RequestFuture[Any]):
    """A future that tells of every attempt to answer it."""

    def __init__(self, clients: Clients, request: Request) -> None:
        self.clients = clients
        self.request = request

    def try_set(self, value: Any, index: int | None = None) -> bool:
        """Answer with a reply."""
        first = super().try_set(value, index)
        self.clients.replied(self.request, value, index or 0, first=first)
        return first

    def try_fail(self, error: BaseException, index: int | None = None) -> bool:
        """Answer with an error."""
        first = super().try_fail(error, index)
        self.clients.refused(self.request, error, index or 0, first=first)
        return first


class Clients:
    """All callers of a run.

    Args:
        cluster: what they talk to.
        commands: what they ask.

    Attributes:
        requests: every request, in the order of their calls.
        pending: those without an answer.
        calling: whether they go on asking.
        commands: what they ask.
    """

    def __init__(self, cluster: Cluster, commands: Commands) -> None:
        self.requests: list[Request] = []
        self.pending: dict[int, Request] = {}
        self.calling = True
        self._cluster = cluster
        self.commands = commands
        self._floor = 0
        self._hints: dict[str, str] = {}
        self._waiting: dict[str, int] = {}
        self._refused: dict[str, bool] = {}
        self._homes: dict[str, str] = {}

    def begin(self) -> None:
        """Let every client ask after a while."""
        for number in range(self._cluster.plan.clients):
            name = f"client-{number + 1}"
            self._waiting[name] = 0
            self._homes[name] = self._cluster.names[number % len(self._cluster.names)]
            self._think(name)

    def _think(self, client: str) -> None:
        """Pause, and longer after a refusal: the peers are busy with an election then."""
        world, plan = self._cluster.world, self._cluster.plan
        mean = max(plan.think, REFUSED_PAUSE) if self._refused.pop(client, False) else plan.think
        world.after(world.rng.expovariate(1 / mean), self._ask, client)

    def _ask(self, client: str) -> None:
        if not self.calling:
            return
        world, plan = self._cluster.world, self._cluster.plan
        for _ in range(1 + int(world.rng.random() * (plan.burst - self._waiting[client]))):
            kind, value = self.commands(world.rng)
            if kind == "read" or not plan.lulls or int(world.now) % 4 > 1:
                self.call(client, self._choose(client, kind), kind, value)
        self._think(client)

    def _choose(self, client: str, kind: str) -> Node:
        rng, nodes = self._cluster.world.rng, self._cluster.nodes
        if kind == "read" and rng.random() < self._cluster.plan.at_home:
            return nodes[self._homes[client]]
        hint = self._hints.get(client)
        if hint in nodes and rng.random() < self._cluster.plan.leader_share:
            return nodes[hint]
        names = self._cluster.names
        return nodes[names[int(rng.random() * len(names))]]

    def somebody_leads(self, node: Node) -> None:
        """A new leader is written to before most callers know of it."""
        if self._cluster.plan.distrust:
            self._cluster.world.after(0.0, self._doubt, ("write", node))

    def _distrust(self, acknowledged_by: str) -> None:
        """Something was acknowledged: whoever else believes to lead must know it, or not answer."""
        for node in self._cluster.nodes.values():
            if node.up and node.name != acknowledged_by and isinstance(node.engine.state.role, Leader):
                self._cluster.world.after(0.0, self._doubt, ("read", node))

    def _doubt(self, doubt: tuple[str, Node]) -> None:
        kind, node = doubt
        value = self.draw(kind) if self.calling else None
        if value is not None:
            self.call("sceptic", node, kind, value)

    def draw(self, wanted: str, rng: Random | None = None) -> Any:
        """A command, or a query; ``None`` if the user's machine seems to have none."""
        for _ in range(PATIENT):
            kind, value = self.commands(rng or self._cluster.world.rng)
            if kind == wanted:
                return value
        return None

    def call(self, client: str, node: Node, kind: str, value: Any) -> Request:
        """Ask a peer."""
        cluster, world = self._cluster, self._cluster.world
        request = Request(len(self.requests), client, kind, value, node.name, world.now, self._floor)
        self.requests.append(request)
        self.pending[request.number] = request
        request.future = future = _Answer(self, request)
        if client in self._waiting:
            self._waiting[client] += 1
        world.log.append((world.now, client, "asks", node.name, kind, request.number))
        if not node.up:
            future.try_fail(UnknownPeer(node.name))
            return request
        own = self._own_copy(value)
        if kind == "write":
            cluster.codec.tag = request.number.to_bytes(TAG_BYTES, "big")
            node.mailbox.write(own, future, watch=False)
        elif kind == "read":
            lease = cluster.plan.settings.lease_reads and world.rng.random() < LEASE_SHARE
            node.mailbox.read(own, "lease" if lease else "linearizable", future, watch=False, min_index=None)
        else:
            raise ValueError(f'commands(rng) must return ("write", command) or ("read", query), not {kind!r:.60}')
        spoil(own)
        self._set_timeout(request)
        node.look()
        return request

    def _own_copy(self, value: Any) -> Any:
        """What a caller may change afterwards, as nobody else holds it."""
        codec = self._cluster.codec
        return value if is_immutable_reply(value) else codec.decode(codec.encode(value))

    def _set_timeout(self, request: Request) -> None:
        patience = self._cluster.plan.patience
        if patience != float("inf"):
            self._cluster.world.after(patience, self._expire, request)

    def _expire(self, request: Request) -> None:
        if not request.status and request.future is not None:
            request.future.try_fail(Timeout("no answer before the deadline of the request"))

    def abandoned(self, peer: str, error: OutcomeUnknown) -> None:
        """A peer is gone: whoever still waits for it hears so."""
        for request in list(self.pending.values()):
            if request.peer == peer and request.future is not None:
                request.future.try_fail(error)

    # -- answers -------------------------------------------------------------------------------------------------------

    def replied(self, request: Request, value: Any, index: int, *, first: bool) -> None:
        """A reply came."""
        if not first:
            self._require_first(request, value)
            return
        self._check_place(request, index)
        if request.kind == "write":
            self._check_reply(request, value, index)
        self._hints[request.client] = request.peer
        self.close(request, "ok", value, index)
        if not is_immutable_reply(value):
            request.output = self._own_copy(value)
            spoil(value)
        if self._cluster.plan.distrust and request.kind == "write":
            self._distrust(request.peer)

    def _check_place(self, request: Request, index: int) -> None:
        """A write is answered where its entry is committed, a read no earlier than all that was acknowledged before."""
        if request.kind == "write" and request.committed != index:
            what = f"{request} is answered at {index}, its entry is committed at {request.committed}"
            raise Violated("right answer", what)
        if request.kind == "read" and index < request.floor:
            what = f"{request} was served at {index}, {request.floor} was acknowledged before it was asked"
            raise Violated("no stale read", what)
        self._floor = max(self._floor, index)

    def _check_reply(self, request: Request, value: Any, index: int) -> None:
        found, expected = canonical(value), self._cluster.judge.replies.get(index)
        if found != expected:
            raise Violated("right answer", f"{request}: {found!r:.200} instead of {expected!r:.200}")

    def refused(self, request: Request, error: BaseException, index: int, *, first: bool) -> None:
        """An error came."""
        if not first:
            self._require_first(request, error)
            return
        if isinstance(error, NotLeader):
            self._hints[request.client] = error.leader
        elif isinstance(error, NotApplied):
            self._hints.pop(request.client, None)
        if isinstance(error, NotApplied):
            self._refused[request.client] = not isinstance(error, NotLeader)
            if request.committed:
                self._wrongly_refused(request, error)
            self.close(request, "fail", error, 0)
        elif isinstance(error, CommandFailed):
            self._check_place(request, index)
            self.close(request, "ok", error, index)
        elif isinstance(error, OutcomeUnknown):
            self.close(request, "unknown", error, 0)
        else:
            raise Violated("right answer", f"{request}: {type(error).__name__}: {error}")

    def _require_first(self, request: Request, answer: Any) -> None:
        """Who gave up before may be answered too late; nobody else is answered twice."""
        if not isinstance(request.output, OutcomeUnknown):
            what = f"{request} got {request.output!r:.100}, and then {answer!r:.100}"
            raise Violated("exactly one answer", what)

    def close(self, request: Request, status: str, output: Any, index: int) -> None:
        """A request has its answer."""
        world = self._cluster.world
        request.status, request.output, request.index, request.ret = status, output, index, world.now
        request.future = None
        del self.pending[request.number]
        if request.client in self._waiting:
            self._waiting[request.client] -= 1
        world.log.append((world.now, request.client, "hears", request.number, status, type(output).__name__, index))

    def committed(self, entry: Entry) -> None:
        """An entry is committed: its request must not have been refused, or be committed already."""
        if entry.kind is not EntryKind.COMMAND:
            return
        request = self.requests[int.from_bytes(entry.data[-TAG_BYTES:], "big")]
        if request.committed:
            what = f"{request} is committed at {request.committed} and at {entry.index}"
            raise Violated("applied once", what)
        request.committed = entry.index
        if request.status == "fail":
            self._wrongly_refused(request, request.output)

    def _wrongly_refused(self, request: Request, error: BaseException) -> None:
        what = f"{request} got {type(error).__name__}, but is committed at {request.committed}"
        raise Violated("right answer", what)


def spoil(value: Any) -> None:
    """Change what a caller holds: no replica may notice."""
    if is_immutable_reply(value):
        return
    for part in mutable_parts(value).values():
        if isinstance(part, list):
            part.append("changed by its caller")
        elif isinstance(part, dict):
            part["changed by its caller"] = True
        elif isinstance(part, set):
            part.add("changed by its caller")
