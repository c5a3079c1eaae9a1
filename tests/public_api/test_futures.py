from __future__ import annotations

import gc
import queue
import sys
import threading
import time
import traceback
import weakref

import pykka
import pytest

import raft_actors as raft
from raft_actors.callbacks import CALLBACKS
from raft_actors.futures import RequestFuture


def waits(future: RequestFuture) -> bool:
    """Whether somebody is waiting for the future."""
    return bool(future._callbacks)


# -- one thread ----------------------------------------------------------------------------------------------------


def test_an_answer_can_be_had_again_and_again_with_its_index() -> None:
    future = RequestFuture()
    assert not future.done()
    assert future.index is None
    assert future.try_set("reply", index=7) is True
    assert future.done()
    assert [future.get(), future.get(timeout=0), future.index] == ["reply", "reply", 7]


def test_none_is_an_answer_too() -> None:
    future = RequestFuture()
    future.set()
    assert future.done()
    assert future.get(timeout=0) is None


def test_the_first_answer_wins() -> None:
    future = RequestFuture()
    assert future.try_set(1, index=1) is True
    assert future.try_set(2, index=2) is False
    assert future.try_fail(ValueError()) is False
    assert (future.get(), future.index) == (1, 1)


def test_a_failure_can_have_an_index_as_it_may_be_a_recorded_result() -> None:
    future = RequestFuture()
    assert future.try_fail(raft.CommandFailed(), index=9) is True
    assert future.index == 9


def test_a_second_plain_set_raises_as_in_pykka() -> None:
    for again in (lambda f: f.set(2), lambda f: f.fail(ValueError()), lambda f: f.set_get_hook(lambda timeout: 2)):
        future = RequestFuture()
        future.set(1)
        with pytest.raises(queue.Full):
            again(future)
        assert future.get() == 1


def test_a_failure_is_raised_as_a_copy_with_its_cause_and_notes() -> None:
    future = RequestFuture()
    error = raft.NotLeader("s2")
    error.__cause__ = KeyError("why")
    error.add_note("seen at s1")
    future.fail(error)
    with pytest.raises(raft.NotLeader) as caught:
        future.get()
    assert caught.value is not error
    assert caught.value.leader == "s2"
    assert caught.value.__cause__ is error.__cause__
    assert caught.value.__notes__ == ["seen at s1"]


class Stubborn(Exception):
    """Cannot be copied: its constructor wants more than its args."""

    def __init__(self, one, two) -> None:
        super().__init__(one)


@pytest.mark.parametrize(
    "error", [raft.Timeout("t"), ValueError("v"), OSError(28, "full"), Stubborn(1, 2), KeyboardInterrupt()]
)
def test_a_failure_does_not_collect_the_tracebacks_of_those_who_raise_it(error) -> None:
    future = RequestFuture()
    try:
        raise error
    except BaseException as raised:
        future.fail(raised)
    depths = []
    for _ in range(5):
        with pytest.raises(type(error)) as caught:
            future.get()
        assert str(caught.value) == str(error)
        frames = traceback.extract_tb(caught.value.__traceback__)
        depths.append(len(frames))
        assert any("raise error" in (frame.line or "") for frame in frames), "where it first happened is lost"
    assert len(set(depths)) == 1


def test_an_exception_can_be_given_the_way_pykka_does() -> None:
    future = RequestFuture()
    try:
        raise ValueError("current")
    except ValueError:
        future.set_exception()
    with pytest.raises(ValueError, match="current"):
        future.get()
    by_class = RequestFuture()
    by_class.set_exception((ValueError, None, None))
    with pytest.raises(ValueError):
        by_class.get()
    with pytest.raises(ValueError, match="needs an exception"):
        RequestFuture().set_exception()


def test_a_raised_failure_leaves_no_reference_cycle_behind() -> None:
    class Result(Exception):
        pass

    gc.disable()
    try:
        future = RequestFuture()
        future.fail(Result())
        with pytest.raises(Result) as caught:
            future.get()
        raised = weakref.ref(caught.value)
        del caught
        assert raised() is None
    finally:
        gc.enable()


def test_get_waits_no_longer_than_asked_and_the_future_stays_open() -> None:
    future = RequestFuture()
    before = time.monotonic()
    for kind in (raft.Timeout, pykka.Timeout, TimeoutError):
        with pytest.raises(kind, match="no answer within 0.01 seconds"):
            future.get(timeout=0.01)
    assert 0.03 <= time.monotonic() - before < 5
    assert not future.done()
    assert not waits(future)
    future.set("late")
    assert future.get() == "late"


@pytest.mark.parametrize("timeout", [0, -1, 0.0])
def test_a_timeout_of_nothing_only_looks(timeout) -> None:
    with pytest.raises(raft.Timeout):
        RequestFuture().get(timeout=timeout)


def test_an_enormous_timeout_is_no_error() -> None:
    future = RequestFuture()
    threading.Timer(0.01, future.set, [1]).start()
    assert future.get(timeout=1e300) == 1


