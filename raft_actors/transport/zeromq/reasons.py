"""Why there is no connection to a node, or no answer of it, in words that help whoever asked."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import zmq

from raft_actors.addresses import full_name, split_address
from raft_actors.errors import RaftError, Timeout, Unauthorized, UnknownPeer

if TYPE_CHECKING:
    from raft_actors.keys import Keyring

__all__ = ["EVENTS", "broken", "closed", "no_handshake", "nobody", "of_event", "silent", "too_late", "unheard"]

EVENTS = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CLOSED
)
"""With which libzmq tells that a connection has ended, or has not come about."""


def of_event(kind: int, peer: str, address: str, keys: Keyring | None, *, connecting: bool) -> RaftError | None:
    """What an event of libzmq means for a connection; ``None``: nothing."""
    if kind == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        return Unauthorized(f"the node at {address} does not let this key in")
    if kind == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
        return no_handshake(address, keys)
    if kind == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL or (kind == zmq.EVENT_DISCONNECTED and connecting):
        return unheard(peer, address, keys)
    if kind == zmq.EVENT_DISCONNECTED:
        return broken(peer, address)
    if kind == zmq.EVENT_CLOSED and connecting:
        return nobody(peer, f"no node listens at {address}")
    return None


def nobody(peer: str, text: str) -> UnknownPeer:
    """Nobody is there."""
    return UnknownPeer(peer, text, advice="check the address, and whether the node runs")


def silent(peer: str, address: str) -> UnknownPeer:
    """Nothing came of a try to connect; libzmq does not tell if it is for want of an address."""
    host, text = split_address(address)[0], f"no node answers at {address}"
    try:
        ipaddress.ip_address(host)
    except ValueError:
        advice = f"check whether {host!r} has an address here, whether the port is right, and whether the node runs"
        return UnknownPeer(peer, text, advice=advice)
    return nobody(peer, text)


def broken(peer: str, address: str) -> UnknownPeer:
    """It was there."""
    return nobody(peer, f"the connection to {address} broke")


def no_handshake(address: str, keys: Keyring | None) -> Unauthorized:
    """One side has keys, and the other has none."""
    how = "with keys" if keys is not None else "without keys"
    return Unauthorized(
        f"the node at {address} and this process do not agree on their keys (this one came {how})",
        advice="give both the keys of the cluster, or both none",
    )


def unheard(peer: str, address: str, keys: Keyring | None) -> UnknownPeer:
    """A node that dies in the middle of a handshake looks the same as one that has other keys."""
    advice = "check whether the node runs, and whether both have the keys of the same cluster"
    if keys is None:
        advice = "this process came without keys: give the folder of keys, to Client or to start_node"
    elif not keys.knows_cluster:
        advice += "; a guest needs the public keys of the cluster in cluster.key"
    return UnknownPeer(peer, f"the node at {address} broke the handshake off", advice=advice)


def too_late(peer: str, address: str, *, sent: bool) -> RaftError:
    """The time of a request is over; ``sent``: it has left, and something may have come of it."""
    if sent:
        return Timeout(f"peer {full_name(peer, address)!r} gave no answer before the deadline of the request")
    return silent(peer, address)


def closed(name: str) -> UnknownPeer:
    """Our own side is."""
    return UnknownPeer(name, "the node of this process is closed", advice="start it with start_node")
