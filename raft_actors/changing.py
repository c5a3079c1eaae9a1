"""A caller's change of the members, until it is committed, whoever leads meanwhile.

Rule: what is wanted is idempotent, so it is asked for again where the leader was lost and nobody knows the outcome.
From then on no answer tells that it had no effect: it is done, or its outcome stays unknown.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from raft_actors import names
from raft_actors.addresses import Place, place_of
from raft_actors.arguments import PeerRef
from raft_actors.behaviours.transition import is_removed
from raft_actors.errors import (
    ConfigurationChanged,
    ConfigurationInProgress,
    NotApplied,
    OutcomeUnknown,
    RaftError,
    Timeout,
    UnknownPeer,
)
from raft_actors.forwarding import PAUSE, at_the_leader, give_order, living_leader, place_of_member
from raft_actors.futures import refuse_if_forbidden
from raft_actors.orders import ChangeOrder
from raft_actors.protocol.changes import Change, RemoveMember, is_so
from raft_actors.remote import call
from raft_actors.remote_values import status_from
from raft_actors.supervisor import Handle, running
from raft_actors.transport.frames import GetStatus
from raft_actors.values import Configuration, configuration_of

if TYPE_CHECKING:
    from raft_actors.futures import RequestFuture

__all__ = ["change_here", "change_members"]

LOOK = "look at configuration(peer), and call again if the members are not the wanted ones"


def change_members(
    peer: PeerRef,
    change: Change,
    *,
    expected: int | None = None,
    deadline: float,
    places: Iterable[Place] = (),
) -> Configuration:
    """Let the leader change the members, and its successor, if it is lost.

    Args:
        peer: a member, which is asked who leads.
        change: what is wanted.
        expected: index of the configuration that it must start from.
        deadline: on the monotonic clock. A change that has begun goes on after it.
        places: where the members-to-be are.

    Returns:
        The configuration, committed.

    Raises:
        RaftError: as the public functions say.
    """

    def order(left: float, future: RequestFuture[Configuration]) -> ChangeOrder:
        return ChangeOrder(change, expected, left, future, tuple(places))

    refuse_if_forbidden()
    guide, begun = running(peer), False
    while True:
        try:
            return at_the_leader(guide.name, order, deadline=deadline)
        except Timeout as error:
            if time.monotonic() < deadline:
                raise
            raise _late() from error
        except RaftError as error:
            begun = begun or isinstance(error, OutcomeUnknown)
            if not begun:
                raise
            done = _done_before(guide, change, error, deadline)
            if done is not None:
                return done
            if not isinstance(error, OutcomeUnknown | NotApplied | ConfigurationInProgress):
                raise _lost() from error
            if time.monotonic() >= deadline:
                raise _late() from error
        guide = _next_guide(guide)
        time.sleep(PAUSE)


def _done_before(guide: Handle, change: Change, error: RaftError, deadline: float) -> Configuration | None:
    """The configuration, if what was asked for again turns out to be so already."""
    gone = isinstance(error, UnknownPeer) and isinstance(change, RemoveMember) and error.name == change.name
    if not gone and not isinstance(error, ConfigurationChanged):
        return None
    try:
        leader = guide.wait_for(lambda state: living_leader(guide, state), deadline)
        found = leader and _committed_at(guide, leader, deadline)
    except RaftError:
        return None
    if not found:
        return None
    voters, learners = ([place_of(name).name for name in half] for half in (found.voters, found.learners))
    return found if is_so(change, voters=voters, learners=learners) else None


def _committed_at(guide: Handle, leader: str, deadline: float) -> Configuration | None:
    """The configuration of the leader, once it is committed."""
    place = place_of_member(guide, leader)
    if not place.address:
        return running(leader).wait_for(lambda state: _committed(configuration_of(state)), deadline)
    while time.monotonic() < deadline:
        found = _committed(call(place, GetStatus(), status_from, deadline=deadline).configuration)
        if found is not None:
            return found
        time.sleep(PAUSE)
    return None


def change_here(
    peer: str, change: Change, places: Iterable[tuple[str, str]], expected: int | None, patience: float
) -> Configuration:
    """Let this very peer change the members; another one is not looked for.

    Raises:
        RaftError: its answer; ``NotLeader`` if it does not lead.
    """

    def order(left: float, future: RequestFuture[Configuration]) -> ChangeOrder:
        return ChangeOrder(change, expected, left, future, tuple(places))

    return give_order(peer, order, deadline=time.monotonic() + patience)


def _committed(configuration: Configuration) -> Configuration | None:
    return configuration if configuration.committed else None


def _next_guide(guide: Handle) -> Handle:
    """Whom to ask next: the same peer, unless it has ended or is a member no more."""
    state = guide.state
    if state is None or (guide.running and not is_removed(state)):
        return guide
    members = configuration_of(state)
    others = map(names.whereis, (place_of(name).name for name in (*members.voters, *members.learners)))
    return next((one for one in others if isinstance(one, Handle) and one.running and one is not guide), guide)


def _late() -> Timeout:
    return Timeout("the change of the configuration is not committed in time, and goes on", advice=LOOK)


def _lost() -> OutcomeUnknown:
    return OutcomeUnknown("the leader was lost while it changed the configuration", advice=LOOK)
