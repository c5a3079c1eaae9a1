"""Reads without writing to the log: ReadIndex rounds at the leader, through a follower, and leases."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from raft_actors.behaviours.deadlines import next_deadline
from raft_actors.protocol.effects import Effect, Refusal, Reject, ServeReads
from raft_actors.protocol.events import PeerDown, Persisted, ReadsRequested, StopRequested, Tick, WritesRequested
from raft_actors.protocol.messages import AppendEntries, AppendEntriesReply, ReadIndex, ReadIndexReply, RequestVoteReply
from raft_actors.protocol.state import Leader, PeerState
from raft_actors.protocol.types import Ballot, LogPosition, Settings
from tests.behaviours import bench
from tests.behaviours.bench import (
    FIRST,
    NOW,
    ack,
    append,
    at,
    leading,
    only,
    read_index,
    read_index_reply,
    receivers,
    sent,
    synced,
    take,
    take_all,
    vote,
)


def served(effects: tuple[Effect, ...]) -> list[tuple[int, int]]:
    return [(one.token, one.index) for one in bench.of_type(effects, ServeReads)]


def rejected(effects: tuple[Effect, ...]) -> list[int]:
    return [one.token for one in bench.of_type(effects, Reject)]


# -- rounds ------------------------------------------------------------------------------------------------------------


def test_a_read_is_served_when_a_quorum_confirmed_its_round() -> None:
    state, effects = take(bench.leader(), ReadsRequested(7))
    assert {message.round for message in sent(effects, AppendEntries)} == {1}
    assert not served(effects), "BUG-28"
    assert served(take(state, ack("s2", 2, 2, number=1)).effects) == [(7, 2)]


def test_a_round_is_put_to_a_quorum_first_and_soon_to_everybody() -> None:
    state = take(bench.leader(), ack("s3", 2, 2), at(NOW + 0.001)).state
    state, effects = take(state, ReadsRequested(7), at(NOW + 0.001))
    assert receivers(effects) == ["s3"], "who answered last"
    assert next_deadline(state) == pytest.approx(NOW + 0.006)
    state, effects = take(state, Tick(), at(NOW + 0.0061))
    assert receivers(effects) == ["s2", "s3"]
    assert {message.round for message in sent(effects, AppendEntries)} == {1}
    assert next_deadline(state) > NOW + 0.05


def test_of_two_voters_the_other_one_is_asked() -> None:
    state, effects = take(bench.leader(members=bench.configuration("s1", "s2")), ReadsRequested(7))
    assert receivers(effects) == ["s2"]
    assert served(take(state, ack("s2", 2, 2, number=1)).effects) == [(7, 2)]


def test_learners_are_not_asked() -> None:
    members = replace(bench.THREE, learners=bench.configuration("s4").voters)
    state = take(bench.leader(members=members), ack("s4", 2, 2), at(NOW + 0.001)).state
    state, effects = take(state, ReadsRequested(7))
    assert "s4" not in receivers(effects)
    assert served(take(state, ack("s4", 2, 2, number=1)).effects) == []


def test_an_answer_counts_only_for_rounds_that_left_before_it() -> None:
    """BUG-28: it may be older than the read."""
    state = take(bench.leader(), ReadsRequested(7)).state
    assert served(take(state, ack("s2", 2, 2, number=0)).effects) == []
    state = take_all(state, ack("s2", 2, 2, number=1), ReadsRequested(8))
    state, effects = take(state, ack("s3", 2, 2, number=1))
    assert served(effects) == []
    assert served(take(state, ack("s3", 2, 2, number=2)).effects) == [(8, 2)]


def test_an_answer_that_comes_late_takes_no_confirmation_back() -> None:
    five = bench.configuration("s1", "s2", "s3", "s4", "s5")
    state = take(bench.leader(members=five), ReadsRequested(7)).state
    state = take_all(state, ack("s2", 2, 2, number=1), ack("s2", 2, 2, number=0))
    assert served(take(state, ack("s3", 2, 2, number=1)).effects) == [(7, 2)]


def test_a_refusal_of_our_term_confirms_a_round_too() -> None:
    """It says that its sender still follows us; only its log is behind."""
    state = take(bench.leader(), ReadsRequested(7)).state
    assert served(take(state, bench.nack("s2", 2, 9, number=1)).effects) == [(7, 2)]


def test_reads_that_come_during_a_round_share_the_next() -> None:
    state, _ = take(bench.leader(), ReadsRequested(1))
    for token in (2, 3, 4):
        state, effects = take(state, ReadsRequested(token))
        assert effects == ()
    state, effects = take(state, ack("s2", 2, 2, number=1))
    assert served(effects) == [(1, 2)]
    assert {message.round for message in sent(effects, AppendEntries)} == {2}
    assert served(take(state, ack("s2", 2, 2, number=2)).effects) == [(2, 2), (3, 2), (4, 2)]


def test_a_read_sees_what_was_committed_before_it_was_asked() -> None:
    state = take_all(bench.leader(), WritesRequested(1, (b"x",)), ack("s2", 2, 3), ack("s3", 2, 3), ReadsRequested(7))
    state, effects = take(state, ack("s2", 2, 3, number=1))
    assert state.commit_index == 3
    assert served(effects) == [], "entry 3 is committed, but our own disk and machine lack it"
    assert served(synced(state).effects) == [(7, 3)]


def test_a_new_leader_holds_reads_until_its_no_op_is_committed() -> None:
    """Paper §8, BUG-22, BUG-29."""
    state = bench.candidate(terms=(1, 1, 1), term=4, commit=1)
    state = synced(take(state, vote("s2", 4)).state).state
    state = take(state, ReadsRequested(7)).state
    state, effects = take(state, ack("s2", 4, 3, number=1))
    assert served(effects) == []
    state, effects = take(state, ack("s2", 4, 4, number=1))
    assert served(effects) == [(7, 4)]


def test_a_deposed_leader_turns_away_confirmed_reads_that_wait_for_its_lost_no_op() -> None:
    """The no-op is cut off by a log that ends before it; where nobody writes, its index never comes again."""
    state = bench.candidate(terms=(1, 1, 1), term=4, commit=1)
    state = synced(take(state, vote("s2", 4)).state).state
    state = take_all(state, ReadsRequested(7), ack("s2", 4, 1, number=1))
    assert [index for index, _ in state.confirmed_reads] == [4]
    state, effects = take(state, append("s3", 5, LogPosition(1, 1)))
    assert rejected(effects) == [7]
    assert state.confirmed_reads == ()


@pytest.mark.parametrize("index", [1, 2])
def test_a_follower_that_loses_its_leader_waits_only_for_what_is_committed(index: int) -> None:
    state = bench.following("s2", terms=(1, 1), commit=1, confirmed_reads=((index, 7),), handed=0, last_applied=0)
    state = replace(state, log=replace(state.log, durable=0))
    state, effects = take(state, PeerDown("s2"))
    assert rejected(effects) == [7][: index - 1]
    assert len(state.confirmed_reads) == 2 - index


def test_alone_a_leader_needs_no_round() -> None:
    state = bench.leader(members=bench.configuration("s1"))
    state, effects = take(state, ReadsRequested(7))
    assert served(effects) == [(7, 2)]
    new = synced(bench.timed_out(bench.peer(terms=(1, 1), members=bench.configuration("s1"))).state).state
    new, effects = take(new, ReadsRequested(7))
    assert served(effects) == [], "its no-op is not committed yet"
    assert served(synced(new).effects) == [(7, 3)]


def test_a_deposed_leader_serves_nothing() -> None:
    """BUG-24."""
    state = take_all(bench.leader(), ReadsRequested(1), ReadsRequested(2))
    state, effects = take(state, ack("s2", 3, 2, number=1))
    assert rejected(effects) == [1, 2]
    assert served(effects) == []


def test_a_leader_that_steps_down_by_itself_turns_reads_away() -> None:
    state = take_all(bench.leader(), ReadsRequested(1), read_index("s3", 2, 9))
    state, effects = take(state, Tick(), at(NOW + 0.7))
    assert rejected(effects) == [1]
    assert only(effects, ReadIndexReply).index is None
    assert not isinstance(state.role, Leader)


def test_a_round_of_an_older_leadership_confirms_nothing() -> None:
    """s2 refuses an AppendEntries of our term 2 when we already lead term 3: its round must not count in term 3."""
    old = append("s1", 2, LogPosition(2, 2), number=5, to="s2")
    refusal = only(take(bench.peer("s2", terms=(1, 2), term=3), old).effects, AppendEntriesReply)
    state = take(bench.leader(terms=(1, 2, 3)), ReadsRequested(7)).state
    state, effects = take(state, refusal)
    assert served(effects) == []
    assert leading(state).progress["s2"].round == 0


# -- through a follower ------------------------------------------------------------------------------------------------


def test_a_follower_asks_its_leader_and_serves_from_its_own_machine() -> None:
    state, effects = take(bench.following("s2", terms=(1, 1), commit=1), ReadsRequested(7))
    question = only(effects, ReadIndex)
    assert question.receiver == "", "whoever leads, also if we do not know that store yet"
    state, effects = take(state, read_index_reply("s2", 1, question.request, 2))
    assert served(effects) == [], "index 2 is not committed here yet"
    assert served(take(state, append("s2", 1, LogPosition(1, 2), commit=2)).effects) == [(7, 2)]


def test_the_leader_answers_a_follower_after_a_round() -> None:
    state, effects = take(bench.leader(), read_index("s3", 2, 41))
    assert sent(effects, ReadIndexReply) == []
    reply = only(take(state, ack("s2", 2, 2, number=1)).effects, ReadIndexReply)
    assert (reply.request, reply.index, reply.receiver) == (41, 2, bench.store("s3"))


def test_peers_that_our_configuration_lacks_ask_and_are_asked() -> None:
    """It may be the older one."""
    assert only(take(bench.following("s9"), ReadsRequested(7)).effects, ReadIndex).receiver == ""
    assert only(take(bench.following("s2"), read_index("s9", 1)).effects, ReadIndexReply).receiver == ""


def test_an_answer_is_good_for_every_question_asked_before_its_own() -> None:
    state = take_all(bench.following("s2", commit=1), ReadsRequested(7), ReadsRequested(8), ReadsRequested(9))
    first, second, third = (number for number, _ in state.forwarded)
    state, effects = take(state, read_index_reply("s2", 1, second, 1))
    assert served(effects) == [(7, 1), (8, 1)]
    assert served(take(state, read_index_reply("s2", 1, first, 1)).effects) == [], "too late"
    assert served(take(state, read_index_reply("s2", 1, second, 1)).effects) == [], "a duplicate"
    assert served(take(state, read_index_reply("s2", 1, third + 1, 1)).effects) == [], "never asked"
    assert served(take(state, read_index_reply("s2", 1, third, 1)).effects) == [(9, 1)]


def test_a_lost_question_is_asked_again_once_for_all_that_wait() -> None:
    state = take(bench.following("s2", commit=1), ReadsRequested(7)).state
    state, effects = take(state, ReadsRequested(8), at(NOW + 0.08))
    question = only(effects, ReadIndex)
    assert sent(take(state, append("s2", 1, FIRST), at(NOW + 0.09)).effects, ReadIndex) == []
    state, effects = take(state, append("s2", 1, FIRST), at(NOW + 0.1))
    assert only(effects, ReadIndex) == question, "the newest: a slow answer to it is good as well"
    assert sent(take(state, append("s2", 1, FIRST), at(NOW + 0.19)).effects, ReadIndex) == []
    assert sent(take(state, append("s2", 1, FIRST), at(NOW + 0.2)).effects, ReadIndex) == [question]
    assert served(take(state, read_index_reply("s2", 1, question.request, 1)).effects) == [(7, 1), (8, 1)]


def test_who_does_not_lead_cannot_say() -> None:
    for state in (bench.following("s2"), bench.peer(), bench.candidate()):
        assert only(take(state, read_index("s3", state.term)).effects, ReadIndexReply).index is None


def test_a_leader_that_cannot_say_turns_the_reads_away() -> None:
    state, effects = take(bench.following("s2"), ReadsRequested(7))
    number = only(effects, ReadIndex).request
    state, effects = take(state, read_index_reply("s2", 1, number, None))
    assert only(effects, Reject) == Reject(7, Refusal.ELECTION_IN_PROGRESS)
    assert state.forwarded == ()


@pytest.mark.parametrize("what", ["dies", "is replaced", "falls silent"])
def test_reads_are_turned_away_when_their_leader(what: str) -> None:
    state = take(bench.following("s2"), ReadsRequested(7)).state
    if what == "dies":
        effects = take(state, PeerDown("s2")).effects
    elif what == "is replaced":
        effects = take(state, append("s3", 2, LogPosition(1, 1))).effects
    else:
        effects = bench.timed_out(state).effects
    assert rejected(effects) == [7]


@pytest.mark.parametrize(
    ("state", "refusal"),
    [
        (bench.peer(), Refusal.ELECTION_IN_PROGRESS),
        (bench.candidate(), Refusal.ELECTION_IN_PROGRESS),
        (bench.unconfigured(), Refusal.NOT_CONFIGURED),
    ],
    ids=["waiting", "candidate", "unconfigured"],
)
def test_without_a_leader_reads_are_turned_away_at_once(state: PeerState, refusal: Refusal) -> None:
    assert take(state, ReadsRequested(7)).effects == (Reject(7, refusal),)


# -- leases ------------------------------------------------------------------------------------------------------------

LEASES = Settings(lease_reads=True)


def with_lease(promise: float = 0.3, sent_at: float = NOW) -> PeerState:
    return take(bench.leader(settings=LEASES), ack("s2", 2, 2, promise=promise, sent=sent_at)).state


def lease_read(state: PeerState, now: float) -> list[tuple[int, int]]:
    return served(take(state, ReadsRequested(7, lease=True), at(now)).effects)


def test_a_lease_serves_at_once_for_as_long_as_a_quorum_promised() -> None:
    """A tenth of the promise is left out, for clocks of another rate."""
    state = with_lease()
    assert lease_read(state, NOW + 0.26) == [(7, 2)]
    assert lease_read(state, NOW + 0.28) == []


def test_a_lease_counts_from_when_the_question_left() -> None:
    state = with_lease(sent_at=NOW - 0.2)
    assert lease_read(state, NOW + 0.06) == [(7, 2)]
    assert lease_read(state, NOW + 0.08) == []


def test_a_lease_serves_everything_committed_so_far() -> None:
    state = take(with_lease(), WritesRequested(1, (b"x",))).state
    state = take_all(state, ack("s2", 2, 3, promise=0.3), ack("s3", 2, 3, promise=0.3))
    assert lease_read(state, NOW) == [], "entry 3 is committed, but not applied here"
    assert served(synced(take(state, ReadsRequested(7, lease=True)).state).effects) == [(7, 3)]


def test_without_a_lease_a_read_does_a_round() -> None:
    state, effects = take(bench.leader(settings=LEASES), ReadsRequested(7, lease=True))
    assert served(effects) == []
    assert served(take(state, ack("s2", 2, 2, number=1)).effects) == [(7, 2)]


def test_leases_are_off_unless_asked_for() -> None:
    state = replace(with_lease(), settings=Settings())
    assert lease_read(state, NOW) == []
    assert served(take(with_lease(), ReadsRequested(7, lease=False)).effects) == []


def test_one_promise_of_four_is_no_lease() -> None:
    five = bench.configuration("s1", "s2", "s3", "s4", "s5")
    state = take(bench.leader(members=five, settings=LEASES), ack("s2", 2, 2, promise=0.3)).state
    assert lease_read(state, NOW) == []
    assert lease_read(take(state, ack("s3", 2, 2, promise=0.3)).state, NOW) == [(7, 2)]


def test_a_lease_waits_for_the_no_op() -> None:
    state = bench.candidate(terms=(1, 1), settings=LEASES)
    state = take_all(state, vote("s2", 2), ack("s2", 2, 2, promise=0.3))
    assert lease_read(state, NOW) == []
    state = take_all(state, Persisted(Ballot(2, "s1"), LogPosition(2, 3)), ack("s2", 2, 3, promise=0.3))
    assert lease_read(state, NOW) == [(7, 3)]


def test_a_lease_is_given_up_for_good_when_leadership_is_handed_over() -> None:
    """The successor is elected in spite of all promises."""
    state = take(with_lease(), StopRequested(0.1)).state
    assert leading(state).transfer is not None
    assert lease_read(state, NOW) == []
    state = replace(state, role=replace(leading(state), transfer=None))
    assert lease_read(state, NOW) == [], "TimeoutNow may still arrive"


def test_a_broken_connection_shortens_no_promise_of_the_follower() -> None:
    state = take(bench.following("s2", settings=LEASES), append("s2", 1, LogPosition(1, 1))).state
    state = take(state, PeerDown("s2")).state
    assert state.no_vote_until == NOW + 0.3
    assert not only(take(state, bench.request_vote("s3", 2), at(NOW + 0.29)).effects, RequestVoteReply).granted


def test_whoever_promised_stands_only_afterwards() -> None:
    state = take(bench.following("s2", settings=LEASES), append("s2", 1, LogPosition(1, 1))).state
    assert next_deadline(take(state, PeerDown("s2")).state) >= NOW + 0.3
