"""Callers with sessions: they send a write again and again, and it must be applied once.

As the sessions of ``Client``, with less manners: they repeat a write also while an earlier try is under way, at several
peers, and after whatever pause. A command carries the number of its request, so all tries of one write are known.

Thesis: §6.3.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from raft_actors.errors import (
    CommandFailed,
    NotApplied,
    NotLeader,
    OutcomeUnknown,
    SessionExpired,
    Timeout,
    UnknownPeer,
)
from raft_actors.futures import RequestFuture
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.sessions import OpenSession, SessionWrite, parse
from raft_actors.testing.simulation.canonical import canonical
from raft_actors.testing.simulation.clients import TAG_BYTES, Request
from raft_actors.testing.simulation.world import Violated

if TYPE_CHECKING:
    from raft_actors.testing.simulation.cluster import Cluster
    from raft_actors.testing.simulation.node import Node

__all__ = ["Sessions", "command_of"]

MOST_OPEN = 4
GIVES_UP = 0.02
DOUBLES = 0.3


def command_of(entry: Entry) -> bytes | None:
    """The encoded command in an entry, in a session or not; ``None`` if it has none."""
    if entry.kind is EntryKind.COMMAND:
        return entry.data
    if entry.kind is EntryKind.SESSION:
        request = parse(entry)
        return request.command if isinstance(request, SessionWrite) else None
    return None


class _Try(RequestFuture[Any]):
    """One try; tells its caller of its first answer."""

    def __init__(self, caller: _Caller, request: _Write | None, peer: str) -> None:
        self.caller = caller
        self.request = request
        self.peer = peer

    def try_set(self, value: Any, index: int | None = None) -> bool:
        """Answer with a reply."""
        first = super().try_set(value, index)
        if first:
            self.caller.answered(self, value, index or 0)
        return first

    def try_fail(self, error: BaseException, index: int | None = None) -> bool:
        """Answer with an error."""
        first = super().try_fail(error, index)
        if first:
            self.caller.failed(self, error, index or 0)
        return first


class _Write(Request):
    """A write in a session, over all its tries."""

    __slots__ = ("doubtful", "encoded", "previous", "sent", "sequence", "under_way")

    encoded: bytes
    sequence: int
    previous: _Write | None
    doubtful: bool
    sent: bool
    under_way: int


class _Caller:
    """One client with one session at a time."""

    def __init__(self, sessions: Sessions, name: str, rng: Random) -> None:
        self.sessions = sessions
        self.cluster = sessions.cluster
        self.name = name
        self.rng = rng
        self.session = 0
        self.nonce = 0
        self.issued = 0
        self.open: dict[int, _Write] = {}
        self.tries: set[_Try] = set()
        self.hint: str | None = None
        self._pause()

    def _pause(self) -> None:
        self.cluster.world.after(self.rng.expovariate(1 / (2 * self.cluster.plan.think)), self._act)

    def _act(self, _: object) -> None:
        clients = self.cluster.clients
        if clients.calling and len(self.open) < MOST_OPEN and self.rng.random() < 0.5:
            self._begin()
        if self.open and not self.session:
            if not self.tries:
                self._open_session()
        else:
            for write in list(self.open.values()):
                self._go_on(write)
        if self.open or clients.calling:
            self._pause()

    def _begin(self) -> None:
        """One more write, behind the last one or independent of it."""
        clients, world = self.cluster.clients, self.cluster.world
        value = clients.draw("write", self.rng)
        if value is None:
            return
        self.issued += 1
        write = _Write(len(clients.requests), f"{self.name}/{self.issued}", "write", value, "a peer", world.now, 0)
        codec = self.cluster.codec
        codec.tag = write.number.to_bytes(TAG_BYTES, "big")
        write.encoded = codec.encode_checked(value)
        write.previous = self.open.get(self.issued - 1) if self.rng.random() < 0.5 else None
        write.sequence, write.doubtful, write.sent, write.under_way = self.issued, False, False, 0
        clients.requests.append(write)
        clients.pending[write.number] = write
        self.open[write.sequence] = write

    def _go_on(self, write: _Write) -> None:
        if write.under_way and self.rng.random() > DOUBLES:
            return
        if self.rng.random() < GIVES_UP:
            self._end(write, "unknown" if write.doubtful or write.under_way else "fail", Timeout("gave up"))
            return
        previous = write.previous
        after = previous.sequence if previous is not None and not previous.status else 0
        settled = min(self.open) - 1
        data = SessionWrite(self.session, self.nonce, write.sequence, after, settled, write.encoded)
        if write.sent:
            self.cluster.world.note(self.name, "repeats", write.number)
        write.sent = True
        write.under_way += 1
        self._send(data.encode(), write)

    def _open_session(self) -> None:
        self.nonce = self.rng.getrandbits(64)
        self._send(OpenSession(self.nonce, self.sessions.timeout).encode(), None)

    def _send(self, data: bytes, write: _Write | None) -> None:
        node = self._choose()
        attempt = _Try(self, write, node.name)
        self.tries.add(attempt)
        if not node.up:
            attempt.try_fail(UnknownPeer(node.name))
            return
        node.mailbox.submit_session(data, attempt, watch=False)
        if self.cluster.plan.patience != float("inf"):
            self.cluster.world.after(self.cluster.plan.patience, self._expire, attempt)
        node.look()

    def _choose(self) -> Node:
        names, nodes = self.cluster.names, self.cluster.nodes
        hint = self.hint
        if hint is not None and hint in nodes and self.rng.random() < self.cluster.plan.leader_share:
            return nodes[hint]
        return nodes[names[int(self.rng.random() * len(names))]]

    def _expire(self, attempt: _Try) -> None:
        if attempt in self.tries:
            attempt.try_fail(Timeout("no answer before the deadline of the try"))

    def abandoned(self, peer: str, error: OutcomeUnknown) -> None:
        """A peer is gone."""
        for attempt in sorted(self.tries, key=lambda one: one.request.number if one.request else -1):
            if attempt.peer == peer:
                attempt.try_fail(error)

    # -- answers -------------------------------------------------------------------------------------------------------

    def answered(self, attempt: _Try, value: Any, index: int) -> None:
        """A try has its reply."""
        self.tries.discard(attempt)
        self.hint = attempt.peer
        write = attempt.request
        if write is None:
            self.session = value
            self.cluster.world.note(self.name, "has session", value)
        elif not write.status:
            self.sessions.check_reply(write, canonical(value))
            self._end(write, "ok", value, index)

    def failed(self, attempt: _Try, error: BaseException, index: int) -> None:
        """A try has an error."""
        self.tries.discard(attempt)
        self.hint = error.leader if isinstance(error, NotLeader) else None
        write = attempt.request
        if write is None or write.status:
            return
        write.under_way -= 1
        match error:
            case NotApplied():
                pass
            case OutcomeUnknown():
                write.doubtful = True
            case CommandFailed():
                self._end(write, "ok", error, index)
            case SessionExpired():
                self._expired(write)
            case _:
                raise Violated("right answer", f"{write}: {type(error).__name__}: {error}")

    def _expired(self, expired: _Write) -> None:
        """The session is over: what was sent in it ends with it."""
        self.session = 0
        for write in list(self.open.values()):
            doubtful = write.doubtful or write.under_way
            if doubtful or write is expired:
                self._end(write, "unknown" if doubtful else "fail", SessionExpired())

    def _end(self, write: _Write, status: str, output: Any, index: int = 0) -> None:
        del self.open[write.sequence]
        self.cluster.clients.close(write, status, output, index)
        self.sessions.check(write)


class Sessions:
    """All callers with sessions, and what must hold for their writes.

    Args:
        cluster: what they talk to.
        timeout: of their sessions, in seconds of replicated time.

    Attributes:
        places: where each request was committed, by its number.
    """

    def __init__(self, cluster: Cluster, timeout: float) -> None:
        self.cluster = cluster
        self.timeout = timeout
        self.places: dict[int, list[int]] = {}
        self._callers: list[_Caller] = []

    def begin(self) -> None:
        """Let them ask."""
        dice = Random(self.cluster.plan.session_seed)
        for number in range(self.cluster.plan.sessions):
            self._callers.append(_Caller(self, f"session-{number + 1}", Random(dice.getrandbits(64))))

    def abandoned(self, peer: str, error: OutcomeUnknown) -> None:
        """A peer is gone: whoever still waits for it hears so."""
        for caller in self._callers:
            caller.abandoned(peer, error)

    def committed(self, entry: Entry) -> None:
        """An entry of a session is committed."""
        command = command_of(entry)
        if command is not None:
            number = int.from_bytes(command[-TAG_BYTES:], "big")
            self.places.setdefault(number, []).append(entry.index)

    def applied(self, write: Request) -> list[int]:
        """Where a write was applied; by what any replica has told so far."""
        return [index for index in self.places.get(write.number, ()) if index in self.cluster.judge.replies]

    def check_reply(self, write: Request, found: Any) -> None:
        """A reply is that of the one time the write was applied."""
        replies = [self.cluster.judge.replies[index] for index in self.applied(write)]
        if replies != [found]:
            raise Violated("right answer", f"{write}: {found!r:.200} instead of {replies!r:.200}")

    def check(self, write: Request) -> None:
        """A write is applied once, and not at all if its caller was told so."""
        places = self.applied(write)
        if len(places) > 1:
            raise Violated("applied once", f"{write} of {write.client} was applied at {places}")
        if write.status == "fail" and places:
            what = f"{write} of {write.client} got {write.output!r:.100}, but was applied at {places}"
            raise Violated("right answer", what)
        if write.status == "ok" and not places:
            raise Violated("right answer", f"{write} of {write.client} has a reply, but was not applied")

    def check_all(self) -> None:
        """Everything once more, when everything has been applied; and what was sent in order is in order."""
        for request in self.cluster.clients.requests:
            if isinstance(request, _Write):
                self.check(request)
                self._check_order(request)

    def _check_order(self, write: _Write) -> None:
        previous = write.previous
        if previous is None or previous.status != "ok":
            return
        before, after = self.applied(previous), self.applied(write)
        if after and after < before:
            raise Violated("order of a client", f"{write} at {after} overtook {previous} at {before}")
