"""How our sockets are set, and written to: what they keep, when a connection counts as broken, which keys they show."""

from __future__ import annotations

import errno
from typing import Any

import zmq

from raft_actors.errors import InvalidConfig
from raft_actors.keys import Keyring
from raft_actors.transport.frames import LARGEST
from raft_actors.transport.zeromq.ears import MORE, NOWAIT, send
from raft_actors.transport.zeromq.lanes import PIECE, cut

__all__ = ["CONNECTING_FOR", "calling", "listening", "put", "show_keys"]

CONNECTING_FOR = 3.0
"""Seconds for a connection and its handshake."""
HANDSHAKE_WITHIN = 3000
"""Milliseconds; who does not finish is thrown out."""
MOST_ANSWERS = 8192
"""Answers that wait for one connection: more than it may have requests open (``serving_limits``)."""


def calling(context: zmq.Context[Any], address: str) -> zmq.Socket[Any]:
    """A socket that is to connect to ``address`` once: libzmq must not try again by itself."""
    socket: zmq.Socket[Any] = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.IPV6, int(address.startswith("[")))
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, -1)
    socket.setsockopt(zmq.MAXMSGSIZE, LARGEST)
    socket.setsockopt(zmq.HEARTBEAT_IVL, 1000)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 1500)
    socket.setsockopt(zmq.HEARTBEAT_TTL, 5000)
    socket.setsockopt(zmq.RCVHWM, 0)  # full, and broken, and a heartbeat due: libzmq 4.3.5 would abort
    socket.setsockopt(zmq.CONNECT_TIMEOUT, int(CONNECTING_FOR * 1000))
    return socket


def put(socket: Any, frame: bytes) -> bool:
    """Hand a frame to libzmq; False: it has no room for it now, or nobody to send it to."""
    try:
        if len(frame) <= PIECE:
            send(socket, frame, NOWAIT)
            return True
        *pieces, last = cut(frame)
        for piece in pieces:
            send(socket, piece, NOWAIT | MORE)
        send(socket, last, NOWAIT)
    except zmq.ZMQError as error:
        if error.errno not in (errno.EAGAIN, errno.EHOSTUNREACH):
            raise
        return False
    return True


def listening(context: zmq.Context[Any], keys: Keyring | None) -> zmq.Socket[Any]:
    """A socket that is to listen.

    Raises:
        InvalidConfig: these are no keys.
    """
    socket: zmq.Socket[Any] = context.socket(zmq.ROUTER)
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
    if keys is not None:
        socket.curve_server = True
        try:
            show_keys(socket, keys)
        except zmq.ZMQError as error:
            raise InvalidConfig(f"these are no keys: {error}", fields=("keys",), advice="make keys anew") from error
        socket.zap_domain = b"raft"
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
    return socket


def show_keys(socket: zmq.Socket[Any], keys: Keyring) -> None:
    """Let it show our keys.

    Raises:
        zmq.ZMQError: they are none.
    """
    socket.curve_publickey, socket.curve_secretkey = keys.public.encode(), keys.secret.encode()
