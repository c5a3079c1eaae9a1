"""Who belongs to a cluster: forming one, asking for its configuration, and changing it while it runs."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable

from raft_actors.addresses import Place, place_of
from raft_actors.arguments import PeerRef, member_of, name_of, patience_of
from raft_actors.changing import change_members
from raft_actors.errors import ConfigurationChanged, ConfigurationInProgress, InvalidConfiguration
from raft_actors.forwarding import give_order
from raft_actors.futures import RequestFuture, refuse_if_forbidden
from raft_actors.network import NETWORK, elsewhere
from raft_actors.orders import FormRequest
from raft_actors.protocol.changes import AddMember, RemoveMember, SetMembers
from raft_actors.remote import LOOKING, call
from raft_actors.remote_values import configuration_from, status_from
from raft_actors.supervisor import handle_of, running
from raft_actors.transport import frames
from raft_actors.values import Configuration, configuration_of

__all__ = ["add_peer", "configuration", "remove_peer", "set_configuration"]

RETRY_FORMING = 0.05
"""Longest pause, in seconds, before a formation that met another one is tried again."""


def set_configuration(
    peer: PeerRef, peers: Iterable[PeerRef], *, expected: Configuration | int | None = None, timeout: float | None = 5.0
) -> Configuration:
    """Form the cluster of ``peers``, or change the members of a running one to exactly these.

    Peers without a cluster form one: all named peers must be running and unconfigured, and ``peer`` must be one of
    them; if one refuses, the error names it and nothing is stored anywhere. Of two calls at the same time, one forms
    the cluster.

    Of a cluster, ``peer`` may be any member. It goes from any set of voters to any other, in safe steps: newcomers
    catch up as learners first, and decisions need a majority of both sets in between. The members that it has already:
    nothing is done. Learners are no members of the new configuration, unless they are named and become voters.

    Args:
        peer: whom to ask.
        peers: names of all voters.
        expected: the configuration, or its index, that the caller believes to be current.
        timeout: seconds; ``None``: for ever. A change that has begun goes on afterwards: ``configuration`` shows it.

    Returns:
        The committed configuration.

    Raises:
        InvalidConfiguration: the names cannot be a cluster, or a peer belongs to another one.
        ConfigurationChanged: ``expected`` is not the current configuration.
        ConfigurationInProgress: another change is under way, or a peer is being made a member of another new cluster.
        Incompatible: a new peer belongs to another cluster.
        UnknownPeer: a new peer does not run, or did not answer; or a majority of the new voters does not.
        ElectionInProgress: nobody leads the cluster.
        NotInConfiguration: ``peer`` is a member of its cluster no more.
        Timeout: it was not committed in time, or a newcomer was not heard for long.
        OutcomeUnknown: the leader was lost, and something else was changed meanwhile.
    """
    refuse_if_forbidden()
    places = _member_places(peers)
    index = _index_of(expected)
    deadline = time.monotonic() + patience_of(timeout, "timeout")
    there = elsewhere(peer)
    if there is not None:
        operation = frames.SetConfiguration(tuple(places), index)
        return call(there, operation, configuration_from, deadline=deadline)
    current = configuration(peer)
    if current.index:
        known = _short(current.voters + current.learners)
        _check_running(place for place in places if place.name not in known)
        wanted = SetMembers(tuple(place.name for place in places))
        return change_members(peer, wanted, expected=index, deadline=deadline, places=places)
    if index:
        raise ConfigurationChanged(f"expected the configuration of index {index}, the current one has 0")
    return _form(peer, places, deadline)


def add_peer(peer: PeerRef, new: PeerRef, *, learner: bool = False, timeout: float | None = 30.0) -> Configuration:
    """Make ``new`` a member: it catches up as a learner, then it becomes a voter.

    A member that lost its disk is added again as a new one, and takes the place of what it was.

    Args:
        peer: any member.
        new: a running peer without a cluster, or a learner that is to be a voter.
        learner: whether it stays a learner: it receives everything, may be read, and counts for nothing.
        timeout: seconds; ``None``: for ever. A change that has begun goes on afterwards: ``configuration`` shows it.

    Returns:
        The committed configuration.

    Raises:
        InvalidConfiguration: it is a voter, and cannot be made a learner.
        ConfigurationInProgress: another change is under way.
        Incompatible: it belongs to another cluster.
        UnknownPeer: it does not run, or did not answer.
        RaftError: as for ``set_configuration``.
    """
    deadline = time.monotonic() + patience_of(timeout, "timeout")
    place, there = member_of(new), elsewhere(peer)
    change = AddMember(place.name, learner)
    if there is not None:
        operation = frames.ChangeMembers(change, (place,))
        return call(there, operation, configuration_from, deadline=deadline)
    _check_running((place,))
    return change_members(peer, change, deadline=deadline, places=(place,))


def remove_peer(peer: PeerRef, old: PeerRef, *, timeout: float | None = 10.0) -> Configuration:
    """Make ``old`` a member no more, running or not. It may be the leader, which hands over then.

    It goes on running until it is stopped, and answers ``NotInConfiguration``.

    Args:
        peer: any member.
        old: the member.
        timeout: seconds; ``None``: for ever. A change that has begun goes on afterwards: ``configuration`` shows it.

    Returns:
        The committed configuration.

    Raises:
        InvalidConfiguration: it is the last voter.
        ConfigurationInProgress: another change is under way.
        UnknownPeer: it is no member.
        RaftError: as for ``set_configuration``.
    """
    deadline = time.monotonic() + patience_of(timeout, "timeout")
    change, there = RemoveMember(member_of(old).name), elsewhere(peer)
    if there is not None:
        return call(there, frames.ChangeMembers(change), configuration_from, deadline=deadline)
    return change_members(peer, change, deadline=deadline)


def configuration(peer: PeerRef, *, timeout: float | None = LOOKING) -> Configuration:
    """The configuration that counts for ``peer``, committed or not; empty, with index 0, while it has none.

    Args:
        peer: whom to ask.
        timeout: seconds for the answer of a peer elsewhere; ``None``: for ever.

    Raises:
        UnknownPeer: it does not run.
        Timeout: it did not answer in time.
    """
    deadline = time.monotonic() + patience_of(timeout, "timeout")
    there = elsewhere(peer)
    if there is not None:
        return call(there, frames.GetStatus(), status_from, deadline=deadline, spare=0.0).configuration
    state = running(peer).state
    return Configuration() if state is None else configuration_of(state)


def _form(peer: PeerRef, places: tuple[Place, ...], deadline: float) -> Configuration:
    """Form the cluster; if another call is faster, be content with the same members, and never change them."""
    _check_running(places)
    wanted = tuple(place.name for place in places)

    def order(left: float, future: RequestFuture[Configuration]) -> FormRequest:
        return FormRequest(wanted, left, future, places)

    while True:
        try:
            return give_order(name_of(peer), order, deadline=deadline)
        except ConfigurationInProgress:
            if time.monotonic() >= deadline:
                raise
        time.sleep(RETRY_FORMING * random.random())
        current = configuration(peer)
        if current.index and _short(current.voters) == set(wanted):
            return change_members(peer, SetMembers(wanted), deadline=deadline)
        if current.index:
            raise InvalidConfiguration(
                f"peer {name_of(peer)!r} has just been made a member of a cluster of {', '.join(current.voters)}",
                advice="look at configuration(peer), and call again to change its members",
            )


def _check_running(wanted: Iterable[Place]) -> None:
    """Refuse at once what would only be refused after a timeout; who is elsewhere is asked by the peers."""
    node = NETWORK.node
    for place in wanted:
        if place.address in ("", "" if node is None else node.address):
            handle_of(place.name).open_mailbox()


def _short(names: Iterable[str]) -> set[str]:
    return {place_of(name).name for name in names}


def _member_places(peers: Iterable[PeerRef]) -> tuple[Place, ...]:
    if isinstance(peers, str) or not isinstance(peers, Iterable):
        raise InvalidConfiguration(f"peers must be several names, not {peers!r:.60}")
    places = tuple(member_of(peer) for peer in peers)
    wanted = [place.name for place in places]
    if not wanted:
        raise InvalidConfiguration("a cluster needs at least one peer")
    twice = sorted({name for name in wanted if wanted.count(name) > 1})
    if twice:
        raise InvalidConfiguration(f"{', '.join(twice)} named twice")
    return places


def _index_of(expected: Configuration | int | None) -> int | None:
    index = expected.index if isinstance(expected, Configuration) else expected
    if index is not None and (isinstance(index, bool) or not isinstance(index, int)):
        raise TypeError(f"expected must be a Configuration or its index, not {expected!r:.60}")
    return index
