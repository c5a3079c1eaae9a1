"""Checks for adapters that say they are durable, as far as one process can tell: opening again, locks, backups."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import warnings
from typing import NoReturn

from storage_adapters.conformance.harness import Lab, check, contents, expect, numbered, refused
from storage_adapters.interface import Batch, StorageAdapter, StorageError, StoreInUse


@check("a store that is opened again has its entries, bounds and meta", durable=True)
def _reopen(lab: Lab) -> None:
    store = lab.filled(10)
    store.write(Batch({"new": b""}, 8, numbered(8, 9, "new")))
    store = lab.reopen(store)
    wanted = ((1, 9), numbered(1, 7) + numbered(8, 9, "new"), {"ballot": b"7", "new": b""})
    expect(contents(store, "ballot", "new"), wanted, "the store")
    store.write(Batch({}, None, numbered(10, 10)))
    expect(lab.reopen(store).bounds(), (1, 10), "bounds after going on")


@check("a compacted store that is opened again begins where it did", durable=True)
def _reopen_compacted(lab: Lab) -> None:
    store = lab.filled(10)
    store.compact(4)
    store = lab.reopen(store)
    expect(contents(store, "ballot"), ((5, 10), numbered(5, 10), {"ballot": b"7"}), "the store")
    with refused(ValueError, what="a truncation below the first index"):
        store.write(Batch(truncate_from=4))


@check("an empty log that is opened again begins where it did", durable=True)
def _reopen_empty(lab: Lab) -> None:
    store = lab.filled(3)
    store.compact(1000)
    store = lab.reopen(store)
    expect(contents(store, "ballot"), ((1001, 1000), [], {"ballot": b"7"}), "after a compaction beyond the end")
    store.write(Batch({}, None, numbered(1001, 1005)))
    store.write(Batch(truncate_from=1001))
    expect(contents(lab.reopen(store))[:2], ((1001, 1000), []), "after a truncation of everything")
    expect(lab.reopen(lab.open("new"), "new").bounds(), (1, 0), "a new store that nothing was written to")


@check("big values and batches are there when the store is opened again", durable=True)
def _reopen_big(lab: Lab) -> None:
    store = lab.open()
    store.write(Batch({}, None, [*numbered(1, 10_000), (10_001, b"\xa5" * (5 << 20))]))
    found = lab.reopen(store).read(1, 10_001, 1 << 40)
    expect(found[:-1] == numbered(1, 10_000), True, "the small entries are the same")
    expect(found[-1] == (10_001, b"\xa5" * (5 << 20)), True, "the big one is the same")


@check("an open store is refused to a second opening in the same process, which names the process", durable=True)
def _locked(lab: Lab) -> None:
    store = lab.filled(3)
    for _ in range(2):
        with refused(StoreInUse, what="a second opening") as caught:
            lab.open()
        expect([getattr(error, "pid", None) for error in caught], [os.getpid()], "the process named")
        expect(str(os.getpid()) in str(caught[0]) and str(lab.path()) in str(caught[0]), True, "pid and path are named")
    store.write(Batch({}, None, numbered(4, 4)))
    expect(contents(store)[:2], ((1, 4), numbered(1, 4)), "the first opening afterwards")


@check("a closed store can be opened at once", durable=True)
def _unlocked(lab: Lab) -> None:
    store = lab.filled(3)
    for _ in range(5):
        store = lab.reopen(store)
    expect(store.bounds(), (1, 3), "bounds")


@check("a path that cannot be a folder raises StorageError with its errno", durable=True)
def _no_folder(lab: Lab) -> None:
    lab.path("file").write_bytes(b"")
    with refused(StorageError, what="a path below a file") as caught:
        lab.open("file/store")
    number = getattr(caught[0], "errno", None)
    expect(number in {errno.ENOTDIR, errno.EEXIST}, True, f"the errno {number} is that of ENOTDIR or EEXIST")


@check("destroy leaves no files", durable=True)
def _destroyed(lab: Lab) -> None:
    store = lab.filled(10)
    store.destroy()
    expect(list(lab.path().rglob("*")) if lab.path().exists() else [], [], "the files left")


@check("a backup is a store with the same contents", durable=True)
def _backup(lab: Lab) -> None:
    store = lab.filled(100)
    store.compact(40)
    store.write(Batch({"new": b"1"}, 90, numbered(90, 95, "new")))
    store.backup(lab.path("image"))
    expect(contents(lab.open("image"), "ballot", "new"), contents(store, "ballot", "new"), "the backup")
    store.compact(200)
    store.backup(lab.path("empty"))
    expect(contents(lab.open("empty"), "new"), ((201, 200), [], {"new": b"1"}), "a backup of an empty log")


@check("a backup and its store go separate ways", durable=True)
def _backup_apart(lab: Lab) -> None:
    store = lab.filled(10)
    store.backup(lab.path("image"))
    store.write(Batch({"ballot": b"8"}, 5, numbered(5, 20, "later")))
    image = lab.open("image")
    expect(contents(image, "ballot"), ((1, 10), numbered(1, 10), {"ballot": b"7"}), "the backup after more writes")
    image.write(Batch({"ballot": b"9"}, 2))
    expect(contents(store, "ballot").meta, {"ballot": b"8"}, "the store after a write to its backup")
    expect(store.bounds(), (1, 20), "its bounds")
    store.destroy()
    expect(image.bounds(), (1, 1), "the backup after its store is destroyed")


@check("a backup goes into an empty folder or makes its own, and leaves anything else alone", durable=True)
def _backup_target(lab: Lab) -> None:
    store = lab.filled(10)
    lab.path("empty").mkdir()
    for name in ("empty", "deep/down/new"):
        store.backup(lab.path(name))
        expect(contents(lab.open(name))[:2], ((1, 10), numbered(1, 10)), f"the backup in {name}")
    lab.path("taken").mkdir()
    lab.path("taken/note").write_bytes(b"mine")
    lab.path("file").write_bytes(b"mine")
    for name in ("taken", "file", "store"):
        with refused(StorageError, what=f"a backup into {name}") as caught:
            store.backup(lab.path(name))
        expect(getattr(caught[0], "errno", None), errno.EEXIST, "the errno")
    expect([entry.name for entry in lab.path("taken").iterdir()], ["note"], "what lay there")
    expect(lab.path("taken/note").read_bytes() + lab.path("file").read_bytes(), b"minemine", "its contents")
    expect(contents(store)[:2], ((1, 10), numbered(1, 10)), "the store")


@check("a forked child may not use the store, and does the parent no harm", durable=True)
def _forked(lab: Lab) -> None:
    store = lab.filled(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads: the child only tries and exits
        child = os.fork()
    if not child:
        _in_child(lab, store)
    expect(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0, "calls that worked in the child")
    store.write(Batch({}, None, numbered(4, 4)))
    with refused(StoreInUse, what="a second opening after the child's end"):
        lab.open()
    expect(contents(lab.reopen(store))[:2], ((1, 4), numbered(1, 4)), "the store")


def _in_child(lab: Lab, store: StorageAdapter) -> NoReturn:
    """Try every call and leave without any goodbye; the exit status counts the calls that were not refused."""
    signal.alarm(20)  # a lock that some thread of the parent held would never come free here
    worked = 0
    for call in (
        lambda: store.write(Batch({}, None, numbered(4, 4))),
        lambda: store.compact(2),
        lambda: store.read(1, 3, 100),
        lambda: store.meta("ballot"),
        store.bounds,
        store.stats,
        lambda: store.backup(lab.path("image")),
        store.destroy,
    ):
        try:
            call()
            worked += 1
        except StorageError:
            continue
        except BaseException:  # noqa: BLE001 - any other end than a refusal counts
            worked += 1
    with contextlib.suppress(BaseException):
        store.close()
    os._exit(worked)
