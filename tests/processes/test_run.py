"""``raft-actors run`` as its users have it: files, pipes, terminals that go away, and state that stays."""

from __future__ import annotations

import json
import os
import pty
import signal
import threading
from pathlib import Path

import pytest

from tests.processes.tools import (
    KV,
    RAFT_ACTORS,
    ROOT,
    Feeder,
    as_lines,
    eventually,
    finish,
    from_lines,
    one_line,
    raft_actors,
    start,
)

MINE = """
import raft_actors as raft

class Mine(raft.StateMachine):
    def init(self, name):
        return []

    def handle_write(self, command, state):
        match command:
            case "set": return {1, 2}, state
            case "bytes": return (b"ab", 1), state
            case "nan": return float("nan"), state
            case "rude": return Rude(), state
            case "type": return type(state).__name__ + str(isinstance(command, str)), state
            case "exit": raise SystemExit
        return repr(command), state

class Rude:
    def __repr__(self):
        raise RuntimeError("no")

class NoMachine: pass
class Needs(Mine):
    def __init__(self, something): pass
"""


@pytest.mark.parametrize("storage", ["lmdb", "rocksdb"])
def test_a_hundred_thousand_commands_are_all_answered_in_their_order(tmp_path, storage):
    commands = [["set", f"key{n % 997}", n] for n in range(100_000)]
    (tmp_path / "commands").write_bytes(as_lines(commands))
    done = raft_actors("run", KV, "--input", "commands", "--storage", storage, folder=tmp_path, timeout=110)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert from_lines(done.stdout) == [["ok", key, value] for _, key, value in commands]


def test_state_survives_from_run_to_run_in_the_default_folder(tmp_path):
    assert raft_actors("run", KV, folder=tmp_path, given=b'["set", "a", 1]').stdout == b'["ok", "a", 1]\n'
    assert [path.name for path in (tmp_path / "raft_data").iterdir()] == ["run-raft_actors.machines-KV"]
    assert raft_actors("run", KV, folder=tmp_path, given=b'["get", "a"]\n').stdout == b"1\n"
    other = raft_actors("run", KV, "--data-dir", "other", folder=tmp_path, given=b'["get", "a"]\n')
    assert other.stdout == b"null\n"


def test_a_bad_line_is_an_error_line_with_its_number_and_the_rest_goes_on(tmp_path):
    given = b'["set", "a", [1, {"b": [2]}]]\n{bad\n\n  \n["set"]\n\xff\n["get", "a"]\n' + b"[" * 100_000
    done = raft_actors("run", KV, folder=tmp_path, given=given)
    first, bad, failed, binary, last, deep = from_lines(done.stdout)
    assert first == ["ok", "a", [1, {"b": [2]}]]
    assert (bad["error"], bad["message"][:7]) == ("InvalidJSON", "line 2:")
    assert failed["error"] == "CommandFailed"
    assert "ValueError: unknown word 'set'" in failed["message"]
    assert binary["message"].startswith("line 6:")
    assert last == [1, {"b": [2]}]
    assert deep["message"].startswith("line 8:")
    assert done.returncode == 1
    assert "4 of 6 commands failed" in one_line(done.stderr)


