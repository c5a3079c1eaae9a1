"""How commands and replies become bytes.

Rule: what a codec returns from ``encode_checked`` has been decoded once, in the process that accepted the command.
After that, bytes that a replica cannot decode are no bad input but a replica that does not fit (``Incompatible``): it
stops and never skips them.
"""

from __future__ import annotations

import io
import pickle
import types
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, runtime_checkable

import cloudpickle

from raft_actors.errors import Incompatible, InvalidCommand, InvalidConfig
from raft_actors.plain_codec import PlainCodec, register

__all__ = [
    "ATOMS",
    "CheckedCodec",
    "CloudpickleCodec",
    "Codec",
    "PlainCodec",
    "is_atom",
    "is_immutable_reply",
    "register",
    "resolve",
]

_PROTOCOL = 5
HEADROOM = 20
"""Frames by which a trial decode is deeper than its caller, who is at 5 or more; a replica decodes at about 15."""
ATOMS: frozenset[type] = frozenset({type(None), bool, int, float, complex, str, bytes})
"""The exact types that count as atoms: nobody can change their values."""


@runtime_checkable
class Codec(Protocol):
    """What a codec of your own provides; give it as ``Config.codec``.

    Every peer of a cluster needs the same one, and it must read for ever what it once wrote. Any exception in
    ``encode`` becomes ``InvalidCommand``, any in ``decode`` ``Incompatible``.
    """

    @property
    def name(self) -> str:
        """A short name, which is stored and compared: a peer never reads a store with another codec."""

    def encode(self, value: Any) -> bytes:
        """Return the bytes of ``value``."""

    def decode(self, data: bytes) -> Any:
        """Return a new value, equal to the one that was encoded."""


class CheckedCodec(Codec, Protocol):
    """A codec with typed errors, as ``resolve`` returns it."""

    def encode_checked(self, value: Any) -> bytes:
        """Return the bytes of ``value`` after decoding them once.

        Raises:
            InvalidCommand: it cannot be encoded, or not decoded again.
        """


def is_atom(value: object) -> bool:
    """Return whether ``value`` is exactly ``None``, a bool, int, float, complex, str or bytes."""
    return type(value) in ATOMS


def is_immutable_reply(value: object) -> bool:
    """Return whether nobody can change ``value``: an atom or a tuple of atoms, which may be shared as it is."""
    kind = type(value)
    return ATOMS.issuperset(map(type, value)) if kind is tuple else kind in ATOMS  # type: ignore[call-overload]


class CloudpickleCodec:
    """Encodes every object that Python can pickle, and lambdas; its bytes must come from trusted hands only.

    Classes and functions go by reference, also those of ``__main__``, so that a script finds its own again after a
    restart. Only functions that have no importable name (lambdas, local functions) go by value, and those are readable
    by the same minor version of Python only. A class without an importable name is refused.
    """

    name = "cloudpickle"

    def encode(self, value: Any) -> bytes:
        """Return the bytes of ``value``.

        Raises:
            InvalidCommand: it cannot be pickled, or contains a class without importable name.
        """
        try:
            return pickle.dumps(value, _PROTOCOL)
        except Exception:  # noqa: BLE001 - whatever plain pickle objects to, the longer way may know
            return _encode_by_value(value)

    def encode_checked(self, value: Any) -> bytes:
        """Return the bytes of ``value`` after decoding them once.

        Raises:
            InvalidCommand: it cannot be encoded, or not decoded again.
        """
        data = self.encode(value)
        if not is_immutable_reply(value):  # atoms can always be decoded
            try:
                _deeper(pickle.loads, data)
            except Exception as error:
                raise _cannot_decode_again(self, value, error) from error
        return data

    def decode(self, data: bytes) -> Any:
        """Return the value of ``data``.

        Raises:
            Incompatible: the bytes, or the classes and functions they name, cannot be had here.
        """
        try:
            return pickle.loads(data)
        except MemoryError:
            raise
        except Exception as error:
            raise _cannot_decode(self, data, error) from error

    def pickler(self, file: Any) -> pickle.Pickler:
        """Return what writes values to ``file`` bit by bit: at most some 64 KiB, or one long string, at a time."""
        return _StreamPickler(file)

    def decode_from(self, file: Any) -> Any:
        """Return the value that a ``pickler`` wrote, and read no byte more than that.

        Raises:
            Incompatible: the bytes, or the classes and functions they name, cannot be had here.
        """
        try:
            return pickle.Unpickler(file).load()
        except MemoryError:
            raise
        except Exception as error:
            raise Incompatible(f"codec {self.name!r} cannot decode this state: {_why(error)}") from error


# The types of code, cells, modules, ...: parts of a function that cloudpickle knows how to name.
_INTERPRETER_TYPES = frozenset(value for value in vars(types).values() if isinstance(value, type))


