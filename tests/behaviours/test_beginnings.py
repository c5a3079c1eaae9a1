"""Logs that begin after a snapshot, peers that lost the state before theirs, and how both come back."""

from __future__ import annotations

from typing import Any

import pytest

from raft_actors.behaviours.deadlines import next_deadline
from raft_actors.behaviours.recovery import recover
from raft_actors.protocol.configuration import Configuration
from raft_actors.protocol.effects import (
    Adopt,
    Apply,
    Persist,
    StoreChunk,
)
from raft_actors.protocol.events import (
    Applied,
    PeerDown,
    Persisted,
    SnapshotLoaded,
    Tick,
)
from raft_actors.protocol.log import recovered
from raft_actors.protocol.messages import AppendEntriesReply, PreVote, RequestVoteReply
from raft_actors.protocol.state import Candidate, Follower, Joining, PeerState
from raft_actors.protocol.types import NOWHERE, Ballot, LogPosition, Settings
from tests.behaviours import bench
from tests.behaviours.bench import (
    NOW,
    append,
    at,
    entries,
    of_type,
    only,
    persist_then_send,
    piece,
    take,
    take_all,
)
from tests.behaviours.test_installing import FIRST_PIECE, LAST, WHOLE, follower, installed, reply

# -- a log that begins later -------------------------------------------------------------------------------------------


def compacted() -> PeerState:
    """A follower whose log begins after 6; everything is applied."""
    state = installed()[0]
    return take_all(state, Persisted(state.ballot, LAST), SnapshotLoaded(WHOLE.id), Applied(6))


@pytest.mark.parametrize("first", [1, 4])
def test_entries_from_before_the_beginning_of_the_log_are_skipped(first: int) -> None:
    """BUG-51: what was dropped was committed, so it equals the leader's."""
    previous = LogPosition(1, first - 1) if first > 1 else NOWHERE
    new = entries(first, *(1,) * (6 - first), 2, 2, 2)
    state, effects = take(compacted(), append("s2", 2, previous, new))
    assert [one.index for one in only(effects, Persist).entries] == [7, 8]
    assert persist_then_send(effects, AppendEntriesReply).match_index == 8
    assert state.log.last == LogPosition(2, 8)


def test_entries_that_end_before_the_beginning_of_the_log_match_up_to_there() -> None:
    """All of it was committed, so the leader has it."""
    state, effects = take(compacted(), append("s2", 2, LogPosition(1, 2), entries(3, 1, 1)))
    message = only(effects, AppendEntriesReply)
    assert (message.success, message.match_index) == (True, 6)
    assert of_type(effects, Persist) == []
    assert state.log == compacted().log


def test_a_vote_compares_with_the_snapshot_if_the_log_is_empty() -> None:
    state = take(compacted(), PeerDown("s2")).state
    for last, granted in ((LogPosition(2, 5), False), (LogPosition(1, 9), False), (LAST, True)):
        effects = take(state, bench.request_vote("s3", 3, last)).effects
        assert only(effects, RequestVoteReply).granted is granted


# -- a peer that lost its state ----------------------------------------------------------------------------------------


def lost(**more: Any) -> PeerState:
    """Its log is 7 and 8 after 6, and the snapshot of 6 is gone or damaged."""
    fields: dict[str, Any] = {
        "name": "s1",
        "incarnation": bench.store("s1"),
        "settings": Settings(),
        "cluster": bench.CLUSTER,
        "ballot": Ballot(2),
        "log": recovered(LAST, LogPosition(2, 8), ((7, 2),)),
        "configurations": ((1, bench.THREE),),
        "time": 8.0,
        "moment": at(),
        **more,
    }
    return recover(**fields)


def test_a_peer_that_lost_its_state_never_stands() -> None:
    state = lost()
    assert state.lacks_state
    for event in (append("s2", 2, LogPosition(2, 8)), Tick(), PeerDown("s2"), Tick()):
        state, effects = take(state, event, at(next_deadline(state) if isinstance(event, Tick) else NOW))
        assert isinstance(state.role, Follower)
        assert not bench.sent(effects, PreVote)
    assert state.leader is None, "it forgets a leader that it does not hear"


def test_alone_a_peer_that_lost_its_state_does_not_stand_either() -> None:
    one = bench.configuration("s1")
    state, effects = take(lost(configurations=((1, one),)), Tick())
    assert (type(state.role), effects) == (Follower, ())


def test_a_peer_that_lost_its_state_does_not_take_over() -> None:
    state = take(lost(), append("s2", 2, LogPosition(2, 8))).state
    state, effects = take(state, bench.timeout_now("s2", 2))
    assert (state.term, effects) == (2, ())


