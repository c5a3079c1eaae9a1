"""Who has something to send borrows the turn of a wire that sleeps; nothing is left lying, and nobody waits for it."""

from __future__ import annotations

import queue
import random
import select
import threading
import time

import pytest

from raft_actors.errors import RaftError, Timeout, UnknownPeer
from raft_actors.protocol.messages import RequestVote
from raft_actors.protocol.types import NOWHERE
from raft_actors.transport.frames import Answer, Letter
from raft_actors.transport.zeromq import link, wire
from raft_actors.transport.zeromq.ears import Ears
from raft_actors.transport.zeromq.turns import Turns
from raft_actors.transport.zeromq.wire import FEW, Wire
from tests.network.asking import request
from tests.network.echoing import PATIENCE, Asker, Echo, Gate, eventually

pytestmark = pytest.mark.usefixtures("long_sleep")


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


def answered_meanwhile(monkeypatch, asker, echo, what: object, name: str) -> queue.SimpleQueue:
    """Whoever sends by ``what.name`` is so slow that an answer to somebody else wakes the thread before he is done."""
    echo.held = []
    first = asker.ask("first")
    eventually(lambda: echo.held)
    asker.asleep()
    real = getattr(what, name)

    def slow(*args: object) -> object:
        monkeypatch.undo()
        done = real(*args)
        echo.held.pop(0)()
        eventually(lambda: not asker.wire._turns.asleep)
        return done

    monkeypatch.setattr(what, name, slow)
    return first


def test_an_answer_that_comes_while_somebody_sends_hides_no_earlier_deadline(asker, echo) -> None:
    with pytest.MonkeyPatch.context() as patch:
        link = asker.wire._links[echo.address]
        first = answered_meanwhile(patch, asker, echo, link, "ask_now")
        second = asker.ask("second", patience=0.1)
    assert isinstance(second.get(timeout=PATIENCE / 2), Timeout)
    assert isinstance(first.get(timeout=PATIENCE), Answer)


def test_an_answer_that_comes_while_somebody_posts_hides_no_connection_that_is_to_be_made(asker, echo) -> None:
    other = Echo()
    with pytest.MonkeyPatch.context() as patch:
        first = answered_meanwhile(patch, asker, echo, asker.wire, "_send_over")
        poster = threading.Thread(target=asker.wire.post, args=(other.address, letter()))
        poster.start()
        poster.join(PATIENCE)
    assert isinstance(first.get(timeout=PATIENCE), Answer)
    eventually(lambda: other.letters)
    other.close()
