"""One log entry as bytes: log format 1, the part that is written most.

::

    offset  bytes  field    little-endian
         0      4  crc      CRC-32 of every byte after it
         4      4  before   crc of the preceding entry: the chain
         8      8  index    unsigned
        16      8  term     unsigned
        24      8  time     the leader's time in seconds, IEEE 754 double
        32      1  kind     0 command, 1 no-op, 2 configuration, 3 session
        33         data     to the end of the record

``before`` is covered by ``crc`` and equals the ``crc`` of the predecessor, so a record that is altered, lost, swapped
with another or left over from an overwritten part of the log does not fit its neighbours. It is stored, and not only
computed, so that any run of records can be checked without reading the log from its beginning. The first entry of a
log has ``GENESIS`` there.

Everything here is pure; the loops are the hot path, hence their local variables.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from zlib import crc32

from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.types import NOWHERE, LogPosition

__all__ = [
    "FORMAT",
    "GENESIS",
    "HEADER_BYTES",
    "DamagedRecord",
    "Survey",
    "decode_record",
    "decode_records",
    "encode_entries",
    "head_of",
]

FORMAT = 1
"""The number of this format."""

GENESIS = crc32(b"raft_actors log format 1")
"""The chain value before the first entry."""

_HEAD = struct.Struct("<IIQQdB")
_CHAINED = struct.Struct("<IQQdB")
_CRC = struct.Struct("<I")

HEADER_BYTES = _HEAD.size
"""What a record is longer than its data, in bytes."""

_KINDS = tuple(EntryKind)
_LAST_KIND = len(_KINDS) - 1
_REMEMBERED = int(EntryKind.CONFIGURATION)
"""Entries of this kind are kept by ``Survey``: a peer needs them when it starts."""


class DamagedRecord(Exception):
    """A record is not what was written.

    Attributes:
        index: the entry.
        reason: what is wrong with it, as the rest of a sentence that begins with the entry.
    """

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"entry {index} {reason}")
        self.index = index
        self.reason = reason


def encode_entries(entries: Sequence[Entry], chain: int) -> tuple[list[tuple[int, bytes]], int]:
    """Return the records of ``entries`` with their indexes.

    Args:
        entries: what to encode, contiguous.
        chain: the chain value of the entry before the first one.

    Returns:
        (index, record) pairs, and the chain value of the last entry.
    """
    pairs: list[tuple[int, bytes]] = []
    add, pack, pack_crc = pairs.append, _CHAINED.pack, _CRC.pack
    for entry in entries:
        index = entry.index
        body = pack(chain, index, entry.term, entry.time, entry.kind) + entry.data
        chain = crc32(body)
        add((index, pack_crc(chain) + body))
    return pairs, chain


def decode_record(index: int, record: bytes, chain: int) -> tuple[Entry, int]:
    """Return the entry of one record, and its chain value.

    Args:
        index: where the record was found.
        record: its bytes.
        chain: the chain value of the entry before it.

    Raises:
        DamagedRecord: it is not the record of that place.
    """
    entries, chain = decode_records(((index, record),), chain)
    return entries[0], chain


def decode_records(pairs: Sequence[tuple[int, bytes]], chain: int | None = None) -> tuple[tuple[Entry, ...], int]:
    """Return the entries of contiguous records, and the chain value of the last one.

    Args:
        pairs: (index, record) pairs as a store returns them.
        chain: the chain value of the entry before the first one; ``None`` believes what the first record says of it.

    Raises:
        DamagedRecord: a record is damaged, missing, or does not follow the one before it.
    """
    if not pairs:
        return (), GENESIS if chain is None else chain
    expected = pairs[0][0]
    chain = before_of(*pairs[0]) if chain is None else chain
    entries: list[Entry] = []
    add, unpack, kinds, start = entries.append, _HEAD.unpack_from, _KINDS, HEADER_BYTES
    try:
        for key, record in pairs:
            crc, before, index, term, time, kind = unpack(record)
            if crc32(record[4:]) != crc or before != chain or index != expected or key != expected:
                raise DamagedRecord(expected, _reason(key, expected, record, chain))
            add(Entry(index, term, kinds[kind], time, record[start:]))
            chain = crc
            expected += 1
    except (struct.error, IndexError):
        raise DamagedRecord(expected, _reason(key, expected, record, chain)) from None
    return tuple(entries), chain


def head_of(index: int, record: bytes) -> tuple[LogPosition, int, float]:
    """Return position, chain value and time of one record, checked by itself.

    Raises:
        DamagedRecord: it is damaged, or the record of another place.
    """
    survey = Survey(LogPosition(0, index - 1), before_of(index, record))
    survey.check(((index, record),))
    return survey.last, survey.chain, survey.time


def before_of(index: int, record: bytes) -> int:
    """Return the chain value that a record names for its predecessor; the record itself is not checked.

    Raises:
        DamagedRecord: it is too short to name one.
    """
    if len(record) < HEADER_BYTES:
        raise DamagedRecord(index, _cut_off(record))
    return int(_HEAD.unpack_from(record)[1])


class Survey:
    """Checks the records of a log in order, and keeps of them only what a starting peer has to know.

    After a ``DamagedRecord`` it stands just before the damaged record, and everything it has kept is sound.

    Attributes:
        last: the position of the newest record that was checked.
        chain: its chain value.
        time: the leader's time in it, in seconds.
        runs: ``(first index, term)`` of each run of equal terms.
        remembered: the configuration entries, in order.
    """

    def __init__(self, previous: LogPosition = NOWHERE, chain: int = GENESIS, time: float = 0.0) -> None:
        """Begin after ``previous``, whose chain value and time are given."""
        self.last = previous
        self.chain = chain
        self.time = time
        self.runs: list[tuple[int, int]] = []
        self.remembered: list[Entry] = []

    def check(self, pairs: Iterable[tuple[int, bytes]]) -> None:
        """Check the records that follow.

        Raises:
            DamagedRecord: a record is damaged, missing, does not follow the one before it, or its term goes back.
        """
        chain, time, expected, term = self.chain, self.time, self.last.index + 1, self.last.term
        unpack = _HEAD.unpack_from
        new_run = not self.runs
        try:
            for key, record in pairs:
                crc, before, index, its_term, its_time, kind = unpack(record)
                if (
                    crc32(record[4:]) != crc
                    or before != chain
                    or index != expected
                    or key != expected
                    or kind > _LAST_KIND
                ):
                    raise DamagedRecord(expected, _reason(key, expected, record, chain))
                if its_term != term or new_run:
                    self._begin_run(expected, term, its_term)
                    new_run = False
                if kind == _REMEMBERED:
                    self.remembered.append(Entry(index, its_term, _KINDS[kind], its_time, record[HEADER_BYTES:]))
                chain, time, term = crc, its_time, its_term
                expected += 1
        except struct.error:
            raise DamagedRecord(expected, _reason(key, expected, record, chain)) from None
        finally:
            self.chain, self.time, self.last = chain, time, LogPosition(term, expected - 1)

    def _begin_run(self, index: int, term: int, its_term: int) -> None:
        if its_term < term:
            raise DamagedRecord(index, f"has term {its_term}, after an entry of term {term}")
        self.runs.append((index, its_term))


def _reason(key: int, expected: int, record: bytes, chain: int) -> str:
    """Say what is wrong with a record that did not pass."""
    if key != expected:
        return f"is missing: entry {key} comes in its place"
    if len(record) < HEADER_BYTES:
        return _cut_off(record)
    crc, before, index, _, _, kind = _HEAD.unpack_from(record)
    if crc32(record[4:]) != crc:
        return f"does not match its checksum ({len(record)} bytes)"
    if index != expected:
        return f"holds the record of entry {index}"
    if before != chain:
        return "does not follow the entry before it: one of the two is lost, or left over from an earlier log"
    return _unknown_kind(kind)


def _cut_off(record: bytes) -> str:
    return f"is cut off: {len(record)} bytes are less than a header"


def _unknown_kind(kind: int) -> str:
    return f"is of kind {kind}, which format {FORMAT} does not have"
