"""Peers of one process that share a store: they work, come back, and every tool finds the log of each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import raft_actors as raft
from raft_actors.backups import restore_image, write_image
from raft_actors.cli import main
from raft_actors.durable_mark import MOST_SYNCS, SYNC_INTERVAL, MarkFile
from raft_actors.errors import CorruptLog, Incompatible
from raft_actors.inspection import verify
from raft_actors.log_store import LogStore
from raft_actors.machines import KV
from raft_actors.protocol.types import Ballot, LogPosition
from raft_actors.testing import Cluster
from storage_adapters import LMDBAdapter, SharedLMDB, StorageAdapter
from storage_adapters import shared_env as env
from tests.storage.adapters.support import run_python
from tests.storage.log_tools import append, commands, everything, filled

NAMES = ["s1", "s2", "s3"]
ACCEPT = "--i-accept-data-loss"


@pytest.fixture
def shared(tmp_path: Path) -> SharedLMDB:
    return SharedLMDB(tmp_path / "shared")


def started(folder: Path, names: list[str]) -> None:
    config = raft.Config(data_dir=folder, storage=SharedLMDB(folder / "shared"))
    for name in names:
        raft.start_peer(KV, name=name, config=config)


def stopped(names: list[str]) -> None:
    for name in names:
        raft.stop(name)


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """The folder of three stopped peers that have applied the same five writes."""
    started(tmp_path, NAMES)
    raft.set_configuration("s1", NAMES)
    leader = raft.leader("s1", timeout=10)
    for number in range(5):
        raft.write(leader, ("set", f"k{number}", number))
    stopped(NAMES)
    return tmp_path


def test_peers_come_back_with_what_they_had_and_name_their_storage(cluster: Path) -> None:
    started(cluster, NAMES)
    try:
        leader = raft.leader("s1", timeout=10)
        assert [raft.read(leader, ("get", f"k{number}")) for number in range(5)] == list(range(5))
        assert raft.status("s1").storage == "SharedLMDB"
    finally:
        stopped(NAMES)
    assert not env.is_open(cluster / "shared")


def test_a_cluster_on_a_shared_store_survives_crashes_and_a_wiped_disk(tmp_path: Path) -> None:
    with Cluster(KV, storage=SharedLMDB(tmp_path / "shared"), data_dir=tmp_path) as peers:
        for number in range(10):
            peers.write(("set", number, number))
        lost = peers.leader()
        assert lost is not None
        peers.crash(lost)
        for number in range(10, 20):
            peers.write(("set", number, number))
        peers.start(lost)
        wiped = next(name for name in peers.names if name != peers.leader())
        peers.stop(wiped)
        peers.wipe(wiped)
        peers.write(("set", 20, 20))
        peers.start(wiped)
        peers.add(wiped)
        peers.converged(timeout=20)
        assert peers.state(wiped) == {number: number for number in range(21)}
    assert SharedLMDB(tmp_path / "shared").sweep() == 1


def test_every_tool_finds_the_log_also_after_all_of_it_was_moved(
    cluster: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = cluster / "moved"
    moved.mkdir()
    for name in (*NAMES, "shared"):
        os.rename(cluster / name, moved / name)
    for name in NAMES:
        assert verify(moved / name).problems == ()
        assert main(["log", str(moved / name)]) == 0
    assert "command" in capsys.readouterr().out
    assert main(["backup", str(moved / "s1"), str(cluster / "image")]) == 0


def test_the_tools_say_in_one_line_why_they_cannot_look(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    started(cluster, ["s2"])
    try:
        program = "import sys; from raft_actors.cli import main; sys.exit(main(['verify', sys.argv[1]]))"
        done = run_python(program, cluster / "s1")
        assert done.returncode == 1
        said = f"problem: the store {cluster / 'shared'} is in use by process {os.getpid()}"
        assert done.stdout.splitlines()[0].startswith(said), done.stdout + done.stderr
    finally:
        stopped(["s2"])
    assert main(["verify", str(cluster / "shared")]) == 2
    assert "holds the logs of several peers" in capsys.readouterr().err
    os.rename(cluster / "shared", cluster / "elsewhere")
    assert main(["verify", str(cluster / "s1")]) == 1
    assert f"lies in a shared store, which is not there: {cluster / 'shared'}" in capsys.readouterr().out


def test_one_peer_that_is_left_becomes_a_cluster_in_the_same_shared_store(cluster: Path) -> None:
    for name in ("s2", "s3"):
        shutil.rmtree(cluster / name)
    assert main(["recover", str(cluster / "s1"), "--peers", "s1", ACCEPT]) == 0
    assert verify(cluster / "s1").problems == ()
    assert verify(cluster / "s1.before-recovery").problems == ()
    started(cluster, ["s1"])
    try:
        assert raft.leader("s1", timeout=10) == "s1"
        assert raft.read("s1", ("get", "k4")) == 4
    finally:
        stopped(["s1"])
    assert SharedLMDB(cluster / "shared").sweep() == 2


def test_an_image_is_restored_into_a_shared_store_and_read_before_its_first_start(
    cluster: Path, shared: SharedLMDB
) -> None:
    write_image(cluster / "s1", cluster / "image")
    last = restore_image(cluster / "image", cluster / "s9", shared, name="s9", codec="")
    report = verify(cluster / "s9")
    assert (report.problems, report.bounds[1]) == ((), last.index + 1)


def test_an_older_copy_of_the_shared_file_is_noticed(shared: SharedLMDB, tmp_path: Path) -> None:
    filled(shared, tmp_path / "s1", last=5)
    shutil.copytree(tmp_path / "shared", tmp_path / "older")
    with LogStore.open(shared, tmp_path / "s1", name="s1") as store:
        append(store, *commands(6, 6))
    shutil.rmtree(tmp_path / "shared")
    os.rename(tmp_path / "older", tmp_path / "shared")
    with pytest.raises(CorruptLog, match="ends with entry 5, but entry 6 was durable"):
        LogStore.open(shared, tmp_path / "s1", name="s1")


def test_an_older_copy_of_a_peers_folder_brings_no_older_log_back(shared: SharedLMDB, tmp_path: Path) -> None:
    filled(shared, tmp_path / "s1", last=5)
    shutil.copytree(tmp_path / "s1", tmp_path / "older")
    with LogStore.open(shared, tmp_path / "s1", name="s1") as store:
        append(store, *commands(6, 9))
    shutil.rmtree(tmp_path / "s1")
    os.rename(tmp_path / "older", tmp_path / "s1")
    with LogStore.open(shared, tmp_path / "s1", name="s1") as store:
        assert everything(store) == commands(1, 9)


def test_a_folder_that_lost_all_but_its_mark_is_no_new_store(shared: SharedLMDB, tmp_path: Path) -> None:
    filled(shared, tmp_path / "s1")
    (tmp_path / "s1" / "FORMAT").unlink()
    with pytest.raises(CorruptLog, match="its mark TAIL says that entry 20 was durable"):
        LogStore.open(shared, tmp_path / "s1", name="s1")


def test_a_store_of_its_own_is_opened_as_that_and_a_shared_one_refuses_to_be_alone(
    shared: SharedLMDB, tmp_path: Path
) -> None:
    filled(LMDBAdapter, tmp_path / "s1")
    with LogStore.open(shared, tmp_path / "s1", name="s1") as store:
        assert everything(store) == commands(1, 20)
    filled(shared, tmp_path / "s2")
    with pytest.raises(Incompatible, match=r"storage 'shared-lmdb', not 'lmdb'") as caught:
        LogStore.open(LMDBAdapter, tmp_path / "s2", name="s2")
    assert f"storage=SharedLMDB('{tmp_path / 'shared'}')" in str(caught.value)


@pytest.mark.parametrize(("sharers", "share"), [(1, 1), (MOST_SYNCS, 1), (10 * MOST_SYNCS, 10)])
def test_marks_of_stores_that_share_a_flush_are_synced_more_rarely(
    sharers: int, share: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("raft_actors.durable_mark.time.monotonic", lambda: now)
    mark = MarkFile(tmp_path, "0" * 16, lambda: sharers)
    synced: list[float] = []
    monkeypatch.setattr("os.fdatasync", lambda descriptor: synced.append(now))
    mark.sync()
    for _ in range(20 * share):
        now += SYNC_INTERVAL / 2
        mark.put(LogPosition(1, 1), 0, Ballot(1))
        mark.sync_if_due()
    mark.close()
    assert len(synced) == 1 + 10


def test_a_store_tells_how_many_share_its_flush(shared: SharedLMDB, tmp_path: Path) -> None:
    opened: list[Callable[[], int]] = []

    def kept(path: str) -> StorageAdapter:
        adapter = shared(path)
        opened.append(adapter.sharers)  # type: ignore[attr-defined]
        return adapter

    with (
        LogStore.open(kept, tmp_path / "s1", name="s1"),
        LogStore.open(kept, tmp_path / "s2", name="s2"),
    ):
        assert [sharers() for sharers in opened] == [2, 2]
