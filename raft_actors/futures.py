"""A future that is answered exactly once, and costs a tenth of Pykka's stock one.

Rule: whoever stores the outcome first has answered; everybody else is told that he was late. There is no lock: the
outcome is stored with ``dict.setdefault``, which is atomic, and never changes again. Waiters and callbacks are appended
*before* the outcome is looked at, and the answering thread looks at them *after* the outcome is stored, so that one of
the two sees the other; ``list.pop`` hands each of them to exactly one thread.

    answering thread:  store outcome ---------------> pop and call everything in the list
    waiting thread:    append to the list --> look at the outcome: there? pop and call, too. Else sleep.
"""

from __future__ import annotations

import copy
import logging
import queue
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar, cast

import pykka

from raft_actors.callbacks import CALLBACKS
from raft_actors.errors import Refused, Timeout

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator
    from types import TracebackType

    ExcInfo: TypeAlias = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]

__all__ = ["RequestFuture", "forbid_waiting", "refuse_if_forbidden"]

T = TypeVar("T")

logger = logging.getLogger("raft_actors")


class _Thread(threading.local):
    """What is known of the running thread; a class attribute answers for those that were never marked."""

    reason: str | None = None


_thread = _Thread()


def forbid_waiting(reason: str) -> None:
    """From now on, refuse to wait for a future in this thread: it is the one that would have to answer it."""
    _thread.reason = reason


def refuse_if_forbidden() -> None:
    """Refuse a blocking call in a thread that may not wait, before it has any effect.

    Raises:
        Refused: this thread may not wait.
    """
    reason = _thread.reason
    if reason is not None:
        raise Refused(reason, advice="do it in another thread, or with block=False and without waiting for it")


# Value, exception or None, index or None, and the traceback that the exception had when it was given. A plain tuple:
# it is made for every request.
_Outcome: TypeAlias = "tuple[Any, BaseException | None, int | None, TracebackType | None]"


class _Hook:
    """A function that computes the value when somebody asks for it; one thread at a time."""

    __slots__ = ("function", "lock")

    def __init__(self, function: Callable[[float | None], Any]) -> None:
        self.function = function
        self.lock = threading.RLock()


