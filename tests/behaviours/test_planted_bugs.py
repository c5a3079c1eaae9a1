"""The random walks can fail: each famous bug, planted, turns them red."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from raft_actors.behaviours import (
    applying,
    drifting,
    follower,
    handover,
    installing,
    reads,
    snapshots,
    step,
    transfers,
    voting,
)
from raft_actors.behaviours.transition import Transition
from raft_actors.protocol import effects as fx
from raft_actors.protocol.effects import Capture, Compact, Effect
from raft_actors.protocol.log import Log
from raft_actors.protocol.messages import AppendEntries, RequestVote
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.protocol.state import NEVER, Leader, PeerState
from raft_actors.protocol.types import LogPosition, Moment, Settings, Violation
from tests.behaviours.cluster import Broken
from tests.behaviours.test_random_walks import STEPS, TINY, Walk

Plant = Callable[[pytest.MonkeyPatch], None]

ENOUGH_WALKS = 200


def shorter_logs_win(patch: pytest.MonkeyPatch) -> None:
    """No election restriction (§5.4.1)."""
    honest = voting.grant_vote
    patch.setattr(voting, "grant_vote", lambda state, request, moment: honest(state, _with_any_log(request), moment))


def _with_any_log(request: RequestVote) -> RequestVote:
    return replace(request, last=LogPosition(1 << 40, 1 << 40))


def votes_twice(patch: pytest.MonkeyPatch) -> None:
    """One vote per term (§5.2) is forgotten."""

    def grant_vote(state: PeerState, request: RequestVote, moment: Moment) -> Transition:
        free = replace(state, ballot=replace(state.ballot, voted_for=None))
        return honest(free, request, moment)

    honest = voting.grant_vote
    patch.setattr(voting, "grant_vote", grant_vote)


def vote_leaves_before_the_disk_has_it(patch: pytest.MonkeyPatch) -> None:
    """BUG-02, BUG-11, BUG-14."""

    def seal(before: PeerState, after: PeerState, effects: tuple[fx.Effect, ...]) -> tuple[fx.Effect, ...]:
        sealed = honest(before, after, effects)
        persists = tuple(effect for effect in sealed if isinstance(effect, fx.Persist))
        return (*(effect for effect in sealed if not isinstance(effect, fx.Persist)), *persists)

    honest = step.seal
    patch.setattr(step, "seal", seal)


def success_claims_the_whole_log(patch: pytest.MonkeyPatch) -> None:
    """BUG-34: the follower's own last index instead of what matched."""
    honest = follower._accept
    patch.setattr(follower, "_accept", lambda state, message, match: honest(state, message, state.log.last.index))


def cuts_from_the_previous_entry(patch: pytest.MonkeyPatch) -> None:
    """BUG-36: a duplicate that is shorter than the log cuts off what came after."""

    def merge(state: PeerState, message: AppendEntries) -> tuple[PeerState, tuple[fx.Persist, ...]]:
        first = message.previous.index + 1
        if not message.entries or first > state.log.last.index:
            return honest(state, message)
        log = state.log.truncate(first).append(message.entries)
        return replace(state, log=log), (fx.Persist(truncate_from=first, entries=message.entries),)

    honest = follower._merge
    patch.setattr(follower, "_merge", merge)


def applies_before_its_disk(patch: pytest.MonkeyPatch) -> None:
    """BUG-03."""
    honest = applying.hand_over

    def hand_over(state: PeerState) -> Transition:
        eager, effects = honest(replace(state, log=replace(state.log, durable=state.log.last.index)))
        return Transition(replace(eager, log=replace(eager.log, durable=state.log.durable)), effects)

    patch.setattr(applying, "hand_over", hand_over)
    patch.setattr(step, "_check", lambda before, after: None)


def counts_itself_before_its_disk(patch: pytest.MonkeyPatch) -> None:
    """BUG-01: an entry counts as soon as it is appended."""
    honest = Log.append
    patch.setattr(Log, "append", lambda log, entries: replace(honest(log, entries), durable=entries[-1].index))


def reads_without_a_round(patch: pytest.MonkeyPatch) -> None:
    """BUG-24, BUG-28."""
    patch.setattr(reads, "_may_answer_at_once", lambda state, role, pending, moment: True)


def reads_before_the_no_op(patch: pytest.MonkeyPatch) -> None:
    """BUG-22: the commit index of a new leader may be old."""
    honest = reads._confirmed
    patch.setattr(
        reads, "_confirmed", lambda state, index, waiting: honest(state, min(index, state.commit_index), waiting)
    )


