"""Log format 1, record by record: pinned bytes, and every kind of damage is seen."""

from __future__ import annotations

from itertools import pairwise
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.log import Log
from raft_actors.protocol.types import LogPosition
from raft_actors.records import (
    GENESIS,
    HEADER_BYTES,
    DamagedRecord,
    Survey,
    decode_record,
    decode_records,
    encode_entries,
    head_of,
)
from tests.storage.log_tools import change, command, commands, configuration_of, flipped, noop

U63 = st.integers(0, 2**63 - 1)


@st.composite
def runs_of_entries(draw: st.DrawFn) -> tuple[Entry, ...]:
    index = draw(st.integers(1, 2**62))
    term = draw(st.integers(0, 2**40))
    made = []
    for _ in range(draw(st.integers(1, 12))):
        term += draw(st.integers(0, 2))
        kind = draw(st.sampled_from(EntryKind))
        time = draw(st.floats(allow_nan=False, allow_infinity=False))
        made.append(Entry(index, term, kind, time, draw(st.binary(max_size=300))))
        index += 1
    return tuple(made)


def damage_of(pairs: list[tuple[int, bytes]], chain: int = GENESIS) -> DamagedRecord | None:
    """Return the damage that a survey sees, after making sure that decoding sees the same."""
    found = []
    for look in (lambda: Survey(chain=chain).check(pairs), lambda: decode_records(pairs, chain)):
        try:
            look()
            found.append(None)
        except DamagedRecord as damage:
            found.append(damage)
    assert str(found[0]) == str(found[1])
    return found[0]


def test_the_bytes_of_format_1_are_pinned() -> None:
    entries = (
        Entry(1, 1, EntryKind.NOOP, 0.0),
        Entry(2, 1, EntryKind.COMMAND, 1_700_000_000.5, b"set foo bar"),
        Entry(3, 2, EntryKind.CONFIGURATION, 1_700_000_001.0, b"\x93\x90\x90\x90"),
        Entry(4, 2**40, EntryKind.SESSION, -1.0, b"\x00\xff"),
    )
    pairs, chain = encode_entries(entries, GENESIS)
    assert [(index, record.hex(" ", -4)) for index, record in pairs] == GOLDEN
    assert f"{GENESIS:08x} {chain:08x}" == GOLDEN_CHAIN


GOLDEN = [
    (1, "af9175bd e1f6587f 01000000 00000000 01000000 00000000 00000000 00000000 01"),
    (2, "9163cc6c af9175bd 02000000 00000000 01000000 00000000 00002040 fc54d941 00736574 20666f6f 20626172"),
    (3, "01efa3fd 9163cc6c 03000000 00000000 02000000 00000000 00004040 fc54d941 02939090 90"),
    (4, "491429f2 01efa3fd 04000000 00000000 00000000 00010000 00000000 0000f0bf 0300ff"),
]
GOLDEN_CHAIN = "7f58f6e1 f2291449"


def test_a_record_is_laid_out_as_documented() -> None:
    ((_, record),), chain = encode_entries((Entry(7, 3, EntryKind.SESSION, 1.5, b"abc"),), 0x01020304)
    assert len(record) == HEADER_BYTES + 3
    assert record[0:4] == chain.to_bytes(4, "little") == crc32(record[4:]).to_bytes(4, "little")
    assert record[4:8] == bytes((4, 3, 2, 1))
    assert (record[8], record[16], record[32], record[33:]) == (7, 3, 3, b"abc")


@given(runs_of_entries(), st.integers(0, 2**32 - 1))
def test_what_was_encoded_is_decoded(entries: tuple[Entry, ...], chain: int) -> None:
    pairs, end = encode_entries(entries, chain)
    assert decode_records(pairs, chain) == (entries, end)
    assert decode_records(pairs) == (entries, end)
    assert [index for index, _ in pairs] == [entry.index for entry in entries]


@given(runs_of_entries(), st.integers(0, 2**32 - 1), st.data())
def test_a_log_may_be_encoded_in_any_portions(entries: tuple[Entry, ...], chain: int, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(entries)))
    first, middle = encode_entries(entries[:cut], chain)
    second, end = encode_entries(entries[cut:], middle)
    assert (first + second, end) == encode_entries(entries, chain)


@given(runs_of_entries(), st.data())
def test_any_flipped_bit_is_seen(entries: tuple[Entry, ...], data: st.DataObject) -> None:
    pairs, _ = encode_entries(entries, 5)
    at = data.draw(st.integers(0, len(pairs) - 1))
    index, record = pairs[at]
    place = data.draw(st.integers(0, len(record) - 1))
    pairs[at] = (index, flipped(record, place, data.draw(st.integers(0, 7))))
    with pytest.raises(DamagedRecord) as caught:
        decode_records(pairs, 5)
    assert caught.value.index == index


def test_every_single_flipped_bit_of_a_record_is_seen_without_its_neighbours() -> None:
    ((_, record),), _ = encode_entries((command(1),), GENESIS)
    for place in range(len(record)):
        for bit in range(8):
            with pytest.raises(DamagedRecord):
                decode_records(((1, flipped(record, place, bit)),))


