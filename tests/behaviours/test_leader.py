"""Leading: writing, committing, and stepping down when a quorum or the disk is lost."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from raft_actors.behaviours import leader as leader_rules
from raft_actors.behaviours.deadlines import next_deadline
from raft_actors.behaviours.transition import Transition
from raft_actors.protocol.configuration import Configuration
from raft_actors.protocol.effects import Accept, Apply, Persist, Refusal, Reject, Send
from raft_actors.protocol.entry import EntryKind
from raft_actors.protocol.events import PeerDown, Persisted, ReadsRequested, Tick, WritesRequested
from raft_actors.protocol.messages import AppendEntries, ReadIndexReply
from raft_actors.protocol.progress import ProgressState
from raft_actors.protocol.state import Follower, Leader, PeerState
from raft_actors.protocol.types import Ballot, LogPosition, Moment, Settings, Violation
from tests.behaviours import bench
from tests.behaviours.bench import NOW, ack, at, leading, only, receivers, sent, synced, take, take_all, vote


def write(*commands: bytes) -> WritesRequested:
    return WritesRequested(7, commands or (b"x",))


def tick(state: PeerState, now: float) -> Transition:
    return take(state, Tick(), at(now))


# -- writing -----------------------------------------------------------------------------------------------------------


def test_what_arrived_together_is_one_append_one_sync_and_one_message_per_follower() -> None:
    state, effects = take(bench.leader(), write(b"a", b"b", b"c"))
    assert [one.data for one in only(effects, Persist).entries] == [b"a", b"b", b"c"]
    assert [len(message.entries) for message in sent(effects, AppendEntries)] == [3, 3]
    assert only(effects, Accept) == Accept(7, 3, 2)
    assert state.log.last == LogPosition(2, 5)


def test_the_messages_of_a_leader_leave_before_its_own_sync() -> None:
    """Thesis §10.2.1."""
    kinds = [type(effect) for effect in take(bench.leader(), write()).effects]
    assert kinds.index(Persist) > max(place for place, kind in enumerate(kinds) if kind is Send)


def test_replicated_time_never_goes_back() -> None:
    state = bench.leader(time=NOW + 50)
    state = take(state, write(), Moment(NOW, NOW, 0.5)).state
    assert state.log.tail[-1].time == NOW + 50
    state = take(state, write(), Moment(NOW, NOW + 60, 0.5)).state
    assert state.log.tail[-1].time == NOW + 60


@pytest.mark.parametrize(
    ("state", "refusal", "leader"),
    [
        (bench.following("s2"), Refusal.NOT_LEADER, "s2"),
        (bench.peer(), Refusal.ELECTION_IN_PROGRESS, None),
        (bench.candidate(), Refusal.ELECTION_IN_PROGRESS, None),
        (bench.unconfigured(), Refusal.NOT_CONFIGURED, None),
        (bench.peer(terms=()), Refusal.ELECTION_IN_PROGRESS, None),
    ],
    ids=["follower", "waiting", "candidate", "unconfigured", "joined but empty"],
)
def test_nobody_else_takes_writes(state: PeerState, refusal: Refusal, leader: str | None) -> None:
    after, effects = take(state, write())
    assert effects == (Reject(7, refusal, leader),)
    assert after == state


# -- committing --------------------------------------------------------------------------------------------------------


def test_an_entry_is_committed_when_a_quorum_has_it_durably() -> None:
    state = take(bench.leader(), write()).state
    state = take(state, ack("s2", 2, 3)).state
    assert state.commit_index == 2, "only one disk has it"
    state, effects = synced(state)
    assert state.commit_index == 3
    assert [one.index for one in only(effects, Apply).entries] == [3]


def test_the_leader_is_not_needed_for_a_quorum_but_its_machine_waits_for_its_disk() -> None:
    """BUG-03: others may commit an entry that our disk does not have yet."""
    state = take(bench.leader(), write()).state
    state = take(state, ack("s2", 2, 3)).state
    state, effects = take(state, ack("s3", 2, 3))
    assert state.commit_index == 3
    assert not bench.of_type(effects, Apply)
    assert [one.index for one in only(synced(state).effects, Apply).entries] == [3]


def test_the_own_sync_counts_only_up_to_what_is_on_disk() -> None:
    state = take_all(bench.leader(), write(), write(), ack("s2", 2, 4))
    state = take(state, Persisted(Ballot(2, "s1"), LogPosition(2, 3))).state
    assert state.commit_index == 3


def test_alone_a_leader_commits_after_its_own_sync_and_never_before() -> None:
    """BUG-01."""
    state = bench.leader(members=bench.configuration("s1"))
    state, effects = take(state, write())
    assert not bench.of_type(effects, Apply)
    assert state.commit_index == 2
    state, effects = synced(state)
    assert [one.index for one in only(effects, Apply).entries] == [3]


def test_counting_replicas_commits_no_entry_of_an_older_term() -> None:
    """BUG-31, Figure 8."""
    state = bench.candidate(terms=(1, 2, 2), term=4)
    state = synced(take(state, vote("s2", 4)).state).state
    state = take(state, ack("s2", 4, 3)).state
    assert state.commit_index == 0, "a quorum has entry 3 of term 2, and it may still be overwritten"
    assert take(state, ack("s2", 4, 4)).state.commit_index == 4


def test_a_reply_of_an_older_term_counts_for_nothing() -> None:
    state = synced(take(bench.leader(), write()).state).state
    assert take(state, ack("s2", 1, 3)).state == state


def test_replies_that_come_late_or_twice_take_nothing_back() -> None:
    """BUG-36."""
    state = take_all(bench.leader(), write(), ack("s2", 2, 3))
    for late in (2, 3, 1):
        state = take(state, ack("s2", 2, late)).state
        assert leading(state).progress["s2"].match_index == 3
        assert leading(state).progress["s2"].next_index == 4


def test_learners_and_strangers_commit_nothing() -> None:
    members = Configuration(voters=bench.THREE.voters, learners=bench.configuration("s4").voters)
    state = synced(take(bench.leader(members=members), write()).state).state
    state = take_all(state, ack("s4", 2, 3), ack("s9", 2, 3))
    assert state.commit_index == 2


def test_a_follower_that_claims_more_than_there_is_is_a_violation() -> None:
    """BUG-34."""
    with pytest.raises(Violation, match="s2 claims"):
        take(bench.leader(), ack("s2", 2, 3))


# -- commit news -------------------------------------------------------------------------------------------------------


def test_followers_are_told_of_a_commit_soon_when_no_entry_carries_the_news() -> None:
    state = take_all(bench.leader(), write(), Persisted(Ballot(2, "s1"), LogPosition(2, 3)), ack("s2", 2, 3))
    assert next_deadline(state) == pytest.approx(NOW + 0.005)
    state, effects = tick(state, NOW + 0.006)
    assert [message.commit_index for message in sent(effects, AppendEntries)] == [3, 3]
    assert next_deadline(state) == pytest.approx(NOW + 0.006 + 0.05)


def test_commits_that_go_on_do_not_postpone_the_news() -> None:
    state = synced(take_all(bench.leader(), write(), write())).state
    state = take(state, ack("s2", 2, 3), at(NOW)).state
    state = take(state, ack("s2", 2, 4), at(NOW + 0.004)).state
    assert next_deadline(state) == pytest.approx(NOW + 0.005)


def test_an_entry_that_reaches_all_carries_the_news_and_the_heartbeat() -> None:
    state = take_all(bench.leader(), write(), Persisted(Ballot(2, "s1"), LogPosition(2, 3)), ack("s2", 2, 3))
    state, effects = take(state, write(), at(NOW + 0.004))
    assert [message.commit_index for message in sent(effects, AppendEntries)] == [3, 3]
    assert next_deadline(state) == pytest.approx(NOW + 0.004 + 0.05)


def test_entries_that_do_not_reach_all_are_no_heartbeat() -> None:
    """Two batches for one follower and none for the other: the other must not starve."""
    small = Settings(max_batch_bytes=40, max_inflight=4)
    state = bench.leader(settings=small)
    role = leading(state)
    full = replace(role.progress["s3"], inflight=(2, 2, 2, 2))
    state = replace(state, role=replace(role, progress={**role.progress, "s3": full}))
    state, effects = take(state, write(b"x" * 30, b"y" * 30), at(NOW + 0.01))
    assert receivers(effects) == ["s2", "s2"]
    assert next_deadline(state) == NOW + 0.05
    assert receivers(tick(state, NOW + 0.05)[1]) == ["s2", "s3"]


# -- stepping down -----------------------------------------------------------------------------------------------------


def test_a_leader_that_hears_no_quorum_steps_down() -> None:
    state, effects = tick(bench.awake(bench.leader(), NOW + 0.58), NOW + 0.62)
    assert state.role == Follower(NOW + 0.62 + 0.45)
    assert (state.term, state.leader) == (2, None)
    assert receivers(effects) == []


def test_one_follower_of_two_is_a_quorum() -> None:
    state = bench.awake(take(bench.leader(), ack("s2", 2, 2), at(NOW + 0.5)).state, NOW + 0.58)
    assert isinstance(tick(state, NOW + 0.62)[0].role, Leader)


def test_a_learner_is_no_quorum() -> None:
    members = Configuration(voters=bench.THREE.voters, learners=bench.configuration("s4").voters)
    state = bench.awake(take(bench.leader(members=members), ack("s4", 2, 2), at(NOW + 0.5)).state, NOW + 0.58)
    assert isinstance(state.role, Leader)
    assert isinstance(tick(state, NOW + 0.62)[0].role, Follower)


def test_contact_is_checked_again_and_again() -> None:
    state, now = bench.leader(), NOW
    for _ in range(20):
        now += 0.1
        state = take_all(state, ack("s3", 2, 2), Tick(), moment=at(now))
    leading(state)
    while isinstance(state.role, Leader):
        now = next_deadline(state)
        state = tick(state, now)[0]
    assert now - (NOW + 2.0) < 2 * 0.6, "within two election timeouts"


def test_without_check_quorum_a_leader_stays() -> None:
    state = bench.leader(settings=Settings(check_quorum=False))
    assert isinstance(bench.awake(state, NOW + 99).role, Leader)


def test_a_leader_whose_disk_hangs_steps_down() -> None:
    state, now = take(bench.leader(), write()).state, NOW
    while isinstance(state.role, Leader):
        now = min(now + 0.05, next_deadline(state))
        state = take_all(state, ack("s2", 2, 3), ack("s3", 2, 3), Tick(), moment=at(now))
        assert now < NOW + 2 * 0.6
    assert now > NOW + 0.6


def test_a_slow_disk_that_moves_costs_no_leadership() -> None:
    """400 ms per sync, and always more to write."""
    state, now = bench.leader(), NOW
    for _ in range(10):
        state = take(state, write(), at(now)).state
        for _ in range(8):
            now += 0.05
            end = state.log.last.index
            state = take_all(state, ack("s2", 2, end), ack("s3", 2, end), write(), Tick(), moment=at(now))
        state = synced(state, at(now)).state
    assert isinstance(state.role, Leader)


def test_writes_that_go_on_do_not_hide_a_hung_disk() -> None:
    """Its oldest batch counts."""
    state, now = bench.leader(), NOW
    while isinstance(state.role, Leader):
        now += 0.05
        end = state.log.last.index
        state = take_all(state, ack("s2", 2, end), ack("s3", 2, end), write(), Tick(), moment=at(now))
        assert now < NOW + 2 * 0.6


def test_a_sync_that_confirms_nothing_does_not_hide_a_hung_disk() -> None:
    state, now = take(bench.leader(), write()).state, NOW
    while isinstance(state.role, Leader):
        now += 0.05
        state = take_all(state, Persisted(Ballot(2, "s1"), LogPosition(2, 2)), ack("s2", 2, 3), Tick(), moment=at(now))
        assert now < NOW + 2 * 0.6


def test_a_disk_that_hangs_only_at_its_second_batch_costs_leadership_too() -> None:
    """Its clock begins anew when the first is done, and then it runs again."""
    state = take_all(bench.leader(), write(), write())
    state, now = take(state, Persisted(Ballot(2, "s1"), LogPosition(2, 3)), at(NOW + 0.5)).state, NOW + 0.5
    while isinstance(state.role, Leader):
        now = min(now + 0.05, next_deadline(state))
        state = take_all(state, ack("s2", 2, 4), Tick(), moment=at(now))
        assert now < NOW + 0.5 + 2 * 0.6
    assert now > NOW + 0.5 + 0.6


def test_a_disk_that_caught_up_in_two_steps_is_owed_for_no_more() -> None:
    state = take_all(bench.leader(), write(), write(), Persisted(Ballot(2, "s1"), LogPosition(2, 3)))
    assert leading(state).unsynced == 4
    state = synced(state).state
    state = take_all(bench.awake(state, NOW + 0.58), ack("s2", 2, 4), Tick(), moment=at(NOW + 0.62))
    assert isinstance(state.role, Leader)


def test_an_idle_leader_is_owed_nothing_by_its_disk() -> None:
    state = synced(take(bench.leader(), write()).state).state
    assert leading(state).unsynced == 0
    state = take(bench.awake(state, NOW + 0.6), ack("s2", 2, 3), at(NOW + 0.6)).state
    assert isinstance(bench.awake(state, NOW + 1.19).role, Leader)


def test_a_deposed_leader_turns_reads_away_and_keeps_writes_waiting() -> None:
    state = take_all(bench.leader(), ReadsRequested(1), ReadsRequested(2), bench.read_index("s3", 2, 5), write())
    state, effects = take(state, bench.append("s2", 3, LogPosition(2, 2)))
    assert [one.token for one in bench.of_type(effects, Reject)] == [1, 2]
    assert only(effects, ReadIndexReply).index is None
    assert state.log.last == LogPosition(2, 3), "its write may still be committed by the next leader"


# -- a follower dies ---------------------------------------------------------------------------------------------------


def test_what_was_in_flight_to_a_dead_follower_is_sent_again() -> None:
    state = take(bench.leader(), write()).state
    state = take(state, PeerDown("s2")).state
    progress = leading(state).progress["s2"]
    assert (progress.state, progress.next_index, progress.inflight) == (ProgressState.PROBE, 3, ())
    assert take(state, PeerDown("s9")).state == state


def test_a_dead_follower_is_no_contact_any_more() -> None:
    state = take_all(bench.leader(), PeerDown("s2"), PeerDown("s3"))
    assert isinstance(tick(state, NOW + 0.3)[0].role, Follower)


# -- becoming leader ---------------------------------------------------------------------------------------------------


def test_a_new_leader_announces_itself_with_a_no_op_of_its_term() -> None:
    state, effects = take(bench.candidate(terms=(1, 1)), vote("s2", 2))
    batch = only(effects, Persist)
    assert [(one.index, one.term, one.kind) for one in batch.entries] == [(3, 2, EntryKind.NOOP)]
    assert leading(state).first_index == 3
    assert batch.entries[0].time == NOW
    later = take(bench.candidate(terms=(1, 1), time=NOW + 9), vote("s2", 2)).effects
    assert only(later, Persist).entries[0].time == NOW + 9, "replicated time never goes back"
    assert [message.previous for message in sent(effects, AppendEntries)] == [LogPosition(1, 2)] * 2


def test_a_new_leader_has_an_election_timeout_to_be_heard_by_a_quorum() -> None:
    state = take(bench.candidate(), vote("s2", 2)).state
    assert isinstance(bench.awake(synced(state).state, NOW + 0.59).role, Leader)
    assert not isinstance(bench.awake(synced(state).state, NOW + 0.91).role, Leader)


def test_nothing_of_an_older_leadership_is_remembered() -> None:
    state = take_all(bench.leader(), ReadsRequested(1), write(), ack("s2", 2, 3))
    state = take(state, bench.append("s2", 3, LogPosition(2, 3), bench.entries(4, 3))).state
    state = replace(bench.candidate(terms=(1, 2, 2, 3), term=4), commit_index=state.commit_index)
    role = leading(take(state, vote("s2", 4)).state)
    assert (role.round, role.reading, role.queued_reads, role.transfer) == (0, None, (), None)
    assert all(progress.match_index == 0 for progress in role.progress.values())


def test_a_leader_that_lost_its_role_in_mid_step_stops() -> None:
    with pytest.raises(Violation, match="lost its role"):
        leader_rules._leading(bench.following())
