"""Three processes on three hosts: cut cables, one-way cables, thin cables, new addresses, kills."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.network.stories import HERE, NAMES, Cluster, Writer, check_the_end, cluster_of_three, timed
from tests.processes.tools import PYTHON, eventually

WITHIN = 8.0
"""Seconds in which a cluster must have another leader and take writes; about one is usual, but other tests run too."""


@pytest.fixture
def note(record_property):
    """Keeps a figure in the report; pytest -s shows it."""

    def keep(what: str, seconds: float) -> None:
        record_property(what, round(seconds, 3))
        print(f"[{what}: {seconds:.3f} s]", end=" ", flush=True)

    return keep


def others_than(name: str) -> tuple[str, ...]:
    return tuple(one for one in NAMES if one != name)


def follows(cluster: Cluster, name: str, leader: str) -> bool:
    """Whether a peer follows ``leader``, with all that was committed when it was asked."""
    status: dict[str, Any] = cluster.status()
    one, other = status[name], status[leader]
    return (
        "error" not in one
        and other.get("role") == "leader"
        and one["role"] == "follower"
        and one["term"] == other["term"]
        and one["last_applied"] > 0
    )


def check_told(cluster: Cluster, away: str) -> str:
    """``status`` says that one cannot be reached, and that exactly one of the others leads: its name."""
    status = cluster.status()
    assert "error" in status[away], status[away]
    assert all("error" not in status[name] for name in others_than(away)), status
    (leader,) = [name for name in others_than(away) if status[name]["role"] == "leader"]
    assert all(status[name]["leader"] == cluster.full(leader) for name in others_than(away)), status
    return leader


def test_when_the_cable_of_the_leader_is_cut_another_leads_and_with_the_cable_it_follows(tmp_path: Path, note):
    with cluster_of_three(tmp_path) as cluster:
        writer, old = Writer(cluster), cluster.leader()
        cut = time.monotonic()
        cluster.hosts.unplug(old)
        writer.wait_for(20)
        note("failover, cable cut", writer.gap(cut))
        assert writer.gap(cut) < WITHIN
        new = check_told(cluster, old)
        cluster.hosts.plug(old)
        note("back with the cable", timed(lambda: follows(cluster, old, new)))
        writer.wait_for(20)
        check_the_end(cluster, writer)


@pytest.mark.parametrize("way", ["deafen", "mute"])
def test_a_cluster_goes_on_when_its_leader_is_cut_off_one_way(tmp_path: Path, note, way: str):
    with cluster_of_three(tmp_path) as cluster:
        writer, old = Writer(cluster), cluster.leader()
        cut = time.monotonic()
        getattr(cluster.hosts, way)(old)
        writer.wait_for(20)
        note(f"failover, {way}", writer.gap(cut))
        assert writer.gap(cut) < WITHIN
        new = check_told(cluster, old)
        cluster.hosts.mend(old)
        note("back after it", timed(lambda: follows(cluster, old, new)))
        writer.wait_for(20)
        check_the_end(cluster, writer)


def caught_up(cluster: Cluster, slow: str, leader: str, target: int, seen: list[dict[str, Any]]) -> bool:
    """Whether a peer has applied the log up to ``target``; what it says is kept."""
    status = cluster.status()
    assert "error" not in status[slow], status[slow]
    assert status[leader]["role"] == "leader", "a slow follower has deposed its leader"
    seen.append(status[slow])
    return status[slow]["last_applied"] >= target


def check_calm(seen: list[dict[str, Any]], term: int) -> None:
    """Nobody was elected, and the slow one heard its leader in time: a busy machine may make it doubt now and then."""
    assert {one["term"] for one in seen} == {term}
    doubts = sum(one["role"] != "follower" for one in seen)
    assert doubts <= len(seen) / 4, [one["role"] for one in seen]


@pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="a long cable needs /dev/net/tun")
def test_writes_go_on_at_the_speed_of_the_others_when_the_cable_of_a_follower_is_long(tmp_path: Path, note):
    with cluster_of_three(tmp_path) as cluster:
        leader = cluster.leader()
        far, term, seen = others_than(leader)[0], cluster.status()[leader]["term"], []
        writer = Writer(cluster)
        writer.wait_for(50)
        quick = writer.median()
        cluster.hosts.lengthen(far, 0.05, tmp_path)
        assert timed(lambda: cluster.journal(far)) > 0.1, "the cable is not long"
        begun = time.monotonic()
        writer.wait_for(100)
        note("a write before", quick)
        note("a write with 50 ms to one follower", writer.median(begun))
        assert writer.median(begun) < 0.05
        target = cluster.status()[leader]["last_applied"]
        eventually(lambda: caught_up(cluster, far, leader, target, seen))
        check_calm(seen, term)
        check_the_end(cluster, writer)


@pytest.mark.slow
def test_a_large_command_goes_through_the_slow_cable_of_the_leader(tmp_path: Path, note):
    with cluster_of_three(tmp_path) as cluster:
        leader = cluster.leader()
        cluster.hosts.narrow(leader, "8mbit")
        large = Writer(cluster, "large.log", size=2_500_000, first=10**6, most=1)
        large.wait()
        note("a write of 2.5 MB through 8 Mbit/s", large.median())
        cluster.hosts.mend(leader)
        check_the_end(cluster, large)


@pytest.mark.parametrize(("size", "count"), [pytest.param(100_000, 35, marks=pytest.mark.slow), (2_500_000, 1)])
def test_a_slow_cable_slows_its_follower_only_and_large_entries_do_not_make_heartbeats_late(
    tmp_path: Path, note, size: int, count: int
):
    with cluster_of_three(tmp_path) as cluster:
        leader = cluster.leader()
        slow, term, seen = others_than(leader)[0], cluster.status()[leader]["term"], []
        cluster.hosts.narrow(slow, "8mbit")
        writer, begun = Writer(cluster), time.monotonic()
        large = Writer(cluster, "large.log", pause=0.0, size=size, first=10**6, most=count)
        large.wait()
        target = cluster.status()[leader]["last_applied"]
        note(
            f"{count} entries of {size} through 8 Mbit/s", timed(lambda: caught_up(cluster, slow, leader, target, seen))
        )
        assert len(seen) > 4, "the cable is not slow"
        note("longest write meanwhile", writer.gap(begun))
        assert writer.gap(begun) < 2.0
        check_calm(seen, term)
        cluster.hosts.mend(slow)
        check_the_end(cluster, writer, large)


@pytest.mark.slow
def test_a_large_snapshot_through_a_slow_cable_makes_no_heartbeat_late(tmp_path: Path, note):
    serve = (PYTHON, HERE / "serve_program.py", 100, 10)
    with cluster_of_three(tmp_path, serve) as cluster:
        leader = cluster.leader()
        slow, term, seen = others_than(leader)[0], cluster.status()[leader]["term"], []
        cluster.stop(slow)
        large = Writer(cluster, "large.log", pause=0.0, size=10_000, first=10**6, most=250)
        large.wait()
        eventually(lambda: cluster.status()[leader]["first_index"] > 100)
        cluster.hosts.narrow(slow, "8mbit")
        writer, begun = Writer(cluster), time.monotonic()
        cluster.start(slow)
        target = cluster.status()[leader]["last_applied"]
        eventually(lambda: cluster.status()[slow].get("leader"))
        taken = timed(lambda: caught_up(cluster, slow, leader, target, seen))
        note("snapshot of 2.5 MB through 8 Mbit/s", taken)
        note("longest write meanwhile", writer.gap(begun))
        assert writer.gap(begun) < 2.0
        assert seen[-1]["snapshot_index"] > 100
        check_calm(seen, term)
        cluster.hosts.mend(slow)
        check_the_end(cluster, writer, large)


def test_a_follower_that_comes_back_at_another_address_is_followed_there(tmp_path: Path, note):
    with cluster_of_three(tmp_path) as cluster:
        writer, leader = Writer(cluster), cluster.leader()
        moved = others_than(leader)[0]
        cluster.stop(moved)
        writer.wait_for(20)
        cluster.hosts.move(moved, "10.77.0.77")
        cluster.start(moved)
        seen = timed(lambda: f"{moved}@10.77.0.77:" in cluster.command("members", "--connect", cluster.full(leader)))
        note("new address in members", seen)
        eventually(lambda: follows(cluster, moved, leader))
        writer.wait_for(20)
        check_the_end(cluster, writer)
        assert cluster.status()[moved]["name"] == cluster.full(moved)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_the_client_goes_on_when_the_leader_is(tmp_path: Path, note, number: signal.Signals):
    with cluster_of_three(tmp_path) as cluster:
        writer, old = Writer(cluster), cluster.leader()
        cut = time.monotonic()
        cluster.signal(old, number)
        writer.wait_for(20)
        note(f"failover, {number.name}", writer.gap(cut))
        assert writer.gap(cut) < WITHIN
        new = check_told(cluster, old)
        if number == signal.SIGSTOP:
            cluster.signal(old, signal.SIGCONT)
        else:
            cluster.process[old].wait(20.0)
            cluster.start(old)
        note("back", timed(lambda: follows(cluster, old, new)))
        writer.wait_for(20)
        check_the_end(cluster, writer)
