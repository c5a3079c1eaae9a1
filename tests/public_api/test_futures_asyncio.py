from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pykka
import pytest

import raft_actors as raft
from raft_actors.futures import RequestFuture


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(16) as executor:
        yield executor


async def ticks_while(awaitable) -> tuple[object, int]:
    """Await something and count how often the loop turned meanwhile."""
    ticks, over = 0, False

    async def tick() -> None:
        nonlocal ticks
        while not over:
            ticks += 1
            await asyncio.sleep(0.001)

    ticker = asyncio.create_task(tick())
    try:
        return await awaitable, ticks
    finally:
        over = True
        await ticker


def later(function, *args) -> None:
    threading.Timer(0.1, function, args).start()


async def wait_for(future):
    return await future


def test_await_does_not_block_the_loop() -> None:
    future = RequestFuture()
    later(future.set, "reply")
    value, ticks = asyncio.run(ticks_while(wait_for(future)))
    assert value == "reply"
    assert ticks > 10


def test_the_stock_future_blocks_the_loop_which_this_test_would_see() -> None:
    future = pykka.ThreadingFuture()
    later(future.set, "reply")
    value, ticks = asyncio.run(ticks_while(wait_for(future)))
    assert value == "reply"
    assert ticks <= 2


def test_await_of_a_mapped_future_does_not_block_the_loop_either() -> None:
    future = RequestFuture()
    later(future.set, 1)
    value, ticks = asyncio.run(ticks_while(wait_for(future.map(lambda value: value + 1))))
    assert value == 2
    assert ticks > 10


def test_await_of_an_answer_that_is_there_returns_at_once() -> None:
    async def main():
        future = RequestFuture()
        future.set(1)
        return [await future, await future]

    assert asyncio.run(main()) == [1, 1]


def test_await_raises_the_failure() -> None:
    future = RequestFuture()
    later(future.fail, raft.NotLeader("s2"))
    with pytest.raises(raft.NotLeader):
        asyncio.run(ticks_while(wait_for(future)))


def test_await_ends_at_the_deadline() -> None:
    future = RequestFuture()
    future.deadline = time.monotonic() + 0.05
    with pytest.raises(raft.Timeout):
        asyncio.run(ticks_while(wait_for(future)))
    assert future.done()


def test_a_cancelled_await_leaves_the_future_open_and_nothing_behind() -> None:
    future = RequestFuture()

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(wait_for(future), timeout=0.01)

    asyncio.run(main())
    assert not future.done()
    assert not future._callbacks
    assert future.try_set(1)


def test_an_answer_after_the_loop_is_closed_is_no_error(caplog) -> None:
    future = RequestFuture()
    loop = asyncio.new_event_loop()
    task = loop.create_task(wait_for(future))
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    loop.close()
    assert future.try_set(1)
    assert not caplog.records
    task._log_destroy_pending = False


def test_many_tasks_can_await_one_future_and_one_task_many(pool) -> None:
    futures = [RequestFuture() for _ in range(50)]

    async def main():
        waiting = asyncio.gather(*[wait_for(f) for f in futures], *[wait_for(futures[0]) for _ in range(5)])
        for number, future in enumerate(futures):
            pool.submit(future.set, number)
        return await waiting

    assert asyncio.run(main()) == [*range(50), 0, 0, 0, 0, 0]
