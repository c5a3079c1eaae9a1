"""Who waits for entries of the log, when a snapshot takes their place."""

from __future__ import annotations

import pytest

import raft_actors as raft
from raft_actors.futures import RequestFuture
from raft_actors.requests import Waiters, WriteBatch


def batch_of(count: int) -> WriteBatch:
    batch = WriteBatch()
    batch.futures = [RequestFuture() for _ in range(count)]
    return batch


def test_whoever_waits_for_an_entry_that_a_snapshot_covers_hears_that_its_outcome_is_unknown() -> None:
    released: list[int] = []
    waiters = Waiters(lambda _, count: released.append(count))
    batch = batch_of(4)
    waiters.accepted(waiters.admit(batch), first=5, term=1)
    waiters.covered(6)
    for future in batch.futures[:2]:
        with pytest.raises(raft.OutcomeUnknown, match="snapshot"):
            future.get(timeout=0)
    assert [future.done() for future in batch.futures] == [True, True, False, False]
    assert released == [2]


def test_whoever_waits_at_a_peer_that_is_out_of_its_cluster_hears_that_the_outcome_is_unknown() -> None:
    released: list[int] = []
    waiters = Waiters(lambda _, count: released.append(count))
    batch = batch_of(3)
    waiters.accepted(waiters.admit(batch), first=5, term=1)
    waiters.forsaken()
    for future in batch.futures:
        with pytest.raises(raft.OutcomeUnknown, match="a member of its cluster no more"):
            future.get(timeout=0)
    assert released == [3]


def test_whoever_waits_for_a_later_entry_waits_on() -> None:
    waiters = Waiters(lambda _, count: None)
    batch = batch_of(2)
    waiters.accepted(waiters.admit(batch), first=5, term=1)
    waiters.covered(4)
    assert not any(future.done() for future in batch.futures)
