"""Mistakes of machines that are hard to see: the simulator tells them, and does not blame who only looks odd."""

from __future__ import annotations

import datetime as dt
import random
import sys
import time
import types
from collections import deque
from pathlib import PurePosixPath
from typing import Any

import pytest

from raft_actors.state_machine import StateMachine
from raft_actors.testing import simulate
from raft_actors.testing.simulation.canonical import canonical, mutable_parts


class Words(StateMachine[str, Any]):
    """Counts what it is given: what the machines below are made of."""

    def init(self, name: str) -> Any:
        return []

    def handle_write(self, command: str, state: Any) -> tuple[Any, Any]:
        state.append(command)
        return len(state), state

    def handle_read(self, query: Any, state: Any) -> tuple[Any, Any]:
        return len(state), state

    @staticmethod
    def examples(rng: random.Random) -> tuple[str, Any]:
        return ("read", "all") if rng.random() < 0.3 else ("write", f"word{rng.randrange(20)}")


def first_violation(machine: Any) -> str:
    report = simulate(machine, seed=1, steps=1000)
    return report.violations[0] if report.violations else "none"


# -- another day, another place ----------------------------------------------------------------------------------------


class ReadsTheHour(Words):
    """All replicas of one run see the same hour."""

    def handle_write(self, command: str, state: Any) -> tuple[Any, Any]:
        return int(time.time()) // 3600, state


class ReadsTheDate(Words):
    def handle_write(self, command: str, state: Any) -> tuple[Any, Any]:
        return dt.date.today().isoformat(), state


class TellsLocalTime(Words):
    """The time is replicated, the zone is not."""

    def handle_write(self, command: str, state: Any) -> tuple[Any, Any]:
        return dt.datetime.fromtimestamp(self.context.time).hour, state


class TellsTheTime(Words):
    """The same, done right."""

    def handle_write(self, command: str, state: Any) -> tuple[Any, Any]:
        return dt.datetime.fromtimestamp(self.context.time, dt.UTC).hour, state


@pytest.mark.parametrize("machine", [ReadsTheHour, ReadsTheDate, TellsLocalTime])
def test_a_machine_that_depends_on_where_and_when_it_runs_is_found(machine: Any) -> None:
    assert first_violation(machine).startswith("equal in every process")


def test_a_machine_that_uses_the_replicated_time_is_not_blamed() -> None:
    assert first_violation(TellsTheTime) == "none"


def test_a_machine_that_no_other_process_can_import_is_checked_there_all_the_same() -> None:
    class FirstWord(Words):
        def init(self, name: str) -> Any:
            return []

        def handle_write(self, command: str, state: Any) -> tuple[Any, Any]:
            state.append(command)
            return next(iter(set(state))), state

    assert first_violation(FirstWord).startswith("equal in every process")


def test_so_is_a_machine_of_a_module_that_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("a_module_of_this_process_only")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    kinds: dict[str, Any] = {"__module__": module.__name__, "init": lambda self, name: []}
    kinds["handle_write"] = lambda self, command, state: (state.append(command), (next(iter(set(state))), state))[1]
    for function in kinds.values():
        if callable(function):
            function.__module__ = module.__name__
    module.FirstWord = type("FirstWord", (Words,), kinds)  # type: ignore[attr-defined]
    assert first_violation(module.FirstWord).startswith("equal in every process")


# -- reads that change what hardly shows -------------------------------------------------------------------------------


class DrawsInReads(Words):
    def init(self, name: str) -> Any:
        return random.Random(1)

    def handle_write(self, command: str, state: Any) -> tuple[Any, Any]:
        return 0, state

    def handle_read(self, query: Any, state: Any) -> tuple[Any, Any]:
        return state.random(), state


class CountsReadsBesideItsItems(Words):
    class Items(dict[str, int]):
        reads = 0

    def init(self, name: str) -> Any:
        return self.Items()

    def handle_write(self, command: str, state: Any) -> tuple[Any, Any]:
        state[command] = 1
        return 0, state

    def handle_read(self, query: Any, state: Any) -> tuple[Any, Any]:
        state.reads += 1
        return 0, state


class TurnsInReads(Words):
    def init(self, name: str) -> Any:
        return deque("ab")

    def handle_read(self, query: Any, state: Any) -> tuple[Any, Any]:
        state.rotate()
        return 0, state


@pytest.mark.parametrize("machine", [DrawsInReads, CountsReadsBesideItsItems, TurnsInReads])
def test_a_read_that_changes_something_unseen_is_found(machine: Any) -> None:
    assert first_violation(machine).startswith("reads change nothing")


class KeepsPaths(Words):
    """A path keeps its text once somebody asked for it: that is no change."""

    def handle_write(self, command: str, state: Any) -> tuple[Any, Any]:
        state.append(PurePosixPath("/words") / command)
        return len(state), state

    def handle_read(self, query: Any, state: Any) -> tuple[Any, Any]:
        return [str(one) for one in state if hash(one)], state


class Link:
    """An item that knows the one before, and its list."""

    def __init__(self, word: str, before: Any, owner: Any) -> None:
        self.word, self.before, self.owner = word, before, owner


class KeepsLinks(Words):
    """A long chain whose links know their owner."""

    def init(self, name: str) -> Any:
        return {"last": None}

    def handle_write(self, command: str, state: Any) -> tuple[Any, Any]:
        for _ in range(50):
            state["last"] = Link(command, state["last"], state)
        return command, state

    def handle_read(self, query: Any, state: Any) -> tuple[Any, Any]:
        return state["last"] is None, state


@pytest.mark.parametrize("machine", [KeepsPaths, KeepsLinks])
def test_a_machine_with_an_unusual_state_is_not_blamed(machine: Any) -> None:
    assert first_violation(machine) == "none"


# -- replicas that share something -------------------------------------------------------------------------------------


class SharesAQueue(Words):
    """Every replica keeps the same queue, which nobody changes yet."""

    queue: deque[str] = deque()

    def init(self, name: str) -> Any:
        return [self.queue]

    def dump(self, image: Any, file: Any) -> None:
        file.write(b"a queue")

    def load(self, file: Any) -> Any:
        file.read(100)
        return [self.queue]

    def handle_write(self, command: str, state: Any) -> tuple[Any, Any]:
        return 0, state


def test_replicas_that_share_what_could_change_are_found() -> None:
    assert first_violation(SharesAQueue).startswith("no aliasing")


def test_a_value_that_contains_itself_can_be_compared() -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    other: list[Any] = [1]
    other.append(other)
    assert canonical(ring) == canonical(other)
    assert canonical(ring) != canonical([1, [2]])
    assert list(mutable_parts(ring)) == [id(ring)]


@pytest.mark.parametrize(("one", "other"), [(1, True), (1, 1.0), ([1], (1,)), ({"a": 1, "b": 2}, {"b": 2, "a": 1})])
def test_values_that_callers_can_tell_apart_are_two(one: Any, other: Any) -> None:
    assert canonical(one) != canonical(other)


def test_equal_sets_are_equal_in_whatever_order_they_were_made() -> None:
    assert canonical({8, 0}) == canonical({0, 8})


def test_a_set_reads_the_same_in_every_process() -> None:
    words = {f"word{number}" for number in range(10)}
    assert canonical(words) == ("set", tuple(sorted(words)), ())
