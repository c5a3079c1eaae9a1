"""Whose log it is that lies in a shared LMDB file, whatever is moved, copied, emptied or mangled."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from storage_adapters import DamagedStore, LMDBAdapter, SharedLMDB, StorageError, StoreInUse, shared_lmdb
from storage_adapters import lmdb_left as left
from storage_adapters.folder import engine_of
from tests.storage.adapters.support import MIB, THREE_SHARED, entries, fill, run_python

# -- whose log it is ---------------------------------------------------------------------------------------------------


def test_a_folder_that_was_emptied_is_a_new_store_and_the_old_log_is_swept_away(
    shared: SharedLMDB, tmp_path: Path
) -> None:
    with shared(tmp_path / "a") as a, shared(tmp_path / "kept") as kept:
        fill(a, 1000)
        fill(kept, 10)
        a.close()
        shutil.rmtree(tmp_path / "a")
        with shared(tmp_path / "a") as a:
            assert (a.bounds(), a.meta("last")) == ((1, 0), None)
            fill(a, 5)
            assert shared.sweep() == 1
            assert shared.sweep() == 0
            assert (a.bounds(), kept.bounds()) == ((1, 5), (1, 10))
    os.rename(tmp_path / "kept", tmp_path / "moved")
    assert shared.sweep() == 0
    shutil.rmtree(tmp_path / "moved")
    assert shared.sweep() == 1
    with shared(tmp_path / "a") as a:
        assert a.bounds() == (1, 5)


def test_a_log_whose_folder_is_opened_far_away_while_a_sweep_looks_for_it_is_not_dropped(
    shared: SharedLMDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its trees would be those of the next store that is made, which it would read and write."""
    with shared(tmp_path / "a") as a, shared(tmp_path / "kept"):
        fill(a, 10)
        a.close()
        (tmp_path / "far").mkdir()
        os.rename(tmp_path / "a", tmp_path / "far" / "a")
        looked, opened = shared_lmdb._has_home, []

        def look(store: str, path: Path) -> bool:
            found = looked(store, path)
            if not found:
                opened.append(shared(tmp_path / "far" / "a"))
            return found

        monkeypatch.setattr(shared_lmdb, "_has_home", look)
        assert shared.sweep() == 0
        with opened[0] as a, shared(tmp_path / "next") as following:
            fill(a, 5)
            assert (a.bounds(), a.read(1, 15, MIB)) == ((1, 15), entries(1, 15))
            assert (following.bounds(), following.read(1, 15, MIB)) == ((1, 0), [])


def test_a_log_is_not_swept_away_because_the_mark_of_its_folder_is_damaged(shared: SharedLMDB, tmp_path: Path) -> None:
    with shared(tmp_path / "a") as a:
        fill(a, 10)
    mark = tmp_path / "a" / "FORMAT"
    whole = mark.read_bytes()
    for damaged in (b"shared-lmdb 1\n", b"shared-lmdb 1\n\xff\n", b"", whole[1:]):
        mark.write_bytes(damaged)
        assert shared.sweep() == 0
    mark.write_bytes(whole)
    with shared(tmp_path / "a") as a:
        assert a.bounds() == (1, 10)


def test_a_moved_folder_keeps_its_log_and_a_copy_is_refused_while_the_original_is_there(
    shared: SharedLMDB, tmp_path: Path
) -> None:
    with shared(tmp_path / "a") as a:
        fill(a, 10)
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    with pytest.raises(StorageError, match=f"copy of {tmp_path / 'a'}"):
        shared(tmp_path / "copy")
    os.rename(tmp_path / "a", tmp_path / "moved")
    with shared(tmp_path / "moved") as a:
        assert a.bounds() == (1, 10)
        with pytest.raises(StoreInUse):
            shared(tmp_path / "copy")
    with pytest.raises(StorageError, match=f"copy of {tmp_path / 'moved'}"):
        shared(tmp_path / "copy")