def test_at_its_deadline_the_future_is_failed_by_whoever_waits_for_it() -> None:
    for timeout in (None, 60):
        future = RequestFuture()
        future.deadline = time.monotonic() + 0.02
        with pytest.raises(raft.Timeout, match="deadline"):
            future.get(timeout=timeout)
        assert future.done()
        assert future.try_set("too late") is False


def test_a_shorter_timeout_does_not_fail_a_future_before_its_deadline() -> None:
    future = RequestFuture()
    future.deadline = time.monotonic() + 60
    with pytest.raises(raft.Timeout, match=r"0\.01 seconds"):
        future.get(timeout=0.01)
    assert future.try_set(1)


def test_an_answer_that_is_there_is_given_even_after_the_deadline() -> None:
    future = RequestFuture()
    future.deadline = time.monotonic() - 1
    future.set(1)
    assert future.get() == 1


def callbacks_have_run() -> None:
    done = threading.Event()
    CALLBACKS.run(lambda _: done.set(), None)
    assert done.wait(10)


def test_a_callback_never_runs_in_the_thread_that_answers() -> None:
    future, threads = RequestFuture(), []
    future.add_done_callback(lambda _: threads.append(threading.current_thread()))
    future.set(1)
    callbacks_have_run()
    assert threads[0] is not threading.current_thread()


def test_a_callback_that_raises_system_exit_is_logged_and_the_next_ones_run(caplog) -> None:
    future, calls = RequestFuture(), []
    future.add_done_callback(lambda _: sys.exit(3))
    future.add_done_callback(calls.append)
    future.set(1)
    callbacks_have_run()
    assert calls == [future]
    assert "SystemExit" in caplog.text


def test_callbacks_are_called_in_order_with_the_future_once() -> None:
    future, calls = RequestFuture(), []
    future.add_done_callback(lambda f: calls.append(("first", f.get())))
    future.add_done_callback(lambda f: calls.append(("second", f.get())))
    assert calls == []
    future.set(1)
    callbacks_have_run()
    assert calls == [("first", 1), ("second", 1)]
    future.add_done_callback(lambda f: calls.append(("at once", f.get())))
    assert calls[2:] == [("at once", 1)]


def test_a_callback_that_fails_is_logged_and_harms_nobody(caplog) -> None:
    future, calls = RequestFuture(), []
    future.add_done_callback(lambda f: 1 / 0)
    future.add_done_callback(calls.append)
    assert future.try_set(1) is True
    callbacks_have_run()
    assert calls == [future]
    assert [record.name for record in caplog.records] == ["raft_actors"]
    assert "ZeroDivisionError" in caplog.text


def test_its_state_can_be_read_off_its_repr() -> None:
    future, failed = RequestFuture(), RequestFuture()
    assert repr(future) == "<raft_actors.RequestFuture pending>"
    future.set()
    failed.fail(ValueError())
    assert "done" in repr(future)
    assert "failed" in repr(failed)


# -- as a future of pykka --------------------------------------------------------------------------------------------


def test_map_filter_join_and_reduce_of_pykka_work() -> None:
    one, other = RequestFuture(), RequestFuture()
    one.set([1, 20, 300])
    other.set(2)
    assert isinstance(one, pykka.Future)
    assert one.map(len).get() == 3
    assert one.filter(lambda x: x > 10).get() == [20, 300]
    assert other.join(one, other).get() == [2, [1, 20, 300], 2]
    assert one.reduce(lambda a, b: a + b).get() == 321
    assert list(pykka.get_all([one, other])) == [[1, 20, 300], 2]


def test_a_mapped_future_computes_once_and_then_has_an_answer() -> None:
    calls: list[float | None] = []
    future = RequestFuture()
    future.set_get_hook(lambda timeout: calls.append(timeout) or "computed")
    seen = []
    future.add_done_callback(lambda f: seen.append(f.get()))
    assert not future.done()
    assert future.try_set("other") is False
    assert [future.get(timeout=5), future.get()] == ["computed", "computed"]
    assert calls == [5]
    callbacks_have_run()
    assert seen == ["computed"]


def test_a_hook_that_times_out_may_be_asked_again() -> None:
    origin = RequestFuture()
    mapped = origin.map(lambda value: value + 1)
    with pytest.raises(raft.Timeout):
        mapped.get(timeout=0)
    origin.set(1)
    assert mapped.get() == 2


def test_pykka_can_answer_into_it() -> None:
    class Doubler(pykka.ThreadingActor):
        use_daemon_thread = True

        def on_receive(self, message):
            return message * 2

        @staticmethod
        def _create_future():
            return RequestFuture()

    ref = Doubler.start()
    try:
        assert ref.ask(21, timeout=10) == 42
        with pytest.raises(TypeError):
            ref.ask(None, timeout=10)
    finally:
        ref.stop()


def test_who_has_waited_where_the_answer_comes_is_told_how_long_he_wanted_to_wait():
    future, waited = RequestFuture(), []
    future.fetch = lambda _, seconds: waited.append(seconds)
    with pytest.raises(raft.Timeout, match="no answer within 0.05 seconds"):
        future.get(timeout=0.05)
    assert waited == [0.05]
    future.fetch = lambda one, _: one.set(7)
    assert future.get() == 7
