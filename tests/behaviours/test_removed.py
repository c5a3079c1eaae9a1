"""Who is told that it is out of its cluster: when it believes that, and when it is let in again."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from raft_actors.behaviours.deadlines import next_deadline
from raft_actors.behaviours.transition import is_removed, may_stand
from raft_actors.protocol.configuration import Configuration
from raft_actors.protocol.effects import Reject
from raft_actors.protocol.events import ReadsRequested
from raft_actors.protocol.messages import Removed
from raft_actors.protocol.state import NEVER, Follower, PeerState
from raft_actors.protocol.types import NOWHERE, LogPosition
from tests.behaviours import bench
from tests.behaviours.bench import append, of_type, removed, sent, take

WITHOUT = bench.configuration("s2", "s3")


def knowing(first: Configuration, second: Configuration, *, commit: int, name: str = "s1") -> PeerState:
    """A peer with the configurations ``first`` at 1 and ``second`` at 2."""
    return replace(bench.peer(name, terms=(1, 1), commit=commit), configurations=((1, first), (2, second)))


def leaving() -> PeerState:
    """Its log has the configuration without it, at 2, and it does not know whether that is committed."""
    return knowing(bench.THREE, WITHOUT, commit=1)


def test_who_is_told_of_the_very_entry_that_it_has_is_out() -> None:
    state = take(leaving(), removed("s2", 1, 2)).state
    assert is_removed(state)
    assert (type(state.role), next_deadline(state)) == (Follower, NEVER)
    assert of_type(take(state, ReadsRequested(7)).effects, Reject)


def test_who_has_seen_the_commit_of_the_configuration_without_it_is_out_and_stands_no_more() -> None:
    gone = knowing(bench.THREE, WITHOUT, commit=2)
    assert (is_removed(leaving()), may_stand(leaving())) == (False, True)
    assert (is_removed(gone), may_stand(gone)) == (True, False)


def test_who_is_told_of_a_later_one_is_out() -> None:
    assert is_removed(take(bench.peer(), removed("s2", 1, 9)).state)


@pytest.mark.parametrize("state", [knowing(WITHOUT, bench.THREE, commit=2)])
@pytest.mark.parametrize("index", [1, 2])
def test_a_member_that_knows_better_stays_one(index: int, state: PeerState) -> None:
    """It was let in again since, or by that very entry: the news is old."""
    assert take(state, removed("s2", 1, index)).state == state


def test_nobody_is_out_who_was_never_in() -> None:
    state = bench.unconfigured()
    assert take(state, removed("s2", 1, 9)).state == state


def left_behind(*terms: int) -> PeerState:
    """A deposed leader left it the configuration at 2, with it, after the one at 1."""
    return replace(bench.peer(terms=terms, commit=1), configurations=((1, WITHOUT), (2, bench.THREE)))


@pytest.mark.parametrize("terms", [(1, 2), (1, 2, 2, 2)])
@pytest.mark.parametrize("index", [1, 2])
def test_a_configuration_that_something_committed_took_the_place_of_is_no_better_knowledge(index: int, terms) -> None:
    """It may stand at the same index, or at a higher one, and so may all of its log."""
    told = removed("s2", 3, index, commit=LogPosition(3, 2))
    assert is_removed(take(left_behind(*terms), told).state)


@pytest.mark.parametrize("commit", [NOWHERE, LogPosition(1, 9), LogPosition(2, 1)])
def test_a_configuration_beyond_what_the_sender_has_committed_may_be_the_later_one(commit: LogPosition) -> None:
    state = left_behind(1, 2)
    assert take(state, removed("s2", 3, 1, commit)).state == state


def test_whoever_tells_says_how_much_it_has_committed_and_whoever_passes_it_on_does_not() -> None:
    sure = replace(knowing(bench.THREE, WITHOUT, commit=3, name="s2"), log=bench.peer("s2", terms=(1, 1, 4)).log)
    asked = bench.request_vote("s1", 9, to="s2")
    assert sent(take(sure, asked).effects, Removed, "s1")[0].commit == LogPosition(4, 3)
    told = take(replace(bench.peer("s2"), removed=9), bench.request_vote("s1", 9, LogPosition(1, 8), to="s2"))
    assert sent(told.effects, Removed, "s1")[0].commit == NOWHERE


def test_whoever_hears_a_leader_is_in_again() -> None:
    state = take(bench.peer(), removed("s2", 1, 9)).state
    assert not is_removed(take(state, append("s3", 2, LogPosition(1, 1))).state)


def test_who_stands_and_is_out_is_told_by_those_who_know_it_for_sure() -> None:
    asked = bench.request_vote("s1", 9, to="s2")
    sure = knowing(bench.THREE, WITHOUT, commit=2, name="s2")
    assert sent(take(sure, asked).effects, Removed, "s1")[0].index == 2
    unsure = knowing(bench.THREE, WITHOUT, commit=1, name="s2")
    assert sent(take(unsure, asked).effects, Removed) == []


def test_who_is_out_passes_that_on_to_those_who_lack_the_entry_and_stand_in_vain() -> None:
    """They may know nobody else to ask. Who lacks a committed entry cannot win, so it may as well listen."""
    told = replace(bench.peer("s2"), removed=9)
    late = bench.request_vote("s1", 9, LogPosition(1, 8), to="s2")
    assert sent(take(told, late).effects, Removed, "s1")[0].index == 9
    assert is_removed(take(bench.peer(), removed("s2", 1, 9)).state)
    known = bench.request_vote("s1", 9, LogPosition(1, 9), to="s2")
    assert sent(take(told, known).effects, Removed) == []
