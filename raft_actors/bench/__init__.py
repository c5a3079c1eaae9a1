"""What ``raft-actors bench`` measures: three peers in this process, on a real disk, beside what that disk can do.

Rule: a figure without its yardstick says nothing. Every case is measured in paired runs: the bare disk and a bare
Pykka ``ask`` before, between and after its slices, in the same folder and the same process; ratios are the median of
three such runs. With ``--processes`` each peer has a process of its own, and a bare ZeroMQ round trip stands beside.
Where the disk is no disk (too fast, too slow, or in memory), a ratio to it is void, and says so.
"""

from __future__ import annotations

from raft_actors.bench.cases import CASES, bench, storages
from raft_actors.bench.process_cases import PROCESS_CASES, bench_processes
from raft_actors.bench.result import Result
from raft_actors.bench.rig import bench_folder

__all__ = ["CASES", "PROCESS_CASES", "Result", "bench", "bench_folder", "bench_processes", "storages"]
