"""What the adapters rely on in lmdb and rocksdict, surprising as it is; red here means: read the release notes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lmdb
import pytest

from tests.storage.adapters.support import run_python

rocksdict = pytest.importorskip("rocksdict")


def key(index: int) -> bytes:
    return index.to_bytes(8, "big")


# --- lmdb --------------------------------------------------------------------------------------------------------


def test_lmdb_a_full_map_aborts_and_the_batch_fits_after_growing(tmp_path: Path) -> None:
    items = [(key(index), b"x" * 256) for index in range(2000)]
    with lmdb.open(str(tmp_path), map_size=1 << 16, max_dbs=1) as env:
        log = env.open_db(b"log")
        with pytest.raises(lmdb.MapFullError), env.begin(write=True) as txn:
            txn.cursor(db=log).putmulti(items, append=True)
        with env.begin() as txn:
            assert txn.stat(log)["entries"] == 0
        env.set_mapsize(1 << 22)
        with env.begin(write=True) as txn:
            assert txn.cursor(db=log).putmulti(items, append=True) == (2000, 2000)


def test_lmdb_a_path_opened_twice_in_one_process_is_an_error(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path)), pytest.raises(lmdb.Error, match="already open in this process"):
        lmdb.open(str(tmp_path))


def test_lmdb_appending_below_the_end_is_silent_and_only_counted(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path)) as env, env.begin(write=True) as txn:
        txn.put(key(5), b"")
        assert txn.cursor().putmulti([(key(4), b"x")], append=True) == (1, 0)


def test_lmdb_its_own_codes_are_negative_and_those_of_the_system_positive(tmp_path: Path) -> None:
    env = lmdb.open(str(tmp_path), map_size=1 << 15)
    with pytest.raises(lmdb.MapFullError) as full, env.begin(write=True) as txn:
        txn.put(b"k", b"x" * 100_000)
    env.close()
    code: Any = full.value
    assert code.code < 0


def test_lmdb_the_place_of_a_dropped_tree_is_used_again(tmp_path: Path) -> None:
    """Or a long life of stores that come and go would run into ``max_dbs``."""
    with lmdb.open(str(tmp_path), max_dbs=2) as env:
        kept = env.open_db(b"kept")
        for number in range(20):
            with env.begin(write=True) as txn:
                tree = env.open_db(b"tree %d" % number, txn=txn)
                txn.put(b"k", b"v", db=tree)
                txn.put(b"k", b"%d" % number, db=kept)
            with pytest.raises(lmdb.DbsFullError):
                env.open_db(b"one too many")
            with env.begin(write=True) as txn:
                txn.drop(env.open_db(b"tree %d" % number, txn=txn, create=False))
        with env.begin() as txn:
            assert (txn.get(b"k", db=kept), txn.stat()["entries"]) == (b"19", 1)


def test_lmdb_a_tree_that_was_dropped_in_a_transaction_that_aborts_opens_again(tmp_path: Path) -> None:
    """A drop closes the handle at once; whoever makes the change again has to open the tree again."""
    with lmdb.open(str(tmp_path), max_dbs=2) as env:
        with env.begin(write=True) as txn:
            txn.put(b"k", b"v", db=env.open_db(b"tree", txn=txn))
        txn = env.begin(write=True)
        txn.drop(env.open_db(b"tree", txn=txn))
        txn.abort()
        with env.begin(write=True) as txn:
            assert txn.get(b"k", db=env.open_db(b"tree", txn=txn, create=False)) == b"v"


def test_lmdb_a_file_is_read_without_its_lock_and_leaves_no_trace(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path), max_dbs=1) as env, env.begin(write=True) as txn:
        txn.put(b"k", b"v", db=env.open_db(b"tree", txn=txn))
    (tmp_path / "lock.mdb").unlink()
    with lmdb.open(str(tmp_path), max_dbs=1, readonly=True, lock=False) as env, env.begin() as txn:
        assert txn.get(b"k", db=env.open_db(b"tree", txn=txn, create=False)) == b"v"
    assert [file.name for file in tmp_path.iterdir()] == ["data.mdb"]


def test_lmdb_trees_opened_in_a_read_transaction_die_with_it(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path), max_dbs=1) as env:
        env.open_db(b"log")
    with lmdb.open(str(tmp_path), max_dbs=1) as env:
        with env.begin() as txn:
            log = env.open_db(b"log", txn=txn)
        with env.begin() as txn, pytest.raises(lmdb.Error):
            txn.get(b"k", db=log)


def test_lmdb_a_write_transaction_that_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path), max_dbs=1) as env:
        env.open_db(b"log")
        before = env.info()["last_txnid"]
        with env.begin(write=True) as txn:
            env.open_db(b"log", txn=txn)
        assert env.info()["last_txnid"] == before


# --- rocksdict ---------------------------------------------------------------------------------------------------


def options() -> Any:
    made = rocksdict.Options(raw_mode=True)
    made.create_if_missing(True)
    made.create_missing_column_families(True)
    made.set_wal_recovery_mode(rocksdict.DBRecoveryMode.tolerate_corrupted_tail_records())
    return made


def opened(path: Path) -> Any:
    return rocksdict.Rdict(str(path), options(), {"log": options()})


def test_rocksdict_a_missing_key_is_a_key_error_or_none(tmp_path: Path) -> None:
    db = opened(tmp_path)
    with pytest.raises(KeyError):
        db[b"missing"]
    assert db.get(b"missing") is None
    db.close()


@pytest.mark.parametrize("kind", ["get_column_family", "get_column_family_handle"])
def test_rocksdict_a_living_column_family_keeps_the_database_open(tmp_path: Path, kind: str) -> None:
    db = opened(tmp_path)
    family = getattr(db, kind)("log")
    db.close()
    with pytest.raises(Exception, match="lock hold by current process"):
        opened(tmp_path)
    del family
    opened(tmp_path).close()


def test_rocksdict_a_living_iterator_keeps_the_database_open(tmp_path: Path) -> None:
    db = opened(tmp_path)
    iterator = db.iter()
    db.close()
    with pytest.raises(Exception, match="lock hold by current process"):
        opened(tmp_path)
    del iterator
    opened(tmp_path).close()


def test_rocksdict_errors_have_no_class_of_their_own(tmp_path: Path) -> None:
    db = opened(tmp_path)
    with pytest.raises(Exception, match="^IO error:") as caught:
        opened(tmp_path)
    assert caught.type is Exception
    db.close()
    with pytest.raises(rocksdict.DbClosedError):
        db.get(b"k")


def test_rocksdict_a_batch_can_be_written_once(tmp_path: Path) -> None:
    db = opened(tmp_path)
    batch = rocksdict.WriteBatch(raw_mode=True)
    batch.put(b"k", b"v")
    db.write(batch)
    with pytest.raises(Exception, match="consumed"):
        db.write(batch)
    db.close()


def test_rocksdict_a_later_put_wins_over_a_range_deletion_of_the_same_batch(tmp_path: Path) -> None:
    db = opened(tmp_path)
    batch = rocksdict.WriteBatch(raw_mode=True)
    log = db.get_column_family_handle("log")
    batch.delete_range(key(1), key(9), log)
    batch.put(key(5), b"new", log)
    db.write(batch)
    family = db.get_column_family("log")
    assert family.get(key(5)) == b"new"
    family.close()
    db.close()


WRITING = """
import os, sys
from rocksdict import Options, Rdict
db = Rdict(sys.argv[1], Options(raw_mode=True))
for index in range(2000):
    db.put(index.to_bytes(8, "big"), b"x" * 200)
    db.flush_wal(True)