class RequestFuture(pykka.Future[T]):
    """The answer to a request, now or later.

    A ``pykka.Future`` with callbacks, with the index of the answer, and with an ``await`` that does not block asyncio's
    loop. Safe to use from any number of threads.

    Attributes:
        deadline: an absolute time on ``time.monotonic()``, or ``None``. Whoever waits for the answer waits no longer
            and then fails the future itself, with ``Timeout``. Nothing happens at the deadline if nobody waits.
        fetch: waits for so many seconds (less than 0: for ever) where the answer comes, not for the thread that would
            hand it over; may return early. ``None``: nobody can.
    """

    deadline: float | None = None
    fetch: Callable[[RequestFuture[T], float], None] | None = None

    # Class attributes stand for "not yet": an unanswered future has an empty __dict__ and needs no constructor.
    _outcome: _Outcome | None = None
    _callbacks: list[Callable[[RequestFuture[T]], object]] | None = None
    _hook: _Hook | None = None
    __init__ = object.__init__

    def __repr__(self) -> str:
        outcome = self._outcome
        state = "pending" if outcome is None else "failed" if outcome[1] is not None else "done"
        return f"<raft_actors.RequestFuture {state}>"

    # -- answering ----------------------------------------------------------------------------------------------------

    def try_set(self, value: T, index: int | None = None) -> bool:
        """Answer with ``value`` unless there is an answer already.

        Args:
            value: the answer.
            index: the log index at which it was applied or read.

        Returns:
            Whether this call gave the answer.
        """
        outcome = (value, None, index, None)
        if self._hook is not None or self.__dict__.setdefault("_outcome", outcome) is not outcome:
            return False
        if self._callbacks:
            self._call_back()
        return True

    def try_fail(self, error: BaseException, index: int | None = None) -> bool:
        """Answer with an exception unless there is an answer already.

        Args:
            error: what every ``get`` raises (a copy each time, so that threads do not share a traceback).
            index: the log index at which it happened, for a failure that is a recorded result.

        Returns:
            Whether this call gave the answer.
        """
        outcome = (None, error, index, error.__traceback__)
        if self._hook is not None or self.__dict__.setdefault("_outcome", outcome) is not outcome:
            return False
        if self._callbacks:
            self._call_back()
        return True

    def set(self, value: T | None = None) -> None:
        """Answer with ``value``.

        Raises:
            queue.Full: there is an answer already, or a get hook.
        """
        if not self.try_set(cast("T", value)):
            raise queue.Full

    def fail(self, error: BaseException) -> None:
        """Answer with an exception.

        Raises:
            queue.Full: there is an answer already, or a get hook.
        """
        if not self.try_fail(error):
            raise queue.Full

    def set_exception(self, exc_info: ExcInfo | None = None) -> None:
        """Answer with an exception given as Pykka does.

        Args:
            exc_info: a triple as of ``sys.exc_info()``, which is used if it is left out.

        Raises:
            queue.Full: there is an answer already, or a get hook.
            ValueError: there is no exception to answer with.
        """
        kind, error, traceback = exc_info or sys.exc_info()
        if kind is None:
            raise ValueError("set_exception needs an exception: call it in an except block or give exc_info")
        self.fail((error if error is not None else kind()).with_traceback(traceback))

    # -- looking and waiting ------------------------------------------------------------------------------------------

    def done(self) -> bool:
        """Return whether there is an answer."""
        return self._outcome is not None

    @property
    def index(self) -> int | None:
        """The log index at which the answer was applied or read, once there is one."""
        outcome = self._outcome
        return None if outcome is None else outcome[2]

    @property
    def failure(self) -> BaseException | None:
        """The answer, if it is there and is an exception."""
        outcome = self._outcome
        return None if outcome is None else outcome[1]

    def get(self, *, timeout: float | None = None) -> T:
        """Return the answer, waiting for it.

        Args:
            timeout: seconds to wait; ``None``: for ever, or until the deadline of this future.

        Raises:
            Timeout: no answer in time. The future stays open unless it was its deadline that passed.
            Exception: the answer, if it is an exception.
        """
        outcome = self._outcome
        if outcome is None:
            outcome = self._wait(timeout) if self._hook is None else self._compute(self._hook, timeout)
        if outcome[1] is not None:
            _raise(outcome[1], outcome[3])
        return outcome[0]  # type: ignore[no-any-return]

    def add_done_callback(self, fn: Callable[[RequestFuture[T]], object]) -> None:
        """Call ``fn(self)`` once there is an answer: on a thread for callbacks, or here and now if it is there already.

        Callbacks run one after the other, in the order in which their answers came; a slow one delays those of other
        futures, but no peer. An exception in ``fn`` is logged. On a future made by ``map``, ``filter``, ``join`` or
        ``reduce`` the answer comes when somebody asks for it, as in Pykka.
        """
        if self._outcome is not None:
            _call(fn, self)
        else:
            self.when_done(_Deferred(fn))

    def when_done(self, fn: Callable[[RequestFuture[T]], object]) -> None:
        """The same in the thread that answers, which may be a peer's: for code of this library that never waits."""
        self._pending().append(fn)
        if self._outcome is not None:
            self._call_back()

    def set_get_hook(self, func: Callable[[float | None], T]) -> None:
        """Let ``func(timeout)`` compute the answer when it is asked for the first time.

        Raises:
            queue.Full: there is an answer already.
        """
        if self._outcome is not None:
            raise queue.Full
        self._hook = _Hook(func)

    def __await__(self) -> Generator[Any, None, T]:
        """Wait for the answer without blocking asyncio's loop."""
        import asyncio

        loop = asyncio.get_running_loop()
        if self._hook is not None and self._outcome is None:
            return (yield from loop.run_in_executor(None, self.get).__await__())
        if self._outcome is None:
            yield from self._wait_in(loop)
        return self.get()

    __iter__ = __await__

    # -- within -------------------------------------------------------------------------------------------------------

    def _pending(self) -> list[Callable[[RequestFuture[T]], object]]:
        """Return the list of callbacks; all threads get the same one."""
        callbacks = self._callbacks
        return self.__dict__.setdefault("_callbacks", []) if callbacks is None else callbacks

    def _call_back(self) -> None:
        """Call what is in the list, each once, whoever else does the same at the same time."""
        callbacks = self._pending()
        while callbacks:
            try:
                fn = callbacks.pop(0)
            except IndexError:  # another thread took the last one
                return
            _call(fn, self)

    def forget(self, fn: Callable[[RequestFuture[T]], object]) -> None:
        """Take back a callback that is no longer interested."""
        try:
            self._pending().remove(fn)
        except ValueError:  # it was called meanwhile
            return

    def _wait(self, timeout: float | None) -> _Outcome:
        """Sleep until there is an outcome; fail the future if its own deadline comes first."""
        refuse_if_forbidden()
        left, fetch = timeout, self.fetch
        if fetch is not None:
            began = time.monotonic()
            fetch(self, self._patience(timeout)[0])
            if self._outcome is not None:
                return self._outcome
            left = None if timeout is None else timeout - (time.monotonic() - began)
        seconds, own = self._patience(left)
        asleep = threading.Lock()
        asleep.acquire()

        def wake(_: RequestFuture[T]) -> None:
            asleep.release()

        self.when_done(wake)
        if not asleep.acquire(timeout=seconds):
            self.forget(wake)
            if own:
                self._expire()
        outcome = self._outcome
        if outcome is None:
            raise Timeout(f"no answer within {timeout} seconds")
        return outcome

    def _patience(self, timeout: float | None) -> tuple[float, bool]:
        """Return the seconds to sleep (-1: for ever), and whether the deadline of this future sets them."""
        longest = threading.TIMEOUT_MAX
        seconds = longest if timeout is None else min(max(timeout, 0.0), longest)
        if self.deadline is None:
            return (-1 if seconds == longest else seconds), False
        left = max(self.deadline - time.monotonic(), 0.0)
        return min(left, seconds), left <= seconds

    def _expire(self) -> None:
        """Fail with ``Timeout``, since the deadline has passed."""
        self.try_fail(Timeout("no answer before the deadline of the request"))

    def _compute(self, hook: _Hook, timeout: float | None) -> _Outcome:
        """Ask the hook for the value and keep it; an exception of the hook is not kept: asking again may succeed."""
        with hook.lock:
            if self._outcome is None:
                self._outcome = (hook.function(timeout), None, None, None)
                self._call_back()
            return self._outcome

    def _wait_in(self, loop: asyncio.AbstractEventLoop) -> Generator[Any, None, None]:
        """Suspend the running task of ``loop`` until there is an outcome or the deadline has passed."""
        waiter: asyncio.Future[None] = loop.create_future()

        def finish() -> None:
            if not waiter.done():
                waiter.set_result(None)

        def wake(_: RequestFuture[T]) -> None:
            try:
                loop.call_soon_threadsafe(finish)
            except RuntimeError:  # the loop was closed: nobody is waiting any more
                return

        left = None if self.deadline is None else max(self.deadline - time.monotonic(), 0.0)
        timer = None if left is None else loop.call_later(left, finish)
        self.when_done(wake)
        try:
            yield from waiter.__await__()
        finally:
            self.forget(wake)
            if timer is not None:
                timer.cancel()
        if self._outcome is None:
            self._expire()


class _Deferred:
    """A user's callback: whoever answers passes it on."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[Any], object]) -> None:
        self.function = function

    def __call__(self, future: RequestFuture[Any]) -> None:
        CALLBACKS.run(self.function, future)


def _call(fn: Callable[[Any], object], future: RequestFuture[Any]) -> None:
    try:
        fn(future)
    except Exception:
        logger.exception("a callback of a future failed: %r", fn)


def _raise(error: BaseException, traceback: TracebackType | None) -> NoReturn:
    """Raise an equal of ``error``: one shared exception would collect the tracebacks of all who raise it."""
    try:
        fresh = copy.copy(error)
    except Exception:  # noqa: BLE001 - a user's exception may fail in any way
        fresh = error
    if type(fresh) is not type(error) or fresh.args != error.args:
        fresh = error
    if fresh is not error:
        fresh.__cause__, fresh.__context__ = error.__cause__, error.__context__
        fresh.__suppress_context__ = error.__suppress_context__
    try:
        raise fresh.with_traceback(traceback)
    finally:
        del fresh, error  # else the traceback's own frame would keep the exception alive in a cycle
