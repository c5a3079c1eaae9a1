"""Who has something to send borrows the turn of a wire that sleeps; nothing is left lying, and nobody waits for it."""

from __future__ import annotations

import queue
import random
import select
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from raft_actors.errors import RaftError, Timeout, UnknownPeer
from raft_actors.protocol.messages import RequestVote
from raft_actors.protocol.types import NOWHERE
from raft_actors.transport.frames import Answer, Ask, Asks, Hello, Letter, Post, Welcome
from raft_actors.transport.zeromq import link, wire
from raft_actors.transport.zeromq.door import Reply
from raft_actors.transport.zeromq.ears import Ears
from raft_actors.transport.zeromq.turns import Turns
from raft_actors.transport.zeromq.wire import FEW, Wire
from tests.network.asking import request

PATIENCE = 10.0


def eventually(look: Callable[[], object]) -> None:
    end, pause = time.monotonic() + PATIENCE, threading.Event()
    while not look():
        assert time.monotonic() < end, "did not come true"
        pause.wait(0.001)


class Echo:
    """A node that answers requests from threads of its own, as machines do; ``held``: it keeps them for now."""

    def __init__(self, threads: int = 3) -> None:
        self.wire = Wire(None)
        self.wire.serve(self._take, lambda *_: None)
        self.address = f"127.0.0.1:{self.wire.listen('127.0.0.1', 0)}"
        self.frames: list[int] = []
        self.letters = 0
        self.held: list[Callable[[], None]] | None = None
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for one in self._threads:
            one.start()
        self.wire.start()

    def _run(self) -> None:
        while (job := self._work.get()) is not None:
            job()

    def _take(self, incoming) -> None:
        body = incoming.body
        if isinstance(body, Hello):
            self.wire.reply(Reply(incoming.route, 1, Welcome(1)))
        elif isinstance(body, Post):
            self.letters += len(body.letters)
        else:
            asks = body.asks if isinstance(body, Asks) else (body,)
            self.frames.append(len(asks))
            for ask in asks:
                self._answer(incoming.route, ask)

    def _answer(self, route: bytes, ask: Ask) -> None:
        def job() -> None:
            self.wire.reply(Reply(route, 1, Answer(ask.id, ask.to.encode())), alone=bool(ask.id % 2))

        if self.held is None:
            self._work.put(job)
        else:
            self.held.append(job)

    def release(self) -> None:
        held, self.held = self.held, None
        for job in held or ():
            self._work.put(job)

    def close(self) -> None:
        self.wire.close()
        for _ in self._threads:
            self._work.put(None)


@pytest.fixture(autouse=True)
def long_sleep(monkeypatch) -> None:
    """Nothing heals by itself: what nobody wakes the thread for is never done."""
    monkeypatch.setattr(wire, "LONGEST_SLEEP", 60.0)


@pytest.fixture
def echo() -> Iterator[Echo]:
    one = Echo()
    yield one
    one.close()


class Asker:
    """A wire without a door."""

    def __init__(self, echo: Echo) -> None:
        self.wire, self.echo = Wire(None), echo
        self.wire.start()
        assert isinstance(self.ask().get(timeout=PATIENCE), Answer)
        self.asleep()

    def asleep(self) -> None:
        eventually(lambda: self.wire._turns.asleep)

    def ask(self, to: str = "s1", patience: float = PATIENCE) -> queue.SimpleQueue:
        results: queue.SimpleQueue[object] = queue.SimpleQueue()
        deadline = time.monotonic() + patience
        request(self.wire, self.echo.address, to, deadline, results.put)
        return results


@pytest.fixture
def asker(echo) -> Iterator[Asker]:
    one = Asker(echo)
    yield one
    one.wire.close()


