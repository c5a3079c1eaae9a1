"""Is an LMDB file long enough? Asked before the library maps it: touching a page beyond its end kills the process.

The file begins with two meta pages; the newer one names the last page in use and the roots of two trees. A file that
reaches the last page is long enough. One that does not may still be whole: a page that was taken from the end and
given back in the same transaction is counted, but never written. So the short file's trees are walked, and only a page
that is reachable and missing makes it damaged.

    page:  pgno u64 | pad u16 | flags u16 | lower u16 | upper u16 | offsets of nodes u16...
    node:  low u16 | high u16 | flags u16 | key size u16 | key | data
    meta:  magic u32 | version u32 | address u64 | map size u64 | free tree | main tree | last pgno u64 | txn id u64
    tree:  page size u32 (free tree) | flags u16 | depth u16 | branch, leaf, overflow pages, entries u64 | root u64
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path
from struct import Struct

from storage_adapters.interface import DamagedStore

MAGIC = 0xBEEFC0DE
_HEADER = Struct("=QHHHH")
_META = Struct("=IIQQ48s48sQQ")
_TREE = Struct("=IHHQQQQQ")
_NODE = Struct("=HHHH")
_NO_PAGE = 2**64 - 1
_BRANCH, _META_PAGE = 0x01, 0x08
_BIG_DATA, _SUB_TREE = 0x01, 0x02
_SMALLEST_PAGE = 256


def check_length(file: Path) -> None:
    """Raise ``DamagedStore`` if a page in use lies beyond the end of the file; an absent or empty file passes."""
    if not file.exists() or file.stat().st_size == 0:
        return
    with file.open("rb") as stream:
        try:
            _Image(stream.fileno()).check()
        except (_Damage, struct.error) as damage:
            raise DamagedStore(f"{file}: {damage}") from None


class _Damage(Exception):
    """What is wrong with the file."""


class _Image:
    """The pages of one file, read with ``pread``, never mapped."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        first = self._meta(0)
        self._page_size = _TREE.unpack(first[4])[0]
        if self._page_size < _SMALLEST_PAGE or self._page_size & (self._page_size - 1):
            raise _Damage(f"page size {self._page_size} is impossible")
        second = self._meta(self._page_size)
        self._newest = max(first, second, key=lambda meta: int(meta[7]))

    def check(self) -> None:
        last_page = self._newest[6]
        if self._size >= (last_page + 1) * self._page_size:
            return
        self._pages_left = self._size // self._page_size
        self._walk(self._newest[4], leaves_lead_on=True)
        self._walk(self._newest[5], leaves_lead_on=True)

    def _meta(self, offset: int) -> tuple[int, int, int, int, bytes, bytes, int, int]:
        data = os.pread(self._descriptor, _HEADER.size + _META.size, offset)
        if len(data) < _HEADER.size + _META.size:
            raise _Damage(f"the file ends after {self._size} bytes, within its meta pages")
        flags = _HEADER.unpack_from(data)[2]
        meta = _META.unpack_from(data, _HEADER.size)
        if not flags & _META_PAGE or meta[0] != MAGIC:
            raise _Damage(f"the meta page at {offset} is not one of LMDB")
        return meta

    def _walk(self, tree: bytes, *, leaves_lead_on: bool) -> None:
        """Visit the pages of a tree. Its leaves are read only if they can point to further pages."""
        _, _, depth, _, _, overflow_pages, _, root = _TREE.unpack(tree)
        todo = [] if root == _NO_PAGE else [(root, depth)]
        while todo:
            pgno, height = todo.pop()
            self._require(pgno, 1)
            if height > 1:
                todo += [(child, height - 1) for child in self._branches(pgno)]
            elif leaves_lead_on or overflow_pages:
                self._visit_leaf(pgno)

    def _require(self, pgno: int, pages: int) -> None:
        if (pgno + pages) * self._page_size > self._size:
            raise _Damage(f"page {pgno} is in use, but the file ends after {self._size // self._page_size} pages")
        self._pages_left -= pages
        if self._pages_left < 0:
            raise _Damage("a page is used twice")

    def _branches(self, pgno: int) -> list[int]:
        page, is_branch, nodes = self._page(pgno)
        if not is_branch:
            raise _Damage(f"page {pgno} should be a branch")
        return [low | high << 16 | top << 32 for low, high, top, _ in (_NODE.unpack_from(page, at) for at in nodes)]

    def _visit_leaf(self, pgno: int) -> None:
        page, is_branch, nodes = self._page(pgno)
        if is_branch:
            raise _Damage(f"page {pgno} should be a leaf")
        for at in nodes:
            low, high, kind, key_size = _NODE.unpack_from(page, at)
            data = at + _NODE.size + key_size
            if kind & _BIG_DATA:
                size = low | high << 16
                start = int.from_bytes(page[data : data + 8], sys.byteorder)
                self._require(start, (_HEADER.size - 1 + size) // self._page_size + 1)
            elif kind & _SUB_TREE:
                self._walk(page[data : data + _TREE.size], leaves_lead_on=False)

    def _page(self, pgno: int) -> tuple[bytes, bool, tuple[int, ...]]:
        """Return a page, whether it is a branch, and where its nodes begin."""
        page = os.pread(self._descriptor, self._page_size, pgno * self._page_size)
        _, _, flags, lower, _ = _HEADER.unpack_from(page)
        count = (lower - _HEADER.size) // 2
        return page, bool(flags & _BRANCH), struct.unpack_from(f"={count}H", page, _HEADER.size)
