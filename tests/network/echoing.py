"""A node that answers what it is asked, and a wire that asks: for tests of when, and in which thread, it happens."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from raft_actors.transport.frames import Answer, Ask, Asks, Hello, Post, Welcome
from raft_actors.transport.zeromq.replies import Reply
from raft_actors.transport.zeromq.wire import Wire
from tests.network.asking import request

__all__ = ["PATIENCE", "Asker", "Echo", "Gate", "eventually"]

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
            self.wire.reply(Reply(incoming.route, 1, (Welcome(1),)))
        elif isinstance(body, Post):
            self.letters += len(body.letters)
        else:
            asks = body.asks if isinstance(body, Asks) else (body,)
            self.frames.append(len(asks))
            for ask in asks:
                self._answer(incoming.route, ask)

    def _answer(self, route: bytes, ask: Ask) -> None:
        def job() -> None:
            self.wire.reply(Reply(route, 1, (Answer(ask.id, ask.to.encode()),)), alone=bool(ask.id % 2))

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
