"""This process among others: which node it is, and how its peers and callers reach those elsewhere.

Peers that were started before the node stay in their process. Each later one has a book of addresses; what it sends to
a peer of this process goes the short way, everything else over the wire. What comes in is handed on only if the key of
the sender may speak as the peer that the message names.
"""

from __future__ import annotations

import ipaddress
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from raft_actors.addresses import AddressBook, Place, full_name, place_of, split_address
from raft_actors.beats import Beats
from raft_actors.errors import InvalidConfig, MissingExtra, Unauthorized
from raft_actors.keys import Keyring, stamp_of
from raft_actors.protocol.events import AddressHeard, PeerDown, Received
from raft_actors.protocol.messages import JoinReply, Message
from raft_actors.protocol.validity import is_address, why_malformed
from raft_actors.transport.frames import Beat, Letter
from raft_actors.transport.local import LOCAL, LocalTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from raft_actors.keys import Guest
    from raft_actors.protocol.state import PeerState
    from raft_actors.transport.frames import Gone, Post
    from raft_actors.transport.port import Post as Deliver
    from raft_actors.transport.zeromq.wire import Wire

__all__ = [
    "LARGEST_COMMAND",
    "NETWORK",
    "NodeTransport",
    "check_settings",
    "elsewhere",
    "is_everywhere",
    "is_loopback",
    "need_zmq",
]


BELIEVED = 0.5
"""Seconds for which the keys of a folder are believed to be those that they were."""
MOST_FOUND = 1024
"""Full names that are remembered (``Network.remember``)."""
LARGEST_COMMAND = 64 << 20
"""Bytes of a command that a frame has room for (``frames.LARGEST``)."""


def need_zmq() -> None:
    """Raise ``MissingExtra`` unless pyzmq is installed."""
    try:
        import zmq  # noqa: F401
    except ImportError as error:
        raise MissingExtra("net") from error


def is_everywhere(address: str) -> bool:
    """Whether an address means all of this machine: one can listen there, and nobody else can get there."""
    try:
        return ipaddress.ip_address(split_address(address)[0]).is_unspecified
    except ValueError:
        return False


def is_loopback(address: str) -> bool:
    """Whether an address is surely one of this machine only."""
    host = split_address(address)[0]
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may mean any machine, also if it begins with 127.
        return False


