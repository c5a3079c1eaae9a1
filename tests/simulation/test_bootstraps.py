"""Peers that find each other form exactly one cluster, whatever the order, and whoever dies or is wiped meanwhile."""

from __future__ import annotations

import os

import pytest

from raft_actors.testing import simulate
from raft_actors.testing.simulation import Ledger

FAULTS = (
    "bootstrap",
    "crash",
    "loss",
    "duplicate",
    "reorder",
    "replay",
    "partition",
    "stop",
    "pause",
    "wipe",
    "disk_error",
    "clock",
)
ROUNDS = int(os.environ.get("BOOTSTRAPS", "80"))
"""Of each size; ``BOOTSTRAPS=1000`` is the long run."""


@pytest.mark.parametrize("peers", [3, 5])
def test_exactly_one_cluster_is_formed(peers: int) -> None:
    formed, seed = 0, 0
    while formed < ROUNDS:
        report = simulate(Ledger, seed=seed, steps=400, peers=peers, faults=FAULTS)
        if report.plan.bootstrap:
            report.check()  # two clusters are a violation, and so is none when the faults have ended
            formed += 1
        seed += 1
