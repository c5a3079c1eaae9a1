"""``python -m tests.threads.edge_of_the_stack CODEC``: write values that nest ever deeper, with an empty stack below.

In a process of its own: while a RecursionError goes up a thousand frames, the collector runs a few times, and with it
whatever other tests have left to be finalized, where there is no stack left for it.

Prints how deep a value may be, how many values around that depth were applied, and how many were given.
"""

from __future__ import annotations

import _thread
import json
import sys
import threading
from collections.abc import Callable
from typing import Any

import raft_actors as raft
from raft_actors.codec import CheckedCodec, resolve

AROUND = 20


class Json:
    """A user's codec; a number becomes so many brackets, since a deeper list could not be encoded."""

    name = "json"

    def encode(self, value: Any) -> bytes:
        return b"[" * value + b"]" * value if isinstance(value, int) else json.dumps(value).encode()

    def decode(self, data: bytes) -> Any:
        return json.loads(data)


def dig(levels: int) -> str:
    """Recurse so deep; a stand-in for whatever users' objects do when they are put together again."""
    return "ground" if levels == 0 else dig(levels - 1)


class Deep:
    """Unpickling it recurses."""

    def __init__(self, levels: int) -> None:
        self.levels = levels

    def __reduce__(self) -> tuple[Any, ...]:
        return dig, (self.levels,)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def in_bare_thread(call: Callable[[], Any]) -> Any:
    """What ``call`` returns where the stack is as empty as anywhere."""
    done, results = threading.Event(), []

    def run() -> None:
        try:
            results.append(call())
        except Exception as error:
            results.append(error)
        done.set()

    _thread.start_new_thread(run, ())
    assert done.wait(10)
    return results[0]


def deepest_accepted(codec: CheckedCodec, make: Callable[[int], Any]) -> int:
    """How deep a value may be for a caller with an empty stack, by bisection."""
    good, bad = 1, 2 * sys.getrecursionlimit()
    assert isinstance(in_bare_thread(lambda: codec.encode_checked(make(bad))), raft.InvalidCommand)
    while bad - good > 1:
        middle = (good + bad) // 2
        if isinstance(in_bare_thread(lambda: codec.encode_checked(make(middle))), bytes):
            good = middle
        else:
            bad = middle
    return good


class Counting(raft.StateMachine):
    """Counts its commands and looks at none of them."""

    def init(self, name: str) -> int:
        return 0

    def handle_write(self, command: Any, state: int) -> Any:
        return state + 1, state + 1


CODECS: dict[str, tuple[Any, Callable[[int], Any]]] = {
    "json": (Json(), int),
    "cloudpickle": ("cloudpickle", Deep),
    "plain": ("plain", nested),
}


def main(name: str) -> None:
    codec, make = CODECS[name]
    deepest = deepest_accepted(resolve(codec), make)
    raft.start_peer(Counting, name="s1", config=raft.Config(storage="memory", codec=codec, restart=None))
    raft.set_configuration("s1", ["s1"])
    raft.leader("s1")
    applied = 0
    for levels in range(deepest - AROUND, deepest + AROUND):
        result = in_bare_thread(lambda levels=levels: raft.write("s1", make(levels)))
        if not isinstance(result, raft.InvalidCommand):
            applied += 1
            assert result == applied, f"at {levels} levels of {deepest}"
    assert raft.status("s1").failure is None
    raft.stop("s1")
    print(deepest, applied, 2 * AROUND)


if __name__ == "__main__":
    main(sys.argv[1])
