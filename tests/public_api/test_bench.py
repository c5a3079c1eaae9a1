from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import pytest

from raft_actors.bench import CASES, bench_folder
from raft_actors.bench.measuring import Run, Slice, paired_runs, percentile, steady_runs
from raft_actors.bench.probes import Probes, filesystem_of
from raft_actors.bench.result import figure, void_reason
from raft_actors.cli import bench
from raft_actors.names import names

KEYS = [
    "case",
    "storage",
    "peers",
    "payload",
    "value",
    "unit",
    "ops_s",
    "p50_us",
    "p99_us",
    "disk_p50_us",
    "ask_p50_us",
    "filesystem",
]  # the contract's, in its order
RATIOS_TO_THE_DISK = {"write_sequential", "write_threads_32", "write_pipelined_1000"}
TIMED = set(CASES) - {"idle_cpu"}
SHARED_MEMORY = Path("/dev/shm")

in_memory = pytest.mark.skipif(
    not SHARED_MEMORY.is_dir() or filesystem_of(SHARED_MEMORY) != "tmpfs", reason="needs a tmpfs at /dev/shm"
)


def command(*words: object) -> int:
    parser = argparse.ArgumentParser(prog="raft-actors")
    bench.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["bench", *map(str, words)])
    return args.run(args)


def lines(capsys, *words: object) -> list[dict]:
    assert command(*words, "--json") == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def runs(disk_us: float) -> list[Run]:
    return [Run(operations=10, seconds=1.0, times=[1e-3], disk=[disk_us * 1e-6], ask=[2e-5]) for _ in range(3)]


def result(disk_us: float, filesystem: str = "ext4", *, needs_disk: bool = True):
    return figure(
        "a", "lmdb", runs(disk_us), value=4.0, unit="x", filesystem=filesystem, needs_disk=needs_disk
    ).to_json()


@pytest.mark.parametrize("case", CASES)
def test_a_short_run_of_each_case_prints_one_line_with_the_figures_of_the_contract(case, capsys, tmp_path) -> None:
    (line,) = lines(capsys, "--case", case, "--storage", "lmdb", "--seconds", 0.05, "--dir", tmp_path)
    assert list(line)[: len(KEYS)] == KEYS
    assert set(line) - set(KEYS) <= {"void", "details"}
    assert (line["case"], line["storage"], line["peers"], line["payload"]) == (case, "lmdb", 3, 256)
    assert line["unit"]
    assert line["disk_p50_us"] > 0
    assert line["ask_p50_us"] > 0
    assert line["filesystem"] == filesystem_of(tmp_path)
    assert (line["value"] is None) == ("void" in line)
    if case in TIMED:
        assert 0 < line["p50_us"] <= line["p99_us"]
    if case in RATIOS_TO_THE_DISK:
        assert "void" in line or not void_reason(line["disk_p50_us"], line["filesystem"])
        assert len(line["details"]["runs"]) == 3


def test_nothing_is_left_behind_and_both_engines_are_measured(capsys, tmp_path) -> None:
    pytest.importorskip("rocksdict")
    words = ("--case", "write_sequential", "--case", "write_pipelined_1000", "--seconds", 0.05, "--dir", tmp_path)
    found = lines(capsys, *words)
    assert [(line["storage"], line["case"]) for line in found] == [
        ("lmdb", "write_sequential"),
        ("lmdb", "write_pipelined_1000"),
        ("rocksdb", "write_sequential"),
        ("rocksdb", "write_pipelined_1000"),
    ]
    assert all(line["ops_s"] > 0 for line in found)
    assert list(tmp_path.iterdir()) == []
    assert not [name for name in names() if name.startswith("bench")]


@pytest.mark.parametrize(("disk_us", "said"), [(79.0, "79"), (1001.0, "1001"), (3.0, "outside 80-1000")])
def test_a_ratio_to_a_disk_that_is_too_fast_or_too_slow_is_void_and_says_so(disk_us, said) -> None:
    line = result(disk_us)
    assert line["value"] is None
    assert said in line["void"]
    assert line["p50_us"] == 1000.0


def test_a_ratio_is_void_when_only_one_of_its_runs_had_a_sane_disk() -> None:
    few, many = runs(200.0)[:1] + runs(4000.0)[:2], runs(200.0)[:2] + runs(4000.0)[:1]
    many[0].disk *= 3
    few[0].disk *= 9  # sane as a whole, but not in the runs that the median is made of
    settings = {"value": 4.0, "unit": "x", "filesystem": "ext4", "needs_disk": True}
    assert "1 of 3" in figure("a", "lmdb", few, **settings).void
    assert figure("a", "lmdb", many, **settings).void == ""


def test_a_ratio_to_a_sane_disk_stands() -> None:
    for disk_us in (80.0, 200.0, 1000.0):
        line = result(disk_us)
        assert line["value"] == 4.0
        assert "void" not in line


def test_what_does_not_depend_on_the_disk_stands_on_any() -> None:
    assert result(3.0, needs_disk=False)["value"] == 4.0


