"""The log is a value: what it says after any history is what a plain list of entries would say."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from raft_actors.protocol import log as log_module
from raft_actors.protocol.entry import Entry
from raft_actors.protocol.log import Log, recovered
from raft_actors.protocol.types import NOWHERE, LogPosition
from tests.behaviours.bench import entries, entry


def log_with(*terms: int) -> Log:
    return Log().append(entries(1, *terms)) if terms else Log()


def test_an_empty_log_ends_nowhere() -> None:
    log = Log()
    assert (log.first, log.last, log.tail_first) == (1, NOWHERE, 1)
    assert log.term_at(0) == 0
    assert log.term_at(1) is None
    assert log.has(NOWHERE)


def test_term_at_knows_every_entry_and_nothing_else() -> None:
    log = log_with(1, 1, 2, 4, 4)
    assert [log.term_at(index) for index in range(-1, 8)] == [None, 0, 1, 1, 2, 4, 4, None, None]
    assert log.position_at(3) == LogPosition(2, 3)
    assert log.position_at(6) is None


def test_terms_are_kept_as_runs() -> None:
    log = log_with(1, 1, 2).append(entries(4, 2, 2)).append(entries(6, 3))
    assert log.runs == ((1, 1), (3, 2), (6, 3))


def test_a_log_holds_a_position_only_with_its_term() -> None:
    log = log_with(1, 2)
    assert log.has(LogPosition(2, 2))
    assert not log.has(LogPosition(1, 2))
    assert not log.has(LogPosition(2, 3))


def test_truncating_drops_the_entry_and_everything_after_it() -> None:
    log = log_with(1, 1, 2, 3).truncate(3)
    assert log.last == LogPosition(1, 2)
    assert log.tail == entries(1, 1, 1)
    assert log.runs == ((1, 1),)
    assert log.tail_bytes == sum(len(one.data) for one in log.tail)


def test_truncating_everything_leaves_an_empty_log() -> None:
    assert log_with(1, 2).truncate(1) == Log()


def test_what_is_cut_off_is_durable_no_more() -> None:
    log = log_with(1, 1, 1, 1).persisted(LogPosition(1, 4))
    assert log.durable == 4
    assert log.truncate(3).durable == 2
    assert log.truncate(3).append(entries(3, 2)).durable == 2


def test_an_overwritten_position_confirms_nothing() -> None:
    log = log_with(1, 1, 1).truncate(2).append(entries(2, 2, 2))
    assert log.persisted(LogPosition(1, 3)) is log
    assert log.persisted(LogPosition(2, 3)).durable == 3


def test_durability_never_goes_back() -> None:
    log = log_with(1, 1, 1).persisted(LogPosition(1, 3))
    assert log.persisted(LogPosition(1, 2)) is log


def test_a_log_appended_to_stays_what_it_was() -> None:
    before = log_with(1)
    before.append(entries(2, 1))
    assert before == log_with(1)


# -- slices ------------------------------------------------------------------------------------------------------------


def test_a_slice_is_bounded_by_bytes_but_never_empty() -> None:
    log = Log().append(tuple(entry(index, 1, b"x" * 68) for index in range(1, 6)))
    assert [len(log.slice(1, size) or ()) for size in (1, 100, 199, 200, 499, 500)] == [1, 1, 1, 2, 4, 5]


def test_a_slice_ends_where_it_is_told_to() -> None:
    log = log_with(1, 1, 1, 1)
    assert log.slice(2, 1 << 20, 3) == entries(2, 1, 1)
    assert log.slice(2, 1 << 20) == entries(2, 1, 1, 1)


def test_a_large_log_is_sliced_from_its_middle() -> None:
    log = Log().append(tuple(entry(index, 1, b"x" * 68) for index in range(1, 101)))
    assert [one.index for one in log.slice(50, 250) or ()] == [50, 51]
    assert [one.index for one in log.slice(50, 250, 50) or ()] == [50]


def test_what_is_not_in_memory_has_no_slice() -> None:
    log = recovered(NOWHERE, LogPosition(1, 5), ((1, 1),)).append(entries(6, 1))
    assert log.slice(5, 100) is None
    assert log.slice(6, 100) == entries(6, 1)
    assert log.tail_first == 6


# -- memory ------------------------------------------------------------------------------------------------------------


def test_memory_is_bounded_by_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "CACHED_ENTRIES", 10)
    log = Log().append(entries(1, *[1] * 20))
    assert log.trimmed(21) is log
    log = log.append(entries(21, 1))
    assert log.overfull
    trimmed = log.trimmed(22)
    assert (trimmed.tail_first, len(trimmed.tail)) == (12, 10)
    assert trimmed.tail_bytes == sum(len(one.data) for one in trimmed.tail)
    assert trimmed.last == log.last


def test_memory_is_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "CACHED_BYTES", 100)
    log = Log().append(tuple(entry(index, 1, b"x" * 50) for index in range(1, 6)))
    trimmed = log.trimmed(6)
    assert (trimmed.tail_first, trimmed.tail_bytes) == (4, 100)
    assert not trimmed.overfull


def test_what_is_still_needed_is_never_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "CACHED_ENTRIES", 10)
    log = Log().append(entries(1, *[1] * 50))
    assert log.trimmed(5).tail_first == 5
    assert log.trimmed(1) is log


def test_one_entry_larger_than_the_cache_is_dropped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "CACHED_BYTES", 100)
    log = Log().append((entry(1, 1, b"x" * 1000),))
    assert log.trimmed(2).tail == ()
    assert log.trimmed(2).term_at(1) == 1


def test_a_recovered_log_is_durable_and_not_in_memory() -> None:
    log = recovered(LogPosition(1, 3), LogPosition(4, 9), ((1, 1), (5, 2), (8, 4)))
    assert (log.first, log.tail_first, log.durable, log.tail_bytes) == (4, 10, 9, 0)
    assert [log.term_at(index) for index in (2, 3, 4, 5, 8, 9, 10)] == [None, 1, 1, 2, 4, 4, None]
    log = log.append(entries(10, 4, 5))
    assert log.runs == ((1, 1), (5, 2), (8, 4), (11, 5))


def test_a_log_compacted_to_its_end_goes_on() -> None:
    log = recovered(LogPosition(3, 7), LogPosition(3, 7), ()).append(entries(8, 3, 4))
    assert [log.term_at(index) for index in (6, 7, 8, 9)] == [None, 3, 3, 4]
    assert log.truncate(8).last == LogPosition(3, 7)


# -- conflicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "asked", "hint"),
    [
        ((1, 1, 1), LogPosition(1, 9), LogPosition(1, 3)),
        ((1, 1, 3, 3, 3), LogPosition(2, 5), LogPosition(1, 2)),
        ((1, 1, 3, 3, 3), LogPosition(3, 4), LogPosition(3, 4)),
        ((3, 3, 3), LogPosition(2, 3), NOWHERE),
        ((1, 2, 4, 4), LogPosition(3, 2), LogPosition(2, 2)),
        ((), LogPosition(1, 1), NOWHERE),
    ],
)
def test_a_conflict_hint_skips_whole_terms(terms: tuple[int, ...], asked: LogPosition, hint: LogPosition) -> None:
    assert log_with(*terms).conflict_hint(asked) == hint


def test_where_the_log_was_compacted_any_hint_may_match() -> None:
    """A follower so far behind needs a snapshot, and is not asked once more before."""
    assert log_with(1, 1, 2, 2).compacted(LogPosition(2, 3)).conflict_hint(LogPosition(1, 2)) == LogPosition(1, 2)


# -- against a list ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Naive:
    """A log as a list, with no cleverness."""

    entries: tuple[Entry, ...] = ()
    durable: int = 0
    pending: tuple[LogPosition, ...] = field(default=())

    def term_at(self, index: int) -> int | None:
        if index == 0:
            return 0
        return self.entries[index - 1].term if 1 <= index <= len(self.entries) else None

    def hint(self, position: LogPosition) -> LogPosition:
        fitting = [
            LogPosition(one.term, one.index)
            for one in self.entries
            if one.index <= position.index and one.term <= position.term
        ]
        return fitting[-1] if fitting else NOWHERE


@st.composite
def histories(draw: st.DrawFn) -> tuple[Log, Naive]:
    """Appends, truncations, syncs and trims; terms only grow, as they do in Raft."""
    log, naive, term = Log(), Naive(), 1
    for _ in range(draw(st.integers(0, 12))):
        move = draw(st.sampled_from(["append", "append", "truncate", "persist", "trim"]))
        last = len(naive.entries)
        if move == "append":
            count, grown = draw(st.integers(1, 5)), draw(st.integers(0, 2))
            term += grown
            new = tuple(
                entry(index, term, b"x" * draw(st.integers(0, 9))) for index in range(last + 1, last + count + 1)
            )
            log, naive = log.append(new), replace(naive, entries=naive.entries + new)
        elif move == "truncate" and last:
            index = draw(st.integers(1, last))
            term += 1
            log = log.truncate(index)
            naive = replace(naive, entries=naive.entries[: index - 1], durable=min(naive.durable, index - 1))
        elif move == "persist" and last:
            index, wrong = draw(st.integers(1, last)), draw(st.booleans())
            at = naive.entries[index - 1].term
            log = log.persisted(LogPosition(at - 1 if wrong else at, index))
            naive = naive if wrong else replace(naive, durable=max(naive.durable, index))
        elif move == "trim":
            drop = draw(st.integers(0, len(log.tail)))
            tail = log.tail[drop:]
            log = changed(log, tail=tail, tail_bytes=sum(len(one.data) for one in tail))
    return log, naive


@given(histories())
def test_a_log_agrees_with_a_list(history: tuple[Log, Naive]) -> None:
    log, naive = history
    end = len(naive.entries)
    assert log.last.index == end
    assert log.durable == naive.durable
    assert [log.term_at(index) for index in range(end + 2)] == [naive.term_at(index) for index in range(end + 2)]
    assert log.tail == naive.entries[log.tail_first - 1 :]
    assert log.tail_bytes == sum(len(one.data) for one in log.tail)


@given(histories(), st.integers(0, 8), st.integers(0, 70))
def test_a_conflict_hint_agrees_with_a_list(history: tuple[Log, Naive], term: int, index: int) -> None:
    log, naive = history
    position = LogPosition(term, index)
    assert log.conflict_hint(position) == naive.hint(position)


@given(histories(), st.integers(1, 60), st.integers(1, 400), st.integers(0, 60))
def test_a_slice_agrees_with_a_list(history: tuple[Log, Naive], first: int, size: int, more: int) -> None:
    log, naive = history
    end = len(naive.entries)
    if first > end:
        return
    last = min(first + more, end)
    found = log.slice(first, size, last)
    if first < log.tail_first:
        assert found is None
        return
    wanted: list[Entry] = []
    for one in naive.entries[first - 1 : last]:
        if wanted and sum(len(each.data) + 32 for each in (*wanted, one)) > size:
            break
        wanted.append(one)
    assert found == tuple(wanted)
