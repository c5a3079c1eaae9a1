"""One opener per store, in this process and in all others, and no lock outlives its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from storage_adapters import LMDBAdapter, StorageAdapter, StorageError, StoreInUse
from storage_adapters.lock import StoreLock
from tests.storage.adapters.support import ROOT, fill

HOLD = """
import sys, storage_adapters
store = getattr(storage_adapters, sys.argv[1])(sys.argv[2])
print("open", flush=True)
sys.stdin.read()
"""


def holder(adapter: type, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, adapter.__name__, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def test_the_error_names_the_process_that_holds_the_store(disk_adapter: type[StorageAdapter], tmp_path: Path) -> None:
    with holder(disk_adapter, tmp_path / "s") as process:
        with pytest.raises(StoreInUse, match=f"{tmp_path / 's'} is in use by process {process.pid}") as caught:
            disk_adapter(tmp_path / "s")  # type: ignore[call-arg]
        assert caught.value.pid == process.pid
        assert isinstance(caught.value, StorageError)
        process.kill()


def test_a_killed_owner_leaves_no_lock(disk_adapter: type[StorageAdapter], tmp_path: Path) -> None:
    with holder(disk_adapter, tmp_path / "s") as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert (tmp_path / "s" / "LOCK").read_text() == f"{process.pid}\n"
        with disk_adapter(tmp_path / "s") as store:  # type: ignore[call-arg]
            assert store.bounds() == (1, 0)


def test_a_killed_owner_leaves_no_lock_with_a_forked_child_of_its(tmp_path: Path) -> None:
    program = """
import os, sys, time, storage_adapters
store = storage_adapters.LMDBAdapter(sys.argv[1])
child = os.fork()
if not child:
    print("forked", os.getpid(), flush=True)
    sys.stdin.read()
    os._exit(0)
os.waitpid(child, 0)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "s")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline().split()[1])
        with pytest.raises(StoreInUse):
            LMDBAdapter(tmp_path / "s")
        os.kill(process.pid, signal.SIGKILL)
        os.waitpid(process.pid, 0)
        process.returncode = -signal.SIGKILL
        os.kill(child, 0)  # the child is alive, and holds nothing
        LMDBAdapter(tmp_path / "s").close()


def test_a_lock_file_that_was_left_behind_locks_nobody_out(tmp_path: Path) -> None:
    (tmp_path / "LOCK").write_text("1\n")
    lock = StoreLock(tmp_path)
    assert (tmp_path / "LOCK").read_text() == f"{os.getpid()}\n"
    lock.release()


def test_a_lock_file_without_a_process_id_is_named_unknown(tmp_path: Path) -> None:
    lock = StoreLock(tmp_path)
    (tmp_path / "LOCK").write_text("")
    with pytest.raises(StoreInUse, match="unknown") as caught:
        StoreLock(tmp_path)
    assert caught.value.pid is None
    lock.release()


def test_release_is_idempotent_and_gives_the_file_to_the_next(tmp_path: Path) -> None:
    first = StoreLock(tmp_path)
    first.release()
    second = StoreLock(tmp_path)
    first.release()
    with pytest.raises(StoreInUse):
        StoreLock(tmp_path)
    second.release(remove=True)
    assert not (tmp_path / "LOCK").exists()


def test_a_lock_on_a_removed_file_is_not_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interleaving: B opens the file, A removes it and unlocks, B locks a file that nobody else can find."""
    import fcntl

    a, flock = StoreLock(tmp_path), fcntl.flock

    def let_a_go_first(descriptor: int, operation: int) -> None:
        a.release(remove=True)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", let_a_go_first)
    b = StoreLock(tmp_path)
    monkeypatch.undo()
    assert (tmp_path / "LOCK").exists()
    with pytest.raises(StoreInUse):
        StoreLock(tmp_path)
    b.release()


def test_a_failed_opening_lets_go_of_the_lock(disk_adapter: type[StorageAdapter], tmp_path: Path) -> None:
    with disk_adapter(tmp_path / "s") as store:  # type: ignore[call-arg]
        fill(store, 10)
    (tmp_path / "s" / "FORMAT").write_text("tape 1\n")
    for _ in range(2):
        with pytest.raises(StorageError, match="tape") as caught:
            disk_adapter(tmp_path / "s")  # type: ignore[call-arg]
        assert not isinstance(caught.value, StoreInUse)


def test_a_child_that_exits_normally_after_a_fork_crashes_nothing(disk_adapter: type, tmp_path: Path) -> None:
    program = """
import os, sys, storage_adapters
store = getattr(storage_adapters, sys.argv[1])(sys.argv[2])
store.write(storage_adapters.Batch({}, None, [(1, b"x")]))
child = os.fork()
if not child:
    store.close()
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
store.write(storage_adapters.Batch({}, None, [(2, b"y")]))
print(store.bounds())
store.close()
"""
    from tests.storage.adapters.support import run_python

    done = run_python(program, disk_adapter.__name__, tmp_path / "s")
    assert (done.returncode, done.stdout) == (0, "(1, 2)\n"), done.stderr
