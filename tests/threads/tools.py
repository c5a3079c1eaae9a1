"""What the tests with real threads share: machines that misbehave on demand, and a look at what is left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pykka

import raft_actors as raft
from raft_actors import names
from storage_adapters import lock

NEVER = threading.Event()
"""Never set: who waits for it stands for work that takes its time."""
OURS = (
    "raft-peer-",
    "raft-machine-",
    "raft-writer-",
    "raft-snapshots-",
    "raft-restart-",
    "raft-testing-",
    "raft-subscription",
)


class Recorder(raft.StateMachine):
    """Keeps every command it applied, in order; what it is given is what it does.

    ``("raise", error)`` raises it; ``("sleep", seconds)`` sleeps; ``("half", x)`` changes the state in place and raises
    then; ``("odd", value)`` returns ``value`` instead of a pair; ``("on", name, error)`` raises at that peer only.
    Reads: ``"all"``, ``"len"``, ``("sleep", seconds)``, ``("raise", error)``.
    """

    def init(self, name: str) -> list[Any]:
        self.name = name
        return []

    def handle_write(self, command: Any, state: list[Any]) -> Any:
        match command:
            case ("raise", error):
                raise error
            case ("sleep", seconds):
                NEVER.wait(seconds)
            case ("half", value):
                state.append(value)
                raise ValueError(f"after half of {value!r}")
            case ("odd", value):
                return value
            case ("on", name, error) if name == self.name:
                raise error
        state.append(command)
        return len(state), state

    def handle_read(self, query: Any, state: list[Any]) -> Any:
        match query:
            case "all":
                return state, state
            case "len":
                return len(state), state
            case ("sleep", seconds):
                NEVER.wait(seconds)
                return "awake", state
            case ("raise", error):
                raise error
        raise LookupError(query)


class Gate:
    """User code that hangs until the test opens the gate, at chosen peers."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.entered = threading.Event()
        self.at: set[str] = set()

    def pass_through(self, name: str) -> None:
        if name in self.at:
            self.entered.set()
            self.opened.wait(30)


def gated(gate: Gate) -> Callable[[], raft.StateMachine]:
    """A factory of recorders whose ``"hang"`` waits at the gate."""

    class Gated(Recorder):
        def handle_write(self, command: Any, state: list[Any]) -> Any:
            if command == "hang":
                gate.pass_through(self.name)
            return super().handle_write(command, state)

        def handle_read(self, query: Any, state: list[Any]) -> Any:
            if query == "hang":
                gate.pass_through(self.name)
                return "late", state
            return super().handle_read(query, state)

    return Gated


def outcome(future: Any, timeout: float = 10.0) -> Any:
    """The value of a future, or the exception it carries; ``TimeoutError`` of the test itself if it stays open."""
    try:
        return future.get(timeout=timeout)
    except Exception as error:
        return error


def wait_until(condition: Callable[[], object], timeout: float = 5.0, what: str = "") -> None:
    """Look until ``condition()`` is true."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what or condition}"
        NEVER.wait(0.002)


_before: set[object] = set()


def remember() -> None:
    """Take what other tests of this process have left behind (an abandoned thread, a planted lock) as not ours."""
    _before.clear()
    _before.update(_threads())
    _before.update(lock._held)


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(OURS)]


def alive() -> list[str]:
    """Names of the library's threads that run, but for the one of the process and those of before this test."""
    return [thread.name for thread in _threads() if thread not in _before]


def assert_nothing_left() -> None:
    """No thread, no name, no actor, no lock of a store."""
    wait_until(lambda: not alive(), 3.0, f"threads are alive: {alive()}")
    assert names.names() == ()
    assert pykka.ActorRegistry.get_all() == []
    assert set(lock._held) <= _before, "a store is locked"