def test_everything_can_be_moved_or_copied_together(shared: SharedLMDB, tmp_path: Path) -> None:
    with shared(tmp_path / "a") as a:
        fill(a, 10)
    (tmp_path / "new").mkdir()
    for name in ("a", "shared"):
        shutil.copytree(tmp_path / name, tmp_path / "new" / name)
    with SharedLMDB(tmp_path / "new" / "shared")(tmp_path / "new" / "a") as copy:
        fill(copy, 10)
    with shared(tmp_path / "a") as a:
        assert a.bounds() == (1, 10)


def test_a_copy_of_the_shared_file_is_refused_as_long_as_the_original_is_there(
    shared: SharedLMDB, tmp_path: Path
) -> None:
    """Else each of the two would forget what was promised in the other."""
    with shared(tmp_path / "a") as a:
        fill(a, 10)
    shutil.copytree(tmp_path / "shared", tmp_path / "copy")
    with pytest.raises(StorageError, match=f"lies in {tmp_path / 'shared'}"):
        SharedLMDB(tmp_path / "copy")(tmp_path / "a")
    shutil.rmtree(tmp_path / "shared")
    with SharedLMDB(tmp_path / "copy")(tmp_path / "a") as a:
        assert a.bounds() == (1, 10)


def test_a_plain_lmdb_store_that_lost_its_mark_is_opened_as_that(shared: SharedLMDB, tmp_path: Path) -> None:
    with LMDBAdapter(tmp_path / "a") as a:
        fill(a, 10)
    (tmp_path / "a" / "FORMAT").unlink()
    with shared(tmp_path / "a") as opened:
        assert (opened.bounds(), engine_of(tmp_path / "a")) == ((1, 10), "lmdb")


@pytest.mark.parametrize("rest", ["nothing", "an older file", "a new file"])
def test_a_folder_whose_log_is_gone_is_damaged_and_not_new(rest: str, shared: SharedLMDB, tmp_path: Path) -> None:
    shared(tmp_path / "other").close()
    shutil.copytree(tmp_path / "shared", tmp_path / "older")
    with shared(tmp_path / "a") as a:
        fill(a, 10)
    shutil.rmtree(tmp_path / "shared")
    if rest == "an older file":
        os.rename(tmp_path / "older", tmp_path / "shared")
    elif rest == "a new file":
        shared(tmp_path / "b").close()
    with pytest.raises(DamagedStore, match="lost its data files|is not in"):
        shared(tmp_path / "a")


def test_a_destroyed_store_takes_its_log_with_it_and_no_other(pair: tuple[Any, Any], tmp_path: Path) -> None:
    a, b = pair
    fill(a, 100)
    fill(b, 100)
    key = a._id
    a.destroy()
    assert key not in b._file.folders()
    assert not (tmp_path / "a").exists()
    b.close()
    b.destroy()
    assert not (tmp_path / "b").exists()


def test_what_is_destroyed_is_the_store_in_the_folder_and_not_one_that_was_moved_out_of_it(
    shared: SharedLMDB, tmp_path: Path
) -> None:
    with shared(tmp_path / "a") as old:
        fill(old, 10)
    os.rename(tmp_path / "a", tmp_path / "moved")
    shared(tmp_path / "a").close()
    old.destroy()
    assert not (tmp_path / "a").exists()
    with shared(tmp_path / "moved") as moved:
        assert (moved.bounds(), list(moved._file.folders().values())) == ((1, 10), ["../moved"])


def test_the_shared_folder_is_no_store_and_a_store_is_no_shared_folder(shared: SharedLMDB, tmp_path: Path) -> None:
    with shared(tmp_path / "a"), pytest.raises(StorageError):
        shared(tmp_path / "shared")
    with pytest.raises(StorageError, match="shared-lmdb 1"):
        SharedLMDB(tmp_path / "a")(tmp_path / "b")


