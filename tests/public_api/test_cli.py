"""The command line's own parts, without processes: JSON in and out, lines as they arrive, finding a machine."""

from __future__ import annotations

import argparse
import json
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_actors.cli import _guarded, main
from raft_actors.cli.common import UsageError, load_machine
from raft_actors.cli.connecting import at_any
from raft_actors.cli.feeding import parsed, shown
from raft_actors.cli.lines import BATCH, Lines
from raft_actors.cli.tables import print_table
from raft_actors.errors import ElectionInProgress, Timeout, UnknownPeer
from raft_actors.machines import KV

ATOMS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(ATOMS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)
REPLIES = st.recursive(
    ATOMS | st.binary() | st.just(float("nan")) | st.sets(st.integers()) | st.complex_numbers(),
    lambda inner: st.lists(inner).map(tuple) | st.dictionaries(st.integers() | st.text() | st.just((1,)), inner),
    max_leaves=20,
)


def with_tuples(value):
    if isinstance(value, list):
        return tuple(with_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: with_tuples(item) for key, item in value.items()}
    return value


@given(VALUES)
def test_a_line_of_json_is_its_value_with_tuples_for_arrays(value):
    assert parsed(json.dumps(value).encode()) == with_tuples(value)


@given(REPLIES)
def test_every_reply_is_one_line_of_json(reply):
    line = shown(reply)
    assert "\n" not in line
    json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


@given(VALUES)
def test_a_reply_that_json_has_comes_back_as_it_was(value):
    assert json.loads(shown(with_tuples(value))) == value


def test_replies_that_cannot_even_be_shown_are_named_by_their_type():
    class Rude:
        def __repr__(self):
            raise RuntimeError

    ring: list = []
    ring.append(ring)
    assert "Rude object" in shown(Rude())
    assert "Rude object" in shown([Rude()])[1:]
    assert json.loads(shown(ring)) == "[[...]]"


@pytest.mark.parametrize("line", [b"", b"{", b"[1,]", b"NaN", b"1 2", b"\xff", b'"\xff"', b"[" * 10_000, b"'a'"])
def test_what_is_no_json_is_a_value_error_with_a_reason(line):
    with pytest.raises(ValueError, match=r"\w"):
        parsed(line)


@given(st.lists(st.binary(max_size=5).map(lambda part: part.replace(b"\r", b"")), max_size=30))
def test_lines_are_those_of_the_whole_input_however_it_arrives(parts):
    reader, writer = os.pipe()
    with Lines(reader) as lines:

        def feed() -> None:
            for part in parts:
                os.write(writer, part)
            os.close(writer)

        thread = threading.Thread(target=feed)
        thread.start()
        found = [line for batch in lines.batches() for line in batch]
        thread.join()
    os.close(reader)
    whole = b"".join(parts)
    assert found == whole.removesuffix(b"\n").split(b"\n") if whole else found == []


def test_a_batch_of_lines_is_bounded(tmp_path):
    (tmp_path / "file").write_bytes(b"1\n" * (3 * BATCH + 1))
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    with Lines(descriptor) as lines:
        sizes = [len(batch) for batch in lines.batches()]
    os.close(descriptor)
    assert sum(sizes) == 3 * BATCH + 1
    assert max(sizes) <= BATCH


def test_lines_that_are_ended_stop_waiting_and_keep_the_first_reason():
    reader, writer = os.pipe()
    with Lines(reader) as lines:
        os.write(writer, b"1\nhalf a line")
        batches = lines.batches()
        assert next(batches) == [b"1"]
        lines.end("enough")
        lines.end("more than enough")
        assert list(batches) == []
        assert lines.why == "enough"
    os.close(reader)
    os.close(writer)


def test_a_machine_is_found_by_module_and_class_in_the_current_folder_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["elsewhere"])
    (tmp_path / "own_machines.py").write_text("from raft_actors.machines import KV\nclass Box:\n    Inner = KV\n")
    assert load_machine("raft_actors.machines:KV") is KV
    assert load_machine("own_machines:Box.Inner") is KV
    for wrong in ("own_machines", ":KV", "own_machines:", "own_machines:Box", "own_machines:Box.Outer", "gone:KV"):
        with pytest.raises(UsageError, match=wrong.partition(":")[0] or "MODULE"):
            load_machine(wrong)


def test_main_returns_the_exit_status_and_never_raises(capsys, monkeypatch):
    assert main(["--version"]) == 0
    assert main([]) == 2
    assert main(["log", "nowhere"]) == 2
    monkeypatch.setattr("raft_actors.cli.log.reading", lambda folder: 1 / 0)
    capsys.readouterr()
    assert main(["log", "nowhere"]) == 1
    assert capsys.readouterr().err == "raft-actors log: ZeroDivisionError: division by zero\n"


@pytest.mark.parametrize("refusal", [None, UnknownPeer("s1", "nobody is there", advice="look")])
def test_a_timeout_is_told_with_the_last_refusal_if_there_was_one(capsys, refusal):
    def run(_):
        raise Timeout("too late", advice="wait longer") from refusal

    assert _guarded(argparse.Namespace(command="read", run=run)) == 1
    more = "; the last refusal: nobody is there: look" if refusal else ""
    assert capsys.readouterr().err == f"raft-actors read: too late: wait longer{more}\n"


@pytest.mark.parametrize("order", [("s1@h:1", "s2@h:2", "s3@h:3"), ("s3@h:3", "s1@h:1", "s2@h:2")])
def test_what_a_peer_says_is_told_before_that_nobody_listens_at_another_address(order):
    def do(name):
        if name == "s1@h:1":
            raise ElectionInProgress("no leader was found in time")
        raise UnknownPeer(name, f"no node listens at {name}")

    with pytest.raises(ElectionInProgress):
        at_any(list(order), do)
    with pytest.raises(UnknownPeer, match="s3@h:3"):
        at_any(["s2@h:2", "s3@h:3"], do)


def test_a_table_is_columns_where_nobody_watches(capsys):
    print_table(("peer", "role"), [("s1", "leader"), ("s20", "follower")])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["peer", "role"],
        ["s1", "leader"],
        ["s20", "follower"],
    ]
