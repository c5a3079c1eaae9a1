"""Where a state may be cut: where nothing that can be changed is held twice. When in doubt, it is not."""

from __future__ import annotations

import copyreg
import dataclasses
import datetime as dt
import decimal
import enum
import itertools
from collections import OrderedDict, defaultdict
from typing import Any

import pytest

from raft_actors.breathing import Breath
from raft_actors.state_sharing import BLOCK, FEW, frozen, let_go, stand_alone


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = 0


@dataclasses.dataclass(slots=True)
class Slotted:
    x: Any


class Listed(list[Any]):
    pass


class Reduced(Point):
    def __reduce__(self) -> Any:
        return Point, (1,)


class Stated(Point):
    def __getstate__(self) -> Any:
        return {}


class Registered(Point):
    pass


copyreg.pickle(Registered, lambda value: (Point, (1,)))  # type: ignore[arg-type,return-value]

SHARED: list[int] = []
CONSTANT = (1, ("a",))


def looked_into(point: Point) -> Point:
    """An object that has a dict of its own, which most have not until somebody asks for it."""
    vars(point)["z"] = 1
    return point


@pytest.mark.parametrize(
    "make",
    [
        lambda: [1, "a", None, b"b", 2.5, ()],
        lambda: [[number] for number in range(2_000)],
        lambda: [{"a": [{1, 2}, {"b": [bytearray(b"c")]}]}, {"a": []}],
        lambda: [CONSTANT, CONSTANT, [CONSTANT]],
        lambda: [Color.RED, Color.RED, dt.date(2000, 1, 1), decimal.Decimal("1.5"), int],
        lambda: [Point([1], Point(2)), Point({}), Slotted([Slotted(1)])],
        lambda: [looked_into(Point([1], Point({})))],
        lambda: [frozenset({("a", frozenset())})],
        list,
    ],
)
def test_a_state_that_shares_nothing_that_can_be_changed_may_be_cut(make) -> None:
    assert stand_alone(make())


@pytest.mark.parametrize(
    "make",
    [
        lambda: [SHARED],
        lambda: [[SHARED], 1],
        lambda: [{"a": SHARED}],
        lambda: [(1, (SHARED,))],
        lambda: [Point(SHARED)],
        lambda: [Slotted(SHARED)],
        lambda: [looked_into(Point(SHARED))],
        lambda: [[0] for _ in range(BLOCK)] + [SHARED],
        lambda: 2 * [[1]],
        lambda: 2 * [([],)],
        lambda: 2 * [Point(1)],
        lambda: [OrderedDict(), 1],
        lambda: [defaultdict(list)],
        lambda: [Listed()],
        lambda: [lambda: SHARED],
        lambda: [SHARED.append],
        lambda: [Reduced(1)],
        lambda: [Stated(1)],
        lambda: [Registered(1)],
        lambda: [object.__reduce__],
    ],
)
def test_a_state_that_shares_something_or_cannot_be_looked_into_is_not_cut(make) -> None:
    assert not stand_alone(make())


def test_a_state_that_leads_back_to_itself_is_not_cut() -> None:
    state: list[Any] = [[1]]
    state[0].append(state)
    assert not stand_alone(state)
    inner: list[Any] = []
    inner.append(inner)
    state = [inner]
    del inner
    assert not stand_alone(state)


def test_values_that_are_nested_very_deep_count_as_shared_and_mutable() -> None:
    deep: Any = 1
    for _ in range(2_000):
        deep = (deep,)
    assert not frozen((deep,))
    lists: list[Any] = []
    for _ in range(2_000):
        lists = [lists]
    assert not stand_alone(lists)


@pytest.mark.parametrize("value", [1, "a", b"b", None, 1j, (), (1, ("a", frozenset({b"b"})))])
def test_atoms_and_tuples_of_them_cannot_be_changed(value) -> None:
    assert frozen((value,))
    assert frozen([0] * BLOCK + [value])


@pytest.mark.parametrize("value", [[], {}, set(), bytearray(), Point(1), ([],), (1, (2, [])), Color.RED, Listed()])
def test_everything_else_counts_as_something_that_can_be_changed(value) -> None:
    assert not frozen((value,))
    assert not frozen([0] * BLOCK + [value])


class Told:
    """Tells when it is freed."""

    freed = 0

    def __del__(self) -> None:
        Told.freed += 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: {n: Told() for n in range(3_000)},
        lambda: [Told() for _ in range(3_000)],
        lambda: {Told() for _ in range(3_000)},
        lambda: {"large": {n: [Told()] for n in range(3_000)}},
        lambda: tuple(Told() for _ in range(3_000)),
    ],
)
def test_a_state_that_is_let_go_is_freed(make) -> None:
    Told.freed = 0
    box = [make()]
    let_go(box)
    assert Told.freed == 3_000
    assert box == []


def test_a_state_that_somebody_else_holds_keeps_its_contents() -> None:
    kept, inner = {1: [2]}, list(range(3_000))
    let_go([kept])
    let_go([{"a": inner, "b": kept}])
    assert kept == {1: [2]}
    assert inner == list(range(3_000))


def test_a_state_is_let_go_a_few_items_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    Told.freed, seen = 0, []
    monkeypatch.setattr(Breath, "take", lambda _: seen.append(Told.freed))
    let_go([{"large": {n: Told() for n in range(10_000)}, "small": Told()}])
    assert Told.freed == 10_001
    assert all(later - earlier <= FEW + 1 for earlier, later in itertools.pairwise([0, *seen]))