class _ByValuePickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Cloudpickle's way for functions without importable name, plain pickle's way for everything else."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, io.IOBase) and not isinstance(obj, io.BytesIO | io.StringIO):
            raise InvalidCommand(
                f"an open {type(obj).__name__} cannot be a part of a command", advice="send its contents"
            )
        if isinstance(obj, type | types.FunctionType):
            if _importable(obj):
                return NotImplemented  # plain pickle: by reference, also for __main__
            if isinstance(obj, type) and obj not in _INTERPRETER_TYPES:
                raise InvalidCommand(
                    f"the class {obj.__module__}.{obj.__qualname__} has no importable name",
                    advice="define the class at the top level of a module",
                )
        return super().reducer_override(obj)


class _StreamPickler(_ByValuePickler):
    """The same for large values: nothing in Python happens for an object that plain pickle knows."""

    def __init__(self, file: Any) -> None:
        table = _ByValuePickler.dispatch_table
        self.dispatch_table = {kind: reduce for kind, reduce in table.items() if kind is not io.TextIOWrapper}
        super().__init__(file, _PROTOCOL)

    def reducer_override(self, obj: Any) -> Any:
        return super().reducer_override(obj) if isinstance(obj, type | types.FunctionType) else NotImplemented


def _importable(obj: object) -> bool:
    """Return whether the name of a class or function leads back to it: exactly what plain pickle accepts."""
    try:
        pickle.dumps(obj, _PROTOCOL)
    except Exception:  # noqa: BLE001 - a metaclass of a user may fail in any way
        return False
    return True


def _encode_by_value(value: object) -> bytes:
    buffer = io.BytesIO()
    try:
        _ByValuePickler(buffer, _PROTOCOL).dump(value)
    except InvalidCommand:
        raise
    except Exception as error:
        raise _cannot_encode(CloudpickleCodec, value, error) from error
    return buffer.getvalue()


def _deeper(decode: Callable[[bytes], Any], data: bytes, frames: int = HEADROOM) -> Any:
    """Decode with less of the stack than a replica will have: what nests too deep fails here, not there."""
    if not frames:
        return decode(data)
    # Now and then through C, whose depth has a limit of its own from Python 3.12 on.
    step = partial(_deeper) if frames % 10 == 0 else _deeper
    return step(decode, data, frames - 1)


class _Guarded:
    """A codec of somebody else: its exceptions become ours, and what it returns is checked."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.name = codec.name

    def encode(self, value: Any) -> bytes:
        try:
            data = self._codec.encode(value)
        except InvalidCommand:
            raise
        except Exception as error:
            raise _cannot_encode(self, value, error) from error
        if type(data) is not bytes:
            raise _cannot_encode(self, value, TypeError(f"encode returned {type(data).__name__}, not bytes"))
        return data

    def encode_checked(self, value: Any) -> bytes:
        data = self.encode(value)
        try:
            _deeper(self._codec.decode, data)
        except Exception as error:
            raise _cannot_decode_again(self, value, error) from error
        return data

    def decode(self, data: bytes) -> Any:
        try:
            return self._codec.decode(data)
        except MemoryError:
            raise
        except Exception as error:
            raise _cannot_decode(self, data, error) from error


def resolve(codec: str | Codec) -> CheckedCodec:
    """Return the codec that ``Config.codec`` means.

    Args:
        codec: ``"cloudpickle"``, ``"plain"`` or an object of your own.

    Raises:
        InvalidConfig: there is no such codec, or the object is none.
    """
    if codec == "cloudpickle":
        return CloudpickleCodec()
    if codec == "plain":
        return PlainCodec()
    if isinstance(codec, CloudpickleCodec | PlainCodec | _Guarded):
        return codec
    if is_codec(codec):
        return _Guarded(codec)  # type: ignore[arg-type]
    raise InvalidConfig(f"codec={codec!r:.100} is neither 'cloudpickle' nor 'plain' nor a Codec", fields=("codec",))


def is_codec(value: object) -> bool:
    """Return whether ``value`` has what ``Codec`` demands, with a name that can be stored."""
    if isinstance(value, type) or not isinstance(value, Codec):
        return False
    name: object = value.name
    return isinstance(name, str) and 0 < len(name) <= 64


def _cannot_encode(codec: CheckedCodec | type[CheckedCodec], value: object, error: Exception) -> InvalidCommand:
    return InvalidCommand(f"codec {codec.name!r} cannot encode this {type(value).__name__}: {_why(error)}")


def _cannot_decode_again(codec: CheckedCodec, value: object, error: Exception) -> InvalidCommand:
    return InvalidCommand(f"codec {codec.name!r} cannot decode this {type(value).__name__} again: {_why(error)}")


def _cannot_decode(codec: CheckedCodec, data: bytes, error: Exception) -> Incompatible:
    return Incompatible(f"codec {codec.name!r} cannot decode these {len(data)} bytes: {_why(error)}")


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
