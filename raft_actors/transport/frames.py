"""What goes over the wire: one checked frame at a time.

::

    bytes   0..3      4         5..7     8..11        12...
            "raft"    version   zeros    CRC-32       a body: one of the structs below, as msgpack

Rule: nothing is believed before it is checked, in this order: size, magic, version, CRC, then every field by its type
and bound (msgspec), then the sense of a message (``protocol.validity``). What fails is refused with a reason that is
counted, never an exception in an actor. Which key sent a frame is not in it: the transport knows that by itself.

A newer release may add fields at the end of a body, and kinds of bodies that it sends only to those that know them:
each side says at the start of a connection which versions it speaks, and the highest common one is spoken.
"""

from __future__ import annotations

import struct
import zlib
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from raft_actors.protocol.changes import Change
from raft_actors.protocol.messages import Message
from raft_actors.protocol.types import Address, Name, Number

__all__ = [
    "FEW",
    "LARGEST",
    "NEWEST",
    "OLDEST",
    "MOST_TOGETHER",
    "Answer",
    "Answers",
    "Ask",
    "Asks",
    "BadFrame",
    "Beat",
    "Body",
    "ChangeMembers",
    "Description",
    "Failed",
    "FindLeader",
    "GetStatus",
    "Gone",
    "Hello",
    "Letter",
    "OpenSession",
    "Operation",
    "Part",
    "Parts",
    "Post",
    "Query",
    "Rest",
    "Confirmed",
    "SessionCommand",
    "SetConfiguration",
    "Submit",
    "TakeSnapshot",
    "Transfer",
    "Welcome",
    "carried",
    "pack",
    "unpack",
]

MAGIC = b"raft"
OLDEST, NEWEST = 1, 1
"""The versions that this release speaks."""
MOST_TOGETHER = 256
"""Requests or answers in one frame."""
FEW = 4
"""With more requests of a connection open than these, others are likely to follow: they wait to leave together."""
LARGEST = 72 << 20
"""Bytes of a frame: a command may have 64 MiB."""

_head = struct.Struct(">4sB3xI")
_Seconds = Annotated[float, Meta(ge=0.0, le=1e9)]
_Text = Annotated[str, Meta(max_length=1 << 20)]
_Word = Annotated[str, Meta(max_length=32)]
_Places = Annotated[tuple[tuple[Name, Address], ...], Meta(max_length=1024)]


class BadFrame(Exception):
    """These bytes are refused; the text is one of few reasons, and is counted."""


# -- between nodes -----------------------------------------------------------------------------------------------------


class Hello(Struct, frozen=True, gc=False, array_like=True, tag=1):
    """First on a connection: which versions the sender speaks, and where it listens (``""``: nowhere)."""

    oldest: Annotated[int, Meta(ge=0, le=255)]
    newest: Annotated[int, Meta(ge=0, le=255)]
    address: Address = ""


class Welcome(Struct, frozen=True, gc=False, array_like=True, tag=2):
    """The answer: the version to speak, the role of the sender's key, and whether a pickle is taken from it."""

    version: Annotated[int, Meta(ge=0, le=255)]
    role: _Word = ""
    pickle: bool = False


class Letter(Struct, frozen=True, gc=False, array_like=True):
    """A message of one peer to another."""

    to: Name
    message: Message


class Post(Struct, frozen=True, gc=False, array_like=True, tag=3):
    """Letters that leave together: those of all peers of one node to all peers of another.

    ``address``: where the sender is reached.
    """

    address: Address
    letters: Annotated[tuple[Letter, ...], Meta(max_length=4096)]


class Confirmed(Struct, frozen=True, gc=False, array_like=True, tag=4):
    """So many bytes of parts have arrived: there is room for more."""

    counted: Number


class Gone(Struct, frozen=True, gc=False, array_like=True, tag=5):
    """A peer of the sender has stopped."""

    address: Address
    name: Name


