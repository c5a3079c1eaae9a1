"""Where members are reached: an address is an attribute of a member, and follows it through the log.

A member that was started again elsewhere speaks from there. The transport, which knows by its key who speaks, tells the
peer; a leader that hears it appends the same configuration with the new address, so that all others learn it, also
those that start later. Nothing is decided by an address, so it needs no joint step: the members stay the same stores.

Differs: the paper's servers never move. Thesis: §4.1 (a configuration counts once it is appended).
"""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.behaviours.appending import append_configuration
from raft_actors.behaviours.membership import is_heard
from raft_actors.behaviours.transition import Outcome
from raft_actors.protocol.configuration import Configuration, Member
from raft_actors.protocol.events import AddressHeard
from raft_actors.protocol.state import Leader, PeerState
from raft_actors.protocol.types import Moment

__all__ = ["follow", "may_be_elsewhere", "moved_before", "on_address_heard"]


def moved_before(state: PeerState) -> dict[str, str]:
    """What a new leader knows of addresses that its configuration does not: at most its own."""
    known = state.configuration.members().get(state.name)
    if known is None or not state.address or known.address == state.address:
        return {}
    return {state.name: state.address}


def may_be_elsewhere(state: PeerState, name: str, moment: Moment) -> bool:
    """Whether somebody who says where a peer is may know better: not of us, and not of a member that is heard.

    A slip in what a caller asks for must not cut off a member that is well. A leader hears its members; for all others
    it is enough that there is a leader.
    """
    if name == state.name:
        return False
    if name not in state.configuration.members():
        return True
    role = state.role
    return not is_heard(state, role, name, moment) if isinstance(role, Leader) else state.leader is None


def on_address_heard(state: PeerState, event: AddressHeard) -> Outcome:
    """A member spoke from elsewhere: a leader writes that down as soon as it can. Others leave it to the leader."""
    role = state.role
    if not isinstance(role, Leader) or not state.configuration.has(event.name, event.incarnation):
        return state, ()
    if state.address_of(event.name) == event.address:
        return state, ()
    return replace(state, role=replace(role, moved={**role.moved, event.name: event.address})), ()


def follow(state: PeerState, role: Leader, moment: Moment) -> Outcome:
    """Append the addresses that members have moved to. The configuration of now is committed, and no change waits."""
    now = state.configuration
    moved = replace(now, voters=_at(now.voters, role.moved), learners=_at(now.learners, role.moved))
    role = replace(role, moved={})
    if _same(now, moved):
        return replace(state, role=role), ()
    return append_configuration(state, role, moved, moment)


def _at(members: tuple[Member, ...], moved: dict[str, str]) -> tuple[Member, ...]:
    return tuple(replace(one, address=moved.get(one.name, one.address)) for one in members)


def _same(one: Configuration, other: Configuration) -> bool:
    return one.voters == other.voters and one.learners == other.learners
