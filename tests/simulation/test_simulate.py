"""``simulate``: the same seed is the same run, a sound cluster passes, and careless machines are found."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import time
from typing import Any

import pytest

from raft_actors.machines import KV, Counter, Stack
from raft_actors.state_machine import StateMachine
from raft_actors.testing import Report, check_linearizable, simulate
from raft_actors.testing.simulation import FAULTS, Ledger, SimulationFailed
from tests.simulation.careless import FirstOfASet, LeastOfASet
from tests.simulation.planting import planted

TRACE_PROGRAM = """
import hashlib, sys
from raft_actors.testing.simulation import Ledger, simulate
report = simulate(Ledger, seed=int(sys.argv[1]), steps=1500, peers=5)
history = repr(report.history)
print(hashlib.sha256((report.trace + history).encode()).hexdigest(), report.ok, report.steps)
"""


def trace_in_a_process(seed: int, hash_seed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", TRACE_PROGRAM, str(seed)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("seed", [1, 8, 45])
def test_a_seed_is_the_same_run_byte_for_byte_in_every_process(seed) -> None:
    first, *others = [trace_in_a_process(seed, hash_seed) for hash_seed in ("0", "1", "4711")]
    assert others == [first, first]
    assert "True" in first


def test_a_seed_is_the_same_run_twice_in_one_process_whatever_ran_between() -> None:
    first = simulate(Ledger, seed=3, steps=1500)
    simulate(KV, seed=4, steps=500)
    again = simulate(Ledger, seed=3, steps=1500)
    assert again.trace == first.trace
    assert again.history == first.history


def test_two_seeds_are_two_runs() -> None:
    assert simulate(Ledger, seed=1, steps=500).trace != simulate(Ledger, seed=2, steps=500).trace


@pytest.mark.parametrize("peers", range(1, 8))
def test_clusters_of_every_size_keep_all_invariants(peers) -> None:
    for seed in range(6):
        report = simulate(Ledger, seed=1000 * peers + seed, steps=1500, peers=peers)
        report.check()
        assert report.steps >= 1500


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_alone_is_survived(fault) -> None:
    for seed in range(5):
        simulate(Ledger, seed=seed, steps=1000, faults=(fault,)).check()


def test_without_faults_hardly_anything_is_refused() -> None:
    report = simulate(Ledger, seed=5, steps=3000, faults="none")
    report.check()
    assert report.plan.faults == ()
    answered = [one for one in report.history if one.status == "ok"]
    assert len(answered) > 50


@pytest.mark.parametrize("machine", [KV, Counter, Stack])
def test_shipped_machines_pass(machine) -> None:
    for seed in range(5):
        simulate(machine, seed=seed, steps=1500).check()


def test_the_history_can_be_checked_by_whoever_wants_to() -> None:
    report = simulate(KV, seed=2, steps=1500)
    assert report.ok
    assert len(report.history) > 20
    assert check_linearizable(report.history, "kv")


def test_a_report_tells_how_to_repeat_the_run() -> None:
    report = simulate(KV, seed=17, steps=300, peers=5, faults=("loss", "crash"))
    words = "simulate raft_actors.machines.kv:KV --seeds 1 --first 17 --steps 300 --peers 5 --faults loss,crash"
    assert report.replay == f"raft-actors {words}"


def test_a_violation_is_reported_and_raised_only_by_check() -> None:
    with planted("raft_actors.engine:Engine._perform", sends_first):
        report = simulate(Ledger, seed=1, steps=2000)
    assert not report.ok
    assert report.violations[0].startswith("effect order")
    assert report.trace.splitlines()[-1].endswith(report.violations[0])
    with pytest.raises(SimulationFailed, match="repeat it with: raft-actors simulate"):
        report.check()


def sends_first(original: Any) -> Any:
    def perform(self: Any, effects: Any) -> None:
        original(self, tuple(sorted(effects, key=lambda effect: type(effect).__name__ == "Persist")))

    return perform


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"peers": 0}, "peers"),
        ({"peers": 8}, "peers"),
        ({"steps": 0}, "steps"),
        ({"faults": ("earthquake",)}, "earthquake"),
    ],
)
def test_a_senseless_argument_is_named(arguments, named) -> None:
    with pytest.raises(ValueError, match=named):
        simulate(Ledger, seed=1, **arguments)


def test_a_machine_without_examples_needs_commands() -> None:
    with pytest.raises(ValueError, match=r"commands.*Silent.*examples"):
        simulate(Silent, seed=1)
    report = simulate(Silent, seed=1, steps=500, commands=lambda rng: ("write", rng.randrange(9)))
    assert report.ok


def test_commands_of_a_caller_take_the_place_of_examples() -> None:
    asked = itertools.count()

    def commands(rng: random.Random) -> tuple[str, Any]:
        return "write", ("set", "only", next(asked))

    report = simulate(KV, seed=1, steps=800, commands=commands)
    report.check()
    assert {one.key for one in report.history} == {"only"}


class Silent(StateMachine[Any, Any]):
    """Echoes; knows no examples."""

    def init(self, name: str) -> Any:
        return 0

    def handle_write(self, command: Any, state: Any) -> tuple[Any, Any]:
        return command, state


class Sound(StateMachine[Any, Any]):
    """Adds numbers up, in a list: what the careless machines below are made of."""

    def init(self, name: str) -> Any:
        return []

    def handle_write(self, command: Any, state: Any) -> tuple[Any, Any]:
        state.append(command)
        return len(state), state

    def handle_read(self, query: Any, state: Any) -> tuple[Any, Any]:
        return list(state), state

    @staticmethod
    def examples(rng: random.Random) -> tuple[str, Any]:
        return ("read", "all") if rng.random() < 0.3 else ("write", rng.randrange(100))


class Clocked(Sound):
    def handle_write(self, command: Any, state: Any) -> tuple[Any, Any]:
        state.append(time.perf_counter())
        return len(state), state


class Diced(Sound):
    def handle_write(self, command: Any, state: Any) -> tuple[Any, Any]:
        return random.random(), state


class Named(Sound):
    def init(self, name: str) -> Any:
        return [name]

    def handle_write(self, command: Any, state: Any) -> tuple[Any, Any]:
        return state[0], state


class ChangesInReads(Sound):
    def handle_read(self, query: Any, state: Any) -> tuple[Any, Any]:
        state.append(query)
        return len(state), state


class SharedState(Sound):
    everything: list[Any] = []

    def handle_write(self, command: Any, state: Any) -> tuple[Any, Any]:
        self.everything.append(command)
        return 0, self.everything


class Identities(Sound):
    def handle_write(self, command: Any, state: Any) -> tuple[Any, Any]:
        return id(state), state


@pytest.mark.parametrize("machine", [Clocked, Diced, Named, ChangesInReads, SharedState, Identities])
def test_a_careless_machine_is_found_at_once(machine) -> None:
    report = simulate(machine, seed=1, steps=1500)
    assert not report.ok
    assert any(report.violations[0].startswith(word) for word in ("equal", "reads change", "no aliasing"))


def test_a_machine_that_walks_a_set_is_found_although_all_replicas_agree() -> None:
    report = simulate(FirstOfASet, seed=1, steps=1000)
    assert not report.ok
    assert report.violations[0].startswith("equal in every process")
    simulate(LeastOfASet, seed=1, steps=1000).check()


def test_a_sound_machine_of_the_same_kind_is_not_blamed() -> None:
    for seed in range(5):
        simulate(Sound, seed=seed, steps=1500).check()


def test_an_exception_of_a_machine_is_a_result_and_no_violation() -> None:
    class Refusing(Sound):
        def handle_write(self, command: Any, state: Any) -> tuple[Any, Any]:
            if command % 3 == 0:
                raise ValueError(f"not {command}")
            return super().handle_write(command, state)

    simulate(Refusing, seed=2, steps=1500).check()


def test_a_report_shows_itself() -> None:
    report = simulate(Ledger, seed=6, steps=200)
    assert isinstance(report, Report)
    assert repr(report) == "<Report of seed 6: ok>"
