"""What tests of saved states share: a machine that holds anything, and codecs of all kinds."""

from __future__ import annotations

import dataclasses
import io
import json
from typing import Any

import raft_actors as raft
from raft_actors.codec import resolve
from raft_actors.machine_actor import Replica


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
