"""A machine that says nothing of snapshots: its state is captured, saved and loaded all the same."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
from typing import Any

import pytest

import raft_actors as raft
from raft_actors.codec import resolve
from raft_actors.machine_actor import Replica
from raft_actors.machines import KV
from raft_actors.state_images import CopiedState, EncodedState


@raft.register
@dataclasses.dataclass
class Account:
    owner: str
    history: list[int] = dataclasses.field(default_factory=list)


class Repr:
    """A codec of somebody else: it writes what a person could read, and knows no more than built-in values."""

    name = "repr"

    def encode(self, value: Any) -> bytes:
        return json.dumps(_tagged(value)).encode()

    def decode(self, data: bytes) -> Any:
        return _untagged(json.loads(data))


def _tagged(value: Any) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case bytes():
            return ["bytes", value.hex()]
        case dict():
            return ["dict", [[_tagged(key), _tagged(each)] for key, each in value.items()]]
        case Account():
            return ["account", value.owner, value.history]
        case list() | tuple() | set() | frozenset():
            return [type(value).__name__, [_tagged(each) for each in value]]
    raise ValueError(value)


def _untagged(value: Any) -> Any:
    match value:
        case ["bytes", data]:
            return bytes.fromhex(data)
        case ["dict", items]:
            return {_untagged(key): _untagged(each) for key, each in items}
        case ["account", owner, history]:
            return Account(owner, history)
        case [kind, items]:
            return {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[kind](map(_untagged, items))
    return value


CODECS: list[Any] = ["cloudpickle", "plain", Repr()]
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


class Holder(raft.StateMachine[Any, Any]):
    """Its state is what was written last."""

    def init(self, name: str) -> Any:
        return None

    def handle_write(self, command: Any, state: Any) -> tuple[Any, Any]:
        return None, command


def replica(state: Any, codec: Any = "cloudpickle", machine: type[raft.StateMachine[Any, Any]] = Holder) -> Replica:
    made = Replica(machine(), "s1", resolve(codec))
    made.adopt(state, 7)
    return made


def saved(one: Replica) -> io.BytesIO:
    """The state of a replica, in a file."""
    file = io.BytesIO()
    one.dump(one.capture(), file)
    file.seek(0)
    return file


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


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: getattr(codec, "name", codec))
@pytest.mark.parametrize("state", [{"a": 1}, {"a": [1]}, [1], [[1]], {1}, Account("ann", [1])], ids=repr)
def test_a_change_after_the_capture_does_not_show_in_what_is_saved(state, codec) -> None:
    state = copy.deepcopy(state)
    original = replica(state, codec)
    before = original.load(saved(original))
    image, file = original.capture(), io.BytesIO()
    change(state)
    original.dump(image, file)
    file.seek(0)
    back = original.load(file)
    assert back == before != state


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


def test_a_loaded_state_is_adopted_at_once() -> None:
    one = replica({"old": 1}, machine=KV)
    one.adopt({"new": 2}, 9)
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
