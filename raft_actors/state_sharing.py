"""What of a state may be shared with its image, and where a state may be cut: looked up in its objects, block by block.

Two questions, both answered with "no" when in doubt, and what else reference counts are good for, ``let_go``:

``frozen``         Can nobody change these values? Then an image may hold the same ones.
``stand_alone``    Is everything in these values that can be changed held by one of them only, and once? Then they can
                   be encoded one by one without making two things of one. Reference counts tell: what a second place
                   holds is counted twice. A class is trusted only if its objects are nothing but their attributes.
"""

from __future__ import annotations

import copyreg
import datetime as dt
import decimal
import enum
import fractions
import functools
import gc
import uuid
from collections.abc import Iterable, Iterator
from itertools import chain, compress, islice
from sys import getrefcount
from typing import Any

from raft_actors.breathing import Breath
from raft_actors.codec import ATOMS

__all__ = ["BLOCK", "FEW", "frozen", "let_go", "stand_alone"]

BLOCK = 8192
"""So many values are looked at in C between two breaths."""
FEW = 512
"""So many are looked at in Python."""
DEPTH = 20
"""How deep values are looked into; what is nested deeper counts as mutable and shared."""

_NESTING = frozenset({tuple, frozenset})
_FROZEN = ATOMS | _NESTING
_UNCUT: frozenset[type] = ATOMS | {
    *(dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone),
    *(decimal.Decimal, fractions.Fraction, uuid.UUID),
    type,
}
"""Values of these types never change, and nothing that changes is in them."""


def frozen(values: Iterable[object], depth: int = DEPTH) -> bool:
    """Return whether nobody can change any of ``values``: they are atoms, and tuples and frozensets of such."""
    breath = Breath()
    rest = iter(values)
    while block := list(islice(rest, BLOCK)):
        if not ATOMS.issuperset(map(type, block)):
            if depth == 0 or not _FROZEN.issuperset(map(type, block)):
                return False
            inner: Any = (value for value in block if type(value) in _NESTING)
            if not frozen(chain.from_iterable(inner), depth - 1):
                return False
        breath.take()
    return True


def stand_alone(values: Iterable[object], depth: int = DEPTH) -> bool:
    """Return whether no two of ``values`` share something that can be changed, and nobody else holds a part of it.

    Args:
        values: from an iterator of the container that holds them; a list beside it would count as another holder.
        depth: how deep to look.
    """
    breath = Breath()
    rest = iter(values)
    while block := list(islice(rest, FEW)):
        if not _UNCUT.issuperset(map(type, block)):
            suspects = [value for value in block if type(value) not in _UNCUT]
            del block  # it holds them, too
            counts = list(map(getrefcount, suspects))
            twice = compress(suspects, map(_ALONE.__lt__, counts))
            if depth == 0 or not frozen(value for value in twice if not isinstance(value, enum.Enum)):
                return False
            kinds: Any = list(map(type, suspects))
            if not all(map(_parts_of, kinds)):
                return False
            parts = (_parts_of(kind)(value) for kind, value in zip(kinds, suspects, strict=True))
            if not stand_alone(chain.from_iterable(parts), depth - 1):
                return False
        breath.take()
    return True


def _count_of_one_that_stands_alone() -> int:
    """What ``getrefcount`` says in ``stand_alone`` of an object that one container holds."""
    holder: list[object] = [[]]
    block = list(islice(iter(holder), FEW))
    suspects = [value for value in block if type(value) not in _UNCUT]
    del block
    return max(map(getrefcount, suspects))


_ALONE = _count_of_one_that_stands_alone()


@functools.lru_cache(maxsize=1024)
def _parts_of(kind: type) -> Any:
    """How to go through all parts of an object of this class; ``None`` if it may have parts that nobody sees."""
    if kind in (list, tuple, set, frozenset):
        return iter
    if kind is dict:
        return _parts_of_dict
    if kind is bytearray or issubclass(kind, enum.Enum):
        return _no_parts
    return _parts_of_object if _is_its_attributes(kind) else None


def _no_parts(_: object) -> Iterable[Any]:
    return ()


def _parts_of_dict(value: dict[Any, Any]) -> Iterable[Any]:
    return chain(value, value.values())


def _parts_of_object(value: object) -> Iterator[Any]:
    parts = gc.get_referents(value)
    while parts:
        yield parts.pop()  # the list must not hold what is looked at


def _is_its_attributes(kind: type) -> bool:
    """Whether an object of this class is its attributes and slots, for pickle as well as for ``gc``."""
    return (
        type(kind) is type
        and all(base.__flags__ & _HEAP_TYPE for base in kind.__mro__[:-1])  # written in Python, down to object
        and kind not in copyreg.dispatch_table
        and all(getattr(kind, name, None) is getattr(object, name, None) for name in _PICKLE_HOOKS)
    )


_HEAP_TYPE = 1 << 9
_PICKLE_HOOKS = ("__reduce_ex__", "__reduce__", "__getstate__", "__getnewargs_ex__", "__getnewargs__")


def let_go(box: list[Any]) -> None:
    """Free what is in ``box`` bit by bit: to free a million objects in one go holds up everybody for 0.1 s.

    Only dicts, lists and sets that nobody else holds are taken apart. Needs a thread that has time.

    Args:
        box: a list of one, its only holder; empty afterwards.
    """
    if type(box[0]) not in _TAKEN_APART or getrefcount(box[0]) != _ALONE_IN_BOX:
        box.clear()
        return
    state, breath = box.pop(), Breath()
    take: Any = _take_value if type(state) is dict else type(state).pop
    while state:
        parts = [take(state) for _ in range(min(len(state), FEW))]
        boxes = [[part] for part in parts if type(part) in _TAKEN_APART and len(part) > FEW]
        del parts
        for inner in boxes:
            let_go(inner)
        breath.take()


def _take_value(state: dict[Any, Any]) -> Any:
    return state.popitem()[1]


_TAKEN_APART = (dict, list, set)
_BOX: list[Any] = [[]]
_ALONE_IN_BOX = getrefcount(_BOX[0])
