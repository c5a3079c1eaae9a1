"""After an answer a wire listens again at once, unless there is something else to do: nothing may wait for that."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from raft_actors import lending
from raft_actors.errors import Timeout, UnknownPeer
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
