"""How a state becomes bytes when its machine does not say so itself: in pieces, so that nobody waits for the whole.

    state   = V value                   anything
            | D part ... .              a dict
            | L part ... .              a list
            | S part ... .              a set
    part    = + value                   some of its items, as a small dict, list or set
            | > {key: None} state       one item of a dict that is large itself
            | > state                   one item of a list that is large itself
    value   = a pickle, which tells its own end | [length: 8 bytes, little-endian][bytes of any other codec]

Pieces keep other threads from waiting, and the encoder's memory small: a pickler remembers every object that it has
seen, and while its table grows for the next million, everybody waits. But what two pieces share becomes two things. So
pickle cuts only where nothing that can be changed is shared; other codecs never keep what is shared, and always cut.
"""

from __future__ import annotations

import struct
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from raft_actors.codec import CloudpickleCodec, Codec
from raft_actors.errors import Incompatible
from raft_actors.state_sharing import stand_alone

if TYPE_CHECKING:
    from collections.abc import Iterable

    from raft_actors.state_files import StateInput, StateOutput

__all__ = ["KINDS", "StateReader", "StateWriter"]

KINDS: dict[type, bytes] = {dict: b"D", list: b"L", set: b"S"}
"""What can be cut, and the letter of each."""
FIRST_PIECE = 16
"""So many items are in the first piece; the size of the next ones follows from its bytes."""
LAST_PIECE = 1024
"""No piece has more items, and no item of a piece, except deep inside, has more of its own."""
PIECE_BYTES = 32 * 1024
"""Pieces of fewer bytes grow, those of more than twice as many shrink: some 0.1 ms of work each."""
LONGEST = 1 << 40
"""No value has more bytes."""
DEPTH = 50
"""So deep, at most, are large ones nested in large ones."""

_EMPTY: dict[bytes, type] = {letter: kind for kind, letter in KINDS.items()}
_LENGTH = struct.Struct("<Q")


class StateWriter:
    """Writes states to a file.

    Args:
        out: the file.
        codec: the peer's.
    """

    def __init__(self, out: StateOutput, codec: Codec) -> None:
        self._out = out
        self._codec = codec
        self._pickler = codec.pickler(out) if type(codec) is CloudpickleCodec else None  # a subclass has its own ways

    def write(self, state: Any) -> None:
        """Write ``state``.

        Raises:
            Exception: the codec cannot encode it, or the file does not take it.
        """
        if type(state) in KINDS and (self._pickler is None or stand_alone(contents(state))):
            self._write_parts(state, DEPTH)
        else:
            self._out.write(b"V")
            self._write_value(state)

    def write_items(self, kind: type, items: Iterable[Any]) -> None:
        """Write the dict, list or set that ``items`` make, none of which is large."""
        self._out.write(KINDS[kind])
        for piece in self._pieces(kind, items):
            self._write_piece(piece)
        self._out.write(b".")

    def _write_parts(self, state: Any, depth: int) -> None:
        kind: Any = type(state)
        self._out.write(KINDS[kind])
        for piece in self._pieces(kind, state.items() if kind is dict else state):
            if depth and _any_large(piece):
                for item in piece.items() if kind is dict else piece:
                    self._write_item(kind, item, depth)
            else:
                self._write_piece(piece)
        self._out.write(b".")

    def _write_item(self, kind: Any, item: Any, depth: int) -> None:
        if not _is_large(item[1] if kind is dict else item):
            self._write_piece(kind([item]))
            return
        self._out.write(b">")
        if kind is dict:
            key, item = item
            self._write_value({key: None})
        self._write_parts(item, depth - 1)

    def _pieces(self, kind: Any, items: Iterable[Any]) -> Iterable[Any]:
        """Cut; each piece must be written before the next one is taken, whose size follows from that."""
        out, rest, size = self._out, iter(items), FIRST_PIECE
        while piece := kind(islice(rest, size)):
            before = out.size
            yield piece
            if out.size - before < PIECE_BYTES:
                size = min(2 * size, LAST_PIECE)
            elif out.size - before > 2 * PIECE_BYTES:
                size = max(1, size // 2)

    def _write_piece(self, piece: Any) -> None:
        self._out.write(b"+")
        self._write_value(piece)

    def _write_value(self, value: Any) -> None:
        if self._pickler is not None:
            self._pickler.dump(value)
            self._pickler.clear_memo()
        else:
            data = self._codec.encode(value)
            self._out.write(_LENGTH.pack(len(data)))
            self._out.write(data)


def contents(state: Any) -> Iterable[Any]:
    """Return all that a dict, list or set holds, from its own iterators."""
    return chain(state, state.values()) if type(state) is dict else state


def _any_large(piece: Any) -> bool:
    if type(piece) is set:
        return False  # nothing that could be cut is hashable
    values = piece.values() if type(piece) is dict else piece
    return not KINDS.keys().isdisjoint(map(type, values)) and any(map(_is_large, values))


def _is_large(value: Any) -> bool:
    return type(value) in KINDS and len(value) > LAST_PIECE


class StateReader:
    """Reads states from a file.

    Args:
        source: the file.
        codec: the peer's.
    """

    def __init__(self, source: StateInput, codec: Codec) -> None:
        self._source = source
        self._codec = codec

    def read(self, depth: int = DEPTH) -> Any:
        """Return the state that begins here, and read no byte more.

        Raises:
            Incompatible: these are not the bytes of a state, or they end early, or the codec cannot decode them here.
            Exception: what the file raises.
        """
        letter = self._exactly(1)
        if letter == b"V":
            return self._value()
        if letter not in _EMPTY or depth < 0:
            raise _nonsense(letter)
        state: Any = _EMPTY[letter]()
        while (mark := self._exactly(1)) != b".":
            if mark == b"+":
                (state.extend if letter == b"L" else state.update)(self._piece(type(state)))
            elif mark == b">" and letter == b"D":
                (key,) = self._piece(dict)
                state[key] = self.read(depth - 1)
            elif mark == b">" and letter == b"L":
                state.append(self.read(depth - 1))
            else:
                raise _nonsense(mark)
        return state

    def _piece(self, kind: type) -> Any:
        piece = self._value()
        if type(piece) is not kind or not piece:
            raise _nonsense(piece)
        return piece

    def _value(self) -> Any:
        if type(self._codec) is not CloudpickleCodec:
            (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
            if length > LONGEST:
                raise _nonsense(length)
            return self._codec.decode(self._exactly(length))
        try:
            return self._codec.decode_from(self._source)
        except Incompatible as error:
            failure = self._source.failure
            if failure is not None and error.__cause__ is failure:  # the file's fault, not that of the bytes
                raise failure from None
            raise

    def _exactly(self, size: int) -> bytes:
        data = self._source.read(size)
        if len(data) != size:
            raise Incompatible(f"the saved state ends early: {len(data)} bytes are left where {size} should be")
        return data


def _nonsense(found: object) -> Incompatible:
    return Incompatible(f"this is no saved state: it goes on with {found!r:.40}")
