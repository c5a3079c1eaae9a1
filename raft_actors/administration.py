"""Who belongs to a cluster: forming one, and asking for its configuration."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable

from raft_actors.arguments import PeerRef, name_of, patience_of
from raft_actors.errors import ConfigurationChanged, ConfigurationInProgress, InvalidConfiguration, Timeout
from raft_actors.forwarding import give_order
from raft_actors.futures import refuse_if_forbidden
from raft_actors.orders import FormRequest
from raft_actors.supervisor import handle_of, running
from raft_actors.values import Configuration, configuration_of

__all__ = ["configuration", "set_configuration"]

RETRY_FORMING = 0.05
"""Longest pause, in seconds, before a formation that met another one is tried again."""


def set_configuration(
    peer: PeerRef, peers: Iterable[PeerRef], *, expected: Configuration | int | None = None, timeout: float | None = 5.0
) -> Configuration:
    """Form the cluster of ``peers``, once; with the members that it has already, return its configuration.

    All named peers must be running and unconfigured, and ``peer`` must be one of them; if one refuses, the error names
    it and nothing is stored anywhere. Of two calls at the same time, one forms the cluster.

    Args:
        peer: whom to ask.
        peers: names of all members.
        expected: the configuration, or its index, that the caller believes to be current.
        timeout: seconds; ``None``: for ever.

    Returns:
        The committed configuration.

    Raises:
        InvalidConfiguration: the names cannot be a cluster, or a peer belongs to another one.
        ConfigurationChanged: ``expected`` is not the current configuration.
        ConfigurationInProgress: a peer is being made a member of another new cluster.
        UnknownPeer: a named peer does not run, or did not answer.
        Timeout: the configuration was stored, but not committed in time.
    """
    refuse_if_forbidden()
    wanted = _member_names(peers)
    deadline = time.monotonic() + patience_of(timeout, "timeout")
    while True:
        current = configuration(peer)
        _check_expected(current, expected)
        if current.index:
            return _await_committed(peer, _unchanged(peer, current, wanted), deadline)
        try:
            return _form(peer, wanted, deadline)
        except ConfigurationInProgress:
            if time.monotonic() >= deadline:
                raise
        time.sleep(RETRY_FORMING * random.random())


def _form(peer: PeerRef, wanted: tuple[str, ...], deadline: float) -> Configuration:
    for name in wanted:
        handle_of(name).open_mailbox()
    return give_order(name_of(peer), lambda left, future: FormRequest(wanted, left, future), deadline=deadline)


def _member_names(peers: Iterable[PeerRef]) -> tuple[str, ...]:
    if isinstance(peers, str) or not isinstance(peers, Iterable):
        raise InvalidConfiguration(f"peers must be several names, not {peers!r:.60}")
    wanted = tuple(name_of(peer) for peer in peers)
    if not wanted:
        raise InvalidConfiguration("a cluster needs at least one peer")
    twice = sorted({name for name in wanted if wanted.count(name) > 1})
    if twice:
        raise InvalidConfiguration(f"{', '.join(twice)} named twice")
    return wanted


def _check_expected(current: Configuration, expected: Configuration | int | None) -> None:
    index = expected.index if isinstance(expected, Configuration) else expected
    if index is not None and (isinstance(index, bool) or not isinstance(index, int)):
        raise TypeError(f"expected must be a Configuration or its index, not {expected!r:.60}")
    if index is not None and index != current.index:
        raise ConfigurationChanged(f"expected the configuration of index {index}, the current one has {current.index}")


def _unchanged(peer: PeerRef, current: Configuration, wanted: tuple[str, ...]) -> Configuration:
    if set(current.voters) == set(wanted) and not current.learners:
        return current
    raise InvalidConfiguration(
        f"peer {name_of(peer)!r} belongs to a cluster of {', '.join(current.voters)} already",
        advice="this version cannot change the members of a running cluster; name exactly those that it has",
    )


def _await_committed(peer: PeerRef, current: Configuration, deadline: float) -> Configuration:
    if current.committed:
        return current
    handle = running(peer)
    known = handle.wait_for(lambda state: configuration_of(state).committed or None, deadline)
    if known is None:
        raise Timeout(f"the configuration of peer {handle.name!r} was not committed in time")
    return configuration(peer)


def configuration(peer: PeerRef) -> Configuration:
    """The configuration that counts for ``peer``, committed or not; empty, with index 0, while it has none.

    Raises:
        UnknownPeer: it does not run.
    """
    state = running(peer).state
    return Configuration() if state is None else configuration_of(state)
