"""Peers get into a cluster by themselves: they join one that is there, or find each other and form it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import raft_actors as raft
from raft_actors.machines import Counter
from raft_actors.testing import Cluster
from tests.threads.test_membership import outcome_of
from tests.threads.tools import wait_until

FAST = {"min_election_timeout": 0.1, "max_election_timeout": 0.2, "heartbeat_interval": 0.02}


def start(folder: Path, name: str, join: object = None, expect: int | None = None) -> None:
    raft.start_peer(Counter, name=name, config=raft.Config(data_dir=folder, **FAST), join=join, bootstrap_expect=expect)


def stop(*names: str) -> None:
    for name in names:
        raft.stop(name)


def is_voter(name: str, of: str) -> bool:
    found = raft.configuration(of)
    return found.committed and name in found.voters


# -- joining -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["lmdb", "rocksdb"])
def test_a_new_peer_asks_any_member_and_becomes_a_voter(storage: str, tmp_path: Path) -> None:
    with Cluster(Counter, storage=storage) as cluster:
        cluster.write(("add", 5))
        for number, seeds in enumerate(["s1", ["s2"], ["nobody", "s3"]], 4):
            name = f"s{number}"
            raft.start_peer(Counter, name=name, config=raft.Config(data_dir=tmp_path, storage=storage), join=seeds)
            try:
                wait_until(lambda name=name: is_voter(name, name), what=f"{name} votes")
                assert raft.read(name, "value") == 5
            except BaseException:
                stop(*[f"s{one}" for one in range(4, number + 1)])
                raise
        stop("s4", "s5", "s6")


def test_a_peer_that_finds_nobody_keeps_asking_until_somebody_is_there(tmp_path: Path) -> None:
    start(tmp_path, "late", join="first")
    with pytest.raises(raft.NotConfigured):
        raft.write("late", ("add", 1))
    start(tmp_path, "first")
    raft.set_configuration("first", ["first"])
    try:
        wait_until(lambda: is_voter("late", "first"))
        assert raft.write(raft.leader("late", timeout=5), ("add", 1)) == 1
    finally:
        stop("late", "first")


def test_a_peer_that_joined_takes_part_after_a_restart_whatever_it_is_told_to_join(tmp_path: Path) -> None:
    start(tmp_path, "first")
    raft.set_configuration("first", ["first"])
    start(tmp_path, "second", join="first")
    try:
        wait_until(lambda: is_voter("second", "second"))
        stop("second")
        start(tmp_path, "second", join="nobody")
        raft.write(raft.leader("first", timeout=5), ("add", 1))
        assert raft.read("second", "value") == 1
    finally:
        stop("first", "second")


def test_a_wiped_peer_joins_in_place_of_the_store_it_had(tmp_path: Path) -> None:
    with Cluster(Counter) as cluster:
        cluster.write(("add", 1))
        old = cluster.status("s3").incarnation
        cluster.crash("s3")
        raft.start_peer(Counter, name="s3", config=raft.Config(data_dir=tmp_path), join=["s1", "s2"])
        try:
            wait_until(lambda: is_voter("s3", "s3"))
            assert raft.status("s3").incarnation != old
            assert raft.read("s3", "value") == 1
            assert len(raft.configuration("s1").voters) == 3
        finally:
            stop("s3")


def test_a_peer_of_another_cluster_is_turned_away_and_says_so(tmp_path: Path) -> None:
    start(tmp_path, "first")
    raft.set_configuration("first", ["first"])
    start(tmp_path, "foreign")
    raft.set_configuration("foreign", ["foreign"])
    try:
        with pytest.raises(raft.Incompatible, match="peer 'foreign' belongs to another cluster"):
            raft.add_peer("first", "foreign")
    finally:
        stop("first", "foreign")


# -- forming -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("round_", range(25))
def test_peers_form_exactly_one_cluster_whatever_the_order_and_who_dies_meanwhile(
    size: int, round_: int, tmp_path: Path
) -> None:
    dice = random.Random(100 * size + round_)
    names = [f"s{number}" for number in range(1, size + 1)]
    order = dice.sample(names, size)
    running: list[str] = []
    try:
        for name in order:
            start(tmp_path, name, join=names, expect=size)
            running.append(name)
            if dice.random() < 0.4:  # one of those that are there dies, and comes back
                again = dice.choice(running)
                raft.supervisor.handle_of(again).stop(5.0, crash=True)
                start(tmp_path, again, join=names, expect=size)
        wait_until(lambda: all(raft.configuration(name).committed for name in names))
        found = {raft.configuration(name) for name in names}
        assert len(found) == 1
        assert set(found.pop().voters) == set(names)
        assert len({raft.supervisor.handle_of(name).state.cluster for name in names}) == 1
        assert raft.write(raft.leader("s1", timeout=10), ("add", 1)) == 1
    finally:
        stop(*running)


def test_a_peer_that_was_wiped_after_the_cluster_was_formed_is_let_in_again(tmp_path: Path) -> None:
    names = ["s1", "s2", "s3"]
    for name in names:
        start(tmp_path, name, join=names, expect=3)
    try:
        wait_until(lambda: all(raft.configuration(name).committed for name in names))
        stop("s1")
        start(tmp_path / "empty", "s1", join=names, expect=3)
        wait_until(lambda: is_voter("s1", "s1") and is_voter("s1", "s2"))
        assert len(raft.configuration("s2").voters) == 3
    finally:
        stop(*names)


def test_a_peer_that_was_given_other_names_is_refused_by_name(tmp_path: Path) -> None:
    start(tmp_path, "s2", join=["s1", "s2", "s4"], expect=3)
    start(tmp_path, "s3", join=["s1", "s2", "s3"], expect=3)
    start(tmp_path, "s1", join=["s1", "s2", "s3"], expect=3)
    try:
        expected = "peer 's2' looks for other peers than s1, s2, s3"
        wait_until(lambda: expected in str(outcome_of(lambda: raft.leader("s1", timeout=0.1))))
        assert raft.configuration("s3") == raft.Configuration()
    finally:
        stop("s1", "s2", "s3")


def test_the_cluster_in_the_store_wins_over_other_names_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start(tmp_path, "s1", join=["s1"], expect=1)
    try:
        wait_until(lambda: is_voter("s1", "s1"))
        stop("s1")
        start(tmp_path, "s1", join=["s1", "s2"], expect=2)
        assert raft.leader("s1", timeout=5) == "s1"
    finally:
        stop("s1")
    assert "peer s1: its store holds a cluster of s1, which goes on; s1, s2 were named" in caplog.text


# -- arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("join", "expect", "words"),
    [
        (None, 3, "bootstrap_expect needs join"),
        ([], None, "join names nobody but 's1' itself"),
        ("s1", None, "join names nobody but 's1' itself"),
        (["s1", "s2"], 3, "bootstrap_expect is 3, but join names 2 peers: s1, s2"),
        (["s2", "s3"], 2, "join must name 's1' too"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(join: object, expect: int, words: str, tmp_path: Path) -> None:
    with pytest.raises(raft.InvalidConfig, match=words):
        start(tmp_path, "s1", join=join, expect=expect)
    assert not (tmp_path / "s1").exists()
