"""Real leaders hand over: to whom, how fast, and what everybody is told."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest

import raft_actors as raft
from raft_actors import forwarding, names
from raft_actors.testing import Cluster
from raft_actors.transport.local import LOCAL
from tests.threads.tools import Recorder, wait_until

BOUND = 0.05
"""Seconds: the longest wait for a write, in the middle of many transfers."""
ROUNDS = 25


def leader_of(cluster: Cluster) -> str:
    leader = cluster.leader()
    assert leader is not None
    return leader


def followers_of(cluster: Cluster) -> list[str]:
    leader = leader_of(cluster)
    return [name for name in cluster.names if name != leader]


def outcome_of(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except raft.RaftError as error:
        return error


@contextmanager
def in_background(call: Callable[[], Any]) -> Iterator[list[Any]]:
    """Run ``call`` in a thread; what came of it is in the list when the block is left."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(outcome_of(call)))
    thread.start()
    yield results
    thread.join(20)
    assert len(results) == 1


# -- done --------------------------------------------------------------------------------------------------------------


def test_leadership_goes_to_the_named_peer_whoever_is_asked() -> None:
    with Cluster(Recorder) as cluster:
        for count in range(1, 7):
            old = leader_of(cluster)
            target = followers_of(cluster)[count % 2]
            asked = cluster.names[count % 3]
            term = cluster.status(old).term
            assert raft.transfer_leadership(asked, target) == target
            assert cluster.status(target).role == "leader"
            assert cluster.status(target).term == term + 1
            assert cluster.status(old).role == "follower"
            assert raft.write(target, count) == count
        assert cluster.converged()


def test_leadership_goes_to_somebody_else_if_nobody_is_named() -> None:
    with Cluster(Recorder) as cluster:
        old = leader_of(cluster)
        new = raft.transfer_leadership(old)
        assert new in cluster.names
        assert new != old
        assert raft.write(new, "x") == 1


def test_the_most_caught_up_voter_is_chosen() -> None:
    with Cluster(Recorder) as cluster:
        leader, (ahead, behind) = leader_of(cluster), followers_of(cluster)
        cluster.cut(leader, behind)
        cluster.write("x")
        cluster.heal()
        assert raft.transfer_leadership(leader) == ahead


def test_nothing_that_was_acknowledged_is_lost_while_leadership_goes_round() -> None:
    with Cluster(Recorder) as cluster, raft.Client(cluster.names, timeout=10) as client:
        over = threading.Event()
        acknowledged: list[list[Any]] = [[] for _ in range(8)]

        def work(number: int) -> None:
            count = 0
            while not over.is_set():
                result = outcome_of(lambda count=count: client.write((number, count)))
                if not isinstance(result, raft.RaftError):
                    acknowledged[number].append((number, count))
                assert not isinstance(result, raft.OutcomeUnknown)
                count += 1

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for count in range(12):
            raft.transfer_leadership(cluster.names[count % 3], followers_of(cluster)[0])
        over.set()
        for thread in threads:
            thread.join(20)
        applied = cluster.read("all")
        for mine in acknowledged:
            assert mine == [one for one in applied if one in set(mine)], "in order, each once"
        assert cluster.converged()


def test_a_transfer_under_steady_load_costs_a_gap_of_less_than_50_ms(
    record_property: Callable[[str, object], None],
) -> None:
    with Cluster(Recorder) as cluster, raft.Client(cluster.names, timeout=10) as client:
        over, times = threading.Event(), []

        def work() -> None:
            while not over.is_set():
                client.write("x")
                times.append(time.perf_counter())

        writer = threading.Thread(target=work)
        writer.start()
        gaps = []
        for _ in range(ROUNDS):
            before = len(times)
            wait_until(lambda before=before: len(times) >= before + 5)
            begin = time.perf_counter()
            raft.transfer_leadership("s1")
            before = len(times)
            wait_until(lambda before=before: len(times) >= before + 5)
            during = [one for one in times if one > begin - 1]
            gaps.append(max(later - earlier for earlier, later in pairwise(during) if later > begin))
        over.set()
        writer.join(20)
        record_property("gap in ms", f"median {1e3 * statistics.median(gaps):.1f}, worst {1e3 * max(gaps):.1f}")
        assert statistics.median(gaps) < BOUND, gaps


# -- refused, or failed ------------------------------------------------------------------------------------------------


