"""How a state becomes bytes when its machine does not say so itself, and how it is captured before that.

Rule: what is captured shares nothing with the state that anybody can change. A shallow copy does so only while all
contents are immutable; everything else is encoded while the machine waits (BUG-71).

    state                                       image                               its machine waits for
    immutable                                   the state itself                    nothing
    dict, list, set with immutable contents     a copy                              1M keys: about 50 ms
    anything else                               ``EncodedState``, ready to write    all of the encoding

On the disk, for every codec, first one byte that tells what follows:

    D, L, S     a dict, list or set in pieces: [length: 8 bytes, little-endian][a small one, through the codec] ..., [0]
    P           one pickle, as long as it is: it goes to the file frame by frame, and keeps what is shared in the state
    W           [length][the state, through the codec]

Codecs other than pickle cut all dicts, lists and sets into pieces. Pickle cuts only those with immutable contents: each
piece is encoded by itself, and what two of them share would become two things.
"""

from __future__ import annotations

import struct
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from raft_actors.breathing import Breath
from raft_actors.codec import ATOMS, CloudpickleCodec, Codec
from raft_actors.errors import Incompatible
from raft_actors.state_files import StateInput, StateOutput

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["EncodedState", "capture", "dump", "load", "using"]

BLOCK = 2048
"""So many values are looked at between two breaths."""
FIRST_PIECE = 16
"""So many items are in the first piece; the size of the next ones follows from its bytes."""
LAST_PIECE = 1024
"""No piece has more items."""
PIECE_BYTES = 32 * 1024
"""Pieces of fewer bytes grow, those of more than twice as many shrink: some 0.1 ms of work each."""
DEPTH = 20
"""Tuples that are nested deeper count as mutable: nobody looks further."""

_LENGTH = struct.Struct("<Q")
_NESTING = frozenset({tuple, frozenset})
_FROZEN = ATOMS | _NESTING
_TAGS: dict[type, bytes] = {dict: b"D", list: b"L", set: b"S"}
_EMPTY: dict[bytes, type] = {tag: kind for kind, tag in _TAGS.items()}

_codec: ContextVar[Codec] = ContextVar("codec of the states", default=CloudpickleCodec())  # noqa: B039 - has no state


@contextmanager
def using(codec: Codec) -> Iterator[None]:
    """Within it, and on this thread, states are encoded with ``codec``; outside of it with cloudpickle."""
    token = _codec.set(codec)
    try:
        yield
    finally:
        _codec.reset(token)


