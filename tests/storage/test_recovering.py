"""A quorum is lost for good: the log that ends latest becomes a new cluster, or nothing is changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

import raft_actors as raft
from raft_actors import recovering
from raft_actors.cli import main
from raft_actors.errors import CorruptLog, Incompatible, StoreInUse
from raft_actors.inspection import NotAStore, verify
from raft_actors.log_store import LogStore
from raft_actors.machines import KV
from raft_actors.protocol.configuration import Configuration, Member
from raft_actors.protocol.effects import Persist
from raft_actors.protocol.entry import EntryKind
from raft_actors.protocol.types import Ballot, LogPosition
from raft_actors.recovering import finish, surveyed
from storage_adapters import Batch, LMDBAdapter
from tests.storage.log_tools import append, change, commands, flipped

ACCEPT = "--i-accept-data-loss"


def cluster_of_three(folder: Path, storage: str = "lmdb", writes: int = 5) -> None:
    """Three stopped peers that have applied the same."""
    config = raft.Config(data_dir=folder, storage=storage)
    names = ["s1", "s2", "s3"]
    for name in names:
        raft.start_peer(KV, name=name, config=config)
    raft.set_configuration("s1", names)
    leader = raft.leader("s1", timeout=10)
    for number in range(writes):
        raft.write(leader, ("set", f"k{number}", number))
    for name in names:
        raft.stop(name)


def recover(folder: Path, given: Iterable[str], peers: str, *more: str) -> int:
    return main(["recover", *(str(folder / name) for name in given), "--peers", peers, *more])


def store_of(folder: Path, name: str, *, last: LogPosition, cluster: str = "c1") -> Path:
    """A stopped peer of the cluster of s1 to s3: from entry 11 on its log is of the term of ``last``."""
    with LogStore.open(LMDBAdapter, folder / name, name=name, codec="plain") as store:
        members = tuple(
            Member(one, store.identity.incarnation if one == name else f"{one:0>16}") for one in ("s1", "s2", "s3")
        )
        configuration = Configuration(members)
        store.write([Persist(Ballot(1), cluster=cluster, entries=(change(1, 1, configuration),))])
        append(store, *commands(2, min(last.index, 10)))
        if last.index > 10:
            store.write([Persist(Ballot(last.term), entries=commands(11, last.index, term=last.term))])
    return folder / name


@pytest.mark.parametrize("storage", ["lmdb", "rocksdb"])
def test_one_peer_that_is_left_becomes_a_cluster_to_which_others_join(storage: str, tmp_path: Path) -> None:
    cluster_of_three(tmp_path, storage)
    for name in ("s2", "s3"):
        shutil.rmtree(tmp_path / name)
    assert recover(tmp_path, ["s1"], "s1", ACCEPT) == 0
    assert verify(tmp_path / "s1").problems == ()
    raft.start_peer(KV, name="s1", config=raft.Config(data_dir=tmp_path, storage=storage))
    try:
        assert raft.leader("s1", timeout=10) == "s1"
        assert raft.read("s1", ("get", "k4")) == 4
        assert raft.write("s1", ("set", "more", 1)) is not None
    finally:
        raft.stop("s1")


@pytest.mark.parametrize("storage", ["lmdb", "rocksdb"])
def test_two_peers_become_one_cluster_with_the_longer_log(storage: str, tmp_path: Path) -> None:
    cluster_of_three(tmp_path, storage)
    shutil.rmtree(tmp_path / "s3")
    assert recover(tmp_path, ["s2", "s1"], "s1,s2", ACCEPT) == 0
    config = raft.Config(data_dir=tmp_path, storage=storage)
    for name in ("s1", "s2"):
        raft.start_peer(KV, name=name, config=config)
    try:
        leader = raft.leader("s1", timeout=10)
        assert raft.configuration("s1").voters == ("s1", "s2")
        assert raft.read(leader, ("get", "k4")) == 4
        assert raft.write(leader, ("set", "more", 1)) is not None
    finally:
        raft.stop("s1")
        raft.stop("s2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s1", "s1.before-recovery", "s2", "s2.before-recovery"]


def test_a_peer_of_the_old_cluster_is_not_heard_by_the_new_one(tmp_path: Path) -> None:
    cluster_of_three(tmp_path)
    assert recover(tmp_path, ["s1"], "s1", ACCEPT) == 0
    config = raft.Config(data_dir=tmp_path)
    for name in ("s1", "s2", "s3"):
        raft.start_peer(KV, name=name, config=config)
    try:
        assert raft.leader("s2", timeout=10) in ("s2", "s3")
        assert raft.leader("s1", timeout=10) == "s1"
        raft.write("s1", ("set", "k0", "new"))
        assert raft.read("s2", ("get", "k0")) == 0
    finally:
        for name in ("s1", "s2", "s3"):
            raft.stop(name)


def test_the_term_of_the_last_entry_counts_before_its_index(tmp_path: Path) -> None:
    longer = store_of(tmp_path, "s1", last=LogPosition(2, 30))
    later = store_of(tmp_path, "s2", last=LogPosition(3, 12))
    with surveyed([longer, later]) as recovery:
        assert [store.name for store in recovery.stores] == ["s2", "s1"]
        assert recovery.losses()[0] == "s1: its entries 11 to 30, which were never committed"
        recovery.carry_out({"s1": "", "s2": ""})
    for name in ("s1", "s2"):
        with LogStore.open(LMDBAdapter, tmp_path / name, name=name) as store:
            (entry,) = store.read(13, 13, 1)
            assert (store.last, entry.kind) == (LogPosition(3, 13), EntryKind.CONFIGURATION)
            assert store.read(12, 12, 1)[0].term == 3


def test_all_stores_of_a_new_cluster_are_the_same_and_know_each_other(tmp_path: Path) -> None:
    folders = [store_of(tmp_path, name, last=LogPosition(2, 12)) for name in ("s1", "s2")]
    with surveyed(folders) as recovery:
        cluster = recovery.carry_out({"s1": "host:1", "s2": ""})
    found = []
    for name in ("s1", "s2"):
        with LogStore.open(LMDBAdapter, tmp_path / name, name=name) as store:
            assert store.identity.cluster == cluster != "c1"
            found.append((store.read(1, 99, 1 << 20), store.recovered.configurations[-1]))
            me = store.recovered.configurations[-1][1].members()[name]
            assert me.incarnation == store.identity.incarnation
    assert found[0] == found[1]
    assert [member.address for member in found[0][1][1].voters] == ["host:1", ""]


def test_without_consent_nothing_is_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster_of_three(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert recover(tmp_path, ["s1"], "s1") == 1
    said = capsys.readouterr().out
    assert "this log counts" in said
    assert "whatever only s2, s3 knew, acknowledged writes among it: nobody can tell what" in said
    assert f"nothing was changed: repeat with {ACCEPT}" in said
    assert sorted(tmp_path.rglob("*")) == before


def test_a_majority_is_told_that_it_needs_no_recovery(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster_of_three(tmp_path)
    assert recover(tmp_path, ["s1", "s3"], "s1,s3") == 1
    assert "which can elect a leader by itself" in capsys.readouterr().out


def test_who_is_no_member_any_more_counts_for_no_majority(tmp_path: Path) -> None:
    first = store_of(tmp_path, "s1", last=LogPosition(2, 12))
    second = store_of(tmp_path, "s2", last=LogPosition(2, 12))  # s1 knows another incarnation of it
    with surveyed([first, second]) as recovery:
        assert "nobody can tell what" in recovery.losses()[-1]


def test_a_running_peer_is_refused(tmp_path: Path) -> None:
    raft.start_peer(KV, name="s1", config=raft.Config(data_dir=tmp_path))
    try:
        with pytest.raises(StoreInUse), surveyed([tmp_path / "s1"]):
            pass
    finally:
        raft.stop("s1")


def test_a_damaged_store_is_refused(tmp_path: Path) -> None:
    folder = store_of(tmp_path, "s1", last=LogPosition(2, 12))
    with LMDBAdapter(folder) as adapter:
        pairs = adapter.read(5, 12, 1 << 20)
        adapter.write(Batch({}, 5, [(5, flipped(pairs[0][1])), *pairs[1:]]))
    with pytest.raises(CorruptLog, match="s1 is damaged"), surveyed([folder]):
        pass


def test_stores_of_two_clusters_are_refused(tmp_path: Path) -> None:
    one = store_of(tmp_path, "s1", last=LogPosition(2, 12))
    other = store_of(tmp_path, "s2", last=LogPosition(2, 12), cluster="c2")
    with pytest.raises(Incompatible, match="belongs to cluster c2"), surveyed([one, other]):
        pass


def test_two_stores_of_one_peer_are_refused(tmp_path: Path) -> None:
    one = store_of(tmp_path, "s1", last=LogPosition(2, 12))
    other = store_of(tmp_path / "copy", "s1", last=LogPosition(2, 12))
    with pytest.raises(Incompatible, match="two of these are stores of peer 's1'"), surveyed([one, other]):
        pass


def test_a_store_without_a_cluster_is_refused(tmp_path: Path) -> None:
    LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1").close()
    with pytest.raises(Incompatible, match="belongs to no cluster"), surveyed([tmp_path / "s1"]):
        pass


def test_a_peer_without_a_store_is_refused(tmp_path: Path) -> None:
    with (
        surveyed([store_of(tmp_path, "s1", last=LogPosition(2, 12))]) as recovery,
        pytest.raises(Incompatible, match="no store of peer 's2' was given"),
    ):
        recovery.carry_out({"s1": "", "s2": ""})


def test_an_old_store_is_never_overwritten(tmp_path: Path) -> None:
    folder = store_of(tmp_path, "s1", last=LogPosition(2, 12))
    (tmp_path / "s1.before-recovery").mkdir()
    with surveyed([folder]) as recovery, pytest.raises(Incompatible, match="from another recovery"):
        recovery.carry_out({"s1": ""})


@pytest.mark.parametrize("peers", ["", "s1,s1", "s/1"])
def test_peers_that_make_no_sense_are_a_wrong_use(peers: str, tmp_path: Path) -> None:
    assert recover(tmp_path, ["s1"], peers) == 2


def test_a_folder_that_is_no_store_is_a_wrong_use(tmp_path: Path) -> None:
    assert recover(tmp_path, ["s1"], "s1") == 2


def test_a_folder_that_is_given_twice_is_a_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = store_of(tmp_path, "s1", last=LogPosition(2, 12))
    with pytest.raises(NotAStore, match="is given twice"), surveyed([folder, folder]):
        pass
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(NotAStore, match="s1 once more"), surveyed([folder, tmp_path / "link"]):
        pass
    assert recover(tmp_path, ["s1", "s1"], "s1") == 2
    assert "is given twice" in capsys.readouterr().err


@pytest.mark.parametrize("step", range(1, 7))
def test_a_recovery_that_is_cut_short_anywhere_is_finished_by_the_same_call(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [store_of(tmp_path, name, last=LogPosition(2, 12)) for name in ("s1", "s2")]
    real, calls = os.rename, iter(range(1, 99))

    def rename(old: Path, new: Path) -> None:
        if next(calls) == step:
            raise KeyboardInterrupt
        real(old, new)

    monkeypatch.setattr(recovering.os, "rename", rename)
    with pytest.raises(KeyboardInterrupt), surveyed(folders) as recovery:
        recovery.carry_out({"s1": "", "s2": ""})
    monkeypatch.undo()
    assert recover(tmp_path, ["s1", "s2"], "s1,s2", ACCEPT) == 0
    clusters = set()
    for name in ("s1", "s2"):
        assert verify(tmp_path / name).problems == ()
        with LogStore.open(LMDBAdapter, tmp_path / name, name=name) as store:
            clusters.add(store.identity.cluster)
            assert store.last == LogPosition(2, 13)
        with LogStore.open(LMDBAdapter, tmp_path / f"{name}.before-recovery", name=name) as store:
            assert (store.identity.cluster, store.last) == ("c1", LogPosition(2, 12))
    assert len(clusters) == 1
    assert "c1" not in clusters
    assert finish(folders) == []


def test_the_commands_of_the_document_work_as_they_stand_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path(raft.__file__).parent / "docs" / "operations.md").read_text()
    lines = [line for line in text[text.index("## Lose a quorum") :].splitlines() if line.startswith("raft-actors ")]
    cluster_of_three(tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "s3")
    monkeypatch.chdir(tmp_path)
    assert [main(line.split()[1:]) for line in lines] == [1, 0], "the first one only looks"
    for name in ("s1", "s2"):
        assert verify(tmp_path / "data" / name).problems == ()