class Gate:
    """Keeps the thread of a wire between the moment in which others may send and the look at its descriptors."""

    def __init__(self, one: Wire) -> None:
        self.open, self.closed = threading.Event(), threading.Event()
        self.wire, self._sleep = one, one._ears.sleep
        one._ears.sleep = self.sleep
        one._wake()
        assert self.closed.wait(PATIENCE)
        eventually(lambda: one._turns.asleep)

    def sleep(self, seconds: float) -> list[tuple[int, int]]:
        if seconds > 0 and not self.open.is_set():
            self.closed.set()
            assert self.open.wait(PATIENCE)
        return self._sleep(seconds)


# -- the turn ----------------------------------------------------------------------------------------------------------


def test_the_turn_of_one_who_is_awake_is_not_to_be_had() -> None:
    turns = Turns()
    assert not turns.borrow(lambda: True)
    turns.asleep = True
    assert turns.borrow(lambda: True)
    assert not turns.borrow(lambda: False)


def test_who_has_the_turn_does_not_get_it_a_second_time() -> None:
    turns, inner = Turns(), []
    turns.asleep = True
    assert turns.borrow(lambda: inner.append(turns.borrow(lambda: True)) is None)
    assert inner == [False]


def test_the_owner_waits_for_who_has_borrowed_and_then_nobody_gets_the_turn() -> None:
    turns, begun, end = Turns(), threading.Event(), threading.Event()
    turns.asleep = True
    borrower = threading.Thread(target=turns.borrow, args=(lambda: begun.set() is None and end.wait(PATIENCE),))
    borrower.start()
    assert begun.wait(PATIENCE)
    taken = threading.Event()
    owner = threading.Thread(target=lambda: (turns.take(), taken.set()))
    owner.start()
    assert not turns.borrow(lambda: True)
    assert not taken.is_set()
    end.set()
    assert taken.wait(PATIENCE)
    assert not turns.borrow(lambda: True)
    borrower.join(PATIENCE)
    owner.join(PATIENCE)


def test_one_who_is_interrupted_does_not_keep_the_turn() -> None:
    turns = Turns()
    turns.asleep = True

    def interrupted() -> bool:
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            turns.borrow(interrupted)
    other = threading.Thread(target=turns.take, daemon=True)
    other.start()
    other.join(PATIENCE)
    assert not other.is_alive()


# -- the wire ----------------------------------------------------------------------------------------------------------


def test_a_request_leaves_without_waking_the_thread(asker, echo) -> None:
    gate = Gate(asker.wire)
    results = asker.ask()
    eventually(lambda: echo.frames == [1, 1])  # it has arrived, while the thread is held at the gate
    gate.open.set()
    assert isinstance(results.get(timeout=PATIENCE), Answer)


def test_requests_behind_open_ones_wait_to_leave_together(asker, echo) -> None:
    echo.held = []
    gate = Gate(asker.wire)
    results = [asker.ask(patience=1000) for _ in range(100)]
    gate.open.set()
    eventually(lambda: sum(echo.frames) == 101)
    assert echo.frames == [1, *[1] * (FEW + 1), 100 - FEW - 1]
    echo.release()
    assert all(isinstance(one.get(timeout=PATIENCE), Answer) for one in results)


def hint_taken(asker: Asker, echo: Echo) -> None:
    """An answer comes while the thread is about to look; another request takes the hint of it."""
    echo.held = []
    first = asker.ask()
    eventually(lambda: len(echo.held) == 1)
    gate = Gate(asker.wire)
    echo.held.pop()()
    socket = asker.wire._links[echo.address]._socket
    assert select.select([socket.get(wire.zmq.FD)], [], [], PATIENCE)[0]
    asker.ask("s2")
    gate.open.set()
    assert isinstance(first.get(timeout=2), Answer)


def test_who_takes_the_hint_that_something_has_come_wakes_the_thread(asker, echo) -> None:
    hint_taken(asker, echo)


def test_without_that_look_an_answer_is_left_lying_and_the_test_sees_it(asker, echo, monkeypatch) -> None:
    def blind(self: Ears) -> bool:
        self.ask()
        return False

    monkeypatch.setattr(Ears, "restless", blind)
    with pytest.raises(queue.Empty):
        hint_taken(asker, echo)