class Part(Struct, frozen=True, gc=False, array_like=True, tag=9):
    """A part of the frame of a large ``Post``, so that what is urgent need not wait for all of it.

    ``at``: its place among the ``whole`` bytes of that frame. The parts of a node come in their order.
    """

    address: Address
    at: Annotated[int, Meta(ge=0, le=LARGEST)]
    whole: Annotated[int, Meta(ge=1, le=LARGEST)]
    data: Annotated[bytes, Meta(max_length=1 << 20)]


class Rest(Struct, frozen=True, gc=False, array_like=True):
    """The peer ``name`` of the sender rests with the peer ``to`` of the receiver, in ``term``."""

    name: Name
    to: Name
    term: Number


class Beat(Struct, frozen=True, gc=False, array_like=True, tag=12):
    """Who of the sender rests with somebody of the receiver now, all of them (``beats``).

    Sent only where somebody has agreed to rest: to nodes that know it.
    """

    address: Address
    rests: Annotated[tuple[Rest, ...], Meta(max_length=1 << 16)]


# -- requests ----------------------------------------------------------------------------------------------------------


class Submit(Struct, frozen=True, gc=False, array_like=True, tag=1):
    """A write: ``command`` is encoded by ``codec``."""

    command: bytes
    codec: _Word


class SessionCommand(Struct, frozen=True, gc=False, array_like=True, tag=2):
    """A write in a session (``protocol.sessions``)."""

    session: Number
    nonce: Annotated[int, Meta(ge=0)]
    sequence: Number
    previous: Number
    settled: Number
    command: bytes
    codec: _Word


class OpenSession(Struct, frozen=True, gc=False, array_like=True, tag=3):
    """Open a session."""

    nonce: Annotated[int, Meta(ge=0)]


class Query(Struct, frozen=True, gc=False, array_like=True, tag=4):
    """A read."""

    query: bytes
    codec: _Word
    consistency: _Word
    min_index: Number | None = None


class GetStatus(Struct, frozen=True, gc=False, array_like=True, tag=5):
    """What the peer last published; at once."""


class FindLeader(Struct, frozen=True, gc=False, array_like=True, tag=6):
    """Who leads, waiting for an election."""


class SetConfiguration(Struct, frozen=True, gc=False, array_like=True, tag=7):
    """``set_configuration``: of a new cluster, or of the one that the peer belongs to."""

    members: _Places
    expected: Number | None = None


class ChangeMembers(Struct, frozen=True, gc=False, array_like=True, tag=8):
    """A change of the members. ``here``: of this very peer, which is believed to lead, and of nobody else."""

    change: Change
    places: _Places = ()
    expected: Number | None = None
    here: bool = False


class Transfer(Struct, frozen=True, gc=False, array_like=True, tag=9):
    """Another leader is wanted. ``here``: as above."""

    target: Name | None = None
    here: bool = False


class TakeSnapshot(Struct, frozen=True, gc=False, array_like=True, tag=10):
    """A snapshot of now."""


Operation = (
    Submit
    | SessionCommand
    | OpenSession
    | Query
    | GetStatus
    | FindLeader
    | SetConfiguration
    | ChangeMembers
    | Transfer
    | TakeSnapshot
)


_WRITES = (Submit, SessionCommand)
"""A tuple: a union would be made anew at every look."""


def carried(operation: Operation) -> int:
    """Bytes of the command or the query in it."""
    if isinstance(operation, _WRITES):
        return len(operation.command)
    return len(operation.query) if isinstance(operation, Query) else 0


class Ask(Struct, frozen=True, gc=False, array_like=True, tag=6):
    """A request to the peer ``to``, to be answered within ``patience`` seconds."""

    id: Number
    to: Name
    patience: _Seconds
    operation: Operation


class Answer(Struct, frozen=True, gc=False, array_like=True, tag=7):
    """What came of it: bytes in ``codec``; for everything but commands and queries msgpack."""

    id: Number
    value: bytes = b""
    codec: _Word = ""
    index: Number | None = None


