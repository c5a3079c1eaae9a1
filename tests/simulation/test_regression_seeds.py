"""What the simulator found in our own code, red with the code of that time and green with ours.

The code of that time is planted again, so that a seed is known to reach the place; the first that does is searched for,
since every change of what the simulator draws gives the seeds another meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from raft_actors.behaviours.replication import note_reply
from raft_actors.behaviours.snapshots import on_snapshot_failed, request, take_if_due
from raft_actors.behaviours.transition import Transition
from raft_actors.protocol.effects import Capture
from raft_actors.protocol.events import SnapshotRequested
from raft_actors.protocol.messages import AppendEntriesReply
from raft_actors.protocol.progress import Progress, ProgressState
from raft_actors.protocol.types import NOWHERE, LogPosition, Moment
from raft_actors.testing.simulation import Ledger, simulate
from tests.behaviours.bench import at, peer
from tests.simulation.planting import planted

SEARCHED = 300


class Found(NamedTuple):
    """A defect of the past.

    Attributes:
        function: where it was.
        as_it_was: makes the function of the past out of today's.
        violation: how its violation begins.
    """

    function: str
    as_it_was: Callable[[Any], Any]
    violation: str


def counts_before_the_term_is_synced(original: Any) -> Any:
    """A follower that had just heard of a new term acknowledged old entries in it before its disk knew the term.

    It crashed, came back in the older term, followed that term's deposed leader and dropped the entries; the leader
    that had counted them never went back below them again: the follower was out of step for the rest of the term.
    """
    return lambda state, end: min(end, state.log.durable)


def asks_only_once(original: Any) -> Any:
    """A follower asked its leader once from where to read; when that message or its answer was lost, readers waited."""
    return lambda state, moment: Transition(state)


def waits_for_what_is_lost(original: Any) -> Any:
    """A read waited for the index of a new leader's no-op when the leader was deposed and the no-op cut off.

    Where nobody wrote, no later entry came so far: the reader waited for ever.
    """

    def forget_leader(state: Any) -> Transition:
        after, effects = original(replace(state, confirmed_reads=()))
        return Transition(replace(after, confirmed_reads=state.confirmed_reads), effects)

    return forget_leader


FOUND = {
    "an acknowledgement in a term that is not on disk": Found(
        "raft_actors.behaviours.follower:_durable_match",
        counts_before_the_term_is_synced,
        "effect order",
    ),
    "a lost question of a follower is not asked again": Found(
        "raft_actors.behaviours.reads:ask_again",
        asks_only_once,
        "liveness",
    ),
    "a confirmed read waits for an index that is lost": Found(
        "raft_actors.behaviours.transition:forget_leader",
        waits_for_what_is_lost,
        "read rounds",
    ),
}


def first_red_seed(found: Found) -> int | None:
    with planted(found.function, found.as_it_was):
        for seed in range(SEARCHED):
            report = simulate(Ledger, seed=seed, steps=3000)
            if not report.ok:
                assert report.violations[0].startswith(found.violation), report.violations
                return seed
    return None


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_once_is_found_again_and_is_mended(name) -> None:
    seed = first_red_seed(FOUND[name])
    assert seed is not None, f"none of {SEARCHED} seeds finds it any more: the simulator has to learn what shows it"
    simulate(Ledger, seed=seed, steps=3000).check()


def test_refusals_of_one_window_open_one_new_window() -> None:
    """Seed 20368: 64 small batches overtook each other, and every refusal of them brought forth 64 more."""
    window = Progress(next_index=65, match_index=1, state=ProgressState.REPLICATE, inflight=tuple(range(2, 65)))
    probing = note_reply(window, reply(1.0, previous=40, success=False), LogPosition(1, 1), Moment(2.0, 0.0, 0.0))
    assert probing.state is ProgressState.PROBE
    again = note_reply(probing, reply(2.0, previous=1, success=True), NOWHERE, Moment(3.0, 0.0, 0.0))
    sent = replace(again, next_index=65, inflight=tuple(range(2, 65)))
    late = note_reply(sent, reply(1.0, previous=50, success=False), LogPosition(1, 1), Moment(3.1, 0.0, 0.0))
    assert late.state is ProgressState.REPLICATE
    fresh = note_reply(sent, reply(3.0, previous=50, success=False), LogPosition(1, 1), Moment(3.2, 0.0, 0.0))
    assert fresh.state is ProgressState.PROBE


def reply(sent: float, *, previous: int, success: bool) -> AppendEntriesReply:
    return AppendEntriesReply(
        cluster="c", sender="s2", incarnation="i", receiver="", term=1, success=success, previous=previous, sent=sent
    )


def test_small_batches_that_overtake_each_other_do_not_keep_a_cluster_busy() -> None:
    report = simulate(Ledger, seed=20368, peers=6)
    report.check()
    assert report.steps < 20_000


def test_whoever_asks_for_a_snapshot_after_one_failed_does_not_wait_for_entries() -> None:
    """Seed 36: the next attempt was due after more entries, but nobody wrote any."""
    failed = on_snapshot_failed(peer(terms=(1, 1), commit=2), at())[0]
    assert take_if_due(failed, at())[1] == ()
    asked = request(failed, SnapshotRequested(1))[0]
    assert [type(effect) for effect in take_if_due(asked, at())[1]] == [Capture]
