"""The codec ``"plain"``: built-in values as msgpack, exactly, with nothing in the bytes that could run code.

Rule: what msgpack keeps exactly (``None``, booleans, 64-bit integers, floats, strings, bytes) is written as it is;
everything else is an array whose first item is a tag, and a bare array or a map never appears:

    ("set", "k", [1, 2])   ->   [TUPLE, "set", "k", [LIST, 1, 2]]
    {"a": 1}               ->   [DICT, "a", 1]
    Point(x=1, y=2)        ->   [REGISTERED, "shapes:Point", "x", 1, "y", 2]

Exact types only: a subclass of a built-in would come back as something else, so it is refused. Decoding builds values
and objects of the classes that were named to ``register``; it calls neither ``__init__`` nor ``__post_init__`` of a
dataclass, as the object is put back the way it was when it was encoded. Check in ``handle_write`` what others may send.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from raft_actors.errors import Incompatible, InvalidCommand

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_DEPTH", "PlainCodec", "register"]

MAX_DEPTH = 100
"""How deep values may be nested."""
MANY, MOST_ALIKE = 256, 64
"""In a dict or set of many items, so many may have the same hash: whoever makes more of them makes others wait."""

TUPLE, LIST, DICT, SET, FROZENSET, BYTEARRAY, BIG_INT, DATE, DATETIME, TIME, TIMEDELTA, REGISTERED = range(12)

_NATIVE = frozenset({type(None), bool, int, float, str, bytes})
_C = TypeVar("_C", bound=type)


class _Unfit(Exception):
    """A value that has no plain form; the text says why."""


class PlainCodec:
    """Encodes built-in types, dates, and registered dataclasses and enums.

    Kept exactly, at any depth and as keys: ``None bool int float str bytes bytearray tuple list dict set frozenset``,
    integers of any size, ``date datetime time timedelta`` (time zones: none or a fixed offset).
    """

    name = "plain"

    def __init__(self) -> None:
        self._dumps = msgspec.msgpack.Encoder().encode
        self._loads = msgspec.msgpack.Decoder().decode

    def encode(self, value: object) -> bytes:
        """Return the bytes of ``value``.

        Raises:
            InvalidCommand: it holds something that is not plain, or is nested deeper than ``MAX_DEPTH``.
        """
        try:
            if _is_flat(value):
                return self._dumps((TUPLE, *value))  # type: ignore[misc]
        except OverflowError:  # an integer beyond 64 bits takes the long way
            pass
        except Exception as error:
            raise _refusal(value, error) from error
        try:
            return self._dumps(_pack(value, MAX_DEPTH))
        except Exception as error:
            raise _refusal(value, error) from error

    def encode_checked(self, value: object) -> bytes:
        """Return the bytes of ``value`` after decoding them once.

        Raises:
            InvalidCommand: it cannot be encoded, or not decoded again.
        """
        data = self.encode(value)
        if not _is_flat(value):  # what msgpack keeps itself can always be decoded
            try:
                self.decode(data)
            except Incompatible as error:
                raise _refusal(value, error) from error
        return data

    def decode(self, data: bytes) -> Any:
        """Return the value of ``data``.

        Raises:
            Incompatible: these are not bytes of this codec, or a class in them is not registered.
        """
        try:
            return _unpack(self._loads(data), MAX_DEPTH)
        except MemoryError:
            raise
        except Exception as error:
            raise Incompatible(f"codec 'plain' cannot decode these {len(data)} bytes: {_reason(error)}") from error


def _is_flat(value: object) -> bool:
    """Return whether ``value`` is a tuple of what msgpack keeps itself: most commands are."""
    return type(value) is tuple and _NATIVE.issuperset(map(type, value))


def _refusal(value: object, error: Exception) -> InvalidCommand:
    return InvalidCommand(f"codec 'plain' cannot encode this {type(value).__name__}: {_reason(error)}")


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, _Unfit | Incompatible) else f"{type(error).__name__}: {error}"


# -- packing -----------------------------------------------------------------------------------------------------------


def _pack(value: Any, depth: int) -> object:
    """Return ``value`` as what msgpack keeps itself and tagged tuples of it."""
    kind = type(value)
    if kind in _NATIVE:
        return value if kind is not int or -(2**63) <= value < 2**64 else (BIG_INT, _int_bytes(value))
    if depth == 0:
        raise _Unfit(f"it is nested deeper than {MAX_DEPTH} levels")
    packer = _PACKERS.get(kind)
    if packer is not None:
        return packer(value, depth - 1)
    record = _by_class.get(kind)
    if record is None:
        raise _Unfit(_why_not(kind))
    return record.pack(value, depth - 1)


def _why_not(kind: type) -> str:
    name = f"{kind.__module__}.{kind.__qualname__}"
    if dataclasses.is_dataclass(kind) or issubclass(kind, enum.Enum):
        return f"{name} is not registered; call raft_actors.register({kind.__name__}) first"
    built_in = next((base for base in kind.__mro__[1:] if base in _PACKERS or base in _NATIVE), None)
    if built_in is not None:
        return f"{name} is a subclass of {built_in.__name__}; convert it to a plain {built_in.__name__}"
    return f"{name} is not a plain type; use built-in types or a registered dataclass, or the codec 'cloudpickle'"


def _items(tag: int) -> Callable[[Any, int], tuple[object, ...]]:
    return lambda value, depth: (tag, *[_pack(item, depth) for item in value])


def _pack_dict(value: dict[Any, Any], depth: int) -> tuple[object, ...]:
    return (DICT, *[_pack(part, depth) for item in value.items() for part in item])


def _int_bytes(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


def _clock(value: dt.datetime | dt.time) -> tuple[object, ...]:
    """Return the time of day with what belongs to it."""
    return value.hour, value.minute, value.second, value.microsecond, value.fold, _zone(value.tzinfo)


def _zone(zone: dt.tzinfo | None) -> tuple[object, ...] | None:
    """Return the offset, and the name if it has one of its own, of a time zone."""
    if zone is None:
        return None
    if type(zone) is not dt.timezone:
        raise _Unfit(f"the time zone {zone!r} depends on tables; convert the time to UTC or a fixed offset")
    offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
    return offset.days, offset.seconds, offset.microseconds, *name


_PACKERS: dict[type, Callable[[Any, int], tuple[object, ...]]] = {
    tuple: _items(TUPLE),
    list: _items(LIST),
    dict: _pack_dict,
    set: _items(SET),
    frozenset: _items(FROZENSET),
    bytearray: lambda value, _: (BYTEARRAY, bytes(value)),
    dt.date: lambda value, _: (DATE, value.year, value.month, value.day),
    dt.timedelta: lambda value, _: (TIMEDELTA, value.days, value.seconds, value.microseconds),
    dt.datetime: lambda value, _: (DATETIME, value.year, value.month, value.day, *_clock(value)),
    dt.time: lambda value, _: (TIME, *_clock(value)),
}


# -- unpacking ---------------------------------------------------------------------------------------------------------


def _unpack(packed: Any, depth: int) -> Any:
    """Return the value that was packed; any exception means that these are no bytes of ours."""
    if type(packed) is not list:
        if type(packed) in _NATIVE:
            return packed
        raise _Unfit(f"a {type(packed).__name__} does not belong in there")
    if depth == 0:
        raise _Unfit(f"it is nested deeper than {MAX_DEPTH} levels")
    tag, *items = packed
    if type(tag) is not int or not 0 <= tag < len(_UNPACKERS):
        raise _Unfit(f"there is no tag {tag!r:.40}")
    return _UNPACKERS[tag](items, depth - 1)


def _each(items: list[Any], depth: int) -> list[Any]:
    return items if _NATIVE.issuperset(map(type, items)) else [_unpack(item, depth) for item in items]


def _unpack_dict(items: list[Any], depth: int) -> dict[Any, Any]:
    parts = _each(items, depth)
    _check_hashes(parts[::2])
    pairs = iter(parts)
    return dict(zip(pairs, pairs, strict=True))


def _unpack_set(items: list[Any], depth: int) -> list[Any]:
    parts = _each(items, depth)
    _check_hashes(parts)
    return parts


def _check_hashes(keys: list[Any]) -> None:
    """Refuse keys whose hashes collide: numbers are easily chosen so, and then time grows with their square."""
    if len(keys) <= MANY or set(map(type, keys)) <= {str, bytes}:  # their hashes are secret
        return
    alike = collections.Counter(map(hash, keys)).most_common(1)[0][1]
    if alike > MOST_ALIKE:
        raise _Unfit(f"{alike} keys have the same hash")


def _unpack_date(items: list[Any], _: int) -> dt.date:
    year, month, day = items
    return dt.date(year, month, day)


def _unpack_time(items: list[Any], _: int) -> dt.time:
    hour, minute, second, microsecond, fold, zone = items
    return dt.time(hour, minute, second, microsecond, _offset(zone), fold=fold)


def _unpack_datetime(items: list[Any], depth: int) -> dt.datetime:
    day, clock = items[:3], items[3:]
    return dt.datetime.combine(_unpack_date(day, depth), _unpack_time(clock, depth))


def _offset(zone: list[Any] | None) -> dt.timezone | None:
    if zone is None:
        return None
    days, seconds, microseconds, *name = zone
    return dt.timezone(dt.timedelta(days, seconds, microseconds), *name)


def _unpack_int(items: list[Any], _: int) -> int:
    (data,) = items
    return int.from_bytes(data, "little", signed=True)


def _unpack_bytearray(items: list[Any], _: int) -> bytearray:
    (data,) = items
    if type(data) is not bytes:
        raise _Unfit("a bytearray is made of bytes")
    return bytearray(data)


def _unpack_registered(items: list[Any], depth: int) -> Any:
    name, *parts = items
    record = _by_name.get(name)
    if record is None:
        raise _Unfit(
            f"the class {name!r:.100} is not registered; call raft_actors.register on it before the peer starts"
        )
    return record.unpack(parts, depth)


# In the order of the tags.
_UNPACKERS: tuple[Callable[[list[Any], int], Any], ...] = (
    lambda items, depth: tuple(_each(items, depth)),
    lambda items, depth: list(_each(items, depth)),
    _unpack_dict,
    lambda items, depth: set(_unpack_set(items, depth)),
    lambda items, depth: frozenset(_unpack_set(items, depth)),
    _unpack_bytearray,
    _unpack_int,
    _unpack_date,
    _unpack_datetime,
    _unpack_time,
    lambda items, _: dt.timedelta(*items),
    _unpack_registered,
)


# -- registered classes ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class _DataclassRecord:
    """How objects of one dataclass are packed: field by field, by name."""

    name: str
    cls: type
    fields: dict[str, dataclasses.Field[Any]]

    def pack(self, value: object, depth: int) -> tuple[object, ...]:
        parts = [part for field in self.fields for part in (field, _pack(getattr(value, field), depth))]
        return (REGISTERED, self.name, *parts)

    def unpack(self, parts: list[Any], depth: int) -> object:
        given = _unpack_dict(parts, depth)
        if unknown := given.keys() - self.fields.keys():
            raise _Unfit(f"the class {self.name!r} has no field {min(map(repr, unknown))}")
        value: object = object.__new__(self.cls)
        for field in self.fields.values():
            part = given[field.name] if field.name in given else self._default(field)
            object.__setattr__(value, field.name, part)
        return value

    def _default(self, field: dataclasses.Field[Any]) -> object:
        """Return the value of a field that the class got after the object was written."""
        if field.default is not dataclasses.MISSING:
            return field.default
        if field.default_factory is not dataclasses.MISSING:
            return field.default_factory()
        raise _Unfit(f"the field {field.name!r} of the class {self.name!r} is missing and has no default")


@dataclasses.dataclass(frozen=True, slots=True)
class _EnumRecord:
    """How members of one enum are packed: by name; combinations of flags by their number."""

    name: str
    cls: Any

    def pack(self, value: Any, _: int) -> tuple[object, ...]:
        part = _pack(value.value, 1) if isinstance(value, enum.Flag) else value.name
        return (REGISTERED, self.name, part)

    def unpack(self, parts: list[Any], _: int) -> object:
        (part,) = parts
        return self.cls(_unpack(part, 1)) if issubclass(self.cls, enum.Flag) else self.cls[part]


_lock = threading.Lock()
_by_name: dict[str, _DataclassRecord | _EnumRecord] = {}
_by_class: dict[type, _DataclassRecord | _EnumRecord] = {}


def register(cls: _C, *, name: str | None = None) -> _C:
    """Let the codec ``"plain"`` encode a dataclass or an enum; also usable as a decorator.

    What is stored carries the name, and fields by their names: a field added later needs a default to read old entries,
    and a class that moves keeps its old entries readable by its old name.

    Args:
        cls: a dataclass (also frozen, also with slots) or an enum.
        name: what stands for it in stored bytes, ``module:qualname`` if left out.

    Returns:
        ``cls`` itself.

    Raises:
        TypeError: it is neither a dataclass nor an enum, or its objects cannot be made without its constructor.
        ValueError: another class has this name.
    """
    if not isinstance(cls, type):
        raise TypeError(f"register takes a class, not {cls!r:.100}")
    origin = _origin(cls)
    record = _record(cls, name or origin)
    with _lock:
        other = _by_name.get(record.name)
        if other is not None and _origin(other.cls) != origin:
            raise ValueError(f"the name {record.name!r} belongs to {other.cls!r}: register {cls!r} under another name")
        _by_name[record.name] = record  # a class that is defined anew (a reload, a notebook) replaces its old self
        _by_class[cls] = record
    return cls


def _origin(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _record(cls: type, name: str) -> _DataclassRecord | _EnumRecord:
    if issubclass(cls, enum.Enum):
        return _EnumRecord(name, cls)
    fields = {field.name: field for field in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else None
    if fields is None:
        raise TypeError(f"{cls!r} is neither a dataclass nor an enum: only those can be registered")
    object.__new__(cls)  # raises TypeError for an abstract class or a subclass of a built-in
    return _DataclassRecord(name, cls, fields)
