"""The file TAIL: pinned bytes, what it says after each step, and how often it is synced."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from raft_actors import durable_mark
from raft_actors.durable_mark import (
    Mark,
    MarkFile,
    data_file_state,
    decode,
    encode,
    mark_path,
    read_mark,
    vote_number,
)
from raft_actors.errors import StorageFailed
from raft_actors.log_store import LogStore
from raft_actors.protocol.effects import Persist
from raft_actors.protocol.types import NOWHERE, Ballot, LogPosition
from raft_actors.records import GENESIS, encode_entries
from storage_adapters import Batch, LMDBAdapter, RocksDBAdapter, StorageAdapter
from tests.storage.log_tools import SHARING, append, command, commands, flipped

Factory = Callable[[str], StorageAdapter]
every_engine = pytest.mark.parametrize("factory", SHARING)

MARK = Mark("0123456789abcdef", LogPosition(7, 300), 0xDEADBEEF, 9, 0x11223344, (8192, 1_700_000_000_123_456_789), True)


def mark_of(path: Path) -> Mark:
    mark = read_mark(path)
    assert mark is not None
    return mark


def test_the_bytes_of_the_mark_are_pinned() -> None:
    assert encode(MARK).hex(" ", -4) == (
        "52414654 5441494c 01000100 30313233 34353637 38396162 63646566 2c010000 00000000 07000000 "
        "00000000 efbeadde 09000000 00000000 44332211 00200000 00000000 15cd853d fe9c9717 5eb79293"
    )


def test_the_mark_fits_into_one_block_that_no_disk_tears() -> None:
    assert len(encode(MARK)) == 80 < 512


def test_what_was_encoded_is_decoded() -> None:
    assert decode(encode(MARK)) == MARK
    assert decode(encode(MARK) + b"what an older, longer mark may have left") is None


@pytest.mark.parametrize("place", range(80))
def test_any_flipped_bit_makes_it_unreadable(place: int) -> None:
    for bit in range(8):
        assert decode(flipped(encode(MARK), place, bit)) is None


@pytest.mark.parametrize("length", [0, 1, 40, 79])
def test_a_mark_that_is_cut_off_is_unreadable(length: int) -> None:
    assert decode(encode(MARK)[:length]) is None


def test_a_missing_mark_is_none(tmp_path: Path) -> None:
    assert read_mark(tmp_path) is None
    assert read_mark(tmp_path / "nowhere") is None


def test_votes_are_told_apart() -> None:
    assert vote_number(Ballot(3, None)) == 0
    assert len({vote_number(Ballot(3, name)) for name in (None, "s1", "s2", "s3")}) == 4


@every_engine
def test_the_mark_says_what_is_durable_after_every_write(factory: Factory, tmp_path: Path) -> None:
    path = tmp_path / "s1"
    store = LogStore.open(factory, path, name="s1")
    assert (mark_of(path).last, mark_of(path).chain, mark_of(path).clean) == (NOWHERE, GENESIS, False)
    store.write([Persist(ballot=Ballot(4, "s2"), entries=commands(1, 5, term=4))])
    mark = mark_of(path)
    assert (mark.last, mark.chain) == (LogPosition(4, 5), encode_entries(commands(1, 5, term=4), GENESIS)[1])
    assert (mark.ballot_term, mark.vote) == (4, vote_number(Ballot(4, "s2")))
    assert (mark.incarnation, mark.data) == (store.identity.incarnation, data_file_state(path))
    store.write([Persist(ballot=Ballot(6, None))])
    assert (mark_of(path).ballot_term, mark_of(path).vote) == (6, 0)
    store.write([Persist(truncate_from=3)])
    assert (mark_of(path).last.index, mark_of(path).clean) == (2, False)
    store.close()
    assert (mark_of(path).last.index, mark_of(path).clean) == (2, True)
    assert mark_of(path).data == data_file_state(path), "closing changed the file once more"


@every_engine
def test_a_store_that_is_abandoned_leaves_an_unclean_mark(factory: Factory, tmp_path: Path) -> None:
    store = LogStore.open(factory, tmp_path / "s1", name="s1")
    append(store, *commands(1, 3))
    store.close(clean=False)
    assert (mark_of(tmp_path / "s1").last.index, mark_of(tmp_path / "s1").clean) == (3, False)


def test_an_exception_in_the_with_block_is_no_clean_end(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1") as store:
        append(store, 1 / 0)  # type: ignore[arg-type]
    assert not mark_of(tmp_path / "s1").clean


def test_a_store_that_failed_is_not_marked_clean(tmp_path: Path) -> None:
    def broken(batch: Batch) -> None:
        raise OSError(5, "input/output error")

    def factory(path: str) -> StorageAdapter:
        adapters.append(LMDBAdapter(path))
        return adapters[-1]

    adapters: list[StorageAdapter] = []
    store = LogStore.open(factory, tmp_path / "s1", name="s1")
    append(store, command(1))
    adapters[0].write = broken  # type: ignore[method-assign]
    with pytest.raises(StorageFailed, match="input/output error"):
        append(store, command(2))
    store.close()
    assert (mark_of(tmp_path / "s1").last.index, mark_of(tmp_path / "s1").clean) == (1, False)


class Clock:
    """Stands in for ``time`` in the module: its hands are moved by the test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_the_mark_is_synced_at_most_once_a_second_and_at_close(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock, syncs = Clock(), list[int]()
    monkeypatch.setattr(durable_mark, "time", clock)
    real = os.fdatasync
    monkeypatch.setattr(durable_mark.os, "fdatasync", lambda descriptor: (syncs.append(descriptor), real(descriptor)))
    store = LogStore.open(RocksDBAdapter, tmp_path / "s1", name="s1")
    assert len(syncs) == 1, "a new mark is on the disk when the store is open"
    for index in range(1, 21):
        clock.now += 0.25
        append(store, command(index))
    assert len(syncs) == 1 + 5
    store.close()
    assert len(syncs) == 1 + 5 + 1


@every_engine
def test_the_mark_is_lowered_and_synced_before_the_engine_truncates(
    factory: Factory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    steps: list[object] = []
    real = os.fdatasync

    def sync(descriptor: int) -> None:
        real(descriptor)
        steps.append(("synced", mark_of(tmp_path / "s1").last))

    def recording(path: str) -> StorageAdapter:
        adapter = factory(path)
        write = adapter.write

        def recorded(batch: Batch) -> None:
            steps.append("committing")
            write(batch)

        adapter.write = recorded  # type: ignore[method-assign]
        return adapter

    with LogStore.open(recording, tmp_path / "s1", name="s1") as store:
        append(store, *commands(1, 3), command(4, 2))
        monkeypatch.setattr(durable_mark.os, "fdatasync", sync)
        steps.clear()
        store.write([Persist(truncate_from=3, entries=(command(3, 5),))])
        assert steps == [("synced", LogPosition(1, 2)), "committing"]


def test_a_mark_that_cannot_be_lowered_stops_the_truncation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(5, "input/output error")

    store = LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1")
    append(store, *commands(1, 5))
    monkeypatch.setattr(durable_mark.os, "fdatasync", broken)
    with pytest.raises(StorageFailed, match="input/output error"):
        store.write([Persist(truncate_from=3)])
    with pytest.raises(StorageFailed, match="takes no more writes"):
        append(store, command(6))
    monkeypatch.undo()
    store.close()
    with LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1") as store:
        assert store.read(1, 9, 1 << 20) == commands(1, 5)


def test_the_mark_of_a_store_in_a_single_file_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "s1.sqlite").touch()
    assert mark_path(tmp_path / "s1.sqlite") == tmp_path / "s1.sqlite.TAIL"
    file = MarkFile(tmp_path / "s1.sqlite", "0123456789abcdef")
    file.put(LogPosition(1, 2), 3, Ballot(1))
    file.close()
    file.close()
    assert mark_of(tmp_path / "s1.sqlite").last == LogPosition(1, 2)
