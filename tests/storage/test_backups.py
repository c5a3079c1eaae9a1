"""Backup images: written whole or not at all, checked to the last byte, restored as a new cluster or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import raft_actors as raft
from raft_actors import backups
from raft_actors.backups import image_from_snapshot, restore_image, write_image
from raft_actors.cli import main
from raft_actors.errors import CorruptLog, Incompatible, StorageFailed, StoreInUse
from raft_actors.inspection import NotAStore, verify
from raft_actors.log_store import LogStore
from raft_actors.machines import KV
from raft_actors.protocol.effects import Persist
from raft_actors.protocol.entry import EntryKind
from raft_actors.protocol.types import Ballot, LogPosition
from storage_adapters import LMDBAdapter, MemoryAdapter, RocksDBAdapter, StorageAdapter
from tests.storage.log_tools import ENGINES, append, change, commands, everything, flipped
from tests.storage.snapshot_tools import CONFIGURATION, compacted, foreign, installed, state_at, state_in

Factory = Callable[[str], StorageAdapter]


@pytest.fixture(params=ENGINES)
def factory(request: pytest.FixtureRequest) -> Factory:
    made: Factory = request.param
    return made


def stopped(factory: Factory, path: Path, *, snapshots: bool = True, large: int = 0) -> None:
    """A stopped peer with entries up to 20 of terms 1 and 3, and if wanted with snapshots at 8 and 12."""
    with LogStore.open(factory, path, name="s1", codec="plain") as store:
        store.write([Persist(ballot=Ballot(1, "s1"), cluster="c1", entries=(change(1, 1, CONFIGURATION),))])
        append(store, *commands(2, 15))
        if snapshots:
            compacted(store, 8, 4)
            compacted(store, 12, 6, configuration=CONFIGURATION)
        store.write([Persist(ballot=Ballot(3, None), entries=commands(16, 20, term=3))])


def listing(folder: Path) -> list[str]:
    return sorted(str(entry.relative_to(folder)) for entry in folder.rglob("*"))


@pytest.mark.parametrize("target", ENGINES)
@pytest.mark.parametrize("snapshots", [False, True], ids=["log only", "snapshot and log"])
def test_a_restored_store_has_everything_and_is_a_new_cluster_of_one(
    target: Factory, snapshots: bool, factory: Factory, tmp_path: Path
) -> None:
    stopped(factory, tmp_path / "s1", snapshots=snapshots)
    assert write_image(tmp_path / "s1", tmp_path / "image") == LogPosition(3, 20)
    restore_image(tmp_path / "image", tmp_path / "new" / "n1", target, name="n1")
    assert listing(tmp_path / "new")[0] == "n1"
    with LogStore.open(target, tmp_path / "new" / "n1", name="n1", codec="plain") as store:
        found = store.recovered
        *before, last = everything(store)
        first = 13 if snapshots else 2
        assert tuple(before)[-20 + first - 1 :] == commands(first, 15) + commands(16, 20, term=3)
        assert (last.index, last.term, last.kind, last.time) == (21, 3, EntryKind.CONFIGURATION, before[-1].time)
        index, alone = found.configurations[-1]
        assert (index, [(m.name, m.incarnation) for m in alone.voters]) == (21, [("n1", store.identity.incarnation)])
        assert found.ballot == Ballot(3)
        assert found.cluster not in ("", "c1")
        if snapshots:
            (snapshot,) = found.snapshots
            assert snapshot.id == f"{store.identity.incarnation}-12"
            assert state_in(store, snapshot) == state_at(12)
            with store.snapshots.open(snapshot.id) as reader:
                assert (reader.cluster, reader.codec, reader.version) == (found.cluster, "plain", 3)
    assert verify(tmp_path / "new" / "n1").problems == ()


def test_two_restorations_are_two_clusters(tmp_path: Path) -> None:
    stopped(LMDBAdapter, tmp_path / "s1")
    write_image(tmp_path / "s1", tmp_path / "image")
    clusters = set()
    for folder in ("one", "two"):
        restore_image(tmp_path / "image", tmp_path / folder / "s1", LMDBAdapter, name="s1")
        with LogStore.open(LMDBAdapter, tmp_path / folder / "s1", name="s1") as store:
            clusters |= {store.recovered.cluster, store.identity.incarnation}
    assert len(clusters) == 4


def test_a_log_that_ends_with_its_snapshot_is_restored(tmp_path: Path) -> None:
    with LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1") as store:
        installed(store, foreign(50, term=4))
    assert write_image(tmp_path / "s1", tmp_path / "image") == LogPosition(4, 50)
    restore_image(tmp_path / "image", tmp_path / "n1", LMDBAdapter, name="n1")
    with LogStore.open(LMDBAdapter, tmp_path / "n1", name="n1") as store:
        assert store.recovered.log.last == LogPosition(4, 51)
        assert state_in(store, store.recovered.snapshots[0]) == state_at(50)


def test_a_peer_that_never_did_anything_is_restored(tmp_path: Path) -> None:
    LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1").close()
    write_image(tmp_path / "s1", tmp_path / "image")
    restore_image(tmp_path / "image", tmp_path / "n1", LMDBAdapter, name="n1")
    with LogStore.open(LMDBAdapter, tmp_path / "n1", name="n1") as store:
        assert store.recovered.log.last == LogPosition(1, 1)


def test_entries_larger_than_a_frame_come_back(tmp_path: Path) -> None:
    from tests.storage.log_tools import command

    large = [command(index, data=os.urandom(size)) for index, size in enumerate((300_000, 0, 65_503, 65_504, 1), 1)]
    with LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1") as store:
        append(store, *large)
    write_image(tmp_path / "s1", tmp_path / "image")
    restore_image(tmp_path / "image", tmp_path / "n1", LMDBAdapter, name="n1")
    with LogStore.open(LMDBAdapter, tmp_path / "n1", name="n1") as store:
        assert list(everything(store))[:-1] == large


def test_a_damaged_newest_snapshot_leaves_the_older_one_for_the_backup(tmp_path: Path) -> None:
    stopped(LMDBAdapter, tmp_path / "s1")
    newest = next((tmp_path / "s1" / "snapshots").glob("*-12.snap"))
    newest.write_bytes(flipped(newest.read_bytes(), 40_000))
    write_image(tmp_path / "s1", tmp_path / "image")
    restore_image(tmp_path / "image", tmp_path / "n1", LMDBAdapter, name="n1")
    with LogStore.open(LMDBAdapter, tmp_path / "n1", name="n1") as store:
        assert state_in(store, store.recovered.snapshots[0]) == state_at(8)
        assert everything(store)[:7] == commands(9, 15)


def test_no_backup_is_made_of_a_log_whose_state_is_nowhere(tmp_path: Path) -> None:
    stopped(LMDBAdapter, tmp_path / "s1")
    for file in (tmp_path / "s1" / "snapshots").iterdir():
        file.write_bytes(flipped(file.read_bytes(), 40_000))
    with pytest.raises(CorruptLog, match="no sound snapshot"):
        write_image(tmp_path / "s1", tmp_path / "image")
    assert listing(tmp_path)[0] == "s1"


def test_no_backup_is_made_of_a_running_peer_or_of_nothing(tmp_path: Path) -> None:
    stopped(LMDBAdapter, tmp_path / "s1")
    with LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1"), pytest.raises(StoreInUse):
        write_image(tmp_path / "s1", tmp_path / "image")
    with pytest.raises(NotAStore):
        write_image(tmp_path / "nothing", tmp_path / "image")
    assert not (tmp_path / "image").exists()


def test_a_backup_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped(LMDBAdapter, tmp_path / "s1")
    image = tmp_path / "image"
    image.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="never replaces"):
        write_image(tmp_path / "s1", image)
    monkeypatch.setattr(backups.os.path, "lexists", lambda path: False)  # it came while the image was written
    with pytest.raises(FileExistsError, match="never replaces"):
        write_image(tmp_path / "s1", image)
    assert image.read_bytes() == b"precious"
    assert [name for name in listing(tmp_path) if "image" in name] == ["image"]


def test_a_file_system_without_links_takes_backups_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(source: str, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    stopped(LMDBAdapter, tmp_path / "s1")
    monkeypatch.setattr(backups.os, "link", no_links)
    write_image(tmp_path / "s1", tmp_path / "image")
    restore_image(tmp_path / "image", tmp_path / "n1", LMDBAdapter, name="n1")
    with pytest.raises(FileExistsError, match="never replaces"):
        backups._publish(str(tmp_path / "image"), tmp_path / "image")
    assert [name for name in listing(tmp_path) if "image" in name] == ["image"]


def test_an_image_has_its_name_only_when_it_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, link = os.fsync, os.link

    def syncing(descriptor: int) -> None:
        steps.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    def linking(source: str, target: str) -> None:
        steps.append("link")
        link(source, target)

    stopped(LMDBAdapter, tmp_path / "s1")
    monkeypatch.setattr(backups.os, "fsync", syncing)
    monkeypatch.setattr(backups.os, "link", linking)
    write_image(tmp_path / "s1", tmp_path / "image")
    assert steps[-3:] == ["file", "link", "folder"]


def test_a_durable_snapshot_is_copied_while_the_peer_runs(tmp_path: Path) -> None:
    with LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1") as store:
        append(store, change(1, 1, CONFIGURATION), *commands(2, 20))
        snapshot = compacted(store, 15, 10)
        image_from_snapshot(store.snapshots, snapshot.id, tmp_path / "image")
        with pytest.raises(FileExistsError):
            image_from_snapshot(store.snapshots, snapshot.id, tmp_path / "image")
        with pytest.raises(StorageFailed, match="is gone"):
            image_from_snapshot(store.snapshots, "feed-1", tmp_path / "other")
        file = tmp_path / "s1" / "snapshots" / f"{snapshot.id}.snap"
        file.write_bytes(flipped(file.read_bytes(), 40_000))
        with pytest.raises(CorruptLog, match="no backup was made"):
            image_from_snapshot(store.snapshots, snapshot.id, tmp_path / "other")
    restore_image(tmp_path / "image", tmp_path / "n1", RocksDBAdapter, name="n1")
    assert not (tmp_path / "other").exists()
    with LogStore.open(RocksDBAdapter, tmp_path / "n1", name="n1") as store:
        assert state_in(store, store.recovered.snapshots[0]) == state_at(15)
        assert store.recovered.log.last == LogPosition(1, 16)


def image_of(tmp_path: Path) -> bytes:
    stopped(LMDBAdapter, tmp_path / "s1")
    write_image(tmp_path / "s1", tmp_path / "whole")
    return (tmp_path / "whole").read_bytes()


def test_an_image_with_any_damaged_byte_restores_nothing(tmp_path: Path) -> None:
    whole = image_of(tmp_path)
    (tmp_path / "new").mkdir()
    places = [*range(0, 300, 3), *range(300, len(whole) - 500, 20_001), *range(len(whole) - 500, len(whole), 23)]
    damaged = [flipped(whole, place, 5) for place in places]
    damaged += [whole[:length] for length in (0, 5, 12, 30, 1000, len(whole) - 25, len(whole) - 1)]
    damaged += [whole + b"\0", whole + whole]
    for data in damaged:
        (tmp_path / "image").write_bytes(data)
        with pytest.raises(CorruptLog, match="the image .*image "):
            restore_image(tmp_path / "image", tmp_path / "new" / "n1", LMDBAdapter, name="n1")
        assert listing(tmp_path / "new") == []


def test_a_store_that_is_not_empty_is_left_alone(factory: Factory, tmp_path: Path) -> None:
    image_of(tmp_path)
    stopped(factory, tmp_path / "new" / "s1")
    before = listing(tmp_path / "new")
    with pytest.raises(Incompatible, match=r"new/s1 of peer 's1' is not empty"):
        restore_image(tmp_path / "whole", tmp_path / "new" / "s1", factory, name="s1")
    assert listing(tmp_path / "new") == before


def test_an_empty_folder_is_as_good_as_none(tmp_path: Path) -> None:
    image_of(tmp_path)
    (tmp_path / "new" / "s1").mkdir(parents=True)
    restore_image(tmp_path / "whole", tmp_path / "new" / "s1", LMDBAdapter, name="s1")
    assert verify(tmp_path / "new" / "s1").problems == ()


def test_a_file_in_the_place_of_the_store_is_left_alone(tmp_path: Path) -> None:
    image_of(tmp_path)
    (tmp_path / "n1").write_text("precious")
    with pytest.raises(Incompatible, match="not empty"):
        restore_image(tmp_path / "whole", tmp_path / "n1", LMDBAdapter, name="n1")
    assert (tmp_path / "n1").read_text() == "precious"


def test_an_image_of_another_codec_is_refused(tmp_path: Path) -> None:
    image_of(tmp_path)
    with pytest.raises(Incompatible, match="codec 'plain', not of 'cloudpickle'"):
        restore_image(tmp_path / "whole", tmp_path / "n1", LMDBAdapter, name="n1", codec="cloudpickle")


def test_an_image_of_a_later_version_is_refused_by_name(tmp_path: Path) -> None:
    from zlib import crc32

    prefix = b"RAFTSNAP" + (2).to_bytes(4, "little")
    body = (3).to_bytes(4, "little") + b"\1new"
    (tmp_path / "image").write_bytes(prefix + crc32(body, crc32(prefix)).to_bytes(4, "little") + body)
    with pytest.raises(Incompatible, match="is of version 2"):
        restore_image(tmp_path / "image", tmp_path / "n1", LMDBAdapter, name="n1")


def test_nothing_is_restored_into_memory(tmp_path: Path) -> None:
    image_of(tmp_path)
    with pytest.raises(Incompatible, match="would end with this process"):
        restore_image(tmp_path / "whole", tmp_path / "n1", MemoryAdapter, name="n1")
    with pytest.raises(raft.InvalidConfig):
        raft.restore(tmp_path / "whole", name="n1", config=raft.Config(data_dir=tmp_path, storage="memory"))


def test_a_restoration_that_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image_of(tmp_path)
    write = LogStore.write

    def failing(self: LogStore, persists: list[Persist], **options: bool) -> None:
        if persists[0].entries:
            raise StorageFailed("the disk failed")
        write(self, persists, **options)

    (tmp_path / "new").mkdir()
    monkeypatch.setattr(LogStore, "write", failing)
    with pytest.raises(StorageFailed):
        restore_image(tmp_path / "whole", tmp_path / "new" / "n1", LMDBAdapter, name="n1")
    assert listing(tmp_path / "new") == []


# -- with peers, and on the command line -------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path: Path) -> raft.Config:
    """What three peers of a key-value store have left behind."""
    config = raft.Config(data_dir=tmp_path / "data", codec="plain")
    names = ["b1", "b2", "b3"]
    for name in names:
        raft.start_peer(KV, name=name, config=config)
    try:
        raft.set_configuration("b1", names)
        leader = raft.leader("b1")
        for number in range(50):
            raft.write(leader, ("set", f"key {number}", number))
    finally:
        for name in names:
            raft.stop_peer(name)
    return config


def test_a_new_cluster_goes_on_with_the_state_of_the_old_one(cluster: raft.Config, tmp_path: Path) -> None:
    write_image(Path(cluster.data_dir) / "b1", tmp_path / "image")
    config = raft.Config(data_dir=tmp_path / "new", codec="plain", storage="rocksdb")
    raft.restore(tmp_path / "image", name="phoenix", config=config)
    raft.start_peer(KV, name="phoenix", config=config)
    try:
        assert raft.leader("phoenix") == "phoenix"
        assert raft.read("phoenix", "len") == 50
        raft.write("phoenix", ("set", "key 50", 50))
        assert raft.read("phoenix", ("get", "key 49")) == 49
        assert raft.configuration("phoenix").voters == ("phoenix",)
        with pytest.raises(raft.AlreadyStarted, match="cannot be restored"):
            raft.restore(tmp_path / "image", name="phoenix", config=config)
    finally:
        raft.stop_peer("phoenix")
    with pytest.raises(raft.Incompatible, match="not empty"):
        raft.restore(tmp_path / "image", name="phoenix", config=config)


def test_the_commands_do_it_too(
    cluster: raft.Config, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["backup", "data/b2", "image"]) == 0
    assert "up to entry 5" in capsys.readouterr().out
    assert main(["restore", "image", "--data-dir", "new", "--name", "b2"]) == 0
    assert "new/b2: a new cluster of b2 alone, up to entry" in capsys.readouterr().out
    assert main(["verify", "new/b2"]) == 0
    raft.start_peer(KV, name="b2", config=raft.Config(data_dir="new", codec="plain"))
    try:
        assert raft.leader("b2") == "b2"
        assert raft.read("b2", "len") == 50
    finally:
        raft.stop_peer("b2")


def test_the_commands_of_the_document_work_as_they_stand_there(
    cluster: raft.Config, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    document = Path(raft.__file__).parent / "docs" / "operations.md"
    text = document.read_text()
    text = text[text.index("## Backup and restore") : text.index("## Change the members")]
    lines = [line for line in text.splitlines() if line.startswith("raft-actors ")]
    assert len(lines) == 4
    (tmp_path / "data" / "b1").rename(tmp_path / "data" / "s1")
    monkeypatch.chdir(tmp_path)
    for line in lines:
        assert main(line.split()[1:]) == 0, line


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["backup", "nothing", "image2"], 2, "not a folder"),
        (["backup", ".", "image2"], 2, "holds no store"),
        (["backup", "data/b1", "missing/image"], 2, "missing is not a folder"),
        (["backup", "data/b1", "taken"], 1, "taken exists already"),
        (["backup", "data/b1"], 2, "FILE"),
        (["restore", "nothing", "--data-dir", "new", "--name", "n1"], 2, "there is no file nothing"),
        (["restore", "taken", "--data-dir", "new", "--name", "n1"], 1, "does not begin as a snapshot does"),
        (["restore", "image", "--data-dir", "data", "--name", "b1"], 1, "data/b1 of peer 'b1' is not empty"),
        (["restore", "image", "--data-dir", "new", "--name", "../n1"], 2, "is not a name of a peer"),
        (["restore", "image", "--data-dir", "new"], 2, "--name"),
        (["restore", "image", "--data-dir", "new", "--name", "n1", "--storage", "memory"], 2, "invalid choice"),
    ],
)
def test_a_command_that_cannot_work_says_why_in_a_line(
    words: list[str],
    status: int,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    stopped(LMDBAdapter, tmp_path / "data" / "b1")
    write_image(tmp_path / "data" / "b1", tmp_path / "image")
    (tmp_path / "taken").write_text("something else, and long enough to be looked into")
    assert main(words) == status
    lines = capsys.readouterr().err.splitlines()
    assert said in lines[-1]
    assert len(lines) == 1 or lines[0].startswith("usage:")
    assert not (tmp_path / "new").exists() or listing(tmp_path / "new") == []
