"""Planted damage: a torn tail is dropped, damage to what was durable is never cut, and nothing is guessed."""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from raft_actors import store_opening, store_probe
from raft_actors.durable_mark import read_mark
from raft_actors.errors import CorruptLog, StorageFailed, StoreInUse
from raft_actors.log_store import LogStore
from raft_actors.protocol.effects import Persist
from raft_actors.protocol.types import Ballot
from raft_actors.records import GENESIS, encode_entries
from raft_actors.store_meta import KEYS, ballot_value
from storage_adapters import Batch, LMDBAdapter, StorageAdapter
from tests.storage.log_tools import (
    ENGINES,
    SHARING,
    append,
    command,
    commands,
    everything,
    filled,
    flipped,
    records,
    replant,
)

Factory = Callable[[str], StorageAdapter]
every_engine = pytest.mark.parametrize("factory", SHARING)
every_own_file = pytest.mark.parametrize("factory", ENGINES)


def reopened(factory: Factory, path: Path) -> LogStore:
    return LogStore.open(factory, path, name="s1")


def lagging_store(factory: Factory, path: Path) -> None:
    """Make a store with entries 1 .. 20 whose mark knows of 1 .. 12, as after a power cut."""
    store = reopened(factory, path)
    append(store, *commands(1, 12))
    mark = (path / "TAIL").read_bytes()
    append(store, *commands(13, 20))
    store.close(clean=False)
    (path / "TAIL").write_bytes(mark)


