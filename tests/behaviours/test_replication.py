"""How a leader brings followers to its log: probing, pipelining, windows, and old entries from the store."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from raft_actors.protocol.effects import Effect, Load
from raft_actors.protocol.events import EntriesLoaded, PeerDown, Tick, WritesRequested
from raft_actors.protocol.log import recovered
from raft_actors.protocol.messages import AppendEntries, AppendEntriesReply
from raft_actors.protocol.progress import Progress, ProgressState, Sending
from raft_actors.protocol.state import PeerState
from raft_actors.protocol.types import NOWHERE, LogPosition, Settings, Violation
from tests.behaviours import bench
from tests.behaviours.bench import NOW, ack, at, entries, leading, nack, only, sent, take, take_all

PROBE, REPLICATE, LOADING = ProgressState.PROBE, ProgressState.REPLICATE, ProgressState.LOADING


def write(*commands: bytes) -> WritesRequested:
    return WritesRequested(7, commands or (b"x",))


def to_s2(effects: tuple[Effect, ...]) -> list[tuple[int, int]]:
    """First and last index of each message with entries to s2."""
    messages = sent(effects, AppendEntries, to="s2")
    return [(one.entries[0].index, one.entries[-1].index) for one in messages if one.entries]


def progress(state: PeerState, name: str = "s2") -> Progress:
    return leading(state).progress[name]


def with_progress(peer: PeerState, /, **changes: Any) -> PeerState:
    role = leading(peer)
    return replace(peer, role=replace(role, progress={**role.progress, "s2": replace(role.progress["s2"], **changes)}))


# -- pipelining --------------------------------------------------------------------------------------------------------


def test_the_next_batch_leaves_before_the_last_is_acknowledged() -> None:
    state, effects = take(bench.leader(), write())
    assert to_s2(effects) == [(3, 3)]
    state, effects = take(state, write())
    assert to_s2(effects) == [(4, 4)]
    assert progress(state).inflight == (3, 4)
    assert sent(effects, AppendEntries, to="s2")[0].previous == LogPosition(2, 3)


def test_the_window_is_bounded_and_slides_with_acknowledgements() -> None:
    state = bench.leader(settings=Settings(max_inflight=2))
    state = take_all(state, write(), write())
    state, effects = take(state, write())
    assert to_s2(effects) == []
    state, effects = take(state, ack("s2", 2, 3))
    assert to_s2(effects) == [(5, 5)]
    assert progress(state).inflight == (4, 5)


def test_one_acknowledgement_may_confirm_several_batches() -> None:
    state = take_all(bench.leader(), write(), write(), write(), ack("s2", 2, 5))
    assert (progress(state).inflight, progress(state).match_index) == ((), 5)


def test_batches_are_bounded_by_bytes() -> None:
    small = Settings(max_batch_bytes=2 * (10 + 32))
    effects = take(bench.leader(settings=small), write(*[b"0123456789"] * 5)).effects
    assert to_s2(effects) == [(3, 4), (5, 6), (7, 7)]


def test_a_command_larger_than_a_batch_travels_alone() -> None:
    effects = take(bench.leader(settings=Settings(max_batch_bytes=1)), write(b"x" * 100, b"y")).effects
    assert to_s2(effects) == [(3, 3), (4, 4)]


# -- probing -----------------------------------------------------------------------------------------------------------


def test_a_new_leader_sends_one_probe_at_a_time() -> None:
    state = take(bench.candidate(terms=(1, 1)), bench.vote("s2", 2)).state
    assert (progress(state).state, progress(state).probing) == (PROBE, True)
    assert to_s2(take(state, write()).effects) == []
    state, effects = take(state, ack("s2", 2, 3))
    assert progress(state).state is REPLICATE
    assert to_s2(effects) == []
    assert to_s2(take(state, write()).effects) == [(4, 4)]


def test_an_acknowledged_probe_is_followed_by_everything_that_waited() -> None:
    state = take(bench.candidate(terms=(1, 1)), bench.vote("s2", 2)).state
    state = take_all(state, write(), write())
    assert to_s2(take(state, ack("s2", 2, 3)).effects) == [(4, 5)]


def test_a_refused_probe_backs_off_to_the_hint() -> None:
    state = take(bench.candidate(terms=(1, 1, 1, 1)), bench.vote("s2", 2)).state
    state, effects = take(state, nack("s2", 2, 4, LogPosition(1, 2)))
    assert progress(state).state is PROBE
    assert to_s2(effects) == [(3, 5)]


def test_a_hint_is_matched_against_the_own_terms() -> None:
    """The follower has a term we never had: everything of it is skipped at once (§5.3, last paragraph)."""
    state = take(bench.candidate(terms=(1, 1, 1, 4, 4), term=5), bench.vote("s2", 5)).state
    state, effects = take(state, nack("s2", 5, 5, LogPosition(3, 5)))
    assert to_s2(effects) == [(4, 6)], "our newest entry of term 3 or older is 1.3"


@pytest.mark.parametrize("terms", [(1, 1, 1, 4, 4, 5, 5, 6, 6, 6)])
@pytest.mark.parametrize(
    "follower",
    [
        (1, 1, 1, 4, 4, 5, 5, 6, 6),
        (1, 1, 1, 4),
        (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),
        (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),
        (1, 1, 1, 4, 4, 4, 4),
        (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
    ],
    ids=list("abcdef"),
)
def test_the_logs_of_figure_7_are_repaired_in_a_round_per_term(
    terms: tuple[int, ...], follower: tuple[int, ...]
) -> None:
    term = 8
    leader = take(bench.candidate(terms=terms, term=term), bench.vote("s3", term)).state
    other = bench.peer("s2", terms=follower, term=term)
    message, rounds = (
        sent(take(bench.candidate(terms=terms, term=term), bench.vote("s3", term)).effects, AppendEntries)[0],
        0,
    )
    while progress(leader).match_index < 11:
        rounds += 1
        other, answered = take(other, message)
        leader, effects = take(leader, only(answered, AppendEntriesReply))
        message = next(iter(sent(effects, AppendEntries, to="s2")), message)
        assert rounds < 6
    assert [other.log.term_at(index) for index in range(1, 12)] == [*terms, term]
    assert other.log.last.index == 11
    assert rounds <= 3


def test_a_late_refusal_teaches_nothing() -> None:
    state = take_all(bench.leader(), write(), ack("s2", 2, 3), write())
    before = progress(state)
    assert progress(take(state, nack("s2", 2, 2)).state) == replace(before, heard_at=NOW)
    assert progress(take(state, nack("s2", 2, 3)).state).state is REPLICATE, "it is known to match"
    assert progress(take(state, nack("s2", 2, 5)).state).state is REPLICATE, "nothing was sent after it"
    probing = with_progress(take_all(state, write(), write()), state=PROBE, next_index=6, probing=True)
    for previous in (4, 9):
        assert progress(take(probing, nack("s2", 2, previous, LogPosition(2, 3))).state).next_index == 6


def test_of_a_window_that_is_refused_again_and_again_only_the_first_refusal_opens_a_new_one() -> None:
    """Messages overtook each other: each of the window was refused, and what came back since is another window."""
    state = take_all(bench.leader(), write(), ack("s2", 2, 3), write(), write())
    late = replace(nack("s2", 2, 4), sent=NOW - 0.01)
    assert progress(take(with_progress(state, window_since=NOW), late).state).state is REPLICATE
    assert progress(take(with_progress(state, window_since=NOW - 0.01), late).state).state is PROBE


def test_a_refusal_while_a_snapshot_is_sent_changes_nothing() -> None:
    state = take_all(bench.leader(), write(), ack("s2", 2, 3), write(), write())
    sending = Sending("s1-2", LogPosition(2, 2), 10, 0, NOW + 9)
    state = with_progress(state, state=ProgressState.SNAPSHOT, sending=sending)
    assert progress(take(state, nack("s2", 2, 4)).state) == replace(progress(state), heard_at=NOW)


def test_who_refuses_because_of_its_log_follows_all_the_same_and_keeps_what_it_promises() -> None:
    state = take(bench.leader(), write()).state
    after = progress(take(state, replace(nack("s2", 2, 2), sent=NOW, promise=0.3)).state)
    assert after.promised_until == NOW + 0.3 * 0.9


def test_who_is_sent_a_snapshot_keeps_what_it_promises() -> None:
    sending = Sending("s1-2", LogPosition(2, 2), 10, 0, NOW + 9)
    state = with_progress(bench.leader(), state=ProgressState.SNAPSHOT, sending=sending, match_index=1)
    after = progress(take(state, ack("s2", 2, 1, promise=0.3)).state)
    assert (after.state, after.promised_until) == (ProgressState.SNAPSHOT, NOW + 0.3 * 0.9)


def test_an_answer_that_was_overtaken_says_nothing_of_resting() -> None:
    newer, older = ack("s2", 2, 2, sent=NOW + 1, rests=True), ack("s2", 2, 2, sent=NOW)
    after = progress(take_all(bench.leader(), newer, older))
    assert (after.newest_sent, after.rested_at) == (NOW + 1, NOW + 1)


def test_a_hint_that_makes_no_sense_still_leads_back() -> None:
    state = take_all(bench.leader(), write(), write(), write())
    state = take(state, nack("s2", 2, 4, LogPosition(9, 99))).state
    assert progress(state).next_index == 4


def test_nothing_goes_back_below_what_is_known_to_match() -> None:
    """BUG-36."""
    state = take_all(bench.leader(), write(), write(), write(), ack("s2", 2, 3))
    state = take(state, nack("s2", 2, 5, NOWHERE)).state
    assert progress(state).next_index == 4


# -- heartbeats --------------------------------------------------------------------------------------------------------


def test_a_lost_batch_is_noticed_by_the_next_heartbeat() -> None:
    state = take_all(bench.leader(), write(), write())
    state, effects = take(state, Tick(), at(NOW + 0.05))
    heartbeat = sent(effects, AppendEntries, to="s2")[0]
    assert (heartbeat.previous, heartbeat.entries) == (LogPosition(2, 4), ())
    state, effects = take(state, nack("s2", 2, 4, LogPosition(2, 2)))
    assert progress(state).state is PROBE
    assert to_s2(effects) == [(3, 4)]


def test_a_lost_probe_is_freed_by_the_answer_to_a_heartbeat() -> None:
    state = take(bench.candidate(terms=(1, 1)), bench.vote("s2", 2)).state
    state, effects = take(state, ack("s2", 2, 2))
    assert to_s2(effects) == [(3, 3)]


def test_heartbeats_reach_everybody_whatever_their_window() -> None:
    state = bench.leader(settings=Settings(max_inflight=1))
    state = take(state, write()).state
    effects = take(state, Tick(), at(NOW + 0.05)).effects
    assert [message.entries for message in sent(effects, AppendEntries)] == [(), ()]


# -- from the store ----------------------------------------------------------------------------------------------------


def behind(**changes: Any) -> PeerState:
    """A leader of five entries, of which only the last is in memory; s2 has one."""
    state = bench.leader(terms=(1, 1, 1, 1, 2))
    log = recovered(NOWHERE, LogPosition(1, 4), ((1, 1),)).append(state.log.tail[-1:])
    fields = {"state": PROBE, "next_index": 2, "match_index": 1, **changes}
    return with_progress(replace(state, log=replace(log, durable=5)), **fields)


def test_what_is_not_in_memory_is_read_from_the_store() -> None:
    state, effects = take(behind(), nack("s2", 2, 9))
    assert only(effects, Load) == Load("s2", 2, 4, 1 << 20)
    assert progress(state).state is LOADING
    assert bench.of_type(take(state, write()).effects, Load) == [], "one read at a time"


def test_what_was_read_is_sent_and_followed_by_the_rest() -> None:
    state = take(behind(), nack("s2", 2, 9)).state
    state, effects = take(state, EntriesLoaded("s2", 2, entries(2, 1, 1, 1)))
    assert to_s2(effects) == [(2, 4), (5, 5)]
    assert progress(state).state is REPLICATE


def test_what_was_read_follows_what_is_under_way_without_another_probe() -> None:
    state = take(behind(state=REPLICATE, next_index=3, inflight=(2,)), nack("s2", 2, 9)).state
    assert progress(state).state is LOADING
    state, effects = take(state, EntriesLoaded("s2", 3, entries(3, 1, 1)))
    assert (to_s2(effects), progress(state).state) == ([(3, 4), (5, 5)], REPLICATE)


def test_a_probe_from_the_store_is_one_message() -> None:
    state = take(behind(match_index=0), nack("s2", 2, 9)).state
    state, effects = take(state, EntriesLoaded("s2", 2, entries(2, 1, 1)))
    assert to_s2(effects) == [(2, 3)]
    assert (progress(state).state, progress(state).probing) == (PROBE, True)


def test_heartbeats_go_on_while_the_store_is_read() -> None:
    state = take(behind(), nack("s2", 2, 9)).state
    assert sent(take(state, Tick(), at(NOW + 0.05)).effects, AppendEntries, to="s2")[0].previous == LogPosition(1, 1)


def test_what_a_follower_no_longer_wants_is_not_sent() -> None:
    state = take_all(behind(), nack("s2", 2, 9), ack("s2", 2, 4))
    assert progress(state).state is LOADING
    state, effects = take(state, EntriesLoaded("s2", 2, entries(2, 1, 1, 1)))
    assert to_s2(effects) == [(5, 5)]


def test_what_was_cut_off_while_it_was_read_is_not_sent() -> None:
    """The follower, far behind, then needs a snapshot; what was read ends where the log begins now."""
    state = take(behind(), nack("s2", 2, 9)).state
    log = state.log.compacted(LogPosition(1, 4))
    whole = bench.snapshot(LogPosition(1, 4))
    state, effects = take(replace(state, log=log, snapshot=whole), EntriesLoaded("s2", 2, entries(2, 1, 1, 1)))
    assert to_s2(effects) == []
    assert progress(state).sending is not None


def test_a_read_that_comes_back_too_late_is_dropped() -> None:
    loaded = EntriesLoaded("s2", 2, entries(2, 1, 1, 1))
    state = take_all(behind(), nack("s2", 2, 9), PeerDown("s2"))
    assert take(state, loaded) == (state, ())
    assert take(bench.following(), loaded).effects == ()
    assert take(behind(), EntriesLoaded("s9", 2, ())).effects == ()


def test_a_refusal_while_the_store_is_read_changes_nothing() -> None:
    state = take(behind(next_index=4), nack("s2", 2, 9)).state
    assert progress(state).state is LOADING
    assert progress(take(state, nack("s2", 2, 3)).state).next_index == 4


def test_a_read_that_brought_nothing_is_repeated() -> None:
    state = take(behind(), nack("s2", 2, 9)).state
    assert only(take(state, EntriesLoaded("s2", 2, ())).effects, Load).first == 2


def test_the_store_must_agree_with_the_log() -> None:
    """Entries that are not in the log are not sent."""
    state = take(behind(), nack("s2", 2, 9)).state
    state, effects = take(state, EntriesLoaded("s2", 2, entries(2, 1, 1, 7)))
    assert to_s2(effects) == []
    assert only(effects, Load).first == 2


def test_a_next_index_outside_the_log_is_a_violation() -> None:
    with pytest.raises(Violation, match="next_index 9 of s2"):
        take(with_progress(bench.leader(), next_index=9), Tick(), at(NOW + 0.05))
