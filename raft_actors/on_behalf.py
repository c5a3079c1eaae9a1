"""What other processes ask of a peer, and wait for: done by the functions that callers of this process use."""

from __future__ import annotations

from typing import Any

from raft_actors import administration, api, leadership, saving
from raft_actors.addresses import full_name
from raft_actors.changing import change_here
from raft_actors.errors import Incompatible
from raft_actors.protocol.changes import AddMember, RemoveMember
from raft_actors.transport.frames import ChangeMembers, FindLeader, Operation, SetConfiguration, TakeSnapshot, Transfer

__all__ = ["done"]


def done(to: str, operation: Operation, patience: float) -> Any:
    """Do what was asked; it may take as long as the other side has patience.

    Args:
        to: the peer.
        operation: what is asked.
        patience: seconds.

    Returns:
        What the function for it returns.

    Raises:
        RaftError: what it raises, or that this operation is none of them.
    """
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
