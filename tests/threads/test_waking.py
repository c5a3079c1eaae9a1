"""Peers whose process, or whose whole machine, slept."""

from __future__ import annotations

import time
from typing import Any

import pytest

import raft_actors as raft
from raft_actors import names, suspension
from raft_actors.suspension import LEAST, Suspension
from raft_actors.testing import Cluster
from tests.threads.tools import NEVER, Recorder, wait_until

TIMEOUTS = raft.Config(min_election_timeout=0.3, max_election_timeout=0.4)


class Clocks:
    """Two clocks that stand still but for what a test does; the time between two looks passes on both."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.awake, self.asleep, self.between = 100.0, 50.0, 0.0
        patch.setattr(suspension, "since_boot", self._since_boot)
        patch.setattr(time, "monotonic", lambda: self.awake)

    def _since_boot(self) -> float:
        now = self.awake + self.asleep
        self.awake += self.between  # the clock that stands still is read later
        return now


def test_a_machine_that_was_not_suspended_is_not_taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks(monkeypatch)
    watch = Suspension()
    for between in (0.0, 0.3, 5.0, 0.0, 0.1):  # this thread waits for a core between the two looks
        clocks.awake += 1.0
        clocks.between = between
        assert not watch.noticed()


@pytest.mark.parametrize("between", [0.0, 0.3])
def test_a_suspension_is_noticed_once(monkeypatch: pytest.MonkeyPatch, between: float) -> None:
    clocks = Clocks(monkeypatch)
    watch = Suspension()
    clocks.between = between
    assert not watch.noticed()
    clocks.asleep += between + LEAST + 0.001
    assert watch.noticed()
    assert not watch.noticed()


def test_where_there_is_no_such_clock_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspension, "_CLOCK", None)
    watch = Suspension()
    assert suspension.since_boot() == 0.0
    assert not watch.noticed()


def test_the_clocks_of_this_machine_agree() -> None:
    watch = Suspension()
    assert not any(watch.noticed() for _ in range(1000))


def test_a_leader_whose_machine_was_suspended_gives_up_leadership(monkeypatch: pytest.MonkeyPatch) -> None:
    with Cluster(Recorder, config=TIMEOUTS) as cluster:
        leader = cluster.leader()
        assert leader is not None
        cluster.write("before")
        term, events = cluster.status(leader).term, []
        subscriptions = [raft.subscribe(name, events.append, events=[raft.RoleChanged]) for name in cluster.names]
        honest, begin = suspension.since_boot, time.monotonic()
        monkeypatch.setattr(suspension, "since_boot", lambda: honest() + 3600.0)
        wait_until(lambda: raft.RoleChanged(leader, "follower", term) in events)
        assert events[0] == raft.RoleChanged(leader, "follower", term)
        wait_until(lambda: len(events) > 1)
        assert time.monotonic() - begin > 0.25, "they listened first"
        assert cluster.write("after") == 2
        for subscription in subscriptions:
            subscription.close()


def test_a_frozen_leader_gives_up_leadership_before_it_looks_at_what_has_waited(
    record_property: Any,
) -> None:
    with Cluster(Recorder, config=TIMEOUTS) as cluster:
        leader = cluster.leader()
        assert leader is not None
        for name in cluster.names:
            if name != leader:
                cluster.cut(name, leader)  # so that it learns nothing from them
        cluster.pause(leader)
        wait_until(lambda: cluster.leader() not in (None, leader))
        waiting = [raft.write(leader, "x", block=False), raft.read(leader, "len", block=False)]
        assert names.whereis(leader).state.leader == leader  # type: ignore[union-attr]
        NEVER.wait(0.5)
        cluster.resume(leader)
        for future in waiting:
            with pytest.raises(raft.ElectionInProgress):
                future.get(timeout=5)
        cluster.heal()
        assert cluster.converged()
