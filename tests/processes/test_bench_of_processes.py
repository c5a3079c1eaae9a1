"""``raft-actors bench --processes``: three real processes with keys are measured, and nothing of them is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import raft_actors as raft
from raft_actors.bench import PROCESS_CASES
from raft_actors.bench.measuring import Run
from raft_actors.bench.process_rig import ProcessRig, WireProbe

pytest.importorskip("zmq")


FOR_ONE_LEADER = ("write_sequential", "write_threads_32", "write_pipelined_1000", "read_linearizable_1")
"""They fail, as they should, where another leader is elected meanwhile: not to be run beside much else."""


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow if case in FOR_ONE_LEADER else ()) for case in PROCESS_CASES]
)
def test_a_short_run_of_each_case_prints_one_line_beside_a_bare_round_trip_and_logs_nothing(case, tmp_path) -> None:
    words = ["bench", "--processes", "--case", case, "--storage", "lmdb", "--seconds", "0.2", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "raft_actors", *words, "--dir", str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    result = json.loads(line)
    assert (result["case"], result["storage"], result["peers"]) == (case, "lmdb", 3)
    assert result["details"]["zmq_p50_us"] > 0
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(raft.PeerFailed, match="did not start: .*paper"), ProcessRig(tmp_path, "paper"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_cpu_of_the_processes_is_that_which_the_system_counts(tmp_path: Path) -> None:
    with ProcessRig(tmp_path, "lmdb") as rig, raft.Client(rig.names, timeout=30.0, keys=rig.keys) as client:
        before, begin = rig.cpu(), time.perf_counter()
        assert before > 0.1, "three interpreters have started"
        while time.perf_counter() < begin + 0.5:
            client.write(b"x")
        used, took = rig.cpu() - before, time.perf_counter() - begin
        ticks = sum(_ticks(process.pid) for process in rig._processes.values())
        assert 0.05 * took < used < 3 * took
        assert rig.cpu() == pytest.approx(ticks, abs=0.2)


def _ticks(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def test_the_bare_round_trip_is_timed() -> None:
    run = Run()
    with WireProbe() as probe:
        probe.into(run)
    assert run.wire
    assert all(0 < seconds < 1 for seconds in run.wire)
