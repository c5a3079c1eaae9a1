"""What a peer says not to wait for changes nothing that anybody would notice."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from raft_actors.behaviours.attention import ANSWERS, APPLIED, SYNCED, concerns
from raft_actors.protocol import effects as fx
from raft_actors.protocol.events import Applied, Event, Persisted, ReadsRequested, Received, WritesRequested
from raft_actors.protocol.messages import AppendEntriesReply
from raft_actors.protocol.state import PeerState
from raft_actors.protocol.types import Settings
from tests.behaviours import bench
from tests.behaviours.bench import ack, take, take_all
from tests.behaviours.test_random_walks import Walk


def concern_of(event: Event, before: PeerState) -> int:
    match event:
        case Persisted():
            return SYNCED
        case Applied():
            return APPLIED
        case Received(message=AppendEntriesReply(success=True) as reply) if reply.term <= before.term:
            return ANSWERS  # refusals and newer terms may wait for the next heartbeat
        case _:
            return 0


class Watch:
    """Looks at every step of a walk for news that a peer should have waited for."""

    def __init__(self, seed: int, settings: Settings) -> None:
        self.walk = Walk(seed, settings)
        self.event: tuple[str, Event] | None = None
        self.seen = 0
        self.walk.cluster.watch(self._on_event, self._on_step)

    def _on_event(self, name: str, event: Event) -> None:
        self.event = (name, event)

    def _on_step(self, before: PeerState, after: PeerState, effects: tuple[fx.Effect, ...]) -> None:
        assert self.event is not None
        concern = concern_of(self.event[1], before)
        if not concern or concerns(before) & concern:
            return
        self.seen += 1
        assert not effects, f"{self.event} was not waited for in {before}"
        assert type(after.role) is type(before.role)
        assert after.commit_index == before.commit_index


@pytest.mark.parametrize("seed", range(12))
def test_what_is_not_waited_for_changes_nothing_at_once(seed: int) -> None:
    watch = Watch(seed, Settings(lease_reads=seed % 2 == 0, max_inflight=1 if seed % 3 == 0 else 64))
    watch.walk.faults(400)
    watch.walk.heal()
    assert watch.seen, "nothing was left lying"


def test_a_leader_waits_for_the_answers_to_its_entries() -> None:
    assert not concerns(bench.leader())
    state = take(bench.leader(), WritesRequested(1, (b"x",))).state
    assert concerns(state) & ANSWERS
    assert not concerns(state) & SYNCED, "its own disk alone commits nothing"
    assert concerns(take(state, ack("s2", 2, 3)).state) & (SYNCED | ANSWERS)


def test_alone_a_leader_waits_for_its_disk() -> None:
    state = take(bench.leader(members=bench.configuration("s1")), WritesRequested(1, (b"x",))).state
    assert concerns(state) & SYNCED


def test_a_leader_waits_for_the_answers_to_a_round() -> None:
    assert concerns(take(bench.leader(), ReadsRequested(1)).state) & ANSWERS


def test_a_leader_waits_for_a_follower_that_is_behind() -> None:
    state = bench.leader()
    role = bench.leading(state)
    behind = replace(role.progress["s2"], next_index=1)
    assert concerns(replace(state, role=replace(role, progress={**role.progress, "s2": behind}))) & ANSWERS


def test_a_follower_waits_for_its_disk_only_with_committed_entries() -> None:
    state = take(bench.following(commit=1), bench.append("s2", 1, bench.FIRST, bench.entries(2, 1))).state
    assert not concerns(state)
    assert concerns(take(state, bench.append("s2", 1, state.log.last, commit=2)).state) == SYNCED | APPLIED


def test_a_candidate_waits_for_its_ballot() -> None:
    state = take_all(bench.pre_candidate(), bench.pre_vote_reply("s2", 2, granted=True))
    assert concerns(state) & SYNCED
