"""Stores that share one LMDB file: one flush for all, no harm to others, and no log in the wrong folder."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lmdb
import pytest

from storage_adapters import Batch, DamagedStore, SharedLMDB, StorageAdapter, StorageError, StoreInUse
from storage_adapters import shared_env as env
from storage_adapters.group_commit import Ticket
from tests.storage.adapters.support import MIB, ROOT, THREE_SHARED, entries, fill, run_python

PATIENCE = 30.0


def written(store: StorageAdapter, index: int) -> threading.Thread:
    thread = threading.Thread(target=store.write, args=(Batch({}, None, entries(index, index)),), daemon=True)
    thread.start()
    return thread


# -- one flush ---------------------------------------------------------------------------------------------------------


class Gate:
    """Stands before every commit of a file: counts them, and lets them pass one by one."""

    def __init__(self, file: Any) -> None:
        self.passed = 0
        self.waiting, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self._commit = file._env.commit
        file._env.commit = self

    def __call__(self, change: Any) -> None:
        self.waiting.release()
        assert self.go.acquire(timeout=PATIENCE)
        self.passed += 1
        self._commit(change)


def test_writes_of_many_stores_that_come_together_are_one_transaction(shared: SharedLMDB, tmp_path: Path) -> None:
    stores: list[Any] = [shared(tmp_path / f"s{number}") for number in range(9)]
    file = stores[0]._file
    gate = Gate(file)
    threads = [written(stores[0], 1)]
    assert gate.waiting.acquire(timeout=PATIENCE)
    threads += [written(store, 1) for store in stores[1:]]
    while len(file._group._queue) < 8:
        threading.Event().wait(0.001)
    assert [store.bounds() for store in stores] == [(1, 0)] * 9
    gate.go.release(2)
    for thread in threads:
        thread.join(PATIENCE)
    assert gate.passed == 2
    assert [(store.bounds(), store.read(1, 9, MIB)) for store in stores] == [((1, 1), entries(1, 1))] * 9
    del file._env.commit
    for store in stores:
        store.close()


def test_a_killed_process_loses_nothing_that_any_of_its_stores_was_told_is_durable(
    shared: SharedLMDB, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", THREE_SHARED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(150)]
        process.send_signal(signal.SIGKILL)
        said += process.stdout.readlines()
    told = dict(line.split() for line in said if line.endswith("\n"))
    assert set(told) == {"a", "b", "c"}
    for name, index in told.items():
        with shared(tmp_path / name) as store:
            last = store.bounds()[1]
            assert last in (int(index), int(index) + 1)
            assert store.read(1, last, 1 << 30) == entries(1, last)
            assert store.meta("last") == b"%d" % last


# -- what hurts whom ---------------------------------------------------------------------------------------------------


def test_a_batch_that_breaks_a_rule_is_refused_before_it_queues(pair: tuple[Any, Any]) -> None:
    a, b = pair
    with pytest.raises(ValueError, match="go on at index 1"):
        a.write(Batch({}, None, entries(2, 2)))
    b.write(Batch({}, None, entries(1, 1)))
    a.write(Batch({}, None, entries(1, 1)))
    assert (a.bounds(), b.bounds()) == ((1, 1), (1, 1))


def test_what_is_acknowledged_survives_a_failing_batch_of_another_store(
    shared: SharedLMDB, tmp_path: Path, pair: tuple[Any, Any]
) -> None:
    """Both batches are in one transaction, which is given up and made again without the one that cannot be made."""
    a, b = pair
    fill(a, 3)
    fill(b, 3)
    b._bounds = (1, 1)  # as if its log did not know of two entries that are there
    gate = Gate(a._file)
    first = threading.Thread(target=a.compact, args=(1,), daemon=True)
    first.start()
    assert gate.waiting.acquire(timeout=PATIENCE)
    errors: list[BaseException] = []

    def fail() -> None:
        try:
            b.write(Batch({"lost": b"1"}, None, entries(2, 2)))
        except StorageError as error:
            errors.append(error)

    failing = threading.Thread(target=fail, daemon=True)
    failing.start()
    other = threading.Thread(
        target=lambda: a._file.commit(lambda txn: txn.put(b"x", b"y", db=a._meta)), daemon=True
    )  # a third change, of A while A itself compacts
    other.start()
    while len(a._file._group._queue) < 2:
        threading.Event().wait(0.001)
    gate.go.release(9)
    for thread in (first, failing, other):
        thread.join(PATIENCE)
    del a._file._env.commit
    assert [type(error) for error in errors] == [DamagedStore]
    assert (a.meta("x"), b.meta("lost")) == (b"y", None)
    a.write(Batch({}, None, entries(4, 4)))
    with pytest.raises(StorageError, match="failed before"):
        b.write(Batch())
    a.close()
    b.close()
    with shared(tmp_path / "a") as a, shared(tmp_path / "b") as b:
        assert (a.read(1, 9, MIB), b.read(1, 9, MIB)) == (entries(2, 4), entries(1, 3))


def test_an_error_of_the_disk_fails_every_store_until_one_is_opened_again(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes the kernel refuse to extend the file: a real error of a real write."""
    program = """
import os, resource, sys
from storage_adapters import Batch, SharedLMDB, StorageError
shared = SharedLMDB(sys.argv[1] + "/shared")
a, b, c = (shared(sys.argv[1] + "/" + name) for name in "abc")
for store in (a, b, c):
    store.write(Batch({"k": b"v"}, None, [(1, b"x" * 100_000)]))
limit = resource.RLIM_INFINITY
resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(sys.argv[1] + "/shared/data.mdb"), limit))
def said(call):
    try:
        return call()
    except StorageError as error:
        return type(error).__name__, error.errno is not None
print(said(lambda: a.write(Batch({"k": b"w"}, None, [(2, b"x" * 9_000_000)]))))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
print(said(lambda: b.write(Batch({"k": b"w"}))), b.meta("k"), b.stats()["failed"], c.meta("k"))
a.close()
a = shared(sys.argv[1] + "/a")
print(a.bounds(), a.meta("k"), a.write(Batch({"k": b"w"}, None, [(2, b"y")])))
print(said(lambda: c.meta("k")), said(lambda: c.write(Batch({"k": b"w"}))))
b.close(), c.close()
b, c = shared(sys.argv[1] + "/b"), shared(sys.argv[1] + "/c")
for store in (a, b, c):
    store.write(Batch({"k": b"z"}))
    print(store.bounds(), store.meta("k"))
    store.close()
"""
    done = run_python(program, tmp_path)
    assert done.stdout.splitlines() == [
        "('StorageError', True)",
        "('StorageError', True) b'v' True b'v'",
        "(1, 1) b'v' None",
        "('StorageError', False) ('StorageError', True)",
        "(1, 2) b'z'",
        "(1, 1) b'z'",
        "(1, 1) b'z'",
    ], done.stderr