def test_a_backup_is_a_plain_lmdb_store_which_the_factory_opens_as_that(
    pair: tuple[Any, Any], shared: SharedLMDB, tmp_path: Path
) -> None:
    a, b = pair
    fill(a, 3000)
    fill(b, 10)
    a.compact(1000)
    a.backup(tmp_path / "image")
    assert engine_of(tmp_path / "image") == "lmdb"
    assert sorted(file.name for file in (tmp_path / "image").iterdir()) == ["FORMAT", "data.mdb"]
    for factory in (LMDBAdapter, shared):
        with factory(tmp_path / "image") as image:
            assert (image.bounds(), image.meta("last")) == (a.bounds(), a.meta("last"))
            assert image.read(1, 3000, 1 << 30) == entries(1001, 3000)


# -- files that kill ---------------------------------------------------------------------------------------------------


def test_a_file_cut_short_is_damaged_and_kills_nobody(tmp_path: Path, shared: SharedLMDB) -> None:
    with shared(tmp_path / "a") as a, shared(tmp_path / "b"):
        fill(a, 3000)
    program = """
import os, sys, storage_adapters
shared = storage_adapters.SharedLMDB(sys.argv[1] + "/shared")
for length in sys.argv[2:]:
    os.truncate(sys.argv[1] + "/shared/data.mdb", int(length))
    for name in ("a", "b"):
        try:
            shared(sys.argv[1] + "/" + name)
        except storage_adapters.DamagedStore:
            print("damaged")
"""
    size = (tmp_path / "shared" / "data.mdb").stat().st_size
    done = run_python(program, tmp_path, size // 2, 8192, 100)
    assert (done.returncode, done.stdout.split()) == (0, ["damaged"] * 6), done.stderr


def test_a_mangled_file_is_damaged_and_kills_only_the_child(tmp_path: Path, shared: SharedLMDB) -> None:
    with shared(tmp_path / "a") as a:
        fill(a, 3000)
    data = tmp_path / "shared" / "data.mdb"
    mangled = bytearray(data.read_bytes())
    for page in range(2, len(mangled) // 4096):
        mangled[page * 4096 + 10 : page * 4096 + 60] = b"\xee" * 50
    data.write_bytes(mangled)
    done = run_python(
        "import sys, storage_adapters; storage_adapters.SharedLMDB(sys.argv[1] + '/shared')(sys.argv[1] + '/a')",
        tmp_path,
    )
    assert done.returncode == 1
    assert "DamagedStore: the shared store at" in done.stderr


def test_a_file_that_is_as_it_was_left_is_not_read_by_a_child(
    tmp_path: Path, shared: SharedLMDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def ask(script: str, path: Path) -> dict[str, Any]:
        asked.append(path)
        return {"problem": None}

    monkeypatch.setattr(left.reading_child, "ask", ask)
    done = run_python(
        THREE_SHARED.replace("1 << 40", "30").replace("for name in (", "import os, atexit\nfor name in ("), tmp_path
    )
    assert done.returncode == 0, done.stderr
    for _ in range(2):
        with shared(tmp_path / "a") as a, shared(tmp_path / "b"):
            fill(a, 10)
    assert asked == []
    os.utime(tmp_path / "shared" / "data.mdb")
    with shared(tmp_path / "a"), shared(tmp_path / "b"):
        assert asked == [tmp_path / "shared"]
    shared.check()
    assert len(asked) == 2


def test_a_child_that_cannot_read_proves_nothing(
    tmp_path: Path, shared: SharedLMDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared(tmp_path / "a").close()
    (tmp_path / "shared" / "LEFT").unlink()
    (tmp_path / "broken.py").write_text("raise ImportError('no lmdb here')")
    monkeypatch.setattr(left.lmdb_child, "__file__", str(tmp_path / "broken.py"))
    with pytest.raises(StorageError, match="cannot be checked") as caught:
        shared(tmp_path / "a")
    assert not isinstance(caught.value, DamagedStore)