class Description(Struct, frozen=True, gc=False, array_like=True):
    """An exception: class, text, traceback."""

    type_name: _Text
    message: _Text
    traceback: _Text = ""


class Failed(Struct, frozen=True, gc=False, array_like=True, tag=8):
    """An error of the library: its class by name, its text, what it names, and what caused it."""

    id: Number
    kind: _Word
    text: _Text
    attributes: dict[Name, str | int | tuple[str, ...] | None] = {}
    cause: Description | None = None
    index: Number | None = None


class Asks(Struct, frozen=True, gc=False, array_like=True, tag=10):
    """Requests that leave together."""

    asks: Annotated[tuple[Ask, ...], Meta(max_length=MOST_TOGETHER)]


class Answers(Struct, frozen=True, gc=False, array_like=True, tag=11):
    """Answers that leave together."""

    answers: Annotated[tuple[Answer | Failed, ...], Meta(max_length=MOST_TOGETHER)]


Body = Hello | Welcome | Post | Confirmed | Gone | Part | Beat | Ask | Asks | Answer | Answers | Failed

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Body)
_asking = msgspec.msgpack.Decoder(Hello | Ask | Asks)
_ARRAY, _OF_PEERS = range(0x90, 0xA0), (3, 4, 5, 9, 12)
"""How a body begins: a short array, and in it the tag; the tags of Post, Confirmed, Gone, Part and Beat."""


MOST_BEGUN = 64
"""Nodes of which large frames are under way at a time; they are members of our clusters, not many."""


class Parts:
    """Large frames that come in parts, by the address of the node that sends them: one of each node at a time."""

    def __init__(self) -> None:
        self._begun: dict[str, bytearray] = {}

    def add(self, part: Part) -> bytes | bytearray | None:
        """The frame, if this is its last part. One that was begun before and is not complete is dropped.

        Raises:
            BadFrame: it does not go on where the last part ended.
        """
        begun = self._begun.pop(part.address, None)
        if part.at == 0:
            begun = bytearray()
            if len(self._begun) >= MOST_BEGUN:
                self._begun.clear()
        if begun is None or len(begun) != part.at or part.at + len(part.data) > part.whole:
            raise BadFrame("a part is missing")
        begun += part.data
        if len(begun) == part.whole:
            return begun
        self._begun[part.address] = begun
        return None


def pack(body: Body, version: int = NEWEST) -> bytes:
    """The frame of ``body``."""
    data = _encoder.encode(body)
    return _head.pack(MAGIC, version, zlib.crc32(data)) + data


def unpack(
    frame: bytes | bytearray | memoryview, *, oldest: int = OLDEST, newest: int = NEWEST, asking: bool = False
) -> Body:
    """The body of a frame.

    Args:
        frame: bytes of anybody.
        oldest: the oldest version that is taken.
        newest: the newest one.
        asking: whether the sender may say nothing but ``Hello`` and ``Ask``: nothing else of it is even made a value.

    Raises:
        BadFrame: it is refused; the text says why, in one of few ways.
    """
    if len(frame) > LARGEST:
        raise BadFrame("too large")
    if len(frame) <= _head.size:
        raise BadFrame("too short")
    magic, version, crc = _head.unpack_from(frame)
    if magic != MAGIC:
        raise BadFrame("no frame")
    if not oldest <= version <= newest:
        raise BadFrame("unknown version")
    data = memoryview(frame)[_head.size :]
    if zlib.crc32(data) != crc:
        raise BadFrame("damaged")
    try:
        if asking and data[0] in _ARRAY and len(data) > 1 and data[1] in _OF_PEERS:
            raise BadFrame("role")
        body: Body = (_asking if asking else _decoder).decode(data)
    except (msgspec.DecodeError, ValueError, OverflowError, RecursionError) as error:
        raise BadFrame("malformed") from error
    return body
