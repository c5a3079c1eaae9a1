"""Neighbouring releases find a version that both speak, or say that there is none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zmq

from raft_actors.network import NodeTransport
from raft_actors.transport import frames as f
from tests.threads.tools import wait_until


@pytest.fixture
def caller(node: NodeTransport) -> Iterator[zmq.Socket]:
    """A bare socket, which may say what it likes."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger, socket.rcvtimeo = 0, 5000
        socket.connect(f"tcp://{node.address}")
        yield socket


def said(caller: zmq.Socket, body: f.Body, version: int = 1) -> f.Body:
    caller.send(f.pack(body, version))
    return f.unpack(caller.recv())


@pytest.mark.parametrize(("oldest", "newest"), [(1, 1), (1, 2), (0, 9)])
def test_the_highest_common_version_is_spoken(caller: zmq.Socket, oldest: int, newest: int) -> None:
    assert said(caller, f.Hello(oldest, newest)) == f.Welcome(1, "insecure", pickle=False)


def test_who_speaks_only_later_versions_is_refused_and_counted(node: NodeTransport, caller: zmq.Socket) -> None:
    caller.send(f.pack(f.Hello(2, 9)))
    wait_until(lambda: node.wire.refused["no common version"] == 1)
    assert isinstance(said(caller, f.Hello(1, 1)), f.Welcome)


def test_a_frame_of_another_version_is_refused_and_counted(node: NodeTransport, caller: zmq.Socket) -> None:
    caller.send(f.pack(f.Hello(1, 1), version=2))
    wait_until(lambda: node.wire.refused["unknown version"] == 1)
    assert isinstance(said(caller, f.Hello(1, 1)), f.Welcome)


def test_a_request_that_is_not_known_here_is_answered_with_an_error(caller: zmq.Socket) -> None:
    answer = said(caller, f.Ask(1, "nobody", 1.0, f.GetStatus()))
    assert isinstance(answer, f.Failed)
    assert answer.kind == "UnknownPeer"
