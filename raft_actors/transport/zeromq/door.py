"""Where other nodes and clients come in: one socket, everybody's key checked, every frame looked at.

::

    connection --CURVE handshake--> ZAP: is this key on the list? --no--> refused
    frame --> which key sent it? what may it do now? --> checked --> handed on

Rule: fail closed. Without keys only this machine comes in, and only if that was said (``insecure``). The ZAP handler
is there before the socket is bound, and the socket demands it (``ZAP_ENFORCE_DOMAIN``): where nobody answers for the
domain, libzmq lets in everybody. Who sent a frame is told by the handshake (``User-Id``), never by the frame. Who is
not on the list any more, or speaks another language, loses the connection.

Everything here runs in the thread of the wire.
"""

from __future__ import annotations

import collections
import errno
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import zmq
import zmq.utils.z85

from raft_actors.errors import InvalidConfig
from raft_actors.keys import Guest
from raft_actors.transport.frames import LARGEST, BadFrame, Body, unpack
from raft_actors.transport.zeromq.crowd import TRACKED, Crowd, Held
from raft_actors.transport.zeromq.lanes import PART, cut

if TYPE_CHECKING:
    from raft_actors.keys import Keyring

__all__ = ["ANYBODY", "Door", "Incoming"]

logger = logging.getLogger("raft_actors")

ANYBODY = Guest("insecure", "*")
"""Who comes to a door without keys: from this machine."""
MAY_SAY_ALL = ("peer", "insecure")
"""Roles that may say more than ``Hello`` and ``Ask``."""
MOST_ANSWERS = 8192
"""Answers that wait for one connection: more than it may have requests open (``serving_limits``)."""
TURN = 0.005
"""Seconds after which what is to be sent has its turn, whatever still comes."""
SMALL = 64 << 10
"""Bytes of a frame that is always looked at."""
HANDSHAKE_WITHIN = 3000
"""Milliseconds; who does not finish is thrown out."""
MOST_ROUTES = 4096
"""Connections whose keys are remembered."""
MOST_PIECES = LARGEST // PART + 3
"""Pieces of a message: the route, and a frame that was cut."""