def adopts_before_its_disk(patch: pytest.MonkeyPatch) -> None:
    """BUG-03, BUG-47: after a crash the machine knows what the store does not."""
    honest = installing.adopt_if_ready

    def early(state: PeerState, effects: list[Effect]) -> PeerState:
        log = replace(state.log, durable=max(state.log.durable, state.log.previous.index))
        return replace(honest(replace(state, log=log), effects), log=state.log)

    patch.setattr(applying, "adopt_if_ready", early)


def cuts_the_log_before_the_snapshot_is_durable(patch: pytest.MonkeyPatch) -> None:
    """BUG-53."""
    honest = snapshots.take_if_due

    def early(state: PeerState, moment: Moment) -> Transition:
        state, effects = honest(state, moment)
        for one in effects:
            if isinstance(one, Capture):
                whole = Snapshot("not yet", one.last)
                effects = (Compact(whole, one.last.index, one.configuration_index, one.configuration), *effects)
        return Transition(state, effects)

    patch.setattr(snapshots, "take_if_due", early)


def forgets_its_caller_with_its_leadership(patch: pytest.MonkeyPatch) -> None:
    """Who asked for a hand-over is kept by the leader, and gone with it."""
    honest = transfers.settle

    def settle(state: PeerState, moment: Moment) -> Transition:
        return honest(state, moment) if isinstance(state.role, Leader) else Transition(replace(state, handing=None))

    patch.setattr(transfers, "settle", settle)


def answers_its_caller_again_and_again(patch: pytest.MonkeyPatch) -> None:
    """The end of a hand-over is told with every step."""
    honest = transfers.settle

    def settle(state: PeerState, moment: Moment) -> Transition:
        after, effects = honest(state, moment)
        return Transition(replace(after, handing=state.handing), effects)

    patch.setattr(transfers, "settle", settle)


def never_gives_a_hand_over_up(patch: pytest.MonkeyPatch) -> None:
    """Writes are turned away for ever if the target is not elected (thesis §3.10)."""
    honest = handover.begin_transfer
    for module in (transfers, drifting):
        patch.setattr(
            module,
            "begin_transfer",
            lambda state, role, transfer: honest(state, role, replace(transfer, deadline=NEVER)),
        )


def leads_on_whatever_the_priorities(patch: pytest.MonkeyPatch) -> None:
    """Leadership never drifts."""
    patch.setattr(drifting, "drift", lambda state, role, moment: Transition(state))


HANDING_OVER: list[Plant] = [
    forgets_its_caller_with_its_leadership,
    answers_its_caller_again_and_again,
    never_gives_a_hand_over_up,
    leads_on_whatever_the_priorities,
]
SNAPSHOTS: list[Plant] = [
    adopts_before_its_disk,
    cuts_the_log_before_the_snapshot_is_durable,
]
BUGS: list[Plant] = [
    shorter_logs_win,
    votes_twice,
    vote_leaves_before_the_disk_has_it,
    success_claims_the_whole_log,
    cuts_from_the_previous_entry,
    applies_before_its_disk,
    counts_itself_before_its_disk,
    reads_without_a_round,
    reads_before_the_no_op,
]


@pytest.mark.parametrize("plant", SNAPSHOTS, ids=lambda plant: plant.__name__)
def test_a_walk_with_snapshots_finds_the_planted_bug(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    for seed in range(ENOUGH_WALKS):
        settings = Settings(snapshot_threshold=1 + seed % TINY, trailing_entries=0)
        try:
            walk = Walk(seed, settings)
            walk.faults(STEPS)
            walk.heal()
        except (Broken, Violation):
            return
    pytest.fail(f"{ENOUGH_WALKS} walks noticed nothing")


@pytest.mark.parametrize("plant", HANDING_OVER, ids=lambda plant: plant.__name__)
def test_a_walk_that_hands_over_finds_the_planted_bug(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    for seed in range(ENOUGH_WALKS):
        try:
            walk = Walk(seed, Settings(lease_reads=True), priorities=True)
            walk.faults(STEPS)
            walk.hand_over_in_vain()
            walk.heal()
            walk.check_drifted()
            walk.check_alive()
        except (Broken, Violation, AssertionError):
            return
    pytest.fail(f"{ENOUGH_WALKS} walks noticed nothing")


@pytest.mark.parametrize("plant", BUGS, ids=lambda plant: plant.__name__)
def test_a_walk_finds_the_planted_bug(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    for seed in range(ENOUGH_WALKS):
        settings = Settings(lease_reads=seed % 2 == 0, pre_vote=False, check_quorum=False)
        try:
            walk = Walk(seed, settings)
            walk.faults(STEPS)
            walk.heal()
        except (Broken, Violation):
            return
    pytest.fail(f"{ENOUGH_WALKS} walks noticed nothing")