def test_a_dead_peer_is_refused_soon_and_the_leader_leads_on() -> None:
    with Cluster(Recorder) as cluster:
        leader, (dead, _) = leader_of(cluster), followers_of(cluster)
        cluster.crash(dead)
        begin = time.monotonic()
        with pytest.raises(
            raft.UnknownPeer, match=f"'{dead}' does not answer the leader; '{leader}' leads on"
        ) as caught:
            raft.transfer_leadership(leader, dead)
        assert caught.value.name == dead
        assert time.monotonic() - begin < 1.0
        assert raft.write(leader, "x") == 1


def has_all(leader: str, follower: str) -> bool:
    status = raft.status(leader)
    return status.progress[follower].match_index == status.last_index


def test_a_peer_that_does_not_stand_is_given_up_after_an_election_timeout() -> None:
    with Cluster(Recorder) as cluster:
        leader, (hung, _) = leader_of(cluster), followers_of(cluster)
        wait_until(lambda: has_all(leader, hung), what="the leader knows that it has everything: it tells it to stand")
        cluster.pause(hung)
        begin = time.monotonic()
        with pytest.raises(raft.OutcomeUnknown, match=f"'{hung}' was told to stand .*; '{leader}' leads on"):
            raft.transfer_leadership(leader, hung)
        assert 0.5 < time.monotonic() - begin < 2.0
        assert raft.write(leader, "x") == 1
        cluster.resume(hung)
        assert cluster.write("y") == 2


def test_writes_are_turned_away_at_once_while_leadership_is_handed_over() -> None:
    with Cluster(Recorder) as cluster:
        leader, (hung, other) = leader_of(cluster), followers_of(cluster)
        cluster.pause(hung)
        with in_background(lambda: raft.transfer_leadership(other, hung)) as results:
            wait_until(lambda: names.whereis(leader).state.handing is not None)  # type: ignore[union-attr]
            begin = time.monotonic()
            with pytest.raises(raft.ElectionInProgress):
                raft.write(leader, "x")
            with pytest.raises(
                raft.ElectionInProgress, match=f"'{leader}' is handing leadership over to '{hung}' already"
            ):
                raft.transfer_leadership(leader, other)
            assert time.monotonic() - begin < 0.4
        assert isinstance(results[0], raft.OutcomeUnknown)
        cluster.resume(hung)
        assert cluster.write("y") == 1


def test_without_a_leader_the_caller_hears_so_at_its_timeout() -> None:
    with Cluster(Recorder) as cluster:
        leader, (first, second) = leader_of(cluster), followers_of(cluster)
        cluster.crash(second)  # before its leader: the two that are left would be a quorum, and quick to elect the next
        cluster.crash(leader)
        begin = time.monotonic()
        with pytest.raises(raft.ElectionInProgress, match=f"peer '{first}' found no leader in time"):
            raft.transfer_leadership(first, second, timeout=0.3)
        assert 0.25 < time.monotonic() - begin < 1.0


def test_a_caller_is_answered_when_the_leader_crashes_in_the_middle() -> None:
    with Cluster(Recorder) as cluster:
        leader, (hung, other) = leader_of(cluster), followers_of(cluster)
        cluster.pause(hung)
        with in_background(lambda: raft.transfer_leadership(other, hung, timeout=10)) as results:
            wait_until(lambda: names.whereis(leader).state.handing is not None)  # type: ignore[union-attr]
            cluster.crash(leader)
        assert type(results[0]) is raft.OutcomeUnknown
        assert f"peer '{leader}' stopped before the outcome was known" in str(results[0])
        cluster.resume(hung)
        assert cluster.write("x") == 1


def test_a_caller_is_answered_when_the_leader_is_stopped_in_the_middle() -> None:
    with Cluster(Recorder) as cluster:
        leader, (hung, other) = leader_of(cluster), followers_of(cluster)
        cluster.pause(hung)
        with in_background(lambda: raft.transfer_leadership(other, hung, timeout=10)) as results:
            wait_until(lambda: names.whereis(leader).state.handing is not None)  # type: ignore[union-attr]
            cluster.stop(leader)
        assert isinstance(results[0], raft.OutcomeUnknown)
        cluster.resume(hung)
        assert cluster.write("x") == 1


