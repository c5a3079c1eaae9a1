"""The waiting line of a client: who owns a waiting request, and in which order they are sent."""

from __future__ import annotations

import threading
import time

import pytest

from raft_actors.errors import ElectionInProgress, NotApplied, NotLeader, Overloaded, Timeout
from raft_actors.retries import (
    LONGEST_PAUSE,
    LONGEST_QUIET,
    NEVER,
    REDIRECTS,
    TOGETHER,
    Request,
    RetryLine,
    _pause,
)


def request() -> Request:
    return Request()


class Line:
    """A line that notes what is sent, and refuses some of it again."""

    def __init__(self, refuse=()) -> None:
        self.sent: list[int] = []
        self.refuse = list(refuse)
        self.line = RetryLine(self.send)
        self.last = threading.Event()
        self.until: Request | None = None

    def send(self, each: Request) -> None:
        self.sent.append(each.number)
        if each.number in self.refuse:
            self.refuse.remove(each.number)
            self.line.park(each, Overloaded())
        else:
            each.try_set("done")
        if each is self.until and each.done():
            self.last.set()


def test_of_all_who_take_a_refusal_one_gets_it():
    for _ in range(200):
        each, start, taken = request(), threading.Barrier(4), []
        each.park(ElectionInProgress())

        def take(each=each, start=start, taken=taken) -> None:
            start.wait()
            taken.append(each.claim())

        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(one is not None for one in taken) == [False, False, False, True]


def test_a_request_whose_time_runs_out_while_it_waits_is_refused_and_never_sent():
    line, late, other = Line(), request(), request()
    line.until = other
    assert line.line.park(late, ElectionInProgress())
    assert late.try_fail(Timeout())
    with pytest.raises(ElectionInProgress):
        late.get()
    assert line.line.park(other, ElectionInProgress())
    assert line.last.wait(10)
    assert line.sent == [other.number]
    line.line.close()


def test_a_request_whose_time_runs_out_while_it_is_under_way_has_timed_out():
    each = request()
    each.park(ElectionInProgress())
    assert each.claim() is not None
    each.try_fail(Timeout())
    with pytest.raises(Timeout):
        each.get()


def test_requests_are_sent_in_the_order_in_which_they_were_given():
    requests = [request() for _ in range(6)]
    line = Line(refuse=[requests[2].number, requests[2].number, requests[4].number])
    line.until = requests[5]
    with line.line._changed:  # nothing is sent before all of them wait
        for each in reversed(requests):
            assert line.line.park(each, ElectionInProgress())
    assert line.last.wait(10)
    accepted = list(dict.fromkeys(reversed(line.sent)))[::-1]  # the last try of each
    assert accepted == [each.number for each in requests]
    for behind in requests[3:]:
        assert line.sent.index(behind.number) > line.sent.index(requests[2].number) + 1, "sent behind a refused one"
    line.line.close()


def test_who_is_alone_goes_past_those_who_have_more():
    first, second, alone = request(), request(), request()
    alone.alone = True
    line = Line()
    line.until = second
    with line.line._changed:
        for each in (first, second, alone):
            line.line.hold(each, Overloaded())
        line.line.hurry()
    assert line.last.wait(10)
    assert line.sent == [alone.number, first.number, second.number]
    line.line.close()


def test_a_new_request_joins_a_busy_line_and_no_other():
    line, first, second = Line(), request(), request()
    assert not line.line.join(second)
    line.until = second
    with line.line._changed:  # nothing is sent before both of them wait
        assert line.line.park(first, ElectionInProgress())
        assert line.line.join(second)
    assert line.last.wait(10)
    assert line.sent == [first.number, second.number]
    line.line.close()


def test_what_is_held_is_sent_when_others_were_answered_and_not_when_it_was_refused():
    line, held, refused = Line(), request(), request()
    with line.line._changed:  # nothing is sent meanwhile
        assert line.line.hold(held, Overloaded())
        line.line.go_on()
        assert line.line._due == 0.0
        assert line.line.park(refused, ElectionInProgress())
        line.line._due = NEVER
        line.line.go_on()
        assert line.line._due == NEVER, "who was refused waits for his pause"
        line.line.hurry()
    line.until = refused
    assert line.last.wait(10)
    assert line.sent == [held.number, refused.number]
    assert (held.tries, refused.tries) == (0, 1), "who was held was not refused"
    line.line.close()


def test_nobody_is_sent_before_all_that_came_too_early_are_back():
    line, first, *early = Line(), request(), request(), request()
    line.until = early[1]
    with line.line._changed:  # nothing is sent meanwhile
        assert line.line.hold(first, Overloaded())
        assert line.line.settle(early[0], NotApplied(), 0.1)
        due = line.line._due
        assert due >= time.monotonic() + 0.09
        line.line.go_on()
        assert line.line._due == due, "room is no reason to send"
        assert line.line.settle(early[1], NotApplied(), 0.2)
        assert line.line._due > due + 0.05, "one more has come: the others may be on their way"
        assert line.line.settle(request(), NotApplied(), 1e9)
        assert line.line._due <= time.monotonic() + LONGEST_QUIET
    assert line.last.wait(10)
    assert line.sent[:3] == [first.number, early[0].number, early[1].number]
    line.line.close()


def test_what_comes_too_early_while_a_long_line_is_sent_stops_it():
    requests = [request() for _ in range(2 * TOGETHER)]
    early = request()
    line = Line()
    line.until = requests[-1]
    send = line.line._send

    def sent(each: Request) -> None:
        send(each)
        if each is requests[0]:  # as if the answer to one that left before came just now
            early.number = -1
            line.line.settle(early, NotApplied(), 0.05)

    line.line._send = sent
    with line.line._changed:
        for each in requests:
            line.line.hold(each, Overloaded())
        line.line.hurry()
    assert line.last.wait(10)
    assert line.sent.index(early.number) == TOGETHER, "what was taken out of the line goes on, the rest is behind it"
    line.line.close()


def test_a_long_line_is_sent_in_its_order_and_who_is_late_in_it_is_answered_though_the_first_is_refused():
    requests = [request() for _ in range(3 * TOGETHER)]
    late = requests[2 * TOGETHER]
    late.deadline = time.monotonic() + 0.1
    answered = threading.Event()
    late.when_done(lambda _: answered.set())
    line = Line(refuse=[requests[0].number] * 10**6)
    line.until = requests[-1]
    with line.line._changed:
        for each in reversed(requests):
            assert line.line.hold(each, ElectionInProgress())
    assert answered.wait(10)
    assert isinstance(late.failure, ElectionInProgress)
    line.refuse.clear()
    assert line.last.wait(10)
    first = line.sent.index(requests[1].number)
    assert line.sent[first:] == [each.number for each in requests[1:] if each is not late]
    line.line.close()


def test_a_closed_line_gives_up_what_waits_and_takes_no_more():
    line, each = Line(), request()
    line.line.park(each, Overloaded("full"))
    line.line.close()
    assert each.done()
    assert not line.line.park(request(), Overloaded())
    assert not line.line.join(request())


def test_a_redirect_is_followed_at_once_a_few_times_and_pauses_grow_to_a_bound():
    assert {_pause(tries, NotLeader("s1")) for tries in range(1, REDIRECTS + 1)} == {0.0}
    assert _pause(REDIRECTS + 1, NotLeader("s1")) > 0.0
    pauses = [_pause(tries, ElectionInProgress()) for tries in range(1, 2000)]
    assert 0.0 < pauses[0] < 0.005
    assert LONGEST_PAUSE / 2 <= min(pauses[20:]) <= max(pauses) <= LONGEST_PAUSE * 1.5
