"""What the machine is handed: committed, on our own disk, in order, in bounded batches."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from raft_actors.protocol import log as log_module
from raft_actors.protocol.effects import Apply, Effect, Load, ServeReads
from raft_actors.protocol.events import Applied, EntriesLoaded, Persisted
from raft_actors.protocol.log import recovered
from raft_actors.protocol.state import PeerState
from raft_actors.protocol.types import NOWHERE, LogPosition, Settings, Violation
from tests.behaviours import bench
from tests.behaviours.bench import append, entries, only, synced, take


def applied(effects: tuple[Effect, ...]) -> list[tuple[int, int]]:
    return [(one.entries[0].index, one.entries[-1].index) for one in bench.of_type(effects, Apply)]


def told(state: PeerState, commit: int) -> tuple[PeerState, tuple[Effect, ...]]:
    """The leader says what is committed."""
    return take(state, append("s2", 2, state.log.last, commit=commit))


def test_everything_committed_and_durable_is_handed_over_once() -> None:
    state, effects = told(bench.following(terms=(1, 2, 2, 2)), 3)
    assert applied(effects) == [(1, 3)]
    state, effects = told(state, 4)
    assert applied(effects) == [(4, 4)]
    assert applied(told(state, 4)[1]) == []


def test_what_is_committed_but_not_on_our_disk_waits() -> None:
    """BUG-03."""
    state, effects = told(bench.following(terms=(1, 2, 2, 2), durable=2), 4)
    assert applied(effects) == [(1, 2)]
    assert applied(synced(state).effects) == [(3, 4)]


def test_what_is_on_disk_but_not_committed_waits() -> None:
    assert applied(told(bench.following(terms=(1, 2, 2, 2)), 2)[1]) == [(1, 2)]


def test_batches_are_bounded_and_so_is_their_number() -> None:
    """A machine that falls behind holds four batches, not everything."""
    state = bench.following(terms=(2,) * 10, settings=Settings(max_batch_bytes=1))
    state, effects = told(state, 10)
    assert applied(effects) == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert state.applying == (1, 2, 3, 4)
    state, effects = take(state, Applied(2))
    assert applied(effects) == [(5, 5), (6, 6)]
    assert (state.last_applied, state.applying) == (2, (3, 4, 5, 6))


def test_a_report_that_comes_twice_takes_nothing_back() -> None:
    state = told(bench.following(terms=(2, 2, 2)), 3)[0]
    state = take(take(state, Applied(3)).state, Applied(1)).state
    assert state.last_applied == 3


def test_a_machine_that_applied_what_it_was_not_handed_is_a_violation() -> None:
    with pytest.raises(Violation, match="was handed only 1"):
        take(bench.following(commit=1), Applied(2))


# -- from the store ----------------------------------------------------------------------------------------------------


def restarted() -> PeerState:
    """Four entries on disk, none of them in memory."""
    state = bench.following(terms=(2, 2, 2, 2))
    return replace(state, log=recovered(NOWHERE, LogPosition(2, 4), ((1, 2),)))


def test_after_a_restart_the_machine_is_fed_from_the_store() -> None:
    state, effects = told(restarted(), 4)
    assert bench.of_type(effects, Load) == [Load("", 1, 4, 1 << 20)]
    assert bench.of_type(told(state, 4)[1], Load) == [], "one read at a time"
    state, effects = take(state, EntriesLoaded("", 1, entries(1, 2, 2)))
    assert applied(effects) == [(1, 2)]
    assert only(effects, Load).first == 3


def test_what_was_read_is_handed_over_before_what_comes_after_it() -> None:
    state = take(restarted(), append("s2", 2, LogPosition(2, 4), entries(5, 2), commit=5)).state
    state = take(state, Persisted(state.ballot, state.log.last)).state
    state, effects = take(state, EntriesLoaded("", 1, entries(1, 2, 2, 2, 2)))
    assert applied(effects) == [(1, 4), (5, 5)]


def test_a_read_that_failed_or_came_twice_is_ignored() -> None:
    state = told(restarted(), 4)[0]
    done = take(state, EntriesLoaded("", 1, entries(1, 2, 2, 2, 2))).state
    assert applied(take(done, EntriesLoaded("", 1, entries(1, 2))).effects) == []
    assert only(take(state, EntriesLoaded("", 1, ())).effects, Load).first == 1


def test_what_was_read_before_a_snapshot_took_its_place_is_ignored() -> None:
    """The log goes on behind it, and its state is not with the machine yet."""
    last = LogPosition(1, 3)
    state = bench.peer(terms=(1, 1, 1), commit=3, handed=1, last_applied=1, loading=True)
    state = replace(state, log=state.log.compacted(last), restoring=bench.snapshot(last))
    after, effects = take(state, EntriesLoaded("", 2, entries(2, 1, 1)))
    assert (after, effects) == (replace(state, loading=False), ())


def test_a_store_that_disagrees_with_the_log_stops_the_peer() -> None:
    state = told(restarted(), 4)[0]
    with pytest.raises(Violation, match="another committed entry 2"):
        take(state, EntriesLoaded("", 1, entries(1, 1, 1)))


def test_memory_is_bounded_but_keeps_what_is_not_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "CACHED_ENTRIES", 2)
    state = bench.following(terms=(2,) * 10, durable=3)
    state = told(state, 1)[0]
    assert state.log.tail_first == 4
    assert told(state, 10)[0].log.tail_first == 4
    assert synced(state).state.log.tail_first == 9


# -- reads -------------------------------------------------------------------------------------------------------------


def test_reads_wait_until_the_machine_was_handed_their_index() -> None:
    state = bench.following(terms=(2, 2, 2), confirmed_reads=((2, 7), (3, 8)))
    state, effects = told(state, 2)
    assert effects[-1] == ServeReads(7, 2)
    assert [type(one) for one in effects if isinstance(one, Apply | ServeReads)] == [Apply, ServeReads]
    state, effects = told(state, 3)
    assert bench.of_type(effects, ServeReads) == [ServeReads(8, 3)]
    assert state.confirmed_reads == ()
