"""``simulate``: one seed, one run, one report."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Collection
from functools import cached_property
from pathlib import Path
from typing import Any

from raft_actors.behaviours import sending
from raft_actors.protocol import log as protocol_log
from raft_actors.state_machine import StateMachine
from raft_actors.testing.history import Operation
from raft_actors.testing.linearizability import check_linearizable
from raft_actors.testing.simulation.chronicle import Record
from raft_actors.testing.simulation.clients import Commands
from raft_actors.testing.simulation.cluster import Cluster
from raft_actors.testing.simulation.histories import history_of, model_of
from raft_actors.testing.simulation.ledger import Ledger, examples_of
from raft_actors.testing.simulation.picture import Caption, draw
from raft_actors.testing.simulation.plan import FAULTS, Plan, draw_plan
from raft_actors.testing.simulation.timeline import timeline
from raft_actors.testing.simulation.trace import as_text
from raft_actors.testing.simulation.world import Violated, World

__all__ = ["Report", "SimulationFailed", "simulate"]

LARGEST = 7


class SimulationFailed(AssertionError):
    """A simulated run broke a rule; the message says which, and how to repeat it."""


class Report:
    """What came of one run.

    Attributes:
        seed: the seed.
        violations: what did not hold, one line each; a run ends at its first.
        history: what the callers saw, for ``check_linearizable`` if the machine has a model.
        replay: the command that repeats the run.
        plan: what the seed stood for.
        steps: how many steps the peers took in all.
        seconds: virtual seconds that passed.
    """

    def __init__(self, *, seed: int, replay: str, plan: Plan) -> None:
        self.seed = seed
        self.replay = replay
        self.plan = plan
        self.violations: list[str] = []
        self.history: list[Operation] = []
        self.steps = 0
        self.seconds = 0.0
        self._record = Record()

    @property
    def peers(self) -> int:
        """How many peers there were."""
        return len(self._record.names)

    @property
    def ok(self) -> bool:
        """Whether everything held."""
        return not self.violations

    @cached_property
    def trace(self) -> str:
        """Everything that happened, a line each: the same bytes whenever the seed is run."""
        return as_text(self._record.log)

    def timeline(self, *, lines: int = 60) -> str:
        """Return the end of the run as a text to read: a column for each peer, and what mattered.

        Args:
            lines: how many at most.
        """
        return timeline(self._record, lines=lines)

    def svg(self) -> str:
        """Return a picture of the run: the whole in small, and the time before its violation in full."""
        return draw(self._record, self._caption())

    def _caption(self) -> Caption:
        title = f"Seed {self.seed}: a cluster of {self.peers}, {self.steps:,} steps, {self.seconds:.3f} virtual seconds"
        faults = f"faults: {', '.join(self.plan.faults) or 'none'}"
        return Caption(title, "\n".join(self.violations), (faults, f"repeat it with: {self.replay}"))

    def check(self) -> None:
        """Raise if something did not hold.

        Raises:
            SimulationFailed: with the violations, a timeline of what led to it, and the command that repeats the run.
        """
        if self.violations:
            words = [*self.violations, f"repeat it with: {self.replay}", "", self.timeline(lines=40)]
            raise SimulationFailed("\n".join(words))

    def __repr__(self) -> str:
        return f"<Report of seed {self.seed}: {'ok' if self.ok else self.violations[0]}>"

    def close(self, world: World, cluster: Cluster, machine: object) -> None:
        """Keep of a run what a report tells."""
        self.steps, self.seconds = world.steps, world.now
        self._record = Record(cluster.names, world.log, tuple(cluster.network.flights), world.now)
        self.history = history_of(cluster.clients.requests, machine)


def simulate(
    machine: Callable[[], StateMachine[Any, Any]],
    *,
    seed: int,
    steps: int = 5000,
    peers: int = 3,
    commands: Commands | None = None,
    faults: str | Collection[str] = "all",
) -> Report:
    """Run a cluster of ``machine`` on a virtual clock, network and disk under faults, and watch it.

    Everything but the world is real: rules, engine, log writer, log store, mailbox, codec and machine. The same
    arguments give the same run, whatever the process. Beside the invariants of Raft it finds machines that are not
    deterministic, that change their state in a read, or whose replicas share something that changes.

    Args:
        machine: a ``StateMachine`` class, or what makes one.
        seed: decides everything that is left to chance.
        steps: steps of all peers in the phase with faults (1 or more); a phase without them follows, in which the
            cluster has to recover.
        peers: 1 to 7.
        commands: returns ``("write", command)`` or ``("read", query)``; the machine's ``examples`` if it is left out.
        faults: ``"all"``, ``"none"``, or names out of ``FAULTS``, of which each seed switches on some.

    Returns:
        A report; it never raises because of what was found.

    Raises:
        ValueError: an argument makes no sense; the message names it.
    """
    allowed = _faults(faults)
    if not 1 <= peers <= LARGEST:
        raise ValueError(f"peers must be from 1 to {LARGEST}, not {peers!r}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps!r}")
    world = World(seed)
    plan = draw_plan(world.rng, allowed)
    instance = machine()
    drawn = "all" if faults == "all" else plan.faults  # without those that this seed would not switch on: the same run
    replay = _replay(machine, commands, seed=seed, steps=steps, peers=peers, faults=drawn)
    report = Report(seed=seed, replay=replay, plan=plan)
    chosen = commands or _examples(instance, plan)
    cluster = Cluster(world, plan, size=peers, factory=machine, commands=chosen)
    cached, protocol_log.CACHED_ENTRIES = protocol_log.CACHED_ENTRIES, plan.cached_entries
    piece, sending.CHUNK_BYTES = sending.CHUNK_BYTES, plan.chunk_bytes
    try:
        _run(cluster, steps, model_of(instance), report, instance)
    except Violated as violated:
        report.violations.append(str(violated))
        world.note("observer", "VIOLATION", str(violated))
    finally:
        protocol_log.CACHED_ENTRIES = cached
        sending.CHUNK_BYTES = piece
    report.close(world, cluster, instance)
    return report


def _run(cluster: Cluster, steps: int, model: str | None, report: Report, instance: object) -> None:
    cluster.run_safely(steps)
    cluster.run_until_well()
    if model is not None:
        verdict = check_linearizable(history_of(cluster.clients.requests, instance), model)
        if not verdict:
            raise Violated("linearizability", verdict.detail)


def _examples(instance: object, plan: Plan) -> Commands:
    if isinstance(instance, Ledger):
        return examples_of(plan.read_share)  # type: ignore[no-any-return]
    examples = getattr(instance, "examples", None)
    if examples is None:
        raise ValueError(
            f"commands is missing: give simulate commands(rng), or {type(instance).__name__} a method examples(rng); "
            'they return ("write", command) or ("read", query)'
        )
    return examples  # type: ignore[no-any-return]


def _faults(faults: str | Collection[str]) -> tuple[str, ...]:
    if faults == "all":
        return tuple(FAULTS)
    if faults == "none":
        return ()
    chosen = (faults,) if isinstance(faults, str) else tuple(faults)
    for name in chosen:
        if name not in FAULTS:
            raise ValueError(f"faults: {name!r} is none of {', '.join(FAULTS)}")
    return chosen


def _replay(
    machine: object, commands: Commands | None, *, seed: int, steps: int, peers: int, faults: str | tuple[str, ...]
) -> str:
    """The command that repeats a run; a call, where the command line could not name what was given."""
    module, name = _module_of(machine), getattr(machine, "__qualname__", "CLASS")
    if commands is not None or "<" in name:
        more = "" if commands is None else f", commands={getattr(commands, '__qualname__', 'commands')}"
        return f"simulate({name}, seed={seed}, steps={steps}, peers={peers}{more}, faults={faults!r})"
    words = ["raft-actors", "simulate", f"{module}:{name}", "--seeds", "1", "--first", str(seed)]
    words += ["--steps", str(steps), "--peers", str(peers)]
    if faults != "all":
        words += ["--faults", ",".join(faults) or "none"]
    return shlex.join(words)


def _module_of(machine: object) -> str:
    """The module by which others import it, also if it is the program that runs now."""
    module = str(getattr(machine, "__module__", "MODULE"))
    path = getattr(sys.modules.get(module), "__file__", None)
    return Path(path).stem if module == "__main__" and path else module