def test_an_interrupted_commit_fails_all_stores_and_reaches_the_thread_that_led(pair: tuple[Any, Any]) -> None:
    a, b = pair
    fill(a, 1)

    def interrupted(change: Any) -> None:
        raise KeyboardInterrupt

    a._file._env.commit = interrupted
    with pytest.raises(KeyboardInterrupt):
        fill(a, 1)
    del a._file._env.commit
    for store in (a, b):
        with pytest.raises(StorageError, match="interrupted"):
            fill(store, 1)
        assert store.read(1, 9, MIB) == (entries(1, 1) if store is a else [])


def test_the_errors_of_a_failed_transaction_are_one_for_each_who_waits(pair: tuple[Any, Any]) -> None:
    """The same exception in two threads would mix up their tracebacks."""
    file = pair[0]._file
    file.failure = DamagedStore("a page is gone")
    tickets: Sequence[Ticket[Any]] = [Ticket(None), Ticket(None)]
    file._perform(tickets)
    assert [type(ticket.error) for ticket in tickets] == [DamagedStore, DamagedStore]
    assert tickets[0].error is not tickets[1].error


def test_too_many_stores_are_refused_and_the_others_go_on(tmp_path: Path) -> None:
    shared = SharedLMDB(tmp_path / "shared", max_stores=2)
    with shared(tmp_path / "a") as a, shared(tmp_path / "b"):
        with pytest.raises(StorageError, match="raise max_stores"):
            shared(tmp_path / "c")
        fill(a, 10)
    with pytest.raises(ValueError, match="at least 1"):
        SharedLMDB(tmp_path / "shared", max_stores=0)


def test_a_full_map_grows_under_all_of_them(tmp_path: Path) -> None:
    shared = SharedLMDB(tmp_path / "shared", map_size=1 << 16)
    with shared(tmp_path / "a") as a, shared(tmp_path / "b") as b:
        fill(b, 100)
        a.write(Batch({}, None, [(1, b"x" * 20 * MIB)]))
        assert a.stats()["map_size"] >= 20 * MIB
        assert b.read(1, 100, MIB) == entries(1, 100)


# -- one file, one process ---------------------------------------------------------------------------------------------


def test_the_file_is_open_from_the_first_store_to_the_last(shared: SharedLMDB, tmp_path: Path) -> None:
    a, b = shared(tmp_path / "a"), SharedLMDB(str(tmp_path / "x" / ".." / "shared"))(tmp_path / "b")
    assert a.stats()["stores"] == 2
    a.close()
    assert env.is_open(tmp_path / "shared")
    fill(b, 10)
    b.close()
    b.close()
    assert not env.is_open(tmp_path / "shared")
    with lmdb.open(str(tmp_path / "shared"), max_dbs=8, readonly=True) as opened, opened.begin() as txn:
        assert txn.stat()["entries"] == 6


def test_another_process_is_refused_and_the_error_names_the_one_that_has_the_file(tmp_path: Path) -> None:
    program = """
import sys, storage_adapters
store = storage_adapters.SharedLMDB(sys.argv[1] + "/shared")(sys.argv[1] + "/a")
print("open", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        for name in ("a", "b"):
            with pytest.raises(StoreInUse) as caught:
                SharedLMDB(tmp_path / "shared")(tmp_path / name)
            assert caught.value.pid == process.pid
        process.kill()
    SharedLMDB(tmp_path / "shared")(tmp_path / "a").close()


def test_an_opening_that_fails_leaves_nothing_open(shared: SharedLMDB, tmp_path: Path) -> None:
    shared(tmp_path / "a").close()
    (tmp_path / "a" / "FORMAT").write_text("shared-lmdb 1\n0123456789abcdef\n../shared\n/nowhere\n")
    with pytest.raises(DamagedStore, match="0123456789abcdef is not in"):
        shared(tmp_path / "a")
    assert not env.is_open(tmp_path / "shared")
    (tmp_path / "a" / "FORMAT").write_text("shared-lmdb 1\n")
    with pytest.raises(DamagedStore, match="does not say which log"):
        shared(tmp_path / "a")


def test_what_the_system_refuses_to_a_check_or_a_sweep_is_an_error_of_the_storage(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        SharedLMDB(tmp_path / "missing").check()
    assert caught.value.errno == errno.ENOENT
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as caught:
        SharedLMDB(tmp_path / "file").sweep()
    assert caught.value.errno is not None
