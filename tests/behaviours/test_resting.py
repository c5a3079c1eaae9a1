"""Where nothing is under way nobody speaks; whatever happens ends that, and so does the silence of a node."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from raft_actors.behaviours.deadlines import next_deadline
from raft_actors.behaviours.resting import beat_interval, look_interval, partners
from raft_actors.protocol import messages as ms
from raft_actors.protocol.changes import AddMember
from raft_actors.protocol.events import (
    Applied,
    Event,
    Heard,
    PeerDown,
    Persisted,
    ReadsRequested,
    Tick,
    WritesRequested,
)
from raft_actors.protocol.progress import ProgressState
from raft_actors.protocol.state import LONG_AGO, Follower, Leader, PeerState, Preparing, ReadRound, Receiving
from raft_actors.protocol.types import LogPosition, Settings
from tests.behaviours import bench
from tests.behaviours.bench import NOW, ack, append, at, leading, only, receivers, sent, take, take_all

LAST = LogPosition(2, 2)
DUE = NOW + 0.05
"""When the leader's heartbeat leaves."""
LEASES = Settings(lease_reads=True, check_quorum=True)


def offering(**more: Any) -> PeerState:
    """A leader that has just offered to rest."""
    return take(bench.leader(**{"rests": True, **more}), Tick(), at(DUE)).state


def took(sender: str, offered: float = DUE, **more: Any) -> ms.AppendEntriesReply:
    """The answer of a follower that rests."""
    return ack(sender, 2, 2, **{"sent": offered, "rests": True, **more})


def resting_leader(**more: Any) -> PeerState:
    return take_all(offering(**more), took("s2"), took("s3"), moment=at(DUE))


def offer(**more: Any) -> ms.AppendEntries:
    return replace(append("s2", 2, LAST, commit=2), rests=True, **more)


def follower(**more: Any) -> PeerState:
    """One that has all there is."""
    return bench.following("s2", **{"terms": (1, 2), "commit": 2, "rests": True, **more})


def resting_follower(**more: Any) -> PeerState:
    return take(follower(**more), offer(), at(NOW)).state


def offers(state: PeerState) -> bool:
    """Whether its next heartbeat offers to rest."""
    messages = sent(take(state, Tick(), at(DUE)).effects, ms.AppendEntries)
    assert messages, "no heartbeat left"
    return all(one.rests for one in messages)


# -- how it begins -----------------------------------------------------------------------------------------------------


def test_a_leader_that_has_nothing_to_do_offers_to_rest_with_its_heartbeat() -> None:
    assert offers(bench.leader(rests=True))


@pytest.mark.parametrize("event", [WritesRequested(7, (b"x",)), ReadsRequested(7)], ids=["entries", "a round"])
def test_what_a_request_sends_is_no_offer(event: Event) -> None:
    messages = sent(take(bench.leader(rests=True), event).effects, ms.AppendEntries)
    assert messages
    assert not any(one.rests for one in messages)


@pytest.mark.parametrize(
    "more",
    [
        {"rests": False},
        {"settings": LEASES},
        {"match": {"s2": 1}},
        {"commit": 1},
        {"durable": 1, "handed": 1, "last_applied": 1},
        {"snapshot_wanted": 5},
        {"snapshot_callers": ((2, 7),)},
        {"stopping": NOW + 5},
        {"role": {"leaving": True}},
        {"role": {"reading": ReadRound(1, 2, ())}},
        {"role": {"preparing": Preparing(7, AddMember("s4"), ("s4",), {}, NOW + 5, NOW + 5)}},
    ],
    ids=str,
)
def test_a_leader_that_waits_for_anything_does_not(more: dict[str, Any]) -> None:
    assert not offers(bench.leader(**{"rests": True, **more}))


@pytest.mark.parametrize(
    "more",
    [
        {"state": ProgressState.PROBE},
        {"inflight": (2,)},
        {"lost": True},
        {"priority": 1},
    ],
    ids=str,
)
def test_nor_one_with_a_follower_that_is_not_settled(more: dict[str, Any]) -> None:
    state = bench.leader(rests=True)
    progress = leading(state).progress
    progress = {**progress, "s3": replace(progress["s3"], **more)}
    assert not offers(replace(state, role=replace(leading(state), progress=progress)))


