"""Disks that are full, broken, read-only, slow or hanging: the peer steps aside, nothing acknowledged is lost."""

from __future__ import annotations

import errno
import threading
import time
from pathlib import Path

import pytest

import raft_actors as raft
from raft_actors.testing import Cluster
from tests.threads.tools import Recorder, outcome, wait_until

ENGINES = ["lmdb", "rocksdb"]
STAY_DOWN = raft.Config(restart=None)
TWO_TIMEOUTS = 2 * raft.Config().max_election_timeout
NUMBERS = [errno.ENOSPC, errno.EIO, errno.EROFS]


def leader_of(cluster: Cluster) -> str:
    leader = cluster.leader()
    assert leader is not None
    return leader


def follower_of(cluster: Cluster) -> str:
    return next(name for name in cluster.names if name != leader_of(cluster))


class Writing:
    """A caller that writes 0, 1, 2, ... one after the other, and remembers what was acknowledged."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.acknowledged: list[int] = []
        self.errors: list[BaseException] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Writing:
        self._thread.start()
        wait_until(lambda: len(self.acknowledged) > 20)
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def more(self, count: int = 20, timeout: float = 5.0) -> None:
        """Wait until ``count`` more are acknowledged."""
        enough = len(self.acknowledged) + count
        wait_until(lambda: len(self.acknowledged) >= enough, timeout, "no more writes are acknowledged")

    def _run(self) -> None:
        number = 0
        while not self._end.is_set():
            try:
                self._cluster.write(number, timeout=2.0)
                self.acknowledged.append(number)
            except raft.RaftError as error:
                self.errors.append(error)
            number += 1

    def nothing_is_lost(self) -> None:
        acknowledged = list(self.acknowledged)
        applied = self._cluster.read("all")
        assert [number for number in applied if number in set(acknowledged)] == acknowledged


@pytest.mark.parametrize("storage", ENGINES)
@pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
def test_a_leader_whose_disk_fails_stops_with_a_typed_error_and_the_others_go_on(storage: str, number: int) -> None:
    with Cluster(Recorder, storage=storage, config=STAY_DOWN) as cluster, Writing(cluster) as writing:
        victim = leader_of(cluster)
        cluster.disk(victim).fail(number)
        cluster.eventually(lambda: cluster.status(victim).failure is not None)
        failure = cluster.status(victim).failure
        assert isinstance(failure, raft.StorageFailed)
        assert f"peer '{victim}'" in str(failure)
        assert ("make room on its disk" if number == errno.ENOSPC else "check the disk") in str(failure)
        assert failure.__cause__.errno == number
        with pytest.raises(raft.StorageFailed):
            raft.write(victim, "x")
        writing.more()
        assert all(isinstance(error, raft.OutcomeUnknown | raft.NotApplied) for error in writing.errors)
        writing.nothing_is_lost()
        cluster.start(victim)
        writing.more()
        cluster.eventually(lambda: cluster.status(victim).commit_index > 0)


@pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
def test_a_follower_whose_disk_fails_is_missed_by_nobody(number: int) -> None:
    with Cluster(Recorder, config=STAY_DOWN) as cluster:
        with Writing(cluster) as writing:
            victim, leader = follower_of(cluster), leader_of(cluster)
            cluster.disk(victim).fail(number)
            cluster.eventually(lambda: isinstance(cluster.status(victim).failure, raft.StorageFailed))
            writing.more()
            assert writing.errors == []
            assert cluster.leader() == leader
        cluster.start(victim)
        cluster.converged()
        writing.nothing_is_lost()


@pytest.mark.parametrize("storage", ENGINES)
def test_a_passing_error_is_cured_by_the_supervisor(storage: str) -> None:
    with Cluster(Recorder, storage=storage) as cluster:
        with Writing(cluster) as writing:
            for victim in (leader_of(cluster), follower_of(cluster)):
                incarnation, events = cluster.status(victim).incarnation, []
                with raft.subscribe(victim, events.append, events=[raft.PeerStopped]):
                    cluster.disk(victim).fail(errno.EIO)
                    wait_until(lambda events=events: events)
                    assert events[0].name == victim
                    assert "Input/output error" in events[0].reason
                    cluster.eventually(lambda victim=victim: cluster.status(victim).failure is None)
                assert cluster.status(victim).incarnation == incarnation
                writing.more()
        cluster.converged()
        writing.nothing_is_lost()


def test_a_disk_that_fails_a_few_times_more_while_it_is_restarted_is_cured_as_well() -> None:
    with Cluster(Recorder) as cluster:
        victim = follower_of(cluster)
        cluster.disk(victim).fail(errno.EIO, times=3)
        cluster.write("x")
        cluster.eventually(lambda: cluster.status(victim).failure is not None)
        cluster.eventually(lambda: cluster.status(victim).failure is None, 10)
        cluster.converged()


def test_all_disks_failing_loses_nothing_acknowledged(tmp_path: Path) -> None:
    with Cluster(Recorder, data_dir=tmp_path, config=STAY_DOWN) as cluster:
        with Writing(cluster) as writing:
            for name in cluster.names:
                cluster.disk(name).fail(errno.ENOSPC)
            wait_until(lambda: writing.errors)
        for name in cluster.names:
            cluster.disk(name).heal()
            if cluster.status(name).failure is not None:
                cluster.start(name)
        cluster.leader()
        cluster.write("again")
        writing.nothing_is_lost()
        cluster.converged()


def test_a_disk_of_400_ms_per_sync_costs_no_election() -> None:
    with Cluster(Recorder) as cluster:
        leader, term = leader_of(cluster), cluster.status(leader_of(cluster)).term
        for name in cluster.names:
            cluster.disk(name).delay(0.4)
        futures = [raft.write(leader, number, timeout=30, block=False) for number in range(200)]
        for number in range(200, 206):
            assert raft.write(leader, number, timeout=30) == number + 1
        assert [future.get() for future in futures] == list(range(1, 201))
        assert cluster.leader() == leader
        assert cluster.status(leader).term == term


@pytest.mark.parametrize("whose", ["the leader", "a follower"])
def test_one_slow_disk_costs_no_election_and_loses_nothing(whose: str) -> None:
    with Cluster(Recorder) as cluster:
        leader, term = leader_of(cluster), cluster.status(leader_of(cluster)).term
        cluster.disk(leader if whose == "the leader" else follower_of(cluster)).delay(0.4)
        begin = time.monotonic()
        for number in range(10):
            raft.write(leader, number)
        if whose == "a follower":
            assert time.monotonic() - begin < 5 * 0.4, "the quorum of the others should have been enough"
        assert cluster.status(leader).term == term
        assert cluster.converged()


def test_a_hung_disk_costs_the_leader_its_leadership_within_two_election_timeouts_and_status_answers() -> None:
    with Cluster(Recorder) as cluster:
        leader = leader_of(cluster)
        cluster.disk(leader).hang()
        begin = time.monotonic()
        waiting = raft.write(leader, "x", timeout=10, block=False)
        while cluster.status(leader).role == "leader":
            look = time.monotonic()
            assert look - begin < TWO_TIMEOUTS + 0.2
            assert raft.status(leader).name == leader
            assert time.monotonic() - look < 0.2
        cluster.eventually(lambda: cluster.leader() not in (None, leader), TWO_TIMEOUTS)
        assert cluster.write("y") >= 1
        cluster.disk(leader).heal()
        answer = outcome(waiting)
        assert isinstance(answer, int | raft.OutcomeUnknown), repr(answer)
        cluster.converged()
        assert cluster.read("all") in (["x", "y"], ["y"])


def test_a_peer_with_a_hung_disk_does_not_become_leader_again_and_again() -> None:
    with Cluster(Recorder) as cluster:
        leader = leader_of(cluster)
        cluster.disk(leader).hang()
        raft.write(leader, "x", block=False)
        cluster.eventually(lambda: cluster.leader() not in (None, leader))
        after = leader_of(cluster)
        term = cluster.status(after).term
        begin = time.monotonic()
        while time.monotonic() - begin < 1.5:
            cluster.write("y")
        assert cluster.status(after).term == term
        cluster.disk(leader).heal()
        cluster.converged()


def test_a_follower_with_a_hung_disk_is_missed_by_nobody() -> None:
    with Cluster(Recorder) as cluster, Writing(cluster) as writing:
        leader, victim = leader_of(cluster), follower_of(cluster)
        cluster.disk(victim).hang()
        for _ in range(5):
            writing.more()
        assert writing.errors == []
        assert cluster.leader() == leader
        assert cluster.status(victim).name == victim
        cluster.disk(victim).heal()


def test_a_stopped_peer_whose_disk_hangs_frees_its_name_in_time() -> None:
    with Cluster(Recorder) as cluster:
        victim = follower_of(cluster)
        cluster.disk(victim).hang()
        cluster.write("x")
        begin = time.monotonic()
        raft.stop(victim, timeout=1.0)
        assert time.monotonic() - begin < 2.0
        with pytest.raises(raft.UnknownPeer):
            raft.status(victim)
        cluster.crash(victim)  # of the cluster: lets the disk go
        cluster.disk(victim).heal()
        cluster.start(victim)
        cluster.converged()


@pytest.mark.parametrize(("number", "advice"), [(errno.EIO, "check the disk"), (errno.ENOSPC, "make room on its disk")])
def test_errors_of_the_disk_are_logged_with_the_peers_name_and_what_to_do(
    number: int, advice: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("ERROR", "raft_actors"), Cluster(Recorder, config=STAY_DOWN) as cluster:
        victim = follower_of(cluster)
        cluster.disk(victim).fail(number)
        cluster.write("x")
        cluster.eventually(lambda: cluster.status(victim).failure is not None)
    (told,) = [record for record in caplog.records if f"peer {victim} stopped itself" in record.getMessage()]
    assert advice in told.getMessage()
    assert told.exc_info is None, "our own steps tell nothing of a disk"
