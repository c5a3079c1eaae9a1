"""Clusters of this process for tests of the public functions."""

from __future__ import annotations

import pytest

import raft_actors as raft
from raft_actors import supervisor
from raft_actors.machines import KV
from tests.public_api.client_tools import config_with, started


@pytest.fixture
def config(tmp_path):
    """Settings with a folder of its own; what the test started is stopped after it."""
    yield raft.Config(data_dir=tmp_path)
    supervisor.stop_all(5.0)


@pytest.fixture
def cluster(config):
    """Starts a cluster; returns its names."""
    return lambda machine=KV, **changes: started(machine, config_with(config, **changes))
