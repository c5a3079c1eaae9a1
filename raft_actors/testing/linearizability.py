"""Decide whether a history could have come from one object that does one operation at a time.

Rule: a history is linearizable if every operation can be given one instant between its call and its return, such that
all outputs are those of the operations done in that order. It is so if it is so for each key by itself (linearizability
is local), so each key is checked alone:

- lists by the levels that unique values force (``list_append``), exact in n log n;
- registers by a search (``wgl``) through that part of the history that can matter (``evidence``). With values that are
  written once the search hardly ever has to go back; in general the problem is NP-hard, and a register with many
  concurrent writes of equal values can take long.

A history that fails is shrunk to a sub-history that fails too and whose failure proves that of the whole: a set of
observers of a register such that without any one of them nothing is wrong, and the writes that each could have seen.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import accumulate

from raft_actors.testing.evidence import INITIAL, Evidence, Step, steps_of
from raft_actors.testing.history import Finding, Operation, Verdict, by_key, describe, freeze, refuse, short
from raft_actors.testing.list_append import find_violation
from raft_actors.testing.wgl import Budget, OutOfBudget, find_order, has_order

__all__ = ["Operation", "Verdict", "check_linearizable"]

SHRINK_VISITS = 400_000
PROOF_LOOKS = 20_000_000
"""How much work goes into shrinking a register's history; counted, so that equal histories give equal verdicts."""


def check_linearizable(history: Iterable[Operation], model: str) -> Verdict:
    """Decide whether a history is linearizable.

    Operations that failed had no effect; those of unknown outcome may take effect at any time after their call, or
    never. Operations that only touch in time (one returns when the other is called) count as concurrent. A register
    or key is ``None`` at first, a list is empty.

    Args:
        history: the operations of all clients, in any order.
        model: ``"append"`` (operations ``append`` and ``read``; appended values are unique per key), ``"register"``
            (``write``, ``read``, ``cas``; the key may be ``None`` throughout) or ``"kv"`` (the same, with keys).

    Returns:
        A verdict that is true or false; its ``detail`` draws the smallest failing sub-history that was found.

    Raises:
        ValueError: the model or an operation makes no sense; the message names the field.
    """
    keys = by_key(history, model)
    count = sum(map(len, keys.values()))
    search: Callable[[Sequence[Operation]], Finding | None] = find_violation if model == "append" else _search_register
    for operations in keys.values():
        finding = search(operations)
        if finding is not None:
            return refuse(operations[0].key, finding, count)
    return Verdict(True, f"linearizable: {count} operations, {len(keys)} keys")


def _search_register(operations: Sequence[Operation]) -> Finding | None:
    """Find operations on one register that no order explains."""
    evidence = Evidence(steps_of(operations))
    observers = unexplained(evidence)
    if observers is None:
        return None
    budget = Budget(max(SHRINK_VISITS, 6 * len(operations)))

    def fails(chosen: Sequence[int]) -> bool:
        part = evidence.part(chosen)
        budget.spend(len(part))
        return not has_order(part, budget)

    observers = shrink(observers, fails)
    return _explain(_without_idle_writes(evidence, observers), evidence, operations)


def unexplained(evidence: Evidence) -> list[int] | None:
    """Find observers that no order explains, or ``None`` if there is an order for all.

    A failed cas says little (some value was not there) but costs the search much, so it is asked for only where the
    order that was found without it contradicts it. A few rounds are enough nearly always.
    """
    observers = evidence.observers()
    whole = evidence.part(observers)
    waived = {n for n in observers if evidence.steps[n].avoid is not None}
    while True:
        ignored = {id(evidence.steps[n]) for n in waived}
        order = find_order([step for step in whole if id(step) not in ignored], Budget())
        if order is None:
            return [n for n in observers if n not in waived]
        fits = fits_into(order)
        contradicted = [n for n in waived if not fits(evidence.steps[n])]
        if not contradicted:
            return None
        waived.difference_update(contradicted)


def fits_into(order: Sequence[Step]) -> Callable[[Step], bool]:
    """Let each step take effect as early as it can, and tell whether a failed cas finds a moment without its old value.

    Moments of different failed cas do not get into each other's way: they are moments of one clock.
    """
    times = list(accumulate((step.call for step in order), max))
    values = [INITIAL]
    for step in order:
        values.append(values[-1] if step.sets is None else step.sets)

    def fits(step: Step) -> bool:
        gap = bisect_left(times, step.call)  # The values[gap] is current from times[gap - 1] to times[gap].
        while values[gap] == step.avoid:
            if gap == len(times) or times[gap] > step.ret:
                return False
            gap += 1
        return True

    return fits


