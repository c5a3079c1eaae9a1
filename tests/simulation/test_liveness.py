"""What it takes for a healed cluster to be well: each condition is missed when it does not hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from raft_actors.protocol.state import Follower, Leader
from raft_actors.testing.simulation.clients import Request
from raft_actors.testing.simulation.cluster import Cluster
from tests.simulation.scenes_runs import well


def set_state(cluster: Cluster, name: str, **change: Any) -> None:
    engine = cluster.nodes[name].engine
    engine.state = replace(engine.state, **change)


def leader_of(cluster: Cluster) -> str:
    return next(node.name for node in cluster.nodes.values() if isinstance(node.engine.state.role, Leader))


def follower_of(cluster: Cluster) -> str:
    return next(name for name in cluster.names if name != leader_of(cluster))


def one_is_down(cluster: Cluster) -> None:
    cluster.nodes["s2"].up = False


def nobody_leads(cluster: Cluster) -> None:
    set_state(cluster, leader_of(cluster), role=Follower())


def two_lead(cluster: Cluster) -> None:
    role = cluster.nodes[leader_of(cluster)].engine.state.role
    set_state(cluster, follower_of(cluster), role=role)


def one_follows_another(cluster: Cluster) -> None:
    set_state(cluster, follower_of(cluster), leader=follower_of(cluster))


def somebody_waits(cluster: Cluster) -> None:
    cluster.clients.pending[99] = Request(99, "caller", "write", None, "s1", 0.0, 0)


def a_fresh_write_is_refused(cluster: Cluster) -> None:
    fresh = next(one for one in cluster._fresh if one.kind == "write")
    fresh.status = "fail"


def a_fresh_read_has_no_answer(cluster: Cluster) -> None:
    fresh = next(one for one in cluster._fresh if one.kind == "read")
    fresh.status = "unknown"


def a_log_is_longer(cluster: Cluster) -> None:
    log = cluster.nodes["s2"].engine.state.log
    set_state(cluster, "s2", log=replace(log, last=replace(log.last, index=log.last.index + 1)))


def one_does_not_know_what_is_committed(cluster: Cluster) -> None:
    set_state(cluster, "s2", commit_index=cluster.nodes["s2"].engine.state.commit_index - 1)


def a_machine_is_behind(cluster: Cluster) -> None:
    cluster.nodes["s2"].replica.applied -= 1


def a_disk_has_another_term(cluster: Cluster) -> None:
    cluster.nodes["s2"].disk.terms[-1] += 1


CONDITIONS: dict[Callable[[Cluster], None], str] = {
    one_is_down: "s2 did not start",
    nobody_leads: "0 peers lead",
    two_lead: "2 peers lead",
    one_follows_another: "not everybody follows",
    somebody_waits: "request 99 (write at s1) is not answered",
    a_fresh_write_is_refused: "a fresh write",
    a_fresh_read_has_no_answer: "a fresh read",
    a_log_is_longer: "s2 is behind",
    one_does_not_know_what_is_committed: "s2 is behind",
    a_machine_is_behind: "s2 is behind",
    a_disk_has_another_term: "the disk of s2 differs",
}


@pytest.mark.parametrize("break_it", CONDITIONS, ids=lambda one: one.__name__)
def test_a_cluster_that_is_not_well_is_told_why(break_it: Callable[[Cluster], None]) -> None:
    cluster = well()
    assert cluster._why_not_well() is None
    break_it(cluster)
    why = cluster._why_not_well()
    assert why is not None
    assert CONDITIONS[break_it] in why
