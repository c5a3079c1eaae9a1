"""A client beside a peer that takes its time, and refuses what it must: how much is sent, how often, in which order."""

from __future__ import annotations

import collections
import threading
from typing import Any, cast

import pytest

from raft_actors.client_peers import ClientPeers
from raft_actors.client_tries import Tries
from raft_actors.client_window import FIRST, MOST, Window
from raft_actors.codec import resolve
from raft_actors.errors import ElectionInProgress, NotApplied, RaftError
from raft_actors.futures import RequestFuture
from raft_actors.protocol.sessions import SessionWrite
from raft_actors.retries import RetryLine

PLAIN = resolve("plain")
PAUSE = 0.004
"""Seconds that the peer takes for a part of what has come."""


class Peer:
    """The mailbox of a leader which applies no write before the one that it follows, as ``protocol.sessions`` does."""

    codec = PLAIN

    def __init__(self) -> None:
        self.queue: collections.deque[tuple[SessionWrite, RequestFuture[Any]]] = collections.deque()
        self.applied: list[int] = []
        self.came = 0
        self.most = 0
        self.lost = 0

    def open_session(self, nonce: int, attempt: RequestFuture[Any]) -> None:
        attempt.try_set(1)

    def write_session(self, write: SessionWrite, attempt: RequestFuture[Any], *, watch: bool) -> None:
        self.came += 1
        self.queue.append((write, attempt))
        self.most = max(self.most, len(self.queue))

    def answer(self) -> None:
        """Answer a part of what is there: the rest is on its way when what was refused comes again."""
        for _ in range((len(self.queue) + 3) // 4):
            write, attempt = self.queue.popleft()
            if self.lost:
                self.lost -= 1
                attempt.try_fail(ElectionInProgress())
            elif write.previous and write.previous not in self._seen:
                attempt.try_fail(NotApplied())
            else:
                self.applied.append(write.sequence)
                self._seen.add(write.sequence)
                attempt.try_set(write.sequence)

    @property
    def _seen(self) -> set[int]:
        return self.__dict__.setdefault("_all", set())


class Peers:
    """One peer, which leads."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.passed_over: list[RaftError] = []

    def mailbox(self) -> Peer:
        return self.peer

    def pass_over(self, asked: object, error: RaftError) -> None:
        self.passed_over.append(error)

    def all_failed(self) -> bool:
        return False


class Here:
    """A client with its peer."""

    def __init__(self) -> None:
        self.peer = Peer()
        self.peers = Peers(self.peer)
        self.tries = Tries(cast("ClientPeers", self.peers), lambda request, timeout: None)

    def give(self, count: int) -> list[RequestFuture[Any]]:
        """So many writes of this thread."""
        given = []
        for number in range(count):
            request = self.tries.sessions.write(PLAIN, PLAIN.encode(number))
            given.append(self.tries.start(request, 60.0, block=False))
        return given

    def finish(self, given: list[RequestFuture[Any]]) -> None:
        """Let the peer answer, now and then, until all are done."""
        pause = threading.Event()
        while not all(future.done() for future in given):
            pause.wait(PAUSE)
            self.peer.answer()


@pytest.fixture
def here():
    one = Here()
    yield one
    one.tries.close()


def test_a_peer_that_does_not_answer_is_sent_so_many_and_no_more(here: Here) -> None:
    given = here.give(10_000)
    assert len(here.peer.queue) == FIRST
    here.finish(given)
    assert FIRST < here.peer.most <= MOST
    assert here.peer.applied == sorted(here.peer.applied)
    assert here.peer.came == len(given) == len(here.peer.applied), "each was sent once"
    assert not here.peers.passed_over


def test_without_its_window_a_client_sends_whatever_it_has(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Window, "enter", lambda self, size, *, alone: 1)  # planted: there is always room
    with pytest.raises(AssertionError):
        test_a_peer_that_does_not_answer_is_sent_so_many_and_no_more(here)


def test_who_wants_one_thing_at_a_time_does_not_wait_for_those_who_want_much(here: Here) -> None:
    given = here.give(10_000)
    few: list[RequestFuture[Any]] = []
    for _ in range(20):
        thread = threading.Thread(target=lambda: few.extend(here.give(1)))
        thread.start()
        thread.join()
    assert len(here.peer.queue) == FIRST + 20
    while not all(future.done() for future in few):
        here.peer.answer()
    assert not given[-1].done()
    here.finish(given)
    assert here.peer.applied != sorted(here.peer.applied)
    assert [one for one in here.peer.applied if one <= len(given)] == list(range(1, len(given) + 1))


def test_writes_that_come_too_early_come_again_in_their_order_and_hardly_twice(here: Here) -> None:
    given = here.give(10_000)
    here.peer.lost = FIRST // 2  # their leader was none any more; the others find one that is
    here.finish(given)
    assert here.peer.applied == sorted(here.peer.applied)
    assert here.peer.came < 1.2 * len(given)
    assert {type(error) for error in here.peers.passed_over} == {ElectionInProgress}, (
        "an early write says nothing of him"
    )


def test_early_writes_that_are_sent_at_once_keep_each_other_early(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    def park(self: RetryLine, request: Any, refusal: RaftError, quiet: float) -> bool:
        return self.park(request, refusal)

    monkeypatch.setattr(RetryLine, "settle", park)  # planted: the others are not waited for
    with pytest.raises(AssertionError):
        test_writes_that_come_too_early_come_again_in_their_order_and_hardly_twice(here)
