"""Requests of one connection: who waits, who has left, and whose time is over."""

from __future__ import annotations

import collections

import pytest

from raft_actors.errors import Unauthorized
from raft_actors.transport.frames import MOST_TOGETHER, Answer, Ask, GetStatus, Operation, Submit, Welcome, unpack
from raft_actors.transport.zeromq.ears import Ears
from raft_actors.transport.zeromq.lanes import TOGETHER, WIDE
from raft_actors.transport.zeromq.link import Link
from raft_actors.transport.zeromq.pending import BESIDE, FOREVER, LOOKS, Pending, Requests


class Question(Pending):
    def __init__(self, number: int, deadline: float, asked: Operation | None = None, to: str = "s1") -> None:
        super().__init__("h:1", to, deadline)
        self.id = number
        self.asked = asked or GetStatus()
        self.results: list[object] = []

    def operation(self, *, pickle: bool) -> Operation:
        return self.asked

    def done(self, result: object) -> None:
        self.results.append(result)


@pytest.fixture
def requests() -> Requests:
    return Requests()


def leave(requests: Requests) -> list[int]:
    """All that wait leave; their numbers."""
    body = requests.batch(lambda several, now: [one.ask(now, pickle=False) for one in several], TOGETHER)
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


@pytest.mark.parametrize(
    ("own", "role", "room"),
    [
        ("", "peer", WIDE),
        ("", "insecure", WIDE),
        ("10.0.0.2:7001", "peer", TOGETHER),
        ("", "writer", TOGETHER),
        ("", "trusted", TOGETHER),
    ],
)
def test_frames_are_larger_where_no_heartbeat_goes_the_same_way_and_none_of_a_guest_is(own, role, room) -> None:
    link = Link(None, "10.0.0.1:7001", own, None, Ears(), lambda *_: None, collections.Counter())
    sent: list[bytes] = []
    link._put = lambda frame: not sent.append(frame)  # type: ignore[method-assign]
    link._take(Welcome(1, role))
    size = 2000
    for number in range(400):
        link.ask(Question(number, 1e9, Submit(bytes(size), "plain")))
    link.send()
    together = [len(unpack(frame).asks) for frame in sent]
    assert sum(together) == 400
    assert max(together) == room // (size + BESIDE) + 1


def test_of_the_smallest_requests_as_many_leave_together_as_the_other_side_takes(requests) -> None:
    for number in range(MOST_TOGETHER + 1):
        requests.add(Question(number, 1e9))
    assert [len(leave(requests)), len(leave(requests))] == [MOST_TOGETHER, 1]


def test_a_batch_is_cut_by_what_its_requests_have_become_which_may_be_far_more_than_was_given(requests) -> None:
    class Swelling(Question):
        def operation(self, *, pickle: bool) -> Operation:
            return Submit(bytes(TOGETHER), "plain")

    for number in range(5):
        requests.add(Swelling(number, 1e9))
    assert [len(leave(requests)) for _ in range(5)] == [1] * 5


def test_of_those_that_leave_together_who_cannot_be_at_that_node_is_told_so_and_the_others_leave() -> None:
    link = Link(None, "10.0.0.1:7001", "", None, Ears(), lambda *_: None, collections.Counter())
    link._server.may_be = lambda peer: peer != "s2"  # type: ignore[method-assign]
    sent: list[bytes] = []
    link._put = lambda frame: not sent.append(frame)  # type: ignore[method-assign]
    asked = [Question(number, 1e9, to=f"s{number}") for number in (1, 2, 3)]
    for one in asked:
        link.ask(one)
    link._take(Welcome(1, "peer"))
    link.send()
    assert [[ask.to for ask in unpack(frame).asks] for frame in sent] == [["s1", "s3"]]
    assert [len(one.results) for one in asked] == [0, 1, 0]
    assert isinstance(asked[1].results[0], Unauthorized)
