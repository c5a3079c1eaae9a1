"""After every test with real threads, nothing of it may be left."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import raft_actors as raft
from raft_actors import names, supervisor
from tests.threads.snapshot_machines import Slow
from tests.threads.tools import assert_nothing_left, remember


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    remember()
    yield
    leftovers = names.names()
    supervisor.stop_all(2.0)  # so that one failure does not become those of all tests after it
    assert leftovers == ()
    assert_nothing_left()


@pytest.fixture
def config(tmp_path: Path) -> raft.Config:
    return raft.Config(data_dir=tmp_path)


@pytest.fixture
def slow() -> Iterator[type[Slow]]:
    Slow.gate, Slow.entered, Slow.problem = threading.Event(), threading.Event(), None
    yield Slow
    Slow.gate.set()
