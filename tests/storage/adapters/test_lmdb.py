"""LMDB: a map that grows, syncs that happen, damage that is noticed, and damage that is not."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import lmdb
import pytest

from storage_adapters import Batch, DamagedStore, LMDBAdapter, StorageError
from tests.storage.adapters.support import MIB, entries, fill, run_python


def test_a_full_map_grows_until_the_batch_fits(tmp_path: Path) -> None:
    with LMDBAdapter(tmp_path / "s", map_size=1 << 16) as store:
        assert store.stats()["map_size"] == 1 << 16
        store.write(Batch({}, None, [(1, b"x" * 20 * MIB)]))
        assert store.stats()["map_size"] >= 20 * MIB
        fill(store, 1000)
        assert store.read(2, 1001, 1 << 40) == entries(2, 1001)


def test_a_store_larger_than_its_first_map_opens_and_grows_on(tmp_path: Path) -> None:
    for _ in range(3):
        with LMDBAdapter(tmp_path / "s", map_size=1 << 16) as store:
            fill(store, 2000)
    with LMDBAdapter(tmp_path / "s", map_size=1 << 16) as store:
        store.compact(5990)
        assert store.read(1, 6000, 1 << 40) == entries(5991, 6000)


def test_the_map_moves_only_when_no_reader_is_inside(tmp_path: Path) -> None:
    store = LMDBAdapter(tmp_path / "s", map_size=1 << 16)
    fill(store, 100)
    inside, leave = threading.Event(), threading.Event()

    def read_slowly() -> None:
        with store._reading:
            inside.set()
            leave.wait(30)

    reader = threading.Thread(target=read_slowly)
    writer = threading.Thread(target=lambda: store.write(Batch({}, None, [(101, b"x" * MIB)])))
    reader.start()
    assert inside.wait(30)
    writer.start()
    writer.join(0.2)
    assert writer.is_alive()
    leave.set()
    writer.join(30)
    assert store.bounds() == (1, 101)
    store.close()


def test_a_store_cut_short_at_any_page_is_damaged_and_kills_nobody(tmp_path: Path) -> None:
    with LMDBAdapter(tmp_path / "s") as store:
        fill(store, 3000)
    whole = (tmp_path / "s" / "data.mdb").read_bytes()
    program = """
import sys, storage_adapters
for length in sys.argv[2:]:
    with open(sys.argv[1] + "/data.mdb", "r+b") as file:
        file.truncate(int(length))
    try:
        storage_adapters.LMDBAdapter(sys.argv[1]).close()
        print(length, "opened")
    except storage_adapters.DamagedStore:
        print("damaged")
"""
    lengths = [len(whole) - 4096, len(whole) - 5000, len(whole) // 2, 5 * 4096, 8192, 8191, 4096, 100, 1]
    done = run_python(program, tmp_path / "s", *lengths)
    assert (done.returncode, done.stdout.split()) == (0, ["damaged"] * len(lengths)), done.stderr


def test_without_the_check_a_store_cut_short_kills_the_process(tmp_path: Path) -> None:
    """What the check is for; when this fails, LMDB has learned to notice and the check may go."""
    with LMDBAdapter(tmp_path / "s") as store:
        fill(store, 3000)
    program = """
import os, sys, storage_adapters
from storage_adapters import lmdb_file
lmdb_file.check_length = lambda file: None
os.truncate(sys.argv[1] + "/data.mdb", 5 * 4096)
storage_adapters.LMDBAdapter(sys.argv[1]).read(1, 3000, 1 << 30)
"""
    assert run_python(program, tmp_path / "s").returncode < 0


@pytest.mark.parametrize("page", [0, 1])
def test_a_mangled_meta_page_is_damage(tmp_path: Path, page: int) -> None:
    LMDBAdapter(tmp_path / "s").close()
    with open(tmp_path / "s" / "data.mdb", "r+b") as file:
        file.seek(page * 4096 + 16)
        file.write(b"\0\0\0\0")
    with pytest.raises(DamagedStore, match="meta page"):
        LMDBAdapter(tmp_path / "s")


def test_a_flipped_bit_in_a_value_is_not_noticed_here(tmp_path: Path) -> None:
    """LMDB has no checksums: whoever needs to know puts one into the value."""
    with LMDBAdapter(tmp_path / "s") as store:
        store.write(Batch({}, None, [(1, b"A" * 100)]))
    file = tmp_path / "s" / "data.mdb"
    image = bytearray(file.read_bytes())
    image[image.index(b"A" * 100) + 50] = ord("B")
    file.write_bytes(image)
    with LMDBAdapter(tmp_path / "s") as store:
        assert store.read(1, 1, 1000) == [(1, b"A" * 50 + b"B" + b"A" * 49)]


def test_a_flipped_bit_in_the_first_or_last_key_is_noticed(tmp_path: Path) -> None:
    with LMDBAdapter(tmp_path / "s") as store:
        store.write(Batch({}, None, [(1, b"A" * 100), (2, b"B" * 100)]))
    file = tmp_path / "s" / "data.mdb"
    image = bytearray(file.read_bytes())
    image[image.index(b"B" * 100) - 1] = 9
    file.write_bytes(image)
    with pytest.raises(DamagedStore, match="should hold 1 to 2"):
        LMDBAdapter(tmp_path / "s")


def test_a_page_of_zeros_is_damage(tmp_path: Path) -> None:
    """What a lost write leaves behind, where LMDB can tell: in the child, for it might also die of it."""
    with LMDBAdapter(tmp_path / "s") as store:
        fill(store, 3000)
    program = """
