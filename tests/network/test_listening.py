"""After an answer a wire listens again at once, unless there is something else to do: nothing may wait for that."""

from __future__ import annotations

import collections
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from raft_actors import lending
from raft_actors.errors import Timeout, UnknownPeer
from raft_actors.transport.frames import Answer, Welcome, pack
from raft_actors.transport.zeromq import link as links
from raft_actors.transport.zeromq.ears import Ears
from raft_actors.transport.zeromq.link import Link
from raft_actors.transport.zeromq.wire import Wire
from tests.network.asking import request
from tests.threads.tools import wait_until

SOON = 10.0


@pytest.fixture
def wire(monkeypatch) -> Iterator[Wire]:
    """One that does nothing by itself, and to which answers come without end."""
    wire = Wire(None)
    monkeypatch.setattr(wire, "_wait", lambda _: [lambda: True])
    yield wire
    wire.close()


def test_where_only_answers_came_it_listens_again(wire) -> None:
    assert wire._listen(time.monotonic() + SOON)


@pytest.mark.parametrize("calls", [[], [lambda: None], [lambda: True, lambda: False], [lambda: False, lambda: True]])
def test_where_nothing_came_or_something_follows_from_it_there_is_a_whole_turn(wire, calls, monkeypatch) -> None:
    monkeypatch.setattr(wire, "_wait", lambda _: calls)
    assert not wire._listen(time.monotonic() + SOON)


def test_all_that_came_are_called_whatever_the_first_says(wire, monkeypatch) -> None:
    heard: list[int] = []
    monkeypatch.setattr(wire, "_wait", lambda _: [lambda: heard.append(1), lambda: heard.append(2)])
    wire._listen(time.monotonic() + SOON)
    assert heard == [1, 2]


def test_what_an_answer_leads_to_is_done_in_a_whole_turn(wire, monkeypatch) -> None:
    def answered() -> bool:
        wire.beat_soon()
        return True

    monkeypatch.setattr(wire, "_wait", lambda _: [answered])
    assert not wire._listen(time.monotonic() + SOON)


def test_what_an_answer_brings_to_a_peer_of_this_process_is_lent_in_a_whole_turn(wire, monkeypatch) -> None:
    monkeypatch.setattr(lending._thread, "brought", {object(): None})
    assert not wire._listen(time.monotonic() + SOON)


def test_what_is_due_has_its_turn_however_many_answers_come(wire) -> None:
    assert not wire._listen(time.monotonic())


def test_who_is_not_answered_is_told_so_in_time_while_others_are_without_a_pause(monkeypatch) -> None:
    told: list[object] = []
    wire, mute = Wire(None), Wire(None)
    mute.serve(lambda _: None, lambda *_: None)
    address = f"127.0.0.1:{mute.listen('127.0.0.1', 0)}"
    mute.start()
    wait = wire._wait
    monkeypatch.setattr(wire, "_wait", lambda seconds: [*wait(min(seconds, 0.001)), lambda: True])
    wire.start()
    request(wire, address, "s1", time.monotonic() + 0.5, told.append)
    wait_until(lambda: told, SOON)
    assert isinstance(told[0], Timeout | UnknownPeer)
    wire.close()
    mute.close()


class Failing:
    """A connection that fails when it is attended to, of which a peer of this process is told."""

    def attend(self, now: float) -> float:
        lending._thread.brought[self] = None
        return now + SOON

    def help(self) -> None:
        """As of the channel of that peer."""


def test_what_a_connection_that_fails_tells_the_peers_of_this_process_is_lent_at_once(monkeypatch) -> None:
    wire, waited = Wire(None), list[float]()
    monkeypatch.setattr(wire, "_wait", lambda seconds: waited.append(seconds) or [])
    monkeypatch.setattr(lending._thread, "brought", {})
    monkeypatch.setitem(wire._links, "h:1", Failing())
    wire._turn()
    assert waited == [0.0]
    monkeypatch.undo()
    wire.close()


def test_whoever_comes_to_an_empty_house_is_looked_at_from_his_first_turn_on(monkeypatch) -> None:
    wire = Wire(None)
    wire.listen("127.0.0.1", 0)
    looks: list[float] = []
    monkeypatch.setattr(wire._door, "look", lambda now: looks.append(now) or float("inf"))
    monkeypatch.setattr(wire, "_wait", lambda _: [])
    for _ in range(3):
        wire._turn()
    assert len(looks) == 3
    monkeypatch.setattr(wire._door, "look", lambda now: looks.append(now) or now + SOON)
    for _ in range(3):
        wire._turn()
    assert len(looks) == 4
    wire.close()


class Silent:
    """A socket that does nothing."""

    def disable_monitor(self) -> None:
        pass

    def close(self, linger: int) -> None:
        pass


@pytest.fixture
def link(monkeypatch) -> Link:
    """A connection that stands, on which one answer has come."""
    link = Link(None, "10.0.0.1:7001", "", None, Ears(), lambda *_: None, collections.Counter())
    link._take(Welcome(1, "peer"))
    link._socket = Silent()
    monkeypatch.setattr(links, "receive", lambda _: pack(Answer(1)))
    monkeypatch.setattr(links, "may_read", lambda _: False)
    monkeypatch.setattr(link, "send", lambda: None)
    return link


def test_nothing_follows_from_an_answer_on_a_connection_where_nothing_waits(link) -> None:
    assert link._receive()


def test_where_something_waits_to_be_sent_or_for_the_connection_there_is_a_whole_turn(link) -> None:
    link.requests.unsent.append(SimpleNamespace())
    assert not link._receive()
    link.requests.unsent.clear()
    link.state = "greeting"
    assert not link._receive()


def test_a_connection_whose_key_was_taken_off_the_list_ends_with_the_next_that_comes_on_it(link, monkeypatch) -> None:
    lost: list[str] = []
    link._lost = lambda address, _: lost.append(address)
    monkeypatch.setattr(link._server, "may_be", lambda _: False)
    assert not link._receive()
    assert lost == ["10.0.0.1:7001"]
    assert link._refused == {"key not allowed": 1}
