"""What a peer is when it comes back, and when it has to be woken."""

from __future__ import annotations

from typing import Any

from raft_actors.behaviours.deadlines import next_deadline
from raft_actors.behaviours.recovery import recover
from raft_actors.protocol.effects import Persist
from raft_actors.protocol.events import ReadsRequested, StopRequested, Tick
from raft_actors.protocol.messages import PreVoteReply, ReadIndex, RequestVoteReply
from raft_actors.protocol.state import NEVER, Bootstrap, Candidate, Follower, PeerState, Reserved
from raft_actors.protocol.types import Ballot, LogPosition, Moment, Settings
from tests.behaviours import bench
from tests.behaviours.bench import NOW, append, at, only, read_index_reply, take


def back(moment: Moment | None = None, **changes: Any) -> PeerState:
    log = bench.log_of((1, 1, 2))
    fields: dict[str, Any] = {
        "name": "s1",
        "incarnation": bench.store("s1"),
        "settings": Settings(),
        "cluster": bench.CLUSTER,
        "ballot": Ballot(3, "s2"),
        "log": log,
        "configurations": ((1, bench.THREE),),
        "time": 50.0,
        "moment": moment or at(),
        **changes,
    }
    return recover(**fields)


def test_a_peer_comes_back_with_its_ballot_and_log_and_nothing_committed() -> None:
    """BUG-13, BUG-16, BUG-23: what was committed is learned again from the leader."""
    state = back()
    assert (state.ballot, state.log.last) == (Ballot(3, "s2"), LogPosition(2, 3))
    assert (state.commit_index, state.handed, state.last_applied) == (0, 0, 0)
    assert state.role == Follower(NOW + 0.45)
    assert state.leader is None
    assert (state.configuration, state.time) == (bench.THREE, 50.0)


def test_a_vote_is_remembered() -> None:
    """BUG-08, BUG-12."""
    reply = only(take(back(), bench.request_vote("s3", 3, LogPosition(9, 9))).effects, RequestVoteReply)
    assert not reply.granted


def test_an_unconfigured_peer_waits_for_nothing() -> None:
    state = back(cluster="", ballot=Ballot(), log=bench.log_of(()), configurations=())
    assert next_deadline(state) == NEVER


def test_only_a_peer_of_no_cluster_looks_for_others_to_form_one_with() -> None:
    looking = Bootstrap(("s1", "s2"))
    assert back(bootstrap=looking).bootstrap is None
    assert back(cluster="", log=bench.log_of(()), configurations=(), bootstrap=looking).bootstrap == looking


def test_alone_a_peer_stands_at_once() -> None:
    one = bench.configuration("s1")
    state = back(configurations=((1, one),))
    assert next_deadline(state) == NOW
    state, effects = take(state, Tick())
    assert isinstance(state.role, Candidate)
    assert only(effects, Persist).ballot == Ballot(4, "s1")


def test_a_promise_of_before_the_restart_still_binds() -> None:
    state = back(settings=Settings(lease_reads=True))
    for moment, granted in ((at(NOW + 0.29), False), (at(NOW + 0.31), True)):
        asked = bench.pre_vote("s2", 4, LogPosition(2, 3))
        assert only(take(state, asked, moment).effects, PreVoteReply).granted is granted
    assert next_deadline(state) >= NOW + 0.3


def test_an_answer_to_a_read_of_before_the_restart_answers_no_read_of_now() -> None:
    """Its index may be older than what was written since: a stale read."""
    asked = []
    for moment in (at(NOW), at(NOW, 0.1), at(NOW + 0.01)):
        state = take(back(moment), append("s2", 3, LogPosition(2, 3)), moment).state
        state, effects = take(state, ReadsRequested(7), moment)
        asked.append(only(effects, ReadIndex).request)
        for old in asked[:-1]:
            assert take(state, read_index_reply("s2", 3, old, 1)).state.forwarded == state.forwarded
    assert len(set(asked)) == 3


def test_a_peer_is_woken_for_the_earliest_of_its_deadlines() -> None:
    assert next_deadline(bench.peer()) == NOW + 0.45
    assert next_deadline(bench.peer(stopping=NOW + 0.1)) == NOW + 0.1
    assert next_deadline(bench.unconfigured(formation=Reserved("p", NOW + 3))) == NOW + 3
    assert next_deadline(bench.leader()) == NOW + 0.05
    assert next_deadline(take(bench.leader(), StopRequested(0.01)).state) == NOW + 0.01