def test_a_deadline_earlier_than_the_sleep_wakes_the_thread(asker, echo) -> None:
    echo.held = []
    assert isinstance(asker.ask(patience=0.05).get(timeout=PATIENCE), Timeout)


def test_an_interrupted_request_leaves_the_wire_as_it_was(asker, monkeypatch) -> None:
    def interrupted(*_: object) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(link, "pack", interrupted)
        with pytest.raises(KeyboardInterrupt):
            asker.ask()
    assert isinstance(asker.ask().get(timeout=PATIENCE), Answer)


def test_the_main_thread_sends_nothing_of_others(asker, echo) -> None:
    gate = Gate(asker.wire)
    asker.wire.post(echo.address, letter())
    assert asker.wire._queue
    gate.open.set()
    eventually(lambda: echo.letters == 1)


def test_what_is_asked_for_in_the_answer_to_a_request_is_answered(asker) -> None:
    done: queue.SimpleQueue[object] = queue.SimpleQueue()
    deadline = time.monotonic() + PATIENCE

    def refused():
        raise UnknownPeer("s1")

    def again(_: object) -> None:
        request(asker.wire, asker.echo.address, "s1", deadline, done.put)

    request(asker.wire, asker.echo.address, "s1", deadline, again, make=refused)  # it fails where it is made
    assert isinstance(done.get(timeout=PATIENCE), Answer)


def letter() -> Letter:
    vote = RequestVote(cluster="", sender="s9", incarnation="x", receiver="", term=1, last=NOWHERE)
    return Letter("s1", vote)


def crowd(asker: Asker, echo: Echo, threads: int, each: int, patience: float = PATIENCE) -> list[object]:
    """Many threads ask and send letters, each now and then without waiting for the answer; what they were answered."""
    answers: queue.SimpleQueue[object] = queue.SimpleQueue()

    def ask(seed: int) -> None:
        dice = random.Random(seed)
        waiting: list[queue.SimpleQueue] = []
        for _ in range(each):
            asker.wire.post(echo.address, letter())
            waiting.append(asker.ask(patience=patience))
            if dice.random() < 0.7:
                for one in waiting:
                    answers.put(one.get(timeout=2 * PATIENCE))
                waiting.clear()
        for one in waiting:
            answers.put(one.get(timeout=2 * PATIENCE))

    several = [threading.Thread(target=ask, args=(seed,), daemon=True) for seed in range(threads)]
    for one in several:
        one.start()
    for one in several:
        one.join(6 * PATIENCE)
        assert not one.is_alive(), "somebody is left without an answer"
    return [answers.get_nowait() for _ in range(answers.qsize())]


def test_many_threads_at_once_lose_nothing_and_are_all_answered(asker, echo) -> None:
    got = crowd(asker, echo, threads=8, each=150)
    assert len(got) == 8 * 150
    assert all(isinstance(one, Answer) for one in got)
    eventually(lambda: echo.letters == 8 * 150)


@pytest.mark.parametrize("whose", ["own", "other"])
def test_a_close_in_the_middle_leaves_nobody_without_an_answer(asker, echo, whose) -> None:
    closing = asker.wire if whose == "own" else echo.wire
    timer = threading.Timer(0.05, closing.close)
    timer.start()
    got = crowd(asker, echo, threads=8, each=60, patience=1.0)
    timer.join(PATIENCE)
    assert len(got) == 8 * 60
    assert all(isinstance(one, Answer | RaftError) for one in got)


def test_a_beat_that_a_peer_asks_for_in_its_turn_is_said_at_once(monkeypatch) -> None:
    said: queue.SimpleQueue[float] = queue.SimpleQueue()
    beating = Wire(None)
    beating.serve(lambda _: None, lambda *_: None, lambda now: said.put(now) or float("inf"))
    turns = [beating.beat_soon]
    monkeypatch.setattr(wire, "lend_all", lambda: [turns.pop()() for _ in turns])
    begin = time.monotonic()
    beating.start()
    assert said.get(timeout=PATIENCE) - begin < wire.LONGEST_SLEEP / 2
    beating.close()