class Incoming(NamedTuple):
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
        poller: of the wire.
        refused: counts what is refused, by reason.

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
        poller: zmq.Poller,
        refused: collections.Counter[str],
    ) -> None:
        self._keys, self._poller, self._refused = keys, poller, refused
        self._zap: zmq.Socket[Any] | None = None
        self._key_of: dict[bytes, str] = {}
        if keys is not None:
            self._zap = context.socket(zmq.ROUTER)
            self._zap.setsockopt(zmq.LINGER, 0)
            self._zap.bind("inproc://zeromq.zap.01")
            poller.register(self._zap, zmq.POLLIN)
        self._socket = context.socket(zmq.ROUTER)
        try:
            self._set_options(self._socket)
        except zmq.ZMQError as error:
            raise InvalidConfig(f"these are no keys: {error}", fields=("keys",), advice="make keys anew") from error
        self._held = Held()
        self._crowd = Crowd(context, self._socket, refused)
        try:
            self._socket.bind(f"tcp://{host}:{port or '*'}")
        except zmq.ZMQError as error:
            raise InvalidConfig(
                f"cannot listen at {host}:{port}: {error}",
                fields=("address",),
                advice="take an address of this machine and a free port",
            ) from error
        endpoint: bytes = self._socket.getsockopt(zmq.LAST_ENDPOINT)
        self.port = self._crowd.port = int(endpoint.rsplit(b":", 1)[1].rstrip(b"\0"))
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._crowd.news, zmq.POLLIN)

    def _set_options(self, socket: zmq.Socket[Any]) -> None:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, LARGEST)
        socket.setsockopt(zmq.SNDHWM, MOST_ANSWERS)
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_WITHIN)
        # No heartbeats from here: libzmq 4.3.5 aborts if one is due for a connection that broke while our queue was
        # full. Those who connect send them, and say how long they may be silent; of others the kernel notices it.
        for option, value in ((zmq.TCP_KEEPALIVE, 1), (zmq.TCP_KEEPALIVE_IDLE, 10), (zmq.TCP_KEEPALIVE_INTVL, 5)):
            socket.setsockopt(option, value)
        socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 3)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.BACKLOG, 1024)
        socket.setsockopt(zmq.IPV6, 1)
        if self._keys is not None:
            socket.curve_server = True
            socket.curve_publickey, socket.curve_secretkey = self._keys.public.encode(), self._keys.secret.encode()
            socket.zap_domain = b"raft"
            socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    @property
    def sockets(self) -> tuple[Any, ...]:
        """Those to look at."""
        always = (self._crowd.news, self._socket)
        return always if self._zap is None else (self._zap, *always)

    def owns(self, socket: object) -> bool:
        """Whether this socket is ours."""
        return socket is self._socket or socket is self._zap or socket is self._crowd.news

    def ready(self, socket: object, take: Callable[[Incoming], None]) -> None:
        """Something has come on one of our sockets; ``take`` is given the frames."""
        if socket is self._zap:
            self._check_keys()
        elif socket is self._crowd.news:
            self._crowd.ready()
        else:
            self._receive(take)

    def send(self, route: bytes, frame: bytes, sent: Callable[[], None] | None = None) -> None:
        """Answer somebody, and call ``sent`` then; if he has gone, or takes nothing, the answer is lost."""
        if len(frame) >= TRACKED and not self._held.room(route, len(frame)):
            self._refused["an answer that nobody took"] += 1
        else:
            self._put(route, frame)
        if sent is not None:
            sent()

    def _put(self, route: bytes, frame: bytes) -> None:
        *pieces, last = cut(frame)
        try:
            self._socket.send(route, zmq.NOBLOCK | zmq.SNDMORE)
            for piece in pieces:
                self._socket.send(piece, zmq.NOBLOCK | zmq.SNDMORE)
            if len(frame) >= TRACKED:
                tracked = zmq.Frame(last, track=True, copy_threshold=0)
                self._held.add(route, self._socket.send(tracked, zmq.NOBLOCK, copy=False, track=True), len(frame))
            else:
                self._socket.send(last, zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (errno.EAGAIN, errno.EHOSTUNREACH):
                raise
            self._refused["an answer that nobody took"] += 1

    def look(self, now: float) -> float:
        """Look at who is connected; returns when to come again, on the monotonic clock."""
        return self._crowd.look(now)

    def close(self) -> None:
        """Let nobody in any more."""
        for socket in self.sockets:
            if socket in self._poller:
                self._poller.unregister(socket)
        self._crowd.close()
        for socket in self.sockets:
            socket.close(0)

    # -- frames --------------------------------------------------------------------------------------------------------

    def _receive(self, take: Callable[[Incoming], None]) -> None:
        self._crowd.ready()
        until = time.monotonic() + TURN
        while time.monotonic() < until:  # then others have their turn
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            came_on = parts[-1].get(zmq.SRCFD)
            self._crowd.handed(came_on, sum(map(len, parts[1:])))
            key = self._key(parts[0].bytes, parts[-1])
            guest = ANYBODY if self._keys is None else self._keys.guest(key)
            if guest is None:
                self._crowd.throw_out(came_on, "key not allowed")
            elif not 2 <= len(parts) <= MOST_PIECES:
                self._crowd.throw_out(came_on, "no frame")
            elif len(parts[1]) > SMALL and guest.role not in MAY_SAY_ALL and self._crowd.overloaded:
                self._refused["too much at once"] += 1
            else:
                frame = parts[1].buffer if len(parts) == 2 else memoryview(b"".join([one.buffer for one in parts[1:]]))
                self._hand_on(parts[0].bytes, key, guest, frame, take)
            if not int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN:  # cheaper than an exception
                return

    def _hand_on(
        self, route: bytes, key: str, guest: Guest, frame: memoryview, take: Callable[[Incoming], None]
    ) -> None:
        try:
            body = unpack(frame, asking=guest.role not in MAY_SAY_ALL)
            take(Incoming(route, guest, body, frame[4], len(frame), key))
        except BadFrame as error:
            self._refused[str(error)] += 1
        except Exception:
            self._refused["an error of ours"] += 1
            logger.exception("a frame that could not be handled")

    def _key(self, route: bytes, frame: Any) -> str:
        """Whose connection a frame came on, ``""`` without keys.

        A route that libzmq has drawn begins with a zero, and never belongs to another connection. One that a client has
        chosen may belong to another client later.
        """
        if self._keys is None:
            return ""
        key = self._key_of.get(route)
        if key is None:
            try:
                key = str(frame.get("User-Id"))
            except zmq.ZMQError:
                return ""
            if route[:1] == b"\0":
                if len(self._key_of) >= MOST_ROUTES:
                    self._key_of.clear()
                self._key_of[route] = key
        return key

    # -- ZAP (ZeroMQ RFC 27) -------------------------------------------------------------------------------------------

    def _check_keys(self) -> None:
        zap = self._zap
        while zap is not None:
            try:
                parts = zap.recv_multipart(zmq.NOBLOCK)
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