def test_of_many_callers_at_once_each_gets_an_answer() -> None:
    with Cluster(Recorder) as cluster:
        results: list[Any] = []

        def call(number: int) -> None:
            target = cluster.names[number % 3]
            results.append(outcome_of(lambda: raft.transfer_leadership(cluster.names[number % 2], target)))

        threads = [threading.Thread(target=call, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert len(results) == 12
        errors = [one for one in results if isinstance(one, Exception)]
        assert all(isinstance(one, raft.ElectionInProgress | raft.Refused) for one in errors), errors
        assert cluster.write("x") == 1


# -- finding the leader ------------------------------------------------------------------------------------------------


def test_a_request_is_taken_to_the_next_leader_if_the_one_asked_does_not_lead_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Cluster(Recorder) as cluster:
        leader, asked = leader_of(cluster), []
        errors = [
            raft.NotLeader("s9"),
            raft.Restarting(leader),
            raft.UnknownPeer(leader),
            raft.PeerFailed("it stopped itself"),
        ]

        def give_order(name: str, order: Any, *, deadline: float) -> str:
            asked.append(name)
            if errors:
                raise errors.pop(0)
            return "done"

        monkeypatch.setattr(forwarding, "give_order", give_order)
        deadline = time.monotonic() + 5
        assert forwarding.at_the_leader(cluster.names[0], lambda left, future: None, deadline=deadline) == "done"
        assert asked == [leader] * 5


@pytest.mark.parametrize(
    "error",
    [
        raft.OutcomeUnknown(),
        raft.Timeout(),
        raft.ElectionInProgress(),
        raft.UnknownPeer("s9"),
        raft.InvalidConfiguration(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_answer_that_may_have_had_an_effect_or_is_about_the_request_is_final(
    monkeypatch: pytest.MonkeyPatch, error: raft.RaftError
) -> None:
    with Cluster(Recorder) as cluster:
        calls = []

        def give_order(name: str, order: Any, *, deadline: float) -> str:
            calls.append(name)
            raise error

        monkeypatch.setattr(forwarding, "give_order", give_order)
        with pytest.raises(type(error)):
            forwarding.at_the_leader(cluster.names[0], lambda left, future: None, deadline=time.monotonic() + 5)
        assert len(calls) == 1


def test_a_peer_that_goes_on_naming_a_wrong_leader_is_believed_until_the_deadline_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Cluster(Recorder) as cluster:

        def give_order(name: str, order: Any, *, deadline: float) -> str:
            raise raft.NotLeader("")

        monkeypatch.setattr(forwarding, "give_order", give_order)
        with pytest.raises(raft.ElectionInProgress) as caught:
            forwarding.at_the_leader(cluster.names[0], lambda left, future: None, deadline=time.monotonic() + 0.1)
        assert isinstance(caught.value.__cause__, raft.NotLeader)


# -- priorities --------------------------------------------------------------------------------------------------------


@pytest.fixture
def ranked(config: raft.Config) -> Iterator[Callable[[str], None]]:
    """Starts peers; the higher the number in a name, the higher its priority."""

    def start(name: str) -> None:
        quick = {"min_election_timeout": 0.15, "max_election_timeout": 0.2, "heartbeat_interval": 0.05}
        raft.start_peer(
            Recorder, name=name, config=raft.Config(data_dir=config.data_dir, priority=int(name[1:]), **quick)
        )

    yield start
    LOCAL.set_fault(names.names(), None)
    for name in names.names():
        raft.stop(name)


def test_leadership_drifts_to_the_highest_priority_and_back_to_it_after_a_crash(ranked: Callable[[str], None]) -> None:
    for name in ("s1", "s2", "s3"):
        ranked(name)
    raft.set_configuration("s1", ["s1", "s2", "s3"])
    wait_until(lambda: raft.leader("s1") == "s3")
    raft.stop("s3")
    wait_until(lambda: raft.leader("s1") == "s2", what="the next best takes over from whoever was elected")
    assert raft.write("s2", "x") == 1
    ranked("s3")
    wait_until(lambda: raft.leader("s1") == "s3", timeout=10)
    assert raft.write("s3", "y") == 2


def test_a_transfer_by_hand_holds_until_leadership_drifts_back(ranked: Callable[[str], None]) -> None:
    for name in ("s1", "s2", "s3"):
        ranked(name)
    raft.set_configuration("s1", ["s1", "s2", "s3"])
    wait_until(lambda: raft.leader("s1") == "s3")
    begin = time.monotonic()
    assert raft.transfer_leadership("s2", "s1") == "s1"
    wait_until(lambda: raft.leader("s1") == "s3")
    assert time.monotonic() - begin > 0.5
