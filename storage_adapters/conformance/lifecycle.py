"""Checks of what surrounds the log: stats, closing, destroying, and a long random history."""

from __future__ import annotations

import random
from collections.abc import Callable

from storage_adapters.conformance.harness import ALL, Lab, check, contents, expect, numbered, refused
from storage_adapters.interface import Batch, Entry, StorageAdapter, StorageError


@check("stats tell engine, path, entries, bytes and durable")
def _stats(lab: Lab) -> None:
    store = lab.filled(10)
    store.compact(3)
    stats = store.stats()
    kinds = {"engine": str, "path": str, "entries": int, "bytes": int, "durable": bool}
    expect({key: type(stats.get(key)) for key in kinds}, kinds, "the types")
    expect(stats["entries"], 7, "entries")
    expect(stats["bytes"] >= 0, True, "bytes are not negative")


@check("close may be called again")
def _close_twice(lab: Lab) -> None:
    store = lab.filled(1)
    store.close()
    store.close()


@check("a store is closed at the end of its with block")
def _with_block(lab: Lab) -> None:
    with lab.filled(1) as store:
        pass
    with refused(StorageError, what="bounds after the with block"):
        store.bounds()


@check("every call after close raises StorageError")
def _after_close(lab: Lab) -> None:
    store = lab.filled(3)
    store.close()
    _all_refused(lab, store, "close")


@check("every call after destroy raises StorageError")
def _after_destroy(lab: Lab) -> None:
    store = lab.filled(3)
    store.destroy()
    _all_refused(lab, store, "destroy")


def _all_refused(lab: Lab, store: StorageAdapter, done: str) -> None:
    calls: dict[str, Callable[[], object]] = {
        "write": lambda: store.write(Batch({}, None, numbered(4, 4))),
        "read": lambda: store.read(1, 3, ALL),
        "bounds": store.bounds,
        "meta": lambda: store.meta("ballot"),
        "compact": lambda: store.compact(2),
        "stats": store.stats,
        "backup": lambda: store.backup(lab.path("backup")),
    }
    for name, call in calls.items():
        with refused(StorageError, what=f"{name} after {done}"):
            call()


@check("destroy may be called again, and after close")
def _destroy_twice(lab: Lab) -> None:
    store = lab.filled(1)
    store.close()
    store.destroy()
    store.destroy()
    store.close()


@check("after destroy the path gives a new store")
def _destroy(lab: Lab) -> None:
    store = lab.filled(10)
    store.compact(4)
    store.destroy()
    expect(contents(lab.open(), "ballot"), ((1, 0), [], {"ballot": None}), "the store opened after it")


@check("stores at different paths know nothing of each other")
def _independent(lab: Lab) -> None:
    one, two = lab.filled(5, "one"), lab.open("two")
    two.write(Batch({"ballot": b"2"}, None, numbered(1, 2, "two")))
    one.compact(3)
    expect(contents(one, "ballot"), ((4, 5), numbered(4, 5), {"ballot": b"7"}), "one")
    expect(contents(two, "ballot"), ((1, 2), numbered(1, 2, "two"), {"ballot": b"2"}), "the other")


class _Model:
    """The same store as a list, to compare with."""

    def __init__(self) -> None:
        self.first = 1
        self.entries: list[Entry] = []
        self.meta: dict[str, bytes] = {}

    @property
    def last(self) -> int:
        return self.first + len(self.entries) - 1

    def write(self, batch: Batch) -> None:
        if batch.truncate_from is not None:
            del self.entries[batch.truncate_from - self.first :]
        self.entries += batch.entries
        self.meta.update(batch.meta)

    def compact(self, through: int) -> None:
        if through >= self.first:
            del self.entries[: through + 1 - self.first]
            self.first = through + 1


def _random_batch(dice: random.Random, model: _Model, step: int) -> Batch:
    cut = dice.randint(model.first, model.last + 2) if dice.random() < 0.3 else None
    end = model.last if cut is None else min(model.last, cut - 1)
    count = dice.choice((0, 1, 2, 7, 200))
    size = dice.choice((0, 1, 100, 5000))
    entries = [(index, dice.randbytes(size)) for index in range(end + 1, end + 1 + count)]
    return Batch({f"key {dice.randint(0, 4)}": b"%d" % step} if dice.random() < 0.5 else {}, cut, entries)


@check("a long random history ends like the same history of a list")
def _history(lab: Lab) -> None:
    _play(lab, steps=150, reopening=False)


@check("a long random history with closing and opening ends like that of a list", durable=True)
def _history_reopened(lab: Lab) -> None:
    _play(lab, steps=150, reopening=True)


def _play(lab: Lab, *, steps: int, reopening: bool) -> None:
    dice = random.Random(4)
    store, model = lab.open(), _Model()
    keys = [f"key {number}" for number in range(5)]
    for step in range(steps):
        move = dice.random()
        if move < 0.12:
            through = dice.randint(model.first - 2, model.last + 1)
            store.compact(through)
            model.compact(through)
        elif reopening and move < 0.2:
            store = lab.reopen(store)
        else:
            batch = _random_batch(dice, model, step)
            store.write(batch)
            model.write(batch)
        wanted = ((model.first, model.last), model.entries, {key: model.meta.get(key) for key in keys})
        expect(contents(store, *keys), wanted, f"after step {step}")
