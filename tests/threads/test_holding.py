"""While a batch commits, writes gather: they do not wake the leader one by one, and none is kept for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

import raft_actors as raft
from raft_actors import peer
from raft_actors.codec import resolve
from raft_actors.futures import RequestFuture
from raft_actors.intake import Mailbox
from raft_actors.testing import Cluster
from tests.threads.tools import Recorder, outcome, wait_until

FAR = 1e9
"""Not within this test."""


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox("s1", raft.Config(), resolve("plain"))


def submit(mailbox: Mailbox, count: int) -> None:
    for number in range(count):
        mailbox.write(number, RequestFuture(), watch=False)


def test_held_writes_are_no_work_for_a_sleeping_owner_and_become_one_batch(mailbox) -> None:
    mailbox.hold_until = FAR
    submit(mailbox, 5)
    assert not mailbox._has_work()
    mailbox.hold_until = 0.0
    assert mailbox._has_work()
    batch = mailbox.take_writes()
    assert batch is not None
    assert len(batch.commands) == batch.left == 5
    assert mailbox.take_writes() is None


def test_reads_and_messages_wake_an_owner_that_holds_writes(mailbox) -> None:
    mailbox.hold_until = FAR
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
        assert [outcome(future) for future in futures] == list(range(1, 21))
        assert cluster.state(leader)[-20:] == list(range(20))


@pytest.fixture
def owner(mailbox: Mailbox) -> Iterator[list[float]]:
    """When the owner of the mailbox was woken; it takes what is there, and sleeps for an hour again."""
    wakes: list[float] = []
    mailbox.deadline = time.monotonic() + 3600
    done = threading.Event()

    def run() -> None:
        while not done.is_set():
            mailbox.get()
            wakes.append(time.monotonic())
            if time.monotonic() >= mailbox.hold_until:
                mailbox.hold_until = 0.0
            if not mailbox.hold_until:
                mailbox.take_writes()
            mailbox.drain()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield wakes
    done.set()
    mailbox.close()
    thread.join(10)


def test_who_holds_no_writes_does_not_wake_for_the_end_of_the_hold(mailbox: Mailbox, owner: list[float]) -> None:
    wait_until(lambda: mailbox._asleep)
    mailbox.hold_until = until = time.monotonic() + 0.02
    mailbox.post("the last that comes")
    wait_until(lambda: time.monotonic() > until + 0.1)
    assert len(owner) == 1
    assert mailbox._asleep


@pytest.mark.parametrize("before", [True, False], ids=["before it sleeps", "while it sleeps"])
def test_writes_that_are_held_are_taken_at_the_end_of_the_hold(mailbox, owner, before) -> None:
    wait_until(lambda: mailbox._asleep)
    until = time.monotonic() + 0.1
    with mailbox._lock:  # as in a turn of the owner: it does not look meanwhile
        mailbox.hold_until = until
    if before:
        mailbox.post("anything")  # it wakes, and looks at its deadline anew, with a write there or just coming
    submit(mailbox, 3)
    wait_until(lambda: mailbox.hold_until == 0.0 and not mailbox._writes.futures)
    assert until <= owner[-1] < until + 2.0


def test_writes_that_come_in_a_lent_turn_that_begins_a_hold_are_taken_at_its_end(mailbox, owner) -> None:
    until = time.monotonic() + 0.1

    def turn() -> bool:
        mailbox.drain()
        mailbox.hold_until = until
        submit(mailbox, 3)
        return False

    mailbox.turn = turn
    wait_until(lambda: mailbox._asleep)
    mailbox.lend("a message")
    wait_until(lambda: mailbox.hold_until == 0.0 and not mailbox._writes.futures)
    assert until <= owner[-1] < until + 2.0


def test_a_hold_that_is_over_holds_nothing_although_its_batch_still_commits(mailbox) -> None:
    mailbox.hold_until = time.monotonic() - 0.001
    submit(mailbox, 1)
    assert mailbox._has_work()


def test_an_idle_leader_takes_a_write_at_once(monkeypatch) -> None:
    monkeypatch.setattr(peer, "HOLD", 30.0)  # were it held, it would time out
    with Cluster(Recorder) as cluster:
        leader = cluster.leader()
        began = time.monotonic()
        for number in range(5):
            raft.write(leader, number, timeout=5.0)
        assert time.monotonic() - began < 5.0


def test_a_follower_applies_as_soon_as_its_disk_is_done_and_waits_for_no_heartbeat() -> None:
    rarely = raft.Config(heartbeat_interval=100, min_election_timeout=300, max_election_timeout=600)
    with Cluster(Recorder, config=rarely) as cluster:
        leader = cluster.leader()
        for count in range(1, 8):
            cluster.write(count)
            for name in cluster.names:
                if name != leader:  # that the last one is committed, it learns only with the next message
                    wait_until(lambda name=name, count=count: len(cluster.state(name)) >= count - 1)


def test_a_follower_applies_at_once_what_a_stale_read_waits_for_however_slow_its_disk() -> None:
    rarely = raft.Config(heartbeat_interval=100, min_election_timeout=300, max_election_timeout=600)
    with Cluster(Recorder, config=rarely) as cluster:
        leader = cluster.leader()
        follower = next(name for name in cluster.names if name != leader)
        cluster.write("first")
        wait_until(lambda: raft.status(follower).last_index == raft.status(leader).last_index)
        index = raft.status(leader).commit_index
        waiting = raft.read(follower, "len", consistency="stale", min_index=index, timeout=10.0, block=False)
        wait_until(lambda: cluster._peer(follower).machine.awaited, what="the read waits in the machine")
        cluster.disk(follower).hang()
        cluster.write("its disk does not get this, but it brings the news that the first is committed")
        assert outcome(waiting) == 1
        cluster.disk(follower).heal()


def test_a_follower_whose_disk_hangs_applies_what_was_committed_before() -> None:
    with Cluster(Recorder) as cluster:
        leader = cluster.leader()
        follower = next(name for name in cluster.names if name != leader)
        for number in range(20):
            cluster.write(number)
        wait_until(lambda: raft.status(follower).last_index == raft.status(leader).last_index)
        cluster.disk(follower).hang()
        cluster.write("what its disk never gets")
        wait_until(lambda: raft.read(follower, "all", consistency="stale")[:20] == list(range(20)))
        cluster.disk(follower).heal()
        assert cluster.converged()
