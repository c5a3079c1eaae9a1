"""Real clusters get other members: grown, shrunk, replaced, without their leader, and after the loss of a disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import raft_actors as raft
from raft_actors.machines import KV
from raft_actors.testing import Cluster
from tests.threads.snapshot_machines import OFTEN, fill, leader_of
from tests.threads.tools import Recorder, wait_until

STORAGES = ["lmdb", "rocksdb"]


def members_of(peer: str) -> tuple[set[str], set[str]]:
    """Voters and learners, once what ``peer`` knows of is committed."""
    wait_until(lambda: raft.configuration(peer).committed, what=f"the configuration of {peer} is committed")
    found = raft.configuration(peer)
    return set(found.voters), set(found.learners)


def follower_of(cluster: Cluster) -> str:
    """A voter that does not lead."""
    leader = leader_of(cluster)
    return next(name for name in raft.configuration(leader).voters if name != leader)


def start_beside(cluster: Cluster, *names: str) -> None:
    """Start peers that belong to no cluster yet."""
    for name in names:
        cluster._take_in(name)
        cluster.start(name)


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
    thread.join(40)
    assert len(results) == 1


# -- growing and shrinking ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", STORAGES)
def test_a_cluster_grows_from_one_to_three_to_five_and_shrinks_again(storage: str) -> None:
    with Cluster(Recorder, 1, storage=storage) as cluster:
        cluster.write("x")
        for size in range(2, 6):
            cluster.add(f"s{size}")
            assert members_of(leader_of(cluster)) == ({f"s{number}" for number in range(1, size + 1)}, set())
            cluster.write(size)
        assert cluster.converged()
        assert cluster.state("s5") == ["x", 2, 3, 4, 5]
        for size in range(5, 1, -1):
            gone = follower_of(cluster)
            assert gone not in raft.remove_peer(gone, gone).voters
            cluster.write(-size)
        assert len(raft.configuration(leader_of(cluster)).voters) == 1
        assert cluster.converged()


def test_five_members_take_the_place_of_three_in_one_call() -> None:
    with Cluster(Recorder) as cluster:
        cluster.write("x")
        start_beside(cluster, "n1", "n2", "n3", "n4")
        new = ["n1", "n2", "s1", "n3", "n4"]
        changed = raft.set_configuration("s2", new)
        assert changed.voters == tuple(new)
        assert changed.committed
        assert raft.set_configuration("n3", reversed(new)) == changed, "the members that it has: nothing is done"
        assert cluster.write("y") == 2
        assert cluster.converged()


def test_a_cluster_of_one_moves_to_another_peer() -> None:
    with Cluster(Recorder, 1) as cluster:
        cluster.write("x")
        start_beside(cluster, "n1")
        assert raft.set_configuration("s1", ["n1"]).voters == ("n1",)
        assert cluster.write("y") == 2
        assert leader_of(cluster) == "n1"
        assert cluster.state("n1") == ["x", "y"]


# -- removing ----------------------------------------------------------------------------------------------------------


def test_a_leader_that_is_removed_hands_over_and_says_that_it_is_out() -> None:
    with Cluster(Recorder) as cluster:
        old = leader_of(cluster)
        assert old not in raft.remove_peer(old, old).voters
        assert cluster.write("x") == 1
        assert leader_of(cluster) != old
        wait_until(lambda: isinstance(outcome_of(lambda: raft.write(old, "y")), raft.NotInConfiguration))
        for call in (
            lambda: raft.read(old, "all"),
            lambda: raft.leader(old),
            lambda: raft.transfer_leadership(old),
            lambda: raft.add_peer(old, old),
            lambda: raft.set_configuration(old, [old]),
        ):
            with pytest.raises(raft.NotInConfiguration, match=f"peer '{old}' is a member of its cluster no more"):
                call()
        assert raft.read(old, "len", consistency="stale") <= 1, "what it has can still be looked at"


def test_a_dead_peer_is_removed_and_hears_of_it_when_it_comes_back() -> None:
    with Cluster(Recorder) as cluster:
        dead = follower_of(cluster)
        cluster.crash(dead)
        assert dead not in raft.remove_peer(leader_of(cluster), dead).voters
        term = cluster.status(leader_of(cluster)).term
        cluster.start(dead)
        wait_until(lambda: isinstance(outcome_of(lambda: raft.leader(dead, timeout=0)), raft.NotInConfiguration))
        assert cluster.write("x") == 1
        assert cluster.status(leader_of(cluster)).term == term, "it disturbed nobody"


def test_a_removed_peer_is_let_in_again_on_its_own_data() -> None:
    with Cluster(Recorder) as cluster:
        cluster.write("x")
        gone = follower_of(cluster)
        incarnation = cluster.status(gone).incarnation
        raft.remove_peer(gone, gone)
        cluster.write("y")
        cluster.add(gone)
        assert cluster.status(gone).incarnation == incarnation
        assert gone in members_of(leader_of(cluster))[0]
        assert cluster.converged()
        assert raft.read(gone, "all") == ["x", "y"]


# -- learners ----------------------------------------------------------------------------------------------------------


def test_a_learner_answers_stale_and_linearizable_reads_and_counts_for_nothing() -> None:
    with Cluster(Recorder) as cluster:
        cluster.write("x")
        cluster.add("replica", learner=True)
        assert members_of("replica") == ({"s1", "s2", "s3"}, {"replica"})
        assert raft.read("replica", "all") == ["x"]
        index = cluster.status(leader_of(cluster)).commit_index
        assert raft.read("replica", "all", consistency="stale", min_index=index) == ["x"]
        with pytest.raises(raft.NotLeader):
            raft.write("replica", "y")
        leader = leader_of(cluster)
        for name in cluster.names:
            if name not in (leader, "replica"):
                cluster.crash(name)
        with pytest.raises(raft.RaftError):
            raft.write(leader, "lost", timeout=1.0)
        with pytest.raises(raft.RaftError):
            raft.read("replica", "all", timeout=1.0)
        assert raft.read("replica", "all", consistency="stale")[:1] == ["x"]


def test_a_learner_becomes_a_voter_and_only_by_removal_a_learner_again() -> None:
    with Cluster(Recorder) as cluster:
        cluster.add("s4", learner=True)
        assert members_of("s4") == ({"s1", "s2", "s3"}, {"s4"})
        cluster.add("s4")
        assert members_of("s4") == ({"s1", "s2", "s3", "s4"}, set())
        with pytest.raises(raft.InvalidConfiguration, match="peer 's4' is a voter"):
            cluster.add("s4", learner=True)
        raft.remove_peer("s1", "s4")
        cluster.add("s4", learner=True)
        assert members_of("s4") == ({"s1", "s2", "s3"}, {"s4"})


# -- lost disks, and peers far behind ----------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", STORAGES)
def test_a_peer_whose_disk_was_wiped_is_added_as_a_new_one(storage: str) -> None:
    with Cluster(Recorder, storage=storage) as cluster:
        cluster.write("x")
        wiped = follower_of(cluster)
        old = cluster.status(wiped).incarnation
        cluster.crash(wiped)
        cluster.wipe(wiped)
        cluster.start(wiped)
        assert raft.configuration(wiped) == raft.Configuration()
        cluster.write("y")
        cluster.add(wiped)
        assert members_of(leader_of(cluster)) == ({"s1", "s2", "s3"}, set())
        assert cluster.status(wiped).incarnation != old
        assert cluster.converged()
        assert raft.read(wiped, "all") == ["x", "y"]


@pytest.mark.parametrize("storage", STORAGES)
def test_a_fresh_peer_far_behind_gets_a_snapshot_and_then_votes(storage: str) -> None:
    with Cluster(KV, storage=storage, config=OFTEN) as cluster:
        fill(cluster, 300)
        cluster.eventually(lambda: cluster.status(leader_of(cluster)).first_index > 100)
        cluster.add("s4")
        assert members_of("s4") == ({"s1", "s2", "s3", "s4"}, set())
        assert cluster.status("s4").snapshot_index > 100
        cluster.crash(follower_of(cluster))
        fill(cluster, 20)
        assert cluster.converged()


def test_the_members_are_in_the_store_and_win_over_the_names_that_are_given(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with Cluster(Recorder, data_dir=tmp_path) as cluster:
        cluster.add("s4")
        cluster.write("x")
    with Cluster(Recorder, data_dir=tmp_path) as cluster:
        assert members_of(leader_of(cluster)) == ({"s1", "s2", "s3", "s4"}, set())
        assert cluster.read("all") == ["x"]
    assert "the stores hold a cluster of s1, s2, s3, s4, which goes on; s1, s2, s3 were named" in caplog.text


# -- one change at a time ----------------------------------------------------------------------------------------------


def test_only_one_change_starts_from_the_expected_configuration() -> None:
    with Cluster(Recorder) as cluster:
        start_beside(cluster, "n1", "n2")
        before = raft.configuration(leader_of(cluster))
        after = raft.set_configuration("s1", ["s1", "s2", "n1"], expected=before)
        for expected in (before, before.index, 0):
            with pytest.raises(raft.ConfigurationChanged, match=f"the current one has index {after.index}"):
                raft.set_configuration("s1", ["s1", "s2", "n2"], expected=expected)
        assert raft.set_configuration("s1", ["s1", "s2", "n2"], expected=after.index).voters == ("s1", "s2", "n2")


def test_of_two_callers_at_once_who_want_different_members_one_wins_or_both_in_turn() -> None:
    with Cluster(Recorder) as cluster:
        start_beside(cluster, "n1", "n2")
        before = raft.configuration(leader_of(cluster)).index
        first, second = ["s1", "s2", "n1"], ["s1", "s2", "n2"]
        with in_background(lambda: raft.set_configuration("s1", first, expected=before)) as one:
            other = outcome_of(lambda: raft.set_configuration("s2", second, expected=before))
        results = [one[0], other]
        won = [result for result in results if isinstance(result, raft.Configuration)]
        assert len(won) == 1
        lost = next(result for result in results if result is not won[0])
        assert isinstance(lost, raft.ConfigurationChanged | raft.ConfigurationInProgress)
        assert members_of("s1") == (set(won[0].voters), set())


def test_two_callers_at_once_who_want_the_same_both_have_it() -> None:
    with Cluster(Recorder) as cluster:
        start_beside(cluster, "n1")
        with in_background(lambda: raft.add_peer("s1", "n1")) as one:
            other = outcome_of(lambda: raft.set_configuration("s2", ["s1", "s2", "s3", "n1"]))
        for result in (one[0], other):
            assert isinstance(result, raft.Configuration | raft.ConfigurationInProgress), result
        assert any(isinstance(result, raft.Configuration) for result in (one[0], other))
        assert members_of("s1") == ({"s1", "s2", "s3", "n1"}, set())


def test_a_change_that_timed_out_goes_on_and_others_are_told_so() -> None:
    with Cluster(Recorder) as cluster:
        start_beside(cluster, "n1")
        leader = leader_of(cluster)
        cluster.link(leader, "n1", delay=0.6)
        with pytest.raises(raft.Timeout, match="is not committed in time, and goes on: look at configuration"):
            raft.add_peer("s1", "n1", timeout=0.9)
        shown = raft.configuration(leader)
        assert not shown.committed
        assert "n1" in shown.voters + shown.learners
        with pytest.raises(raft.ConfigurationInProgress, match="wait until configuration"):
            raft.remove_peer("s1", follower_of(cluster))
        cluster.heal()
        assert cluster.eventually(lambda: raft.configuration(leader).committed, 20)
        assert "n1" in raft.configuration(leader).voters


# -- the leader is lost on the way -------------------------------------------------------------------------------------


def test_a_caller_gets_its_change_although_the_leader_crashes_under_it() -> None:
    with Cluster(Recorder) as cluster:
        start_beside(cluster, "n1")
        leader = leader_of(cluster)
        asked = follower_of(cluster)
        cluster.link(leader, "n1", delay=0.15)
        with in_background(lambda: raft.add_peer(asked, "n1")) as results:
            wait_until(lambda: "n1" in raft.configuration(asked).learners)
            cluster.crash(leader)
            cluster.heal()
        assert isinstance(results[0], raft.Configuration), results
        assert set(results[0].voters) == {"s1", "s2", "s3", "n1"}


def test_it_gets_it_also_if_the_peer_that_it_asked_was_that_leader() -> None:
    with Cluster(Recorder) as cluster:
        start_beside(cluster, "n1")
        leader = leader_of(cluster)
        cluster.link(leader, "n1", delay=0.15)
        with in_background(lambda: raft.add_peer(leader, "n1")) as results:
            others = [name for name in ("s1", "s2", "s3") if name != leader]
            wait_until(lambda: all("n1" in raft.configuration(name).learners for name in others))
            cluster.crash(leader)
            cluster.heal()
        assert isinstance(results[0], raft.Configuration), results
        assert set(results[0].voters) == {"s1", "s2", "s3", "n1"}


def test_a_newcomer_that_dies_on_the_way_is_given_up_and_the_caller_is_told() -> None:
    config = raft.Config(min_election_timeout=0.1, max_election_timeout=0.2, heartbeat_interval=0.02)
    with Cluster(Recorder, config=config) as cluster:
        start_beside(cluster, "n1")
        leader = leader_of(cluster)
        cluster.link(leader, "n1", delay=0.08)
        with in_background(lambda: raft.add_peer("s1", "n1")) as results:
            wait_until(lambda: "n1" in raft.configuration(leader).learners)
            cluster.crash("n1")
        assert isinstance(results[0], raft.Timeout)
        assert "peer 'n1' was not heard for long, the change of the configuration was given up" in str(results[0])
        assert members_of(leader) == ({"s1", "s2", "s3"}, set())
        assert cluster.write("x") == 1


# -- who hears of it ---------------------------------------------------------------------------------------------------


def test_subscribers_are_told_the_committed_configurations() -> None:
    with Cluster(Recorder) as cluster:
        seen: list[raft.Configuration] = []
        done = threading.Event()

        def heard(event: Any) -> None:
            seen.append(event.configuration)
            if "n1" in event.configuration.voters:
                done.set()

        watcher = follower_of(cluster)
        with raft.subscribe(watcher, heard, events=[raft.ConfigurationCommitted]):
            cluster.add("n1", learner=True)
            added = raft.add_peer("s1", "n1")
            assert done.wait(5)
        assert seen[-1] == added
        assert all(one.committed for one in seen)
        assert [one.index for one in seen] == sorted({one.index for one in seen}), "each once, in order"


def test_a_client_follows_the_members_when_none_of_the_peers_it_was_given_is_left() -> None:
    with Cluster(Recorder) as cluster, raft.Client(["s1", "s2", "s3"]) as client:
        assert client.write("x") == 1
        start_beside(cluster, "n1", "n2", "n3")
        raft.set_configuration("s1", ["n1", "n2", "n3"])
        assert client.write("y") == 2
        for name in ("s1", "s2", "s3"):
            cluster.stop(name)
        cluster.stop(leader_of(cluster))
        assert client.write("z") == 3
