"""The checkers against one that tries every order: on thousands of small histories, and with rules of ours taken away.

A rule that can be taken away with nobody noticing is either superfluous or untested, so each has its planted bug here:
the comparison must go red.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from raft_actors.testing import evidence, linearizability, list_append, wgl
from raft_actors.testing.history import Operation
from raft_actors.testing.linearizability import check_linearizable

MODELS = ("append", "register", "kv")
INITIAL: dict[str, Any] = {"append": (), "register": None, "kv": None}


# --- every order -----------------------------------------------------------------------------------------------------


def every_order_is_wrong(history: Sequence[Operation], model: str) -> bool:
    """Try all permutations of all operations that may have had effect, each key by itself."""
    keys = {op.key for op in history}
    return any(not some_order([op for op in history if op.key == key and matters(op)], INITIAL[model]) for key in keys)


def matters(op: Operation) -> bool:
    return op.status == "ok" or (op.status == "unknown" and op.op != "read")


def some_order(left: list[Operation], state: Any) -> bool:
    if all(op.status == "unknown" for op in left):
        return True
    for op in left:
        others = [other for other in left if other is not op]
        if any(other.status == "ok" and other.ret < op.call for other in others):  # type: ignore[operator]
            continue
        allowed, after = apply(op, state)
        if allowed and some_order(others, after):
            return True
    return False


def apply(op: Operation, state: Any) -> tuple[bool, Any]:
    """Whether the operation can have had its output in this state, and the state after it."""
    if op.op == "append":
        return True, (*state, op.value)
    if op.op == "write":
        return True, op.value
    if op.op == "read":
        return (tuple(op.output) if isinstance(op.output, list) else op.output) == state, state
    done = state == op.value[0]
    return (True if op.status == "unknown" else done == op.output), op.value[1] if done else state


# --- small histories -------------------------------------------------------------------------------------------------


def random_history(seed: int, model: str) -> list[Operation]:
    """What clients of one atomic object saw, and often something that they cannot have seen."""
    rng = random.Random(f"{seed} {model}")
    values = rng.choice([2, 3, 8])
    span = rng.choice([4, 10, 20])
    count = rng.randrange(1, 8)
    history = [random_operation(rng, model, number, values, span) for number in range(count)]
    if rng.random() < 0.85:
        history = served(rng, history, model)
        if rng.random() < 0.6:
            corrupt(rng, history, values)
    return history


def random_operation(rng: random.Random, model: str, number: int, values: int, span: int) -> Operation:
    word = rng.choice(["append", "read"] if model == "append" else ["write", "read", "cas"])
    value: Any = number
    if word == "cas":
        value = (any_value(rng, values), any_value(rng, values))
    elif word != "append":
        value = any_value(rng, values) if word == "write" else None
    output: Any = None
    if word == "read":
        output = [] if model == "append" else any_value(rng, values)
    elif word == "cas":
        output = rng.random() < 0.5
    call = rng.randrange(span)
    status = rng.choices(["ok", "unknown", "fail"], [8, 2, 1])[0]
    ret = None if status == "unknown" else call + rng.randrange(1, 8)
    key = rng.choice("xy") if model == "kv" and span == 20 else "x"
    return Operation(number % 3, word, key, value, output, call, ret, status)


def any_value(rng: random.Random, values: int) -> int | None:
    return None if rng.random() < 0.1 else rng.randrange(values)


def served(rng: random.Random, history: list[Operation], model: str) -> list[Operation]:
    """Give each operation the output that an atomic object gave it at some time between its call and its return."""
    times = [rng.uniform(op.call, op.call + 10 if op.ret is None else op.ret) for op in history]
    states: dict[Any, Any] = {}
    answered = list(history)
    for number in sorted(range(len(history)), key=times.__getitem__):
        op = history[number]
        if op.status == "fail" or (op.status == "unknown" and rng.random() < 0.5):
            continue
        before = states.get(op.key, INITIAL[model])
        output: Any = None
        if op.op == "read":
            output = list(before) if model == "append" else before
        elif op.op == "cas":
            output = before == op.value[0]
        answered[number] = replace(op, output=output)
        states[op.key] = apply(answered[number], before)[1]
    return answered


def corrupt(rng: random.Random, history: list[Operation], values: int) -> None:
    """Change what one operation is, saw, or when it was."""
    number = rng.randrange(len(history))
    op = history[number]
    kind = rng.choice(["status", "time", "output", "output"])
    if kind == "status":
        ret = op.call + 3 if op.ret is None else op.ret
        op = replace(op, status=rng.choice(["ok", "fail"]), ret=ret)
    elif kind == "time":
        shift = rng.randrange(-6, 7)
        op = replace(op, call=op.call + shift, ret=None if op.ret is None else op.ret + shift)
    elif op.op == "cas":
        op = replace(op, output=not op.output)
    elif op.op == "read" and isinstance(op.output, list):
        op = replace(op, output=corrupt_list(rng, op.output))
    elif op.op == "read":
        op = replace(op, output=any_value(rng, values))
    history[number] = op


def corrupt_list(rng: random.Random, output: list[Any]) -> list[Any]:
    changed = list(output)
    kind = rng.randrange(3)
    if kind == 0 and changed:
        changed.pop(rng.randrange(len(changed)))
    elif kind == 1:
        changed.insert(rng.randrange(len(changed) + 1), rng.randrange(8))
    else:
        rng.shuffle(changed)
    return changed


# --- agreement -------------------------------------------------------------------------------------------------------


def a_cas_that_must_come_first() -> list[Operation]:
    """A write, all of whose readers are at hand, that must not be done before the cas."""
    return [
        Operation("a", "write", "x", 1, None, -2, -1, "ok"),
        Operation("b", "write", "x", 2, None, 0, 29, "ok"),
        Operation("c", "read", "x", None, 2, 0, 29, "ok"),
        Operation("d", "cas", "x", (1, 5), True, 0, 31, "ok"),
        Operation("e", "write", "x", 1, None, 0, 30, "ok"),
        Operation("f", "read", "x", None, 5, 10, 11, "ok"),
        Operation("f", "read", "x", None, 1, 20, 40, "ok"),
    ]


def histories(model: str, seeds: range) -> Iterator[tuple[object, list[Operation]]]:
    """Random ones, and those that chance does not find soon."""
    if model != "append":
        yield "a cas that must come first", a_cas_that_must_come_first()
    yield from ((seed, random_history(seed, model)) for seed in seeds)


def disagreements(model: str, seeds: range) -> Iterator[str]:
    """Compare with the checker that tries every order; what is shown as the reason must be one, too."""
    for seed, history in histories(model, seeds):
        wrong = every_order_is_wrong(history, model)
        verdict = check_linearizable(history, model)
        if verdict.ok == wrong:
            yield f"seed {seed}: {history} is {'not ' * wrong}linearizable, but: {verdict.detail}"
        elif wrong and not every_order_is_wrong(verdict.counterexample, model):
            yield f"seed {seed}: the counterexample has an order: {verdict.detail}"


@pytest.mark.parametrize("model", MODELS)
def test_the_checker_agrees_with_trying_every_order(model: str) -> None:
    assert next(disagreements(model, range(4000)), None) is None


@pytest.mark.parametrize("model", MODELS)
def test_the_histories_are_of_both_kinds(model: str) -> None:
    wrong = sum(every_order_is_wrong(random_history(seed, model), model) for seed in range(1000))
    assert 50 < wrong < 950


@pytest.mark.parametrize("model", MODELS)
def test_a_counterexample_needs_each_of_its_reads(model: str) -> None:
    for seed in range(2000):
        verdict = check_linearizable(random_history(seed, model), model)
        if "had no effect" in verdict.detail:
            continue  # The refused cas that is shown as the writer says something by itself.
        for op in verdict.counterexample:
            rest = [other for other in verdict.counterexample if other is not op]
            assert op.op != "read" or not every_order_is_wrong(rest, model), verdict.detail


def unsound_parts(seeds: range) -> Iterator[str]:
    """Look for a linearizable history with a part that is called a proof of the opposite."""
    for seed in seeds:
        rng = random.Random(seed)
        history = random_history(seed, "register")
        if every_order_is_wrong(history, "register"):
            continue
        found = evidence.Evidence(evidence.steps_of(history))
        observers = [number for number in found.observers() if rng.random() < 0.7]
        part = found.part(observers)
        thinned = [step for step in part if step.observes or rng.random() < 0.7]
        if not wgl.has_order(part, wgl.Budget()):
            yield f"seed {seed}: {history}: {part}"
        if linearizability.is_proof(found, thinned) and not wgl.has_order(thinned, wgl.Budget()):
            yield f"seed {seed}: {history}: {thinned}"


def test_a_part_of_a_linearizable_history_has_an_order() -> None:
    assert next(unsound_parts(range(4000)), None) is None


# --- planted bugs ----------------------------------------------------------------------------------------------------


def nothing(*_: Any) -> None:
    return None


def no_numbers(*_: Any) -> list[int]:
    return []


def always(*_: Any) -> bool:
    return True


def never(*_: Any) -> bool:
    return False


def any_failed_is_unknown(steps_of: Callable[[Sequence[Operation]], Any]) -> Callable[[Sequence[Operation]], Any]:
    return lambda ops: steps_of([replace(op, status="unknown") if op.status == "fail" else op for op in ops])


def unknown_always_happened(steps: list[evidence.Step]) -> list[evidence.Step]:
    return [step._replace(optional=False, ret=step.call + 9) if step.optional else step for step in steps]


def all_values_merged(steps: Sequence[evidence.Step]) -> dict[int | None, int | None]:
    return {step.sets: None if step.sets is None else wgl.UNSEEN for step in steps}


def anybody_is_stranded(search: Any) -> set[int]:
    return {-1, -2} & {-1 if search.state in search.need else 0}


REGISTER_BUGS: dict[str, tuple[Any, str, Any]] = {
    "a write that hides others is left out": (evidence.Evidence, "blockers", no_numbers),
    "the writes that may have been seen are left out": (evidence.Evidence, "sources", no_numbers),
    "unknown writes are left out": (evidence.Evidence, "_new_unknown", no_numbers),
    "a refused cas is never asked for": (evidence.Evidence, "is_vacuous", lambda self, step: step.avoid is not None),
    "failed operations may have happened": (linearizability, "steps_of", any_failed_is_unknown(evidence.steps_of)),
    "unknown operations did happen": (wgl, "settle_unknown", unknown_always_happened),
    "all values are alike": (wgl, "unseen_merged", all_values_merged),
    "unknown operations are never tried": (wgl._Search, "_useful", no_numbers),
    "unknown operations take effect before their call": (
        wgl._Search,
        "_can_use",
        lambda search, kind, limit: (
            search.used[kind] < len(search.alike[kind]) and search.kinds[kind][0] in (None, search.state)
        ),
    ),
    "any value that is needed somewhere is kept": (wgl._Search, "_stranded_by_leaving", anybody_is_stranded),
    "every choice is settled": (wgl._Search, "_may_follow", never),
    "a cas counts as a plain write": (wgl._Search, "_is_plain", always),
    "a refused cas fits everywhere": (linearizability, "fits_into", lambda order: always),
}

LIST_BUGS: dict[str, tuple[Any, str, Any]] = {
    "rule 1 is left out": (list_append, "find_phantom", nothing),
    "rule 2 is left out": (list_append, "find_fork", nothing),
    "rule 3 is left out": (list_append, "find_disorder", nothing),
    "an unknown append ends when its caller gave up": (list_append, "_ret", lambda op: op.call + 1),
    "an unknown append that nobody saw ends too": (
        list_append,
        "_ret",
        lambda op: op.call if op.ret is None else op.ret,
    ),
}


def turns_red(model: str) -> bool:
    try:
        return next(disagreements(model, range(6000)), None) is not None
    except LookupError:  # What later code relies on is gone: that is noticed, too.
        return True


@pytest.mark.parametrize("bug", REGISTER_BUGS)
def test_a_bug_planted_in_the_search_is_noticed(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*REGISTER_BUGS[bug])
    assert turns_red("register")


@pytest.mark.parametrize("bug", LIST_BUGS)
def test_a_bug_planted_in_the_list_checker_is_noticed(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*LIST_BUGS[bug])
    assert turns_red("append")


def test_a_part_that_is_called_a_proof_and_is_none_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linearizability, "is_proof", always)
    assert next(unsound_parts(range(4000)), None) is not None


def test_a_part_without_what_may_have_been_seen_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence.Evidence, "sources", no_numbers)
    assert next(unsound_parts(range(4000)), None) is not None
