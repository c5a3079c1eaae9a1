"""Values reduced to what can be compared: two replicas agree exactly if the reduced values are equal.

Pickles will not do: they tell objects that are shared from objects that are equal. Sets are compared as sets, and told
in an order that no hash decides, since violations print them; mappings are compared with their order, since a machine
that lists a dictionary shows its order to callers. Numbers compare with their types: ``1``, ``1.0`` and ``True`` are
three values.
"""

from __future__ import annotations

import enum
import pickle
from collections import deque
from collections.abc import Iterator
from typing import Any

__all__ = ["canonical", "mutable_parts"]

_PLAIN = frozenset({type(None), bool, int, str, bytes})
DEEPEST = 50


def canonical(value: Any, around: tuple[int, ...] = ()) -> Any:
    """Return a stand-in for ``value`` that is equal to another one's exactly if the values are the same.

    Args:
        value: anything.
        around: identities of what it is part of.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value if kind is str or kind is bytes else (kind.__name__, value)
    if kind is float:
        return "float", repr(value)
    if len(around) > DEEPEST or id(value) in around:
        return "deep", kind.__qualname__
    if isinstance(value, enum.Enum):
        return kind.__qualname__, value.name
    around = (*around, id(value))
    if isinstance(value, BaseException):
        return kind.__qualname__, canonical(value.args, around)
    if isinstance(value, dict):
        items = tuple((canonical(key, around), canonical(one, around)) for key, one in value.items())
        return kind.__qualname__, items, _named(value, around)
    if isinstance(value, set | frozenset):
        items = tuple(sorted((canonical(one, around) for one in value), key=repr))
        return kind.__qualname__, items, _named(value, around)
    if isinstance(value, list | tuple) or hasattr(kind, "__iter__"):
        items = tuple(canonical(one, around) for one in _items(value))
        return kind.__qualname__, items, _named(value, around)
    return kind.__qualname__, _contents(value, around)


def _items(value: Any) -> list[Any]:
    """What an iterable holds, unless looking would use it up."""
    if hasattr(value, "__next__"):
        return [type(value).__qualname__]
    return list(value)


def _named(value: Any, around: tuple[int, ...]) -> tuple[Any, ...]:
    """The attributes, by name."""
    return tuple((name, canonical(one, around)) for name, one in sorted(_attributes(value)))


def _contents(value: Any, around: tuple[int, ...]) -> Any:
    """What it wants to be pickled as, if it says so; else attributes if there are any, the pickle, or the text.

    Attributes are not all: a generator of random numbers keeps its state elsewhere, and a path remembers its text only
    after somebody asked.
    """
    try:
        if _says_how_to_pickle(type(value)):
            return tuple(canonical(part, around) for part in value.__reduce_ex__(4)[1:] if part is not None)
        return _named(value, around) or pickle.dumps(value, 5)
    except Exception:  # noqa: BLE001 - an object of the user may fail in any way
        return _named(value, around) or repr(value)


def _says_how_to_pickle(kind: type) -> bool:
    return any(
        getattr(kind, name) is not getattr(object, name) for name in ("__reduce__", "__reduce_ex__", "__getstate__")
    )


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    yield from getattr(value, "__dict__", {}).items()
    for kind in type(value).__mro__:
        slots = getattr(kind, "__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name) and name not in ("__dict__", "__weakref__"):
                yield name, getattr(value, name)


def mutable_parts(value: Any) -> dict[int, Any]:
    """Return every list, dictionary, set and object with attributes in ``value``, by identity."""
    found: dict[int, Any] = {}
    seen: set[int] = set()
    left = [value]
    while left:
        one = left.pop()
        kind = type(one)
        if kind in _PLAIN or kind is float or isinstance(one, enum.Enum | type) or callable(one) or id(one) in seen:
            continue
        seen.add(id(one))
        parts: list[Any] = []
        if isinstance(one, dict):
            parts = [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set | frozenset | deque):
            parts = list(one)
        parts += [part for _, part in _attributes(one)]
        if not isinstance(one, tuple | frozenset) and (parts or isinstance(one, dict | list | set | bytearray | deque)):
            found[id(one)] = one
        left += reversed(parts)
    return found
