"""What Prometheus sees of real peers: every metric moves, none waits, and the document lists them all."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import prometheus_client
import pytest

import raft_actors as raft
from raft_actors import metrics
from raft_actors.machines import KV
from raft_actors.measures import BOUNDS, CommitTimes, Histogram
from raft_actors.protocol.events import Received
from raft_actors.protocol.messages import PreVote
from raft_actors.protocol.types import LogPosition
from raft_actors.supervisor import handle_of
from raft_actors.testing import Cluster
from raft_actors.transport.local import LOCAL
from tests.threads.tools import Gate, gated, wait_until

ROOT = Path(__file__).resolve().parents[2]
SOON = 5.0


@pytest.fixture
def registry():
    registry = prometheus_client.CollectorRegistry()
    registry.register(metrics.PeerCollector())
    return registry


@pytest.fixture
def seen(registry):
    """The value of a metric now, without its prefix; ``None`` if it is not shown."""

    def look(name: str, peer: str | None = None, **labels: str) -> float | None:
        labels = labels if peer is None else {"peer": peer, **labels}
        return registry.get_sample_value(f"raft_actors_{name}", labels)

    return look


@pytest.fixture
def cluster():
    with Cluster(KV) as cluster:
        cluster.eventually(lambda: all(map(is_quiet, cluster.names)))
        yield cluster


def is_quiet(name: str) -> bool:
    """Whether its disk has done all that the forming of the cluster brought: nothing of it is counted any more."""
    state = handle_of(name).state
    return state.log.durable == state.log.last.index and not state.term_unsynced


def documented() -> set[tuple[str, str, tuple[str, ...]]]:
    text = (ROOT / "raft_actors/docs/metrics.md").read_text("utf-8")
    rows = re.findall(r"^\| `(raft_actors_\w+)` \| (\w+) \| ([^|]+) \|", text, re.MULTILINE)
    return {(name, kind, tuple(labels.strip().split(", "))) for name, kind, labels in rows}


# -- the list ----------------------------------------------------------------------------------------------------------


def test_the_documented_list_equals_the_exported_one() -> None:
    exported = {
        (f"{one.name}_total" if one.type == "counter" else one.name, one.type, tuple(one._labelnames))
        for one in metrics.collector().describe()
    }
    assert exported == documented()


def test_every_documented_metric_is_seen_and_no_other_one(cluster, registry) -> None:
    cluster.write(("set", "a", 1))
    refuse_one("s1")
    cluster.eventually(lambda: handle_of("s1").refused_messages)
    text = prometheus_client.generate_latest(registry).decode()
    shown = set(re.findall(r"^(raft_actors_\w+?)(?:_bucket|_sum|_count)?\{", text, re.MULTILINE))
    assert shown == {name for name, _, _ in documented()} - {"raft_actors_node_refused_total"}


def test_the_buckets_are_those_of_the_document() -> None:
    text = (ROOT / "raft_actors/docs/metrics.md").read_text("utf-8")
    (words,) = re.findall(r"^The buckets of both histograms end at (.*)\.$", text, re.MULTILINE)
    milliseconds, seconds = ([float(one) for one in re.findall(r"[\d.]+", part)] for part in words.split(" ms, "))
    assert [*(one / 1000 for one in milliseconds), *seconds] == list(BOUNDS)


def test_a_second_collector_in_one_registry_is_refused(registry) -> None:
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(metrics.collector())


# -- the values --------------------------------------------------------------------------------------------------------


def test_indices_roles_and_lags_follow_what_the_peers_publish(cluster, seen) -> None:
    leader = cluster.leader()
    follower = next(name for name in cluster.names if name != leader)
    before = seen("commit_index", leader)
    for number in range(10):
        cluster.write(("set", "a", number))
    cluster.converged()
    assert seen("commit_index", leader) == before + 10
    for name in cluster.names:
        status = raft.status(name)
        assert seen("applied_index", name) == seen("last_index", name) == status.last_index
        assert seen("term", name) == status.term
        assert seen("leader_known", name) == seen("peer_up", name) == 1
    assert [seen("role", leader, role=role) for role in metrics.ROLES] == [0, 0, 0, 1]
    assert [seen("role", follower, role=role) for role in metrics.ROLES] == [1, 0, 0, 0]
    cluster.eventually(lambda: seen("follower_lag_entries", leader, follower=follower) == 0)
    assert seen("follower_lag_entries", follower, follower=leader) is None


def test_the_lag_of_a_follower_that_is_cut_off_grows_and_goes(cluster, seen) -> None:
    leader = cluster.leader()
    follower = next(name for name in cluster.names if name != leader)
    cluster.partition([follower])
    for number in range(5):
        cluster.write(("set", "a", number))
    cluster.eventually(lambda: seen("follower_lag_entries", leader, follower=follower) >= 5)
    cluster.heal()
    cluster.eventually(lambda: seen("follower_lag_entries", cluster.leader(), follower=follower) in (0, None))


def test_syncs_and_commits_are_timed_once_a_batch(cluster, seen) -> None:
    leader = cluster.leader()
    syncs, commits = seen("sync_seconds_count", leader), seen("commit_seconds_count", leader)
    for number in range(5):
        cluster.write(("set", "a", number))
    assert seen("commit_seconds_count", leader) == commits + 5
    assert seen("sync_seconds_count", leader) >= syncs + 4  # the last may be committed by the others before
    futures = [raft.write(leader, ("set", "b", number), block=False) for number in range(1000)]
    for future in futures:
        future.get(timeout=SOON)
    assert seen("commit_seconds_count", leader) < commits + 505
    assert seen("commit_seconds_sum", leader) > 0
    assert seen("sync_seconds_sum", leader) > 0
    assert seen("sync_seconds_bucket", leader, le="+Inf") == seen("sync_seconds_count", leader)
    assert all(seen("commit_seconds_count", name) == 0 for name in cluster.names if name != leader)


def test_a_slow_disk_is_seen_in_the_buckets(cluster, seen) -> None:
    leader = cluster.leader()
    for name in cluster.names:
        cluster.disk(name).delay(0.06)
    below = seen("sync_seconds_bucket", leader, le="0.05")
    cluster.write(("set", "a", 1))
    cluster.eventually(lambda: seen("sync_seconds_count", leader) > below)
    assert seen("sync_seconds_bucket", leader, le="0.05") == below
    assert seen("commit_seconds_bucket", leader, le="0.05") < seen("commit_seconds_count", leader)


def test_elections_are_counted_where_they_happen(cluster, seen) -> None:
    def total(name: str) -> float:
        return sum(seen(name, one) or 0 for one in cluster.names)

    started, won = total("elections_started_total"), total("elections_won_total")
    assert started >= won >= 1
    old = cluster.leader()
    target = next(name for name in cluster.names if name != old)
    own = seen("elections_won_total", target)
    assert raft.transfer_leadership(old, target) == target
    assert seen("elections_won_total", target) == own + 1
    assert total("elections_won_total") >= won + 1
    assert total("elections_started_total") >= started + 1


def test_waiting_requests_fill_the_mailbox_and_leave_it() -> None:
    gate = Gate()
    gate.at = {"m1"}
    registry = prometheus_client.CollectorRegistry()
    registry.register(metrics.collector())

    def look(name: str) -> float | None:
        return registry.get_sample_value(f"raft_actors_{name}", {"peer": "m1"})

    with Cluster(gated(gate), names=["m1"], config=raft.Config(max_pending_writes=3)) as cluster:
        futures = [raft.write("m1", "hang", block=False)]
        assert gate.entered.wait(SOON)
        futures += [raft.write("m1", "next", block=False) for _ in range(2)]
        assert look("mailbox_requests") == 3
        assert look("mailbox_bytes") > 0
        cluster.eventually(lambda: look("commit_index") > look("applied_index"))
        with pytest.raises(raft.Overloaded):
            raft.write("m1", "one too many")
        assert look("overloaded_total") == 1
        gate.opened.set()
        for future in futures:
            future.get(timeout=SOON)
        cluster.eventually(lambda: look("mailbox_requests") == 0)
        assert look("mailbox_bytes") == 0


def refuse_one(name: str) -> None:
    """Send a message of a cluster that it does not belong to."""
    stranger = PreVote(cluster="another", sender="x", incarnation="x1", receiver="", term=1, last=LogPosition(0, 0))
    LOCAL.deliver(name, Received(stranger))


def test_refused_messages_are_counted_by_reason(cluster, seen) -> None:
    assert seen("refused_messages_total", "s1", reason="foreign cluster") is None
    for number in (1, 2):
        refuse_one("s1")
        cluster.eventually(lambda: seen("refused_messages_total", "s1", reason="foreign cluster") == number)


def test_snapshots_are_shown_with_their_size(cluster, seen) -> None:
    assert seen("snapshot_index", "s1") == seen("snapshot_size_bytes", "s1") == 0
    cluster.write(("set", "a", "x" * 5000))
    cluster.converged()
    index = raft.snapshot("s1")
    assert seen("snapshot_index", "s1") == index
    assert seen("snapshot_size_bytes", "s1") > 5000


def test_what_a_node_refuses_is_counted_by_reason(tmp_path, seen) -> None:
    zmq = pytest.importorskip("zmq")
    with raft.start_node("127.0.0.1:0", insecure=True) as node:
        raft.start_peer(KV, name="n1", config=raft.Config(data_dir=tmp_path, codec="plain"))
        assert seen("peer_up", "n1") == 1
        counted = {"node": node.address, "reason": "too short"}
        assert seen("node_refused_total", **counted) is None
        with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
            stranger.connect(f"tcp://{node.address}")
            for number in (1, 2):
                stranger.send(b"?")
                wait_until(lambda wanted=number: seen("node_refused_total", **counted) == wanted)
    assert seen("node_refused_total", **counted) is None


# -- peers that come, go and hang --------------------------------------------------------------------------------------


def test_a_hung_disk_does_not_block_a_scrape_and_is_seen(cluster, seen) -> None:
    leader = cluster.leader()
    commits, syncs = seen("commit_index", leader), seen("sync_seconds_count", leader)
    for name in cluster.names:
        cluster.disk(name).hang()
    future = raft.write(leader, ("set", "a", 1), block=False, timeout=SOON)
    cluster.eventually(lambda: (seen("sync_running_seconds", leader) or 0) > 0.02)
    longer = seen("sync_running_seconds", leader)
    assert seen("mailbox_requests", leader) == 1
    assert seen("commit_index", leader) == commits
    assert seen("sync_seconds_count", leader) == syncs
    cluster.eventually(lambda: seen("sync_running_seconds", leader) > longer)
    for name in cluster.names:
        cluster.disk(name).heal()
    future.get(timeout=SOON)
    cluster.eventually(lambda: seen("sync_running_seconds", leader) == 0)
    assert seen("sync_seconds_count", leader) > syncs


def test_a_peer_that_is_paused_does_not_block_a_scrape(cluster, seen) -> None:
    index = seen("last_index", "s2")
    cluster.pause("s2")
    done = threading.Event()
    scrape = threading.Thread(target=lambda: (seen("last_index", "s2"), done.set()), daemon=True)
    scrape.start()
    assert done.wait(SOON)
    assert seen("last_index", "s2") >= index
    cluster.resume("s2")


def test_a_peer_that_was_stopped_is_not_shown_and_one_that_failed_is_down(tmp_path, seen) -> None:
    with Cluster(KV, config=raft.Config(restart=None)) as cluster:
        leader = cluster.leader()
        one, other = (name for name in cluster.names if name != leader)
        cluster.stop(one)
        assert seen("peer_up", one) is None
        cluster.start(one)
        assert seen("peer_up", one) == 1
        cluster.disk(other).fail(5)
        cluster.write(("set", "a", 1))
        cluster.eventually(lambda: seen("peer_up", other) == 0)
        assert seen("failures_total", other) == 1
        assert [seen("role", other, role=role) for role in metrics.ROLES] == [0, 0, 0, 0]
        cluster.eventually(lambda: seen("sync_running_seconds", other) == 0)


def test_counters_go_on_when_the_supervisor_restarts_a_peer(seen) -> None:
    with Cluster(KV, config=raft.Config(restart=raft.Restart(backoff=(0.01, 0.1)))) as cluster:
        other = next(name for name in cluster.names if name != cluster.leader())
        cluster.write(("set", "a", 1))
        cluster.converged()
        syncs = seen("sync_seconds_count", other)
        cluster.disk(other).fail(5)
        cluster.write(("set", "a", 2))
        cluster.eventually(lambda: seen("failures_total", other) == 1 and seen("peer_up", other) == 1)
        assert seen("sync_seconds_count", other) >= syncs > 0


# -- the extra ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [metrics.collector, metrics.PeerCollector])
def test_without_the_extra_there_is_an_error_that_names_it(make, monkeypatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "prometheus_client"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(raft.MissingExtra, match="metrics") as caught:
        make()
    assert caught.value.extra == "metrics"
    assert "pip install 'raft-actors[metrics]'" in str(caught.value)


def test_importing_the_package_does_not_import_the_client_of_prometheus() -> None:
    program = (
        "import sys, raft_actors, raft_actors.cli\n"
        "import raft_actors.metrics\n"
        "print([name for name in sys.modules if name.startswith('prometheus_client')])"
    )
    alone = "import sys, raft_actors; print('raft_actors.metrics' in sys.modules)"
    for text, wanted in ((program, "[]"), (alone, "False")):
        done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == wanted


# -- the parts ---------------------------------------------------------------------------------------------------------


def test_a_time_falls_into_the_first_bucket_that_it_does_not_exceed() -> None:
    histogram = Histogram()
    for seconds in (0.0, 0.0001, 0.00011, 10.0, 11.0):
        histogram.observe(seconds)
    assert histogram.counts[:2] == [2, 1]
    assert histogram.counts[-2:] == [1, 1]
    assert sum(histogram.counts) == 5
    assert histogram.sum == pytest.approx(21.00021)


def test_batches_that_are_overwritten_or_covered_by_a_snapshot_are_not_timed() -> None:
    histogram = Histogram()
    times = CommitTimes(histogram)
    for number, last in enumerate((3, 5, 9, 12)):
        times.appended(last, float(number))
    times.committed(4, 10.0)
    assert (sum(histogram.counts), histogram.sum) == (1, 10.0)
    times.truncated(9)
    times.committed(20, 11.0)
    assert (sum(histogram.counts), histogram.sum) == (2, 20.0)
    times.appended(21, 12.0)
    times.forget()
    times.committed(30, 13.0)
    assert sum(histogram.counts) == 2
