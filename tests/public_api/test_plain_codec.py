from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import math
import pickle
import zoneinfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import raft_actors as raft
from raft_actors import Incompatible, InvalidCommand
from raft_actors.codec import PlainCodec
from raft_actors.plain_codec import BIG_INT, DATE, DATETIME, DICT, LIST, MAX_DEPTH, REGISTERED, SET, TUPLE

codec = PlainCodec()

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")


@raft.register
@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: tuple[int, ...] = ()


@raft.register
@dataclasses.dataclass(slots=True)
class Slotted:
    items: list[int]
    total: int = dataclasses.field(init=False, default=0)


@raft.register
class Colour(enum.Enum):
    RED = 1
    CRIMSON = 1
    BLUE = "b"


@raft.register
class Level(enum.IntEnum):
    LOW = 1


@raft.register
class Mode(enum.Flag):
    R = 1
    W = 2


@dataclasses.dataclass
class Stranger:
    x: int


class StrangeColour(enum.Enum):
    RED = 1


class Text(str):
    pass


Pair = collections.namedtuple("Pair", "a b")


def same(one: object, other: object) -> bool:
    """Equal, with equal types all the way down, and NaN equal to itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return (one == other and math.copysign(1, one) == math.copysign(1, other)) or (one != one and other != other)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, set | frozenset):
        return len(one) == len(other) and all(any(same(a, b) for b in other) for a in one)
    if isinstance(one, dt.datetime | dt.time):
        return one == other and one.fold == other.fold and repr(one.tzinfo) == repr(other.tzinfo)
    if dataclasses.is_dataclass(one):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))
    return one == other


offsets = st.timedeltas(min_value=dt.timedelta(hours=-23), max_value=dt.timedelta(hours=23))
zones = st.one_of(
    st.none(), st.just(dt.UTC), st.builds(dt.timezone, offsets), st.builds(dt.timezone, offsets, st.text("ab"))
)
hashable_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**200), max_value=2**200),
    st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1]),
    st.floats(),
    st.text(),
    st.binary(),
    st.dates(),
    st.datetimes(timezones=zones),
    st.builds(dt.time.replace, st.times(), tzinfo=zones, fold=st.sampled_from([0, 1])),
    st.timedeltas(),
    st.sampled_from([Colour.RED, Colour.BLUE, Level.LOW, Mode.R | Mode.W, Mode(0)]),
)
hashables = st.recursive(
    hashable_leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(tuple),
        st.frozensets(inner, max_size=4),
        st.builds(Point, inner, st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=8,
)
leaves = st.one_of(hashables, st.binary().map(bytearray))
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(hashables, inner, max_size=4),
        st.sets(hashables, max_size=4),
        st.builds(Slotted, inner),
    ),
    max_leaves=16,
)


@given(values)
def test_a_plain_value_comes_back_exactly(value) -> None:
    assert same(codec.decode(codec.encode_checked(value)), value)


@given(st.binary(max_size=200))
def test_random_bytes_are_decoded_or_refused_but_never_crash(data) -> None:
    try:
        codec.decode(data)
    except Incompatible:
        pass


packed = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 15), st.floats(), st.text(max_size=3), st.binary(max_size=12)),
    lambda inner: st.one_of(st.lists(inner, max_size=8), st.dictionaries(st.text(max_size=2), inner, max_size=2)),
)


@given(packed)
def test_any_message_is_decoded_or_refused_but_never_crashes(message) -> None:
    try:
        codec.decode(msgspec.msgpack.encode(message))
    except Incompatible:
        pass


def test_the_checker_of_these_tests_sees_every_kind_of_difference() -> None:
    different = [
        (True, 1), (1, 1.0), (0.0, -0.0), ((1,), [1]), ({1: True}, {1: 1}), ({1: 0, 2: 0}, {2: 0, 1: 0}),
        ({1}, frozenset({1})), (Slotted([1]), Slotted([True])), (b"", bytearray()), ((True,), (1,)),
        (dt.time(1, fold=0), dt.time(1, fold=1)),
    ]  # fmt: skip
    assert not any(same(one, other) for one, other in different)
    assert same(math.nan, math.nan)


@pytest.mark.parametrize(
    "value",
    [Text("t"), Pair(1, 2), (Text("t"),), collections.OrderedDict(), collections.defaultdict(int), {Text("k"): 1}],
)
def test_a_subclass_of_a_built_in_is_refused_with_a_way_out(value) -> None:
    with pytest.raises(InvalidCommand, match="is a subclass of .*; convert it to a plain"):
        codec.encode(value)


@pytest.mark.parametrize("value", [Stranger(1), StrangeColour.RED, [Stranger(1)], {"k": StrangeColour.RED}])
def test_an_unregistered_class_is_refused_with_a_way_out(value) -> None:
    with pytest.raises(InvalidCommand, match=r"Strange.* is not registered; call raft_actors.register"):
        codec.encode(value)


@pytest.mark.parametrize("value", [1j, object(), int, len, (1j,), range(3), memoryview(b""), lambda: None, ...])
def test_what_is_not_plain_is_refused_by_name(value) -> None:
    with pytest.raises(InvalidCommand, match="is not a plain type"):
        codec.encode(value)


def test_a_time_zone_that_depends_on_tables_is_refused() -> None:
    class Own(zoneinfo.ZoneInfo):
        pass

    for zone in (zoneinfo.ZoneInfo("UTC"), Own("UTC")):
        with pytest.raises(InvalidCommand, match="fixed offset"):
            codec.encode(dt.datetime(2026, 1, 1, tzinfo=zone))


def test_a_string_with_a_lone_surrogate_is_refused() -> None:
    for value in ("\ud800", ("\ud800",), ["\ud800"]):
        with pytest.raises(InvalidCommand):
            codec.encode(value)


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


def test_values_may_be_nested_up_to_the_limit() -> None:
    assert codec.decode(codec.encode_checked(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    for depth in (MAX_DEPTH + 1, 500, 5000):
        with pytest.raises(InvalidCommand, match="nested deeper"):
            codec.encode(nested(depth))


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(InvalidCommand, match="nested deeper"):
        codec.encode(value)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 500, 100_000])
def test_bytes_that_are_nested_too_deeply_are_incompatible(depth) -> None:
    with pytest.raises(Incompatible):
        codec.decode(b"\x92\x01" * depth + b"\xc0")  # [LIST, [LIST, ... None]]


@pytest.mark.parametrize(
    "message",
    [
        [], [None], [True, 1], [1.0], [-1], [99], [[0]], ["0"], {}, {"a": 1}, [TUPLE, {}],
        [DICT, 1], [DICT, [LIST], 1], [SET, [LIST]], [BIG_INT], [BIG_INT, "x"], [DATE, 2026, 13, 1],
        [DATE, b"\x07\xe5\x01\x01"],
        [DATETIME, 2026, 1, 1], [DATETIME, 2026, 1, 1, 0, 0, 0, 0, 0, [1, 0]], [5, 10], [5, "x"],
        [REGISTERED], [REGISTERED, "os:system"], [REGISTERED, [1]], [REGISTERED, f"{__name__}:Point"],
        [REGISTERED, f"{__name__}:Point", "x", 1, "z", 2], [REGISTERED, f"{__name__}:Point", "x"],
        [REGISTERED, f"{__name__}:Colour", "GREEN"], [REGISTERED, f"{__name__}:Mode", 8],
        [REGISTERED, f"{__name__}:Colour"],
        msgspec.msgpack.Ext(5, b"x"), dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    ],
)  # fmt: skip
def test_messages_of_another_shape_are_incompatible(message) -> None:
    with pytest.raises(Incompatible, match="codec 'plain' cannot decode"):
        codec.decode(msgspec.msgpack.encode(message))


def test_a_pickle_is_not_executed_but_refused() -> None:
    with pytest.raises(Incompatible):
        codec.decode(pickle.dumps(Point(1)))


# -- registered classes --------------------------------------------------------------------------------------------


def test_registering_returns_the_class_and_names_it_after_its_place() -> None:
    assert raft.register(Point) is Point
    assert f"{__name__}:Point".encode() in codec.encode(Point(1))


def test_decoding_calls_no_constructor_of_a_dataclass() -> None:
    calls = []

    @raft.register
    @dataclasses.dataclass
    class Loud:
        x: int

        def __post_init__(self) -> None:
            calls.append(self.x)

    data = codec.encode_checked(Loud(1))
    assert calls == [1]
    assert codec.decode(data).x == 1
    assert calls == [1]


def test_a_field_that_is_not_an_argument_is_kept_too() -> None:
    value = Slotted([1])
    value.total = 7
    assert codec.decode(codec.encode_checked(value)).total == 7


def test_a_field_that_came_later_takes_its_default_in_old_entries() -> None:
    def define(**fields):
        made = dataclasses.make_dataclass("Evolving", fields.pop("fields"))
        return raft.register(made, name="test:evolving")

    old = codec.encode(define(fields=[("x", int)])(1))
    define(fields=[("x", int), ("y", int, 5), ("z", list, dataclasses.field(default_factory=list))])
    new = codec.decode(old)
    assert (new.x, new.y, new.z) == (1, 5, [])
    define(fields=[("x", int), ("y", int)])
    with pytest.raises(Incompatible, match="'y' .*is missing and has no default"):
        codec.decode(old)


def test_a_class_can_be_registered_under_its_old_name_after_a_move() -> None:
    @dataclasses.dataclass
    class Moved:
        x: int

    raft.register(Moved, name="old.module:Moved")
    data = codec.encode(Moved(3))
    assert b"old.module:Moved" in data
    assert codec.decode(data) == Moved(3)


def test_two_classes_cannot_have_one_name() -> None:
    with pytest.raises(ValueError, match="belongs to"):
        raft.register(Stranger, name=f"{__name__}:Point")


@pytest.mark.parametrize("bad", [int, object, Pair, Text, "Point", Point(1), None])
def test_only_dataclasses_and_enums_can_be_registered(bad) -> None:
    with pytest.raises(TypeError):
        raft.register(bad)


def test_a_dataclass_that_is_a_built_in_type_cannot_be_registered() -> None:
    @dataclasses.dataclass
    class Items(list):
        x: int = 0

    with pytest.raises(TypeError):
        raft.register(Items)


def test_an_object_that_lost_a_field_is_refused() -> None:
    value = Slotted([1])
    del value.items
    with pytest.raises(InvalidCommand, match="AttributeError"):
        codec.encode(value)


def test_a_class_that_is_not_registered_here_is_incompatible_and_named() -> None:
    with pytest.raises(Incompatible, match=r"'app:Gone' is not registered; call raft_actors.register"):
        codec.decode(msgspec.msgpack.encode([REGISTERED, "app:Gone", "x", 1]))
