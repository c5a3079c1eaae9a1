"""Snapshot files: written, received, read and sent; every damaged byte is noticed, and nothing half-made has a name."""

from __future__ import annotations

import pickle
import queue
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from raft_actors.folders import DiskFolder, Folder, MemoryFolder
from raft_actors.snapshot_format import FRAME_BYTES, VERSION, DamagedFrame, FrameReader, FrameWriter, Header
from raft_actors.snapshot_store import DamagedSnapshot, SnapshotStore
from tests.storage.snapshot_tools import file_of, foreign, received, replanted, state_at, taken

SMALL = b"a small state"


def test_a_file_is_made_of_these_very_bytes() -> None:
    """The golden bytes: they must stay readable."""
    pieces: list[bytes] = []
    writer = FrameWriter(pieces.append, Header(replace(foreign(7), configuration_index=0), "c1", "plain", 3))
    writer.state(b"abc")
    writer.log(b"record")
    writer.end()
    assert VERSION == 1
    assert b"".join(pieces).hex() == GOLDEN


GOLDEN = (
    "52414654534e415001000000048a78346b000000019497a6666565642d37920107cd1267cb41d954fc41c0000000949393a2"
    "7331b030303030303030303030303030303030a093a27332b030303030303030303030303030303031a093a27333b0303030"
    "30303030303030303030303032a09090c000a26331a5706c61696e0318c5812803000000036162632437ae890a0000000406"
    "0000007265636f7264b1a989a6100000000503000000000000000a00000000000000"
)


def test_a_snapshot_is_read_as_it_was_written(snapshots: SnapshotStore) -> None:
    state = state_at(9)
    made = taken(snapshots, foreign(9), state)
    with snapshots.open(made.id) as reader:
        assert (reader.snapshot, reader.cluster, reader.codec, reader.version) == (made, "c1", "plain", 3)
        assert reader.read(10) == state[:10]
        assert reader.readline() == state[10:]
        assert reader.read() == b""
        reader.finish()
    assert made.size == len(file_of(foreign(9)))
    assert snapshots.found() == [made] == [snapshots.get(made.id)]
    assert snapshots.verify(made.id) == []


@pytest.mark.parametrize("size", [0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 5 * FRAME_BYTES])
def test_a_state_of_any_size_comes_back(snapshots: SnapshotStore, size: int) -> None:
    state = random.Random(size).randbytes(size)
    made = taken(snapshots, foreign(9), state)
    with snapshots.open(made.id) as reader:
        assert reader.read() == state
        reader.finish()


def test_a_state_written_in_crumbs_is_the_same_file(snapshots: SnapshotStore) -> None:
    state = state_at(9)
    output = snapshots.create(foreign(9), cluster="c1", codec="plain", version=3)
    for start in range(0, len(state), 777):
        output.write(memoryview(state)[start : start + 777])
    made = output.commit()
    assert snapshots.chunk(made.id, 0, made.size) == file_of(foreign(9))


def test_a_machine_can_pickle_into_it_and_out_of_it(snapshots: SnapshotStore) -> None:
    state = {f"key {number}": ["value"] * 3 for number in range(5000)}
    output = snapshots.create(foreign(9), cluster="", codec="cloudpickle", version=0)
    pickle.Pickler(output, 5).dump(state)
    made = output.commit()
    with snapshots.open(made.id) as reader:
        assert pickle.load(reader) == state
        reader.finish()


def test_any_flipped_bit_is_noticed(folder: Folder, snapshots: SnapshotStore) -> None:
    made = taken(snapshots, foreign(9), SMALL)
    whole = file_of(foreign(9), SMALL)
    for place in range(len(whole)):
        for bit in (0, 3, 7):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            replanted(folder, f"{made.id}.snap", bytes(damaged))
            assert snapshots.verify(made.id), (place, bit)
            with pytest.raises(DamagedSnapshot), snapshots.open(made.id) as reader:
                assert reader.read() in (SMALL, b"")
                reader.finish()


def test_any_missing_end_is_noticed(folder: Folder, snapshots: SnapshotStore) -> None:
    made = taken(snapshots, foreign(9), SMALL)
    whole = file_of(foreign(9), SMALL)
    for length in range(len(whole)):
        replanted(folder, f"{made.id}.snap", whole[:length])
        assert snapshots.verify(made.id), length


def test_bytes_after_the_end_are_noticed(folder: Folder, snapshots: SnapshotStore) -> None:
    made = taken(snapshots, foreign(9), SMALL)
    replanted(folder, f"{made.id}.snap", file_of(foreign(9), SMALL) + b"\0")
    assert snapshots.verify(made.id) == [f"snapshot {made.id} goes on after its end"]


