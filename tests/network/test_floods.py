"""Whoever sends too much, too slowly, or takes nothing: others are served at once, and the memory stays bounded."""

from __future__ import annotations

import contextlib
import os
import socket
import time

import pytest
import zmq

from raft_actors.serving_limits import MOST_OF_A_KEY, MOST_OPEN
from raft_actors.transport.frames import (
    Answer,
    Ask,
    Failed,
    FindLeader,
    GetStatus,
    Hello,
    Query,
    Submit,
    pack,
)
from raft_actors.transport.zeromq.door import MOST_PIECES
from tests.network.guarded import PLAIN, Guarded, Stranger, counts, is_refused, works
from tests.processes.tools import eventually

MIB = 1 << 20


@pytest.fixture
def node(tmp_path):
    """A node with keys, whose memory nobody else has touched."""
    one = Guarded(tmp_path)
    yield one
    one.close()


@pytest.fixture
def good(node):
    """A client with the role of a writer, which was there before."""
    with Stranger(node, node.let_in("writer", "good")) as client:
        works(node, client)
        yield client


def place(node: Guarded) -> tuple[str, int]:
    host, _, port = node.address.rpartition(":")
    return host, int(port)


def grown(node: Guarded, since: int) -> int:
    """MiB of memory that it has more than then."""
    return (node.seen()["rss"] - since) // MIB


GREETINGS = [b"", b"\xff", b"\xff\0\0\0\0\0\0\0\1\x7f\3\1", b"GET / HTTP/1.1\r\n\r\n", bytes(64)]


def test_a_thousand_connections_that_say_nothing_keep_nobody_out_who_is_in(node, good) -> None:
    begun = node.seen()
    with contextlib.ExitStack() as stack:
        for number in range(1000):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(place(node))
            with contextlib.suppress(OSError):
                one.send(GREETINGS[number % len(GREETINGS)])
        works(node, good)
        counts(node, "too many connections", 0)
        works(node, good)
    assert grown(node, begun["rss"]) < 64
    keys = node.let_in("writer")
    with Stranger(node, keys) as late:
        assert late.greets() is not None


def test_who_does_not_finish_the_greeting_is_thrown_out_in_time(node, good) -> None:
    with socket.create_connection(place(node)) as loris:
        loris.settimeout(10)
        loris.send(b"\xff\0\0")
        begun = time.monotonic()
        while loris.recv(64):
            pass
        assert time.monotonic() - begun < 6
        works(node, good)
    counts(node, "no handshake", 0)


def test_ten_thousand_requests_in_flight_are_answered_or_refused_and_bounded(node, good) -> None:
    begun = node.seen()
    with Stranger(node, node.let_in("reader")) as flood:
        flood.socket.setsockopt(zmq.SNDHWM, 0)
        flood.socket.setsockopt(zmq.RCVHWM, 0)
        assert flood.greets()
        waiting = Query(PLAIN.encode(("get", "a")), "plain", "stale", 2**60)
        for number in range(10_000):
            flood.send(Ask(number, "s1", 1e9, waiting))
        counts(node, "too many requests", 10_000 - 4097)
        works(node, good)
        answers = [flood.hears() for _ in range(10_000 - 4096)]
        assert all(isinstance(one, Failed) and one.kind == "Overloaded" for one in answers)
    assert grown(node, begun["rss"]) < 64


