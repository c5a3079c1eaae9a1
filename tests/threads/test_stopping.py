"""The end of a peer: graceful, abrupt, or with user code that hangs; and how soon the others go on."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pykka
import pytest

import raft_actors as raft
from raft_actors import names
from raft_actors.testing import Cluster
from tests.threads.tools import Gate, Recorder, alive, gated, outcome, wait_until

SLOW_TO_ELECT = raft.Config(min_election_timeout=5.0, max_election_timeout=6.0)
"""Whoever waits for an election timeout in such a cluster is caught."""


def leader_of(cluster: Cluster) -> str:
    leader = cluster.leader()
    assert leader is not None
    return leader


# -- graceful --------------------------------------------------


def test_a_stopped_leader_hands_over_and_nobody_waits_for_an_election_timeout() -> None:
    with Cluster(Recorder, config=SLOW_TO_ELECT) as cluster:
        old = leader_of(cluster)
        cluster.write("before")
        begin = time.monotonic()
        cluster.stop(old)
        assert cluster.write("after") == 2
        assert time.monotonic() - begin < 1.5
        assert cluster.leader() != old


def test_handing_over_raises_the_term_by_one() -> None:
    with Cluster(Recorder) as cluster:
        term = cluster.status(leader_of(cluster)).term
        cluster.stop(leader_of(cluster))
        assert cluster.status(leader_of(cluster)).term == term + 1


def test_writes_go_on_while_one_leader_after_the_other_is_stopped() -> None:
    with Cluster(Recorder) as cluster:
        for count in range(1, 7):
            leader = leader_of(cluster)
            cluster.stop(leader)
            assert cluster.write(count) == count
            cluster.start(leader)
        assert cluster.converged()
        assert cluster.read("all") == list(range(1, 7))


def test_a_leader_that_is_alone_stops_without_waiting_for_anybody() -> None:
    with Cluster(Recorder, config=SLOW_TO_ELECT) as cluster:
        leader = leader_of(cluster)
        for name in cluster.names:
            if name != leader:
                cluster.crash(name)
        begin = time.monotonic()
        cluster.stop(leader)
        assert time.monotonic() - begin < 1.0


def test_stopping_all_peers_one_after_the_other_takes_no_time(tmp_path: Path) -> None:
    config = raft.Config(data_dir=tmp_path)
    for name in ("s1", "s2", "s3"):
        raft.start_peer(Recorder, name=name, config=config)
    raft.set_configuration("s1", ["s1", "s2", "s3"])
    begin = time.monotonic()
    for name in ("s1", "s2", "s3"):
        raft.stop(name)
    assert time.monotonic() - begin < 1.5


def test_a_write_that_was_accepted_before_a_graceful_stop_of_a_lone_peer_is_finished() -> None:
    with Cluster(Recorder, 1) as cluster:
        futures = [raft.write("s1", number, block=False) for number in range(200)]
        cluster.stop("s1")
        results = [outcome(future) for future in futures]
        assert not [future for future in futures if not future.done()]
        done = [number for number, result in enumerate(results) if not isinstance(result, Exception)]
        cluster.start("s1")
        applied = cluster.read("all")
        assert set(done) <= set(applied)


def test_stop_is_idempotent_and_silent_about_names_that_are_not_there() -> None:
    raft.stop("nobody")
    with Cluster(Recorder) as cluster:
        cluster.stop("s1")
        raft.stop("s1")
        raft.stop_peer("s1", timeout=0)
        assert cluster.write("x") == 1


def test_many_stops_at_once_all_return_when_it_is_gone(config: raft.Config) -> None:
    for _ in range(10):
        ref = raft.start_peer(Recorder, name="s1", config=config)
        go = threading.Barrier(8)
        problems: list[BaseException] = []

        def stop(go=go, ref=ref, problems=problems) -> None:
            go.wait()
            raft.stop(ref)
            try:
                assert not ref.is_alive()
                assert names.whereis("s1") is None
            except BaseException as error:
                problems.append(error)

        threads = [threading.Thread(target=stop) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert problems == []


def test_a_name_can_be_started_again_the_moment_stop_returns(config: raft.Config) -> None:
    for _ in range(20):
        raft.start_peer(Recorder, name="s1", config=config)
        raft.stop("s1")


@pytest.mark.parametrize("timeout", [0, 0.0, 0.01])
def test_a_stop_without_patience_stops_all_the_same(config: raft.Config, timeout: float) -> None:
    raft.start_peer(Recorder, name="s1", config=config)
    raft.stop("s1", timeout=timeout)
    wait_until(lambda: names.whereis("s1") is None)


def test_a_frozen_peer_can_be_stopped() -> None:
    with Cluster(Recorder) as cluster:
        follower = next(name for name in cluster.names if name != leader_of(cluster))
        cluster.pause(follower)
        begin = time.monotonic()
        cluster.stop(follower)
        assert time.monotonic() - begin < 2


# -- user code that hangs --------------------------------------------------


@pytest.mark.parametrize("kind", ["write", "read"])
def test_user_code_that_hangs_is_abandoned_and_the_store_is_free(kind: str) -> None:
    gate = Gate()
    with Cluster(gated(gate)) as cluster:
        victim = next(name for name in cluster.names if name != leader_of(cluster))
        gate.at = {victim}
        if kind == "write":
            cluster.write("hang")
        else:
            raft.read(victim, "hang", block=False)
        assert gate.entered.wait(5)
        begin = time.monotonic()
        raft.stop(victim, timeout=0.5)
        assert time.monotonic() - begin < 1.5
        assert names.whereis(victim) is None
        gate.at = set()
        cluster.start(victim)  # the store is not locked, although the old thread still hangs
        assert cluster.converged()
        gate.opened.set()
        wait_until(lambda: alive().count(f"raft-machine-{victim}") == 1)


def test_an_abandoned_machine_runs_nothing_more_when_it_comes_back() -> None:
    gate, ran = Gate(), []

    class Watched(gated(gate)):  # type: ignore[misc]
        def handle_write(self, command: Any, state: list[Any]) -> Any:
            ran.append((self.name, command))
            return super().handle_write(command, state)

    with Cluster(Watched, 1) as cluster:
        gate.at = {"s1"}
        raft.write("s1", "hang", block=False)
        assert gate.entered.wait(5)
        for number in range(100):
            raft.write("s1", number, block=False)
        raft.stop("s1", timeout=0.2)
        gate.opened.set()
        wait_until(lambda: "raft-machine-s1" not in alive())
        assert ran == [("s1", "hang")]
        cluster.start("s1")
        assert cluster.leader() == "s1"


# -- abrupt --------------------------------------------------


def test_ref_stop_neither_hands_over_nor_restarts() -> None:
    with Cluster(Recorder) as cluster:
        leader = leader_of(cluster)
        ref = next(one for one in pykka.ActorRegistry.get_all() if getattr(one.actor_inbox, "name", "") == leader)
        assert ref.stop(timeout=5)
        assert names.whereis(leader) is None
        assert cluster.write("the others go on") == 1
        with pytest.raises(raft.UnknownPeer):
            raft.status(ref)


def test_the_death_of_a_leader_starts_an_election_at_once() -> None:
    with Cluster(Recorder, config=SLOW_TO_ELECT) as cluster:
        for number in range(5):
            leader = leader_of(cluster)
            begin = time.monotonic()
            cluster.crash(leader)
            assert cluster.write(number) == number + 1
            assert time.monotonic() - begin < 1.5
            cluster.start(leader)
        assert cluster.converged()


def test_a_death_behind_a_cut_link_is_not_heard_of() -> None:
    with Cluster(Recorder, config=raft.Config(min_election_timeout=1.0, max_election_timeout=1.2)) as cluster:
        leader = leader_of(cluster)
        for name in cluster.names:
            if name != leader:
                cluster.cut(leader, name)
        begin = time.monotonic()
        cluster.crash(leader)
        assert cluster.write("x", timeout=10) == 1
        assert time.monotonic() - begin > 0.5, "somebody heard of the death over a cut link"


def test_leader_never_names_a_dead_peer() -> None:
    with Cluster(Recorder, config=SLOW_TO_ELECT) as cluster:
        leader = leader_of(cluster)
        other = next(name for name in cluster.names if name != leader)
        for name in cluster.names:
            if name != leader:
                cluster.cut(leader, name)
        cluster.crash(leader)
        assert raft.leader(other, timeout=0.2) is None


def test_all_peers_crash_and_come_back_with_everything(tmp_path: Path) -> None:
    for storage in ("lmdb", "rocksdb"):
        with Cluster(Recorder, storage=storage, data_dir=tmp_path / storage) as cluster:
            for round_number in range(3):
                for number in range(20):
                    cluster.write((round_number, number))
                for name in cluster.names:
                    cluster.crash(name)
                for name in cluster.names:
                    cluster.start(name)
            assert cluster.read("all") == [(one, other) for one in range(3) for other in range(20)]
            assert cluster.converged()


# -- the end of the interpreter --------------------------------------------------

FORGETFUL = """
import sys, time
import raft_actors as raft
from raft_actors.machines import KV
{0}
for name in ("s1", "s2", "s3"):
    raft.start_peer(KV, name=name, config=raft.Config(data_dir=sys.argv[1]))
raft.set_configuration("s1", ["s1", "s2", "s3"])
leader = raft.leader("s1")
print(raft.read(leader, "len"), flush=True)
raft.write(leader, ("set", time.time_ns(), 1))
{1}
print("ready", flush=True)
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("", "raft.subscribe('s1', print)"),
        ("", "[raft.write(leader, ('set', n, 1), block=False) for n in range(1000)]"),
        (
            "KV.handle_read = lambda _, query, state: (time.sleep(60) if query == 'hang' else len(state), state)",
            "raft.read(leader, 'hang', block=False); time.sleep(0.2)",
        ),
    ],
    ids=["idle", "with a subscriber", "with writes in flight", "with user code that hangs"],
)
def test_a_forgotten_stop_neither_hangs_the_interpreter_nor_keeps_a_store_locked(
    tmp_path: Path, before: str, after: str
) -> None:
    program = FORGETFUL.format(before, after)
    for turn in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        first = next(lines).strip()
        assert next(lines).strip() == "ready"
        begin = time.monotonic()
        _, errors = process.communicate(timeout=20)
        assert process.returncode == 0, errors
        assert time.monotonic() - begin < 2.0
        assert (int(first) > 0) == (turn > 0), first