def test_a_leader_rests_once_all_have_taken_its_offer() -> None:
    one = take(offering(), took("s2"), at(DUE)).state
    assert not leading(one).resting
    assert leading(take(one, took("s3"), at(DUE)).state).resting


def test_an_older_offer_that_was_taken_counts_no_more() -> None:
    assert not leading(take_all(offering(), took("s2"), took("s3", NOW), moment=at(DUE))).resting


def test_an_answer_that_comes_after_the_next_heartbeat_counts_as_long_as_nothing_happens() -> None:
    """Else busy nodes, which answer later than that, would stay busy with heartbeats for ever."""
    state = offering()
    for place in range(1, 4):
        state = take(state, Tick(), at(DUE + 0.05 * place)).state
    state = take_all(state, took("s2"), took("s3", DUE + 0.05), moment=at(DUE + 0.16))
    assert leading(state).resting


def test_an_answer_to_an_offer_that_was_taken_back_counts_no_more() -> None:
    state = take_all(offering(), took("s2"), bench.pre_vote("s3", 2, LAST), took("s3"), moment=at(DUE))
    assert not leading(state).resting, "s3 did not rest when it asked"
    state = take_all(take(state, Tick(), at(DUE + 0.05)).state, took("s2"), took("s3"), moment=at(DUE + 0.06))
    assert not leading(state).resting


@pytest.mark.parametrize("late", [took("s2"), took("s2", rests=False)], ids=["yes", "no"])
def test_an_answer_that_a_newer_one_has_overtaken_counts_no_more(late: ms.AppendEntriesReply) -> None:
    state = take(offering(), Tick(), at(DUE + 0.05)).state
    newest = took("s2", DUE + 0.05, rests=not late.rests)
    state = take_all(state, newest, late, took("s3"), moment=at(DUE + 0.06))
    assert leading(state).resting is newest.rests


def test_an_offer_is_taken_back_by_a_write_that_comes_before_the_last_answer() -> None:
    state = take_all(offering(), took("s2"), WritesRequested(7, (b"x",)), took("s3"), moment=at(DUE))
    assert leading(state).offered_at == LONG_AGO
    assert not leading(state).resting


def test_a_follower_that_has_everything_rests_and_says_so() -> None:
    after, effects = take(follower(), offer(), at(NOW))
    assert after.role.resting
    assert [reply.rests for reply in sent(effects, ms.AppendEntriesReply)] == [True]


@pytest.mark.parametrize(
    "more",
    [
        {"rests": False},
        {"settings": LEASES},
        {"terms": (1, 2, 2)},
        {"durable": 1, "handed": 1, "last_applied": 1},
        {"term_unsynced": True},
        {"forwarded": ((1, 7),), "asked_at": NOW},
        {"receiving": Receiving("x", 10)},
        {"stopping": NOW + 5},
    ],
    ids=str,
)
def test_a_follower_that_lacks_something_or_waits_does_not(more: dict[str, Any]) -> None:
    after, effects = take(follower(**more), offer(), at(NOW))
    assert not after.role.resting
    assert not any(reply.rests for reply in sent(effects, ms.AppendEntriesReply))


def test_a_follower_learns_what_is_committed_with_the_offer() -> None:
    after = take(follower(commit=1), offer(), at(NOW)).state
    assert (after.commit_index, after.role.resting) == (2, True)


# -- while it lasts ----------------------------------------------------------------------------------------------------


def test_a_leader_that_rests_looks_but_sends_nothing() -> None:
    state = resting_leader()
    look = at(next_deadline(state))
    assert look.now == pytest.approx(DUE + look_interval(state.settings))
    state = take(state, Heard({"s2": look.now, "s3": look.now}), look).state
    after, effects = take(state, Tick(), look)
    assert (leading(after).resting, effects) == (True, ())


def test_a_leader_that_misses_one_of_them_sends_heartbeats_at_once() -> None:
    state, effects = resting_leader(), ()
    while leading(state).resting:
        assert not effects
        look = at(next_deadline(state))
        state, effects = take(take(state, Heard({"s2": look.now}), look).state, Tick(), look)
    assert receivers(effects) == ["s2", "s3"]
    assert look.now <= DUE + 0.6 + look_interval(state.settings)