class NodeTransport:
    """How the peers of a node reach others.

    Args:
        wire: the sockets.
        address: of the node.
        local: the short way.
    """

    def __init__(self, wire: Wire, address: str, local: LocalTransport = LOCAL) -> None:
        self.wire = wire
        self.address = address
        self._local = local
        self._codecs: dict[str, str] = {}
        self._books: dict[str, tuple[AddressBook, Callable[[], PeerState | None]]] = {}
        self._beats = Beats(self._elsewhere, local.has, wire.refused)

    def enter(self, name: str, state: Callable[[], PeerState | None], codec: str = "") -> AddressBook:
        """The book of a peer that is being started."""
        book = AddressBook(state)
        self._codecs[name] = codec
        self._books = {**self._books, name: (book, state)}
        return book

    def all_plain(self) -> bool:
        """Whether there are peers here, and none of them takes a pickle."""
        return bool(self._codecs) and set(self._codecs.values()) == {"plain"}

    def join(self, name: str, post: Deliver) -> None:
        """As ``Transport.join``."""
        self._local.join(name, post)

    def leave(self, name: str) -> None:
        """As ``Transport.leave``."""
        self._beats.rest(name, (), 0, 0.0)
        self._local.leave(name)
        entry = self._books.get(name)
        if entry is not None:
            self.wire.gone(entry[0].addresses() - {self.address}, name)

    def forget(self, name: str) -> None:
        """The peer is gone for good."""
        self._codecs.pop(name, None)
        self._books = {one: entry for one, entry in self._books.items() if one != name}

    def send(self, source: str, to: str, message: Message) -> None:
        """As ``Transport.send``."""
        entry = self._books.get(source)
        address = entry[0].find(to) if entry is not None else ""
        if address in ("", self.address):
            self._local.send(source, to, message)
        elif self._local.has(source):
            self.wire.post(address, Letter(to, message))

    def rest(self, name: str, others: Sequence[str], term: int, every: float) -> None:
        """As ``Vouching.rest``."""
        if self._beats.rest(name, others, term, every):
            self.wire.beat_soon()

    def vouched(self, name: str, others: Sequence[str], term: int) -> dict[str, float]:
        """As ``Vouching.vouched``."""
        return self._beats.vouched(name, others, term)

    def _elsewhere(self, name: str, other: str) -> str:
        """Where a peer is that one of this node talks to, ``""`` if it is in this node."""
        entry = self._books.get(name)
        address = entry[0].find(other) if entry is not None else ""
        return "" if address == self.address else address

    # -- in the wire's thread ------------------------------------------------------------------------------------------

    def beat(self, now: float) -> float:
        """Say what is to be said for those who rest; returns when to come again."""
        letters, again = self._beats.due(now)
        for address, rests in letters:
            self.wire.tell(address, Beat(self.address, rests))
        return again

    def take_beat(self, guest: Guest, beat: Beat) -> None:
        """Another node says who rests there."""
        if not is_address(beat.address):
            self.wire.refused["an address that is none"] += 1
        elif self._beats.take(guest, beat, time.monotonic()):
            self.wire.beat_next()

    # -- what comes in, in the wire's thread ---------------------------------------------------------------------------

    def deliver(self, guest: Guest, post: Post) -> None:
        """Hand letters on; each that is refused is counted."""
        nowhere = "" if is_address(post.address) else "an address that is none"
        for letter in post.letters:
            why = nowhere or self._deliver(guest, post.address, letter)
            if why:
                self.wire.refused[why] += 1

    def _deliver(self, guest: Guest, address: str, letter: Letter) -> str:
        message = letter.message
        if not guest.may_speak_as(message.sender):
            return "speaks as another"
        why = why_malformed(message)
        entry = self._books.get(letter.to)
        if why or entry is None:
            return why or "no such peer"
        book, state = entry
        if address:
            self._note_address(book, state(), letter.to, message, address)
        if isinstance(message, JoinReply) and message.leader and message.address:
            book.tell([(message.leader, message.address)])
        self._local.deliver(letter.to, Received(message))
        return ""

    def _note_address(
        self, book: AddressBook, state: PeerState | None, to: str, message: Message, address: str
    ) -> None:
        member = state.configuration.members().get(message.sender) if state is not None else None
        if member is not None and member.incarnation != message.incarnation:
            return  # another store of that name; what it says is looked at by the rules
        if member is None or member.address != address or book.doubts(message.sender):
            book.hear(message.sender, address)
        if member is not None and member.address != address:
            self._local.deliver(to, AddressHeard(member.name, member.incarnation, address))

    def gone(self, guest: Guest, gone: Gone) -> None:
        """A peer elsewhere has stopped."""
        if gone.name and gone.address and guest.may_speak_as(gone.name):
            self.lost(gone.address, gone.name)

    def lost(self, address: str, name: str = "") -> None:
        """Nobody at an address is reached any more, or one of them has stopped: who talks to them is told."""
        if not name:
            self._beats.lost(address)
        for to, (book, _) in self._books.items():
            for other in book.at(address):
                if name in ("", other):
                    self._local.deliver(to, PeerDown(other))


_NOTHING: tuple[Any, Any] = (None, None)
_NEVER: tuple[float, Any] = (0.0, object())


