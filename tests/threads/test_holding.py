"""While a batch commits, writes gather: they do not wake the leader one by one, and none is kept for long."""

from __future__ import annotations

import time

import pytest

import raft_actors as raft
from raft_actors import peer
from raft_actors.codec import resolve
from raft_actors.futures import RequestFuture
from raft_actors.intake import Mailbox
from raft_actors.testing import Cluster
from tests.threads.tools import Recorder, outcome


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox("s1", raft.Config(), resolve("plain"))


def submit(mailbox: Mailbox, count: int) -> None:
    for number in range(count):
        mailbox.write(number, RequestFuture(), watch=False)


def test_held_writes_are_no_work_for_a_sleeping_owner_and_become_one_batch(mailbox) -> None:
    mailbox.holding = True
    submit(mailbox, 5)
    assert not mailbox._has_work()
    mailbox.holding = False
    assert mailbox._has_work()
    batch = mailbox.take_writes()
    assert batch is not None
    assert len(batch.commands) == batch.left == 5
    assert mailbox.take_writes() is None


def test_reads_and_messages_wake_an_owner_that_holds_writes(mailbox) -> None:
    mailbox.holding = True
    submit(mailbox, 1)
    mailbox.read("q", "linearizable", RequestFuture(), watch=False, min_index=None)
    assert mailbox._has_work()
    assert mailbox.drain().reads is not None
    mailbox.post("message")
    assert mailbox._has_work()


def test_writes_that_come_while_a_batch_commits_are_answered_although_nothing_else_happens() -> None:
    with Cluster(Recorder) as cluster:
        leader = cluster.leader()
        for name in cluster.names:
            cluster.disk(name).delay(0.2)  # the batch commits much longer than writes are held
        futures = [raft.write(leader, number, block=False, timeout=5.0) for number in range(20)]
        assert [outcome(future) for future in futures] == [outcome(future) for future in futures]
        assert all(not isinstance(outcome(future), Exception) for future in futures)
        assert cluster.state(leader)[-20:] == list(range(20))


def test_an_idle_leader_takes_a_write_at_once(monkeypatch) -> None:
    monkeypatch.setattr(peer, "HOLD", 30.0)  # were it held, it would time out
    with Cluster(Recorder) as cluster:
        leader = cluster.leader()
        began = time.monotonic()
        for number in range(5):
            raft.write(leader, number, timeout=5.0)
        assert time.monotonic() - began < 5.0
