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


@pytest.mark.parametrize("case", PROCESS_CASES)
def test_a_short_run_of_each_case_prints_one_line_beside_a_bare_round_trip_and_logs_nothing(case, tmp_path) -> None:
    words = ["bench", "--processes", "--case", case, "--storage", "lmdb", "--seconds", "0.2", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "raft_actors", *words, "--dir", str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
        timeout=100,
    )
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
    with ProcessRig(tmp_path, "lmdb") as rig:
        leader, before, begin = rig.leader(), rig.cpu(), time.perf_counter()
        assert before > 0.1, "three interpreters have started"
        while time.perf_counter() < begin + 0.5:
            raft.write(leader, b"x")
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
