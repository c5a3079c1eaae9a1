"""The peers that a client knows: who leads them, who can answer, and what is the matter if nobody can.

Of peers of this process the leader is looked up in what they publish, so that the first try is rarely wrong. Of those
elsewhere nothing is known but what they answer: one is tried after the other, until one takes the request or names the
leader; and whoever took one is asked who the members are, so that the client goes on when those it was given have gone.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pykka

from raft_actors import names
from raft_actors.addresses import Place, full_name, place_of, shown
from raft_actors.arguments import PeerRef, name_of
from raft_actors.behaviours.transition import is_removed
from raft_actors.codec import CheckedCodec, resolve
from raft_actors.errors import ElectionInProgress, NotApplied, NotLeader, RaftError, UnknownPeer
from raft_actors.formation_errors import not_configured
from raft_actors.forwarding import place_of_member
from raft_actors.futures import RequestFuture
from raft_actors.network import NETWORK, elsewhere
from raft_actors.remote import LOOKING, RemoteMailbox, ask
from raft_actors.remote_values import name_from, status_from
from raft_actors.supervisor import Handle, handle_of
from raft_actors.transport.frames import FindLeader, GetStatus

if TYPE_CHECKING:
    from raft_actors.intake import Mailbox
    from raft_actors.values import Status

__all__ = ["ClientPeers"]

ROUND = 1.0
"""Seconds for which one peer elsewhere is asked who leads, before the next one is."""


class ClientPeers:
    """Some peers, by name.

    Args:
        peers: their names, or one name; ``ActorRef``s too. Not all of them need to run.
        keys: a folder of keys, with which those elsewhere are spoken to.

    Attributes:
        leader: who led when it was last looked for, or is believed to; ``None``: look again.

    Raises:
        InvalidName: nobody can have this name.
        Unauthorized: a peer is on another machine, and there are no keys.
        MissingExtra: a peer is in another process, and pyzmq is not installed.
        ValueError: no peers are given.
    """

    def __init__(self, peers: Iterable[PeerRef] | PeerRef, keys: str | os.PathLike[str] | None = None) -> None:
        several = [peers] if isinstance(peers, str | pykka.ActorRef) else list(peers)
        self.names = tuple(dict.fromkeys(_name(peer) for peer in several))
        if not self.names:
            raise ValueError("a Client needs the name of at least one peer")
        self.leader: Handle | RemoteMailbox | None = None
        self._keys = keys
        self._asked: Mailbox | RemoteMailbox | None = None
        self._anybody: RemoteMailbox | None = None
        self._hint: str | None = None
        self._turn = 0
        self._members: tuple[str, ...] = ()
        for place in self._elsewhere():
            NETWORK.wire_to(place.address, keys)

    def __str__(self) -> str:
        return ", ".join(self.names)

    def begin_anew(self) -> None:
        """In a forked child: what leads to the leader is the parent's."""
        self.leader = self._hint = self._asked = self._anybody = None

    def mailbox(self) -> Mailbox | RemoteMailbox:
        """That of the leader, as far as it is known.

        Raises:
            RaftError: nobody leads; the error says what is the matter.
        """
        found = self.leader
        if found is None or (isinstance(found, Handle) and found.mailbox is None):
            self._asked = None
            found = self.leader = self._look()
        self._asked = found.open_mailbox() if isinstance(found, Handle) else found
        return self._asked

    def any_mailbox(self) -> Mailbox | RemoteMailbox:
        """That of any peer that runs.

        Raises:
            RaftError: none does.
        """
        for handle in self._handles():
            if handle.mailbox is not None:
                return handle.open_mailbox()
        others = self._elsewhere()
        if not others:
            raise self._why_no_leader()
        if self._anybody is None:
            self._anybody = self._remote(others[self._turn % len(others)])
        return self._anybody

    def pass_over(self, asked: Mailbox | RemoteMailbox | None, error: RaftError) -> None:
        """Look for another one, among the members that this one knew too: the peers given may be none any more.

        Args:
            asked: whom ``mailbox`` or ``any_mailbox`` named; ``None``: nobody. One that was passed over already says
                nothing of the next.
            error: what he answered.
        """
        if asked is not None and asked is self._anybody:
            self._anybody = None
            self._turn += 1
        if asked is not self._asked:
            return
        leader, self.leader, self._asked = self.leader, None, None
        self._turn += 1
        named = error.leader if isinstance(error, NotLeader) else None
        self._hint = named if named and "@" in named else None
        if isinstance(leader, Handle) and leader.state is not None:
            state = leader.state
            self._members = tuple(shown(state, name) for name in state.configuration.members())

    def find_leader(self, timeout: float | None = None) -> str:
        """The full name of who leads.

        Raises:
            RaftError: nobody; the error says what is the matter.
        """
        found = self._leader_here()
        if found is not None:
            return found.shown if isinstance(found, Handle) else full_name(*found)
        others = self._elsewhere()
        if not others:
            raise self._why_no_leader()
        self._turn += 1
        return self._ask_for_leader(others[self._turn % len(others)], timeout)

    def all_failed(self) -> bool:
        """Whether every peer has stopped itself."""
        handles = self._handles()
        return len(handles) == len(self.names) and all(handle.failed for handle in handles)

    def codec(self) -> CheckedCodec:
        """The codec of the cluster; the default one while no peer is there to tell."""
        found = self.leader
        if found is None:
            found = next(iter(self._handles()), None)
        if found is None:
            others = self._elsewhere()
            found = self._remote(others[0]) if others else None
        return _default_codec() if found is None else found.codec

    def status(self, timeout: float | None) -> dict[str, Status | RaftError]:
        """What each peer last published, by name; for one that cannot be asked, the error that says why."""
        deadline = time.monotonic() + (LOOKING if timeout is None else timeout)
        asked: dict[str, Status | RaftError | RequestFuture[Status]] = {}
        for name in self.names:
            try:
                place = elsewhere(name)
                asked[name] = handle_of(name_of(name)).status() if place is None else self._status_of(place, deadline)
            except RaftError as error:
                asked[name] = error
        return {name: _waited(one) for name, one in asked.items()}

    # -- who leads -----------------------------------------------------------------------------------------------------

    def _look(self) -> Handle | RemoteMailbox:
        found = self._leader_here()
        if isinstance(found, Handle):
            return found
        if found is None and self._hint is not None:
            found = elsewhere(self._hint)
        others = self._elsewhere()
        if found is None and not others:
            raise self._why_no_leader()
        mailbox = self._remote(found or others[self._turn % len(others)])
        self._learn(mailbox)
        return mailbox

    def _leader_here(self) -> Handle | Place | None:
        """Who leads, by the newest term that any of our peers in this process has published."""
        found: Handle | Place | None = None
        newest = -1
        asked = list(dict.fromkeys((*self.names, *self._members)))
        for name in asked:
            handle = _handle(name)
            state = handle.state if handle is not None and handle.running else None
            if handle is None or state is None:
                continue
            if is_removed(state):
                members = (shown(state, other) for other in state.configuration.members())
                asked += (other for other in members if other not in asked)
            elif state.leader is not None and state.term > newest:
                place = place_of_member(handle, state.leader)
                leader = place if place.address else names.whereis(state.leader)
                if isinstance(leader, Place) or (isinstance(leader, Handle) and leader.running):
                    found, newest = leader, state.term
        return found

    def _ask_for_leader(self, place: Place, timeout: float | None) -> str:
        future: RequestFuture[str | None] = RequestFuture()
        future.deadline = deadline = time.monotonic() + (ROUND if timeout is None else min(timeout, ROUND))
        wire = NETWORK.wire_to(place.address, self._keys)
        ask(place, wire, FindLeader(), future, name_from, deadline=deadline)
        found = future.get()
        if found is None:
            raise ElectionInProgress(f"peer {full_name(*place)!r} knows no leader at the moment")
        return found

    def _learn(self, mailbox: RemoteMailbox) -> None:
        """Ask who the members are; the answer is taken when it comes."""

        def learned(future: RequestFuture[Status]) -> None:
            if future.failure is None:
                members = future.get().configuration
                self._members = (*members.voters, *members.learners)

        self._status_of(mailbox.place, time.monotonic() + LOOKING).when_done(learned)

    def _status_of(self, place: Place, deadline: float) -> RequestFuture[Status]:
        future: RequestFuture[Status] = RequestFuture()
        future.deadline = deadline
        wire = NETWORK.wire_to(place.address, self._keys)
        ask(place, wire, GetStatus(), future, status_from, deadline=deadline)
        return future

    def _remote(self, place: Place) -> RemoteMailbox:
        return RemoteMailbox(place, NETWORK.wire_to(place.address, self._keys))

    def _elsewhere(self) -> list[Place]:
        found = (elsewhere(name) for name in dict.fromkeys((*self.names, *self._members)))
        return [place for place in found if place is not None]

    def _why_no_leader(self) -> RaftError:
        handles = self._handles()
        running = [handle for handle in handles if handle.running]
        if any(handle.state is not None and handle.state.cluster for handle in running):
            return ElectionInProgress(f"none of the peers {self} knows a leader at the moment")
        if running and running[0].state is not None:
            return not_configured(running[0].state)
        reasons = [handle.why_closed() for handle in handles]
        gentle = [reason for reason in reasons if isinstance(reason, NotApplied)]
        return (gentle or reasons or [UnknownPeer(self.names[0])])[0]

    def _handles(self) -> list[Handle]:
        return [handle for handle in map(_handle, self.names) if handle is not None]


def _name(peer: PeerRef) -> str:
    if isinstance(peer, str):
        place_of(peer)
        return peer
    return name_of(peer)


def _handle(name: str) -> Handle | None:
    """The peer of this process that a name means."""
    if elsewhere(name) is not None:
        return None
    found = names.whereis(place_of(name).name)
    return found if isinstance(found, Handle) else None


def _waited(one: Any) -> Any:
    try:
        return one.get() if isinstance(one, RequestFuture) else one
    except RaftError as error:
        return error


@functools.cache
def _default_codec() -> CheckedCodec:
    return resolve("cloudpickle")
