from __future__ import annotations

import itertools
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

import raft_actors as raft
from raft_actors.futures import RequestFuture, forbid_waiting

ROUNDS = 300


@pytest.fixture(autouse=True)
def many_switches():
    """Let threads be switched at nearly every bytecode: races are the point here."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(16) as executor:
        yield executor


def race(pool, *functions):
    """Run all functions at once and return what they returned."""
    start = threading.Barrier(len(functions))

    def run(function):
        start.wait()
        return function()

    return [running.result(timeout=30) for running in [pool.submit(run, function) for function in functions]]


def until(predicate) -> None:
    """Let other threads run until something holds, for at most ten seconds."""
    give_up = time.monotonic() + 10
    while not predicate():
        assert time.monotonic() < give_up, "it never came true"
        threading.Event().wait(0.001)


def test_of_many_who_answer_at_once_exactly_one_wins_and_all_see_the_same(pool) -> None:
    for _ in range(ROUNDS):
        future = RequestFuture()
        answers = [lambda n=n: future.try_set(n, index=n) for n in range(5)]
        failures = [lambda n=n: future.try_fail(ValueError(n)) for n in range(5, 8)]

        def read():
            try:
                return future.get(timeout=30)
            except ValueError as error:
                return error.args[0]

        results = race(pool, *answers, *failures, read, read, read)
        won, seen = results[:8], results[8:]
        assert won.count(True) == 1
        assert set(seen) == {won.index(True)}
        assert future.index == (seen[0] if seen[0] < 5 else None)


def test_a_callback_that_races_the_answer_is_called_exactly_once(pool) -> None:
    for _ in range(ROUNDS):
        future, calls = RequestFuture(), []
        adders = [lambda n=n: future.add_done_callback(lambda f: calls.append((n, f.get()))) for n in range(6)]
        race(pool, *adders[:3], lambda: future.set("x"), *adders[3:])
        until(lambda: len(calls) >= 6)
        assert sorted(calls) == [(n, "x") for n in range(6)]


def test_a_wait_that_times_out_just_as_the_answer_comes_loses_nothing(pool) -> None:
    outcomes = set()
    for round_ in range(ROUNDS):
        future = RequestFuture()
        future.deadline = time.monotonic() + 0.0005 * (round_ % 3)

        def read():
            try:
                return future.get()
            except raft.Timeout:
                return "timeout"

        seen, won, again = race(pool, read, lambda: future.try_set("x"), read)
        assert seen == again == ("x" if won else "timeout")
        outcomes.add(seen)
    assert "x" in outcomes


def test_sleeping_threads_are_woken_by_the_answer(pool) -> None:
    future = RequestFuture()
    sleepers = [pool.submit(future.get, timeout=30) for _ in range(8)]
    until(lambda: len(future._callbacks or ()) == 8)
    future.set("morning")
    assert [sleeper.result(timeout=30) for sleeper in sleepers] == ["morning"] * 8


def test_a_failure_raised_in_many_threads_is_a_different_object_in_each(pool) -> None:
    future = RequestFuture()
    future.fail(raft.OutcomeUnknown("lost"))

    def read():
        try:
            future.get()
        except raft.OutcomeUnknown as error:
            return error

    raised = race(pool, *[read] * 8)
    assert len(set(map(id, raised))) == 8
    assert {len(traceback.extract_tb(error.__traceback__)) for error in raised} == {3}


def test_a_thread_that_must_not_wait_is_refused_at_once_but_may_look() -> None:
    answered, open_ = RequestFuture(), RequestFuture()
    answered.set(1)

    def in_a_machine():
        forbid_waiting("a machine must not wait for a peer")
        try:
            open_.get()
        except raft.Refused as refused:
            return answered.get(), str(refused)

    with ThreadPoolExecutor(1) as one:
        value, message = one.submit(in_a_machine).result(timeout=30)
    assert value == 1
    assert message.startswith("a machine must not wait for a peer: do it in another thread")
    assert open_.try_set(2)
    assert open_.get() == 2


# -- every interleaving ------------------------------------------------------------------------------------------


def interleavings(make, first, second):
    """Run ``second`` in the midst of ``first``, at each bytecode of it in turn, and yield the results of both.

    This is what a switch of threads at that bytecode does, but every one of them is tried, and in a fixed order.
    """
    for stop in itertools.count(-1):  # the first round interrupts nothing: Python 3.12 and 3.13 see no bytecodes in it
        subject, at, done = make(), itertools.count(), []

        def trace(frame, event, _, subject=subject, at=at, done=done, stop=stop):
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            if event == "opcode" and next(at) == stop:
                done.append(second(subject))
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            result = first(subject)
        finally:
            sys.settrace(before)
        if done:
            yield subject, result, done[0]
        elif stop >= 0:
            return


class Naive(RequestFuture):
    """Looks first and answers then: two threads can both be the first."""

    def try_set(self, value, index=None):
        if self._outcome is not None:
            return False
        self._outcome = (value, None, index, None)
        self._call_back()
        return True


class Forgetful(RequestFuture):
    """Looks first and then appends: an answer in between calls nobody."""

    def when_done(self, fn):
        if self._outcome is not None:
            fn(self)
        else:
            self._pending().append(fn)


def winners(kind):
    """For each interleaving of two answers: how many won, and whether the winner's is the one that is kept."""
    for future, first, second in interleavings(kind, lambda f: f.try_set(1), lambda f: f.try_set(2)):
        yield [first, second].count(True), future.get() == (1 if first else 2)