def test_a_folder_in_memory_makes_a_ratio_void_however_slow_it_is() -> None:
    line = result(200.0, "tmpfs")
    assert line["value"] is None
    assert "tmpfs" in line["void"]


@in_memory
def test_a_run_in_memory_is_noticed(capsys, tmp_path) -> None:
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as folder:
        words = ("--case", "write_sequential", "--storage", "lmdb", "--seconds", 0.05, "--dir", folder)
        (line,) = lines(capsys, *words)
        assert line["filesystem"] == "tmpfs"
        assert line["value"] is None
        assert command(*words) == 0
    shown = capsys.readouterr().out
    assert "void: write_sequential on lmdb: the folder is on tmpfs" in shown


@in_memory
def test_without_a_folder_the_disk_is_preferred_to_memory(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(SHARED_MEMORY))
    monkeypatch.chdir(tmp_path)
    with bench_folder(None) as folder:
        expected = SHARED_MEMORY if filesystem_of(tmp_path) == "tmpfs" else tmp_path
        assert folder.parent == expected
    assert not folder.exists()


def test_the_yardstick_syncs_every_append_it_times(monkeypatch, tmp_path) -> None:
    seen = []
    write, sync = os.write, os.fdatasync
    monkeypatch.setattr(os, "write", lambda file, data: seen.append(("write", file, len(data))) or write(file, data))
    monkeypatch.setattr(os, "fdatasync", lambda file: seen.append(("sync", file, 0)) or sync(file))
    run = Run()
    with Probes(tmp_path) as probes:
        probes.into(run)
    mine = [(what, size) for what, file, size in seen if file == seen[0][1]]
    assert mine == [("write", 256), ("sync", 0)] * len(run.disk)
    assert len(run.disk) >= 20
    assert len(run.ask) >= 20


def test_a_yardstick_that_skipped_its_sync_would_make_the_ratio_void(monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setattr(os, "fdatasync", lambda file: None)
    (line,) = lines(capsys, "--case", "write_sequential", "--storage", "lmdb", "--seconds", 0.05, "--dir", tmp_path)
    assert line["value"] is None
    assert "outside 80-1000" in line["void"]


def test_the_yardsticks_are_taken_before_between_and_after_the_slices_of_each_run() -> None:
    order = []

    class Recorder:
        def into(self, run: Run) -> None:
            order.append("probe")
            run.probed([1e-4], [2e-5])
            run.probed([1e-4], [2e-5])

    def work(seconds: float) -> Slice:
        order.append(f"work {seconds:.1f}")
        return Slice(5, seconds, [0.1] * 5)

    measured = paired_runs(Recorder(), work, 0.6, slices=2)
    assert order == ["probe", "work 0.1", "probe", "work 0.1", "probe"] * 3
    assert [run.operations for run in measured] == [10] * 3
    assert measured[0].ops_s == pytest.approx(50)


def test_a_run_in_which_the_disk_changed_is_repeated_and_only_the_disk_decides() -> None:
    def made(*moments: float) -> Run:
        run = Run(operations=len(moments), seconds=1.0)
        for moment in moments:
            run.probed([moment] * 3, [2e-5])
        return run

    steady, changed = made(1e-4, 1.5e-4, 1e-4), made(1e-4, 4e-3)
    assert not steady.disturbed
    assert changed.disturbed
    assert made(4e-3, 4e-3).disturbed
    assert made(1e-5, 1e-5).disturbed
    supply = iter([steady, changed, steady, changed, steady])
    assert steady_runs(lambda: next(supply)) == [steady] * 3
    assert list(supply) == []
    count = iter(range(100))
    assert len(steady_runs(lambda: made(1e-4, 4e-3 + next(count)))) == 3  # no disk is waited for without end
    assert next(count) == 9


def test_a_percentile_is_one_of_the_times() -> None:
    assert percentile([], 99) == 0
    assert percentile([3.0], 50) == 3.0
    hundred = [float(number) for number in range(100)]
    assert percentile(hundred, 99) == 99.0
    assert percentile(hundred, 100) == 99.0


@pytest.mark.parametrize(
    "words",
    [
        ("--case", "no_such_case"),
        ("--storage", "memory"),
        ("--seconds", "0"),
        ("--seconds", "nan"),
        ("--seconds", "soon"),
        ("--dir", "/no/such/folder"),
    ],
)
def test_bad_usage_is_refused_before_anything_runs(words, capsys) -> None:
    with pytest.raises(SystemExit) as left:
        command(*words)
    assert left.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_a_cluster_that_fails_is_one_line_and_exit_status_1(monkeypatch, capsys, tmp_path) -> None:
    from raft_actors import StoreInUse
    from raft_actors.bench import rig

    def fail(*args: object, **kwargs: object) -> None:
        raise StoreInUse("somewhere", pid=7)

    monkeypatch.setattr(rig.raft, "start_peer", fail)
    assert command("--case", "write_sequential", "--storage", "lmdb", "--dir", tmp_path) == 1
    assert (
        capsys.readouterr()
        .err.splitlines()[0]
        .startswith("raft-actors bench: StoreInUse: the store somewhere is in use")
    )
    assert list(tmp_path.iterdir()) == []
