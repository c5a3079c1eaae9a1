"""Where other nodes and clients come in: one socket, everybody's key checked, every frame looked at.

::

    connection --CURVE handshake--> ZAP: is this key on the list? --no--> refused
    frame --> which key sent it? what may it do now? --> checked --> handed on

Rule: fail closed. Without keys only this machine comes in, and only if that was said (``insecure``). The ZAP handler
is there before the socket is bound, and the socket demands it (``ZAP_ENFORCE_DOMAIN``): where nobody answers for the
domain, libzmq lets in everybody. Who sent a frame is told by the handshake (``User-Id``), never by the frame. Who is
not on the list any more, or speaks another language, loses the connection.

Everything here runs in the thread of the wire, but for answers: whoever has its turn sends them (``turns``).
"""

from __future__ import annotations

import collections
import contextlib
import errno
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import zmq
import zmq.utils.z85
from msgspec import Struct

from raft_actors.errors import InvalidConfig
from raft_actors.keys import PEERS, Guest
from raft_actors.transport.frames import LARGEST, BadFrame, Body, pack, unpack
from raft_actors.transport.zeromq.crowd import Crowd
from raft_actors.transport.zeromq.ears import MORE, NOWAIT, Ears, may_read, rest_of, send
from raft_actors.transport.zeromq.held import COUNTED, Held
from raft_actors.transport.zeromq.lanes import PIECE, cut
from raft_actors.transport.zeromq.replies import Reply, Together
from raft_actors.transport.zeromq.sockets import listening

if TYPE_CHECKING:
    from raft_actors.keys import Keyring

__all__ = ["ANYBODY", "Door", "Incoming"]

logger = logging.getLogger("raft_actors")

ANYBODY = Guest("insecure", "*")
"""Who comes to a door without keys: from this machine."""
FOREVER = float("inf")
TURN = 0.005
"""Seconds after which what is to be sent has its turn, whatever still comes."""
SMALL = 64 << 10
"""Bytes of a frame that is always looked at."""
MOST_CALLERS = 4096
"""Connections that are remembered."""
NOT_HERE = (errno.ENODEV, errno.EADDRNOTAVAIL)
"""What libzmq says of a name without an address, and of an address of another machine."""
MOST_PIECES = LARGEST // PIECE + 2
"""Pieces of a frame that was cut."""


class Caller(NamedTuple):
    """A connection: whose, ``""`` without keys, and its descriptor."""

    key: str
    descriptor: int


class Incoming(Struct, frozen=True):
    """A frame of somebody.

    Attributes:
        route: where an answer goes.
        guest: who it is, by its key.
        body: what it says.
        version: of the frame.
        size: bytes of it.
        key: who it is, ``""`` without keys.
    """

    route: bytes
    guest: Guest
    body: Body
    version: int
    size: int
    key: str = ""