os._exit(0)
"""


def with_damaged_log(path: Path) -> None:
    """Write synced records in a process that crashes, and flip a byte in the middle of its log."""
    assert run_python(WRITING, path).returncode == 0
    log = max(path.glob("*.log"), key=lambda file: file.stat().st_size)
    image = bytearray(log.read_bytes())
    image[len(image) // 2] ^= 0xFF
    log.write_bytes(image)


def test_rocksdict_closing_empties_the_log(tmp_path: Path) -> None:
    db = opened(tmp_path)
    db.put(b"k", b"v")
    db.close()
    assert [file.stat().st_size for file in tmp_path.glob("*.log")] == [0]


def test_rocksdict_tolerating_torn_tails_raises_on_damage_in_the_middle(tmp_path: Path) -> None:
    with_damaged_log(tmp_path)
    with pytest.raises(Exception, match="^Corruption:"):
        opened(tmp_path)


def test_rocksdict_its_default_recovery_drops_synced_records_without_a_word(tmp_path: Path) -> None:
    """Why the default is not used."""
    with_damaged_log(tmp_path)
    made = options()
    made.set_wal_recovery_mode(rocksdict.DBRecoveryMode.point_in_time())
    db = rocksdict.Rdict(str(tmp_path), made, {"log": options()})
    assert len(list(db.keys())) < 1100
    db.close()
