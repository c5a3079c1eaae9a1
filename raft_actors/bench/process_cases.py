"""The cases of ``raft-actors bench --processes``: the same work, with a network between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import raft_actors as raft
from raft_actors.bench import throughput
from raft_actors.bench.measuring import RUNS, Run, Slice, counted_runs, middle, paired_runs
from raft_actors.bench.probes import Probes, filesystem_of
from raft_actors.bench.process_rig import ProcessRig, WireProbe
from raft_actors.bench.result import Result, figure
from raft_actors.bench.rig import PATIENCE, PAYLOAD

__all__ = ["PROCESS_CASES", "bench_processes"]

FULL_SECONDS = 3.0
DEATHS = 20
WARM_UP = 0.5


@dataclass(frozen=True, slots=True)
class _Both:
    """The yardsticks of one process, and the bare round trip."""

    probes: Probes
    wire: WireProbe

    def into(self, run: Run) -> None:
        """Take a moment of each."""
        self.probes.into(run)
        self.wire.into(run)


@dataclass(frozen=True, slots=True)
class _Stand:
    rig: ProcessRig
    probes: _Both
    seconds: float
    filesystem: str
    storage: str

    def result(self, case: str, runs: list[Run], value: float, unit: str, **more: Any) -> Result:
        details = {
            **more.pop("details", {}),
            "zmq_p50_us": round(1e6 * median([t for run in runs for t in run.wire]), 1),
        }
        more.setdefault("needs_disk", True)
        return figure(
            case, self.storage, runs, value=value, unit=unit, filesystem=self.filesystem, details=details, **more
        )


def _ratio(
    case: str,
    work: Callable[[str, float], Slice],
    ratio: Callable[[Run], float],
    unit: str,
    stand: _Stand,
    *,
    needs_disk: bool = True,
) -> Result:
    measured = partial(work, stand.rig.leader())
    measured(WARM_UP)
    runs = paired_runs(stand.probes, measured, stand.seconds, slices=4, disk_counts=needs_disk)
    ratios = [ratio(run) for run in runs]
    details = {"runs": [round(each, 3) for each in ratios]}
    return stand.result(case, runs, median(ratios), unit, needs_disk=needs_disk, details=details)


def _write_sequential(stand: _Stand) -> Result:
    def ratio(run: Run) -> float:
        return run.p50 / run.disk_p50

    return _ratio("write_sequential", throughput.writes_sequential, ratio, "x disk_p50", stand)


def _write_threads(stand: _Stand) -> Result:
    def ratio(run: Run) -> float:
        return run.ops_s * run.disk_p50

    return _ratio("write_threads_32", throughput.writes_threads, ratio, "writes per sync", stand)


def _write_pipelined(stand: _Stand) -> Result:
    def work(leader: str, seconds: float) -> Slice:
        return throughput.pipelined(leader, seconds=seconds)

    def ratio(run: Run) -> float:
        return run.ops_s * run.disk_p50

    return _ratio("write_pipelined_1000", work, ratio, "writes per sync", stand)


def _read_one(stand: _Stand) -> Result:
    def ratio(run: Run) -> float:
        return run.p50 / median(run.wire)

    return _ratio("read_linearizable_1", throughput.reads_sequential, ratio, "x zmq_p50", stand, needs_disk=False)


def _failover(stand: _Stand) -> Result:
    """``kill -9`` of the leader's process until a client has its first write acknowledged elsewhere."""
    deaths = max(RUNS, round(DEATHS * min(1.0, stand.seconds / FULL_SECONDS)))
    runs = counted_runs(stand.probes, deaths, partial(_death, stand.rig))
    times = sorted(second for run in runs for second in run.times)
    details = {"rounds": deaths, "worst_ms": round(1e3 * times[-1], 2)}
    return stand.result("failover", runs, 1e3 * middle(times), "ms", worst=True, details=details)


def _death(rig: ProcessRig) -> float:
    with raft.Client(rig.names, timeout=PATIENCE, keys=rig.keys) as client:
        client.write(PAYLOAD)
        leader = rig.leader()
        begin = time.perf_counter()
        rig.kill(leader)
        client.write(PAYLOAD)
        took = time.perf_counter() - begin
    rig.revive(leader)
    return took


def _idle_cpu(stand: _Stand) -> Result:
    stand.rig.settle()
    runs, loads = [], []
    for _ in range(RUNS):
        run = Run()
        stand.probes.into(run)
        time.sleep(WARM_UP)
        before, begin = stand.rig.cpu(), time.perf_counter()
        time.sleep(max(2.0, stand.seconds))
        loads.append(100 * (stand.rig.cpu() - before) / (time.perf_counter() - begin))
        runs.append(run)
    details = {"runs": [round(each, 3) for each in loads]}
    return stand.result("idle_cpu", runs, median(loads), "% of a core", needs_disk=False, details=details)


PROCESS_CASES: dict[str, Callable[[_Stand], Result]] = {
    "write_sequential": _write_sequential,
    "write_threads_32": _write_threads,
    "write_pipelined_1000": _write_pipelined,
    "read_linearizable_1": _read_one,
    "failover": _failover,
    "idle_cpu": _idle_cpu,
}
"""Every case by its name, in the order in which they run."""


def bench_processes(cases: list[str], engines: list[str], *, seconds: float, folder: Path) -> Iterator[Result]:
    """Measure ``cases`` on each of ``engines``, with each peer in a process of its own.

    Args:
        cases: names of ``PROCESS_CASES``.
        engines: ``"lmdb"``, ``"rocksdb"``.
        seconds: how long each case measures, more than 0.
        folder: an empty folder on the disk to measure.

    Raises:
        MissingExtra: pyzmq or an engine is not installed.
        RaftError: a cluster failed.
    """
    filesystem = filesystem_of(folder)
    with Probes(folder) as probes, WireProbe() as wire:
        for engine in engines:
            for case in cases:
                with ProcessRig(folder, engine) as rig:
                    yield PROCESS_CASES[case](_Stand(rig, _Both(probes, wire), seconds, filesystem, engine))
