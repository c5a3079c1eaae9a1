"""What a planted defect is, and how seeds are searched for one that shows it.

A defect replaces functions of ours by their qualified names; a run of the simulator with it must end in a violation.
The seed known to find it is tried first; where that does not find it any more, because the simulator draws differently
than it did, others are searched, up to a minute of CPU. A run that breaks another rule than the one that the defect is
about shows that something is wrong, and not that this would be found: it does not count.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

from raft_actors.state_machine import StateMachine
from raft_actors.testing.simulation import FAULTS, Ledger, Report, simulate
from tests.simulation.planting import planted

Make = Callable[[Any], Any]
"""Makes the replacement out of the original."""

ENOUGH_SECONDS = 60.0
"""CPU that a search may take."""
STEPS = 3000


class Album(StateMachine[tuple[str, Any], Any]):
    """A machine of the careless kind: it keeps what it is given, hands out what it keeps, and raises now and then."""

    def init(self, name: str) -> list[Any]:
        """Return an empty album."""
        return []

    def handle_write(self, command: tuple[str, Any], state: list[Any]) -> tuple[Any, list[Any]]:
        """Keep a picture and return it."""
        word, picture = command
        if word == "spoilt":
            raise ValueError("spoilt", picture)
        state.append(picture)
        del state[:-6]
        return picture, state

    def handle_read(self, query: str, state: list[Any]) -> tuple[Any, list[Any]]:
        """Return everything."""
        return state, state

    @staticmethod
    def examples(rng: Any) -> tuple[str, Any]:
        """Mostly pictures."""
        if rng.random() < 0.3:
            return "read", "all"
        return "write", ("spoilt" if rng.random() < 0.1 else "fine", [rng.randrange(1000)])


class Defect(NamedTuple):
    """One way to break our code.

    Attributes:
        name: what goes wrong, as a name.
        bugs: the lines of the list of known bugs that it stands for.
        sentence: what goes wrong.
        plants: qualified names, and what makes their replacements.
        peers: size of the cluster in which it shows.
        steps: length of a run.
        machine: the state machine that shows it.
        without: faults that stand in its way.
    """

    name: str
    bugs: str
    sentence: str
    plants: Mapping[str, Make]
    peers: int = 3
    steps: int = STEPS
    machine: type[StateMachine[Any, Any]] = Ledger
    without: tuple[str, ...] = ()


BREAKS = re.compile(r"\b(TypeError|AttributeError|NameError|UnboundLocalError|ImportError|KeyError|IndexError)\b")
"""A mistake in a program: if that is all that a defect leads to, the defect itself does not fit our code any more."""


class Catch(NamedTuple):
    """A run that showed a defect.

    Attributes:
        seed: its seed.
        events: how many steps the peers took.
        seconds: CPU until it was found, searching included.
        violation: what did not hold.
    """

    seed: int
    events: int
    seconds: float
    violation: str

    @property
    def rule(self) -> str:
        """The name of the rule that did not hold, with which violations begin."""
        return self.violation.partition(":")[0]

    @property
    def is_broken(self) -> bool:
        """Whether the defect does not do what it says: it fails itself, and that any run would show."""
        return BREAKS.search(self.violation) is not None


DEFECTS: list[Defect] = []
"""All of them, in the order of their definition; ``tests.simulation.defects`` fills it."""


def defect(
    bugs: str,
    at: str,
    *,
    also: Mapping[str, Make] | None = None,
    peers: int = 3,
    machine: Any = Ledger,
    without: tuple[str, ...] = (),
) -> Callable[[Make], Defect]:
    """Make a function that makes a replacement for ``at`` into a defect; its docstring is the sentence."""

    def register(make: Make) -> Defect:
        plants = {at: make, **(also or {})}
        made = Defect(make.__name__, bugs, make.__doc__ or "", plants, peers=peers, machine=machine, without=without)
        DEFECTS.append(made)
        return made

    return register


def run(one: Defect, seed: int) -> Report:
    """A run of the simulator as this defect wants it, without the defect."""
    faults = [name for name in FAULTS if name not in one.without] if one.without else "all"
    return simulate(one.machine, seed=seed, steps=one.steps, peers=one.peers, faults=faults)


def run_with(one: Defect, seed: int) -> Report:
    """The same run with the defect in it."""
    with ExitStack() as stack:
        for name, make in one.plants.items():
            stack.enter_context(planted(name, make))
        return run(one, seed)


def hunt(one: Defect, seeds: Iterable[int], *, rule: str | None = None, enough: float = ENOUGH_SECONDS) -> Catch | None:
    """Try ``seeds``, and then all others in order, until one shows the defect by ``rule`` or the time is up.

    Without a ``rule`` the first seed counts that breaks any.
    """
    begin = time.process_time()
    for seed in itertools.chain(seeds, itertools.count()):
        report = run_with(one, seed)
        seconds = time.process_time() - begin
        catch = None if report.ok else Catch(seed, report.steps, seconds, report.violations[0])
        if catch is not None and rule in (None, catch.rule):
            return catch
        if seconds > enough:
            return None
    raise AssertionError("the seeds never end")
