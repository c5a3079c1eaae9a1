"""``raft-actors simulate MODULE:CLASS``: run a state machine through many simulated clusters, each with its own faults.

Every seed is a run of its own and always the same one. With ``--resume FILE`` the progress of a long campaign is kept:
the same command goes on after the last seed that was finished.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec import Struct

from raft_actors.cli.common import UsageError, load_machine, path_arg
from raft_actors.testing.simulation import FAULTS, shrink, simulate

if TYPE_CHECKING:
    from raft_actors.cli.log import Subparsers

__all__ = ["add_parser", "run"]

SIZES = (3, 5, 3, 1, 2, 4, 3, 7, 6, 5)
"""Cluster sizes for ``--peers any``, by the last digit of the seed."""
SHOWN_FAILURES = 10
INTERVAL = 0.5


class Job(NamedTuple):
    """One seed and how to run it."""

    machine: str
    seed: int
    steps: int
    peers: int
    faults: str | tuple[str, ...]
    drawn: str


class Progress(Struct, frozen=True):
    """What ``--resume`` keeps: the seed to go on with, and those that failed before it."""

    next: int = 0
    failed: tuple[int, ...] = ()


class Outcome(NamedTuple):
    """What came of it; ``trace`` and ``timeline`` are empty if everything held, ``svg`` if nobody asked for it."""

    seed: int
    steps: int
    violations: tuple[str, ...]
    replay: str
    trace: str
    timeline: str
    svg: str


def add_parser(subparsers: Subparsers) -> None:
    """Add the command ``simulate``."""
    parser = subparsers.add_parser(
        "simulate",
        help="run a state machine through simulated clusters with faults",
        description="Run a state machine in simulated clusters on a virtual clock, network and disk, each seed with "
        "faults of its own, and check Raft's invariants, what clients saw, and the machine itself. "
        "Exit status 1 if a seed breaks a rule.",
    )
    parser.add_argument("machine", metavar="MODULE:CLASS", help="a StateMachine with a method examples(rng)")
    parser.add_argument("--seeds", type=_count, default=100, metavar="N", help="how many seeds (default 100)")
    parser.add_argument("--first", type=_number, default=0, metavar="SEED", help="the first of them (default 0)")
    parser.add_argument("--steps", type=_count, default=5000, metavar="N", help="steps under faults (default 5000)")
    parser.add_argument("--peers", type=_peers, default=3, metavar="N", help="1 to 7, or any (default 3)")
    parser.add_argument("--faults", default="all", metavar="A,B", help=f"all, none, or some of {', '.join(FAULTS)}")
    parser.add_argument("--processes", type=_count, default=1, metavar="N", help="run in so many processes (default 1)")
    parser.add_argument("--trace", type=path_arg, metavar="FILE", help="write the trace of the newest run that failed")
    parser.add_argument(
        "--svg",
        type=path_arg,
        metavar="FILE",
        help="draw the first run that failed (or the only one, also if it is sound)",
    )
    parser.add_argument("--shrink", action="store_true", help="look for a smaller run that fails like the first")
    parser.add_argument("--resume", type=path_arg, metavar="FILE", help="keep the progress here, and go on from there")
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")


def _number(text: str) -> int:
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")


def _peers(text: str) -> int:
    """A size; 0 stands for any."""
    if text == "any":
        return 0
    if text.isdecimal() and 1 <= int(text) <= max(SIZES):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is neither a number of peers from 1 to {max(SIZES)} nor any")


def run(args: argparse.Namespace) -> int:
    """Run the command.

    Args:
        args: ``machine``, ``seeds``, ``first``, ``steps``, ``peers``, ``faults``, ``processes``, ``trace``, ``svg``,
            ``shrink``, ``resume``.

    Returns:
        The exit status: 0 everything held, 1 a seed broke a rule, be it before the command was interrupted.
    """
    _require_usable(args)
    for path in (args.trace, args.svg):
        _require_writable(path)
    before = _resumed(args.resume)
    first = max(args.first, before.next)
    seeds = range(first, args.first + args.seeds)
    faults = _faults(args.faults)
    drawn = "" if args.svg is None else "always" if len(seeds) == 1 else "failed"
    sizes = [args.peers or SIZES[seed % len(SIZES)] for seed in seeds]
    jobs = [Job(args.machine, seed, args.steps, size, faults, drawn) for seed, size in zip(seeds, sizes, strict=True)]
    tally = Tally(args, len(jobs), before.failed)
    with _outcomes(jobs, args.processes) as outcomes:
        tally.take(outcomes)
    return tally.finish()


def _faults(text: str) -> str | tuple[str, ...]:
    return text if text in ("all", "none") else tuple(text.split(","))


def _require_usable(args: argparse.Namespace) -> None:
    factory = load_machine(args.machine)
    for name in args.faults.split(","):
        if name not in FAULTS and name not in ("all", "none"):
            raise UsageError(f"--faults: {name!r} is none of all, none, {', '.join(FAULTS)}")
    try:
        simulate(factory, seed=0, steps=1, peers=1, faults="none")
    except ValueError as error:
        raise UsageError(f"{args.machine}: {error}") from error


def _require_writable(path: Path | None) -> None:
    """Find out before hours of work whether a file can be written; nothing is left behind.

    Raises:
        OSError: it cannot.
    """
    if path is not None and not path.exists():
        path.touch()
        path.unlink()
    elif path is not None:
        path.open("ab").close()


def _resumed(path: Path | None) -> Progress:
    """Where to go on."""
    if path is None or not path.exists():
        return Progress()
    try:
        return msgspec.json.decode(path.read_bytes(), type=Progress)
    except (OSError, msgspec.MsgspecError) as error:
        raise UsageError(f"--resume {path}: {error}") from error


@contextmanager
def _outcomes(jobs: list[Job], processes: int) -> Iterator[Iterable[Outcome]]:
    """The outcomes in the order of the seeds, as soon as they are known."""
    if processes == 1 or len(jobs) < 2:
        yield map(_run_one, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_end_with_parent) as pool:
        yield pool.map(_run_one, jobs, chunksize=4)
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """In a worker: the command may be killed, and then nobody would ever tell us to end."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="raft-parent", daemon=True).start()


