"""``verify`` and ``log`` check and show snapshots, and change nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raft_actors.cli import main
from raft_actors.log_store import LogStore
from raft_actors.protocol.effects import Persist
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.protocol.types import Ballot
from raft_actors.store_meta import base_value, read_meta, snapshot_value
from storage_adapters import Batch, StorageAdapter
from tests.storage.log_tools import ENGINES, commands, flipped
from tests.storage.snapshot_tools import at, compacted, taken

Factory = Callable[[str], StorageAdapter]


@pytest.fixture(params=ENGINES)
def factory(request: pytest.FixtureRequest) -> Factory:
    made: Factory = request.param
    return made


def made(factory: Factory, path: Path) -> tuple[Snapshot, Snapshot]:
    """A store with two snapshots, at 10 and 15, whose log begins after 8."""
    with LogStore.open(factory, path, name="s1") as store:
        store.write([Persist(ballot=Ballot(1, "s1"), cluster="c1", entries=commands(1, 20))])
        return compacted(store, 10, 5), compacted(store, 15, 8)


def verdict(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    status = main(["verify", str(path), "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return status, found


def damage(path: Path, snapshot: Snapshot, at: int) -> None:
    file = path / "snapshots" / f"{snapshot.id}.snap"
    file.write_bytes(flipped(file.read_bytes(), at))


def contents(path: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in path.rglob("*") if file.is_file() and file.name != "LOCK"}


def test_a_sound_store_is_sound_with_its_snapshots(
    factory: Factory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(factory, tmp_path / "s1")
    before = contents(tmp_path)
    assert verdict(tmp_path / "s1", capsys) == (0, {"ok": True, "problems": []})
    assert main(["verify", str(tmp_path / "s1")]) == 0
    assert "snapshot of entry 15" in capsys.readouterr().out
    after = contents(tmp_path)
    assert {name for name in after if "lock.mdb" not in name} == {name for name in before if "lock.mdb" not in name}
    assert all(after[name] == data for name, data in before.items() if "snapshots" in name or "TAIL" in name)


@pytest.mark.parametrize("which", [0, 1], ids=["older", "recorded"])
@pytest.mark.parametrize("place", [3, 30, 40_000, -1], ids=["prefix", "header", "state", "end"])
def test_a_damaged_snapshot_is_a_problem(
    which: int, place: int, factory: Factory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    snapshots = made(factory, tmp_path / "s1")
    damage(tmp_path / "s1", snapshots[which], place)
    status, found = verdict(tmp_path / "s1", capsys)
    header = place in (3, 30)
    if header and which == 0:
        assert status == 0  # an older file of which nobody can tell what it was counts for nothing
    else:
        assert status == 1
        assert snapshots[which].id in found["problems"][0]


def test_a_missing_snapshot_is_a_problem_and_so_is_a_state_that_is_nowhere(
    factory: Factory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older, newest = made(factory, tmp_path / "s1")
    (tmp_path / "s1" / "snapshots" / f"{newest.id}.snap").unlink()
    assert verdict(tmp_path / "s1", capsys)[1]["problems"] == [f"snapshot {newest.id} is missing or damaged"]
    (tmp_path / "s1" / "snapshots" / f"{older.id}.snap").unlink()
    assert verdict(tmp_path / "s1", capsys)[1]["problems"] == [
        f"snapshot {newest.id} is missing or damaged",
        "the entries up to 8 were compacted, and no sound snapshot takes their place",
    ]


def test_leftovers_are_notes(factory: Factory, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(factory, tmp_path / "s1")
    with LogStore.open(factory, tmp_path / "s1", name="s1") as store:
        never = taken(store.snapshots, at(store, 20))
    (tmp_path / "s1" / "snapshots" / "taken.part").write_bytes(b"half")
    assert main(["verify", str(tmp_path / "s1")]) == 0
    said = capsys.readouterr().out
    assert f"note: {never.id}.snap is no snapshot that counts" in said
    assert "note: taken.part is no snapshot that counts" in said


def test_a_snapshot_of_another_log_is_a_problem(
    factory: Factory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, newest = made(factory, tmp_path / "s1")
    other = Snapshot(newest.id, newest.last, newest.chain ^ 1, newest.time)
    with factory(str(tmp_path / "s1")) as adapter:
        adapter.write(Batch(snapshot_value(other)))
    problems = verdict(tmp_path / "s1", capsys)[1]["problems"]
    assert f"entry 15 is not the one that snapshot {newest.id} ends with" in problems


def test_a_log_that_ends_before_its_snapshot_is_a_problem(
    factory: Factory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(factory, tmp_path / "s1")
    (tmp_path / "s1" / "TAIL").unlink()  # the witness of what the snapshot tells as well
    with factory(str(tmp_path / "s1")) as adapter:
        adapter.write(Batch(truncate_from=13))
    problems = verdict(tmp_path / "s1", capsys)[1]["problems"]
    assert "entry 13 is missing, although everything up to entry 15 was durable" in problems


def test_an_installation_that_a_crash_left_unfinished_is_no_problem(
    factory: Factory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(factory, tmp_path / "s1")
    with LogStore.open(factory, tmp_path / "s1", name="s1") as store:
        meta = read_meta(store._adapter.meta, "")
        assert meta is not None
        snapshot = taken(store.snapshots, Snapshot("feed-50", at(store, 20).last, 1, 0.0))
    moved = Snapshot(snapshot.id, type(snapshot.last)(1, 50), 1, 0.0, size=snapshot.size)
    with factory(str(tmp_path / "s1")) as adapter:
        base = type(meta.base)(moved.last, 1, 0.0)
        adapter.write(Batch(base_value(base) | snapshot_value(moved)))
    problems = verdict(tmp_path / "s1", capsys)[1]["problems"]
    assert not [problem for problem in problems if problem.startswith("entry")]


def test_log_shows_the_snapshots(factory: Factory, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    older, newest = made(factory, tmp_path / "s1")
    with LogStore.open(factory, tmp_path / "s1", name="s1") as store:
        never = taken(store.snapshots, at(store, 20))
        store.trim(20)
    assert main(["log", str(tmp_path / "s1")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == (
        f"# snapshot {never.id}, after entry 20 of term 1, 2023-11-14T22:13:40.000+00:00, {never.size} bytes, left over"
    )
    assert lines[2].startswith(f"# snapshot {newest.id}, after entry 15 of term 1")
    assert lines[3].startswith(f"# snapshot {older.id}, after entry 10 of term 1")
    assert lines[4].split()[:2] == ["9", "1"]
