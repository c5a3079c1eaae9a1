"""Checks of readers beside the writer: every read is one moment of the store, between two writes.

The writer adds a group of five entries per batch, and rewrites the group before in the same batch. So in any single
read, every group is whole, and the last two groups carry the same batch's number.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from storage_adapters.conformance.harness import ALL, Failed, Lab, check, expect
from storage_adapters.interface import Batch, Entry, StorageAdapter, StorageError

_GROUP = 5
_BATCHES = 120
_PATIENCE = 60.0


def _batch(number: int) -> Batch:
    """Return batch ``number`` (from 1): group ``number`` is new, the one before is written again."""
    begin = max(1, (number - 2) * _GROUP + 1)
    value = b"%d" % number * 40
    return Batch({"batch": value}, begin, [(index, value) for index in range(begin, number * _GROUP + 1)])


def _judge(entries: list[Entry]) -> None:
    """Fail unless the entries are a whole number of batches."""
    if not entries:
        return
    start = entries[0][0]
    expect([index for index, _ in entries], list(range(start, start + len(entries))), "the indexes of one read")
    expect(entries[-1][0] % _GROUP, 0, "entries of a batch that was read in half")
    values = [value for _, value in entries]
    expect(len(set(values[-2 * _GROUP :])), 1, "the number of batches that wrote the last two groups")


class _Crew:
    """Threads that run beside the caller; the first error of any of them is kept."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self._errors: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def repeat(self, act: Callable[[], None]) -> None:
        """Start a thread that repeats ``act`` until ``done``, and once more."""

        def work() -> None:
            try:
                while not self.done.is_set() and not self._errors:
                    act()
                act()
            except BaseException as error:  # noqa: BLE001 - raised by finish, in the thread of the check
                self._errors.append(error)

        self._threads.append(threading.Thread(target=work, daemon=True))
        self._threads[-1].start()

    def finish(self) -> None:
        """End all threads and raise what one of them ran into."""
        self.done.set()
        for thread in self._threads:
            thread.join(_PATIENCE)
            if thread.is_alive():
                raise Failed(f"a reader does not come back within {_PATIENCE} s")
        if self._errors:
            raise Failed(f"beside the writer: {type(self._errors[0]).__name__}: {self._errors[0]}")


def _write_all(store: StorageAdapter, crew: _Crew) -> None:
    try:
        for number in range(1, _BATCHES + 1):
            store.write(_batch(number))
    finally:
        crew.finish()


@check("a reader beside the writer sees every batch wholly or not at all")
def _whole_batches(lab: Lab) -> None:
    store, crew = lab.open(), _Crew()
    for _ in range(2):
        crew.repeat(lambda: _judge(store.read(1, 1 << 30, ALL)))
    _write_all(store, crew)
    expect(store.bounds(), (1, _BATCHES * _GROUP), "bounds at the end")


@check("a reader sees what was written before it was told")
def _read_your_writes(lab: Lab) -> None:
    store, crew, told = lab.open(), _Crew(), [0]

    def look() -> None:
        number = told[0]
        if number:
            expect(store.bounds()[1] >= number, True, f"bounds reach entry {number}")
            expect([index for index, _ in store.read(number, number, ALL)], [number], f"the entry {number}")
            expect(int(store.meta("number") or 0) >= number, True, f"meta is as new as entry {number}")

    crew.repeat(look)
    try:
        for number in range(1, _BATCHES + 1):
            store.write(Batch({"number": b"%d" % number}, None, [(number, b"x" * 300)]))
            told[0] = number
    finally:
        crew.finish()


@check("readers go on while the log is compacted")
def _compacting(lab: Lab) -> None:
    store, crew = lab.open(), _Crew()

    def look() -> None:
        first, last = store.bounds()
        expect(first <= last + 1, True, f"bounds {first}, {last} fit together")
        _judge(store.read(1, 1 << 30, ALL))
        store.meta("batch")
        store.stats()

    crew.repeat(look)
    try:
        for number in range(1, _BATCHES + 1):
            store.write(_batch(number))
            if number % 10 == 0:
                store.compact((number - 4) * _GROUP)
    finally:
        crew.finish()
    expect(store.bounds(), ((_BATCHES - 4) * _GROUP + 1, _BATCHES * _GROUP), "bounds at the end")


@check("big values can be written while others are read")
def _big_beside_readers(lab: Lab) -> None:
    store, crew = lab.open(), _Crew()
    store.write(Batch({}, None, [(1, b"\x01" * 3_000_000)]))

    def look() -> None:
        expect([(index, len(value)) for index, value in store.read(1, 1, ALL)], [(1, 3_000_000)], "entry 1")

    crew.repeat(look)
    try:
        for index in range(2, 8):
            store.write(Batch({}, None, [(index, b"\x02" * 3_000_000)]))
    finally:
        crew.finish()


@check("a backup taken beside the writer holds whole batches", durable=True)
def _backup_beside_writer(lab: Lab) -> None:
    store, crew, taken = lab.open(), _Crew(), [0]
    store.write(_batch(1))

    def take() -> None:
        if taken[0] < 5:
            store.backup(lab.path(f"image {taken[0]}"))
            taken[0] += 1

    crew.repeat(take)
    try:
        for number in range(2, _BATCHES + 1):
            store.write(_batch(number))
    finally:
        crew.finish()
    for number in range(taken[0]):
        image = lab.open(f"image {number}")
        entries = image.read(1, 1 << 30, ALL)
        _judge(entries)
        expect(image.meta("batch"), entries[-1][1], "meta, as new as the last entry,")
        image.close()


@check("a store can be closed beside its readers, who then get StorageError")
def _closing(lab: Lab) -> None:
    store, crew, ready = lab.filled(2000), _Crew(), threading.Event()

    def look() -> None:
        try:
            expect(len(store.read(1, 2000, ALL)), 2000, "entries read")
        except StorageError:
            expect(closing.is_set(), True, "the store is being closed")
        ready.set()

    closing = threading.Event()
    for _ in range(3):
        crew.repeat(look)
    expect(ready.wait(_PATIENCE), True, "a reader came back")
    closing.set()
    store.close()
    crew.finish()
