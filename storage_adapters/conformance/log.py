"""Checks of the log itself: append, truncate, read, compact, meta, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from storage_adapters.conformance.harness import ALL, Lab, check, contents, expect, numbered, refused
from storage_adapters.interface import MAX_INDEX, Batch, Entry, StorageAdapter


@check("a new store has bounds (1, 0), no entries and no meta")
def _new(lab: Lab) -> None:
    expect(contents(lab.open(), "ballot"), ((1, 0), [], {"ballot": None}), "a new store")


@check("entries are read back byte for byte, as (int, bytes)")
def _bytes(lab: Lab) -> None:
    values = [bytes(range(256)), b"\x00", b"tail \x00\x00", b"\xff" * 300, b" \n\r\x1a", b"x" * 4096]
    store = lab.open()
    store.write(Batch({}, None, list(enumerate(values, 1))))
    found = store.read(1, len(values), ALL)
    expect(found, list(enumerate(values, 1)), "the entries")
    expect({(type(entry), type(entry[0]), type(entry[1])) for entry in found}, {(tuple, int, bytes)}, "their types")


@check("an empty value is an entry like any other")
def _empty_value(lab: Lab) -> None:
    store = lab.open()
    store.write(Batch({}, None, [(1, b""), (2, b"x"), (3, b"")]))
    expect(contents(store)[:2], ((1, 3), [(1, b""), (2, b"x"), (3, b"")]), "the log")


@check("a value of 5 MiB is kept")
def _big_value(lab: Lab) -> None:
    big = bytes(range(256)) * (5 << 12)
    store = lab.open()
    store.write(Batch({}, None, [(1, b"small"), (2, big), (3, b"small")]))
    found = store.read(1, 3, ALL)
    expect([len(value) for _, value in found], [5, len(big), 5], "the sizes")
    expect(found[1][1] == big, True, "the bytes of the big value are the same")


@check("a batch of 10,000 entries is one write")
def _big_batch(lab: Lab) -> None:
    store = lab.open()
    store.write(Batch({}, None, numbered(1, 10_000)))
    expect(store.bounds(), (1, 10_000), "bounds")
    expect(store.read(1, 10_000, ALL) == numbered(1, 10_000), True, "all of them are there")


@check("entries go on where the log ends, write after write")
def _appends(lab: Lab) -> None:
    store = lab.open()
    for index in range(1, 301):
        store.write(Batch({}, None, numbered(index, index)))
    expect(contents(store)[:2], ((1, 300), numbered(1, 300)), "the log")


@check("an empty batch changes nothing")
def _empty_batch(lab: Lab) -> None:
    store = lab.filled(3)
    before = contents(store, "ballot")
    store.write(Batch())
    expect(contents(store, "ballot"), before, "the store")


@check("truncate_from drops that entry and all after it")
def _truncate(lab: Lab) -> None:
    store = lab.filled(10)
    store.write(Batch(truncate_from=7))
    expect(contents(store)[:2], ((1, 6), numbered(1, 6)), "the log")
    expect(store.read(7, 10, ALL), [], "what was dropped")


@check("a batch truncates first and appends then")
def _truncate_and_append(lab: Lab) -> None:
    for count, cut in ((10, 4), (10, 10), (10, 1), (2000, 500)):
        name = f"{count}-{cut}"
        store = lab.filled(count, name)
        new = numbered(cut, cut + 2, "new")
        store.write(Batch({}, cut, new))
        expect(contents(store)[:2], ((1, cut + 2), numbered(1, cut - 1) + new), f"{count} entries, cut at {cut}")


@check("a truncation beyond the end drops nothing")
def _truncate_beyond(lab: Lab) -> None:
    store = lab.filled(3)
    store.write(Batch({}, 4, numbered(4, 4)))
    store.write(Batch({}, 9, numbered(5, 5)))
    expect(contents(store)[:2], ((1, 5), numbered(1, 5)), "the log")


@check("a log that was truncated at its first index is empty and begins where it did")
def _truncate_all(lab: Lab) -> None:
    store = lab.filled(10)
    store.compact(4)
    store.write(Batch(truncate_from=5))
    expect(contents(store)[:2], ((5, 4), []), "the log")
    store.write(Batch({}, None, numbered(5, 6)))
    expect(contents(store)[:2], ((5, 6), numbered(5, 6)), "the log afterwards")


@check("a read includes both ends of its range")
def _inclusive(lab: Lab) -> None:
    store = lab.filled(10)
    expect(store.read(3, 6, ALL), numbered(3, 6), "read(3, 6)")
    expect(store.read(4, 4, ALL), numbered(4, 4), "read(4, 4)")
    expect(store.read(10, 10, ALL), numbered(10, 10), "read(10, 10)")


@check("a read returns what the log has of its range")
def _clipped(lab: Lab) -> None:
    store = lab.filled(10)
    store.compact(3)
    expect(store.read(0, 5, ALL), numbered(4, 5), "a range that begins too early")
    expect(store.read(8, 10**12, ALL), numbered(8, 10), "a range that ends too late")
    expect(store.read(1, 3, ALL), [], "a compacted range")
    expect(store.read(11, 20, ALL), [], "a range beyond the end")
    expect(store.read(6, 5, ALL), [], "an empty range")
    expect(store.read(0, MAX_INDEX, ALL), numbered(4, 10), "everything")


@check("a read stops before its values exceed max_bytes")
def _max_bytes(lab: Lab) -> None:
    store = lab.open()
    store.write(Batch({}, None, [(index, b"x" * 10) for index in range(1, 11)]))
    for max_bytes, count in ((10, 1), (19, 1), (20, 2), (21, 2), (99, 9), (100, 10), (101, 10)):
        expect(len(store.read(1, 10, max_bytes)), count, f"entries of 10 bytes within {max_bytes}")


@check("a read returns at least one entry, however small max_bytes is")
def _at_least_one(lab: Lab) -> None:
    store = lab.filled(5)
    for max_bytes in (0, 1, -1):
        expect(store.read(2, 5, max_bytes), numbered(2, 2), f"read(2, 5, {max_bytes})")


@check("meta merges by key")
def _meta_merges(lab: Lab) -> None:
    store = lab.open()
    store.write(Batch({"a": b"1", "b": b"2"}))
    store.write(Batch({"b": b"3", "c": b""}))
    expect(contents(store, "a", "b", "c", "d").meta, {"a": b"1", "b": b"3", "c": b"", "d": None}, "meta")


@check("meta keys of 1 to 511 bytes are told apart, whatever they are called")
def _meta_keys(lab: Lab) -> None:
    keys = ["k", "first", "last", "log", "meta", "state", "ä€😀", "a\x00b", "a\x00", "x" * 510, "x" * 511]
    store = lab.open()
    store.write(Batch({key: f"value {key}".encode() for key in keys}, None, numbered(1, 3)))
    expect(contents(store, *keys).meta, {key: f"value {key}".encode() for key in keys}, "meta")
    expect(contents(store)[:2], ((1, 3), numbered(1, 3)), "the log beside it")


@check("a meta value may be 1 MiB")
def _meta_value(lab: Lab) -> None:
    store = lab.open()
    store.write(Batch({"big": b"\x00\xff" * (1 << 19)}))
    expect(store.meta("big") == b"\x00\xff" * (1 << 19), True, "the value is the same")


@check("compact drops the prefix and nothing else")
def _compact(lab: Lab) -> None:
    store = lab.filled(10)
    store.compact(4)
    expect(contents(store, "ballot"), ((5, 10), numbered(5, 10), {"ballot": b"7"}), "the store")
    store.compact(5)
    store.write(Batch({}, None, numbered(11, 11)))
    expect(contents(store)[:2], ((6, 11), numbered(6, 11)), "the log after going on")


@check("compacting below the first index does nothing")
def _compact_below(lab: Lab) -> None:
    store = lab.filled(10)
    store.compact(0)
    store.compact(-5)
    expect(contents(store)[:2], ((1, 10), numbered(1, 10)), "the log")
    store.compact(6)
    for through in (6, 5, 1):
        store.compact(through)
    expect(contents(store)[:2], ((7, 10), numbered(7, 10)), "the log")


@check("compacting through the last index leaves an empty log that goes on after it")
def _compact_all(lab: Lab) -> None:
    store = lab.filled(10)
    store.compact(10)
    expect(contents(store)[:2], ((11, 10), []), "the log")
    store.write(Batch({}, None, numbered(11, 12)))
    expect(contents(store)[:2], ((11, 12), numbered(11, 12)), "the log afterwards")


@check("compacting beyond the last index leaves an empty log that begins there")
def _compact_beyond(lab: Lab) -> None:
    for store, name in ((lab.filled(3), "three entries"), (lab.open("new"), "a new store")):
        store.compact(1000)
        expect(contents(store)[:2], ((1001, 1000), []), name)
        with refused(ValueError, what="an entry below the new beginning"):
            store.write(Batch({}, None, numbered(4, 4)))
        store.write(Batch({}, None, numbered(1001, 1001)))
        expect(contents(store)[:2], ((1001, 1001), numbered(1001, 1001)), name)


@check("a long prefix is dropped by one compact")
def _compact_long(lab: Lab) -> None:
    store = lab.filled(25_000)
    store.compact(24_990)
    expect(contents(store)[:2], ((24_991, 25_000), numbered(24_991, 25_000)), "the log")


@check("an index that cannot exist is refused by compact")
def _compact_too_far(lab: Lab) -> None:
    store = lab.filled(3)
    for through in (MAX_INDEX, 2**64):
        with refused(ValueError, what=f"compact({through})"):
            store.compact(through)
    expect(contents(store)[:2], ((1, 3), numbered(1, 3)), "the log")


class _Refusal:
    """A store that must look the same after each refused batch, and must go on afterwards."""

    def __init__(self, store: StorageAdapter) -> None:
        self.store = store
        self.before = contents(store, "ballot", "new")

    def refuses(self, batch: Batch, what: str, *errors: type[Exception]) -> None:
        with refused(*(errors or (ValueError,)), what=what):
            self.store.write(batch)
        expect(contents(self.store, "ballot", "new"), self.before, f"the store after {what}")

    def goes_on(self) -> None:
        first, last = self.before.bounds
        self.store.write(Batch({"new": b"1"}, None, numbered(last + 1, last + 1)))
        expect(self.store.bounds(), (first, last + 1), "bounds after the next good batch")


def _with_rest(truncate_from: int | None, entries: Sequence[Any]) -> Batch:
    """Return a batch that also has something good, which must not be done either."""
    return Batch({"ballot": b"8", "new": b"2"}, truncate_from, entries)


@check("entries that do not follow the last one are refused, and nothing is written")
def _refuses_start(lab: Lab) -> None:
    new = _Refusal(lab.open("new"))
    for index in (0, 2, -1):
        new.refuses(_with_rest(None, numbered(index, index)), f"entry {index} in a new store")
    new.goes_on()
    store = _Refusal(lab.filled(10))
    for index in (10, 12, 1, 5):
        store.refuses(_with_rest(None, numbered(index, index + 1)), f"entry {index} after 10")
    for index in (5, 7, 11):
        store.refuses(_with_rest(6, numbered(index, index)), f"entry {index} after a truncation from 6")
    store.goes_on()


@check("entries with a gap, a repetition or in the wrong order are refused, and nothing is written")
def _refuses_gaps(lab: Lab) -> None:
    store = _Refusal(lab.filled(10))
    for indexes in ((11, 13), (11, 11), (11, 12, 12), (12, 11), (11, 12, 14), (11, 13, 12)):
        store.refuses(_with_rest(None, [(index, b"x") for index in indexes]), f"entries {indexes} after 10")
        moved: list[Entry] = [(index - 5, b"x") for index in indexes]
        store.refuses(_with_rest(6, moved), f"entries {[index for index, _ in moved]} after a truncation from 6")
    store.goes_on()


@check("a truncation below the first index is refused, and nothing is written")
def _refuses_truncation(lab: Lab) -> None:
    new = lab.filled(3, "new")
    _Refusal(new).refuses(_with_rest(0, []), "truncate_from 0")
    compacted = lab.filled(10)
    compacted.compact(4)
    store = _Refusal(compacted)
    for cut in (4, 1, 0, -1):
        store.refuses(_with_rest(cut, numbered(cut, cut + 1)), f"truncate_from {cut} in a log from 5")
    store.goes_on()


@check("a value that is not bytes is refused, and nothing is written")
def _refuses_types(lab: Lab) -> None:
    store = _Refusal(lab.filled(10))
    for value in ("text", None, 5, bytearray(b"x"), [b"x"]):
        bad: Any = [(11, b"good"), (12, value)]
        store.refuses(_with_rest(9, [(9, b"good"), (10, value)]), f"the value {value!r}", TypeError, ValueError)
        store.refuses(_with_rest(None, bad), f"the value {value!r}", TypeError, ValueError)
    meta: Any = {"new": b"good", "ballot": "text"}
    store.refuses(Batch(meta, None, numbered(11, 11)), "a meta value of str", TypeError, ValueError)
    store.goes_on()


@check("a meta key that is empty or too long is refused, and nothing is written")
def _refuses_keys(lab: Lab) -> None:
    store = _Refusal(lab.filled(10))
    for key in ("", "x" * 512, "ä" * 256):
        store.refuses(Batch({"new": b"1", key: b"2"}, 5, numbered(5, 5)), f"a key of {len(key.encode())} bytes")
    store.goes_on()
