"""A file that is too short is told from one that only looks so."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import lmdb
import pytest

from storage_adapters import DamagedStore
from storage_adapters.lmdb_file import check_length

PAGE = 4096


def pages_promised(file: Path) -> int:
    """Return how many pages the newest meta page counts."""
    with file.open("rb") as stream:
        head = stream.read(2 * PAGE)
    metas = [struct.unpack_from("=QQ", head, start + 136) for start in (0, PAGE)]
    return int(max(metas, key=lambda meta: int(meta[1]))[0]) + 1


def build_short_file(folder: Path, seed: int) -> Path:
    """Append and drop a prefix in the same transactions: pages are taken, given back, counted, and never written."""
    dice = random.Random(seed)
    file = folder / "data.mdb"
    first, last = 1, 0
    with lmdb.open(str(folder), map_size=1 << 28, max_dbs=1, sync=False) as env:
        log = env.open_db(b"log")
        for _ in range(40):
            with env.begin(write=True) as txn:
                cursor = txn.cursor(db=log)
                count, size = dice.choice([1, 50]), dice.choice([256, 3000])
                cursor.putmulti([(key(index), b"x" * size) for index in range(last + 1, last + count + 1)], append=True)
                last += count
                cut = dice.randint(first, last)
                for index in range(first, cut + 1):
                    txn.delete(key(index), db=log)
                first = cut + 1
            if file.stat().st_size < pages_promised(file) * PAGE:
                return file
    raise AssertionError("LMDB wrote all pages that it counts")


def key(index: int) -> bytes:
    return index.to_bytes(8, "big")


@pytest.mark.parametrize("seed", [24, 25, 36, 33])
def test_a_whole_file_may_end_before_the_last_page_that_it_counts(tmp_path: Path, seed: int) -> None:
    file = build_short_file(tmp_path, seed)
    assert file.stat().st_size < pages_promised(file) * PAGE
    check_length(file)
    with lmdb.open(str(tmp_path), max_dbs=1, readonly=True) as env, env.begin() as txn:
        count = sum(1 for _ in txn.cursor(db=env.open_db(b"log", txn=txn)))
        assert count == txn.stat(env.open_db(b"log", txn=txn))["entries"]


def reachable_end(folder: Path, file: Path, size: int) -> bool:
    os.truncate(file, size)
    try:
        check_length(file)
    except DamagedStore:
        return False
    return True


def test_the_walk_notices_each_missing_page_of_small_and_of_big_values(tmp_path: Path) -> None:
    """The last pages hold a leaf, a branch or a part of a big value; whatever they hold, their loss is seen."""
    for size in (100, 1500, 3000, 9000):
        folder = tmp_path / str(size)
        with lmdb.open(str(folder), map_size=1 << 28, max_dbs=1, sync=False) as env:
            log = env.open_db(b"log")
            with env.begin(write=True) as txn:
                for index in range(300):
                    txn.put(key(index), b"x" * size, db=log, append=True)
        file = folder / "data.mdb"
        check_length(file)
        total = file.stat().st_size
        for missing in range(PAGE, total - 2 * PAGE, 7 * PAGE):
            assert not reachable_end(folder, file, total - missing), f"{missing} of {total} bytes missing"


def test_a_mangled_short_file_is_damaged_and_ends_the_walk(tmp_path: Path) -> None:
    file = build_short_file(tmp_path, 36)
    image = file.read_bytes()
    dice = random.Random(2)
    for _ in range(60):
        mangled = bytearray(image)
        for _ in range(20):
            mangled[dice.randrange(2 * PAGE, len(mangled))] = dice.randrange(256)
        start = dice.randrange(2, len(image) // PAGE) * PAGE
        mangled[start : start + PAGE] = dice.randbytes(PAGE)
        file.write_bytes(mangled)
        try:
            check_length(file)  # random bytes may have hit what is not in use
        except DamagedStore:
            continue


def test_a_tree_that_bites_its_tail_ends_the_walk(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path), map_size=1 << 28, max_dbs=1, sync=False) as env, env.begin(write=True) as txn:
        log = env.open_db(b"log", txn=txn)
        for index in range(3000):
            txn.put(key(index), b"x" * 500, db=log, append=True)
    file = tmp_path / "data.mdb"
    image = bytearray(file.read_bytes())
    branches = [at for at in range(2 * PAGE, len(image), PAGE) if struct.unpack_from("=H", image, at + 10)[0] & 1]
    root = branches[-1]
    lower = struct.unpack_from("=H", image, root + 12)[0]
    for slot in range(16, lower, 2):
        node = root + struct.unpack_from("=H", image, root + slot)[0]
        struct.pack_into("=H", image, node, branches[0] // PAGE)  # every child is the same page
    file.write_bytes(image[:-PAGE])
    with pytest.raises(DamagedStore):
        check_length(file)


@pytest.mark.parametrize("size", [1, 100, 4096, 4200])
def test_a_file_that_ends_within_its_meta_pages_is_damaged(tmp_path: Path, size: int) -> None:
    lmdb.open(str(tmp_path)).close()
    os.truncate(tmp_path / "data.mdb", size)
    with pytest.raises(DamagedStore):
        check_length(tmp_path / "data.mdb")


def test_a_file_that_is_not_there_or_empty_passes(tmp_path: Path) -> None:
    check_length(tmp_path / "data.mdb")
    (tmp_path / "data.mdb").touch()
    check_length(tmp_path / "data.mdb")


def test_a_file_of_something_else_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(DamagedStore, match="not one of LMDB"):
        check_length(tmp_path / "data.mdb")


def test_an_impossible_page_size_is_damaged(tmp_path: Path) -> None:
    lmdb.open(str(tmp_path)).close()
    with open(tmp_path / "data.mdb", "r+b") as file:
        file.seek(40)
        file.write(struct.pack("=I", 4095))
    with pytest.raises(DamagedStore, match="page size 4095"):
        check_length(tmp_path / "data.mdb")
