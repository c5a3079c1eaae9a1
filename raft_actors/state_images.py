"""How a state is captured when its machine does not say so itself, and how that image is written and read.

Rule: an image shares nothing with the state that anybody can change. References do only while all contents are
immutable; everything else is encoded while the machine waits (BUG-71).

    state                                       image                               its machine waits for
    immutable                                   the state itself                    nothing
    dict, list, set with immutable contents     ``CopiedState``, references         a look at each
    anything else                               ``EncodedState``, ready to write    all of the encoding
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from raft_actors.breathing import Breath
from raft_actors.codec import ATOMS, CloudpickleCodec, Codec
from raft_actors.state_encoding import KINDS, StateReader, StateWriter
from raft_actors.state_files import StateInput, StateOutput
from raft_actors.state_sharing import BLOCK, frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CopiedState", "EncodedState", "capture", "dump", "load", "plain", "using"]

_codec: ContextVar[Codec] = ContextVar("codec of the states", default=CloudpickleCodec())  # noqa: B039 - has no state


@contextmanager
def using(codec: Codec) -> Iterator[None]:
    """Within it, and on this thread, states are encoded with ``codec``; outside with cloudpickle."""
    token = _codec.set(codec)
    try:
        yield
    finally:
        _codec.reset(token)


class CopiedState:
    """A captured dict, list or set whose contents nobody can change: references to them, in blocks.

    Not a copy of its own kind: one call that copies a million items holds up all threads.

    Args:
        kind: of the state.
    """

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.blocks: list[tuple[list[Any], ...]] = []

    def items(self) -> Iterator[Any]:
        """Return what ``kind`` can be made of."""
        if self.kind is dict:
            return chain.from_iterable(zip(*block, strict=True) for block in self.blocks)
        return chain.from_iterable(block for (block,) in self.blocks)

    def decoded(self) -> Any:
        """Return an equal of the state that was captured."""
        return self.kind(self.items())


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
    if frozen((state,)):
        return state
    copied = _copied(state) if type(state) in KINDS else None
    if copied is not None:
        return copied
    image = EncodedState(_codec.get())
    dump(state, image)
    return image


def plain(image: Any) -> Any:
    """Return an equal of the captured state, for machines that dump it themselves; uses up the image."""
    return image.decoded() if isinstance(image, CopiedState | EncodedState) else image


def _copied(state: Any) -> CopiedState | None:
    """The image of a dict, list or set; ``None`` if something in it can be changed."""
    image, breath = CopiedState(type(state)), Breath(keeps=True)
    sides = [iter(state), iter(state.values())] if type(state) is dict else [iter(state)]
    while (block := tuple(list(islice(side, BLOCK)) for side in sides))[0]:
        if not all(ATOMS.issuperset(map(type, side)) or frozen(side) for side in block):
            return None
        image.blocks.append(block)
        breath.take()
    return image


def dump(image: Any, file: Any) -> None:
    """Write ``image`` to ``file``, breathing.

    Args:
        image: what ``capture`` returned, or any state that nobody changes meanwhile.
        file: takes the bytes; anything with ``write``.

    Raises:
        Exception: the codec cannot encode it, or the file does not take it.
    """
    codec = _codec.get()
    out = file if isinstance(file, StateOutput) else StateOutput(file, codec)
    match image:
        case EncodedState() if image.codec.name == codec.name:
            for chunk in image.chunks:
                out.write(chunk)
        case EncodedState():
            raise ValueError(f"this image was encoded with codec {image.codec.name!r}, not {codec.name!r}")
        case CopiedState():
            StateWriter(out, codec).write_items(image.kind, image.items())
        case _:
            StateWriter(out, codec).write(image)


def load(file: Any) -> Any:
    """Return the state whose image was written to ``file``, breathing.

    Args:
        file: has the bytes; anything with ``read``, ``readinto`` and ``readline``.

    Raises:
        Incompatible: these are not the bytes of a state, or they end early, or the codec cannot decode them here.
        Exception: what ``file`` raises.
    """
    codec = _codec.get()
    return StateReader(file if isinstance(file, StateInput) else StateInput(file, codec), codec).read()


class _Chunks:
    """Chunks of bytes as a file, which lets go of each as soon as it is read."""

    def __init__(self, chunks: list[bytes]) -> None:
        chunks.reverse()
        self._chunks = chunks
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        buffer = bytearray(size)
        return bytes(memoryview(buffer)[: self.readinto(buffer)])

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