@every_engine
@pytest.mark.parametrize("index", [13, 17, 20])
def test_a_torn_tail_above_the_mark_is_dropped_and_counted(
    factory: Factory, index: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s1"
    lagging_store(factory, path)
    replant(factory, path, {index: flipped(dict(records(factory, path))[index])})
    with caplog.at_level(logging.WARNING, logger="raft_actors"), reopened(factory, path) as store:
        assert store.recovered.log.last.index == index - 1
        assert everything(store) == commands(1, index - 1)
        append(store, command(index, 2))
    assert [f"a torn tail of {21 - index} entries is dropped" in line for line in caplog.messages] == [True]
    assert "peer 's1'" in caplog.text
    caplog.clear()
    with reopened(factory, path) as store:
        assert everything(store) == (*commands(1, index - 1), command(index, 2))
    assert caplog.messages == []


@every_engine
def test_whole_records_above_the_mark_are_kept(factory: Factory, tmp_path: Path) -> None:
    lagging_store(factory, tmp_path / "s1")
    with reopened(factory, tmp_path / "s1") as store:
        assert everything(store) == commands(1, 20)
    mark = read_mark(tmp_path / "s1")
    assert mark is not None
    assert (mark.last.index, mark.clean) == (20, True)


@every_engine
@pytest.mark.parametrize("index", [1, 11, 12])
def test_damage_at_or_below_the_mark_is_reported_and_never_cut(factory: Factory, index: int, tmp_path: Path) -> None:
    path = tmp_path / "s1"
    lagging_store(factory, path)
    replant(factory, path, {index: flipped(dict(records(factory, path))[index])})
    before = records(factory, path)
    for _ in range(2):
        with pytest.raises(CorruptLog, match=f"peer 's1' is damaged: entry {index} does not match its checksum"):
            reopened(factory, path)
    assert records(factory, path) == before


@every_engine
def test_a_lost_suffix_is_noticed(factory: Factory, tmp_path: Path) -> None:
    filled(factory, tmp_path / "s1")
    with factory(str(tmp_path / "s1")) as adapter:
        adapter.write(Batch(truncate_from=18))
    with pytest.raises(CorruptLog, match="the log ends with entry 17, but entry 20 was durable"):
        reopened(factory, tmp_path / "s1")


@every_engine
def test_swapped_records_are_noticed(factory: Factory, tmp_path: Path) -> None:
    filled(factory, tmp_path / "s1")
    found = dict(records(factory, tmp_path / "s1"))
    replant(factory, tmp_path / "s1", {7: found[9], 9: found[7]})
    with pytest.raises(CorruptLog, match="entry 7 holds the record of entry 9"):
        reopened(factory, tmp_path / "s1")


@every_engine
def test_another_log_of_the_same_length_is_noticed(factory: Factory, tmp_path: Path) -> None:
    """All checksums fit: only the mark knows that these are not the entries that were durable."""
    filled(factory, tmp_path / "s1")
    other, _ = encode_entries([command(i, data=b"other") for i in range(1, 21)], GENESIS)
    replant(factory, tmp_path / "s1", dict(other))
    with pytest.raises(CorruptLog, match="entry 20 .* is not the one that was durable there"):
        reopened(factory, tmp_path / "s1")


@every_own_file
def test_an_older_copy_of_the_engines_files_is_noticed(factory: Factory, tmp_path: Path) -> None:
    path = tmp_path / "s1"
    filled(factory, path, last=5)
    shutil.copytree(path, tmp_path / "older", ignore=shutil.ignore_patterns("TAIL"))
    with reopened(factory, path) as store:
        append(store, command(6))
    mark = (path / "TAIL").read_bytes()
    shutil.rmtree(path)
    shutil.copytree(tmp_path / "older", path)
    (path / "TAIL").write_bytes(mark)
    with pytest.raises(CorruptLog, match="ends with entry 5, but entry 6 was durable"):
        reopened(factory, path)


@pytest.mark.parametrize(
    ("older", "reason"),
    [
        (Ballot(4, "s1"), "ballot is of term 4, but one of term 5 was durable"),
        (Ballot(5, None), "vote in term 5 is not the one that was durable"),
        (Ballot(5, "s3"), "vote in term 5 is not the one that was durable"),
    ],
)
def test_a_forgotten_ballot_is_noticed(older: Ballot, reason: str, tmp_path: Path) -> None:
    with reopened(LMDBAdapter, tmp_path / "s1") as store:
        store.write([Persist(ballot=Ballot(5, "s2"))])
    with LMDBAdapter(tmp_path / "s1") as adapter:
        adapter.write(Batch(ballot_value(older)))
    with pytest.raises(CorruptLog, match=reason):
        reopened(LMDBAdapter, tmp_path / "s1")


@pytest.mark.parametrize("newer", [Ballot(5, "s2"), Ballot(6, None)])
def test_a_ballot_newer_than_the_mark_is_kept(newer: Ballot, tmp_path: Path) -> None:
    with reopened(LMDBAdapter, tmp_path / "s1") as store:
        store.write([Persist(ballot=Ballot(5, None))])
    with LMDBAdapter(tmp_path / "s1") as adapter:
        adapter.write(Batch(ballot_value(newer)))
    with reopened(LMDBAdapter, tmp_path / "s1") as store:
        assert store.recovered.ballot == newer


@every_engine
@pytest.mark.parametrize("key", ["format", "name", "incarnation", "cluster", "ballot"])
def test_damage_in_the_meta_is_reported(factory: Factory, key: str, tmp_path: Path) -> None:
    filled(factory, tmp_path / "s1")
    with factory(str(tmp_path / "s1")) as adapter:
        value = adapter.meta(key)
        assert value is not None
        adapter.write(Batch({key: flipped(value)}))
    with pytest.raises(CorruptLog, match=f"its '{key}' does not match its checksum"):
        reopened(factory, tmp_path / "s1")


def test_a_meta_value_under_another_key_is_damage(tmp_path: Path) -> None:
    filled(LMDBAdapter, tmp_path / "s1")
    with LMDBAdapter(tmp_path / "s1") as adapter:
        adapter.write(Batch({"name": adapter.meta("incarnation") or b""}))
    with pytest.raises(CorruptLog, match="'name' does not match"):
        reopened(LMDBAdapter, tmp_path / "s1")


@every_engine
@pytest.mark.parametrize("mark", [None, b"", b"RAFTTAIL" + bytes(72)], ids=["missing", "empty", "torn"])
def test_a_store_whose_mark_cannot_be_read_opens_if_it_is_sound(
    factory: Factory, mark: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "s1"
    filled(factory, path)
    (path / "TAIL").unlink()
    if mark is not None:
        (path / "TAIL").write_bytes(mark)
    with reopened(factory, path) as store:
        assert everything(store) == commands(1, 20)
    found = read_mark(path)
    assert found is not None
    assert found.last.index == 20


@every_engine
def test_without_a_mark_any_damage_is_reported_and_none_is_cut(factory: Factory, tmp_path: Path) -> None:
    path = tmp_path / "s1"
    filled(factory, path)
    replant(factory, path, {20: flipped(dict(records(factory, path))[20])})
    (path / "TAIL").unlink()
    with pytest.raises(CorruptLog, match="entry 20 does not match its checksum"):
        reopened(factory, path)


@every_engine
def test_the_mark_of_another_store_is_noticed(factory: Factory, tmp_path: Path) -> None:
    filled(factory, tmp_path / "s1")
    filled(factory, tmp_path / "other")
    shutil.copy(tmp_path / "other" / "TAIL", tmp_path / "s1" / "TAIL")
    with pytest.raises(CorruptLog, match="its mark TAIL belongs to another store"):
        reopened(factory, tmp_path / "s1")


@every_engine
def test_a_mark_beside_lost_data_never_becomes_a_new_store(factory: Factory, tmp_path: Path) -> None:
    path = tmp_path / "s1"
    filled(factory, path)
    for item in path.iterdir():
        if item.is_dir():
            shutil.rmtree(item)
        elif item.name != "TAIL":
            item.unlink()
    with pytest.raises(CorruptLog, match="is empty, but its mark TAIL says that entry 20 was durable"):
        reopened(factory, path)
    with pytest.raises(CorruptLog):
        reopened(factory, path)


@every_own_file
def test_lost_data_files_are_noticed(factory: Factory, tmp_path: Path) -> None:
    path = tmp_path / "s1"
    filled(factory, path)
    shutil.rmtree(path / "db", ignore_errors=True)
    (path / "data.mdb").unlink(missing_ok=True)
    with pytest.raises(CorruptLog, match="lost its data files"):
        reopened(factory, path)


@every_engine
def test_a_record_damaged_while_the_store_is_open_is_seen_by_the_read(factory: Factory, tmp_path: Path) -> None:
    adapters: list[StorageAdapter] = []

    def kept(path: str) -> StorageAdapter:
        adapters.append(factory(path))
        return adapters[-1]

    with LogStore.open(kept, tmp_path / "s1", name="s1") as store:
        append(store, *commands(1, 5))
        _, record = adapters[0].read(3, 3, 1)[0]
        others = adapters[0].read(4, 5, 1 << 20)
        adapters[0].write(Batch(truncate_from=3, entries=[(3, flipped(record)), *others]))
        assert store.read(4, 5, 1 << 20) == commands(4, 5)
        with pytest.raises(CorruptLog, match="entry 3 does not match its checksum"):
            store.read(2, 5, 1 << 20)
        with pytest.raises(CorruptLog, match="entry 3 does not match its checksum"):
            store.write([Persist(truncate_from=4)])


def test_an_entry_that_vanished_while_the_store_is_open_is_seen_by_the_read(tmp_path: Path) -> None:
    adapters: list[StorageAdapter] = []

    def kept(path: str) -> StorageAdapter:
        adapters.append(LMDBAdapter(path))
        return adapters[-1]

    with LogStore.open(kept, tmp_path / "s1", name="s1") as store:
        append(store, *commands(1, 5))
        adapters[0].write(Batch(truncate_from=5))
        with pytest.raises(CorruptLog, match="entry 5 is missing"):
            store.read(5, 5, 100)


# -- files that kill ---------------------------------------------------------------------------------------------------


def test_an_lmdb_file_that_was_cut_short_is_reported(tmp_path: Path) -> None:
    filled(LMDBAdapter, tmp_path / "s1", last=2000)
    data = tmp_path / "s1" / "data.mdb"
    os.truncate(data, data.stat().st_size // 2)
    with pytest.raises(CorruptLog, match=r"data\.mdb"):
        reopened(LMDBAdapter, tmp_path / "s1")


@pytest.mark.parametrize("seed", range(4))
def test_a_mangled_lmdb_file_is_reported_and_this_process_lives(seed: int, tmp_path: Path) -> None:
    filled(LMDBAdapter, tmp_path / "s1", last=2000)
    data = tmp_path / "s1" / "data.mdb"
    dice = random.Random(seed)
    mangled = bytearray(data.read_bytes())
    for page in range(2, len(mangled) // 4096):
        mangled[page * 4096 + 10 : page * 4096 + 60] = dice.randbytes(50)
    data.write_bytes(mangled)
    with pytest.raises(CorruptLog):
        reopened(LMDBAdapter, tmp_path / "s1")


def test_a_few_wild_bytes_in_the_inner_pages_never_fail_the_probe_itself(tmp_path: Path) -> None:
    """Some of these files kill whoever reads them; whatever they do to the child, the probe does not fail."""
    path = tmp_path / "s1"
    filled(LMDBAdapter, path, last=2000)
    sound = (path / "data.mdb").read_bytes()
    reported = 0
    for seed in range(12):
        dice, mangled = random.Random(seed), bytearray(sound)
        for _ in range(3):
            at = dice.randrange(2, len(mangled) // 4096) * 4096 + dice.randrange(64)
            mangled[at : at + 4] = dice.randbytes(4)
        (path / "data.mdb").write_bytes(mangled)
        reported += store_probe.probe(path) is not None
    assert reported >= 9


def planted_probe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str) -> None:
    script = tmp_path / "planted_probe.py"
    script.write_text(source)
    monkeypatch.setattr(store_probe, "__file__", str(script))


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGBUS", "SIGABRT"])
def test_a_probe_that_dies_of_the_file_is_evidence_of_damage(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    filled(LMDBAdapter, tmp_path / "s1", clean=False)
    (tmp_path / "s1" / "TAIL").unlink()
    source = "import os, signal; from storage_adapters.reading_child import leave_no_core; leave_no_core();"
    planted_probe(monkeypatch, tmp_path, f"{source} os.kill(os.getpid(), signal.{name})")
    with pytest.raises(CorruptLog, match=f"reading it killed a process with {name}"):
        reopened(LMDBAdapter, tmp_path / "s1")


@pytest.mark.parametrize(
    "source", [f"import os; os.kill(os.getpid(), {signal.SIGKILL})", "raise ImportError('no lmdb here')"]
)
def test_a_probe_that_fails_for_another_reason_proves_nothing(
    source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    filled(LMDBAdapter, tmp_path / "s1")
    (tmp_path / "s1" / "TAIL").unlink()
    planted_probe(monkeypatch, tmp_path, source)
    with pytest.raises(StorageFailed, match="cannot be checked"):
        reopened(LMDBAdapter, tmp_path / "s1")


def test_a_frozen_program_opens_the_store_unread_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its executable is the program itself: starting that again would be no probe."""
    filled(LMDBAdapter, tmp_path / "s1")
    (tmp_path / "s1" / "TAIL").unlink()
    monkeypatch.setattr("sys.frozen", True, raising=False)
    with reopened(LMDBAdapter, tmp_path / "s1") as store:
        assert everything(store) == commands(1, 20)
    assert "is opened unread" in caplog.text


@pytest.mark.parametrize("clean", [True, False])
def test_a_file_that_is_as_the_mark_says_needs_no_probe(
    clean: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A crash of the process leaves the file exactly as the mark says, unless a commit was under way."""
    probed: list[Path] = []
    monkeypatch.setattr(store_opening, "probe", probed.append)
    filled(LMDBAdapter, tmp_path / "s1", clean=clean)
    reopened(LMDBAdapter, tmp_path / "s1").close(clean=clean)
    reopened(LMDBAdapter, tmp_path / "s1").close()
    assert probed == []
    os.utime(tmp_path / "s1" / "data.mdb")
    reopened(LMDBAdapter, tmp_path / "s1").close()
    assert probed == [tmp_path / "s1"]


def test_a_probe_of_a_store_in_use_names_its_process(tmp_path: Path) -> None:
    with reopened(LMDBAdapter, tmp_path / "s1"), pytest.raises(StoreInUse) as caught:
        (tmp_path / "s1" / "TAIL").unlink()
        reopened(LMDBAdapter, tmp_path / "s1")
    assert caught.value.pid == os.getpid()


def test_the_probe_reads_the_same_keys_as_the_parent() -> None:
    assert store_probe._KEYS == KEYS


def test_a_probe_that_dies_of_the_file_leaves_no_core_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(LMDBAdapter, tmp_path / "s1")
    source = "import json, resource, sys; from raft_actors import store_probe; cores = resource.RLIMIT_CORE\n"
    source += "resource.setrlimit(cores, (resource.getrlimit(cores)[1],) * 2); store_probe._read_all(sys.argv[1])\n"
    source += "print(json.dumps({'problem': f'cores of {resource.getrlimit(cores)[0]} bytes'}))"
    planted_probe(monkeypatch, tmp_path, source)
    assert store_probe.probe(tmp_path / "s1") == "cores of 0 bytes"