class Network:
    """What this process has of the network: at most one node, and the wires of callers without one.

    Attributes:
        node: how the peers of the node reach others; ``None``: there is no node.
        keys: a folder of keys for callers where there is no node.
    """

    def __init__(self) -> None:
        self.node: NodeTransport | None = None
        self.keys: str | os.PathLike[str] | None = None
        self._lock = threading.Lock()
        self._wires: dict[object, Wire] = {}
        self._believed: dict[object, tuple[float, Wire]] = {}
        self._found: dict[str, tuple[Wire, Any]] = {}

    def found(self, name: str) -> Any:
        """What was found (``remember``) under a full name, if requests still take the same wire; else ``None``."""
        wire, found = self._found.get(name, _NOTHING)
        node = self.node
        if node is not None:
            return found if wire is node.wire else None
        until, believed = self._believed.get(self.keys, _NEVER)
        return found if wire is believed and time.monotonic() < until else None

    def remember(self, place: Place, wire: Wire, found: Any) -> None:
        """Remember what takes requests for a peer elsewhere, and by which wire."""
        node = self.node
        if node is not None and place.address == node.address:
            return  # it was elsewhere until this very moment
        if len(self._found) >= MOST_FOUND:
            self._found.clear()
        self._found[full_name(*place)] = (wire, found)

    def wire_to(self, address: str, keys: str | os.PathLike[str] | None = None) -> Wire:
        """What reaches the node at ``address``.

        Args:
            address: the node.
            keys: a folder of keys; ``None``: the node's own wire if there is a node, else ``self.keys``.

        Raises:
            Unauthorized: it is on another machine, and there are no keys.
            MissingExtra: pyzmq is not installed.
            InvalidConfig: there are no keys in the folder.
        """
        if keys is None and self.node is not None:
            return self.node.wire
        keys = self.keys if keys is None else keys
        known = self._believed.get(keys)
        if known is not None and time.monotonic() < known[0] and (keys is not None or is_loopback(address)):
            return known[1]
        if keys is None and not is_loopback(address):
            raise Unauthorized(
                f"{address} is on another machine, which is reached with keys only",
                advice="make keys with 'raft-actors keygen', and give the folder as keys",
            )
        need_zmq()
        wire = self._wire("" if keys is None else os.path.abspath(keys))
        self._believed[keys] = (time.monotonic() + BELIEVED, wire)
        return wire

    def _wire(self, folder: str) -> Wire:
        from raft_actors.transport.zeromq.wire import Wire

        which = stamp_of(folder) if folder else None  # other keys may have taken the place of those
        with self._lock:
            wire = self._wires.get(which)
            if wire is None:
                wire = self._wires[which] = Wire(Keyring(folder) if folder else None)
                wire.start()
            return wire

    def forget_all(self) -> None:
        """In a forked child: the sockets and their threads stayed with the parent."""
        self.__init__()  # type: ignore[misc]


NETWORK = Network()
"""That of this process."""


def check_settings(name: str, codec: str, max_command_bytes: int) -> None:
    """Refuse a peer that would unpickle what strangers send, or could accept what no frame holds.

    Raises:
        InvalidConfig: the node has no keys, and the codec is another than plain; or commands may be too large.
    """
    node = NETWORK.node
    if node is not None and max_command_bytes > LARGEST_COMMAND:
        raise InvalidConfig(
            f"peer {name!r}: max_command_bytes is {max_command_bytes}, over a network it is at most {LARGEST_COMMAND}",
            fields=("max_command_bytes",),
            advice="lower it, or start the peer before start_node, for this process only",
        )
    if node is not None and not node.wire.has_keys and codec != "plain":
        raise InvalidConfig(
            f"peer {name!r}: on a node without keys codec must be 'plain', not {codec!r}",
            fields=("codec",),
            advice="use Config(codec='plain'), or give the node keys",
        )


def elsewhere(peer: object) -> Place | None:
    """Where a peer is that a full name means, unless it is one of this process.

    Raises:
        InvalidName: it has an ``@``, and is no full name.
    """
    if not isinstance(peer, str) or "@" not in peer:
        return None
    place = place_of(peer)
    node = NETWORK.node
    return None if node is not None and place.address == node.address else place
