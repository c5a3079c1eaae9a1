"""Requests from other processes: what the key of the sender may do, done by the peers of this one.

Writes and reads are handed to the peer right where they come in, and answered from where they are applied: nothing
waits. What does wait, for an election or a change of the members, gets a thread of its own, and there are not many.

Rule: the role is looked up for every request. Bytes are unpickled only if they come from a key of role peer or trusted,
and never where there are no keys. Every command is decoded here once, before it is appended.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from raft_actors import administration, api, leadership, saving
from raft_actors.addresses import full_name
from raft_actors.changing import change_here
from raft_actors.codec import CheckedCodec, resolve
from raft_actors.errors import (
    Incompatible,
    InvalidCommand,
    OutcomeUnknown,
    Overloaded,
    RaftError,
    Timeout,
    Unauthorized,
    UnknownPeer,
)
from raft_actors.futures import RequestFuture
from raft_actors.protocol.changes import AddMember, RemoveMember
from raft_actors.protocol.sessions import SessionWrite
from raft_actors.remote_values import failed, to_bytes
from raft_actors.requests import CONSISTENCIES
from raft_actors.serving_limits import OpenedSessions, OpenRequests, SlowLane, WaitingRoom, check_sense
from raft_actors.supervisor import handle_of, running
from raft_actors.transport.frames import (
    LARGEST,
    NEWEST,
    OLDEST,
    Answer,
    Ask,
    Asks,
    Beat,
    ChangeMembers,
    Confirmed,
    Failed,
    FindLeader,
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
    unpack,
)

if TYPE_CHECKING:
    from raft_actors.intake import Mailbox
    from raft_actors.keys import Guest
    from raft_actors.network import NodeTransport
    from raft_actors.transport.zeromq.door import Incoming

__all__ = ["Server"]

logger = logging.getLogger("raft_actors")

WRITERS = ("peer", "admin", "trusted", "writer", "insecure")
ADMINS = ("peer", "admin", "insecure")
READERS = (*WRITERS, "reader")
SMALL = 64 << 10
"""Bytes up to which a request of anybody is decoded where it comes in; the larger ones of those who are no peers wait
for each other, so that heartbeats do not wait for them."""
PATIENCE = 60.0
"""Seconds for which a read of somebody else waits for an index that is not applied yet, whatever its own patience."""
ROOM = 1024
"""Bytes that an answer may take beside its value."""
PEERS = ("peer", "insecure")
FEW = 4
"""With more open requests of a connection than these, their answers are likely to come together: they wait for it."""
CODECS = {name: resolve(name) for name in ("plain", "cloudpickle")}


class AnsweringFuture(RequestFuture[Any]):
    """A future whose outcome is sent to another process as soon as it is there; nobody here waits for it.

    Attributes:
        server: sends it.
        incoming: the frame with the request.
        number: of the request.
        codec: of the reply; ``None``: it is a number or a name.
    """

    server: Server
    incoming: Incoming
    number: int
    codec: CheckedCodec | None

    def try_set(self, value: Any, index: int | None = None) -> bool:
        """Answer with ``value``, there."""
        given = super().try_set(value, index)
        if given:
            self.server.answer(self)
        return given

    def try_fail(self, error: BaseException, index: int | None = None) -> bool:
        """Answer with ``error``, there."""
        given = super().try_fail(error, index)
        if given:
            self.server.answer(self)
        return given


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
        match body:
            case Post() if guest.role in PEERS:
                self._node.deliver(guest, body)
            case Part() if guest.role in PEERS:
                self._wire.reply(incoming.route, Confirmed(len(body.data)), incoming.version)
                self._take_part(guest, body)
            case Ask():
                self._asked(incoming, body)
            case Asks():
                each = incoming._replace(size=incoming.size // max(1, len(body.asks)))
                for ask in body.asks:
                    self._asked(each, ask)
            case Hello():
                self._welcome(incoming, body)
            case Beat() if guest.role in PEERS:
                self._node.take_beat(guest, body)
            case Gone() if guest.role in PEERS:
                self._node.gone(guest, body)
            case _:
                self._wire.refused["role" if isinstance(body, Post | Part | Gone | Beat) else "not for a node"] += 1

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
        self._wire.reply(incoming.route, Welcome(version, guest.role, pickle), incoming.version)

    # -- requests ------------------------------------------------------------------------------------------------------

    def _asked(self, incoming: Incoming, ask: Ask) -> None:
        try:
            self._check_role(incoming.guest, ask)
            self._perform(incoming, ask)
        except RaftError as error:
            self._wire.reply(incoming.route, failed(ask.id, self._as_told(ask, error)), incoming.version)
        except Exception as error:
            logger.exception("a request of another process failed")
            self._wire.reply(incoming.route, failed(ask.id, error), incoming.version)

    def _as_told(self, ask: Ask, error: RaftError) -> RaftError:
        """An error as it is told elsewhere, where "this process" is another one; a name for it would make a ring."""
        if not isinstance(error, UnknownPeer) or error.name != ask.to:
            return error  # or it is about another peer
        advice = "check the name and the address, and whether it was started"
        return UnknownPeer(error.name, f"no peer named {error.name!r} runs at {self._node.address}", advice=advice)

    def _check_role(self, guest: Guest, ask: Ask) -> None:
        may: tuple[str, ...] = READERS
        match ask.operation:
            case Submit() | SessionCommand() | OpenSession():
                may = WRITERS
            case SetConfiguration() | ChangeMembers() | Transfer() | TakeSnapshot():
                may = ADMINS
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
                self._wire.reply(incoming.route, Answer(ask.id, to_bytes(status)), incoming.version)
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
            self._wire.refused["too many requests"] += 1
            raise Overloaded("too many requests of this connection, or of this key, are unanswered")
        future: AnsweringFuture = AnsweringFuture()
        future.server, future.incoming, future.number, future.codec = self, incoming, ask.id, codec
        future.deadline = time.monotonic() + ask.patience
        return future

    def answer(self, future: AnsweringFuture) -> None:
        """A request has its outcome; called in whatever thread gave it."""
        incoming = future.incoming
        body = _answer(future.number, future, future.codec)
        alone = self._open.count(incoming.route) <= FEW
        self._wire.reply(incoming.route, body, incoming.version, lambda: self._open.leave(incoming), alone=alone)

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
            body = Answer(ask.id, to_bytes(_done(ask.to, ask.operation, ask.patience)))
        except RaftError as error:
            body = failed(ask.id, self._as_told(ask, error))
        except Exception as error:
            logger.exception("a request of another process failed")
            body = failed(ask.id, error)
        finally:
            self._places.leave(incoming.key, reserved=reserved)
        self._wire.reply(incoming.route, body, incoming.version)


def _done(to: str, operation: Operation, patience: float) -> Any:
    """Do what was asked, by the same functions that callers of this process use."""
    match operation:
        case FindLeader():
            return api.leader(to, timeout=patience)
        case SetConfiguration():
            names = [full_name(*place) for place in operation.members]
            return administration.set_configuration(to, names, expected=operation.expected, timeout=patience)
        case ChangeMembers(here=True):
            return change_here(to, operation.change, operation.places, operation.expected, patience)
        case ChangeMembers(change=AddMember() as change):
            name = full_name(change.name, dict(operation.places).get(change.name, ""))
            return administration.add_peer(to, name, learner=change.learner, timeout=patience)
        case ChangeMembers(change=RemoveMember() as change):
            return administration.remove_peer(to, change.name, timeout=patience)
        case Transfer(here=True):
            return leadership.transfer_here(to, operation.target, patience)
        case Transfer():
            return leadership.transfer_leadership(to, operation.target, timeout=patience)
        case TakeSnapshot():
            return saving.snapshot(to, timeout=patience)
        case _:
            raise Incompatible(f"{type(operation).__name__} is not known here")


_word = None
"""In place of a codec: the reply is a number or a name."""


def _enter(
    mailbox: Mailbox, operation: Submit | SessionCommand | Query, codec: CheckedCodec, future: RequestFuture[Any]
) -> None:
    """Decode a request, and hand it to the peer; ``future`` is answered in any case."""
    try:
        if future.deadline is not None and time.monotonic() >= future.deadline:
            raise Timeout("no answer before the deadline of the request")
        if isinstance(operation, Query):
            query = _decoded(codec, operation.query)
            least = operation.min_index if operation.consistency == "stale" else None
            mailbox.read(query, operation.consistency, future, watch=True, min_index=least)
            return
        data = _for_cluster(codec, mailbox.codec, operation.command)
        if isinstance(operation, Submit):
            mailbox.write_encoded(data, future, watch=True)
            return
        one = operation
        write = SessionWrite(one.session, one.nonce, one.sequence, one.previous, one.settled, data)
        mailbox.write_session(write, future, watch=True)
    except RaftError as error:
        future.try_fail(error)
    except Exception as error:
        logger.exception("a request of another process failed")
        future.try_fail(error)


def _decoded(codec: CheckedCodec, data: bytes) -> Any:
    try:
        return codec.decode(data)
    except Incompatible as error:  # no cause: describing its traceback takes longer than all the rest
        raise InvalidCommand(str(error)) from None
    except MemoryError:  # bytes that say they are long; our own memory is well
        raise InvalidCommand(f"codec {codec.name!r} cannot decode these {len(data)} bytes") from None


def _for_cluster(codec: CheckedCodec, wanted: CheckedCodec, data: bytes) -> bytes:
    """The bytes of a command as the cluster stores it, decoded once on the way."""
    value = _decoded(codec, data)
    return data if codec.name == wanted.name else wanted.encode_checked(value)


def _answer(number: int, future: RequestFuture[Any], codec: CheckedCodec | None) -> Answer | Failed:
    """What a request is answered whose future is done; there is something in any case."""
    try:
        error = future.failure
        if error is not None:
            return failed(number, error, future.index)
        value = future.get()
        data = to_bytes(value) if codec is None else codec.encode(value)
    except RaftError as why:
        unknown = OutcomeUnknown("it was done, but the reply cannot be sent to another process")
        unknown.__cause__ = why
        return failed(number, unknown, future.index)
    except Exception as why:
        logger.exception("an answer cannot be sent")
        return failed(number, OutcomeUnknown(f"the answer cannot be sent: {type(why).__name__}"))
    if len(data) <= LARGEST - ROOM:
        return Answer(number, data, "" if codec is None else codec.name, future.index)
    unknown = OutcomeUnknown(f"it was done, but {len(data)} bytes of an answer are too many for one frame")
    return failed(number, unknown, future.index)
