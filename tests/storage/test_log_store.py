"""The typed store on every engine: what is written is there again, and what does not fit is refused."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from raft_actors.errors import CorruptLog, Incompatible, InvariantViolated, MissingExtra, StorageFailed, StoreInUse
from raft_actors.log_store import LogStore
from raft_actors.protocol.effects import Persist
from raft_actors.protocol.log import recovered
from raft_actors.protocol.types import NOWHERE, Ballot, LogPosition
from raft_actors.records import GENESIS, encode_entries
from raft_actors.store_meta import Base, base_value, seal
from storage_adapters import Batch, LMDBAdapter, MemoryAdapter, RocksDBAdapter, StorageAdapter, StorageError
from storage_adapters import interface as adapter_interface
from tests.storage.log_tools import (
    SHARING,
    append,
    change,
    command,
    commands,
    configuration_of,
    everything,
    filled,
    noop,
)

Factory = Callable[[str], StorageAdapter]

every_engine = pytest.mark.parametrize("factory", SHARING)
every_adapter = pytest.mark.parametrize("factory", [*SHARING, MemoryAdapter])


class Recorder:
    """A factory whose adapter remembers the batches it was given, and fails when told to."""

    def __init__(self, inner: Factory = MemoryAdapter) -> None:
        self.inner = inner
        self.batches: list[Batch] = []
        self.error: Exception | None = None

    def __call__(self, path: str) -> StorageAdapter:
        adapter = self.inner(path)
        write = adapter.write

        def recorded(batch: Batch) -> None:
            if self.error is not None:
                raise self.error
            write(batch)
            self.batches.append(batch)

        adapter.write = recorded  # type: ignore[method-assign]
        return adapter


@every_adapter
def test_a_new_store_has_an_identity_and_is_empty(factory: Factory, tmp_path: Path) -> None:
    with LogStore.open(factory, tmp_path / "s1", name="s1") as store:
        assert (store.identity.name, store.identity.cluster, store.identity.format) == ("s1", "", 1)
        assert len(store.identity.incarnation) == 16
        assert store.recovered.log == recovered(NOWHERE, NOWHERE, ())
        assert (store.recovered.ballot, store.recovered.configurations) == (Ballot(), ())
        assert (store.recovered.time, store.recovered.cluster) == (0.0, "")
        assert store.read(1, 10, 1000) == ()


@every_engine
def test_everything_is_there_again(factory: Factory, tmp_path: Path) -> None:
    old, new = configuration_of("s1", "s2", "s3"), configuration_of("s1", "s2")
    entries = (change(1, 1, old), noop(2, 1), command(3), change(4, 3, new), command(5, 3))
    with LogStore.open(factory, tmp_path / "s1", name="s1") as store:
        identity = store.identity
        append(store, *entries[:3])
        store.write([Persist(ballot=Ballot(3, "s2"), entries=entries[3:], cluster="c1")])
    with LogStore.open(factory, tmp_path / "s1", name="s1") as store:
        found = store.recovered
        assert store.identity.incarnation == identity.incarnation
        assert (store.identity.cluster, found.cluster) == ("c1", "c1")
        assert found.ballot == Ballot(3, "s2")
        assert found.log == recovered(NOWHERE, LogPosition(3, 5), ((1, 1), (4, 3)))
        assert found.configurations == ((1, old), (4, new))
        assert found.time == entries[-1].time
        assert everything(store) == entries


def test_every_new_store_has_its_own_incarnation(tmp_path: Path) -> None:
    stores = [LogStore.open(MemoryAdapter, tmp_path, name="s1") for _ in range(20)]
    assert len({store.identity.incarnation for store in stores}) == 20


@every_engine
def test_the_identity_is_durable_when_open_returns(factory: Factory, tmp_path: Path) -> None:
    store = LogStore.open(factory, tmp_path / "s1", name="s1")
    store.close(clean=False)
    with LogStore.open(factory, tmp_path / "s1", name="s1") as again:
        assert again.identity == store.identity


@every_adapter
def test_a_truncation_and_the_entries_after_it_are_one_write(factory: Factory, tmp_path: Path) -> None:
    recorder = Recorder(factory)
    with LogStore.open(recorder, tmp_path / "s1", name="s1") as store:
        append(store, *commands(1, 6))
        recorder.batches.clear()
        store.write([Persist(Ballot(2, "s1"), 4, commands(4, 5, term=2))])
        assert len(recorder.batches) == 1
        assert everything(store) == (*commands(1, 3), *commands(4, 5, term=2))
        store.write([Persist(truncate_from=1)])
        assert everything(store) == ()
        append(store, command(1, 3))
        assert everything(store) == (command(1, 3),)


def test_a_truncation_beyond_the_end_drops_nothing(tmp_path: Path) -> None:
    with LogStore.open(MemoryAdapter, tmp_path, name="s1") as store:
        append(store, *commands(1, 3))
        store.write([Persist(truncate_from=4, entries=(command(4),))])
        assert everything(store) == commands(1, 4)


@every_adapter
def test_merged_writes_are_one_batch_in_their_order(factory: Factory, tmp_path: Path) -> None:
    recorder = Recorder(factory)
    with LogStore.open(recorder, tmp_path / "s1", name="s1") as store:
        append(store, *commands(1, 3))
        recorder.batches.clear()
        store.write(
            [
                Persist(ballot=Ballot(2, None), truncate_from=3, entries=(command(3, 2),)),
                Persist(ballot=Ballot(2, "s3"), cluster="c9"),
                Persist(entries=commands(4, 5, term=2)),
            ]
        )
        assert len(recorder.batches) == 1
        assert set(recorder.batches[0].meta) == {"ballot", "cluster"}
        assert everything(store) == (*commands(1, 2), *commands(3, 5, term=2))
        assert store.identity.cluster == "c9"


def test_what_did_not_change_is_not_written_again(tmp_path: Path) -> None:
    recorder = Recorder()
    store = LogStore.open(recorder, tmp_path, name="s1")
    store.write([Persist(ballot=Ballot(1, "s1"), cluster="c1")])
    recorder.batches.clear()
    store.write([Persist(ballot=Ballot(1, "s1"), cluster="c1")])
    store.write([Persist()])
    store.write([])
    assert recorder.batches == []
    store.write([Persist(ballot=Ballot(1, "s1"), cluster="c1", entries=(command(1),))])
    assert [dict(batch.meta) for batch in recorder.batches] == [{}]


def test_only_the_first_of_merged_writes_may_truncate(tmp_path: Path) -> None:
    store = LogStore.open(MemoryAdapter, tmp_path, name="s1")
    with pytest.raises(InvariantViolated, match="only the first"):
        store.write([Persist(entries=commands(1, 3)), Persist(truncate_from=2)])


@pytest.mark.parametrize(
    ("persist", "reason"),
    [
        (Persist(entries=(command(5),)), "entry 5 of term 1 cannot follow"),
        (Persist(entries=(command(3),)), "entry 3 of term 1 cannot follow"),
        (Persist(entries=(command(4, term=0),)), "entry 4 of term 0 cannot follow"),
        (Persist(entries=(command(4), command(6))), "must go on at index 5"),
        (Persist(entries=(command(4, data="text"),)), "cannot be stored"),  # type: ignore[arg-type]
        (Persist(ballot=Ballot(1, None)), "cannot replace it"),
        (Persist(ballot=Ballot(2, "s3")), "cannot replace it"),
        (Persist(ballot=Ballot(2, None)), "cannot replace it"),
        (Persist(truncate_from=0), "cannot cut at 0"),
    ],
)
def test_what_does_not_fit_is_refused_and_ends_the_writing(persist: Persist, reason: str, tmp_path: Path) -> None:
    store = LogStore.open(MemoryAdapter, tmp_path, name="s1")
    store.write([Persist(ballot=Ballot(2, "s2"), entries=commands(1, 3))])
    with pytest.raises(InvariantViolated, match=reason):
        store.write([persist])
    assert everything(store) == commands(1, 3)
    with pytest.raises(StorageFailed, match="takes no more writes"):
        append(store, command(4))


def test_a_vote_may_follow_in_the_same_term_and_a_new_term_without_one(tmp_path: Path) -> None:
    with LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1") as store:
        for ballot in (Ballot(2, None), Ballot(2, "s2"), Ballot(3, None)):
            store.write([Persist(ballot=ballot)])
    assert LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1").recovered.ballot == Ballot(3, None)


def test_a_store_of_another_cluster_is_refused(tmp_path: Path) -> None:
    store = LogStore.open(MemoryAdapter, tmp_path, name="s1")
    store.write([Persist(cluster="c1")])
    with pytest.raises(Incompatible, match="belongs to cluster 'c1', not to 'c2'"):
        store.write([Persist(cluster="c2")])


@every_engine
def test_a_store_of_another_peer_is_refused_and_left_alone(factory: Factory, tmp_path: Path) -> None:
    filled(factory, tmp_path / "s1")
    with pytest.raises(Incompatible, match=r"was made for peer 's1'.*start it under the name 's1'"):
        LogStore.open(factory, tmp_path / "s1", name="s2")
    with LogStore.open(factory, tmp_path / "s1", name="s1") as store:
        assert everything(store) == commands(1, 20)


@every_engine
@pytest.mark.parametrize("number", ["0", "2"])
def test_a_store_of_another_format_is_refused(factory: Factory, number: str, tmp_path: Path) -> None:
    filled(factory, tmp_path / "s1")
    with factory(str(tmp_path / "s1")) as adapter:
        adapter.write(Batch({"format": seal("format", number.encode())}))
    with pytest.raises(Incompatible, match=f"of log format {number}, this raft_actors reads format 1"):
        LogStore.open(factory, tmp_path / "s1", name="s1")


def test_a_store_of_another_codec_is_refused(tmp_path: Path) -> None:
    LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1").close()
    LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1", codec="plain").close()
    with LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1") as store:
        assert store.identity.codec == "plain"
    with pytest.raises(Incompatible, match="codec 'plain', not of 'cloudpickle'"):
        LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1", codec="cloudpickle")
    LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1", codec="plain").close()


def test_a_store_of_another_engine_is_refused_and_left_alone(tmp_path: Path) -> None:
    filled(LMDBAdapter, tmp_path / "s1")
    with pytest.raises(Incompatible, match=r"made with storage 'lmdb', not 'rocksdb'.*storage='lmdb'"):
        LogStore.open(RocksDBAdapter, tmp_path / "s1", name="s1")
    with LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1") as store:
        assert everything(store) == commands(1, 20)


@every_engine
def test_a_folder_of_something_else_is_refused_and_not_touched(factory: Factory, tmp_path: Path) -> None:
    (tmp_path / "s1").mkdir()
    (tmp_path / "s1" / "letter.txt").write_text("dear all")
    with pytest.raises(Incompatible, match=r"holds 'letter\.txt' and is no store of a peer: nothing in it was touched"):
        LogStore.open(factory, tmp_path / "s1", name="s1")
    assert [path.name for path in (tmp_path / "s1").iterdir()] == ["letter.txt"]


@every_engine
def test_a_log_that_no_peer_has_made_is_refused(factory: Factory, tmp_path: Path) -> None:
    with factory(str(tmp_path / "s1")) as adapter:
        adapter.write(Batch(entries=[(1, b"mine")]))
    with pytest.raises(Incompatible, match="holds 1 entries of something else than a peer"):
        LogStore.open(factory, tmp_path / "s1", name="s1")


@every_engine
def test_a_store_that_is_open_names_its_process(factory: Factory, tmp_path: Path) -> None:
    with LogStore.open(factory, tmp_path / "s1", name="s1") as store:
        append(store, command(1))
        (tmp_path / "s1" / "TAIL").unlink()  # the second opener must not blame the first one's changes
        with pytest.raises(StoreInUse) as caught:
            LogStore.open(factory, tmp_path / "s1", name="s1")
        assert caught.value.pid == os.getpid()
        append(store, command(2))


@every_engine
def test_an_error_of_the_disk_ends_the_writing_until_the_store_is_opened_again(
    factory: Factory, tmp_path: Path
) -> None:
    recorder = Recorder(factory)
    store = LogStore.open(recorder, tmp_path / "s1", name="s1")
    append(store, command(1))
    recorder.error = StorageError("no room", errno=28)
    with pytest.raises(StorageFailed, match="no room") as caught:
        append(store, command(2))
    assert caught.value.__cause__ is recorder.error
    recorder.error = None
    with pytest.raises(StorageFailed, match="takes no more writes after an error"):
        append(store, command(2))
    assert everything(store) == (command(1),)
    store.close()
    with LogStore.open(factory, tmp_path / "s1", name="s1") as store:
        append(store, command(2))
        assert everything(store) == commands(1, 2)


def test_any_exception_of_a_foreign_adapter_is_a_storage_failure(tmp_path: Path) -> None:
    recorder = Recorder()
    store = LogStore.open(recorder, tmp_path, name="s1")
    recorder.error = ZeroDivisionError("oops")
    with pytest.raises(StorageFailed, match="oops"):
        append(store, command(1))


def test_an_engine_that_is_not_installed_is_named(tmp_path: Path) -> None:
    def factory(path: str) -> StorageAdapter:
        raise adapter_interface.MissingExtra("rocksdb", "rocksdict")

    with pytest.raises(MissingExtra) as caught:
        LogStore.open(factory, tmp_path / "s1", name="s1")
    assert caught.value.extra == "rocksdb"


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1")
    store.close()
    store.close()
    with pytest.raises(StorageFailed, match="closed"):
        append(store, command(1))
    with pytest.raises(StorageFailed, match="closed"):
        store.read(1, 1, 100)


@every_adapter
def test_reads_are_bounded_and_end_where_the_log_ends(factory: Factory, tmp_path: Path) -> None:
    with LogStore.open(factory, tmp_path / "s1", name="s1") as store:
        append(store, *commands(1, 20))
        assert store.read(3, 5, 1 << 20) == commands(3, 5)
        assert store.read(19, 99, 1 << 20) == commands(19, 20)
        assert store.read(4, 20, 1) == (command(4),)
        assert 1 < len(store.read(1, 20, 200)) < 20
        assert store.read(21, 30, 1 << 20) == store.read(5, 4, 1 << 20) == store.read(0, 3, 1 << 20) == ()


def test_readers_see_whole_logs_while_the_writer_cuts_and_appends(tmp_path: Path) -> None:
    store = LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1")
    append(store, *commands(1, 50))
    done = threading.Event()
    seen: list[BaseException | int] = []

    def read() -> None:
        count = 0
        try:
            while not done.is_set():
                for first in (1, 30, 45, 60):
                    entries = store.read(first, 80, 1 << 20)
                    assert [entry.index for entry in entries] == list(range(first, first + len(entries)))
                    count += 1
        except BaseException as error:
            seen.append(error)
        seen.append(count)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for term in range(2, 60):
        store.write([Persist(truncate_from=40, entries=commands(40, 70, term=term))])
        store.write([Persist(truncate_from=35)])
        append(store, *commands(35, 55, term=term))
    done.set()
    for reader in readers:
        reader.join()
    store.close()
    assert all(isinstance(item, int) and item > 0 for item in seen), seen


@every_engine
def test_a_log_goes_on_where_a_compaction_left_it(factory: Factory, tmp_path: Path) -> None:
    """Compaction itself comes later; its fields are part of format 1 and have to be understood."""
    who = configuration_of("s1", "s2")
    filled(factory, tmp_path / "s1", last=10)
    _, chain = encode_entries(commands(1, 6), GENESIS)
    with factory(str(tmp_path / "s1")) as adapter:
        adapter.write(Batch(base_value(Base(LogPosition(1, 6), chain, command(6).time, 3, who))))
        adapter.compact(4)  # a crash in the middle of it leaves a part of what is compacted
    for _ in range(2):
        with LogStore.open(factory, tmp_path / "s1", name="s1") as store:
            assert store.recovered.log == recovered(LogPosition(1, 6), LogPosition(1, 10), ((7, 1),))
            assert store.recovered.configurations == ((3, who),)
            assert store.read(7, 10, 1 << 20) == commands(7, 10)
            assert store.read(6, 10, 1 << 20) == ()
    with LogStore.open(factory, tmp_path / "s1", name="s1") as store:
        store.write([Persist(truncate_from=7, entries=(command(7, 2),))])
        with pytest.raises(InvariantViolated, match="compacted up to 6"):
            store.write([Persist(truncate_from=6)])
    with LogStore.open(factory, tmp_path / "s1", name="s1") as store:
        assert everything(store) == (command(7, 2),)


def test_a_log_that_begins_too_late_is_damaged(tmp_path: Path) -> None:
    filled(LMDBAdapter, tmp_path / "s1", last=10)
    with LMDBAdapter(tmp_path / "s1") as adapter:
        adapter.compact(3)
    with pytest.raises(CorruptLog, match="entry 1 is missing: the log begins with entry 4"):
        LogStore.open(LMDBAdapter, tmp_path / "s1", name="s1")


def test_a_store_in_memory_leaves_nothing_on_the_disk(tmp_path: Path) -> None:
    filled(MemoryAdapter, tmp_path / "s1")
    assert list(tmp_path.iterdir()) == []
