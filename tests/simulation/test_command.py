"""``raft-actors simulate``: progress and summary, the exit status, and going on where it was interrupted."""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from raft_actors.cli import main
from raft_actors.cli import simulate as command
from raft_actors.cli.common import UsageError
from raft_actors.machines import KV
from raft_actors.testing import simulate
from raft_actors.testing.simulation.timeline import LEGEND
from tests.processes.tools import RAFT_ACTORS, eventually, start
from tests.simulation.careless import Nosy
from tests.simulation.planting import planted

TEXT = "{http://www.w3.org/2000/svg}text"


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers(dest="command"))
    args = parser.parse_args(["simulate", *words])
    return int(args.run(args))


def test_sound_seeds_end_with_a_summary_and_status_0(capsys) -> None:
    assert run("raft_actors.machines:KV", "--seeds", "3", "--steps", "300", "--peers", "any") == 0
    assert capsys.readouterr().out.startswith("3 of 3 seeds, ")


def is_running(pid: str) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
def test_the_workers_of_a_command_that_is_killed_end_too(tmp_path: Path) -> None:
    words = ("simulate", "raft_actors.machines:KV", "--seeds", "100000", "--processes", "2", "--resume", "progress")
    with start([*RAFT_ACTORS, *words], tmp_path) as program:
        eventually((tmp_path / "progress").exists)
        workers = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
        assert len([pid for pid in workers if is_running(pid)]) >= 2
        program.kill()
    eventually(lambda: not any(map(is_running, workers)))


def test_several_processes_run_the_same_seeds(capsys) -> None:
    words = ("raft_actors.machines:Counter", "--seeds", "6", "--steps", "200")
    assert run(*words) == run(*words, "--processes", "2") == 0
    alone, together = (line.split(" (")[0] for line in capsys.readouterr().out.splitlines())
    assert alone == together


def acknowledges_everything(original: Any) -> Any:
    return lambda state, end: state.log.last.index


def test_a_violation_is_printed_with_the_command_that_repeats_it_and_status_1(capsys, tmp_path) -> None:
    trace = tmp_path / "trace.txt"
    with planted("raft_actors.behaviours.follower:_durable_match", acknowledges_everything):
        words = ("--seeds", "20", "--steps", "1000", "--shrink", "--trace", str(trace))
        assert run("raft_actors.machines:KV", *words) == 1
    out = capsys.readouterr().out
    assert "effect order: " in out
    assert "  repeat it with: raft-actors simulate raft_actors.machines.kv:KV --seeds 1 --first" in out
    assert "  repeat that with: raft-actors simulate raft_actors.machines.kv:KV --seeds 1 --first" in out
    assert "VIOLATION" in trace.read_text()


def test_a_single_run_that_fails_shows_its_timeline(capsys) -> None:
    with planted("raft_actors.engine:Engine._perform", persists_last):
        assert run("raft_actors.machines:KV", "--seeds", "1", "--first", "4", "--steps", "1000") == 1
    assert "observer: VIOLATION effect order" in capsys.readouterr().out


def persists_last(original: Any) -> Any:
    def perform(self: Any, effects: Any) -> None:
        original(self, tuple(sorted(effects, key=lambda effect: type(effect).__name__ == "Persist")))

    return perform


def test_an_interrupted_campaign_goes_on_after_its_last_seed(capsys, tmp_path: Path) -> None:
    progress = tmp_path / "progress.json"
    progress.write_text(json.dumps({"next": 7, "failed": []}))
    words = ("raft_actors.machines:Echo", "--seeds", "10", "--steps", "100", "--resume", str(progress))
    assert run(*words) == 0
    assert capsys.readouterr().out.startswith("3 of 3 seeds, ")
    assert json.loads(progress.read_text())["next"] == 10
    assert run(*words) == 0
    assert capsys.readouterr().out.startswith("0 of 0 seeds, ")


def test_a_seed_that_failed_before_the_interruption_is_not_forgotten(capsys, tmp_path: Path) -> None:
    progress = tmp_path / "progress.json"
    words = ("raft_actors.machines:KV", "--steps", "1000", "--resume", str(progress))
    with planted("raft_actors.engine:Engine._perform", persists_last):
        assert run(*words, "--seeds", "2", "--first", "4") == 1
    failed = json.loads(progress.read_text())["failed"]
    assert failed
    capsys.readouterr()
    assert run(*words, "--seeds", "7") == 1
    assert capsys.readouterr().out.endswith(f"no violation, {len(failed)} failed before: {str(failed)[1:-1]}\n")
    assert json.loads(progress.read_text()) == {"next": 7, "failed": failed}


