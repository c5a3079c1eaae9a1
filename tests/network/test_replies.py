"""Answers on their way to a frame: who is told of them, and which leave together."""

from __future__ import annotations

import collections
import threading
from types import SimpleNamespace

import pytest

from raft_actors.transport.frames import MOST_TOGETHER, Answer, Answers, Failed, Welcome
from raft_actors.transport.zeromq.lanes import TOGETHER
from raft_actors.transport.zeromq.replies import Reply, Returns, Together

ASKED = SimpleNamespace(route=b"r", version=1)
ANSWERING = 4


def ids(reply: Reply) -> list[int]:
    return [body.id for body in reply.bodies]


def test_the_wire_is_told_of_the_first_answer_and_finds_the_others_with_it() -> None:
    returns = Returns(ASKED)
    assert [returns.add(Answer(number)) for number in range(3)] == [True, False, False]
    assert ids(returns.take()) == [0, 1, 2]


def test_of_what_comes_after_the_look_the_wire_is_told_again() -> None:
    returns = Returns(ASKED)
    returns.add(Answer(1))
    returns.take()
    assert returns.add(Answer(2))
    assert ids(returns.take()) == [2]


def test_a_second_look_finds_nothing() -> None:
    returns = Returns(ASKED)
    returns.add(Answer(1))
    returns.take()
    assert returns.take() == Reply(b"r", 1, [], 0, ASKED)


def test_no_answer_is_lost_or_sent_twice_whoever_gives_it_at_whatever_moment() -> None:
    each = 2000
    returns, told, found = Returns(ASKED), threading.Semaphore(0), list[int]()

    def answer(begin: int) -> None:
        for number in range(begin, begin + each):
            if returns.add(Answer(number)):
                told.release()

    threads = [threading.Thread(target=answer, args=(number * each,)) for number in range(ANSWERING)]
    for thread in threads:
        thread.start()
    while len(found) < ANSWERING * each and told.acquire(timeout=10.0):  # as the wire, which looks when it is told
        found += ids(returns.take())
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(ANSWERING * each))


class Busy(collections.deque):
    """Where another thread brings an answer right after it was seen how many there are."""

    bring = staticmethod(lambda: None)

    def __len__(self) -> int:
        found, bring, self.bring = super().__len__(), self.bring, lambda: None
        bring()
        return found


class LooksFirst(Returns):
    """The planted fault: the wire says that it looks after it has looked."""

    def take(self) -> Reply:
        bodies = [self._bodies.popleft() for _ in range(len(self._bodies))]
        self._told = False
        return Reply(self.asked.route, self.asked.version, bodies, 0, self.asked)


@pytest.mark.parametrize(("kind", "told_again"), [(Returns, True), (LooksFirst, False)])
def test_what_comes_during_the_look_is_told_again_which_another_order_would_not_do(kind, told_again) -> None:
    returns, told = kind(ASKED), list[bool]()
    returns._bodies = Busy()
    returns.add(Answer(1))
    returns._bodies.bring = lambda: told.append(returns.add(Answer(2)))
    assert ids(returns.take()) == [1]
    assert told == [told_again]


@pytest.mark.parametrize(
    ("size", "fit"), [(0, MOST_TOGETHER), (TOGETHER // 4, 4), (TOGETHER // 4 + 1, 3), (2 * TOGETHER, 1)]
)
def test_as_many_answers_leave_together_as_a_frame_takes(size, fit) -> None:
    frame, count = Together(), 0
    while frame.add(Answer(count, bytes(size)), 0, None):
        count += 1
    assert count == fit
    assert frame.asked == [None] * fit


def test_what_is_no_answer_to_a_request_leaves_alone() -> None:
    frame = Together()
    assert frame.add(Welcome(1), 0, None)
    assert not frame.add(Answer(1), 0, None)
    assert frame.body() == Welcome(1)
    frame = Together()
    assert frame.add(Answer(1), 0, None)
    assert not frame.add(Welcome(1), 0, None)
    assert frame.body() == Answer(1)


def test_a_frame_knows_how_much_of_it_was_counted_and_so_does_each_of_its_parts() -> None:
    frame = Together()
    frame.add(Answer(1, bytes(3000)), 3000, "first")
    frame.add(Failed(2, "RaftError", "no"), 0, "second")
    assert frame.entered == 3000
    assert frame.body() == Answers((Answer(1, bytes(3000)), Failed(2, "RaftError", "no")))
    apart = list(frame.apart())
    assert [(one.entered, one.asked) for one in apart] == [(3000, ["first"]), (0, ["second"])]
