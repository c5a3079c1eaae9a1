"""A machine that says nothing of snapshots: its state is captured, saved and loaded all the same."""

from __future__ import annotations

import copy
import io
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import raft_actors as raft
from raft_actors.machines import KV
from raft_actors.state_images import CopiedState, EncodedState
from tests.public_api.saving import CODECS, Account, Holder, replica, saved

STATES: dict[str, Any] = {
    "nothing": None,
    "a number": 10**30,
    "a float": 0.1,
    "a text": "text",
    "a long text": "long" * 100_000,
    "bytes": b"\0\xff",
    "a tuple": (1, ("a", b"b", None), frozenset({2})),
    "an empty dict": {},
    "an empty list": [],
    "an empty set": set(),
    "a dict of atoms": {"a": 1, 2: b"b", None: 0.5, (1, ("x",)): True},
    "a large dict of atoms": {f"key {number}": number for number in range(20_000)},
    "a dict of lists": {number: [number, str(number)] for number in range(5_000)},
    "a dict with one large value": {"small": 1, "large": b"x" * 3_000_000, "last": "y"},
    "a list of atoms": [*range(10_000), "last"],
    "a list of lists": [[number] * 3 for number in range(5_000)],
    "a set": set(range(10_000)),
    "a dict of large ones": {
        "a": {1: 2},
        "b": {n: [n] for n in range(3_000)},
        "c": [[n] for n in range(3_000)],
        "d": 1,
    },
    "a list of large ones": [1, set(range(3_000)), [{n: {n: n} for n in range(2_000)}], [2]],
    "a nested state": {"users": {"ann": [1, {"deep": (1, [2])}]}, "index": {1: {"ann"}}},
    "a dataclass": Account("ann", [1, 2]),
    "a dict of dataclasses": {name: Account(name, [1]) for name in ("ann", "bob")},
}


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: getattr(codec, "name", codec))
@pytest.mark.parametrize("state", STATES.values(), ids=STATES.keys())
def test_every_state_that_the_codec_knows_comes_back_as_it_was(state, codec) -> None:
    file = saved(replica(state, codec))
    back = replica(None, codec).load(file)
    assert back == state
    assert type(back) is type(state)
    assert not file.read()
    if type(state) is dict:
        assert list(back) == list(state)


CHANGING = [{"a": 1}, {"a": [1]}, [1], [[1]], {1}, Account("ann", [1])]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: getattr(codec, "name", codec))
@pytest.mark.parametrize("state", CHANGING, ids=repr)
def test_a_change_after_the_capture_does_not_show_in_what_is_saved(state, codec) -> None:
    assert not later_changes_show(state, codec)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: getattr(codec, "name", codec))
def test_a_planted_shallow_copy_of_mutable_values_is_found(codec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raft_actors.state_images.frozen", lambda values: type(next(iter(values))) is not dict)
    assert later_changes_show({"a": [1]}, codec)
    monkeypatch.setattr(KV, "snapshot", lambda _, state: state.copy())
    assert later_changes_show({"a": [1]}, codec, KV)


def later_changes_show(state: Any, codec: Any, machine: type[raft.StateMachine[Any, Any]] = Holder) -> bool:
    state = copy.deepcopy(state)
    before = copy.deepcopy(state)
    original = replica(state, codec, machine)
    image, file = original.capture(), io.BytesIO()
    change(state)
    assert state != before
    original.dump(image, file)
    file.seek(0)
    return bool(original.load(file) != before)


def change(state: Any) -> None:
    match state:
        case {"a": [*_]}:
            state["a"].append(2)
        case dict():
            state["a"] = 2
        case [[*_]]:
            state[0].append(2)
        case list():
            state.append(2)
        case set():
            state.add(2)
        case Account():
            state.history.append(2)


def test_what_is_shared_in_a_state_is_shared_in_the_loaded_one() -> None:
    shared: list[int] = []
    state: dict[int, Any] = {number: [number] for number in range(5_000)}
    state[0] = state[4_999] = shared
    state[-1] = state
    back = replica(None).load(saved(replica(state)))
    assert back[0] is back[4_999] is not back[1]
    assert back[-1] is back


def tangle(rng: random.Random) -> Any:
    """A state whose parts may be found in many places, or lead back to themselves."""
    pool: list[Any] = [{}]
    for number in range(rng.randrange(12)):
        pool.append(rng.choice([list, dict, lambda: Account("x"), bytearray, lambda: (rng.choice(pool), number)])())
    for part in pool * 2:
        other = rng.choice(pool) if rng.random() < 0.4 else rng.choice([1, "a", (1, 2), [3], {4: [5]}])
        match part:
            case list():
                part.append(other)
            case dict():
                part[rng.randrange(9)] = other
            case Account():
                part.history = other
    return pool[0] if rng.random() < 0.5 else pool


def shape(value: Any, seen: dict[int, int]) -> Any:
    """What is where in a state, and what is found there again."""
    if not isinstance(value, list | dict | Account | bytearray | tuple):
        return value
    if id(value) in seen and type(value) is not tuple:
        return ("again", seen[id(value)])
    seen[id(value)] = len(seen)
    match value:
        case dict():
            return {key: shape(part, seen) for key, part in value.items()}
        case Account():
            return ("account", shape(value.history, seen))
        case bytearray():
            return "bytearray"
    return (type(value).__name__, *[shape(part, seen) for part in value])


def differing(seeds: range) -> list[int]:
    """The states that do not come back in the shape they had, each saved alone in the world."""
    found = []
    for seed in seeds:
        one = replica(None)
        one.adopt(tangle(random.Random(seed)), 7)
        if shape(one.load(saved(one)), {}) != shape(one.state, {}):
            found.append(seed)
    return found


def test_every_tangle_comes_back_as_it_was() -> None:
    assert not differing(range(1_000))


def test_a_planted_cut_through_what_is_shared_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raft_actors.state_encoding.stand_alone", lambda _: True)
    monkeypatch.setattr("raft_actors.state_encoding.FIRST_PIECE", 1)
    monkeypatch.setattr("raft_actors.state_encoding._any_large", lambda _: False)
    monkeypatch.setattr("raft_actors.state_encoding.LAST_PIECE", 1)
    assert differing(range(100))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.lists(inner).map(tuple),
    max_leaves=50,
)


@given(VALUES, st.sampled_from(CODECS))
def test_any_state_comes_back_as_it_was(state, codec) -> None:
    assert replica(None, codec).load(saved(replica(state, codec))) == state


def test_a_loaded_state_is_adopted_at_once() -> None:
    one = replica({"old": 1}, machine=KV)
    assert one.adopt({"new": 2}, 9) == [{"old": 1}]
    assert (one.state, one.applied) == ({"new": 2}, 9)
    with pytest.raises(raft.InvariantViolated, match="has applied 9 and would go back to 8"):
        one.adopt({}, 8)


def test_only_mutable_contents_are_encoded_while_the_machine_waits() -> None:
    for state in ({"a": [1]}, [[]], {(1, "a"): ([],)}, Account("ann"), bytearray(b"x")):
        assert isinstance(replica(state).capture(), EncodedState)
    for state in ({"a": (1, (b"b",))}, [1, frozenset({2})], {3}, {}, []):
        assert isinstance(replica(state).capture(), CopiedState)
    for state in (1, "a", (1, ("a", frozenset({b"b"})))):
        assert replica(state).capture() is state
