"""Section 8 of the Raft paper (clients, reads), sentence by sentence. A docstring paraphrases its sentence."""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.protocol.effects import Persist, Reject, ServeReads
from raft_actors.protocol.entry import EntryKind
from raft_actors.protocol.events import ReadsRequested, WritesRequested
from raft_actors.protocol.messages import AppendEntries
from tests.behaviours import bench
from tests.behaviours.bench import (
    ack,
    leading,
    only,
    sent,
    synced,
    take,
    vote,
)


def test_8_who_does_not_lead_turns_a_command_away_and_names_the_leader() -> None:
    """§8: a server that is not the leader rejects the request and tells the most recent leader it has heard from."""
    assert only(take(bench.following("s2"), WritesRequested(1, (b"x",))).effects, Reject).leader == "s2"


def test_8_a_leader_commits_a_blank_no_op_at_the_start_of_its_term() -> None:
    """§8: each leader commits a blank no-op entry into the log at the start of its term."""
    batch = only(take(bench.candidate(), vote("s2", 2)).effects, Persist)
    assert [(one.kind, one.term, one.data) for one in batch.entries] == [(EntryKind.NOOP, 2, b"")]


def test_8_until_then_a_leader_does_not_know_what_is_committed_and_serves_no_read() -> None:
    """§8: at the start of its term the leader may not know which entries are committed."""
    state = synced(take(bench.candidate(terms=(1, 1), commit=1), vote("s2", 2)).state).state
    state = take(state, ReadsRequested(7)).state
    state, effects = take(state, ack("s2", 2, 2, number=1))
    assert not bench.of_type(effects, ServeReads)
    assert only(take(state, ack("s2", 2, 3, number=1)).effects, ServeReads).index == 3


def test_8_a_leader_exchanges_heartbeats_with_a_majority_before_it_answers_a_read() -> None:
    """§8: a leader must check whether it has been deposed, by heartbeats with a majority, before answering a read."""
    state, effects = take(bench.leader(), ReadsRequested(7))
    assert sent(effects, AppendEntries)
    assert not bench.of_type(effects, ServeReads)
    deposed = take(state, replace(ack("s2", 2, 2), term=3)).effects
    assert not bench.of_type(deposed, ServeReads)
    assert only(deposed, Reject).token == 7
    assert only(take(state, ack("s2", 2, 2, number=1)).effects, ServeReads).token == 7


def test_8_a_read_writes_nothing_into_the_log() -> None:
    """§8: read-only operations are handled without writing anything into the log."""
    state, effects = take(bench.leader(), ReadsRequested(7))
    assert state.log == bench.leader().log
    assert not bench.of_type(effects, Persist)
    assert leading(state).reading is not None
