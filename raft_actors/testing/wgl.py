"""Search for an order that explains a register: the algorithm of Wing and Gong with Lowe's memoisation, iterative.

Rule: walk through time, and at each point choose which of the operations under way takes effect next. Calls and returns
stand in a doubly linked list; the operations called before the first return that is left are the *pending* ones, each
of which may be next. One that took effect is lifted out of the list, and put back when the search retreats. A situation
that was met before is not searched again. Everything that took effect was called before the first return that is left,
so the pending operations, with the current value and the unknown writes that were used, say all about a situation: the
key stays as small as the concurrency, however long the history is.

Four rules keep the search from exploring what cannot matter. Each is exact.

- *Free*: an observation that holds now and changes nothing takes effect now. Moving it forward disturbs nobody.
- *Stranded*: a value that somebody still needs is not left if nobody can set it again.
- *Useful*: an unknown write is tried only where a pending operation waits for what it sets (or for the current value
  to go away): in any other place it could as well not have happened. Equal unknown writes are used in order of call.
  One that alone can explain a value that was seen did happen, before the first who saw it returned: it is not unknown.
- *Settled*: suppose all choices at a point are plain writes, one of them is made, and soon nobody is left who needs its
  value and nobody who could set it again, nor any failed cas that could have come directly after it. Then the other
  choices need no look: in any order of what was left, this write with its readers can be moved to the front.

(Wing & Gong 1993; Lowe, "Testing for linearizability", 2017.)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

from raft_actors.testing.evidence import INITIAL, Evidence, Step

UNSEEN = -1
"""The number shared by all values that nobody needs or avoids: they are all alike."""


class OutOfBudget(Exception):
    """The search took more steps than it was allowed."""


class Budget:
    """How many situations may still be visited; counted, not timed, so that equal input gives equal output."""

    def __init__(self, visits: float = math.inf) -> None:
        self.left = visits

    def spend(self, visits: int = 1) -> None:
        """Take from the budget.

        Raises:
            OutOfBudget: nothing is left.
        """
        self.left -= visits
        if self.left < 0:
            raise OutOfBudget


def has_order(steps: Sequence[Step], budget: Budget) -> bool:
    """Decide whether some order of the steps of one register explains them.

    Raises:
        OutOfBudget: before that was known.
    """
    return find_order(steps, budget) is not None


def find_order(steps: Sequence[Step], budget: Budget) -> list[Step] | None:
    """Find an order of the steps of one register that explains them; the unknown ones in it took effect.

    Raises:
        OutOfBudget: before one was found, and before it was known that there is none.
    """
    steps = settle_unknown(list(steps))
    supplied = {step.sets for step in steps} | {INITIAL}
    if any(step.need not in supplied for step in steps if step.need is not None and not step.optional):
        return None
    search = _Search(steps)
    return search.order() if search.run(budget) else None


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


def unseen_merged(steps: Sequence[Step]) -> dict[int | None, int | None]:
    """Give all values that nobody looks for one number, so that situations that differ in them only are the same."""
    seen = {step.need for step in steps} | {step.avoid for step in steps}
    return {step.sets: step.sets if step.sets in seen else UNSEEN for step in steps}


class _Choice:
    """A point to come back to: where the trail stood, and the moves that were not tried.

    Attributes:
        chain: the write that was chosen and the cas that had to follow it, as long as all may turn out settled.
    """

    __slots__ = ("chain", "mark", "moves", "plain", "state")

    def __init__(self, mark: int, state: int, moves: list[int], *, plain: bool) -> None:
        self.mark = mark
        self.state = state
        self.moves = moves
        self.plain = plain
        self.chain: list[int] | None = None


class _Search:
    """One depth-first search. Moves are numbers: a certain step by its own, a kind of unknown step by ``~kind``."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.fixed = fixed = sorted((step for step in steps if not step.optional), key=lambda step: step.call)
        self.merged = unseen_merged(steps)
        self.need = [step.need for step in fixed]
        self.sets = [self.merged[step.sets] for step in fixed]
        self.avoid = [step.avoid for step in fixed]
        self.reads = [step.need if step.sets is None else None for step in fixed]
        self.needs = Counter(step.need for step in fixed if step.need is not None)
        self.supplies = Counter(self.merged[step.sets] for step in steps if step.sets is not None)
        self.state = INITIAL
        self.trail: list[int] = []
        self.choices: list[_Choice] = []
        self._link(fixed)
        self._group([step for step in steps if step.optional])
        self._watch(fixed)

    def _link(self, fixed: Sequence[Step]) -> None:
        """Build the list of calls and returns; a call stands before a return of the same time."""
        events = [(s.call, 0, i) for i, s in enumerate(fixed)] + [(s.ret, 1, i) for i, s in enumerate(fixed)]
        events.sort()
        size = len(events)
        self.head = size
        self.next = [*range(1, size + 1), 0]
        self.previous = [size, *range(size)]
        self.called = [number if kind == 0 else -1 for _, kind, number in events] + [-1]
        self.time = [time for time, _, _ in events] + [math.inf]
        self.call_at = [0] * len(fixed)
        self.return_at = [0] * len(fixed)
        for position, (_, kind, number) in enumerate(events):
            (self.return_at if kind else self.call_at)[number] = position

    def _group(self, optional: Sequence[Step]) -> None:
        """Sort the unknown steps into kinds: those of one kind do the same, and the one called first is used first."""
        alike: dict[tuple[int | None, int], list[Step]] = {}
        for step in sorted(optional, key=lambda step: step.call):
            sets = self.merged[step.sets]
            if sets is not None:
                alike.setdefault((step.need, sets), []).append(step)
        self.kinds = list(alike)
        self.alike = list(alike.values())
        self.used = [0] * len(alike)
        self.spent = 0
        self.bit_of = [0, *accumulate(map(len, self.alike))]
        self.maybe_needs = {need for need, _ in alike if need is not None}
        self.kinds_to: dict[int, list[int]] = {}
        for kind, (_, sets) in enumerate(self.kinds):
            self.kinds_to.setdefault(sets, []).append(kind)

    def _watch(self, fixed: Sequence[Step]) -> None:
        """Note for each write the failed cas that may come directly after it."""
        evidence = Evidence(fixed) if any(step.avoid is not None for step in fixed) else None
        self.done = [False] * len(fixed)
        self.watchers: dict[int, list[int]] = {}
        for number, step in enumerate(fixed):
            for write in evidence.sources(step) if evidence and step.avoid is not None else ():
                self.watchers.setdefault(write, []).append(number)

    def order(self) -> list[Step]:
        """What took effect so far, in order."""
        unknown = [iter(alike) for alike in self.alike]
        return [self.fixed[move] if move >= 0 else next(unknown[~move]) for move in self.trail]

    def run(self, budget: Budget) -> bool:
        """Search until an order is found (True) or nothing is left to try (False)."""
        known: set[tuple[int, int, tuple[int, ...]]] = set()
        while True:
            budget.spend()
            pending, limit = self._take_free()
            if not pending:
                return True
            self._forget_settled()
            situation = (self.state, self.spent, tuple(pending))
            moves = [] if situation in known else self._moves(pending, limit)
            known.add(situation)
            if len(moves) == 1 and self.choices:
                self._make(moves[0], self.choices[-1])
                continue
            if moves:
                plain = all(self._is_plain(move) for move in moves)
                self.choices.append(_Choice(len(self.trail), self.state, moves, plain=plain))
            if not self._try_next():
                return False

    def _take_free(self) -> tuple[list[int], float]:
        """Let everything free take effect; return what is pending then, and the time of the first return."""
        reads, avoid, state = self.reads, self.avoid, self.state
        called, following, head = self.called, self.next, self.head
        while True:
            pending = []
            position = following[head]
            while (number := called[position]) >= 0:
                pending.append(number)
                position = following[position]
            free = [n for n in pending if reads[n] == state or (avoid[n] is not None and avoid[n] != state)]
            if not free:
                return pending, self.time[position]
            for number in free:
                self._lift(number)

    def _moves(self, pending: Sequence[int], limit: float) -> list[int]:
        """What may change the value next, the most urgent last."""
        state = self.state
        stays_needed = self.needs[state] if not self.supplies[state] else 0
        moves = []
        for number in pending:
            sets, need = self.sets[number], self.need[number]
            if sets is None or (need is not None and need != state):
                continue
            if sets == state or stays_needed <= (need is not None):
                moves.append(number)
        moves.sort(key=self.return_at.__getitem__, reverse=True)
        if self.kinds and not stays_needed:
            moves += self._useful(pending, limit)
        return moves

    def _useful(self, pending: Sequence[int], limit: float) -> list[int]:
        """The kinds of unknown steps that set what is waited for."""
        state = self.state
        if any(self.avoid[number] == state for number in pending):
            kinds = list(range(len(self.kinds)))
        else:
            wanted = {self.need[number] for number in pending} | self.maybe_needs
            kinds = [kind for value in wanted if value is not None for kind in self.kinds_to.get(value, ())]
        return [~kind for kind in sorted(kinds) if self._can_use(kind, limit)]

    def _can_use(self, kind: int, limit: float) -> bool:
        need, sets = self.kinds[kind]
        if sets == self.state or (need is not None and need != self.state):
            return False
        alike, used = self.alike[kind], self.used[kind]
        return used < len(alike) and alike[used].call <= limit

    def _is_plain(self, move: int) -> bool:
        return (self.need[move] if move >= 0 else self.kinds[~move][0]) is None

    def _try_next(self) -> bool:
        """Go back to the last choice with a move that was not tried, and make it; False if there is none."""
        while self.choices:
            choice = self.choices[-1]
            self._undo(choice.mark)
            self.state = choice.state
            if choice.moves:
                self._make(choice.moves.pop(), choice)
                return True
            self.choices.pop()
        return False

    def _make(self, move: int, choice: _Choice) -> None:
        """Let a certain step or a kind of unknown step set the value."""
        if move < 0:
            choice.chain = None
            self._use(~move, 1)
            self.trail.append(move)
            self.state = self.kinds[~move][1]
            return
        before = self.state
        self._lift(move)
        value = self.sets[move]
        assert value is not None  # Only what sets a value is a move.
        self.state = value
        self._extend_chain(choice, move, before)

    def _extend_chain(self, choice: _Choice, move: int, before: int) -> None:
        """Remember the move if everything chosen since the choice can still turn out settled."""
        starts = self.need[move] is None
        chain = [] if starts and choice.plain and len(self.trail) == choice.mark + 1 else choice.chain
        leaves_nobody = starts or not self.needs[before]
        is_last = not self.supplies[self.state] or not self.needs[self.state]
        possible = chain is not None and starts == (not chain) and leaves_nobody and is_last
        choice.chain = [*(chain or ()), move] if possible and self.state not in self.maybe_needs else None

    def _forget_settled(self) -> None:
        """Drop the other moves of the last choice if the one that was made is settled."""
        choice = self.choices[-1] if self.choices else None
        if choice is None or not choice.moves or choice.chain is None or self.needs[self.state]:
            return
        if not any(
            self._may_follow(number, choice) for write in choice.chain for number in self.watchers.get(write, ())
        ):
            choice.moves.clear()

    def _may_follow(self, number: int, choice: _Choice) -> bool:
        """Whether a failed cas is left that needs to come after the chosen writes, lest it find its old value."""
        old = self.avoid[number]
        assert old is not None  # Only a failed cas watches.
        return not self.done[number] and (old == choice.state or self.supplies[old] > 0)

    def _lift(self, number: int) -> None:
        following, previous = self.next, self.previous
        for position in (self.call_at[number], self.return_at[number]):
            before, after = previous[position], following[position]
            following[before] = after
            previous[after] = before
        self._count(number, -1)
        self.trail.append(number)

    def _undo(self, mark: int) -> None:
        following, previous = self.next, self.previous
        while len(self.trail) > mark:
            number = self.trail.pop()
            if number < 0:
                self._use(~number, -1)
                continue
            for position in (self.return_at[number], self.call_at[number]):
                following[previous[position]] = position
                previous[following[position]] = position
            self._count(number, 1)

    def _count(self, number: int, change: int) -> None:
        need, sets = self.need[number], self.sets[number]
        if need is not None:
            self.needs[need] += change
        if sets is not None:
            self.supplies[sets] += change
        self.done[number] = change < 0

    def _use(self, kind: int, change: int) -> None:
        position = self.used[kind] if change > 0 else self.used[kind] - 1
        self.used[kind] += change
        self.spent ^= 1 << (self.bit_of[kind] + position)
        self.supplies[self.kinds[kind][1]] -= change
