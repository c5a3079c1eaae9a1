"""Who stops gracefully knows what became of its callers' writes, and takes none that it cannot finish."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

import raft_actors as raft
from raft_actors.testing import Cluster
from tests.threads.test_answers import IN_FLIGHT, TIMEOUT, Answers, check_truth, leader_of, writes_to
from tests.threads.tools import Recorder, outcome


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.mark.parametrize("slow", [(0,), (0, 1), (0, 2), (0, 1, 2)], ids=str)
def test_a_leader_that_stops_gracefully_learns_the_outcome_of_its_writes_however_slow_the_disks(
    answers: Answers, slow: tuple[int, ...]
) -> None:
    with Cluster(Recorder) as cluster:
        leader = leader_of(cluster)
        disks = [cluster.disk(name) for name in sorted(cluster.names, key=lambda name: name != leader)]
        for place in slow:
            disks[place].delay(0.1)
        answers(writes_to(leader))
        cluster.stop(leader)
        results = answers.all_given(TIMEOUT)
        for disk in disks:
            disk.heal()
        assert not [result for result in results if isinstance(result, Exception)], Counter(map(repr, results))
        check_truth(cluster, results)


def test_a_peer_alone_that_stops_gracefully_answers_its_writes(answers: Answers) -> None:
    with Cluster(Recorder, size=1) as cluster:
        cluster.disk("s1").delay(0.1)
        answers(writes_to("s1"))
        cluster.stop("s1")
        assert answers.all_given(TIMEOUT) == list(range(1, IN_FLIGHT + 1))


def test_what_comes_while_a_peer_alone_stops_is_done_or_turned_away_and_never_unknown() -> None:
    with Cluster(Recorder, size=1) as cluster:
        for _ in range(4):
            cluster.disk("s1").delay(0.05)
            futures = [raft.write("s1", 0, block=False)]
            stopper = threading.Thread(target=cluster.stop, args=("s1",))
            stopper.start()
            while stopper.is_alive():
                futures.append(raft.write("s1", 0, block=False))
                stopper.join(0.001)
            results = [outcome(future, TIMEOUT) for future in futures]
            assert not [one for one in results if isinstance(one, raft.OutcomeUnknown)], Counter(map(repr, results))
            cluster.start("s1")
            assert cluster.leader() == "s1"
