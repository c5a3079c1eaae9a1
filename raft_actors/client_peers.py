"""The peers that a client knows: who leads them, who can answer, and what is the matter if nobody can.

The leader is looked up in what the peers of this process publish, so that the first try is rarely wrong.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING

import pykka

from raft_actors import api, names
from raft_actors.arguments import PeerRef, name_of
from raft_actors.behaviours.transition import is_removed
from raft_actors.codec import CheckedCodec, resolve
from raft_actors.errors import ElectionInProgress, NotApplied, RaftError, UnknownPeer
from raft_actors.formation_errors import not_configured
from raft_actors.supervisor import Handle

if TYPE_CHECKING:
    from raft_actors.intake import Mailbox
    from raft_actors.values import Status

__all__ = ["ClientPeers"]


class ClientPeers:
    """Peers of this process, by name.

    Args:
        peers: their names, or one name; ``ActorRef``s too. Not all of them need to run.

    Attributes:
        leader: who led when it was last looked for; ``None``: look again.

    Raises:
        UnknownPeer: a peer of another process, which this version cannot reach.
        InvalidName: nobody can have this name.
        ValueError: no peers are given.
    """

    def __init__(self, peers: Iterable[PeerRef] | PeerRef) -> None:
        several = [peers] if isinstance(peers, str | pykka.ActorRef) else list(peers)
        self.names = tuple(dict.fromkeys(_local_name(peer) for peer in several))
        if not self.names:
            raise ValueError("a Client needs the name of at least one peer")
        self.leader: Handle | None = None
        self._members: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ", ".join(self.names)

    def mailbox(self) -> Mailbox:
        """That of the leader, as far as it is known.

        Raises:
            RaftError: nobody leads; the error says what is the matter.
        """
        handle = self.leader
        if handle is None or handle.mailbox is None:
            handle = self.leader = self.find_leader()
        return handle.open_mailbox()

    def any_mailbox(self) -> Mailbox:
        """That of any peer that runs.

        Raises:
            RaftError: none does.
        """
        for handle in self._handles():
            if handle.mailbox is not None:
                return handle.open_mailbox()
        raise self._why_no_leader()

    def forget_leader(self) -> None:
        """Look for another one, among the members that this one knew too: the peers given may be none any more."""
        leader, self.leader = self.leader, None
        if leader is not None and leader.state is not None:
            self._members = tuple(leader.state.configuration.members())

    def find_leader(self) -> Handle:
        """Who leads, by the newest term that any of our peers has published.

        Raises:
            RaftError: nobody; the error says what is the matter.
        """
        found, newest = None, -1
        asked = list(dict.fromkeys((*self.names, *self._members)))
        for name in asked:
            handle = names.whereis(name)
            state = handle.state if isinstance(handle, Handle) and handle.running else None
            if state is not None and is_removed(state):
                asked += (other for other in state.configuration.members() if other not in asked)
            elif state is not None and state.leader is not None and state.term > newest:
                leader = names.whereis(state.leader)
                if isinstance(leader, Handle) and leader.running:
                    found, newest = leader, state.term
        if found is None:
            raise self._why_no_leader()
        return found

    def all_failed(self) -> bool:
        """Whether every peer has stopped itself."""
        handles = self._handles()
        return len(handles) == len(self.names) and all(handle.failed for handle in handles)

    def codec(self) -> CheckedCodec:
        """The codec of the cluster; the default one while no peer is there to tell."""
        handle = self.leader
        if handle is None:
            handle = next(iter(self._handles()), None)
        return _default_codec() if handle is None else handle.codec

    def status(self) -> dict[str, Status | RaftError]:
        """What each peer last published, by name; for one that cannot be asked, the error that says why."""
        return {name: _status_or_error(name) for name in self.names}

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
        found = (names.whereis(name) for name in self.names)
        return [handle for handle in found if isinstance(handle, Handle)]


def _local_name(peer: PeerRef) -> str:
    if isinstance(peer, str) and "@" in peer:
        raise UnknownPeer(
            peer,
            f"peer {peer!r} is in another process",
            advice="this version reaches peers of its own process only, by their short names",
        )
    return name_of(peer)


def _status_or_error(name: str) -> Status | RaftError:
    try:
        return api.status(name)
    except RaftError as error:
        return error


@functools.cache
def _default_codec() -> CheckedCodec:
    return resolve("cloudpickle")
