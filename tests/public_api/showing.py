"""Provoke an error through the public API and read what it says; shared by the tests that show them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import raft_actors as raft
from raft_actors import supervisor
from raft_actors.testing import Cluster
from tests.threads.tools import assert_nothing_left, remember

__all__ = ["follower_of", "nothing_is_left", "outcome_of", "shows"]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    remember()
    yield
    supervisor.stop_all(2.0)
    assert_nothing_left()


def shows(kind: type[raft.RaftError], call: Callable[[], Any], *texts: str) -> raft.RaftError:
    """Call, and expect exactly ``kind`` with all ``texts`` in its message."""
    with pytest.raises(kind) as caught:
        call()
    error = caught.value
    assert type(error) is kind
    for text in texts:
        assert text in str(error), f"{text!r} is not in: {error}"
    return error


def outcome_of(call: Callable[[], Any]) -> Any:
    """What a call returns, or the error that it raises."""
    try:
        return call()
    except raft.RaftError as error:
        return error


def follower_of(cluster: Cluster) -> str:
    return next(name for name in cluster.names if name != cluster.leader())
