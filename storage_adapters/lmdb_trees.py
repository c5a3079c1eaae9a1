"""A log and its meta in trees of an LMDB file: what a file of one's own and a shared one have in common.

``log`` maps 8-byte big-endian indexes to values, so that byte order is index order; ``meta`` is what it is called. A
third tree says where the log begins, which outlives the entries when the log is empty. Whose trees these are, and when
a change is committed, the adapters decide.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager
from itertools import islice
from struct import Struct
from typing import Any

from storage_adapters.disk import DiskAdapter
from storage_adapters.interface import Batch, DamagedStore, Entry
from storage_adapters.lmdb_env import Change, Transaction

_KEY = Struct(">Q")
_CHUNK = 10_000
"""Entries that one transaction of ``compact`` drops: it bounds the memory and the time that readers' pages are kept."""


class LMDBTrees(DiskAdapter):
    """The half of an adapter that knows the trees, which ``_engine_open`` has to open before it loads the bounds."""

    _log: Any
    _meta: Any
    _state: Any
    _first_key: bytes
    """Where ``_state`` keeps the first index."""

    def _load_bounds(self) -> tuple[int, int]:
        with self._looking() as txn:
            stored = txn.get(self._first_key, db=self._state)
            first = _KEY.unpack(stored)[0] if stored else 1
            count = txn.stat(self._log)["entries"]
            cursor = txn.cursor(db=self._log)
            ends = [cursor.key() for moved in (cursor.first, cursor.last) if moved()]
        last = first + count - 1
        if ends and ends != [_KEY.pack(first), _KEY.pack(last)]:
            raise DamagedStore(f"the log in {self._path} should hold {first} to {last}, and does not")
        return first, last

    def _engine_write(self, batch: Batch, last: int) -> None:
        pack = _KEY.pack
        items = [(pack(index), value) for index, value in batch.entries]
        cut = last + 1 if batch.truncate_from is None else batch.truncate_from
        meta = [(key.encode(), value) for key, value in batch.meta.items()]

        def change(txn: Transaction) -> None:
            if cut <= last:
                self._delete(txn, cut, last)
            if items:
                self._append(txn, items)
            for key, value in meta:
                txn.put(key, value, db=self._meta)

        self._commit(change)

    def _append(self, txn: Transaction, items: list[tuple[bytes, bytes]]) -> None:
        _, added = txn.cursor(db=self._log).putmulti(items, append=True)
        if added != len(items):
            raise DamagedStore(f"the log in {self._path} already holds entries beyond its end")

    def _delete(self, txn: Transaction, first: int, last: int) -> None:
        cursor = txn.cursor(db=self._log)
        if not cursor.set_key(_KEY.pack(first)):
            raise DamagedStore(f"entry {first} is missing in {self._path}")
        for _ in range(first, last + 1):
            cursor.delete()

    def _engine_compact(self, through: int, first: int, last: int) -> tuple[int, int]:
        end = min(through, last, first + _CHUNK - 1)
        begin = through + 1 if end >= last else end + 1

        def change(txn: Transaction) -> None:
            if first <= end:
                self._delete(txn, first, end)
            txn.put(self._first_key, _KEY.pack(begin), db=self._state)

        self._commit(change)
        return begin, max(last, begin - 1)

    def _engine_read(self, first: int, last: int, max_bytes: int) -> list[Entry]:
        found: list[Entry] = []
        size = 0
        with self._looking(self._log) as txn:
            cursor = txn.cursor()
            if not cursor.set_range(_KEY.pack(first)):
                return found
            start = _KEY.unpack(cursor.key())[0]
            values = islice(cursor.iternext(keys=False), max(0, last - start + 1))
            for index, value in enumerate(values, start):
                size += len(value)
                if size > max_bytes and found:
                    break
                found.append((index, value))
        return found

    def _engine_meta(self, key: bytes) -> bytes | None:
        with self._looking(self._meta) as txn:
            value: bytes | None = txn.get(key)
            return value

    @abstractmethod
    def _commit(self, change: Change) -> None:
        """Make a change durable; errors are translated."""

    @abstractmethod
    def _looking(self, tree: Any = None) -> AbstractContextManager[Transaction]:
        """Lend a transaction that reads, with ``tree`` for its default; errors are translated."""