def frames_of(data: bytes) -> list[bytes]:
    frames, place = [data[:12]], 12
    while place < len(data):
        length = 9 + int.from_bytes(data[place + 4 : place + 8], "little")
        frames.append(data[place : place + length])
        place += length
    return frames


@pytest.mark.parametrize(
    "changed",
    [
        lambda f: [*f[:3], *f[4:]],
        lambda f: [*f[:3], f[4], f[3], *f[5:]],
        lambda f: [*f[:4], f[3], *f[4:]],
        lambda f: [*f[:2], f[-1]],
        lambda f: [*f[:1], *f[2:]],
        lambda f: [*f[:4], f[1], *f[4:]],
    ],
    ids=["lost", "swapped", "repeated", "emptied", "beheaded", "two headers"],
)
def test_frames_in_another_order_are_noticed(
    changed: Callable[[list[bytes]], list[bytes]], folder: Folder, snapshots: SnapshotStore
) -> None:
    state = bytes(5 * FRAME_BYTES)  # frames of equal bytes: only their place tells them apart
    made = taken(snapshots, foreign(9), state)
    replanted(folder, f"{made.id}.snap", b"".join(changed(frames_of(file_of(foreign(9), state)))))
    assert snapshots.verify(made.id)


def test_no_byte_is_handed_out_before_its_frame_was_checked(folder: Folder, snapshots: SnapshotStore) -> None:
    state = state_at(9)
    made = taken(snapshots, foreign(9), state)
    damaged = bytearray(file_of(foreign(9)))
    damaged[-40] ^= 1  # in the second frame of state
    replanted(folder, f"{made.id}.snap", bytes(damaged))
    with snapshots.open(made.id) as reader:
        assert reader.read(FRAME_BYTES) == state[:FRAME_BYTES]
        with pytest.raises(DamagedSnapshot, match="does not match its checksum"):
            reader.read(1)


def test_a_frame_that_claims_to_be_huge_is_not_even_read() -> None:
    data = file_of(foreign(9), SMALL)
    place = 12 + 9 + int.from_bytes(data[16:20], "little")
    damaged = data[: place + 4] + (1 << 31).to_bytes(4, "little") + data[place + 8 :]
    asked: list[int] = []
    offset = 0

    def read(count: int) -> bytes:
        nonlocal offset
        asked.append(count)
        offset += count
        return damaged[offset - count : offset]

    frames = FrameReader(read)
    with pytest.raises(DamagedFrame, match="nobody writes"):
        frames.next()
    assert max(asked) < 1 << 20


def test_a_file_under_the_name_of_another_is_noticed(folder: Folder, snapshots: SnapshotStore) -> None:
    made = taken(snapshots, foreign(9), SMALL)
    folder.rename(f"{made.id}.snap", "feed-10.snap")
    assert snapshots.verify("feed-10") == ["snapshot feed-10 is another one: feed-9"]
    assert snapshots.found() == []


def test_a_later_version_is_told_from_damage(folder: Folder, snapshots: SnapshotStore) -> None:
    from zlib import crc32

    prefix = b"RAFTSNAP" + (2).to_bytes(4, "little")
    body = (3).to_bytes(4, "little") + b"\1new"
    replanted(folder, "feed-9.snap", prefix + crc32(body, crc32(prefix)).to_bytes(4, "little") + body)
    assert snapshots.verify("feed-9") == ["snapshot feed-9 is of version 2, this raft_actors reads version 1"]


def test_a_received_snapshot_is_the_one_that_was_sent(snapshots: SnapshotStore) -> None:
    elsewhere = SnapshotStore(MemoryFolder())
    made = taken(elsewhere, foreign(9))
    coming = snapshots.receive(made.id)
    while data := elsewhere.chunk(made.id, coming.received, 1000):
        coming.append(data)
    assert coming.commit() == made
    assert snapshots.found() == [made]


def test_a_received_snapshot_that_is_damaged_gets_no_name(folder: Folder, snapshots: SnapshotStore) -> None:
    whole = file_of(foreign(9), SMALL)
    for data in (whole[:-1], whole[:40] + b"?" + whole[41:], whole + whole, b""):
        coming = snapshots.receive("feed-9")
        coming.append(data)
        with pytest.raises(DamagedSnapshot):
            coming.commit()
        assert folder.names() == []


def test_a_received_snapshot_of_another_id_gets_no_name(folder: Folder, snapshots: SnapshotStore) -> None:
    coming = snapshots.receive("feed-8")
    coming.append(file_of(foreign(9), SMALL))
    with pytest.raises(DamagedSnapshot, match="is another one"):
        coming.commit()
    assert folder.names() == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "a/b", "x" * 65, "name.snap", "bell\a", "nul\0"])