def test_a_survey_keeps_what_a_starting_peer_needs() -> None:
    change_1, change_5 = change(1, 1, configuration_of("s1", "s2")), change(5, 3, configuration_of("s1"))
    session = Entry(6, 3, EntryKind.SESSION, 9.25, b"session")
    entries = (change_1, command(2), command(3, term=2), noop(4, 3), change_5, session)
    pairs, chain = encode_entries(entries, GENESIS)
    survey = Survey()
    survey.check(pairs[:3])
    survey.check([])
    survey.check(pairs[3:])
    assert survey.last == LogPosition(3, 6)
    assert (survey.chain, survey.time) == (chain, 9.25)
    assert survey.remembered == [change_1, change_5]
    assert tuple(survey.runs) == Log().append(entries).runs == ((1, 1), (3, 2), (4, 3))


def test_a_survey_of_compacted_logs_begins_a_run_even_in_the_term_before() -> None:
    pairs, _ = encode_entries(commands(8, 9, term=4), 77)
    survey = Survey(LogPosition(4, 7), 77, 3.0)
    survey.check(pairs)
    assert survey.runs == [(8, 4)]


def test_a_survey_stands_before_the_damage_and_has_kept_nothing_of_it() -> None:
    entries = (command(1), change(2, 1, configuration_of("s1")), command(3), change(4, 2, configuration_of("s2")))
    pairs, _ = encode_entries(entries, GENESIS)
    survey = Survey()
    with pytest.raises(DamagedRecord, match="entry 4 does not match its checksum"):
        survey.check([*pairs[:3], (4, flipped(pairs[3][1]))])
    assert survey.last == LogPosition(1, 3)
    assert survey.chain == encode_entries(entries[:3], GENESIS)[1]
    assert (survey.runs, survey.remembered, survey.time) == ([(1, 1)], [entries[1]], entries[2].time)


def test_swapped_records_are_seen() -> None:
    pairs, _ = encode_entries(commands(1, 4), GENESIS)
    (_, second), (_, third) = pairs[1:3]
    assert "entry 2 holds the record of entry 3" in str(damage_of([pairs[0], (2, third), (3, second), pairs[3]]))


def test_a_missing_record_is_seen() -> None:
    pairs, _ = encode_entries(commands(1, 4), GENESIS)
    assert "entry 2 is missing: entry 3 comes in its place" in str(damage_of([pairs[0], *pairs[2:]]))


def test_a_record_left_over_from_an_overwritten_log_is_seen() -> None:
    old, _ = encode_entries((*commands(1, 2), command(3, data=b"old")), GENESIS)
    new, _ = encode_entries((*commands(1, 2), command(3, data=b"new"), command(4)), GENESIS)
    assert "entry 4 does not follow the entry before it" in str(damage_of([*new[:2], old[2], new[3]]))


def test_a_log_of_another_beginning_is_seen() -> None:
    pairs, _ = encode_entries(commands(1, 2), 12345)
    assert "entry 1 does not follow" in str(damage_of(pairs))
    assert damage_of(pairs, 12345) is None


@pytest.mark.parametrize("length", range(HEADER_BYTES + 5))
def test_a_record_that_is_cut_off_is_seen(length: int) -> None:
    pairs, _ = encode_entries((command(1, data=b"12345"), command(2)), GENESIS)
    damage = damage_of([(1, pairs[0][1][:length]), pairs[1]])
    assert damage is not None
    assert damage.index == 1


def test_a_kind_that_the_format_does_not_have_is_named() -> None:
    ((_, record),), _ = encode_entries((command(1),), GENESIS)
    body = record[4:32] + b"\x09" + record[33:]
    planted = crc32(body).to_bytes(4, "little") + body
    assert str(damage_of([(1, planted)])) == "entry 1 is of kind 9, which format 1 does not have"


def test_a_term_that_goes_back_is_seen_by_a_survey() -> None:
    pairs, _ = encode_entries((command(1, term=5), command(2, term=4)), GENESIS)
    with pytest.raises(DamagedRecord, match="entry 2 has term 4, after an entry of term 5"):
        Survey().check(pairs)


def test_one_record_can_be_checked_by_itself() -> None:
    pairs, _ = encode_entries(commands(1, 3, term=6), GENESIS)
    chains = [encode_entries(commands(1, n, term=6), GENESIS)[1] for n in range(4)]
    for (index, record), (before, chain) in zip(pairs, pairwise(chains), strict=True):
        assert head_of(index, record)[:2] == (LogPosition(6, index), chain)
        assert decode_record(index, record, before) == (command(index, 6), chain)
    with pytest.raises(DamagedRecord):
        head_of(2, flipped(pairs[1][1], 20))
    with pytest.raises(DamagedRecord):
        head_of(3, pairs[1][1])


def test_nothing_decodes_to_nothing() -> None:
    assert decode_records([]) == ((), GENESIS)
    assert decode_records([], 9) == ((), 9)
    assert encode_entries((), 9) == ([], 9)