def test_replies_that_json_lacks_are_shown_by_their_repr_and_arrays_arrive_as_tuples(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    words = ["set", "bytes", "nan", [1, [2, {"k": [3]}]], "rude", None, 1.5]
    done = raft_actors("run", "mine:Mine", folder=tmp_path, given=as_lines(words))
    (*replies,) = from_lines(done.stdout)
    assert replies[:4] == ["{1, 2}", ["b'ab'", 1], "nan", "(1, (2, {'k': (3,)}))"]
    assert "Rude object at" in replies[4]
    assert replies[5:] == ["None", "1.5"]
    assert done.returncode == 0


def test_a_pipe_stays_interactive(tmp_path):
    with start([*RAFT_ACTORS, "run", KV], tmp_path) as program:
        for number in range(5):
            program.stdin.write(as_lines([["set", "a", number]]))
            program.stdin.flush()
            assert json.loads(program.stdout.readline()) == ["ok", "a", number]
        program.stdin.close()
        assert program.wait(10) == 0
        assert program.stderr.read() == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("busy", [False, True])
def test_a_signal_ends_a_run_cleanly_and_what_was_printed_stays(tmp_path, number, busy):
    commands = [["set", "a", n] for n in range(400_000 if busy else 1)]
    with start([*RAFT_ACTORS, "run", KV], tmp_path) as program:
        feeder = threading.Thread(target=feed_and_keep_open, args=(program.stdin, as_lines(commands)), daemon=True)
        feeder.start()
        assert program.stdout.readline()
        program.send_signal(number)
        printed = program.stdout.read()
        assert program.wait(20) == 1
        assert "interrupted" in one_line(program.stderr.read())
    replies = from_lines(printed)
    values = [reply[2] for reply in replies if type(reply) is list]
    assert values == list(range(1, len(values) + 1))
    left = raft_actors("run", KV, folder=tmp_path, given=as_lines([["get", "a"]]))
    assert from_lines(left.stdout)[0] >= (values or [0])[-1]


def feed_and_keep_open(pipe, data: bytes) -> None:
    try:
        pipe.write(data)
        pipe.flush()
    except OSError:
        pass


def test_a_reader_that_goes_away_ends_the_run_without_a_traceback(tmp_path):
    with start([*RAFT_ACTORS, "run", KV], tmp_path) as program:
        Feeder(program.stdin, as_lines([["set", "a", n] for n in range(200_000)]))
        assert program.stdout.readline() == b'["ok", "a", 0]\n'
        program.stdout.close()
        assert program.wait(20) == 1
        assert "nobody reads the output" in one_line(program.stderr.read())


def test_an_idle_pipe_does_not_keep_a_run_whose_reader_has_gone(tmp_path):
    with start([*RAFT_ACTORS, "run", KV], tmp_path) as program:
        program.stdin.write(as_lines([["set", "a", 1]]))
        program.stdin.flush()
        assert program.stdout.readline()
        program.stdout.close()
        program.stdin.write(as_lines([["set", "a", 2]]))
        program.stdin.flush()
        assert program.wait(10) == 1


def test_the_number_of_peers_must_be_that_of_the_stored_cluster(tmp_path):
    assert raft_actors("run", KV, "--peers", 1, folder=tmp_path, given=b"").returncode == 0
    done = raft_actors("run", KV, "--peers", 5, folder=tmp_path, given=b"")
    assert done.returncode == 2
    assert "holds a cluster of 1 peers" in one_line(done.stderr)
    assert sorted(path.name for path in (tmp_path / "raft_data" / "run-raft_actors.machines-KV").iterdir()) == ["s1"]


def test_two_runs_on_one_folder_do_not_meet_and_the_second_names_the_first(tmp_path):
    with start([*RAFT_ACTORS, "run", KV], tmp_path) as first:
        first.stdin.write(as_lines([["set", "a", 1]]))
        first.stdin.flush()
        assert first.stdout.readline()
        second = raft_actors("run", KV, folder=tmp_path, given=as_lines([["set", "a", 2]]))
        assert (second.returncode, second.stdout) == (1, b"")
        assert f"process {first.pid}" in one_line(second.stderr)
        first.stdin.write(as_lines([["get", "a"]]))
        first.stdin.close()
        assert first.stdout.readline() == b"1\n"


def test_a_machine_that_exits_its_process_makes_error_lines_and_no_hang(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    done = raft_actors("run", "mine:Mine", folder=tmp_path, given=as_lines(["type", "exit", "type"]))
    replies = from_lines(done.stdout)
    assert replies[0] == "listTrue"
    assert replies[1]["error"] in {"OutcomeUnknown", "Timeout"}
    assert done.returncode == 1
    assert "failed" in one_line(done.stderr)


MORTAL = """
from raft_actors.machines import Counter

died = []

class Mortal(Counter):
    def handle_write(self, command, state):
        if command == "die":
            if not died:
                died.append(self)
                raise MemoryError
            return "survived", state
        return super().handle_write(command, state)
"""


def test_a_leader_that_dies_in_mid_run_costs_unknown_outcomes_and_no_command_counts_twice(tmp_path):
    (tmp_path / "mortal.py").write_text(MORTAL)
    commands = [["add", 1]] * 5_000 + ["die"] + [["add", 1]] * 25_000
    done = raft_actors("run", "mortal:Mortal", folder=tmp_path, given=as_lines(commands))
    replies = from_lines(done.stdout)
    assert len(replies) == len(commands)
    values = [reply for reply in replies if type(reply) is int]
    errors = [reply["error"] for reply in replies if type(reply) is dict]
    assert values == sorted(set(values)), "a command was applied twice, or out of order"
    assert set(errors) <= {"OutcomeUnknown"}
    assert len(values) >= 20_000, "the run did not go on after the death"
    words = ["run", "raft_actors.machines:Counter", "--data-dir", "raft_data/run-mortal-Mortal"]
    (total,) = from_lines(raft_actors(*words, folder=tmp_path, given=as_lines([["add", 0]])).stdout)
    assert len(values) <= total <= 30_000
    assert max(values) <= total


def test_progress_is_shown_on_a_terminal_and_nowhere_else(tmp_path):
    (tmp_path / "commands").write_bytes(as_lines([["set", "a", n] for n in range(60_000)]))
    keyboard, screen = pty.openpty()
    seen: list[bytes] = []

    def watch() -> None:
        try:
            while data := os.read(keyboard, 1 << 16):
                seen.append(data)
        except OSError:  # how a terminal says that its last user has gone
            return

    with start([*RAFT_ACTORS, "run", KV, "--input", "commands"], tmp_path, stderr=screen) as program:
        os.close(screen)
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        assert program.stdout.read().count(b"\n") == 60_000
        assert program.wait(20) == 0
    watcher.join(10)
    os.close(keyboard)
    shown = b"".join(seen)
    assert b"commands," in shown
    assert b"%" in shown
    assert shown.endswith(b"\r\x1b[K")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "required"),
        (["run"], "required"),
        (["nonsense"], "invalid choice"),
        (["run", "nowhere"], "MODULE:CLASS"),
        (["run", "nowhere:Nothing"], "cannot be imported"),
        (["run", "raft_actors.machines:Nothing"], "there is no 'Nothing'"),
        (["run", "mine:NoMachine"], "StateMachine"),
        (["run", "mine:Needs"], "without arguments"),
        (["run", "broken:Machine"], "ZeroDivisionError"),
        (["run", KV, "--input", "nowhere"], "No such file"),
        (["run", KV, "--input", "."], "Is a directory"),
        (["run", KV, "--peers", "0"], "number of peers"),
        (["run", KV, "--storage", "stone"], "invalid choice"),
        (["run", KV, "--data-dir", "mine.py"], "is no folder"),
        (["log", "nowhere"], "not a folder"),
        (["log", "."], "no store"),
        (["verify", "nowhere"], "not a folder"),
    ],
)
def test_bad_usage_is_status_2_with_a_complaint_and_no_traceback(tmp_path, words, complaint):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "broken.py").write_text("1 / 0")
    done = raft_actors(*words, folder=tmp_path)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert complaint in done.stderr.decode()
    assert not (tmp_path / "raft_data").exists()


