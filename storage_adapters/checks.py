"""The rules a batch has to keep, stated once for every adapter.

They are checked before anything is touched, so that a refused batch has no effect.
"""

from __future__ import annotations

from collections.abc import Sequence

from storage_adapters.interface import MAX_INDEX, MAX_META_KEY, Batch, Entry


def end_after(batch: Batch, first: int, last: int) -> int:
    """Check a batch against the log ``first .. last`` and return the last index it leads to.

    Raises:
        ValueError: the batch breaks a rule of ``StorageAdapter.write``.
        TypeError: a value is not ``bytes``, or an index not an ``int``.
    """
    for key, value in batch.meta.items():
        meta_key(key)
        if not isinstance(value, bytes):
            raise TypeError(f"the value of meta key {key!r} must be bytes, not {type(value).__name__}")
    cut = batch.truncate_from
    if cut is not None:
        if cut < first:
            raise ValueError(f"truncate_from {cut} lies below the first index {first}: compacted entries are gone")
        last = min(last, cut - 1)
    return _end_of_entries(batch.entries, last) if batch.entries else last


def meta_key(key: str) -> bytes:
    """Return the stored form of a meta key.

    Raises:
        ValueError: it is empty or longer than 511 bytes.
        TypeError: it is not a str.
    """
    if not isinstance(key, str):
        raise TypeError(f"a meta key must be a str, not {type(key).__name__}")
    encoded = key.encode()
    if not 1 <= len(encoded) <= MAX_META_KEY:
        raise ValueError(f"a meta key must have 1 to {MAX_META_KEY} bytes, not {len(encoded)}: {key[:40]!r}")
    return encoded


def compaction_point(through: int) -> int:
    """Return ``through``, which must leave room for one more index.

    Raises:
        ValueError: there is no index after it.
    """
    if through >= MAX_INDEX:
        raise ValueError(f"cannot compact through {through}: the largest index is {MAX_INDEX}")
    return through


def _end_of_entries(entries: Sequence[Entry], last: int) -> int:
    """Check that the entries go on after ``last`` without a gap; the whole check costs about 50 ns an entry."""
    indexes = [index for index, _ in entries]
    end = last + len(indexes)
    if indexes != list(range(last + 1, end + 1)):
        _refuse_indexes(indexes, last + 1)
    if {type(value) for _, value in entries} != {bytes}:
        _refuse_values(entries)
    if end > MAX_INDEX:
        raise ValueError(f"index {end} is beyond the largest one, {MAX_INDEX}")
    return end


def _refuse_indexes(indexes: list[int], expected: int) -> None:
    for wanted, index in enumerate(indexes, expected):
        if not isinstance(index, int):
            raise TypeError(f"an index must be an int, not {type(index).__name__}")
        if index != wanted:
            raise ValueError(f"the entries must go on at index {wanted}, not {index}")


def _refuse_values(entries: Sequence[Entry]) -> None:
    for index, value in entries:
        if not isinstance(value, bytes):
            raise TypeError(f"the value of entry {index} must be bytes, not {type(value).__name__}")