def test_an_id_is_no_path(name: str, folder: Folder, snapshots: SnapshotStore) -> None:
    for attempt in (snapshots.receive, snapshots.open, lambda name: snapshots.chunk(name, 0, 1)):
        with pytest.raises(DamagedSnapshot, match="has a name that no snapshot has"):
            attempt(name)
    snapshots.receive("feed-9").abort()  # the failed attempt is not in the way


def test_one_snapshot_is_taken_and_one_received_at_a_time(snapshots: SnapshotStore) -> None:
    output = snapshots.create(foreign(9), cluster="", codec="", version=0)
    coming = snapshots.receive("feed-10")
    with pytest.raises(ValueError, match="one snapshot at a time"):
        snapshots.create(foreign(11), cluster="", codec="", version=0)
    with pytest.raises(ValueError, match="one snapshot at a time"):
        snapshots.receive("feed-11")
    output.abort()
    coming.abort()
    taken(snapshots, foreign(11))
    received(snapshots, foreign(12))


def test_what_is_given_up_leaves_nothing_and_takes_nothing_more(folder: Folder, snapshots: SnapshotStore) -> None:
    output = snapshots.create(foreign(9), cluster="", codec="", version=0)
    output.write(state_at(9))
    output.abort()
    output.abort()
    assert folder.names() == []
    with pytest.raises(ValueError, match="given up"):
        output.write(state_at(9))


def test_only_older_snapshots_are_dropped_and_nothing_that_is_under_way(
    folder: Folder, snapshots: SnapshotStore
) -> None:
    kept = [taken(snapshots, foreign(index), SMALL) for index in (12, 11)]
    taken(snapshots, foreign(10), SMALL)
    coming = snapshots.receive("feed-5")
    coming.append(file_of(foreign(5), SMALL))
    snapshots.supersede(foreign(11), 11)
    assert snapshots.found() == kept
    assert coming.commit().last.index == 5


def test_of_older_snapshots_the_newest_that_is_of_use_stays(snapshots: SnapshotStore) -> None:
    made = {index: taken(snapshots, foreign(index), SMALL) for index in range(5, 12)}
    snapshots.supersede(made[10], 7, {made[9].id})
    assert snapshots.found() == [made[11], made[10], made[8]]
    snapshots.supersede(made[11], 11, {made[10].id})
    assert snapshots.found() == [made[11]]


def test_what_is_retained_is_all_that_stays(folder: Folder, snapshots: SnapshotStore) -> None:
    kept = taken(snapshots, foreign(9), SMALL)
    taken(snapshots, foreign(10), SMALL)
    replanted(folder, "taken.part", b"half")
    replanted(folder, "feed-11.snap", b"no header")
    replanted(folder, "notes.txt", b"of somebody else")
    snapshots.retain([kept.id])
    assert folder.names() == [f"{kept.id}.snap", "notes.txt"]


def test_the_room_of_a_large_file_is_freed_by_another_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from raft_actors import folders

    freed: queue.Queue[threading.Thread] = queue.Queue()
    monkeypatch.setattr(folders, "LARGE_BYTES", 1000)
    monkeypatch.setattr(folders, "_let_go", lambda stream: (stream.close(), freed.put(threading.current_thread())))
    snapshots = SnapshotStore(DiskFolder(tmp_path))
    taken(snapshots, foreign(9))
    small = taken(snapshots, foreign(10), SMALL)
    while not freed.empty():
        freed.get()
    snapshots.supersede(foreign(10), 10)
    assert snapshots.folder.names() == [f"{small.id}.snap"]
    assert freed.get(timeout=10).name == "raft-freeing"
    snapshots.supersede(foreign(11), 11)
    assert freed.get(timeout=10) is threading.current_thread()


def test_a_large_snapshot_is_synced_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    from raft_actors import folders

    syncs: list[int] = []
    monkeypatch.setattr(folders._MemoryOutput, "sync", lambda self: syncs.append(len(self._contents)))
    taken(SnapshotStore(MemoryFolder()), foreign(9), bytes(10 << 20))
    assert len(syncs) == 3
    assert max(later - earlier for earlier, later in zip([0, *syncs], syncs, strict=False)) < 5 << 20


def test_a_disk_that_is_full_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from raft_actors import folders

    snapshots = SnapshotStore(DiskFolder(tmp_path))
    output = snapshots.create(foreign(9), cluster="", codec="", version=0)
    output.write(SMALL)

    def full(self: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(folders._DiskOutput, "sync", full)
        with pytest.raises(OSError, match="No space"):
            output.commit()
    assert not list(tmp_path.iterdir())
    taken(snapshots, foreign(9))