def shrink(items: list[int], fails: Callable[[Sequence[int]], bool]) -> list[int]:
    """Find a small part of ``items`` that fails: first halves, then ever finer pieces are left out.

    Args:
        items: fails as a whole.
        fails: whether a part fails; may raise `OutOfBudget`, which ends the search with the best part so far.
    """
    pieces = 2
    try:
        while len(items) > 1:
            size = -(-len(items) // pieces)
            cuts = range(0, len(items), size)
            parts = [items[cut : cut + size] for cut in cuts] if pieces == 2 else []
            parts += [items[:cut] + items[cut + size :] for cut in cuts]
            smaller = next((part for part in parts if part and fails(part)), None)
            if smaller is not None:
                pieces = 2 if len(smaller) <= size else max(pieces - 1, 2)
                items = smaller
            elif size == 1:
                break
            else:
                pieces = min(2 * pieces, len(items))
    except OutOfBudget:
        pass
    return items


def _without_idle_writes(evidence: Evidence, observers: list[int]) -> list[Step]:
    """Leave out, one by one, the writes without which the part is a proof still, and still fails."""
    part = evidence.part(observers)
    looks, visits = Budget(PROOF_LOOKS), Budget(SHRINK_VISITS)
    try:
        for step in [step for step in part if not step.observes]:
            smaller = [other for other in part if other is not step]
            looks.spend(len(evidence.steps) * len(observers))
            if is_proof(evidence, smaller) and not has_order(smaller, visits):
                part = smaller
    except OutOfBudget:
        pass
    return part


def is_proof(evidence: Evidence, part: Sequence[Step]) -> bool:
    """Whether the whole has no order if the part has none: what an observer may have seen is in it, or hidden by it."""
    kept = {id(step.op) for step in part}
    hiding = [step for step in part if step.sets is not None and not step.optional]
    for observer in (step for step in part if step.observes):
        hiders = [step.call for step in hiding if step.ret < observer.call]
        last = max(hiders, default=-math.inf)
        for step in evidence.steps:
            if step.call <= observer.ret and step.ret >= last and id(step.op) not in kept and _fits(step, observer):
                return False
    return True


def _fits(write: Step, observer: Step) -> bool:
    if write.sets is None:
        return False
    return write.sets != observer.avoid if observer.need is None else write.sets == observer.need


def _explain(part: Sequence[Step], evidence: Evidence, operations: Sequence[Operation]) -> Finding:
    """Show the part, with a write of each value that was seen (it is hidden, or the part would hold it)."""
    written = {step.sets for step in part} | {INITIAL}
    missing = [step for step in part if step.need is not None and step.need not in written]
    writers = [writer for step in missing if (writer := _writer(step, evidence)) is not None]
    # Two observers may lack the same value: one write of it is enough.
    shown = sorted([*part, *{id(writer.op): writer for writer in writers}.values()], key=lambda step: step.call)
    phantoms = [step for step in missing if all(writer.sets != step.need for writer in writers)]
    if not phantoms:
        late = any(writer.call > step.ret for step in missing for writer in writers if writer.sets == step.need)
        return _shown("a value was seen before its write began" if late else _reason(part), shown)
    op = phantoms[0].op
    value = op.value[0] if op.op == "cas" else op.output
    idle = [other for other in operations if _writes(other, value)]  # None of them had effect, or it were no phantom.
    why = "although its write certainly had no effect" if idle else "but never written"
    failed = [other for other in idle if all(other is not step.op for step in shown)]
    finding = _shown(f"{value!r} was seen {why}", shown)
    return Finding(finding.reason, [*failed, *finding.operations], [*map(describe, failed), *finding.labels])


def _reason(part: Sequence[Step]) -> str:
    observers = [step for step in part if step.observes and not step.optional]
    if len(observers) > 1:
        return "no order of these operations explains them"
    refused = observers[0].avoid is not None
    return "a cas was refused although it had to find its old value" if refused else "an overwritten value was seen"


def _writer(observer: Step, evidence: Evidence) -> Step | None:
    """The last write of the value that the observer needs, of those called before it returned if there is any."""
    writes = [step for step in evidence.steps if step.sets == observer.need]
    before = [step for step in writes if step.call <= observer.ret]
    chosen = before[-1:] or writes[:1]
    return chosen[0]._replace(need=None) if chosen else None


def _shown(reason: str, steps: Sequence[Step]) -> Finding:
    """Show steps as their operations; a cas whose old value plays no part counts as the write that it did."""
    operations, labels = [], []
    for step in steps:
        op = step.op
        if op.op == "cas" and not step.observes:
            labels.append(f"cas ..->{short(op.value[1])}")
            op = replace(op, op="write", value=op.value[1], output=None)
        else:
            labels.append(describe(op))
        operations.append(op)
    return Finding(reason, operations, labels)


def _writes(op: Operation, value: object) -> bool:
    if op.op == "read":
        return False
    return bool(freeze(op.value[1] if op.op == "cas" else op.value) == freeze(value))