def fill(node: Guarded, stack: contextlib.ExitStack) -> None:
    """Twice as many requests that wait as one key may have, over connections of one key that stay."""
    keys = node.let_in("reader")
    for _ in range(2 * MOST_OF_A_KEY // MOST_OPEN):
        one = stack.enter_context(Stranger(node, keys))
        assert one.greets()
        for number in range(MOST_OPEN):
            one.send(Ask(number, "s1", 1e9, Query(b"\1", "plain", "stale", 2**60)))


def test_readers_do_not_take_all_the_room_for_requests_that_wait(node, good) -> None:
    with contextlib.ExitStack() as stack:
        for keys in (1, 2):  # one after the other: all at once may fill the peer before any key has its share
            fill(node, stack)
            counts(node, "too many requests", keys * MOST_OF_A_KEY - 1)
        works(node, good)
        fill(node, stack)  # a third key: now the peer is full
        eventually(lambda: is_refused(good.writes("b", 1), "Overloaded"))
        admin = stack.enter_context(Stranger(node, node.let_in("admin")))
        assert isinstance(admin.asks(FindLeader()), Answer)


def test_answers_that_nobody_takes_are_let_go(node, good) -> None:
    assert isinstance(good.asks(Submit(PLAIN.encode(("set", "large", os.urandom(2 * MIB))), "plain")), Answer)
    begun = node.seen()
    with Stranger(node, node.let_in("reader")) as greedy:
        greedy.socket.setsockopt(zmq.RCVHWM, 1)
        greedy.greets()
        for number in range(400):
            greedy.send(Ask(number, "s1", 60.0, Query(PLAIN.encode(("get", "large")), "plain", "stale")))
        counts(node, "an answer that nobody took", 100)
        works(node, good)
        assert (node.seen()["peak"] - begun["rss"]) // MIB < 256
        refused = 0
        for _ in range(400):
            one = greedy.hears()
            refused += is_refused(one, "Overloaded")
            assert isinstance(one, Answer) or is_refused(one, "Overloaded")
        assert refused == node.refused("an answer that nobody took")
    works(node, good)


def test_large_requests_that_take_long_keep_nobody_from_being_served(node, good) -> None:
    begun = node.seen()
    many = b"\xdd" + (4_000_001).to_bytes(4, "big") + b"\1" * 4_000_001  # a list, and tag 1 says so
    with Stranger(node, node.let_in("reader")) as one, Stranger(node, node.let_in("reader")) as other:
        for stranger in (one, other):
            assert stranger.greets()
            for number in range(50):
                stranger.send(Ask(number, "s1", 5.0, Query(many, "plain", "stale")))
        for _ in range(5):
            works(node, good)
        assert grown(node, begun["rss"]) < 1200
    eventually(lambda: len(node.seen()["refused"]) > 0)


def test_frames_that_are_too_large_end_the_connection(node, good) -> None:
    begun = node.seen()
    with Stranger(node, node.let_in("writer")) as large:
        assert large.greets()
        large.send(bytes(80 * MIB))
        works(node, good)
    assert grown(node, begun["rss"]) < 64


def test_who_has_not_greeted_may_not_send_much(node, good) -> None:
    begun = node.seen()
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            one = stack.enter_context(socket.create_connection(place(node)))
            one.settimeout(5)
            one.send(b"\xff\0\0\0\0\0\0\0\1\x7f\3\1" + b"CURVE".ljust(20, b"\0") + bytes(32))
            with contextlib.suppress(OSError):
                one.sendall(b"\6" + (70 * MIB).to_bytes(8, "big") + bytes(20 * MIB))
        works(node, good)
        assert grown(node, begun["rss"]) < 300
    refused = node.seen()["refused"]
    assert refused.get("no handshake", 0) + refused.get("too much that is no frame", 0) >= 20


def test_many_large_frames_are_refused_one_after_the_other(node, good) -> None:
    begun = node.seen()
    frame = pack(Ask(1, "s1", 60.0, Submit(bytes(32 * MIB), "plain")))
    with Stranger(node, node.let_in("writer")) as large:
        assert large.greets()
        for _ in range(16):
            large.send(frame)
        works(node, good)
        answers = [large.hears() for _ in range(16)]
        assert all(isinstance(one, Failed) for one in answers)
        assert grown(node, begun["rss"]) < 512


def test_a_message_of_endlessly_many_parts_ends_the_connection(node, good) -> None:
    begun = node.seen()
    with Stranger(node, node.let_in("reader")) as endless:
        endless.socket.setsockopt(zmq.SNDHWM, 0)
        assert endless.greets()
        part = bytes(MIB)
        for _ in range(600):
            endless.socket.send(part, zmq.SNDMORE, copy=False)
        endless.socket.send(b"")  # only now it leaves this process
        counts(node, "too much that is no frame", 0)
        works(node, good)
        assert grown(node, begun["rss"]) < 400


def test_who_sends_in_more_parts_than_a_frame_may_have_loses_the_connection(node, good) -> None:
    with Stranger(node, node.let_in("reader")) as parts:
        assert parts.greets()
        for _ in range(10):
            parts.socket.send_multipart([pack(Hello(1, 1))] * (MOST_PIECES + 1))
        counts(node, "no frame", 0)
        works(node, good)
        eventually(lambda: parts.asks(GetStatus(), patience=0.2) is not None)  # it may come again, and do better
