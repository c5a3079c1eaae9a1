"""Which operations can matter to what a client saw: the part of a register's history that a search has to look at.

Rule: what an observer sees was set by the last write before it. A write ``m`` cannot be that one if it was called after
the observer returned, or if some certain write ``b`` lies strictly between::

    m  |----|
    b           |-----|            b hides m from r, in every order
    r                     |----|

So an observer ``r`` has a *blocker* (of the certain plain writes that returned before ``r`` was called, the one called
last; the same with cas included is kept too, as it makes smaller parts fail) and *sources*: the writes of a value that
fits which are not hidden by it. A part of a history that holds a set of
observers, their blockers and all their sources is

- **sound**: an order of the whole history, cut down to the part, is an order of the part (the last write before an
  observer is a source, so it was kept). If the part has no order, the whole has none. This allows to shrink.
- **complete**, if it holds all observers: any order of the part extends to the whole. Let ``m`` be a certain plain
  write that was left out, and ``w`` the first plain write of the part that takes effect after ``m.call``. If that is
  before ``m.ret``, ``m`` goes directly before ``w``, unseen. Otherwise each observer called after ``m.ret`` has a plain
  blocker called no earlier than ``m`` (or ``m`` itself would be it), so it comes after ``w``; all others before ``w``
  were called before ``m.ret``, and again ``m`` goes directly before ``w``. An unknown write that was left out is a
  source of nothing: it did not happen. This allows to drop nearly all unseen and unknown writes before the search.

A cas is a write that is an observer as well. Where its observation is not part of the set, it stays as a plain write
(which asks for less, so soundness holds); a cas of unknown outcome keeps its observation.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from raft_actors.testing.history import Operation, freeze

INITIAL = 0
"""The number of the value that a register has before the first write: ``None``."""


class Step(NamedTuple):
    """An operation as a search sees it; values are small numbers, equal when the values are.

    Attributes:
        op: where it comes from.
        call: when it was called.
        ret: by when it has taken effect, infinite if optional.
        need: the value that must be current, or ``None``.
        avoid: the value that must not be current (a cas that was not done), or ``None``.
        sets: the value that is current afterwards, or ``None`` if it changes nothing.
        optional: True if it may also never take effect.
    """

    op: Operation
    call: float
    ret: float
    need: int | None = None
    avoid: int | None = None
    sets: int | None = None
    optional: bool = False

    @property
    def observes(self) -> bool:
        """Whether it says anything about the value before it."""
        return self.need is not None or self.avoid is not None


def steps_of(operations: Iterable[Operation]) -> list[Step]:
    """Translate the operations of one register, without those that say nothing and do nothing."""
    numbers: dict[Any, int] = {None: INITIAL}

    def number(value: Any) -> int:
        return numbers.setdefault(freeze(value), len(numbers))

    steps = (_step(op, number) for op in operations if op.status != "fail")
    return sorted((step for step in steps if step is not None), key=lambda step: step.call)


def _step(op: Operation, number: Callable[[Any], int]) -> Step | None:
    unknown = op.status == "unknown"
    ret = math.inf if unknown or op.ret is None else op.ret
    if op.op == "read":
        return None if unknown else Step(op, op.call, ret, need=number(op.output))
    if op.op == "write":
        return Step(op, op.call, ret, sets=number(op.value), optional=unknown)
    old, new = map(number, op.value)
    if not unknown and not op.output:
        return Step(op, op.call, ret, avoid=old)
    if old != new:
        return Step(op, op.call, ret, need=old, sets=new, optional=unknown)
    return None if unknown else Step(op, op.call, ret, need=old)  # It changes nothing.


class _Writes:
    """Certain writes in order of call, with a fast answer to: which were under way between two times?"""

    def __init__(self) -> None:
        self.calls: list[float] = []
        self.numbers: list[int] = []
        self.rets: list[float] = []
        self.latest_ret: list[float] = []

    def add(self, number: int, step: Step) -> None:
        self.calls.append(step.call)
        self.numbers.append(number)
        self.rets.append(step.ret)
        self.latest_ret.append(max(step.ret, self.latest_ret[-1]) if self.latest_ret else step.ret)

    def between(self, since: float, until: float) -> list[int]:
        """The writes called at or before ``until`` that returned at or after ``since``."""
        position = bisect_right(self.calls, until)
        found = []
        while position and self.latest_ret[position - 1] >= since:
            position -= 1
            if self.rets[position] >= since:
                found.append(self.numbers[position])
        return found


class _Blockers:
    """Of some writes, which one that returned before a given time was called last."""

    def __init__(self, steps: Sequence[Step], numbers: Iterable[int]) -> None:
        by_ret = sorted((steps[number].ret, steps[number].call, number) for number in numbers)
        self._rets = [ret for ret, _, _ in by_ret]
        self._last = list(accumulate(((call, number) for _, call, number in by_ret), max))

    def of(self, observer: Step) -> int | None:
        position = bisect_left(self._rets, observer.call)
        return self._last[position - 1][1] if position else None


class Evidence:
    """Blockers and sources among the steps of one register.

    Args:
        steps: in order of call.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        self._all = _Writes()
        self._certain: dict[int, _Writes] = {}
        self._unknown: dict[int, list[int]] = {}
        self._all_unknown: list[int] = []
        for number, step in enumerate(steps):
            if step.sets is not None:
                self._add(number, step, step.sets)
        certain = [n for n, step in enumerate(steps) if step.sets is not None and not step.optional]
        self._any_blocker = _Blockers(steps, certain)
        self._plain_blocker = _Blockers(steps, [n for n in certain if not steps[n].observes])

    def _add(self, number: int, step: Step, value: int) -> None:
        if step.optional:
            self._unknown.setdefault(value, []).append(number)
            self._all_unknown.append(number)
        else:
            self._certain.setdefault(value, _Writes()).add(number, step)
            self._all.add(number, step)

    def blockers(self, observer: Step) -> list[int]:
        """The writes that hide from the observer what returned before their call: the last of all, and of the plain."""
        found = (self._any_blocker.of(observer), self._plain_blocker.of(observer))
        return [number for number in found if number is not None]

    def sources(self, observer: Step) -> list[int]:
        """The certain writes that the observer may have seen directly."""
        since = self._since(observer)
        if observer.need is not None:
            return self._from(observer.need, since, observer.ret)
        return [n for n in self._all.between(since, observer.ret) if self.steps[n].sets != observer.avoid]

    def _since(self, observer: Step) -> float:
        number = self._any_blocker.of(observer)
        return -math.inf if number is None else self.steps[number].call

    def _from(self, value: int, since: float, until: float) -> list[int]:
        return self._certain[value].between(since, until) if value in self._certain else []

    def is_vacuous(self, observer: Step) -> bool:
        """Whether a cas that was not done could not have found its old value in any order, so that it says nothing."""
        if observer.avoid is None:
            return False
        since = self._since(observer)
        if observer.avoid == INITIAL and since == -math.inf:
            return False
        unknown = self._unknown.get(observer.avoid)
        if unknown and self.steps[unknown[0]].call <= observer.ret:
            return False
        return not self._from(observer.avoid, since, observer.ret)

    def observers(self) -> list[int]:
        """The numbers of all certain steps that say something, in order of return."""
        found = [n for n, s in enumerate(self.steps) if s.observes and not s.optional and not self.is_vacuous(s)]
        return sorted(found, key=lambda n: self.steps[n].ret)

    def part(self, observers: Iterable[int]) -> list[Step]:
        """The part of the history that belongs to these observers, in order of call."""
        chosen = set(observers)
        kept = set(chosen)
        todo = list(chosen)
        taken: dict[int | None, int] = {}
        while todo:
            observer = self.steps[todo.pop()]
            unknown = self._new_unknown(observer, taken)
            todo += [n for n in unknown if n not in kept and self.steps[n].observes]
            kept.update(unknown, self.sources(observer), self.blockers(observer))
        return [self._weakened(n, chosen) for n in sorted(kept)]

    def _new_unknown(self, observer: Step, taken: dict[int | None, int]) -> list[int]:
        """The unknown writes that fit and that no earlier question of the same kind has given."""
        value = observer.need
        candidates = self._all_unknown if value is None else self._unknown.get(value, [])
        start = position = taken.get(value, 0)
        while position < len(candidates) and self.steps[candidates[position]].call <= observer.ret:
            position += 1
        taken[value] = position
        return candidates[start:position]

    def _weakened(self, number: int, chosen: set[int]) -> Step:
        step = self.steps[number]
        keeps = number in chosen or step.optional
        return step if keeps else step._replace(need=None, avoid=None)


def settle_unknown(steps: list[Step]) -> list[Step]:
    """Make those unknown steps certain that alone can explain a value that was seen."""
    changed = True
    while changed:  # A cas that became certain needs a value too.
        changed = False
        suppliers = Counter(step.sets for step in steps if step.sets is not None)
        seen_by: dict[int, float] = {}
        for step in steps:
            if step.need is not None and not step.optional:
                seen_by[step.need] = min(step.ret, seen_by.get(step.need, math.inf))
        for number, step in enumerate(steps):
            if not step.optional or step.sets is None or step.sets == INITIAL or suppliers[step.sets] > 1:
                continue
            deadline = seen_by.get(step.sets)
            if deadline is not None and step.call <= deadline:
                steps[number] = step._replace(optional=False, ret=deadline)
                changed = True
    return steps
