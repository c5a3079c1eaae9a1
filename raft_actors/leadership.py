"""Who leads: a caller may want another peer to."""

from __future__ import annotations

import time

from raft_actors.arguments import PeerRef, member_of, patience_of
from raft_actors.forwarding import at_the_leader, give_order
from raft_actors.network import elsewhere
from raft_actors.orders import TransferOrder
from raft_actors.remote import call
from raft_actors.remote_values import name_from
from raft_actors.transport.frames import Transfer

__all__ = ["transfer_here", "transfer_leadership"]


def transfer_leadership(peer: PeerRef, to: PeerRef | None = None, *, timeout: float | None = 5.0) -> str:
    """Let another peer lead: it is brought up to date, and elected without an election timeout.

    Until it leads, for some milliseconds, writes are turned away with ``ElectionInProgress``. If it cannot be elected,
    the old leader leads on. Where peers have priorities, leadership soon drifts back to the highest.

    Args:
        peer: any member.
        to: who is to lead; ``None``: the most caught-up voter.
        timeout: seconds; ``None``: for ever. A peer that was caught up gets an election timeout at most.

    Returns:
        Who leads now.

    Raises:
        Refused: ``to`` leads already, or there is no other voter.
        InvalidConfiguration: ``to`` is a learner.
        UnknownPeer: ``to`` is no member, or does not answer the leader; ``peer`` does not run.
        ElectionInProgress: nobody leads, or leadership is being handed over already.
        NotApplied: ``to`` has lost its state, or did not catch up in time; the old leader leads on.
        OutcomeUnknown: it was told to stand and was not elected in time, or another one was; ``Timeout``, if it is not
            known in time who leads now.
        NotConfigured: the peer belongs to no cluster.
    """
    target = None if to is None else member_of(to).name
    deadline = time.monotonic() + patience_of(timeout, "timeout")
    place = elsewhere(peer)
    if place is not None:
        return call(place, Transfer(target), name_from, deadline=deadline) or ""
    return at_the_leader(peer, lambda left, future: TransferOrder(target, left, future), deadline=deadline)


def transfer_here(peer: str, target: str | None, patience: float) -> str:
    """Let this very peer hand over; another one is not looked for.

    Raises:
        RaftError: its answer; ``NotLeader`` if it does not lead.
    """
    deadline = time.monotonic() + patience
    return give_order(peer, lambda left, future: TransferOrder(target, left, future), deadline=deadline)
