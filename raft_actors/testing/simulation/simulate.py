"""``simulate``: one seed, one run, one report."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection
from functools import cached_property
from typing import Any

from raft_actors.protocol import log as protocol_log
from raft_actors.state_machine import StateMachine
from raft_actors.testing.history import Operation
from raft_actors.testing.linearizability import check_linearizable
from raft_actors.testing.simulation.clients import Commands
from raft_actors.testing.simulation.cluster import Cluster
from raft_actors.testing.simulation.histories import history_of, model_of
from raft_actors.testing.simulation.ledger import Ledger, examples_of
from raft_actors.testing.simulation.plan import FAULTS, Plan, draw_plan
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
        self._log: list[tuple[Any, ...]] = []

    @property
    def ok(self) -> bool:
        """Whether everything held."""
        return not self.violations

    @cached_property
    def trace(self) -> str:
        """Everything that happened, a line each: the same bytes whenever the seed is run."""
        return as_text(self._log)

    def check(self) -> None:
        """Raise if something did not hold.

        Raises:
            SimulationFailed: with the violations, the end of the trace, and the command that repeats the run.
        """
        if self.violations:
            end = "\n".join(self.trace.splitlines()[-40:])
            raise SimulationFailed("\n".join([*self.violations, f"repeat it with: {self.replay}", "", end]))

    def __repr__(self) -> str:
        return f"<Report of seed {self.seed}: {'ok' if self.ok else self.violations[0]}>"

    def close(self, world: World, cluster: Cluster, machine: object) -> None:
        """Keep of a run what a report tells."""
        self.steps, self.seconds, self._log = world.steps, world.now, world.log
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
    report = Report(seed=seed, replay=_replay(machine, seed, steps, peers, faults), plan=plan)
    chosen = commands or _examples(instance, plan)
    cluster = Cluster(world, plan, size=peers, factory=machine, commands=chosen)
    cached, protocol_log.CACHED_ENTRIES = protocol_log.CACHED_ENTRIES, plan.cached_entries
    try:
        _run(cluster, steps, model_of(instance), report, instance)
    except Violated as violated:
        report.violations.append(str(violated))
        world.note("observer", "VIOLATION", str(violated))
    finally:
        protocol_log.CACHED_ENTRIES = cached
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


def _replay(machine: object, seed: int, steps: int, peers: int, faults: str | Collection[str]) -> str:
    module, name = getattr(machine, "__module__", "MODULE"), getattr(machine, "__qualname__", "CLASS")
    words = ["raft-actors", "simulate", f"{module}:{name}", "--seeds", "1", "--first", str(seed)]
    words += ["--steps", str(steps), "--peers", str(peers)]
    if faults != "all":
        words += ["--faults", ",".join(_faults(faults)) or "none"]
    return shlex.join(words)
