"""A node that echoes, and a wire that asks it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raft_actors.network import NodeTransport
from raft_actors.node import open_transport
from raft_actors.transport.local import LocalTransport
from raft_actors.transport.zeromq import wire
from tests.network.echoing import Asker, Echo


@pytest.fixture
def long_sleep(monkeypatch) -> None:
    """Nothing heals by itself: what nobody wakes the thread for is never done."""
    monkeypatch.setattr(wire, "LONGEST_SLEEP", 60.0)


@pytest.fixture
def echo() -> Iterator[Echo]:
    one = Echo()
    yield one
    one.close()


@pytest.fixture
def asker(echo) -> Iterator[Asker]:
    one = Asker(echo)
    yield one
    one.wire.close()


@pytest.fixture
def node() -> Iterator[NodeTransport]:
    """The transport of a node without keys, and without peers."""
    one = open_transport("127.0.0.1:0", None, LocalTransport())
    yield one
    one.wire.close()
