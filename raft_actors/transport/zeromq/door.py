"""Where other nodes and clients come in: one socket, everybody's key checked, every frame looked at.

::

    connection --CURVE handshake--> ZAP: is this key on the list? --no--> refused
    frame --> which key sent it? what may it do now? --> checked --> handed on

Rule: fail closed. Without keys only this machine comes in, and only if that was said (``insecure``). The ZAP handler
is there before the socket is bound, and the socket demands it (``ZAP_ENFORCE_DOMAIN``): where nobody answers for the
domain, libzmq lets in everybody. Who sent a frame is told by the handshake (``User-Id``), never by the frame.

Everything here runs in the thread of the wire.
"""

from __future__ import annotations

import collections
import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import zmq
import zmq.utils.z85

from raft_actors.errors import InvalidConfig
from raft_actors.keys import Guest
from raft_actors.transport.frames import LARGEST, BadFrame, Body, unpack
from raft_actors.transport.zeromq.lanes import cut

if TYPE_CHECKING:
    from raft_actors.keys import Keyring

__all__ = ["ANYBODY", "Door", "Incoming"]

ANYBODY = Guest("insecure", "*")
"""Who comes to a door without keys: from this machine."""
HANDSHAKE_WITHIN = 3000
"""Milliseconds; who does not finish is thrown out."""


MOST_ROUTES = 4096
TRY_AGAIN = 0.002
"""Seconds after which somebody who takes his answers too slowly is tried again."""


class Incoming(NamedTuple):
    """A frame of somebody.

    Attributes:
        route: where an answer goes.
        guest: who it is, by its key.
        body: what it says.
        version: of the frame.
        size: bytes of it.
    """

    route: bytes
    guest: Guest
    body: Body
    version: int
    size: int


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
        self._late: dict[bytes, collections.deque[tuple[bytes, Callable[[], None] | None]]] = {}
        if keys is not None:
            self._zap = context.socket(zmq.ROUTER)
            self._zap.setsockopt(zmq.LINGER, 0)
            self._zap.bind("inproc://zeromq.zap.01")
            poller.register(self._zap, zmq.POLLIN)
        self._socket = context.socket(zmq.ROUTER)
        self._set_options(self._socket)
        try:
            self._socket.bind(f"tcp://{host}:{port or '*'}")
        except zmq.ZMQError as error:
            raise InvalidConfig(
                f"cannot listen at {host}:{port}: {error}",
                fields=("address",),
                advice="take an address of this machine and a free port",
            ) from error
        endpoint: bytes = self._socket.getsockopt(zmq.LAST_ENDPOINT)
        self.port = int(endpoint.rsplit(b":", 1)[1].rstrip(b"\0"))
        poller.register(self._socket, zmq.POLLIN)

    def _set_options(self, socket: zmq.Socket[Any]) -> None:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, LARGEST)
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_WITHIN)
        socket.setsockopt(zmq.HEARTBEAT_IVL, 500)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 1500)
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
        return (self._socket,) if self._zap is None else (self._zap, self._socket)

    def owns(self, socket: object) -> bool:
        """Whether this socket is ours."""
        return socket is self._socket or socket is self._zap

    @property
    def late(self) -> bool:
        """Whether somebody is too slow to take his answers."""
        return bool(self._late)

    def ready(self, socket: object, take: Callable[[Incoming], None]) -> None:
        """Something has come on one of our sockets; ``take`` is given the frames."""
        if socket is self._zap:
            self._check_keys()
        else:
            self._receive(take)

    def send(self, route: bytes, frame: bytes, sent: Callable[[], None] | None = None) -> None:
        """Answer somebody, and call ``sent`` when it has left; if he has gone, the answer is lost."""
        late = self._late.get(route)
        if late is None and self._put(route, frame):
            if sent is not None:
                sent()
            return
        if late is None:
            late = self._late[route] = collections.deque()
        late.append((frame, sent))

    def turn(self, now: float) -> float:
        """Try again what somebody was too slow to take; returns when to come again, on the monotonic clock."""
        for route, late in list(self._late.items()):
            while late and self._put(route, late[0][0]):
                sent = late.popleft()[1]
                if sent is not None:
                    sent()
            if not late:
                del self._late[route]
        return now + TRY_AGAIN if self._late else float("inf")

    def _put(self, route: bytes, frame: bytes) -> bool:
        """Whether it has left, or never will."""
        try:
            self._socket.send_multipart([route, *cut(frame)], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno == errno.EAGAIN:
                return False
            if error.errno != errno.EHOSTUNREACH:
                raise
            self._refused["an answer that nobody took"] += 1
        return True

    def close(self) -> None:
        """Let nobody in any more."""
        for socket in self.sockets:
            self._poller.unregister(socket)
            socket.close(0)

    # -- frames --------------------------------------------------------------------------------------------------------

    def _receive(self, take: Callable[[Incoming], None]) -> None:
        for _ in range(1000):  # then others have their turn
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            try:
                take(self._checked(parts))
            except BadFrame as error:
                self._refused[str(error)] += 1
            if not int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN:  # cheaper than an exception
                return

    def _checked(self, parts: list[Any]) -> Incoming:
        if len(parts) < 2:
            raise BadFrame("no frame")
        route = parts[0].bytes
        guest = self._guest(route, parts[1])
        if guest is None:
            raise BadFrame("key not allowed")
        frame = parts[1].buffer if len(parts) == 2 else b"".join([part.buffer for part in parts[1:]])
        return Incoming(route, guest, unpack(frame), frame[4], len(frame))

    def _guest(self, route: bytes, frame: Any) -> Guest | None:
        """Who sent a frame, as the list says now."""
        if self._keys is None:
            return ANYBODY
        key = self._key_of.get(route)
        if key is None:
            try:
                key = frame.get("User-Id")
            except zmq.ZMQError:
                return None
            self._remember(route, key)
        return self._keys.guest(key)

    def _remember(self, route: bytes, key: str) -> None:
        """A route that libzmq has drawn begins with a zero, and never belongs to another connection.

        One that a client has chosen may belong to another client later.
        """
        if route[:1] == b"\0":
            if len(self._key_of) >= MOST_ROUTES:
                self._key_of.clear()
            self._key_of[route] = key

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
