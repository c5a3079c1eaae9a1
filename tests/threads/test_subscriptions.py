"""What subscribers are told: in order, the latest always, and never at the cost of a peer."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import raft_actors as raft
from raft_actors.subscriptions import BACKLOG, Hub
from raft_actors.testing import Cluster
from tests.threads.tools import Recorder, wait_until


def leader_of(cluster: Cluster) -> str:
    leader = cluster.leader()
    assert leader is not None
    return leader


def test_roles_and_leaders_are_told_in_order() -> None:
    with Cluster(Recorder) as cluster:
        old = leader_of(cluster)
        other = next(name for name in cluster.names if name != old)
        events: list[Any] = []
        with raft.subscribe(other, events.append):
            term = cluster.status(old).term
            cluster.crash(old)
            new = leader_of(cluster)
            wait_until(lambda: events and raft.LeaderChanged(new, cluster.status(new).term) in events)
            changes = [one for one in events if isinstance(one, raft.LeaderChanged)]
            assert changes[0].leader is None
            terms = [one.term for one in events if hasattr(one, "term")]
            assert terms == sorted(terms)
            assert terms[-1] > term
            if new == other:
                roles = [one.role for one in events if isinstance(one, raft.RoleChanged)]
                assert roles[-1] == "leader"
                assert roles[0] == "pre_candidate"


def test_the_formation_of_the_cluster_is_told(config: raft.Config) -> None:
    raft.start_peer(Recorder, name="s1", config=config)
    events: list[Any] = []
    with raft.subscribe("s1", events.append, events=[raft.ConfigurationCommitted]):
        formed = raft.set_configuration("s1", ["s1"])
        wait_until(lambda: events == [raft.ConfigurationCommitted(formed)])
        raft.stop("s1")


def test_the_end_of_a_peer_is_the_last_thing_told() -> None:
    with Cluster(Recorder) as cluster:
        events: list[Any] = []
        raft.subscribe("s2", events.append)
        cluster.stop("s2")
        wait_until(lambda: events and events[-1] == raft.PeerStopped("s2", "stopped"))


def test_a_subscription_that_nobody_closes_ends_with_the_name() -> None:
    with Cluster(Recorder) as cluster:
        raft.subscribe("s1", print)
        cluster.stop("s1")
        wait_until(lambda: not [one for one in threading.enumerate() if one.name == "raft-subscription"])


def test_only_what_was_asked_for_is_told() -> None:
    with Cluster(Recorder) as cluster:
        events: list[Any] = []
        with raft.subscribe("s1", events.append, events={raft.PeerStopped}):
            cluster.crash(leader_of(cluster))
            cluster.write("x")
            cluster.crash("s1")
            wait_until(lambda: events)
            assert [type(one) for one in events] == [raft.PeerStopped]


def test_after_close_nothing_more_is_told_and_the_thread_ends() -> None:
    with Cluster(Recorder) as cluster:
        events: list[Any] = []
        subscription = raft.subscribe("s1", events.append)
        subscription.close()
        subscription.close()
        wait_until(lambda: not [one for one in threading.enumerate() if one.name == "raft-subscription"])
        cluster.crash(leader_of(cluster))
        cluster.write("x")
        assert events == []


def test_a_callback_may_close_its_own_subscription() -> None:
    with Cluster(Recorder) as cluster:
        subscriptions: list[Any] = []
        events: list[Any] = []

        def once(event: Any) -> None:
            events.append(event)
            subscriptions[0].close()

        subscriptions.append(raft.subscribe("s1", once))
        for _ in range(2):
            leader = leader_of(cluster)
            cluster.stop(leader)
            cluster.write("x")
            cluster.start(leader)
        assert len(events) == 1


def test_a_callback_that_never_returns_slows_nobody() -> None:
    with Cluster(Recorder) as cluster:
        leader = leader_of(cluster)
        stuck, release = threading.Event(), threading.Event()

        def hang(_: Any) -> None:
            stuck.set()
            release.wait(30)

        subscriptions = [raft.subscribe(name, hang) for name in cluster.names]
        cluster.stop(leader)
        assert stuck.wait(5)
        begin = time.monotonic()
        for number in range(100):
            cluster.write(number)
        assert time.monotonic() - begin < 3.0
        release.set()
        for subscription in subscriptions:
            subscription.close()


def test_a_slow_callback_loses_old_events_and_never_the_latest() -> None:
    hub = Hub()
    stuck, release = threading.Event(), threading.Event()
    seen: list[Any] = []

    def slow(event: Any) -> None:
        stuck.set()
        release.wait(30)
        seen.append(event)

    with hub.subscribe(slow, None):
        hub.publish(raft.LeaderChanged("first", 0))
        assert stuck.wait(5)
        for term in range(1, BACKLOG + 500):
            hub.publish(raft.LeaderChanged("s1", term))
        release.set()
        last = raft.LeaderChanged("s1", BACKLOG + 499)
        wait_until(lambda: seen and seen[-1] == last)
    assert len(seen) == BACKLOG + 1
    assert [one.term for one in seen] == sorted(one.term for one in seen)


def test_an_exception_in_a_callback_is_logged_and_the_next_event_is_told(caplog: pytest.LogCaptureFixture) -> None:
    hub = Hub()
    seen: list[Any] = []

    def fail(event: Any) -> None:
        seen.append(event)
        raise ValueError("planted")

    with caplog.at_level("ERROR", "raft_actors"), hub.subscribe(fail, None):
        hub.publish(raft.LeaderChanged("s1", 1))
        hub.publish(raft.LeaderChanged("s1", 2))
        wait_until(lambda: len(seen) == 2)
        wait_until(lambda: caplog.text.count("planted") >= 2)
    assert "LeaderChanged(leader='s1', term=1)" in caplog.text


def test_a_callback_may_call_the_library() -> None:
    with Cluster(Recorder) as cluster:
        replies: list[Any] = []

        def write(event: Any) -> None:
            if not replies:  # one will do, and none is under way when the cluster ends
                replies.append(cluster.write(event.role))

        leader = leader_of(cluster)
        other = next(name for name in cluster.names if name != leader)
        with raft.subscribe(other, write, events=[raft.RoleChanged]):
            cluster.crash(leader)
            cluster.leader()
            third = next(name for name in cluster.names if name not in (leader, other))
            cluster.start(leader)
            if cluster.leader() != other:
                cluster.crash(third)
                cluster.leader()
            wait_until(lambda: replies)


@pytest.mark.parametrize(
    ("callback", "events", "text"),
    [
        ("not callable", None, "callback must be callable, not 'not callable'"),
        (print, [int], "event classes of raft_actors, not <class 'int'>"),
        (print, ["LeaderChanged"], "not 'LeaderChanged'"),
    ],
)
def test_wrong_arguments_are_refused(config: raft.Config, callback: Any, events: Any, text: str) -> None:
    raft.start_peer(Recorder, name="s1", config=config)
    with pytest.raises(TypeError, match=text):
        raft.subscribe("s1", callback, events=events)
    raft.stop("s1")


def test_an_unknown_peer_has_no_subscribers() -> None:
    with pytest.raises(raft.UnknownPeer, match="'nobody'"):
        raft.subscribe("nobody", print)
