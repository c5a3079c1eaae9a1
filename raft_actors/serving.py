"""Requests from other processes: what the key of the sender may do, done by the peers of this one.

Writes and reads are handed to the peer right where they come in, and answered from where they are applied: nothing
waits. What does wait, for an election or a change of the members, gets a thread of its own, and there are not many.

Rule: the role is looked up for every request. Bytes are unpickled only if they come from a key of role peer or trusted,
and never where there are no keys. Every command is decoded here once, before it is appended.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from raft_actors.answering import AnsweringFuture, alike, command_of, counted, decoded, small_instead
from raft_actors.codec import CheckedCodec, resolve
from raft_actors.errors import (
    Incompatible,
    InvalidCommand,
    Overloaded,
    RaftError,
    Timeout,
    Unauthorized,
    UnknownPeer,
)
from raft_actors.futures import RequestFuture
from raft_actors.keys import PEERS
from raft_actors.on_behalf import done
from raft_actors.remote_values import failed, to_bytes
from raft_actors.requests import CONSISTENCIES
from raft_actors.serving_limits import OpenedSessions, OpenRequests, SlowLane, WaitingRoom, bounded_key, check_sense
from raft_actors.supervisor import handle_of, running
from raft_actors.transport.frames import (
    FEW,
    NEWEST,
    OLDEST,
    Answer,
    Ask,
    Asks,
    Beat,
    Body,
    ChangeMembers,
    Confirmed,
    Failed,
    GetStatus,
    Gone,
    Hello,
    OpenSession,
    Operation,
    Part,
    Parts,
    Post,
    Query,
    SessionCommand,
    SetConfiguration,
    Submit,
    TakeSnapshot,
    Transfer,
    Welcome,
    carried,
    unpack,
)
from raft_actors.transport.zeromq.door import Incoming
from raft_actors.transport.zeromq.replies import Reply, Returns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raft_actors.intake import Mailbox
    from raft_actors.keys import Guest
    from raft_actors.network import NodeTransport

__all__ = ["Server"]

logger = logging.getLogger("raft_actors")

WRITERS = ("peer", "admin", "trusted", "writer", "insecure")
ADMINS = ("peer", "admin", "insecure")
READERS = (*WRITERS, "reader")
MAY: dict[type[Operation], tuple[str, ...]] = {
    **dict.fromkeys((Submit, SessionCommand, OpenSession), WRITERS),
    **dict.fromkeys((SetConfiguration, ChangeMembers, Transfer, TakeSnapshot), ADMINS),
}
"""Who may ask for what; everything else is for all."""
_OF_ANYBODY = frozenset((Hello, Ask, Asks))
"""What may be said by those who are no peers."""
SMALL = 64 << 10
"""Bytes up to which a request of anybody is decoded where it comes in; the larger ones of those who are no peers wait
for each other, so that heartbeats do not wait for them."""
PATIENCE = 60.0
"""Seconds for which a read of somebody else waits for an index that is not applied yet, whatever its own patience."""
CODECS = {name: resolve(name) for name in ("plain", "cloudpickle")}


class Server:
    """What comes in at the door of a node.

    Args:
        node: the node's transport, whose wire the answers take.
    """

    def __init__(self, node: NodeTransport) -> None:
        self._node = node
        self._wire = node.wire
        self._places = WaitingRoom()
        self._open = OpenRequests()
        self._parts = Parts()
        self._sessions = OpenedSessions()
        self._slow = SlowLane()

    def take(self, incoming: Incoming) -> None:
        """One frame, in the wire's thread."""
        body, guest = incoming.body, incoming.guest
        if guest.role not in PEERS and type(body) not in _OF_ANYBODY:
            self._wire.refused["role"] += 1
            return
        match body:
            case Post():
                self._node.deliver(guest, body)
            case Ask():
                self._asked(incoming, body)
            case Beat():
                self._node.take_beat(guest, body)
            case Asks():
                each = replace(incoming, size=incoming.size // max(1, len(body.asks)))
                for asks in alike(body.asks):
                    self._asked_together(each, asks)
            case Part():
                self._reply(incoming, Confirmed(len(body.data)))
                self._take_part(guest, body)
            case Hello():
                self._welcome(incoming, body)
            case Gone():
                self._node.gone(guest, body)
            case _:
                self._wire.refused["not for a node"] += 1

    def _take_part(self, guest: Guest, part: Part) -> None:
        frame = self._parts.add(part)
        post = None if frame is None else unpack(frame)
        if isinstance(post, Post):
            self._node.deliver(guest, post)

    def _welcome(self, incoming: Incoming, hello: Hello) -> None:
        version = min(NEWEST, hello.newest)
        if version < max(OLDEST, hello.oldest):
            self._wire.refused["no common version"] += 1
            return
        guest = incoming.guest
        pickle = guest.trusted and not self._node.all_plain()
        self._reply(incoming, Welcome(version, guest.role, pickle))

    # -- requests ------------------------------------------------------------------------------------------------------

    def _asked(self, incoming: Incoming, ask: Ask) -> None:
        try:
            self._check_role(incoming.guest, ask)
            self._perform(incoming, ask)
        except Exception as error:  # noqa: BLE001 - it is the answer
            self._refuse(incoming, ask, error)

    def _asked_together(self, incoming: Incoming, asks: Sequence[Ask]) -> None:
        """Requests that are ``alike``: what is the same for all of them is looked at once."""
        sizes = [carried(ask.operation) for ask in asks]
        if len(asks) == 1 or max(sizes) > SMALL:
            for ask, size in zip(asks, sizes, strict=True):  # ``incoming`` has what they take in the mean
                self._asked(incoming if size <= incoming.size else replace(incoming, size=size), ask)
            return
        first = asks[0]
        try:
            self._check_role(incoming.guest, first)
            mailbox = running(first.to).open_mailbox()
            codec = self._codec(getattr(first.operation, "codec", ""), incoming.guest, mailbox)
        except Exception as error:  # noqa: BLE001 - it is told to all of them, and counted for each
            self._refuse(incoming, first, error)
            for ask in asks[1:]:
                self._asked(incoming, ask)
        else:
            self._take_writes(incoming, asks, mailbox, codec)

    def _take_writes(self, incoming: Incoming, asks: Sequence[Ask], mailbox: Mailbox, codec: CheckedCodec) -> None:
        """Hand writes to a peer, all at once; those that are refused have their answer before."""
        commands: list[bytes] = []
        futures: list[RequestFuture[Any]] = []
        room, now, returns = self._open.enter(incoming, len(asks)), time.monotonic(), Returns(incoming)
        for ask in asks[:room]:
            write: Any = ask.operation
            future = AnsweringFuture(self, returns, ask.id, codec, now + ask.patience)
            try:
                mailbox.check_size(len(write.command))
            except RaftError as error:
                future.try_fail(error)
                continue
            if not ask.patience:
                _too_late(future)
            elif (data := command_of(mailbox, write, codec, future)) is not None:
                commands.append(data)
                futures.append(future)
        for ask in asks[room:]:
            self._refuse(incoming, ask, self._too_many())
        mailbox.write_all(commands, futures, sessions=isinstance(asks[0].operation, SessionCommand))

    def _reply(self, incoming: Incoming, body: Body) -> None:
        self._wire.reply(Reply(incoming.route, incoming.version, (body,)))

    def _refuse(self, incoming: Incoming, ask: Ask, error: Exception) -> None:
        if isinstance(error, RaftError):
            error = self._as_told(ask, error)
        else:
            logger.error("a request of another process failed", exc_info=error)
        self._reply(incoming, failed(ask.id, error))

    def _as_told(self, ask: Ask, error: RaftError) -> RaftError:
        """An error as it is told elsewhere, where "this process" is another one; a name for it would make a ring."""
        if not isinstance(error, UnknownPeer) or error.name != ask.to:
            return error  # or it is about another peer
        advice = "check the name and the address, and whether it was started"
        return UnknownPeer(error.name, f"no peer named {error.name!r} runs at {self._node.address}", advice=advice)

    def _check_role(self, guest: Guest, ask: Ask) -> None:
        may = MAY.get(type(ask.operation), READERS)
        if guest.role not in may:
            self._wire.refused["role"] += 1
            what = "read" if may is READERS else "write" if may is WRITERS else "change the cluster"
            raise Unauthorized(f"role {guest.role!r} may not {what}")

    def _perform(self, incoming: Incoming, ask: Ask) -> None:
        operation = ask.operation
        match operation:
            case Submit() | SessionCommand() | OpenSession() | Query():
                self._to_mailbox(incoming, ask, operation)
            case GetStatus():
                status = handle_of(ask.to).status()
                self._reply(incoming, Answer(ask.id, to_bytes(status)))
            case _:
                self._in_a_thread(incoming, ask)

    # -- what the peer answers -----------------------------------------------------------------------------------------

    def _to_mailbox(
        self, incoming: Incoming, ask: Ask, operation: Submit | SessionCommand | OpenSession | Query
    ) -> None:
        mailbox = running(ask.to).open_mailbox()
        guest = incoming.guest
        if isinstance(operation, OpenSession):
            if not self._sessions.enter(incoming, time.monotonic()):
                self._wire.refused["too many sessions"] += 1
                raise Overloaded("this key has opened too many sessions within an hour")
            mailbox.open_session(operation.nonce, self._future(incoming, ask, _word))
            return
        codec = self._codec(operation.codec, guest, mailbox)
        mailbox.check_size(len(operation.query if isinstance(operation, Query) else operation.command))
        if isinstance(operation, Query) and operation.consistency not in CONSISTENCIES:
            raise InvalidCommand(f"there is no consistency {operation.consistency!r}")
        future = self._future(incoming, ask, codec)
        if isinstance(operation, Query) and operation.consistency == "stale" and operation.min_index:
            future.deadline = time.monotonic() + min(ask.patience, PATIENCE)
        if incoming.size > SMALL and guest.role not in PEERS:
            self._slow.put(lambda: _enter(mailbox, operation, codec, future))
        else:
            _enter(mailbox, operation, codec, future)

    def _codec(self, name: str, guest: Guest, mailbox: Mailbox) -> CheckedCodec:
        codec = CODECS.get(name)
        if codec is None:
            raise Incompatible(f"there is no codec {name!r} between processes", advice="use plain or cloudpickle")
        if name != "plain" and not guest.trusted:
            self._wire.refused["pickle"] += 1
            raise Unauthorized(f"role {guest.role!r} may not send a pickle", advice="use plain values, or another key")
        if name != "plain" and mailbox.codec.name == "plain":  # it was chosen so that nothing runs code
            self._wire.refused["pickle"] += 1
            raise InvalidCommand(
                f"peer {mailbox.name!r} speaks plain, and takes no pickle from anybody",
                advice="send built-in values, and dataclasses and enums that were named to raft_actors.register",
            )
        return codec

    def _future(self, incoming: Incoming, ask: Ask, codec: CheckedCodec | None) -> AnsweringFuture:
        """A future that answers over the wire, from whichever thread it is answered in."""
        if not self._open.enter(incoming):
            raise self._too_many()
        future = AnsweringFuture(self, Returns(incoming), ask.id, codec, time.monotonic() + ask.patience)
        future.reads = type(ask.operation) is Query
        return future

    def _too_many(self) -> Overloaded:
        self._wire.refused["too many requests"] += 1
        return Overloaded("too many requests of this connection, or of this key, are unanswered")

    def answer(self, future: AnsweringFuture, body: Answer | Failed) -> None:
        """A request has its answer; called in whatever thread gave it."""
        size = counted(body)
        if size:
            self._answer_large(future, body, size)
        elif future.returns.add(body):
            self._leave(future.returns, future.returns.asked)

    def _answer_large(self, future: AnsweringFuture, body: Answer | Failed, size: int) -> None:
        returns = future.returns
        asked = returns.asked
        if self._wire.held.enter(asked.route, size, bounded_key(asked)):
            self._leave(Reply(asked.route, asked.version, (body,), size, asked), asked)
        elif returns.add(small_instead(future, body)):
            self._leave(returns, asked)

    def _leave(self, answers: Reply | Returns, asked: Incoming) -> None:
        self._wire.reply(answers, alone=self._open.count(asked.route) <= FEW)

    def left(self, asked: Sequence[Incoming | None]) -> None:
        """Answers to one connection have left, or never will; called by whoever has the turn of the wire."""
        for _, together in itertools.groupby(asked, id):
            frame, *others = together
            if frame is not None:
                self._open.leave(frame, 1 + len(others))

    # -- what takes a while --------------------------------------------------------------------------------------------

    def _in_a_thread(self, incoming: Incoming, ask: Ask) -> None:
        check_sense(ask.operation)
        reserved = incoming.guest.role not in ADMINS
        if not self._places.enter(incoming.key, reserved=reserved):
            self._wire.refused["too many requests"] += 1
            raise Overloaded("too many requests wait at this node already")
        args = (incoming, ask, reserved)
        thread = threading.Thread(target=self._wait_for, args=args, name="raft-request", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._places.leave(incoming.key, reserved=reserved)
            raise Overloaded("this process cannot have another thread") from error

    def _wait_for(self, incoming: Incoming, ask: Ask, reserved: bool) -> None:  # noqa: FBT001
        body: Answer | Failed
        try:
            body = Answer(ask.id, to_bytes(done(ask.to, ask.operation, ask.patience)))
        except RaftError as error:
            body = failed(ask.id, self._as_told(ask, error))
        except Exception as error:
            logger.exception("a request of another process failed")
            body = failed(ask.id, error)
        finally:
            self._places.leave(incoming.key, reserved=reserved)
        self._reply(incoming, body)


_word = None
"""In place of a codec: the reply is a number or a name."""


def _enter(
    mailbox: Mailbox, operation: Submit | SessionCommand | Query, codec: CheckedCodec, future: RequestFuture[Any]
) -> None:
    """Decode a request, and hand it to the peer; ``future`` is answered in any case."""
    if future.deadline is not None and time.monotonic() >= future.deadline:
        _too_late(future)
    elif isinstance(operation, Query):
        _enter_query(mailbox, operation, codec, future)
    elif (data := command_of(mailbox, operation, codec, future)) is not None:
        mailbox.write_all([data], [future], sessions=isinstance(operation, SessionCommand))


def _too_late(future: RequestFuture[Any]) -> None:
    """Nobody waits for it any more: nothing is done."""
    future.try_fail(Timeout("no answer before the deadline of the request"))


def _enter_query(mailbox: Mailbox, query: Query, codec: CheckedCodec, future: RequestFuture[Any]) -> None:
    try:
        least = query.min_index if query.consistency == "stale" else None
        mailbox.read(decoded(codec, query.query), query.consistency, future, watch=True, min_index=least)
    except RaftError as error:
        future.try_fail(error)
    except Exception as error:
        logger.exception("a request of another process failed")
        future.try_fail(error)
