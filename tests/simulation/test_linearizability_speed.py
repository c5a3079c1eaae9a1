"""A hundred thousand operations are judged in seconds, whatever the model and the verdict.

The bounds are ratios to plain Python work that is timed next to the check, so a slow or busy machine does not matter.
They are generous: a search that goes wrong is not slower by a factor but by orders of magnitude.
"""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from raft_actors.testing.history import Operation
from raft_actors.testing.linearizability import check_linearizable

COUNT = 100_000
AT_MOST = 120.0
"""How many times longer than copying each operation once. Measured: 1 to 25."""


def served_history(
    model: str, *, clients: int, keys: int, values: int | None = None, unknown: float = 0.02, count: int = COUNT
) -> list[Operation]:
    """What so many clients, each with one operation under way, saw of atomic objects; half of the unknown happened."""
    rng = random.Random(f"{model} {clients} {keys}")
    free = [(0.0, client) for client in range(clients)]
    calls = []
    for _ in range(count):
        call, client = heapq.heappop(free)
        call += rng.random() * 0.2
        ret = call + rng.expovariate(1.0)
        heapq.heappush(free, (ret, client))
        calls.append((rng.uniform(call, ret), client, call, ret))
    states: dict[Any, Any] = {}
    history = []
    for number, (_, client, call, ret) in enumerate(sorted(calls)):
        key = rng.randrange(keys) if keys else None
        status = "unknown" if rng.random() < unknown else "ok"
        before = states.get(key, [] if model == "append" else None)
        new = number if values is None else rng.randrange(values)
        word, value, output, after = one_operation(rng, model, before, new)
        history.append(Operation(client, word, key, value, output, call, ret, status))
        if status == "ok" or rng.random() < 0.5:
            states[key] = after
    return history


def one_operation(rng: random.Random, model: str, before: Any, new: int) -> tuple[str, Any, Any, Any]:
    kind = rng.random()
    if kind < 0.5:
        return "read", None, before, before
    if model == "append":
        return "append", new, None, [*before, new]
    if kind < 0.8:
        return "write", new, None, new
    old = before if rng.random() < 0.5 else new - 7
    return "cas", (old, new), old == before, new if old == before else before


def with_a_stale_read(history: Sequence[Operation]) -> list[Operation]:
    """Let a late read return what another read of the key saw long before."""
    seen: dict[Any, list[Operation]] = {}
    for number, op in enumerate(history):
        if op.op != "read" or op.status != "ok":
            continue
        older = [other for other in seen.get(op.key, [])[-60:-30] if other.output != op.output and other.output]
        if number > 0.8 * len(history) and older:
            return [*history[:number], replace(op, output=older[0].output), *history[number + 1 :]]
        seen.setdefault(op.key, []).append(op)
    raise AssertionError("no read could be made stale")


WORKLOADS: dict[str, dict[str, Any]] = {
    "many lists": {"model": "append", "clients": 32, "keys": 200},
    "one register, 8 clients": {"model": "register", "clients": 8, "keys": 0},
    "one register, 32 clients": {"model": "register", "clients": 32, "keys": 0},
    "many keys": {"model": "kv", "clients": 32, "keys": 200},
    "many keys, few values": {"model": "kv", "clients": 16, "keys": 200, "values": 50},
    "many keys, much unknown": {"model": "kv", "clients": 32, "keys": 50, "unknown": 0.2},
}


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [False, True], ids=["good", "bad"])
@pytest.mark.parametrize("name", WORKLOADS)
def test_a_hundred_thousand_operations_take_seconds(name: str, wrong: bool) -> None:
    history = served_history(**WORKLOADS[name])
    if wrong:
        history = with_a_stale_read(history)
    unit, spent = copying_time(history), time.process_time()
    verdict = check_linearizable(history, WORKLOADS[name]["model"])
    ratio = (time.process_time() - spent) / unit
    print(f"{name}: {ratio:.0f} units of {unit:.3f} s, {ratio * unit:.1f} s, shown: {len(verdict.counterexample)}")
    assert verdict.ok is not wrong
    assert ratio < AT_MOST
    assert len(verdict.counterexample) <= 8


def copying_time(history: Sequence[Operation]) -> float:
    """CPU seconds that it takes to copy each operation of a history: the best of three."""
    times = []
    for _ in range(3):
        started = time.process_time()
        for op in history:
            replace(op)
        times.append(time.process_time() - started)
    return min(times)


def test_unknown_writes_that_nobody_saw_cost_nothing() -> None:
    """Each stays concurrent with all that follows: without pruning, five hundred of them are never done with."""
    forever = [Operation(n, "write", "x", f"lost {n}", None, n, None, "unknown") for n in range(500)]
    history = served_history("kv", clients=8, keys=1, count=2000)
    assert check_linearizable([*forever, *(replace(op, key="x") for op in history)], "kv")


def test_many_unknown_writes_of_one_value_are_used_in_order() -> None:
    forever = [Operation(n, "write", "x", n % 3, None, n, None, "unknown") for n in range(300)]
    reads = [Operation("r", "read", "x", None, n * 7 % 3, 400 + n, 400.5 + n, "ok") for n in range(200)]
    assert check_linearizable([*forever, *reads], "kv")
    too_many = [replace(op, call=op.call + 1000, ret=(op.ret or 0) + 1000) for op in reads]
    assert not check_linearizable([*forever, *reads, *too_many], "kv")


def test_many_concurrent_writes_that_nobody_saw_do_not_multiply() -> None:
    crowd = [Operation(n, "write", "x", n, None, n, 100, "ok") for n in range(40)]
    late = [Operation("r", "read", "x", None, "gone", 200, 201, "ok")]
    assert not check_linearizable([*crowd, *late], "kv")
    stale = [Operation("r", "read", "x", None, value, 200 + at, 200.5 + at, "ok") for at, value in enumerate([3, 4])]
    assert not check_linearizable([*crowd, *stale], "kv")
