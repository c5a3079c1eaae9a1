"""The inbox: deadlines, drain, close."""

from __future__ import annotations

import threading
import time

import pytest
from pykka._envelope import Envelope

from raft_actors.mailbox import Channel, WorkChannel, is_wake


def test_what_was_posted_is_taken_at_once_and_in_order() -> None:
    channel = Channel()
    assert all(channel.post(number) for number in range(1000))
    channel.get()
    assert channel.take() == list(range(1000))
    assert channel.take() == []


def test_every_wake_up_only_says_look() -> None:
    channel = Channel()
    channel.post("anything")
    assert is_wake(channel.get().message)


def test_get_returns_at_the_deadline_although_nothing_came() -> None:
    channel = Channel()
    begin = time.monotonic()
    channel.deadline = begin + 0.05
    channel.get()
    assert 0.05 <= time.monotonic() - begin < 1.0
    assert channel.take() == []


def test_a_deadline_that_has_passed_does_not_wait() -> None:
    channel = Channel()
    channel.deadline = time.monotonic() - 10
    begin = time.monotonic()
    channel.get()
    assert time.monotonic() - begin < 0.5


def test_a_post_wakes_before_the_deadline() -> None:
    channel = Channel()
    channel.deadline = time.monotonic() + 30
    sleeping = threading.Event()

    def post() -> None:
        sleeping.wait(5)
        channel.post("hello")

    thread = threading.Thread(target=post)
    thread.start()
    sleeping.set()
    channel.get()
    thread.join()
    assert channel.take() == ["hello"]


def test_a_post_at_the_very_deadline_is_neither_lost_nor_counted_twice() -> None:
    channel = Channel()
    stop = threading.Event()
    posted = 0

    def post() -> None:
        nonlocal posted
        while not stop.is_set():
            channel.post(posted)
            posted += 1
            stop.wait(0.0001)

    thread = threading.Thread(target=post)
    thread.start()
    taken: list[int] = []
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        channel.deadline = time.monotonic() + 0.0001  # so that both happen together all the time
        channel.get()
        taken += channel.take()
    stop.set()
    thread.join()
    taken += channel.take()
    assert taken == list(range(posted))


def test_close_hands_back_what_was_not_taken_and_turns_away_the_rest() -> None:
    channel = Channel()
    channel.post(1)
    channel.post(2)
    assert channel.close() == [1, 2]
    assert channel.closed
    assert channel.post(3) is False
    assert channel.take() == []
    assert channel.close() == []


def test_close_wakes_its_owner() -> None:
    channel = Channel()
    woken = threading.Event()

    def own() -> None:
        channel.get()
        woken.set()

    thread = threading.Thread(target=own)
    thread.start()
    channel.close()
    assert woken.wait(5)
    thread.join()


def test_an_item_is_either_handed_over_or_refused_when_posts_race_the_close() -> None:
    for _ in range(30):
        channel = Channel()
        accepted: list[list[int]] = [[], [], []]
        go = threading.Barrier(4)

        def post(lane: int, go: threading.Barrier = go, channel: Channel = channel, accepted=accepted) -> None:
            go.wait()
            for number in range(lane * 1000, lane * 1000 + 300):
                if channel.post(number):
                    accepted[lane].append(number)

        threads = [threading.Thread(target=post, args=(lane,)) for lane in range(3)]
        for thread in threads:
            thread.start()
        go.wait()
        handed = channel.take() + channel.take() + channel.close()
        for thread in threads:
            thread.join()
        assert sorted(handed) == sorted(number for lane in accepted for number in lane)


def test_a_paused_owner_stands_still_until_it_is_resumed() -> None:
    channel = Channel()
    turns = threading.Semaphore(0)
    end = threading.Event()

    def own() -> None:
        while not end.is_set():
            channel.get()
            channel.take()
            turns.release()

    thread = threading.Thread(target=own)
    thread.start()
    channel.post("before")
    assert turns.acquire(timeout=5)
    channel.pause()
    channel.post("while it is frozen")
    assert not turns.acquire(timeout=0.1)
    channel.resume()
    assert turns.acquire(timeout=5)
    end.set()
    channel.close()
    thread.join(5)
    assert not thread.is_alive()


def test_pausing_and_resuming_all_the_time_breaks_nothing() -> None:
    channel = Channel()
    taken: list[int] = []

    def own() -> None:
        while not channel.closed:
            channel.get()
            taken.extend(channel.take())

    thread = threading.Thread(target=own)
    thread.start()
    for number in range(2000):
        channel.pause()
        channel.post(number)
        channel.resume()
    left = channel.close()
    thread.join(5)
    assert not thread.is_alive()
    assert taken + left == list(range(2000))


def test_what_pykka_sends_to_a_worker_goes_to_its_peer() -> None:
    seen: list[Envelope] = []
    channel = WorkChannel(seen.append)
    envelope: Envelope = Envelope("stop")
    channel.put(envelope)
    assert seen == [envelope]
    assert channel.take() == []


@pytest.mark.parametrize("kind", [Channel, lambda: WorkChannel(lambda _: None)])
def test_pykka_never_looks_for_leftovers_in_it(kind) -> None:
    channel = kind()
    channel.post("something")
    assert channel.empty()
