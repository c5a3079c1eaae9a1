"""``verify`` and ``log``: what they say of a store, their exit status, and that they change nothing."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raft_actors import inspection
from raft_actors.cli import log as log_command
from raft_actors.cli import verify as verify_command
from raft_actors.codec import CloudpickleCodec, PlainCodec
from raft_actors.log_store import LogStore
from raft_actors.protocol.effects import Persist
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.types import Ballot
from raft_actors.store_meta import seal
from storage_adapters import Batch, LMDBAdapter, RocksDBAdapter, StorageAdapter
from tests.storage.log_tools import (
    SHARING,
    append,
    change,
    command,
    commands,
    configuration_of,
    everything,
    filled,
    flipped,
    noop,
    records,
    replant,
)

Factory = Callable[[str], StorageAdapter]
every_engine = pytest.mark.parametrize("factory", SHARING)


def run(*words: str | Path) -> int:
    """Run a command line through the parsers that the commands add."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    subparsers = parser.add_subparsers()
    log_command.add_parser(subparsers)
    verify_command.add_parser(subparsers)
    args = parser.parse_args([str(word) for word in words])
    status: int = args.run(args)
    return status


def verdict(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """Run ``verify --json``."""
    capsys.readouterr()
    status = run("verify", path, "--json")
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == {"ok", "problems"}
    assert (status == 0) is found["ok"] is (found["problems"] == [])
    return status, found


def only_problem(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    status, found = verdict(path, capsys)
    assert (status, len(found["problems"])) == (1, 1), found
    return str(found["problems"][0])


def contents(path: Path) -> dict[str, str]:
    """Return a digest of each file with data in a folder; the lock files hold only who looked last."""
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() + str(file.stat().st_mtime_ns)
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name not in ("LOCK", "lock.mdb")
    }


@every_engine
@pytest.mark.parametrize("clean", [True, False])
def test_a_sound_store_is_ok_and_not_changed(
    factory: Factory, clean: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(factory, tmp_path / "s1", last=300, clean=clean)
    before = contents(tmp_path)
    assert verdict(tmp_path / "s1", capsys) == (0, {"ok": True, "problems": []})
    assert run("verify", tmp_path / "s1") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "ok: peer s1, entries 1 to 300, term 1"
    assert run("log", tmp_path / "s1") == 0
    assert contents(tmp_path) == before
    assert {path.name for path in tmp_path.iterdir()} - {"shared"} == {"s1"}


@every_engine
def test_a_new_store_is_ok(factory: Factory, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    LogStore.open(factory, tmp_path / "s1", name="s1").close()
    assert run("verify", tmp_path / "s1") == 0
    assert "ok: peer s1, no entries, term 0" in capsys.readouterr().out


@every_engine
def test_a_large_store_is_read_in_portions(
    factory: Factory, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(factory, tmp_path / "s1", last=500)
    monkeypatch.setattr("raft_actors.log_recovery.READ_BYTES", 1000)
    assert verdict(tmp_path / "s1", capsys)[0] == 0


@pytest.mark.parametrize("command_name", ["verify", "log"])
def test_what_is_no_store_ends_with_2(command_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").write_text("dear all")
    (tmp_path / "file").write_text("no folder")
    with LMDBAdapter(tmp_path / "foreign") as adapter:
        adapter.write(Batch(entries=[(1, b"not of a peer")]))
    for name in ("nowhere", "letters", "file", "foreign"):
        assert run(command_name, tmp_path / name) == 2
        said = capsys.readouterr()
        assert name in said.err
        assert len(said.err.splitlines()) == 1
        assert said.out == ""
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["letter.txt"]


@every_engine
def test_the_store_of_a_running_peer_is_refused_and_not_harmed(
    factory: Factory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with LogStore.open(factory, tmp_path / "s1", name="s1") as store:
        append(store, *commands(1, 3))
        assert f"in use by process {os.getpid()}" in only_problem(tmp_path / "s1", capsys)
        assert run("log", tmp_path / "s1") == 1
        append(store, command(4))
        assert everything(store) == commands(1, 4)
    assert verdict(tmp_path / "s1", capsys)[0] == 0


@every_engine
def test_every_damaged_record_is_listed(factory: Factory, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(factory, tmp_path / "s1")
    found = dict(records(factory, tmp_path / "s1"))
    replant(
        factory,
        tmp_path / "s1",
        {3: flipped(found[3]), 7: found[9], 9: found[7], 15: found[15][:20], 20: flipped(found[20], 5)},
    )
    before = contents(tmp_path)
    status, said = verdict(tmp_path / "s1", capsys)
    assert status == 1
    assert [problem.split(":")[0] for problem in said["problems"]] == [
        "entry 3 does not match its checksum (42 bytes)",
        "entry 7 holds the record of entry 9",
        "entry 9 holds the record of entry 7",
        "entry 15 is cut off",
        "entry 20 does not match its checksum (43 bytes)",
    ]
    assert contents(tmp_path) == before


def test_a_ruined_log_does_not_print_for_ever(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(LMDBAdapter, tmp_path / "s1", last=400)
    replant(LMDBAdapter, tmp_path / "s1", dict.fromkeys(range(100, 401), b"x"))
    _, said = verdict(tmp_path / "s1", capsys)
    assert len(said["problems"]) == inspection.MOST_PROBLEMS + 1
    assert "the rest was not checked" in said["problems"][-1]


@every_engine
def test_a_lost_suffix_is_a_problem(factory: Factory, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(factory, tmp_path / "s1")
    with factory(str(tmp_path / "s1")) as adapter:
        adapter.write(Batch(truncate_from=18))
    assert only_problem(tmp_path / "s1", capsys) == "the log ends with entry 17, but entry 20 was durable"


@every_engine
def test_a_log_that_begins_too_late_is_one_problem(
    factory: Factory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(factory, tmp_path / "s1")
    with factory(str(tmp_path / "s1")) as adapter:
        adapter.compact(7)
    assert only_problem(tmp_path / "s1", capsys) == "entry 1 is missing: entry 8 comes in its place"


def test_a_torn_tail_is_a_problem_that_the_next_start_mends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(LMDBAdapter, tmp_path / "s1", last=10)
    mark = (tmp_path / "s1" / "TAIL").read_bytes()
    with LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1") as store:
        append(store, *commands(11, 12))
    (tmp_path / "s1" / "TAIL").write_bytes(mark)
    replant(LMDBAdapter, tmp_path / "s1", {12: flipped(dict(records(LMDBAdapter, tmp_path / "s1"))[12])})
    assert "above the durable mark: it is dropped when the peer starts" in only_problem(tmp_path / "s1", capsys)
    LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1").close()
    assert verdict(tmp_path / "s1", capsys)[0] == 0


@every_engine
def test_damage_in_the_meta_is_a_problem_and_the_records_are_checked_all_the_same(
    factory: Factory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(factory, tmp_path / "s1")
    replant(factory, tmp_path / "s1", {5: flipped(dict(records(factory, tmp_path / "s1"))[5])})
    with factory(str(tmp_path / "s1")) as adapter:
        adapter.write(Batch({"ballot": flipped(adapter.meta("ballot") or b"")}))
    _, said = verdict(tmp_path / "s1", capsys)
    assert [problem.split(" (")[0] for problem in said["problems"]] == [
        "its 'ballot' does not match its checksum",
        "entry 5 does not match its checksum",
    ]


def test_an_entry_that_is_no_configuration_is_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1") as store:
        append(store, Entry(1, 1, EntryKind.CONFIGURATION, 0.0, b"no configuration"))
    assert "entry 1 is no configuration" in only_problem(tmp_path / "s1", capsys)


@every_engine
def test_a_missing_mark_is_a_note_and_a_torn_one_a_problem(
    factory: Factory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(factory, tmp_path / "s1")
    (tmp_path / "s1" / "TAIL").write_bytes(b"RAFTTAIL")
    assert only_problem(tmp_path / "s1", capsys) == "its mark TAIL does not match its checksum"
    (tmp_path / "s1" / "TAIL").unlink()
    assert run("verify", tmp_path / "s1") == 0
    assert "note: without its mark TAIL" in capsys.readouterr().out


@every_engine
def test_the_mark_of_another_store_is_a_problem(
    factory: Factory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(factory, tmp_path / "s1")
    filled(factory, tmp_path / "s2")
    shutil.copy(tmp_path / "s2" / "TAIL", tmp_path / "s1" / "TAIL")
    assert "belongs to another store" in only_problem(tmp_path / "s1", capsys)


def test_a_store_of_a_later_format_is_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(LMDBAdapter, tmp_path / "s1")
    with LMDBAdapter(tmp_path / "s1") as adapter:
        adapter.write(Batch({"format": seal("format", b"2")}))
    assert "log format 2, this raft_actors reads format 1" in only_problem(tmp_path / "s1", capsys)
    assert run("log", tmp_path / "s1") == 1


def test_a_mark_beside_lost_data_is_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(LMDBAdapter, tmp_path / "s1")
    for item in (tmp_path / "s1").iterdir():
        if item.name != "TAIL":
            item.unlink()
    assert "its data is gone" in only_problem(tmp_path / "s1", capsys)
    filled(LMDBAdapter, tmp_path / "s2")
    (tmp_path / "s2" / "data.mdb").unlink()
    assert "lost its data files" in only_problem(tmp_path / "s2", capsys)


def test_an_lmdb_file_that_was_cut_short_is_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(LMDBAdapter, tmp_path / "s1", last=2000)
    data = tmp_path / "s1" / "data.mdb"
    os.truncate(data, data.stat().st_size // 3)
    assert "data.mdb" in only_problem(tmp_path / "s1", capsys)


def test_damage_in_a_rocksdb_file_is_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(RocksDBAdapter, tmp_path / "s1", last=2000)
    LogStore.open(RocksDBAdapter, tmp_path / "s1", name="s1").close()
    table = max((tmp_path / "s1" / "db").glob("*.sst"), key=lambda file: file.stat().st_size)
    mangled = bytearray(table.read_bytes())
    mangled[len(mangled) // 3] ^= 1
    table.write_bytes(mangled)
    assert verdict(tmp_path / "s1", capsys)[0] == 1


# -- log ---------------------------------------------------------------------------------------------------------------


def printed(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    capsys.readouterr()
    assert run("log", path, *options) == 0
    return capsys.readouterr().out.splitlines()


@every_engine
def test_log_prints_every_entry(factory: Factory, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LogStore.open(factory, tmp_path / "s1", name="s1", codec="plain") as store:
        store.write([Persist(ballot=Ballot(3, "s2"), cluster="c1")])
        encoded = PlainCodec().encode(("set", "k", [1, 2]))
        session = Entry(4, 3, EntryKind.SESSION, 1_700_000_000.25, bytes(40))
        append(store, change(1, 1, configuration_of("s1", "s2")), noop(2, 3), command(3, 3, encoded), session)
    head, *lines = printed(tmp_path / "s1", capsys)
    assert head == (
        f"# peer s1, incarnation {store.identity.incarnation}, cluster c1, format 1, codec plain, term 3, "
        "voted for s2, entries 1 to 4"
    )
    assert [line.split() for line in lines] == [
        ["1", "1", "configuration", "2023-11-14T22:13:21.000+00:00", "voters", "s1", "s2"],
        ["2", "3", "noop", "2023-11-14T22:13:22.000+00:00"],
        ["3", "3", "command", "2023-11-14T22:13:23.000+00:00", "('set',", "'k',", "[1,", "2])"],
        ["4", "3", "session", "2023-11-14T22:13:20.250+00:00", "40", "bytes", "00" * 32 + "…"],
    ]
    assert [line.split()[0] for line in printed(tmp_path / "s1", capsys, "--first", "2", "--last", "3")[1:]] == [
        "2",
        "3",
    ]


class Bomb:
    """Unpickling it leaves a trace."""

    exploded: list[int] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return _explode, ()


def _explode() -> str:
    Bomb.exploded.append(1)
    return "boom"


@pytest.mark.parametrize("codec", ["cloudpickle", ""])
def test_log_unpickles_only_when_told_to(codec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = pickle.dumps(Bomb(), 5)
    with LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1", codec=codec) as store:
        append(store, command(1, 1, data), command(2, 1, CloudpickleCodec().encode(("put", 1))), command(3, 1, b"\x80"))
    Bomb.exploded.clear()
    lines = printed(tmp_path / "s1", capsys)
    assert f"{len(data)} bytes {data[:32].hex()}" in lines[1]
    assert Bomb.exploded == []
    lines = printed(tmp_path / "s1", capsys, "--decode")
    assert Bomb.exploded == [1]
    assert [line.split("  ")[-1] for line in lines[1:]] == ["'boom'", "('put', 1)", "1 bytes 80"]


def test_log_shows_the_bytes_of_a_codec_of_somebody_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1", codec="mine") as store:
        append(store, command(1, 1, PlainCodec().encode(("a", 1))))
    assert "bytes" in printed(tmp_path / "s1", capsys, "--decode")[1]


@every_engine
def test_log_prints_what_is_sound_and_then_says_what_is_not(
    factory: Factory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(factory, tmp_path / "s1", last=5)
    replant(factory, tmp_path / "s1", {4: flipped(dict(records(factory, tmp_path / "s1"))[4])})
    assert run("log", tmp_path / "s1") == 1
    said = capsys.readouterr()
    assert [line.split()[0] for line in said.out.splitlines()] == ["#", "1", "2", "3"]
    assert "entry 4 does not match its checksum" in said.err