def test_a_peer_that_lost_its_state_still_votes_by_its_log() -> None:
    """Its log is as good as before: what it has acknowledged is there."""
    effects = take(lost(), bench.request_vote("s3", 3, LogPosition(2, 8))).effects
    assert only(effects, RequestVoteReply).granted
    assert not only(take(lost(), bench.request_vote("s3", 3, LogPosition(2, 7))).effects, RequestVoteReply).granted


def test_a_peer_that_lost_its_state_asks_for_a_snapshot_and_applies_nothing() -> None:
    state, effects = take(lost(), append("s2", 2, LogPosition(2, 8), commit=8))
    message = only(effects, AppendEntriesReply)
    assert (message.success, message.match_index, message.wants) == (True, 8, 6)
    assert of_type(effects, Apply) == []
    assert state.handed == 0
    assert only(take(follower(), append("s2", 2, LogPosition(1, 3))).effects, AppendEntriesReply).wants == 0


def test_a_peer_that_lost_its_state_takes_a_snapshot_of_what_is_committed_here_long_since() -> None:
    state = take(lost(), append("s2", 2, LogPosition(2, 8), commit=8)).state
    state, effects = installed(state)
    assert not state.lacks_state
    assert (state.log.previous, state.log.last) == (LAST, LogPosition(2, 8))
    effects = take(state, SnapshotLoaded(WHOLE.id)).effects
    assert [type(one) for one in effects] == [Adopt, bench.fx.Load]
    message = only(take(state, append("s2", 2, LogPosition(2, 8))).effects, AppendEntriesReply)
    assert message.wants == 0
    assert next_deadline(state) == NOW + 0.45


def test_a_peer_that_lost_its_state_refuses_a_snapshot_from_before_its_log() -> None:
    """It would not lead up to where the log begins."""
    effects = take(lost(), piece("s2", 2, LogPosition(2, 5))).effects
    assert of_type(effects, StoreChunk) == []
    assert reply(effects) == (0, 0, 5)


# -- recovery ----------------------------------------------------------------------------------------------------------


def test_a_peer_comes_back_with_its_snapshot_applied_and_committed() -> None:
    state = lost(snapshot=WHOLE)
    assert (state.commit_index, state.handed, state.last_applied, state.snapshot_index) == (6, 6, 6, 6)
    assert not state.lacks_state
    assert next_deadline(state) == NOW + 0.45
    effects = take(state, append("s2", 2, LogPosition(2, 8), commit=8)).effects
    assert not of_type(effects, Adopt)
    assert only(effects, bench.fx.Load).first == 7, "only what came after it is applied again"


def test_a_peer_comes_back_with_a_snapshot_that_the_log_overlaps() -> None:
    """Some entries stay behind it for others."""
    state = lost(snapshot=WHOLE, log=recovered(LogPosition(1, 3), LogPosition(2, 8), ((4, 1), (6, 2))))
    assert (state.commit_index, state.handed) == (6, 6)


def test_alone_a_peer_comes_back_from_its_snapshot_and_stands() -> None:
    one = bench.configuration("s1")
    state = lost(snapshot=WHOLE, configurations=((1, one),))
    assert isinstance(take(state, Tick()).state.role, Candidate)


def test_what_a_peer_received_in_part_is_forgotten_by_a_restart() -> None:
    assert lost(snapshot=WHOLE).receiving is None


def test_a_candidate_that_is_sent_a_snapshot_follows_its_sender() -> None:
    state, effects = take(bench.candidate(terms=(1, 1)), FIRST_PIECE)
    assert (state.role, state.leader) == (Follower(NOW + 0.45), "s2")
    assert only(effects, StoreChunk).id == WHOLE.id


# -- whoever is told to join -------------------------------------------------------------------------------------------

IN, OUT = bench.configuration("s1", "s2"), bench.configuration("s2")
AS_LEARNER = Configuration(OUT.voters, (), bench.configuration("s1").voters)


@pytest.mark.parametrize(
    ("known", "asks"),
    [
        ((), True),
        ((OUT,), True),
        ((IN,), False),
        ((AS_LEARNER,), False),
        ((IN, OUT), False),
        ((AS_LEARNER, OUT), True),
    ],
    ids=["fresh", "not in yet", "a voter", "a learner", "removed", "given up before it had a vote"],
)
def test_a_start_asks_to_be_let_in_unless_the_log_has_decided(known: tuple[Configuration, ...], asks: bool) -> None:
    state = recover(
        name="s1",
        incarnation=bench.store("s1"),
        settings=Settings(),
        cluster=bench.CLUSTER if known else "",
        ballot=Ballot(1),
        log=recovered(NOWHERE, LogPosition(1, len(known)), ((1, 1),) if known else ()),
        configurations=tuple(enumerate(known, 1)),
        time=0.0,
        moment=at(),
        joining=Joining(("s2",)),
    )
    assert (state.joining is not None) == asks
