"""Forming a cluster: once, by whoever asks, and with nothing stored if anybody refuses."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import raft_actors as raft
from raft_actors import names
from raft_actors.transport.local import LOCAL
from tests.threads.tools import Recorder, wait_until

THREE = ("s1", "s2", "s3")


@pytest.fixture
def three(config: raft.Config) -> Iterator[raft.Config]:
    for name in THREE:
        raft.start_peer(Recorder, name=name, config=config)
    yield config
    LOCAL.set_fault(names.names(), None)
    for name in names.names():
        raft.stop(name)


def unconfigured(*peers: str) -> bool:
    return all(raft.configuration(name) == raft.Configuration() for name in peers)


def restarted(config: raft.Config, *peers: str) -> None:
    for name in peers:
        raft.stop(name)
    for name in peers:
        raft.start_peer(Recorder, name=name, config=config)


def test_a_formed_cluster_has_the_voters_in_the_given_order_and_is_committed(three: raft.Config) -> None:
    formed = raft.set_configuration("s2", ["s3", "s1", "s2"])
    assert formed.voters == ("s3", "s1", "s2")
    assert formed.learners == ()
    assert formed.committed
    assert formed.index == 1
    assert raft.leader("s1") in THREE


def test_the_same_members_again_return_the_configuration_unchanged(three: raft.Config) -> None:
    formed = raft.set_configuration("s1", THREE)
    assert raft.set_configuration("s1", THREE) == formed
    assert raft.set_configuration("s1", reversed(THREE)) == formed
    raft.write(raft.leader("s1"), "x")
    assert raft.configuration("s1") == formed


def test_one_peer_is_a_cluster(three: raft.Config) -> None:
    raft.set_configuration("s1", ["s1"])
    assert raft.leader("s1") == "s1"
    assert raft.write("s1", "x") == 1
    assert unconfigured("s2", "s3")


def test_a_cluster_that_is_there_goes_on_after_a_restart_of_all(three: raft.Config) -> None:
    formed = raft.set_configuration("s1", THREE)
    raft.write(raft.leader("s1"), "x")
    restarted(three, *THREE)
    assert raft.set_configuration("s3", THREE).voters == formed.voters
    assert raft.read(raft.leader("s1"), "all") == ["x"]


def test_until_it_is_formed_every_call_says_what_to_do(three: raft.Config) -> None:
    for call in (
        lambda: raft.leader("s1"),
        lambda: raft.write("s1", "x"),
        lambda: raft.read("s1", "len"),
    ):
        begin = time.monotonic()
        with pytest.raises(raft.NotConfigured, match="'s1' is not part of a cluster yet: form one with set_conf"):
            call()
        assert time.monotonic() - begin < 1.0


# -- refusals: typed, naming the peer, and nothing is stored ----------------------------


def test_a_peer_of_another_cluster_is_named_and_nothing_is_stored(three: raft.Config) -> None:
    raft.set_configuration("s3", ["s3"])
    with pytest.raises(raft.InvalidConfiguration, match=r"'s3' belongs to a cluster already \(of s3\)") as caught:
        raft.set_configuration("s1", THREE)
    assert "nothing was changed" in str(caught.value)
    assert unconfigured("s1", "s2")
    restarted(three, "s1", "s2")
    assert unconfigured("s1", "s2")
    assert raft.set_configuration("s1", ["s1", "s2"]).voters == ("s1", "s2")


def test_a_peer_that_does_not_run_is_named_at_once(three: raft.Config) -> None:
    raft.stop("s2")
    begin = time.monotonic()
    with pytest.raises(raft.UnknownPeer, match="'s2'") as caught:
        raft.set_configuration("s1", THREE)
    assert caught.value.name == "s2"
    assert time.monotonic() - begin < 1.0
    assert unconfigured("s1", "s3")


def test_a_peer_that_does_not_answer_is_named_after_the_timeout(three: raft.Config) -> None:
    LOCAL.set_fault(("s3",), lambda *_: None)
    with pytest.raises(raft.UnknownPeer, match="'s3' did not answer, nothing was changed") as caught:
        raft.set_configuration("s1", THREE, timeout=0.5)
    assert caught.value.name == "s3"
    assert unconfigured(*THREE)
    LOCAL.set_fault(("s3",), None)
    assert raft.set_configuration("s1", THREE).committed


def test_the_asked_peer_must_be_a_member(three: raft.Config) -> None:
    with pytest.raises(raft.InvalidConfiguration, match="'s1' is not among the members"):
        raft.set_configuration("s1", ["s2", "s3"])
    assert unconfigured(*THREE)


@pytest.mark.parametrize(
    ("peers", "error", "text"),
    [
        ([], raft.InvalidConfiguration, "at least one peer"),
        (["s1", "s2", "s1"], raft.InvalidConfiguration, "s1 named twice"),
        ("s1", raft.InvalidConfiguration, "must be several names, not 's1'"),
        (["s1", "no good"], raft.InvalidName, "'no good'"),
        (["s1", 7], raft.InvalidName, "7"),
        (["s1", "nobody"], raft.UnknownPeer, "'nobody'"),
    ],
)
def test_a_list_that_can_be_no_cluster_is_refused(three: raft.Config, peers: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        raft.set_configuration("s1", peers)
    assert unconfigured(*THREE)


def test_an_expected_configuration_that_is_not_current_is_refused(three: raft.Config) -> None:
    with pytest.raises(raft.ConfigurationChanged, match="expected the configuration of index 4, the current one has 0"):
        raft.set_configuration("s1", THREE, expected=4)
    nothing = raft.configuration("s1")
    formed = raft.set_configuration("s1", THREE, expected=nothing)
    assert raft.set_configuration("s1", THREE, expected=formed) == formed
    with pytest.raises(raft.ConfigurationChanged):
        raft.set_configuration("s1", THREE, expected=nothing)


# -- at the same time --------------------------------------------------


def form_at_once(*calls: tuple[str, tuple[str, ...]]) -> list[Any]:
    """Call ``set_configuration`` from one thread each, at the same moment; what each got."""
    results: list[Any] = [None] * len(calls)
    go = threading.Barrier(len(calls))

    def call(place: int) -> None:
        peer, members = calls[place]
        go.wait()
        try:
            results[place] = raft.set_configuration(peer, members, timeout=10)
        except raft.RaftError as error:
            results[place] = error

    threads = [threading.Thread(target=call, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return results


@pytest.mark.parametrize("turn", range(5))
def test_concurrent_callers_form_one_cluster(three: raft.Config, turn: int) -> None:
    results = form_at_once(*((name, THREE) for name in THREE), ("s1", THREE))
    assert not [one for one in results if isinstance(one, Exception)], results
    assert {one.voters for one in results} == {THREE}
    assert raft.write(raft.leader("s1"), "x") == 1
    leaders = {raft.leader(name) for name in THREE}
    assert len(leaders) == 1
    for name in THREE:
        assert raft.read(name, "all") == ["x"]


@pytest.mark.parametrize("turn", range(5))
def test_of_two_different_clusters_that_overlap_at_most_one_is_formed(three: raft.Config, turn: int) -> None:
    results = form_at_once(("s1", ("s1", "s2")), ("s3", ("s2", "s3")))
    formed = [one for one in results if isinstance(one, raft.Configuration)]
    refused = [one for one in results if isinstance(one, raft.RaftError)]
    assert len(formed) == 1, results
    assert isinstance(refused[0], raft.InvalidConfiguration | raft.ConfigurationInProgress)
    loser = "s3" if isinstance(results[0], raft.Configuration) else "s1"
    assert unconfigured(loser)


def test_a_member_that_restarts_while_the_cluster_is_being_formed_is_in_it_or_nothing_is(three: raft.Config) -> None:
    for _ in range(5):
        results: list[Any] = []
        former = threading.Thread(target=lambda results=results: results.extend(form_at_once(("s1", THREE))))
        former.start()
        restarted(three, "s2")
        former.join(20)
        if isinstance(results[0], raft.Configuration):
            break
        assert isinstance(results[0], raft.UnknownPeer | raft.Restarting | raft.ConfigurationInProgress), results
        assert unconfigured("s1", "s3")
    else:
        raft.set_configuration("s1", THREE)
    assert raft.write(raft.leader("s1"), "x") == 1
    wait_until(lambda: raft.configuration("s2").committed)
    assert raft.read("s2", "all") == ["x"]


def test_a_member_that_stops_while_the_cluster_is_being_formed_leaves_no_half_of_it(three: raft.Config) -> None:
    LOCAL.set_fault(("s3",), lambda *_: None)
    former_result: list[Any] = []

    def form() -> None:
        try:
            former_result.append(raft.set_configuration("s1", THREE, timeout=1.0))
        except raft.RaftError as error:
            former_result.append(error)

    former = threading.Thread(target=form)
    former.start()
    raft.stop("s1")
    former.join(5)
    assert isinstance(former_result[0], raft.OutcomeUnknown | raft.NotApplied)
    raft.start_peer(Recorder, name="s1", config=three)
    LOCAL.set_fault(("s3",), None)
    assert raft.set_configuration("s1", THREE, timeout=5).committed


def test_a_member_whose_store_was_wiped_is_not_taken_for_the_one_that_was(three: raft.Config) -> None:
    raft.set_configuration("s1", THREE)
    raft.stop("s3")
    shutil.rmtree(Path(three.data_dir) / "s3")
    raft.start_peer(Recorder, name="s3", config=three)
    with pytest.raises(raft.InvalidConfiguration, match=r"'s[12]' belongs to a cluster already \(of s1, s2, s3\)"):
        raft.set_configuration("s3", THREE, timeout=1.0)
    assert unconfigured("s3")
    assert raft.write(raft.leader("s1"), "x") == 1
