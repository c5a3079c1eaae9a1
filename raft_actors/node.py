"""A node: this process as one that others reach, with an address and keys."""

from __future__ import annotations

import logging
import os
from types import TracebackType
from typing import Self

from raft_actors import names, supervisor
from raft_actors.addresses import check_address, split_address
from raft_actors.errors import AlreadyStarted, Unauthorized
from raft_actors.keys import Keyring
from raft_actors.network import NETWORK, NodeTransport, is_everywhere, is_loopback, need_zmq
from raft_actors.transport.local import LOCAL, LocalTransport

__all__ = ["Node", "open_transport", "start_node"]

logger = logging.getLogger("raft_actors")

STOPPING = 5.0
"""Seconds that each peer has to stop when its node is closed."""


class Node:
    """This process among others; made by ``start_node``. A context manager.

    Attributes:
        address: ``host:port``, where others reach it.
        insecure: whether everybody on this machine may come in.
    """

    def __init__(self, transport: NodeTransport, *, insecure: bool) -> None:
        self._transport = transport
        self.address = transport.address
        self.insecure = insecure

    def __repr__(self) -> str:
        return f"<raft_actors.Node {self.address}>"

    def __enter__(self) -> Self:
        """Return the node itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    @property
    def refused(self) -> dict[str, int]:
        """How many frames, keys and requests were refused, by reason."""
        return dict(self._transport.wire.refused)

    def close(self) -> None:
        """Stop the peers of this node, gracefully, and let nobody in any more. Idempotent."""
        if NETWORK.node is not self._transport:
            return
        for name in names.names():
            handle = names.whereis(name)
            if isinstance(handle, supervisor.Handle) and handle.transport is self._transport:
                supervisor.stop(name, STOPPING)
        NETWORK.node = None
        self._transport.wire.close()


def start_node(address: str, *, keys: str | os.PathLike[str] | None = None, insecure: bool = False) -> Node:
    """Let this process be reached by others: peers started from now on are ``name@host:port`` everywhere.

    Peers that were started before stay peers of this process only.

    Args:
        address: ``host:port``: where this process listens, and how others reach it. Port 0: a free one.
        keys: a folder that ``raft-actors keygen`` has made (``raft_actors.keys``).
        insecure: without keys: let in whoever is on this machine, to do anything but to send pickles. Only with a
            loopback address, and only for peers with ``codec="plain"``.

    Returns:
        The node; ``close()`` stops its peers.

    Raises:
        AlreadyStarted: this process is a node already.
        InvalidConfig: there are no keys in the folder, or nothing can listen at the address.
        InvalidName: the address is none.
        MissingExtra: pyzmq is not installed.
        Unauthorized: without keys, and not on loopback or not said to be insecure.
    """
    check_address(address)
    if NETWORK.node is not None:
        raise AlreadyStarted(
            NETWORK.node.address,
            f"this process is the node {NETWORK.node.address} already",
            advice="close that Node first: a process is one node",
        )
    if keys is None and not (insecure and is_loopback(address)):
        raise Unauthorized(
            f"without keys, {address} would let everybody in",
            advice="give keys (raft-actors keygen makes them), or insecure=True with a loopback address",
        )
    need_zmq()
    if is_everywhere(address):
        logger.warning(
            "%s is an address of no host: others are told that peers are there; give one of this host", address
        )
    transport = open_transport(address, keys)
    NETWORK.node = transport
    return Node(transport, insecure=keys is None)


def open_transport(
    address: str, keys: str | os.PathLike[str] | None = None, local: LocalTransport = LOCAL
) -> NodeTransport:
    """The sockets of a node, listening.

    Raises:
        InvalidConfig: there are no keys in the folder, or nothing can listen at the address.
    """
    from raft_actors.serving import Server
    from raft_actors.transport.zeromq.wire import Wire

    ring = None if keys is None else Keyring(keys)
    if ring is not None:
        ring.warn()
    wire = Wire(ring)
    transport = NodeTransport(wire, address, local)
    server = Server(transport)
    wire.serve(server.take, transport.lost, transport.beat, server.left)
    try:
        bound = wire.listen(*split_address(address))
    except BaseException:
        wire.close()
        raise
    wire.address = transport.address = f"{address.rpartition(':')[0]}:{bound}"
    wire.start()
    return transport
