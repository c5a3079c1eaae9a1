from __future__ import annotations

import copy

import pytest

import raft_actors as raft
from raft_actors.state_machine import Context


class Sum(raft.StateMachine[int, int]):
    def __init__(self) -> None:
        self.mine = True  # and no super().__init__()

    def init(self, name: str) -> int:
        return 0

    def handle_write(self, command: int, state: int) -> tuple[int, int]:
        return state + command, state + command


def test_a_machine_needs_nothing_but_its_functions() -> None:
    machine = Sum()
    assert machine.handle_write(2, machine.init("s1")) == (2, 2)
    assert machine.on_leader(1) is None
    assert machine.on_follower(2) is None


@pytest.mark.parametrize("missing", ["init", "handle_write"])
def test_a_machine_without_a_required_function_cannot_be_made(missing) -> None:
    functions = {name: lambda self, *args: None for name in ("init", "handle_write") if name != missing}
    with pytest.raises(TypeError, match=missing):
        type("Incomplete", (raft.StateMachine,), functions)()


def test_a_machine_without_reads_says_so_when_it_is_read() -> None:
    with pytest.raises(NotImplementedError, match=r"Sum answers no reads: give it handle_read"):
        Sum().handle_read("x", 0)


@pytest.mark.parametrize("value", ["index", "term", "time"])
def test_the_context_has_no_values_outside_of_handle_write(value) -> None:
    with pytest.raises(RuntimeError, match="only while handle_write runs"):
        getattr(Sum().context, value)


def test_the_context_belongs_to_one_machine_and_can_be_taken_away_again() -> None:
    machine, other = Sum(), Sum()
    machine.context = Context(7, 2, 1.5)
    assert (machine.context.index, machine.context.term, machine.context.time) == (7, 2, 1.5)
    assert repr(machine.context) == "Context(index=7, term=2, time=1.5)"
    assert "no context" in repr(other.context)
    del machine.context
    with pytest.raises(RuntimeError):
        machine.context.index  # noqa: B018


def test_a_machine_can_be_copied() -> None:
    assert copy.deepcopy(Sum()).mine