def _run_one(job: Job) -> Outcome:
    report = simulate(load_machine(job.machine), seed=job.seed, steps=job.steps, peers=job.peers, faults=job.faults)
    trace, told = ("", "") if report.ok else (report.trace, report.timeline())
    svg = report.svg() if job.drawn == "always" or (job.drawn and not report.ok) else ""
    return Outcome(job.seed, report.steps, tuple(report.violations), report.replay, trace, told, svg)


class Tally:
    """Counts, shows the progress on a terminal, prints what failed, keeps where to go on.

    Args:
        args: of the command.
        total: how many runs there are to be.
        before: seeds that failed before the command was interrupted.
    """

    def __init__(self, args: argparse.Namespace, total: int, before: tuple[int, ...]) -> None:
        self._args = args
        self._total = total
        self._runs = self._steps = 0
        self._before = len(before)
        self._seeds = list(before)
        self._began = self._shown = time.monotonic()
        self._screen = sys.stderr if sys.stderr is not None and sys.stderr.isatty() else None

    def take(self, outcomes: Iterable[Outcome]) -> None:
        """Count outcomes as they come."""
        for outcome in outcomes:
            self._runs += 1
            self._steps += outcome.steps
            if outcome.violations:
                self._seeds.append(outcome.seed)
                self._show_failure(outcome)
            elif outcome.svg:
                self._draw(outcome.svg)
            self._keep(outcome.seed + 1, last=self._runs == self._total)

    @property
    def _failed(self) -> int:
        """How many seeds failed in this run of the command."""
        return len(self._seeds) - self._before

    def _show_failure(self, outcome: Outcome) -> None:
        if self._failed > SHOWN_FAILURES:
            return
        self._clear()
        print(f"seed {outcome.seed}: {outcome.violations[0]}")
        print(f"  repeat it with: {outcome.replay}", flush=True)
        if self._args.trace is not None:
            self._args.trace.write_text(outcome.trace, encoding="utf-8")
        if self._failed == 1 and outcome.svg:
            self._draw(outcome.svg)
        if self._failed == 1 and self._args.shrink:
            self._show_smaller(outcome)
        elif self._total == 1:
            print(outcome.timeline, end="", flush=True)

    def _draw(self, svg: str) -> None:
        self._args.svg.write_text(svg, encoding="utf-8")

    def _show_smaller(self, outcome: Outcome) -> None:
        factory, args = load_machine(self._args.machine), self._args
        peers = args.peers or SIZES[outcome.seed % len(SIZES)]
        report = simulate(factory, seed=outcome.seed, steps=args.steps, peers=peers, faults=_faults(args.faults))
        if report.ok:
            print("  it does not fail again: something beyond its seed decides about it")
            return
        smaller = shrink(factory, report)
        what = ", ".join(smaller.plan.faults) or "no faults"
        print(f"  in {smaller.steps} steps of a cluster of {smaller.peers} with {what}: {smaller.violations[0]}")
        print(f"  repeat that with: {smaller.replay}")
        print(smaller.timeline(), end="", flush=True)
        if args.svg is not None:
            self._draw(smaller.svg())

    def _keep(self, seed: int, *, last: bool) -> None:
        now = time.monotonic()
        if now - self._shown < INTERVAL and not last:
            return
        self._shown = now
        if self._args.resume is not None:
            partial = self._args.resume.with_name(self._args.resume.name + ".new")
            partial.write_bytes(msgspec.json.encode(Progress(seed, tuple(self._seeds))))
            os.replace(partial, self._args.resume)
        if self._screen is not None:
            self._screen.write(f"\r{self._summary()} \x1b[K")
            self._screen.flush()

    def _clear(self) -> None:
        if self._screen is not None:
            self._screen.write("\r\x1b[K")
            self._screen.flush()

    def _summary(self) -> str:
        rate = self._steps / max(time.monotonic() - self._began, 1e-9)
        bad = f"{self._failed} failed" if self._failed else "no violation"
        if self._before:
            bad += (
                f", {self._before} failed before: {', '.join(map(str, self._seeds[: self._before][:SHOWN_FAILURES]))}"
            )
        return f"{self._runs:,} of {self._total:,} seeds, {self._steps:,} steps ({rate:,.0f}/s), {bad}"

    def finish(self) -> int:
        """Print the summary; returns the exit status."""
        self._clear()
        print(self._summary())
        return 1 if self._seeds else 0