class EncodedState:
    """A captured state, encoded already.

    Args:
        codec: its codec.
    """

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.chunks: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Keep ``data``."""
        self.chunks.append(data)

    def decoded(self) -> Any:
        """Return an equal of the state that was captured, and forget the bytes on the way."""
        chunks, self.chunks = self.chunks, []
        return load(_Chunks(chunks))


def capture(state: Any) -> Any:
    """Return an image of ``state`` for ``dump``: no change of the state after this call shows in it."""
    if _all_frozen((state,)):
        return state
    if _holds_only_frozen(state):
        return state.copy()
    image = EncodedState(_codec.get())
    dump(state, image)
    return image


def _holds_only_frozen(state: Any) -> bool:
    kind = type(state)
    if kind is dict:
        return _all_frozen(state.values()) and _all_frozen(state)
    return kind in _TAGS and _all_frozen(state)


def _all_frozen(values: Iterable[object], depth: int = DEPTH) -> bool:
    """Return whether nobody can change any of ``values``: they are atoms, and tuples and frozensets of such."""
    breath = Breath()
    rest = iter(values)
    while block := list(islice(rest, BLOCK)):
        if not ATOMS.issuperset(map(type, block)):
            if depth == 0 or not _FROZEN.issuperset(map(type, block)):
                return False
            inner: Any = (value for value in block if type(value) in _NESTING)
            if not _all_frozen(chain.from_iterable(inner), depth - 1):
                return False
        breath.take()
    return True


# -- writing -----------------------------------------------------------------------------------------------------------


def dump(image: Any, file: Any) -> None:
    """Write ``image`` to ``file``, breathing.

    Raises:
        Exception: the codec cannot encode it, or the file does not take it.
    """
    codec = _codec.get()
    out = file if isinstance(file, StateOutput) else StateOutput(file, codec)
    if isinstance(image, EncodedState):
        if image.codec.name != codec.name:
            raise ValueError(f"this image was encoded with codec {image.codec.name!r}, not {codec.name!r}")
        for chunk in image.chunks:
            out.write(chunk)
    elif type(image) in _TAGS and (not isinstance(codec, CloudpickleCodec) or _holds_only_frozen(image)):
        _dump_pieces(image, out, codec)
    elif isinstance(codec, CloudpickleCodec):
        out.write(b"P")
        codec.encode_into(image, out)
    else:
        out.write(b"W")
        _dump_piece(codec.encode(image), out)


def _dump_pieces(image: Any, out: StateOutput, codec: Codec) -> None:
    kind: Any = type(image)
    out.write(_TAGS[kind])
    items = iter(image.items() if kind is dict else image)
    size = FIRST_PIECE
    while piece := kind(islice(items, size)):
        data = codec.encode(piece)
        _dump_piece(data, out)
        if len(data) < PIECE_BYTES:
            size = min(2 * size, LAST_PIECE)
        elif len(data) > 2 * PIECE_BYTES:
            size = max(1, size // 2)
    out.write(_LENGTH.pack(0))


def _dump_piece(data: bytes, out: StateOutput) -> None:
    out.write(_LENGTH.pack(len(data)))
    out.write(data)


# -- reading -----------------------------------------------------------------------------------------------------------


def load(file: Any) -> Any:
    """Return the state whose image was written to ``file``, breathing.

    Raises:
        Incompatible: these are not the bytes of a state, or they end early, or the codec cannot decode them here.
        Exception: what ``file`` raises.
    """
    codec = _codec.get()
    source = file if isinstance(file, StateInput) else StateInput(file, codec)
    tag = _exactly(source, 1)
    if tag in _EMPTY:
        return _load_pieces(_EMPTY[tag](), source, codec)
    if tag == b"P" and isinstance(codec, CloudpickleCodec):
        return _load_pickle(source, codec)
    if tag == b"W":
        return codec.decode(_load_piece(source))
    raise Incompatible(f"no state that codec {codec.name!r} has written begins with {tag!r}")


def _load_pieces(state: Any, source: StateInput, codec: Codec) -> Any:
    add = state.extend if type(state) is list else state.update
    while data := _load_piece(source):
        piece = codec.decode(data)
        if type(piece) is not type(state):
            raise Incompatible(f"a piece of a saved {type(state).__name__} is a {type(piece).__name__}")
        add(piece)
    return state


def _load_piece(source: StateInput) -> bytes:
    (length,) = _LENGTH.unpack(_exactly(source, _LENGTH.size))
    return _exactly(source, length)


def _load_pickle(source: StateInput, codec: CloudpickleCodec) -> Any:
    try:
        return codec.decode_from(source)
    except Incompatible as error:
        if error.__cause__ is source.failure is not None:  # the file's fault, not that of the bytes
            raise source.failure from None
        raise


def _exactly(source: StateInput, size: int) -> bytes:
    data = source.read(size)
    if len(data) != size:
        raise Incompatible(f"the saved state ends early: {len(data)} bytes are left where {size} should be")
    return data


class _Chunks:
    """Chunks of bytes as a file, which lets go of each as soon as it is read."""

    def __init__(self, chunks: list[bytes]) -> None:
        chunks.reverse()
        self._chunks = chunks
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(buffer)])

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        done = 0
        while done < len(target):
            if not self._rest:
                if not self._chunks:
                    break
                self._rest = memoryview(self._chunks.pop())
            part = self._rest[: len(target) - done]
            target[done : done + len(part)] = part
            self._rest = self._rest[len(part) :]
            done += len(part)
        return done

    def readline(self) -> bytes:
        raise NotImplementedError("no pickle of protocol 5 has lines")