def test_progress_is_shown_on_a_terminal_and_only_there(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(command, "INTERVAL", 0.0)
    terminal = Terminal()
    words = ("raft_actors.machines:Echo", "--seeds", "3", "--steps", "100")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        assert run(*words) == 0
    assert [f"\r{number} of 3 seeds, " in terminal.getvalue() for number in (1, 2, 3)] == [True, True, True]
    assert run(*words) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("no_such_module:Machine",), "no_such_module"),
        (("raft_actors.machines:KV", "--faults", "earthquake"), "earthquake"),
        (("tests.simulation.test_simulate:Silent",), "examples"),
    ],
)
def test_wrong_use_is_named(words, named) -> None:
    with pytest.raises(UsageError, match=named):
        run(*words)


def test_a_progress_file_that_is_none_is_named(tmp_path: Path) -> None:
    progress = tmp_path / "progress.json"
    progress.write_text("nonsense")
    with pytest.raises(UsageError, match=r"progress\.json"):
        run("raft_actors.machines:KV", "--resume", str(progress))


def test_a_picture_of_the_smaller_failing_run_is_written(capsys, tmp_path) -> None:
    picture = tmp_path / "run.svg"
    with planted("raft_actors.behaviours.follower:_durable_match", acknowledges_everything):
        words = ("--seeds", "20", "--steps", "1000", "--shrink", "--svg", str(picture))
        assert run("raft_actors.machines:KV", *words) == 1
    out = capsys.readouterr().out
    smaller = out.split("repeat that with: ")[1].splitlines()[0]
    assert f"repeat it with: {smaller}" in [text.text for text in ET.fromstring(picture.read_text("utf-8")).iter(TEXT)]
    assert LEGEND in out


def test_a_picture_of_the_first_failing_run_is_written_by_whichever_process_ran_it(capsys, tmp_path) -> None:
    alone, together = tmp_path / "alone.svg", tmp_path / "together.svg"
    words = ("tests.simulation.careless:Nosy", "--seeds", "4", "--steps", "300")
    assert run(*words, "--svg", str(alone)) == run(*words, "--processes", "2", "--svg", str(together)) == 1
    first = capsys.readouterr().out.split("repeat it with: ")[1].splitlines()[0]
    assert f"repeat it with: {first}" in alone.read_text("utf-8")
    assert together.read_bytes() == alone.read_bytes()


def test_a_single_sound_run_is_drawn_if_one_asks_for_it_and_of_many_none(capsys, tmp_path) -> None:
    picture = tmp_path / "run.svg"
    words = ("raft_actors.machines:KV", "--steps", "300", "--svg", str(picture))
    assert run(*words, "--seeds", "2") == 0
    assert not picture.exists()
    assert run(*words, "--seeds", "1", "--first", "5") == 0
    assert ET.fromstring(picture.read_text("utf-8")).tag.endswith("svg")
    assert picture.read_text("utf-8") == simulate(KV, seed=5, steps=300).svg()


@pytest.mark.parametrize("option", ["--svg", "--trace"])
def test_a_file_that_cannot_be_written_is_named_before_anything_is_run(option, capsys, tmp_path) -> None:
    nowhere = tmp_path / "no such folder" / "file"
    assert main(["simulate", "raft_actors.machines:KV", "--seeds", "2", option, str(nowhere)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("raft-actors simulate: ")
    assert str(nowhere) in captured.err
    assert captured.err.count("\n") == 1


def test_the_command_that_is_printed_repeats_the_run_in_a_process_of_its_own(capsys, tmp_path) -> None:
    words = ("tests.simulation.careless:Nosy", "--seeds", "1", "--first", "2", "--steps", "300")
    assert run(*words) == 1
    printed = capsys.readouterr().out.split("repeat it with: ")[1].splitlines()[0]
    name, *again = shlex.split(printed)
    trace = tmp_path / "trace.txt"
    done = subprocess.run(
        [sys.executable, "-m", name.replace("-", "_"), *again, "--trace", str(trace)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["", *(p for p in sys.path if p)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert trace.read_text("utf-8") == simulate(Nosy, seed=2, steps=300).trace
