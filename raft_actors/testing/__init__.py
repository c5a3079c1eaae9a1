"""Test your own machine: a real cluster with faults, and a checker of what its clients saw."""

from __future__ import annotations

from raft_actors.testing.cluster import Cluster
from raft_actors.testing.linearizability import Operation, Verdict, check_linearizable
from raft_actors.testing.replica import Entry
from raft_actors.testing.simulation import Report, simulate

__all__ = ["Cluster", "Entry", "Operation", "Report", "Verdict", "check_linearizable", "simulate"]
