"""One figure with its yardsticks: the line that ``bench --json`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from raft_actors.bench.measuring import SANE_DISK, Run, middle, percentile

__all__ = ["IN_MEMORY", "Result", "figure", "void_reason"]

IN_MEMORY = frozenset({"tmpfs", "ramfs"})
"""Filesystems on which a sync does nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one case gave on one storage engine.

    Attributes:
        case: which.
        storage: ``"lmdb"`` or ``"rocksdb"``.
        peers: how many, all in this process.
        payload: bytes of each command.
        value: the figure this case is about, in ``unit``; ``None`` if it is void.
        unit: what ``value`` counts.
        ops_s: operations per second, median of the runs; 0 for a case that is not about operations.
        p50_us: median time of one operation over all runs, in microseconds; 0 likewise.
        p99_us: its 99th percentile; of ``failover`` and ``handover`` the worst.
        disk_p50_us: a bare 256-byte append + fdatasync, meanwhile, in the same folder.
        ask_p50_us: a bare Pykka ``ask``, meanwhile.
        filesystem: where it was measured.
        void: why ``value`` is void, or ``""``.
        details: what else was seen, by name.
    """

    case: str
    storage: str
    value: float | None
    unit: str
    ops_s: float
    p50_us: float
    p99_us: float
    disk_p50_us: float
    ask_p50_us: float
    filesystem: str
    peers: int = 3
    payload: int = 256
    void: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The fields in the order of the documentation; ``void`` and ``details`` only where there are any."""
        names = "case storage peers payload value unit ops_s p50_us p99_us disk_p50_us ask_p50_us filesystem"
        shown = {name: _short(getattr(self, name)) for name in names.split()}
        extra = {"void": self.void, "details": self.details}
        return shown | {name: value for name, value in extra.items() if value}


def _short(value: Any) -> Any:
    """Three decimals at most, and no more than a measurement knows."""
    return round(value, 3 if abs(value) < 100 else 1) if isinstance(value, float) else value


def void_reason(disk_p50_us: float, filesystem: str) -> str:
    """Why nothing that is measured against this disk means anything; ``""`` if it does."""
    if filesystem in IN_MEMORY:
        return f"the folder is on {filesystem}, which has no disk; name another with --dir"
    least, most = (1e6 * bound for bound in SANE_DISK)
    if not least <= disk_p50_us <= most:
        return f"disk_p50_us is {disk_p50_us:.0f}, outside {least:.0f}-{most:.0f}"
    return ""


def _why_void(runs: Sequence[Run], disk_p50_us: float, filesystem: str) -> str:
    """The disk must be sane as a whole, and in the runs that a median is made of: in more than half of them."""
    sane = [run for run in runs if not void_reason(1e6 * run.disk_p50, filesystem)]
    if 2 * len(sane) > len(runs):
        return void_reason(disk_p50_us, filesystem)
    return void_reason(disk_p50_us, filesystem) or f"the disk was sane in {len(sane)} of {len(runs)} runs only"


def figure(
    case: str,
    storage: str,
    runs: Sequence[Run],
    *,
    value: float,
    unit: str,
    filesystem: str,
    needs_disk: bool,
    worst: bool = False,
    details: dict[str, Any] | None = None,
) -> Result:
    """Sum up the runs of a case.

    Args:
        case: its name.
        storage: the engine.
        runs: what was measured.
        value: the figure.
        unit: of it.
        filesystem: where.
        needs_disk: whether the figure is void on a disk that is none.
        worst: report the worst time in place of the 99th percentile.
        details: what else was seen.
    """
    times = [second for run in runs for second in run.times]
    disk = 1e6 * median([second for run in runs for second in run.disk])
    void = _why_void(runs, disk, filesystem) if needs_disk else ""
    return Result(
        case=case,
        storage=storage,
        value=None if void else value,
        unit=unit,
        ops_s=median([run.ops_s for run in runs]),
        p50_us=1e6 * middle(times),
        p99_us=1e6 * percentile(times, 100 if worst else 99),
        disk_p50_us=disk,
        ask_p50_us=1e6 * median([second for run in runs for second in run.ask]),
        filesystem=filesystem,
        void=void,
        details=details or {},
    )