import sys, storage_adapters
file = sys.argv[1] + "/data.mdb"
image = bytearray(open(file, "rb").read())
image[2 * 4096:] = bytes(len(image) - 2 * 4096)
open(file, "wb").write(image)
try:
    storage_adapters.LMDBAdapter(sys.argv[1]).read(1, 3000, 1 << 30)
except storage_adapters.DamagedStore as error:
    print("damaged")
"""
    done = run_python(program, tmp_path / "s")
    assert (done.returncode, done.stdout) == (0, "damaged\n"), done.stderr


def test_an_interrupted_change_poisons_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between the commit and the bounds would otherwise leave bounds that lie."""
    store = LMDBAdapter(tmp_path / "s")
    fill(store, 10)
    write = store._engine_write

    def interrupted(batch: Batch, last: int) -> None:
        write(batch, last)
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "_engine_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fill(store, 1)
    monkeypatch.undo()
    with pytest.raises(StorageError, match="interrupted"):
        fill(store, 1)
    store.close()
    with LMDBAdapter(tmp_path / "s") as store:
        assert store.bounds() == (1, 11)


def test_a_write_that_the_system_refuses_poisons_the_store(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes the kernel refuse to extend the file: a real error of a real write."""
    program = """
import os, resource, sys
from storage_adapters import Batch, LMDBAdapter, StorageError
store = LMDBAdapter(sys.argv[1])
store.write(Batch({}, None, [(1, b"x" * 100_000)]))
size = os.path.getsize(sys.argv[1] + "/data.mdb")
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
for index in (2, 2):
    try:
        store.write(Batch({"a": b"b"}, None, [(2, b"x" * 1_000_000)]))
        print("written")
    except StorageError as error:
        print(error.errno is not None)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(store.bounds(), len(store.read(1, 9, 1 << 30)), store.meta("a"))
store.close()
with LMDBAdapter(sys.argv[1]) as store:
    print(store.bounds(), store.meta("a"))
"""
    done = run_python(program, tmp_path / "s")
    assert done.stdout.splitlines() == ["True", "True", "(1, 1) 1 None", "(1, 1) None"], done.stderr


def test_a_bad_map_size_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        LMDBAdapter(tmp_path / "s", map_size=1 << 62)
    LMDBAdapter(tmp_path / "s").close()


def test_a_store_that_lmdb_finds_open_by_other_means_is_a_storage_error(tmp_path: Path) -> None:
    os.mkdir(tmp_path / "s")
    with lmdb.open(str(tmp_path / "s")), pytest.raises(StorageError, match="already open in this process"):
        LMDBAdapter(tmp_path / "s")


def test_an_owner_who_is_interrupted_while_he_waits_for_readers_keeps_nobody_out() -> None:
    """With a real Ctrl-C, which reaches the main thread while it waits."""
    program = """
import signal, threading
from storage_adapters.disk import ReadGuard

guard, main = ReadGuard(), threading.main_thread().ident
with guard:
    threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT)).start()
    try:
        with guard.exclusive():
            print("never")
    except KeyboardInterrupt:
        print("interrupted")
reader = threading.Thread(target=lambda: guard.__enter__(), daemon=True)
reader.start()
reader.join(10)
print(reader.is_alive())
"""
    done = run_python(program)
    assert done.stdout.split() == ["interrupted", "False"], done.stderr
