"""Every request is answered exactly once, at its timeout at the latest, whatever becomes of the peer (BUG-77)."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pykka
import pytest

import raft_actors as raft
from raft_actors.futures import RequestFuture
from raft_actors.intake import Mailbox
from raft_actors.machines import Echo
from raft_actors.testing import Cluster
from tests.threads.tools import Gate, Recorder, gated, outcome, wait_until

IN_FLIGHT = 1000
TIMEOUT = 2.0
LATE = 0.3
"""Seconds that an answer may come after its timeout."""


class Answers:
    """Requests in flight, with the number of answers to each and the time of the last."""

    def __init__(self) -> None:
        self.futures: list[RequestFuture] = []
        self.count: Counter[int] = Counter()
        self.last = 0.0

    def __call__(self, make: Callable[[int], RequestFuture], number: int = IN_FLIGHT) -> Answers:
        self.begin = time.monotonic()
        for place in range(number):
            future = make(place)
            future.add_done_callback(lambda _, place=place: self._note(place))
            self.futures.append(future)
        return self

    def _note(self, place: int) -> None:
        self.count[place] += 1
        self.last = time.monotonic()

    def all_given(self, within: float) -> list[Any]:
        """Wait for all answers; the values and errors, in order."""
        wait_until(lambda: len(self.count) == len(self.futures), within + 5, "futures stay open")
        assert self.last - self.begin <= within + LATE, f"the last answer came after {self.last - self.begin:.2f} s"
        results = [outcome(future, 0) for future in self.futures]
        assert set(self.count.values()) == {1}
        return results


@pytest.fixture
def answers() -> Answers:
    return Answers()


def writes_to(leader: str) -> Callable[[int], RequestFuture]:
    return lambda number: raft.write(leader, number, timeout=TIMEOUT, block=False)


def leader_of(cluster: Cluster) -> str:
    leader = cluster.leader()
    assert leader is not None
    return leader


def check_truth(cluster: Cluster, results: list[Any]) -> None:
    """An acknowledged write is there, once; one that certainly was not applied is not; nothing is there twice."""
    cluster.converged()
    applied = Counter(cluster.read("all"))
    assert set(applied.values()) <= {1}
    for number, result in enumerate(results):
        if not isinstance(result, Exception):
            assert applied[number] == 1, f"{number} was acknowledged and is lost"
        elif isinstance(result, raft.NotApplied):
            assert applied[number] == 0, f"{number} was applied and said not to be: {result!r}"
        else:
            assert isinstance(result, raft.OutcomeUnknown), repr(result)


def test_writes_in_flight_when_the_leader_stops_gracefully(answers: Answers) -> None:
    with Cluster(Recorder) as cluster:
        leader = leader_of(cluster)
        answers(writes_to(leader))
        cluster.stop(leader)
        results = answers.all_given(TIMEOUT)
        assert sum(not isinstance(result, Exception) for result in results) > 0, Counter(map(repr, results))
        check_truth(cluster, results)


def test_writes_in_flight_when_the_leader_crashes(answers: Answers) -> None:
    with Cluster(Recorder) as cluster:
        leader = leader_of(cluster)
        answers(writes_to(leader))
        cluster.crash(leader)
        results = answers.all_given(TIMEOUT)
        assert {type(result) for result in results} <= {int, raft.OutcomeUnknown}
        cluster.start(leader)
        check_truth(cluster, results)


def test_writes_in_flight_when_all_peers_crash(answers: Answers) -> None:
    with Cluster(Recorder) as cluster:
        answers(writes_to(leader_of(cluster)))
        for name in cluster.names:
            cluster.crash(name)
        results = answers.all_given(TIMEOUT)
        for name in cluster.names:
            cluster.start(name)
        check_truth(cluster, results)


def test_writes_in_flight_when_the_leader_is_deposed(answers: Answers) -> None:
    with Cluster(Recorder) as cluster:
        leader = leader_of(cluster)
        cluster.partition({leader})
        answers(writes_to(leader))
        cluster.eventually(lambda: cluster.leader() != leader)
        cluster.write("of the new leader")
        cluster.heal()
        results = answers.all_given(TIMEOUT)
        assert all(isinstance(result, Exception) for result in results)
        check_truth(cluster, results)


def test_writes_to_a_leader_without_a_quorum(answers: Answers) -> None:
    with Cluster(Recorder) as cluster:
        leader = leader_of(cluster)
        for name in cluster.names:
            if name != leader:
                cluster.crash(name)
        answers(writes_to(leader))
        results = answers.all_given(TIMEOUT)
        assert all(isinstance(result, Exception) for result in results)


def test_writes_to_a_frozen_peer_are_answered_at_their_timeout(answers: Answers) -> None:
    with Cluster(Recorder) as cluster:
        leader = leader_of(cluster)
        cluster.pause(leader)
        answers(writes_to(leader))
        results = answers.all_given(TIMEOUT)
        assert {type(result) for result in results} == {raft.Timeout}
        cluster.resume(leader)
        check_truth(cluster, results)


def test_writes_in_flight_when_the_leaders_disk_hangs(answers: Answers) -> None:
    with Cluster(Recorder) as cluster:
        leader = leader_of(cluster)
        cluster.disk(leader).hang()
        answers(writes_to(leader))
        results = answers.all_given(TIMEOUT)
        cluster.disk(leader).heal()
        check_truth(cluster, results)


def test_writes_in_flight_when_a_peer_with_a_hung_disk_is_stopped(answers: Answers) -> None:
    with Cluster(Recorder) as cluster:
        leader = leader_of(cluster)
        cluster.disk(leader).hang()
        answers(writes_to(leader))
        cluster.stop(leader, timeout=1.0)
        results = answers.all_given(TIMEOUT)
        check_truth(cluster, results)


def test_writes_in_flight_when_a_peer_with_a_hung_disk_crashes(answers: Answers) -> None:
    with Cluster(Recorder, 1) as cluster:
        cluster.disk("s1").hang()
        answers(writes_to("s1"))
        cluster.crash("s1")
        results = answers.all_given(TIMEOUT)
        assert all(isinstance(result, raft.OutcomeUnknown) for result in results)
        cluster.disk("s1").heal()
        cluster.start("s1")
        check_truth(cluster, results)


def test_writes_in_flight_when_user_code_hangs_and_the_peer_is_stopped(answers: Answers) -> None:
    gate = Gate()
    with Cluster(gated(gate)) as cluster:
        leader = leader_of(cluster)
        gate.at = {leader}
        raft.write(leader, "hang", block=False)
        assert gate.entered.wait(5)
        answers(writes_to(leader))
        cluster.stop(leader, timeout=0.5)
        results = answers.all_given(TIMEOUT)
        assert all(isinstance(result, raft.OutcomeUnknown | raft.NotApplied) for result in results)
        gate.opened.set()
        check_truth(cluster, results)


def test_reads_in_flight_when_user_code_hangs_end_at_their_timeout_or_with_the_peer(answers: Answers) -> None:
    gate = Gate()
    with Cluster(gated(gate)) as cluster:
        leader = leader_of(cluster)
        gate.at = {leader}
        raft.read(leader, "hang", consistency="stale", block=False)
        assert gate.entered.wait(5)
        kinds = ("linearizable", "lease", "stale")
        answers(lambda n: raft.read(leader, "len", consistency=kinds[n % 3], timeout=None, block=False), 300)
        cluster.stop(leader, timeout=0.5)
        results = answers.all_given(3.0)
        assert all(isinstance(result, raft.OutcomeUnknown | raft.NotApplied) for result in results)
        gate.opened.set()


def test_reads_behind_code_that_hangs_end_at_their_timeout(answers: Answers) -> None:
    gate = Gate()
    with Cluster(gated(gate), 1) as cluster:
        gate.at = {"s1"}
        raft.read("s1", "hang", block=False)
        assert gate.entered.wait(5)
        kinds = ("linearizable", "lease", "stale")
        answers(lambda n: raft.read("s1", "len", consistency=kinds[n % 3], timeout=0.5, block=False), 300)
        assert {type(result) for result in answers.all_given(0.5)} == {raft.Timeout}
        gate.opened.set()
        assert cluster.read("len") == 0


def test_a_stale_read_for_an_index_that_never_comes_ends_at_its_timeout_or_with_the_peer() -> None:
    with Cluster(Recorder, 1) as cluster:
        index = cluster.status("s1").last_index + 100
        with pytest.raises(raft.Timeout):
            raft.read("s1", "len", consistency="stale", min_index=index, timeout=0.2)
        waiting = raft.read("s1", "len", consistency="stale", min_index=index, timeout=None, block=False)
        cluster.crash("s1")
        assert isinstance(outcome(waiting), raft.OutcomeUnknown)


def test_a_stale_read_waits_for_its_index() -> None:
    with Cluster(Recorder) as cluster:
        follower = next(name for name in cluster.names if name != leader_of(cluster))
        cluster.pause(follower)
        written = raft.write(leader_of(cluster), "x", block=False)
        written.get(timeout=5)
        waiting = raft.read(follower, "len", consistency="stale", min_index=written.index, block=False)
        cluster.resume(follower)
        assert waiting.get(timeout=5) == 1
        assert waiting.index is not None
        assert waiting.index >= written.index


def test_a_peer_that_dies_of_an_exception_answers_everybody(answers: Answers) -> None:
    with Cluster(Recorder) as cluster:
        leader = leader_of(cluster)
        poison = raft.write(leader, ("on", leader, MemoryError("planted")), timeout=TIMEOUT, block=False)
        answers(writes_to(leader))
        results = answers.all_given(TIMEOUT)
        assert isinstance(outcome(poison), raft.OutcomeUnknown)
        assert all(isinstance(one, int | raft.OutcomeUnknown | raft.NotApplied | raft.PeerFailed) for one in results)


def test_a_caller_without_a_timeout_is_answered_when_the_peer_goes(answers: Answers) -> None:
    with Cluster(Recorder) as cluster:
        leader = leader_of(cluster)
        cluster.partition({leader})
        answers(lambda number: raft.write(leader, number, timeout=None, block=False), 100)
        cluster.crash(leader)
        assert {type(result) for result in answers.all_given(2.0)} == {raft.OutcomeUnknown}


def test_blocking_callers_are_answered_too() -> None:
    results: list[Any] = []
    with Cluster(Recorder) as cluster:
        leader = leader_of(cluster)
        cluster.pause(leader)

        def call(number: int) -> None:
            try:
                results.append(raft.write(leader, number, timeout=0.5))
            except raft.RaftError as error:
                results.append(error)

        threads = [threading.Thread(target=call, args=(number,)) for number in range(50)]
        begin = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
        assert time.monotonic() - begin < 0.5 + LATE + 0.5
        assert [type(result) for result in results] == [raft.Timeout] * 50


def test_sixty_thousand_asks_racing_a_stop_are_all_answered(config: raft.Config) -> None:
    """Stock Pykka loses asks that race a stop; ours answers each, from many threads, over and over."""
    senders, each, rounds = 6, 1000, 10
    kinds: Counter[str] = Counter()
    for _ in range(rounds):
        ref = raft.start_peer(Echo, name="s1", config=config)
        raft.set_configuration("s1", ["s1"])
        raft.leader("s1")
        go = threading.Barrier(senders + 1)
        futures: list[list[pykka.Future]] = [[] for _ in range(senders)]
        refused = Counter()

        def ask(lane: int, go=go, ref=ref, futures=futures, refused=refused) -> None:
            go.wait()
            for number in range(each):
                try:
                    futures[lane].append(ref.ask(raft.Write(number), block=False))
                except pykka.ActorDeadError:
                    refused[lane] += 1

        threads = [threading.Thread(target=ask, args=(lane,)) for lane in range(senders)]
        for thread in threads:
            thread.start()
        go.wait()
        raft.stop("s1")
        for thread in threads:
            thread.join()
        results = [outcome(future, 5.0) for lane in futures for future in lane]
        assert len(results) + sum(refused.values()) == senders * each
        unanswered = [one for one in results if isinstance(one, raft.Timeout)]
        assert not unanswered, f"{len(unanswered)} asks got no answer"
        kinds.update(type(result).__name__ for result in results)
        kinds["ActorDeadError"] += sum(refused.values())
    assert sum(kinds.values()) == senders * each * rounds
    assert set(kinds) <= {"int", "OutcomeUnknown", "UnknownPeer", "Overloaded", "ActorDeadError", "ElectionInProgress"}


@pytest.mark.parametrize("forgetful", [False, True], ids=["as it is", "with a planted bug"])
def test_whoever_waits_in_the_inbox_is_answered(monkeypatch: pytest.MonkeyPatch, forgetful: bool) -> None:
    if forgetful:
        monkeypatch.setattr(Mailbox, "turn_away", lambda self, error: self.close())
        monkeypatch.setattr(Mailbox, "unanswered", lambda self: [])
    with Cluster(Recorder, 1) as cluster:
        cluster.pause("s1")
        waiting = [raft.write("s1", number, timeout=None, block=False) for number in range(100)]
        cluster.crash("s1")
        assert [future.done() for future in waiting] == [not forgetful] * 100


def test_the_number_of_unfinished_requests_is_bounded(tmp_path: Path) -> None:
    config = raft.Config(max_pending_writes=100)
    with Cluster(Recorder, config=config) as cluster:
        leader = leader_of(cluster)
        cluster.pause(leader)
        kinds = [lambda n: raft.write(leader, n, timeout=0.5, block=False)]
        kinds += [
            lambda n, kind=kind: raft.read(leader, "len", consistency=kind, timeout=0.5, block=False)
            for kind in ("linearizable", "lease", "stale")
        ]
        futures = [kinds[number % 4](number) for number in range(400)]
        results = [outcome(future) for future in futures]
        assert sum(isinstance(result, raft.Overloaded) for result in results) == 300
        cluster.resume(leader)
        cluster.eventually(lambda: cluster.write("room again") > 0)


def test_requests_that_were_answered_make_room_for_others() -> None:
    with Cluster(Recorder, 1, config=raft.Config(max_pending_writes=10)) as cluster:
        for number in range(50):
            cluster.write(number)
            cluster.read("len")
            raft.read("s1", "len", consistency="stale")
        assert cluster.read("len") == 50