def test_a_leader_that_misses_a_quorum_leads_no_more() -> None:
    state, heard = resting_leader(), DUE
    for _ in range(30):
        now = at(next_deadline(state))
        state = take_all(state, Heard({"s2": heard, "s3": heard}), Tick(), moment=now)
        if not isinstance(state.role, Leader):
            break
    assert isinstance(state.role, Follower)
    assert now.now <= heard + 0.6 + look_interval(state.settings)


def test_what_its_node_heard_counts_as_a_heartbeat_of_that_time() -> None:
    state = resting_follower()
    after = take(state, Heard({"s2": NOW + 0.3}), at(NOW + 0.44)).state
    assert after.heard_at == NOW + 0.3
    assert after.role == Follower(NOW + 0.3 + 0.45, resting=True)


def test_what_was_heard_of_others_or_long_ago_does_not() -> None:
    state = resting_follower()
    assert take_all(state, Heard({"s3": NOW + 0.3}), Heard({"s2": NOW - 1}), moment=at(NOW + 0.44)) == state


def test_a_follower_that_rests_refuses_to_depose_a_leader_that_was_vouched_for() -> None:
    state = take(resting_follower(), Heard({"s2": NOW + 0.3}), at(NOW + 0.4)).state
    effects = take(state, bench.pre_vote("s3", 3, LAST), at(NOW + 0.4)).effects
    assert not only(effects, ms.PreVoteReply).granted


def test_a_follower_stands_if_nobody_vouches_for_its_leader() -> None:
    state = resting_follower()
    effects = take(state, Tick(), at(next_deadline(state))).effects
    assert len(sent(effects, ms.PreVote)) == 2


def test_a_late_wake_up_is_put_down_to_the_process_once_also_at_rest() -> None:
    state = take(resting_follower(), Tick(), at(NOW + 0.45 + 0.1)).state
    assert (state.role.resting, state.role.forgiven) == (True, True)
    assert next_deadline(state) == pytest.approx(NOW + 0.55 + 0.45)


def test_no_sleep_of_a_leader_at_rest_that_is_longer_than_an_election_timeout_goes_unnoticed() -> None:
    now = at(DUE + 0.601)
    assert isinstance(take(resting_leader(), Heard({"s2": now.now, "s3": now.now}), now).state.role, Follower)


# -- how it ends -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        WritesRequested(7, (b"x",)),
        ReadsRequested(7),
        PeerDown("s3"),
        bench.read_index("s2", 2),
        bench.pre_vote("s2", 3, LAST),
        bench.nack("s2", 2, 2),
        took("s2", wants=1),
        took("s2", rests=False),
    ],
    ids=lambda event: type(event).__name__,
)
def test_whatever_happens_rouses_a_leader(event: Event | ms.Message) -> None:
    after = take(resting_leader(), event, at(DUE + 0.01)).state
    assert not leading(after).resting
    assert leading(after).heartbeat_deadline <= DUE + 0.01 + 0.05


@pytest.mark.parametrize(
    "event",
    [Tick(), Applied(2), Persisted(bench.leader().ballot, LAST), took("s2"), took("s2", NOW, rests=False)],
    ids=str,
)
def test_news_of_the_past_do_not(event: Event | ms.Message) -> None:
    assert leading(take(resting_leader(), event, at(DUE + 0.01)).state).resting


@pytest.mark.parametrize(
    "event",
    [ReadsRequested(7), PeerDown("s2"), append("s2", 2, LAST, commit=2), bench.pre_vote("s3", 3, LAST)],
    ids=lambda event: type(event).__name__,
)
def test_a_message_or_a_read_rouses_a_follower(event: Event | ms.Message) -> None:
    assert not take(resting_follower(), event, at(NOW + 0.1)).state.role.resting


def test_a_leader_rests_with_all_others_and_a_follower_with_its_leader() -> None:
    assert partners(resting_leader()) == ("s2", "s3")
    assert partners(resting_follower()) == ("s2",)


def test_beats_come_more_than_once_within_the_time_that_each_side_waits() -> None:
    assert 2 * beat_interval(resting_leader()) < 0.92 * Settings().min_election_timeout
    assert 2 * beat_interval(resting_follower()) <= Settings().max_election_timeout


def test_nothing_of_this_is_sent_by_a_peer_whose_transport_does_not_vouch() -> None:
    effects = take(follower(rests=False), offer(), at(NOW)).effects
    assert not only(effects, ms.AppendEntriesReply).rests
    assert not offers(bench.leader())