class Door:
    """The socket that listens.

    Args:
        context: makes sockets; of this door only, for its ZAP handler answers for all of it.
        host: an address or a name of this machine.
        port: 0: any free one.
        keys: ours; ``None``: without.
        ears: of the wire.
        take: given every frame that is let in.
        refused: counts what is refused, by reason.
        left: told of answers that have left, or never will, what each was asked with.
        held: counts the answers on their way.

    Attributes:
        port: the port.

    Raises:
        InvalidConfig: the address cannot be bound.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        host: str,
        port: int,
        keys: Keyring | None,
        ears: Ears,
        take: Callable[[Incoming], None],
        left: Callable[[list[Incoming | None]], None],
        refused: collections.Counter[str],
        held: Held,
    ) -> None:
        self._keys, self._ears, self._take, self._left = keys, ears, take, left
        self._refused, self._held = refused, held
        self._zap: zmq.Socket[Any] | None = None
        self._callers: dict[bytes, Caller] = {}
        if keys is not None:
            self._zap = context.socket(zmq.ROUTER)
            self._zap.setsockopt(zmq.LINGER, 0)
            self._zap.bind("inproc://zeromq.zap.01")
            ears.add(self._zap, self._check_keys)
        self._socket: Any = listening(context, keys)
        if ":" in host:  # an address of IPv6; a name means IPv4, here and where others connect
            self._socket.setsockopt(zmq.IPV6, 1)
            host = f"[{host}]"
        self._crowd = Crowd(context, self._socket, refused)
        try:
            self._socket.bind(f"tcp://{host}:{port or '*'}")
        except zmq.ZMQError as error:
            why = "this machine has no such address" if error.errno in NOT_HERE else error
            raise InvalidConfig(
                f"cannot listen at {host}:{port}: {why}",
                fields=("address",),
                advice="take an address of this machine, or a name that has one here, and a free port",
            ) from error
        endpoint: Any = self._socket.getsockopt(zmq.LAST_ENDPOINT)
        self.port = self._crowd.port = int(endpoint.rsplit(b":", 1)[1].rstrip(b"\0"))
        ears.add(self._crowd.news, self._crowd.ready)
        ears.add(self._socket, self._receive)

    def reply(self, route: bytes, version: int, replies: list[Reply]) -> None:
        """Answer somebody, as few frames as there may be; what he is too slow to take, or gone, is lost.

        The list is emptied on the way, so that what has left takes no memory while the rest of it is sent.
        """
        frame = Together()
        replies.reverse()
        while replies:
            reply = replies.pop()
            for body in reply.bodies:
                if not frame.add(body, reply.size, reply.asked):
                    self._send(route, version, frame)
                    frame = Together()
                    frame.add(body, reply.size, reply.asked)
        if frame.bodies:
            self._send(route, version, frame)

    def _send(self, route: bytes, version: int, together: Together) -> None:
        try:
            frame = pack(together.body(), version)
        except Exception:
            logger.exception("an answer that no frame can carry")
            self._send_apart(route, version, together)
            return
        entered = together.entered
        large = entered > 0 or len(frame) >= COUNTED
        taken = False
        try:
            leaves = not large or self._held.pass_on(route, len(frame), entered)
            taken = leaves and self._put(route, frame, large=large)
        finally:
            if not taken:
                self._held.let_go(len(together.bodies))
            self._left(together.asked)

    def _send_apart(self, route: bytes, version: int, together: Together) -> None:
        """One of them cannot be sent: the others are."""
        if len(together.bodies) > 1:
            for one in together.apart():
                self._send(route, version, one)
            return
        self._held.leave(route, together.entered)
        self._held.let_go(1)
        self._left(together.asked)

    def _put(self, route: bytes, frame: bytes, *, large: bool) -> bool:
        """Hand a frame to libzmq; False: it does not take it. A ``large`` one was counted."""
        *pieces, last = cut(frame)
        try:
            self._ears.touch(self._socket)
            send(self._socket, route, NOWAIT | MORE)
            for piece in pieces:
                send(self._socket, piece, NOWAIT | MORE)
            if large:
                tracked = zmq.Frame(last, track=True, copy_threshold=0)
                self._held.sent(route, self._socket.send(tracked, NOWAIT, copy=False, track=True), len(frame))
            else:
                send(self._socket, last, NOWAIT)
        except zmq.ZMQError as error:
            if large:
                self._held.leave(route, len(frame))
            if error.errno not in (errno.EAGAIN, errno.EHOSTUNREACH):
                raise
            return False
        return True

    def look(self, now: float) -> float:
        """Look at who is connected; returns when to come again, on the monotonic clock."""
        return self._crowd.look(now)

    def close(self) -> None:
        """Let nobody in any more."""
        for socket in (self._zap, self._crowd.news, self._socket):
            if socket is not None:
                self._ears.remove(socket)
        self._crowd.close()
        for socket in (self._zap, self._socket):
            if socket is not None:
                socket.close(0)

    # -- frames --------------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        socket, until, now = self._socket, FOREVER, 0.0
        while now < until:  # then others have their turn
            try:
                route = socket.recv(NOWAIT)
            except zmq.Again:
                return
            frame = socket.recv(NOWAIT, copy=False)
            caller = self._callers.get(route) or self._new_caller(route, frame)
            data = frame.bytes if len(frame) <= SMALL else frame.buffer  # large ones are not copied
            self._judge(route, caller, data, rest_of(frame, socket) if frame.more else ())
            if not may_read(socket):  # cheaper than an exception
                return
            now = time.monotonic()
            until = min(until, now + TURN)
        self._ears.touch(socket)

    def _judge(self, route: bytes, caller: Caller, frame: bytes | memoryview, rest: Sequence[bytes]) -> None:
        """Who sent a frame, and may he? Then it is looked at."""
        size = len(frame) + sum(map(len, rest)) if rest else len(frame)
        self._crowd.handed(caller.descriptor, size)
        guest = ANYBODY if self._keys is None else self._keys.guest(caller.key)
        if guest is None:
            self._crowd.throw_out(caller.descriptor, "key not allowed")
        elif len(rest) >= MOST_PIECES:
            self._crowd.throw_out(caller.descriptor, "no frame")
        elif size > SMALL and guest.role not in PEERS and self._crowd.overloaded:
            self._refused["too much at once"] += 1
        else:
            self._hand_on(route, caller.key, guest, b"".join([frame, *rest]) if rest else frame)

    def _new_caller(self, route: bytes, frame: Any) -> Caller:
        """Whose connection a frame came on.

        A route that libzmq has drawn begins with a zero, and never belongs to another connection, so it is remembered.
        One that a client has chosen may belong to another client later.
        """
        key = ""
        if self._keys is not None:
            with contextlib.suppress(zmq.ZMQError):
                key = str(frame.get("User-Id"))
        caller = Caller(key, int(frame.get(zmq.SRCFD)))
        if route[:1] == b"\0":
            if len(self._callers) >= MOST_CALLERS:
                self._callers.clear()
            self._callers[route] = caller
        return caller

    def _hand_on(self, route: bytes, key: str, guest: Guest, frame: bytes | memoryview) -> None:
        try:
            body = unpack(frame, asking=guest.role not in PEERS)
            self._take(Incoming(route, guest, body, frame[4], len(frame), key))
        except BadFrame as error:
            self._refused[str(error)] += 1
        except Exception:
            self._refused["an error of ours"] += 1
            logger.exception("a frame that could not be handled")

    # -- ZAP (ZeroMQ RFC 27) -------------------------------------------------------------------------------------------

    def _check_keys(self) -> None:
        zap = self._zap
        while zap is not None:
            try:
                parts = zap.recv_multipart(NOWAIT)
            except zmq.Again:
                return
            route, request = parts[:2], parts[2:]
            known = self._known(request)
            status, text = (b"200", b"OK") if known else (b"400", b"not on the list")
            number = request[1] if len(request) > 1 else b""
            zap.send_multipart([*route, b"1.0", number, status, text, known.encode(), b""])

    def _known(self, request: list[bytes]) -> str:
        """The public key of who asks to be let in, if it is on the list; else ``""``."""
        if len(request) != 7 or self._keys is None:
            return ""
        version, _, domain, _, _, mechanism, key = request
        if version != b"1.0" or domain != b"raft" or mechanism != b"CURVE" or len(key) != 32:
            return ""
        text: str = zmq.utils.z85.encode(key).decode()
        if self._keys.guest(text) is None:
            self._refused["key not allowed"] += 1
            return ""
        return text
