"""Snapshots that are sent: the file that was begun with, whatever happens to it, and no damaged byte."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from raft_actors.folders import DiskFolder, Folder
from raft_actors.snapshot_store import DamagedSnapshot, SnapshotStore
from tests.storage.snapshot_tools import file_of, foreign, replanted, taken

SMALL = b"a small state"


def test_a_snapshot_that_is_being_sent_survives_its_removal(snapshots: SnapshotStore) -> None:
    made = taken(snapshots, foreign(9))
    whole = file_of(foreign(9))
    assert snapshots.chunk(made.id, 0, 100) == whole[:100]
    snapshots.supersede(foreign(10), 10)
    assert snapshots.found() == []
    assert snapshots.chunk(made.id, 100, 1 << 20) == whole[100:]
    assert snapshots.chunk(made.id, made.size, 100) == b""
    snapshots.sent(made.id)
    assert snapshots.chunk(made.id, 0, 100) is None


def test_no_damaged_byte_is_sent(folder: Folder, snapshots: SnapshotStore) -> None:
    made = taken(snapshots, foreign(9))
    whole = file_of(foreign(9))
    for place in (3, 20, len(whole) // 2, len(whole) - 3):
        replanted(folder, f"{made.id}.snap", whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        snapshots.sent(made.id)
        sent = b""
        for _ in range(2):  # asked again, it is not taken for sound
            with pytest.raises(DamagedSnapshot):
                while piece := snapshots.chunk(made.id, len(sent), 10_000):
                    sent += piece
        assert sent == whole[: len(sent)]
        assert len(sent) <= place


def test_a_snapshot_that_ends_too_early_is_not_sent_to_its_end(folder: Folder, snapshots: SnapshotStore) -> None:
    made = taken(snapshots, foreign(9))
    replanted(folder, f"{made.id}.snap", file_of(foreign(9))[:-5])
    with pytest.raises(DamagedSnapshot, match="is cut off"):
        snapshots.chunk(made.id, 0, 1 << 20)


def test_who_goes_on_with_a_part_gets_the_rest_and_others_what_is_checked(snapshots: SnapshotStore) -> None:
    made = taken(snapshots, foreign(9))
    whole = file_of(foreign(9))
    assert snapshots.chunk(made.id, 50_000, 100) == whole[50_000:50_100]
    pieces = [snapshots.chunk(made.id, offset, 7_000) for offset in range(0, made.size, 7_000)]
    assert b"".join(piece or b"" for piece in pieces) == whole
    assert snapshots.chunk(made.id, 10, 100) == whole[10:110]


def test_a_removed_snapshot_that_nobody_asks_for_is_let_go_in_the_end(snapshots: SnapshotStore) -> None:
    forgotten, wanted = taken(snapshots, foreign(1)), taken(snapshots, foreign(2))
    snapshots.chunk(forgotten.id, 0, 100)
    for index in range(3, 25):
        assert snapshots.chunk(wanted.id, 0, 100)
        taken(snapshots, foreign(index))
        snapshots.supersede(foreign(index), index)
    assert snapshots.chunk(wanted.id, 0, 100)
    assert snapshots.chunk(forgotten.id, 0, 100) is None


def test_a_snapshot_that_was_never_here_has_no_chunks(snapshots: SnapshotStore) -> None:
    assert snapshots.chunk("feed-9", 0, 100) is None


def test_few_files_stay_open_for_sending(snapshots: SnapshotStore) -> None:
    for index in range(1, 10):
        made = taken(snapshots, foreign(index), SMALL)
        assert snapshots.chunk(made.id, 0, 8) == b"RAFTSNAP"
    assert len(snapshots._sending._files) <= 4
    snapshots.close()
    assert not snapshots._sending._files


def test_a_snapshot_that_is_taken_again_is_sent_as_it_is_now(snapshots: SnapshotStore) -> None:
    made = taken(snapshots, foreign(9), SMALL)
    assert snapshots.chunk(made.id, 0, made.size) == file_of(foreign(9), SMALL)
    again = taken(snapshots, foreign(9), b"another state")
    assert snapshots.chunk(made.id, 0, again.size) == file_of(foreign(9), b"another state")


def test_a_snapshot_is_sent_while_another_is_taken_and_old_ones_go(tmp_path: Path) -> None:
    snapshots = SnapshotStore(DiskFolder(tmp_path))
    made = taken(snapshots, foreign(1))
    whole = file_of(foreign(1))
    wrong: list[object] = []

    def send() -> None:
        for _ in range(30):
            pieces = [snapshots.chunk(made.id, offset, 9999) for offset in range(0, made.size, 9999)]
            if b"".join(piece or b"" for piece in pieces) != whole:
                wrong.append(pieces)

    sender = threading.Thread(target=send)
    sender.start()
    for index in range(2, 12):
        taken(snapshots, foreign(index))
        snapshots.supersede(foreign(index), 2)
    sender.join()
    assert not wrong
