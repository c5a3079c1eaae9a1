"""One thread listens to many sockets, and misses nothing."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest
import zmq

from raft_actors.transport.zeromq.ears import NOWAIT, Bell, Ears, may_read, receive


@pytest.fixture
def pair() -> Iterator[tuple[zmq.Socket, zmq.Socket]]:
    """A router that listens, and who talks to it."""
    with zmq.Context() as context, context.socket(zmq.PAIR) as one, context.socket(zmq.PAIR) as other:
        one.linger = other.linger = 0
        port = one.bind_to_random_port("tcp://127.0.0.1")
        other.connect(f"tcp://127.0.0.1:{port}")
        other.send(b"hello")
        assert one.recv() == b"hello"
        yield one, other


def waited(ears: Ears, seconds: float = 5.0) -> bool:
    """Whether somebody is called within the time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ready = ears.ask()
        calls = ears.calls(ready, ears.sleep(0.0 if ready else end - time.monotonic()))
        for call in calls:
            call()
        if calls:
            return True
    return False


@pytest.mark.parametrize("with_eventfd", [True, False])
def test_a_bell_wakes_the_thread_that_listens_once_however_often_it_is_rung(with_eventfd, monkeypatch) -> None:
    if not with_eventfd:
        monkeypatch.delattr(os, "eventfd", raising=False)
    elif not hasattr(os, "eventfd"):
        pytest.skip("this system has no eventfd")
    bell, ears = Bell(), Ears()
    ears.add(bell, bell.hear)
    threading.Timer(0.01, lambda: [bell.ring() for _ in range(100)]).start()
    assert waited(ears)
    while waited(ears, 0.05):
        pass
    bell.ring()
    assert waited(ears)
    ears.remove(bell)
    bell.ring()
    assert not waited(ears, 0.02)


def test_what_came_while_the_socket_was_used_otherwise_is_not_missed(pair) -> None:
    one, other = pair
    ears, got = Ears(), []

    def read() -> None:
        while may_read(one):
            got.append(receive(one))

    ears.add(one, read)
    for number in range(200):  # each answer may take the hint that something has come
        other.send(b"%d" % number)
        one.send(b"x", NOWAIT)
        ears.touch(one)
        assert waited(ears) or got
        other.recv()
    while waited(ears, 0.05):
        pass
    assert len(got) == 200


def test_a_socket_that_was_not_read_to_its_end_is_called_again(pair) -> None:
    one, other = pair
    ears, got = Ears(), []

    def read_one() -> None:
        if may_read(one):
            got.append(receive(one))
            ears.touch(one)

    ears.add(one, read_one)
    for _ in range(50):
        other.send(b"x")
    while len(got) < 50:
        assert waited(ears)


def test_a_message_in_parts_is_put_together(pair) -> None:
    one, other = pair
    other.send_multipart([b"a", b"b", b"c"])
    assert one.poll(5000)
    assert receive(one) == b"abc"
    with pytest.raises(zmq.Again):
        receive(one)