def test_a_folder_that_cannot_be_made_is_one_line_and_status_1(tmp_path):
    (tmp_path / "file").write_text("")
    done = raft_actors("run", KV, "--data-dir", "file/below", folder=tmp_path)
    assert done.returncode == 1
    assert "file/below" in one_line(done.stderr)


def test_log_and_verify_show_what_a_run_has_left(tmp_path):
    raft_actors("run", KV, "--data-dir", "data", folder=tmp_path, given=as_lines([["set", "a", 1]] * 5))
    log = raft_actors("log", "data/s1", "--decode", folder=tmp_path)
    assert log.returncode == 0
    assert log.stdout.count(b"('set', 'a', 1)") == 5
    for name in ("s1", "s2", "s3"):
        verified = raft_actors("verify", Path("data") / name, "--json", folder=tmp_path)
        assert json.loads(verified.stdout) == {"ok": True, "problems": []}
        assert verified.returncode == 0


def test_a_reader_that_has_seen_enough_of_a_log_is_no_error_and_no_traceback(tmp_path):
    raft_actors("run", KV, "--data-dir", "data", folder=tmp_path, given=as_lines([["set", "a", "b" * 99]] * 5000))
    with start([*RAFT_ACTORS, "log", "data/s1"], tmp_path) as program:
        assert program.stdout.readline().startswith(b"# peer s1")
        program.stdout.close()
        assert program.stderr.read() == b""
        assert program.wait(10) == 0


@pytest.mark.parametrize(
    ("words", "closed", "complaint"),
    [
        (["run", KV], "<&-", "no standard input"),
        (["run", KV], ">&-", "no standard output"),
        (["run", KV], ">/dev/full", "No space left on device"),
        (["demo"], ">&-", "no standard output"),
        (["demo"], ">/dev/full", "No space left on device"),
    ],
)
def test_streams_that_are_closed_or_full_are_one_line_and_no_success(tmp_path, words, closed, complaint):
    command = " ".join([*RAFT_ACTORS, *words, closed])
    done = finish(["sh", "-c", command], tmp_path, given=b'["get", "a"]\n')
    assert done.returncode in (1, 2)
    assert complaint in one_line(done.stderr)


def test_help_and_version_are_no_errors(tmp_path):
    for words in (["--help"], ["run", "--help"], ["demo", "--help"], ["--version"]):
        done = raft_actors(*words, folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"raft-actors" in done.stdout


def test_the_demo_holds_in_time_and_leaves_nothing_behind(tmp_path):
    with start([*RAFT_ACTORS, "demo"], ROOT, stdin=None) as program:
        output, complaint = program.communicate(timeout=15)
    assert program.returncode == 0, complaint
    assert complaint == b""
    text = output.decode()
    assert "Nothing that was acknowledged was lost." in text
    folder = Path(text.split("store in ")[1].split()[0])
    eventually(lambda: not folder.exists())
