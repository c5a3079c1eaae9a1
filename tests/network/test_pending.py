"""Requests of one connection: who waits, who has left, and whose time is over."""

from __future__ import annotations

import pytest

from raft_actors.transport.frames import Answer, Ask, GetStatus
from raft_actors.transport.zeromq.pending import FOREVER, LOOKS, Pending, Requests


class Question(Pending):
    def __init__(self, number: int, deadline: float) -> None:
        super().__init__("h:1", "s1", deadline)
        self.id = number
        self.results: list[object] = []

    def operation(self, *, pickle: bool) -> GetStatus:
        return GetStatus()

    def done(self, result: object) -> None:
        self.results.append(result)


@pytest.fixture
def requests() -> Requests:
    return Requests()


def leave(requests: Requests) -> list[int]:
    """All that wait leave; their numbers."""
    body = requests.batch(lambda pending, now: pending.ask(now, pickle=False))
    requests.batch_left()
    return [one.id for one in ((body,) if isinstance(body, Ask) else body.asks)]


def test_the_next_look_is_at_the_earliest_deadline(requests) -> None:
    assert requests.due == FOREVER
    for number, deadline in enumerate((5.0, 3.0, 4.0), 1):
        requests.add(Question(number, deadline))
    assert requests.due == 3.0


def test_one_that_left_past_the_others_is_looked_at_as_well(requests) -> None:
    requests.left(Question(1, 2.0))
    assert requests.due == 2.0
    assert [(one.id, left) for one, left in requests.expired(2.0)] == [(1, True)]


def test_those_whose_time_is_over_are_given_up_and_the_others_go_on(requests) -> None:
    first, second, third = (Question(number, deadline) for number, deadline in ((1, 1.0), (2, 9.0), (3, 1.5)))
    requests.add(first)
    requests.add(second)
    assert leave(requests) == [1, 2]
    requests.add(third)
    assert [(one.id, left) for one, left in requests.expired(2.0)] == [(3, False), (1, True)]
    assert requests.due == 9.0
    requests.answered([Answer(1), Answer(2)])
    assert (first.results, second.results) == ([], [Answer(2)])


def test_of_many_whose_deadlines_differ_a_little_not_each_is_a_look(requests) -> None:
    for number in range(100):
        requests.add(Question(number, 1.0 + number / 10_000))
    assert len(requests.expired(1.0)) == 1
    assert requests.due == 1.0 + LOOKS
    assert len(requests.expired(requests.due)) == 50


def test_a_deadline_of_one_that_was_answered_costs_one_look(requests) -> None:
    requests.add(Question(1, 1.0))
    leave(requests)
    requests.answered([Answer(1)])
    assert requests.expired(1.0) == []
    assert requests.due == FOREVER


def test_the_second_answer_to_a_request_is_passed_over(requests) -> None:
    question = Question(1, 1.0)
    requests.add(question)
    leave(requests)
    requests.answered([Answer(1, b"a"), Answer(1, b"b"), Answer(7)])
    assert question.results == [Answer(1, b"a")]


@pytest.mark.parametrize(("deadline", "patience"), [(3.0, 2.0), (1.0, 0.001), (1e12, 1e9)])
def test_the_other_side_is_given_the_time_that_is_left_within_the_bounds_of_a_frame(deadline, patience) -> None:
    assert Question(1, deadline).ask(1.0, pickle=False).patience == patience
