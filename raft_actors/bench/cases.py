"""The cases of ``raft-actors bench``: which work, which yardstick, which figure."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from raft_actors.bench import footprint, throughput
from raft_actors.bench.elections import death, hand_over
from raft_actors.bench.measuring import RUNS, Run, Slice, counted_runs, middle, paired_runs, steady_runs
from raft_actors.bench.probes import Probes, filesystem_of
from raft_actors.bench.result import Result, figure
from raft_actors.bench.rig import SIZE, Rig

__all__ = ["CASES", "Stand", "bench", "storages"]

FULL_SECONDS = 3.0
"""With fewer seconds than this, the cases that count deaths or entries count fewer of them, in proportion."""
DEATHS = 50
HAND_OVERS = 20
RECOVERED = 100_000
SMALL, LARGE = 10_000, 1_000_000
SHARE, TURNS = 10_000, 7
"""Writes over which the CPU time of one is taken, and how often: three times was too noisy."""
WARM_UP = 0.2


@dataclass(frozen=True, slots=True)
class Stand:
    """Where a case is measured.

    Attributes:
        rig: the running cluster.
        probes: the yardsticks.
        seconds: how long to measure.
        filesystem: of the folder.
        storage: the engine.
    """

    rig: Rig
    probes: Probes
    seconds: float
    filesystem: str
    storage: str

    def scaled(self, full: int, least: int) -> int:
        """``full``, or in proportion fewer if there is little time."""
        return max(least, round(full * min(1.0, self.seconds / FULL_SECONDS)))

    def result(self, case: str, runs: list[Run], value: float, unit: str, **more: Any) -> Result:
        """Sum up the runs of a case."""
        more.setdefault("needs_disk", True)
        return figure(case, self.storage, runs, value=value, unit=unit, filesystem=self.filesystem, **more)


def _ratio(
    case: str,
    work: Callable[[str, float], Slice],
    ratio: Callable[[Run], float],
    unit: str,
    stand: Stand,
    *,
    slices: int = 1,
    needs_disk: bool = True,
) -> Result:
    """A case whose figure is a ratio to a yardstick."""
    measured = partial(work, stand.rig.leader())
    measured(WARM_UP)
    runs = paired_runs(stand.probes, measured, stand.seconds, slices=slices, disk_counts=needs_disk)
    ratios = [ratio(run) for run in runs]
    details = {"runs": [round(each, 3) for each in ratios]}
    return stand.result(case, runs, median(ratios), unit, needs_disk=needs_disk, details=details)


def _write_sequential(stand: Stand) -> Result:
    return _ratio(
        "write_sequential",
        throughput.writes_sequential,
        lambda run: run.p50 / run.disk_p50,
        "x disk_p50",
        stand,
        slices=4,
    )


def _write_threads(stand: Stand) -> Result:
    return _ratio(
        "write_threads_32", throughput.writes_threads, lambda run: run.ops_s * run.disk_p50, "writes per sync", stand
    )


def _write_pipelined(stand: Stand) -> Result:
    def work(leader: str, seconds: float) -> Slice:
        return throughput.pipelined(leader, seconds=seconds)

    return _ratio("write_pipelined_1000", work, lambda run: run.ops_s * run.disk_p50, "writes per sync", stand)


def _read_one(stand: Stand) -> Result:
    return _ratio(
        "read_linearizable_1",
        throughput.reads_sequential,
        lambda run: run.p50 / run.ask_p50,
        "x ask_p50",
        stand,
        slices=4,
        needs_disk=False,
    )


def _read_threads(stand: Stand) -> Result:
    """Reads over writes, each run with both."""
    leader = stand.rig.leader()
    throughput.reads_threads(leader, WARM_UP)

    def one() -> Run:
        run = Run()
        stand.probes.into(run)
        run.baseline = throughput.writes_threads(leader, stand.seconds / RUNS / 2).ops_s
        stand.probes.into(run)
        run.add(throughput.reads_threads(leader, stand.seconds / RUNS / 2))
        stand.probes.into(run)
        return run

    runs = steady_runs(one)
    ratios = [run.ops_s / run.baseline for run in runs]
    details = {"runs": [round(each, 3) for each in ratios], "writes_s": round(median(run.baseline for run in runs))}
    return stand.result("read_linearizable_32", runs, median(ratios), "x write_threads_32", details=details)


def _gap(case: str, rounds: int, one: Callable[[Rig], float], stand: Stand) -> Result:
    runs = counted_runs(stand.probes, rounds, partial(one, stand.rig))
    times = sorted(second for run in runs for second in run.times)
    details = {"rounds": rounds, "worst_ms": round(1e3 * times[-1], 2)}
    return stand.result(case, runs, 1e3 * middle(times), "ms", worst=True, details=details)


def _failover(stand: Stand) -> Result:
    return _gap("failover", stand.scaled(DEATHS, RUNS), death, stand)


def _handover(stand: Stand) -> Result:
    return _gap("handover", stand.scaled(HAND_OVERS, RUNS), hand_over, stand)


def _idle_cpu(stand: Stand) -> Result:
    runs, loads = [], []
    for _ in range(RUNS):
        run = Run()
        stand.probes.into(run)
        time.sleep(WARM_UP)
        loads.append(100 * footprint.idle(stand.seconds / RUNS))
        runs.append(run)
    details = {"runs": [round(each, 3) for each in loads]}
    return stand.result("idle_cpu", runs, median(loads), "% of a core", needs_disk=False, details=details)


def _recovery(stand: Stand) -> Result:
    entries = stand.scaled(RECOVERED, 1_000)
    footprint.fill(stand.rig, entries)
    starts: list[float] = []

    def one() -> float:
        started, read = footprint.restart(stand.rig)
        starts.append(started)
        return read

    runs = counted_runs(stand.probes, RUNS, one)
    seconds = median(run.p50 for run in runs)
    details = {
        "entries": entries,
        "start_s": round(median(starts), 3),
        "election_and_read_s": round(seconds - median(starts), 3),
    }
    return stand.result("recovery_100k", runs, seconds, "s", worst=True, details=details)


def _growth(stand: Stand) -> Result:
    """A large log and, once it is there, a small one of another cluster, written to in turns."""
    large = stand.scaled(LARGE, 2 * SMALL)
    grown = footprint.grow(stand.rig, SMALL, large)
    shares, runs, ratios, costs = stand.scaled(SHARE, 1_000), [], [], []
    with Rig(stand.rig.folder, stand.storage, "small") as fresh:
        footprint.fill(fresh, SMALL)
        for _ in range(TURNS):
            run = Run()
            stand.probes.into(run)
            cost_small, _ = footprint.write_cost(fresh, shares)
            cost_large, work = footprint.write_cost(stand.rig, shares)
            run.add(work)
            runs.append(run)
            ratios.append(cost_large / cost_small)
            costs.append(cost_large)
    mebibyte = SIZE * (1 << 20)
    details = {
        "runs": [round(each, 3) for each in ratios],
        "entries": large,
        "cpu_us": round(1e6 * median(costs), 2),
        "rss_mib_per_peer": round(grown.resident / mebibyte, 1),
        "anonymous_mib_per_peer": round(grown.anonymous / mebibyte, 1),
    }
    unit = f"x CPU per write, {large:,} entries over {SMALL:,}"
    return stand.result("growth", runs, median(ratios), unit, needs_disk=False, details=details)


def _busy_process(stand: Stand) -> Result:
    leader, before = stand.rig.leader(), footprint.term(stand.rig)
    runs = []
    for _ in range(RUNS):
        run = Run()
        stand.probes.into(run)
        with footprint.busy_threads():
            run.add(throughput.writes_sequential(leader, stand.seconds / RUNS))
        runs.append(run)
    elections = footprint.term(stand.rig) - before
    unit = f"elections in {stand.seconds:g} s beside {footprint.BUSY} busy threads"
    return stand.result("busy_process", runs, float(elections), unit, needs_disk=False)


CASES: dict[str, Callable[[Stand], Result]] = {
    "write_sequential": _write_sequential,
    "write_threads_32": _write_threads,
    "write_pipelined_1000": _write_pipelined,
    "read_linearizable_1": _read_one,
    "read_linearizable_32": _read_threads,
    "failover": _failover,
    "handover": _handover,
    "idle_cpu": _idle_cpu,
    "recovery_100k": _recovery,
    "growth": _growth,
    "busy_process": _busy_process,
}
"""Every case by its name, in the order in which they run."""


def storages() -> tuple[str, ...]:
    """The engines that are installed."""
    return ("lmdb", "rocksdb") if importlib.util.find_spec("rocksdict") else ("lmdb",)


def bench(cases: list[str], engines: list[str], *, seconds: float, folder: Path) -> Iterator[Result]:
    """Measure ``cases`` on each of ``engines``, one result at a time.

    Args:
        cases: names of ``CASES``.
        engines: ``"lmdb"``, ``"rocksdb"``.
        seconds: how long each case measures, more than 0; see ``FULL_SECONDS``.
        folder: an empty folder on the disk to measure.

    Raises:
        MissingExtra: an engine is not installed.
        RaftError: a cluster failed.
    """
    filesystem = filesystem_of(folder)
    with Probes(folder) as probes:
        for engine in engines:
            for case in cases:
                with Rig(folder, engine) as rig:
                    yield CASES[case](Stand(rig, probes, seconds, filesystem, engine))
