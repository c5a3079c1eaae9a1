"""Full names: ``name@host:port`` is a peer wherever it is, ``name`` one of this process or of the cluster at hand.

The short name is what the rules go by, with the identity of the store; the address only says where to send (``Member``
in ``protocol.configuration``). A peer keeps a book of addresses: what it heard last, or a caller has said since of one
that is not heard; what its configuration says; what it was told at its start, in this order. What the configuration has
come to say is forgotten here: then the next configuration counts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from raft_actors.errors import InvalidName
from raft_actors.names import check_name
from raft_actors.protocol.configuration import Member
from raft_actors.protocol.state import PeerState
from raft_actors.protocol.types import ADDRESS_RULE

__all__ = ["AddressBook", "Place", "check_address", "full_name", "place_of", "shown", "split_address"]

MOST_STRANGERS = 1024
"""Peers that are no members, and of which a book keeps an address; of more, those heard of longest ago are let go."""


class Place(NamedTuple):
    """A peer by its short name, and where its node is: ``""`` if that was not said."""

    name: str
    address: str = ""


def place_of(name: object) -> Place:
    """What a short or full name says.

    Raises:
        InvalidName: it is neither.
    """
    return _parsed(name) if isinstance(name, str) and "@" in name else Place(check_name(name))


@functools.lru_cache(1024)
def _parsed(name: str) -> Place:
    short, _, address = name.partition("@")
    check_name(short)
    return Place(short, check_address(address, name))


def check_address(address: object, name: str = "") -> str:
    """Return ``address`` if it is ``host:port``.

    Raises:
        InvalidName: it is not.
    """
    found = ADDRESS_RULE.fullmatch(address) if isinstance(address, str) else None
    if found is None or not 0 <= int(found["port"]) <= 65535:
        raise InvalidName(
            f"{(name or address)!r:.100} is not of the form {'name@host:port' if name else 'host:port'}",
            advice="give a host name or an IP address, and a port up to 65535, as in 's1@10.0.0.1:7001'",
        )
    return found.string


def split_address(address: str) -> tuple[str, int]:
    """Host and port; of an IPv6 address without its brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def full_name(name: str, address: str) -> str:
    """The name that means the same everywhere."""
    return f"{name}@{address}" if address else name


def shown(state: PeerState, name: str) -> str:
    """The full name of a member, or of the peer itself, as far as the state knows its address."""
    return full_name(name, state.address if name == state.name else state.address_of(name))


class AddressBook:
    """Where the peers are that one peer talks to.

    Args:
        state: gives that peer's newest state.
    """

    def __init__(self, state: Callable[[], PeerState | None]) -> None:
        self._state = state
        self._heard: dict[str, str] = {}
        self._told: dict[str, str] = {}

    def find(self, name: str) -> str:
        """The address of a peer, ``""`` if it must be in this process."""
        member, heard = self._members().get(name), self._heard.get(name)
        configured = "" if member is None else member.address
        if heard is not None and heard == configured:
            self._heard.pop(name, None)
        return heard or configured or self._told.get(name, "")

    def tell(self, places: Iterable[tuple[str, str]]) -> None:
        """Where peers are believed to be, as long as nothing newer is known."""
        for name, address in places:
            if address:
                self._told[name] = address
                self._let_go(self._told)

    def correct(self, places: Iterable[tuple[str, str]]) -> None:
        """A caller says where peers are now."""
        for name, address in places:
            self.hear(name, address)

    def hear(self, name: str, address: str) -> None:
        """A peer spoke from there."""
        if address and self.find(name) != address:
            self._heard[name] = address
            self._let_go(self._heard)

    def doubts(self, name: str) -> bool:
        """Whether a peer was last heard, or is said to be, elsewhere than its configuration says."""
        return name in self._heard

    def at(self, address: str) -> list[str]:
        """Who is at an address."""
        return [name for name in self._names() if self.find(name) == address]

    def addresses(self) -> set[str]:
        """All that are known."""
        return {self.find(name) for name in self._names()} - {""}

    def _let_go(self, places: dict[str, str]) -> None:
        if len(places) > MOST_STRANGERS:
            members = self._members()
            places.pop(next((name for name in places if name not in members), ""), None)

    def _names(self) -> Iterator[str]:
        yield from {**self._members(), **self._told, **self._heard}

    def _members(self) -> dict[str, Member]:
        state = self._state()
        return state.configuration.members() if state is not None and state.configurations else {}
