"""Search for an order that explains a register: the algorithm of Wing and Gong with Lowe's memoisation, iterative.

Rule: walk through time, and at each point choose which of the operations under way takes effect next. Calls and returns
stand in a doubly linked list; the operations called before the first return that is left are the *pending* ones, each
of which may be next. One that took effect is lifted out of the list, and put back when the search retreats. A situation
that was met before is not searched again. Everything that took effect was called before the first return that is left,
so the pending operations, with the current value and the unknown writes that were used, say all about a situation: the
key stays as small as the concurrency, however long the history is.

Four rules keep the search from exploring what cannot matter. Each is exact.

- *Free*: an observation that holds now and changes nothing takes effect now. Moving it forward disturbs nobody.
- *Stranded*: a value is not left while somebody needs it who must return before anybody who sets it again is called.
- *Useful*: an unknown write is tried only where a pending operation waits for what it sets (or for the current value
  to go away): in any other place it could as well not have happened. Equal unknown writes are used in order of call.
  One that alone can explain a value that was seen did happen, before the first who saw it returned: it is not unknown.
- *Settled*: suppose all choices at a point are plain writes, one is made with all that follows from it (its readers, a
  cas that has to come next), and nobody is left who could come directly after these writes in any order. Then the other
  choices need no look: in any order of what is left, these steps can be moved to the front. What stood between them and
  the next write moved along, the next write does not care what was before it, and nor do the other choices.

(Wing & Gong 1993; Lowe, "Testing for linearizability", 2017.)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from raft_actors.testing.evidence import INITIAL, Evidence, Step, settle_unknown

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


class _Queue:
    """Steps in a fixed order, with a fast way to those that are left."""

    __slots__ = ("first", "numbers", "place")

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.place: dict[int, int] = {}
        self.first = 0

    def add(self, number: int) -> None:
        self.place[number] = len(self.numbers)
        self.numbers.append(number)

    def put_back(self, number: int) -> None:
        self.first = min(self.first, self.place[number])

    def left(self, done: Sequence[bool]) -> Iterator[int]:
        numbers = self.numbers
        while self.first < len(numbers) and done[numbers[self.first]]:
            self.first += 1
        return (numbers[place] for place in range(self.first, len(numbers)) if not done[numbers[place]])


def _queues(values: Sequence[int | None], order: Iterable[int]) -> dict[int | None, _Queue]:
    queues: dict[int | None, _Queue] = {}
    for number in order:
        if values[number] is not None:
            queues.setdefault(values[number], _Queue()).add(number)
    return queues


class _Search:
    """One depth-first search. Moves are numbers: a certain step by its own, a kind of unknown step by ``~kind``."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.fixed = fixed = sorted((step for step in steps if not step.optional), key=lambda step: step.call)
        self.merged = unseen_merged(steps)
        self.need = [step.need for step in fixed]
        self.sets = [self.merged[step.sets] for step in fixed]
        self.after = [INITIAL if sets is None else sets for sets in self.sets]  # Asked only where something is set.
        self.avoid = [step.avoid for step in fixed]
        self.reads = [step.need if step.sets is None else None for step in fixed]
        self.supplies = Counter(self.merged[step.sets] for step in steps if step.sets is not None)
        self.state = INITIAL
        self.trail: list[int] = []
        self.choices: list[_Choice] = []
        self.done = [False] * len(fixed)
        self.suppliers_of = _queues(self.sets, range(len(fixed)))
        self.observers_of = _queues(self.need, sorted(range(len(fixed)), key=lambda number: fixed[number].ret))
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
        self.kinds_to: dict[int | None, list[int]] = {}
        self.kinds_from: dict[int | None, list[int]] = {}
        for kind, (need, sets) in enumerate(self.kinds):
            self.kinds_to.setdefault(sets, []).append(kind)
            self.kinds_from.setdefault(need, []).append(kind)

    def _watch(self, fixed: Sequence[Step]) -> None:
        """Note for each write who may come directly after it."""
        evidence = Evidence(fixed)
        self.watchers: dict[int, list[int]] = {}
        for number, step in enumerate(fixed):
            for write in evidence.sources(step) if step.observes else ():
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
        stranded = self._stranded_by_leaving()
        moves = []
        for number in pending:
            sets, need = self.sets[number], self.need[number]
            if sets is None or (need is not None and need != state):
                continue
            if sets == state or stranded <= {number}:
                moves.append(number)
        wanted = {self.need[number] for number in pending}
        moves.sort(key=lambda n: (self.sets[n] in wanted, -self.return_at[n]))
        if self.kinds and not stranded:
            moves += self._useful(pending, limit)
        return moves

    def _stranded_by_leaving(self) -> set[int]:
        """Up to two steps that need the current value, and return before anybody left who sets it again is called."""
        observers = self.observers_of.get(self.state)
        if observers is None:
            return set()
        again = self._set_again()
        stranded: set[int] = set()
        for number in observers.left(self.done):
            if self.fixed[number].ret >= again or len(stranded) > 1:
                break
            stranded.add(number)
        return stranded

    def _set_again(self) -> float:
        """The earliest call of all that is left and sets the current value."""
        suppliers = self.suppliers_of.get(self.state)
        number = next(suppliers.left(self.done), None) if suppliers else None
        unknown = (k for k in self.kinds_to.get(self.state, ()) if self.used[k] < len(self.alike[k]))
        calls = [self.alike[kind][self.used[kind]].call for kind in unknown]
        return min(calls, default=math.inf) if number is None else min([self.fixed[number].call, *calls])

    def _useful(self, pending: Sequence[int], limit: float) -> list[int]:
        """The kinds of unknown steps that set what is waited for, be it through other unknown steps."""
        state = self.state
        if any(self.avoid[number] == state for number in pending):
            kinds = {*self.kinds_from.get(None, ()), *self.kinds_from.get(state, ())}
        else:
            kinds = set()
            todo = {self.need[number] for number in pending}
            wanted = set(todo)
            while todo:
                new = set(self.kinds_to.get(todo.pop(), ())) - kinds
                kinds |= new
                todo |= {self.kinds[kind][0] for kind in new} - wanted
                wanted |= todo
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
        self._lift(move)
        self.state = value = self.after[move]
        starts = choice.plain and len(self.trail) == choice.mark + 1
        chain = [] if starts else choice.chain
        extends = chain is not None and starts == (self.need[move] is None) and value not in self.maybe_needs
        choice.chain = [*(chain or ()), move] if extends else None

    def _forget_settled(self) -> None:
        """Drop the other moves of the last choice if the one that was made is settled."""
        choice = self.choices[-1] if self.choices else None
        if choice is None or not choice.moves or choice.chain is None:
            return
        watchers = (number for write in choice.chain for number in self.watchers.get(write, ()))
        if not any(self._may_follow(number, choice) for number in watchers):
            choice.moves.clear()

    def _may_follow(self, number: int, choice: _Choice) -> bool:
        """Whether this observer is left, and may need to come directly after one of the chosen writes.

        A failed cas only does so to keep from its old value; not if that is past and nobody is left to set it.
        """
        if self.done[number]:
            return False
        old = self.avoid[number]
        return old is None or old == choice.state or self.supplies[old] > 0

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
        if sets is not None:
            self.supplies[sets] += change
        self.done[number] = change < 0
        if change > 0:
            for queue in (self.observers_of.get(need), self.suppliers_of.get(sets)):
                if queue is not None:
                    queue.put_back(number)

    def _use(self, kind: int, change: int) -> None:
        position = self.used[kind] if change > 0 else self.used[kind] - 1
        self.used[kind] += change
        self.spent ^= 1 << (self.bit_of[kind] + position)
        self.supplies[self.kinds[kind][1]] -= change
