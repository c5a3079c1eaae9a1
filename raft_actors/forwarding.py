"""Administrative calls may be made at any member: they are run by the leader, wherever it is.

Rule: a request is given to the next leader only after an answer that says that it had no effect at the last one: that
peer did not lead, or had stopped, restarted or failed before it looked at the request. Every other answer is final.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from raft_actors import names
from raft_actors.addresses import Place, place_of
from raft_actors.arguments import PeerRef
from raft_actors.behaviours.transition import is_removed
from raft_actors.errors import (
    ElectionInProgress,
    NotInConfiguration,
    NotLeader,
    PeerFailed,
    RaftError,
    Refused,
    Restarting,
    UnknownPeer,
)
from raft_actors.formation_errors import not_configured
from raft_actors.futures import RequestFuture, refuse_if_forbidden
from raft_actors.orders import ChangeOrder, TransferOrder
from raft_actors.remote import call
from raft_actors.remote_values import configuration_from, name_from
from raft_actors.supervisor import Handle, handle_of, running
from raft_actors.transport.frames import ChangeMembers, Transfer

if TYPE_CHECKING:
    from raft_actors.orders import CallerOrder
    from raft_actors.protocol.state import PeerState

__all__ = ["ANSWERING", "PAUSE", "at_the_leader", "give_order", "living_leader", "place_of_member"]

Answer = TypeVar("Answer")

ANSWERING = 0.25
"""Seconds beyond the deadline that a peer gets to tell why nothing came of it in time."""
PAUSE = 0.005
"""Seconds after which a leader is looked for again where the one just asked was none."""


def at_the_leader(
    peer: PeerRef, order: Callable[[float, RequestFuture[Answer]], CallerOrder], *, deadline: float
) -> Answer:
    """Let the leader carry out an order, and the next one if it certainly had no effect, until ``deadline``.

    Args:
        peer: a member, which is asked who leads.
        order: makes the order, from the seconds left for it and the future to answer.
        deadline: on the monotonic clock.

    Raises:
        ElectionInProgress: there was no leader to carry it out before the deadline.
        NotConfigured: the peer belongs to no cluster.
        NotInConfiguration: it is a member of its cluster no more.
        UnknownPeer: it does not run.
        RaftError: what the leader answered.
    """
    refuse_if_forbidden()
    handle = running(peer)
    refusal: RaftError | None = None
    while True:
        leader = handle.wait_for(lambda state: living_leader(handle, state), deadline)
        late = time.monotonic() >= deadline
        if leader is None or (late and refusal is not None):
            raise ElectionInProgress(f"peer {handle.name!r} found no leader in time to carry this out") from refusal
        try:
            place = place_of_member(handle, leader)
            if place.address:
                return order_elsewhere(place, order, deadline=deadline)
            return give_order(leader, order, deadline=deadline)
        except RaftError as error:
            if not _had_no_effect(error, leader):
                raise
            refusal = error
        time.sleep(PAUSE)


def give_order(name: str, order: Callable[[float, RequestFuture[Answer]], CallerOrder], *, deadline: float) -> Answer:
    """Let peer ``name`` carry out an order, and wait for its answer.

    Raises:
        RaftError: the answer, or that it does not run.
    """
    future: RequestFuture[Answer] = RequestFuture()
    future.deadline = deadline + ANSWERING
    mailbox = handle_of(name).open_mailbox()
    if not mailbox.post(order(max(deadline - time.monotonic(), 0.001), future)):
        raise mailbox.refusal()
    return future.get()


def place_of_member(handle: Handle, name: str) -> Place:
    """Where a member is, as the peer of ``handle`` knows it; without an address if it must be in this process."""
    address = "" if name == handle.name else handle.book.find(name)
    return Place(name, "" if address == handle.address else address)


def order_elsewhere(
    place: Place, order: Callable[[float, RequestFuture[Answer]], CallerOrder], *, deadline: float
) -> Answer:
    """Let a peer of another process carry out an order, and wait for its answer.

    Raises:
        RaftError: the answer, or that it was not reached.
    """
    future: RequestFuture[Answer] = RequestFuture()
    wanted = order(max(deadline - time.monotonic(), 0.001), future)
    decode: Any = name_from
    match wanted:
        case ChangeOrder():
            operation: Any = ChangeMembers(wanted.change, wanted.places, wanted.expected, here=True)
            decode = configuration_from
        case TransferOrder():
            operation = Transfer(wanted.target, here=True)
        case _:
            raise Refused(f"{type(wanted).__name__} is for a peer of this process only")
    answer: Answer = call(place, operation, decode, deadline=deadline)
    return answer


def _had_no_effect(error: RaftError, leader: str) -> bool:
    """Whether ``leader`` has certainly not begun with it."""
    if isinstance(error, UnknownPeer):
        return place_of(error.name).name == leader  # it has stopped; another name is about what was ordered
    return isinstance(error, NotLeader | Restarting | PeerFailed)


def living_leader(handle: Handle, state: PeerState) -> str | None:
    """Who leads, as the peer of ``handle`` knows it, unless that one is known to be dead.

    Raises:
        NotConfigured: it belongs to no cluster.
        NotInConfiguration: it knows that it is a member of its cluster no more.
    """
    if not state.cluster:
        raise not_configured(state)
    if is_removed(state):
        raise NotInConfiguration(f"peer {handle.name!r} is a member of its cluster no more")
    if state.leader is None:
        return None
    if place_of_member(handle, state.leader).address:
        return state.leader  # were the connection to it lost, it would not be known as the leader
    other = names.whereis(state.leader)
    return state.leader if isinstance(other, Handle) and other.running else None
