"""Values reduced to what can be compared: two replicas agree exactly if the reduced values are equal.

Pickles will not do: they tell objects that are shared from objects that are equal. Sets are compared as sets, mappings
with their order, since a machine that lists a dictionary shows its order to callers. Numbers compare with their types:
``1``, ``1.0`` and ``True`` are three values.
"""

from __future__ import annotations

import enum
import pickle
from collections.abc import Iterator
from typing import Any

__all__ = ["canonical", "mutable_parts"]

_PLAIN = frozenset({type(None), bool, int, str, bytes})
DEEPEST = 50


def canonical(value: Any, depth: int = 0) -> Any:
    """Return a stand-in for ``value`` that is equal to another one's exactly if the values are the same."""
    kind = type(value)
    if kind in _PLAIN:
        return value if kind is str or kind is bytes else (kind.__name__, value)
    if kind is float:
        return "float", repr(value)
    if depth > DEEPEST:
        return "deep", kind.__qualname__
    if isinstance(value, enum.Enum):
        return kind.__qualname__, value.name
    if isinstance(value, BaseException):
        return kind.__qualname__, canonical(value.args, depth + 1)
    if isinstance(value, dict):
        items = tuple((canonical(key, depth + 1), canonical(one, depth + 1)) for key, one in value.items())
        return kind.__qualname__, items
    if isinstance(value, set | frozenset):
        return kind.__qualname__, frozenset(canonical(one, depth + 1) for one in value)
    if isinstance(value, list | tuple) or hasattr(kind, "__iter__"):
        return kind.__qualname__, tuple(canonical(one, depth + 1) for one in _items(value))
    return kind.__qualname__, _contents(value, depth)


def _items(value: Any) -> list[Any]:
    """What an iterable holds, unless looking would use it up."""
    if hasattr(value, "__next__"):
        return [type(value).__qualname__]
    return list(value)


def _contents(value: Any, depth: int) -> Any:
    """Attributes if there are any, else the pickle, else the text."""
    attributes = dict(_attributes(value))
    if attributes:
        return tuple((name, canonical(one, depth + 1)) for name, one in sorted(attributes.items()))
    try:
        return pickle.dumps(value, 5)
    except Exception:  # noqa: BLE001 - an object of the user may fail in any way
        return repr(value)


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    yield from getattr(value, "__dict__", {}).items()
    for kind in type(value).__mro__:
        slots = getattr(kind, "__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name) and name not in ("__dict__", "__weakref__"):
                yield name, getattr(value, name)


def mutable_parts(value: Any, found: dict[int, Any] | None = None) -> dict[int, Any]:
    """Return every list, dictionary, set and object with attributes in ``value``, by identity."""
    found = {} if found is None else found
    kind = type(value)
    if kind in _PLAIN or kind is float or isinstance(value, enum.Enum | type) or callable(value) or id(value) in found:
        return found
    parts: list[Any] = []
    if isinstance(value, dict):
        parts = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        parts = list(value)
    parts += [one for _, one in _attributes(value)]
    if not isinstance(value, tuple | frozenset) and (parts or isinstance(value, dict | list | set | bytearray)):
        found[id(value)] = value
    for part in parts:
        mutable_parts(part, found)
    return found