def test_two_answers_never_both_win_wherever_they_interrupt_each_other() -> None:
    outcomes = list(winners(RequestFuture))
    assert len(outcomes) > 10
    assert set(outcomes) == {(1, True)}


def test_a_future_where_two_can_win_is_found_out() -> None:
    assert set(winners(Naive)) != {(1, True)}


def calls(kind, first, second):
    """For each interleaving of an answer and a new callback: how often the callback was called."""
    for future, _, _ in interleavings(kind, first, second):
        yield len(future.calls)


def test_a_callback_is_called_once_wherever_it_and_the_answer_interrupt_each_other() -> None:
    answer = lambda future: future.try_set(1)  # noqa: E731
    assert set(calls(with_calls(RequestFuture), append, answer)) == {1}
    assert set(calls(with_calls(RequestFuture), answer, append)) == {1}


def test_a_future_that_forgets_a_callback_is_found_out() -> None:
    assert 0 in set(calls(with_calls(Forgetful), append, lambda future: future.try_set(1)))


def with_calls(kind):
    def make():
        future = kind()
        future.calls = []
        return future

    return make


def append(future) -> None:
    future.when_done(future.calls.append)


def test_no_wakeup_is_lost_wherever_the_answer_interrupts_one_who_waits() -> None:
    patience = 1.0
    woken = 0

    def read(future):
        future.began = time.monotonic()
        try:
            return future.get(timeout=patience)
        except raft.Timeout:
            return "timeout"

    def answer(future):
        future.try_set("x")
        return time.monotonic()

    for future, got, answered in interleavings(RequestFuture, read, answer):
        ended = time.monotonic()
        if answered - future.began >= patience:
            break  # from here on the answer interrupts one who has waited in vain
        assert got == "x"
        assert ended - answered < patience / 2, "answered before it fell asleep, and yet it slept"
        woken += 1
    assert woken > 50


def test_answer_and_deadline_agree_wherever_one_interrupts_the_other() -> None:
    def expired():
        future = RequestFuture()
        future.deadline = time.monotonic() - 1
        return future

    def read(future):
        try:
            return future.get()
        except raft.Timeout:
            return "timeout"

    seen = set()
    for future, got, won in interleavings(expired, read, lambda f: f.try_set("x")):
        assert got == read(future) == ("x" if won else "timeout")
        seen.add(got)
    assert seen == {"x", "timeout"}
