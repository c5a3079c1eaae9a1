"""Who waits alone fetches his answer himself; whoever else comes, whatever happens, nobody is left without one."""

from __future__ import annotations

import random
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

import raft_actors as raft
from raft_actors.addresses import Place
from raft_actors.errors import OutcomeUnknown, RaftError, Timeout
from raft_actors.futures import RequestFuture
from raft_actors.remote import ask
from raft_actors.transport.frames import GetStatus
from raft_actors.transport.zeromq import fetching, link, wire
from raft_actors.transport.zeromq.ears import Bell, Ears
from tests.network.echoing import PATIENCE, Asker, Echo, Gate, eventually
from tests.network.servers import Servers

pytestmark = [
    pytest.mark.usefixtures("long_sleep"),
    pytest.mark.skipif(not hasattr(select, "epoll"), reason="the wire's thread takes every answer there"),
]


def asked(asker: Asker, to: str = "s1", patience: float = PATIENCE) -> RequestFuture:
    """A request whose answer may be fetched."""
    address, future = asker.echo.address, RequestFuture()
    future.deadline = time.monotonic() + patience
    ask(Place(to, address), asker.wire, GetStatus(), future, bytes.decode, deadline=future.deadline)
    future.fetch = lambda future, seconds: asker.wire.fetch(address, future, seconds)
    return future


def in_a_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def listened_to(asker: Asker) -> bool:
    """Whether a caller listens, instead of the wire's thread."""
    return bool(asker.wire._ears._deaf)


def answered_while_somebody_listens(asker: Asker) -> list[object]:
    """What comes of a request whose answer is held until its caller listens."""
    asker.echo.held, got = [], []
    asker.asleep()
    future = asked(asker)

    def wait() -> None:
        try:
            got.append(future.get())
        except BaseException as error:
            got.append(error)

    waiting = in_a_thread(wait)
    eventually(lambda: listened_to(asker) and asker.echo.held)
    asker.echo.release()
    waiting.join(PATIENCE)
    return got


def test_who_waits_alone_takes_the_answer_while_the_wires_thread_is_held(asker) -> None:
    gate = Gate(asker.wire)
    assert [answered_while_somebody_listens(asker) for _ in range(3)] == [["s1"]] * 3
    gate.open.set()


def wakes_noted(asker: Asker, monkeypatch) -> list[None]:
    """Grows with each time that the thread of the wire has waked."""
    slept: list[None] = []
    real = asker.wire._ears.sleep

    def sleep(seconds: float) -> list[tuple[int, int]]:
        happened = real(seconds)
        slept.append(None)
        return happened

    monkeypatch.setattr(asker.wire._ears, "sleep", sleep)
    asker.wire._wake()  # from then on it sleeps there
    asker.asleep()
    slept.clear()
    return slept


def test_the_wires_thread_is_not_woken_for_it(asker, monkeypatch) -> None:
    slept = wakes_noted(asker, monkeypatch)
    assert [answered_while_somebody_listens(asker) for _ in range(20)] == [["s1"]] * 20
    assert not slept


def test_where_it_goes_on_listening_it_is_woken_and_the_test_sees_it(asker, monkeypatch) -> None:
    monkeypatch.setattr(Ears, "leave", lambda ears, socket: ears._descriptors[socket])
    slept = wakes_noted(asker, monkeypatch)
    eventually(lambda: asked(asker).get() == "s1" and slept)


def test_where_there_is_no_epoll_the_wires_thread_takes_every_answer(monkeypatch, echo) -> None:
    monkeypatch.delattr(select, "epoll", raising=False)
    asker = Asker(echo)
    assert [asked(asker).get() for _ in range(3)] == ["s1"] * 3
    assert asker.wire._ears.leave(asker.wire.link(echo.address).socket) == -1
    asker.wire.close()


def test_a_node_that_listens_itself_lets_nobody_fetch(echo, monkeypatch) -> None:
    monkeypatch.setattr(wire, "fetch", lambda *_: pytest.fail("fetched"))
    node = Echo()
    future: RequestFuture = RequestFuture()
    ask(Place("s1", echo.address), node.wire, GetStatus(), future, bytes.decode, deadline=time.monotonic() + PATIENCE)
    node.wire.fetch(echo.address, future, PATIENCE)
    assert future.get(timeout=PATIENCE) == "s1"
    node.close()


def test_who_is_joined_by_another_leaves_both_answers_to_the_wires_thread(asker, echo) -> None:
    echo.held, got = [], []
    first = asked(asker)
    waiting = in_a_thread(lambda: got.append(first.get()))
    eventually(lambda: listened_to(asker))
    second = asked(asker, "s2")
    eventually(lambda: len(echo.held) == 2)
    echo.release()
    assert second.get() == "s2"
    waiting.join(PATIENCE)
    assert got == ["s1"]
    eventually(lambda: not listened_to(asker))


def test_what_comes_right_behind_an_answer_is_left_to_the_wires_thread(asker, echo, monkeypatch) -> None:
    """Whoever takes one may have taken the only hint of the other."""
    echo.held, rung = [], []
    asked(asker)
    eventually(lambda: echo.held)
    with monkeypatch.context() as patch:
        patch.setattr(asker.wire, "_wake", lambda: rung.append(True))
        patch.setattr(Ears, "restless", lambda _: False)
        assert asker.wire._take_now(asker.wire.link(echo.address))
        assert not rung
        patch.setattr(Ears, "restless", lambda _: True)
        assert not asker.wire._take_now(asker.wire.link(echo.address))
        assert rung
    echo.release()


def test_after_somebody_else_came_nobody_listens_for_a_moment(asker, echo) -> None:
    echo.held = []
    first, second = asked(asker), asked(asker, "s2")
    found = asker.wire.link(echo.address)
    assert not found.take_answer()
    echo.release()
    assert [first.get(), second.get()] == ["s1", "s2"]
    found._crowded_until = time.monotonic() + PATIENCE
    echo.held = []
    third = asked(asker)
    assert found.socket is None
    found._crowded_until = 0.0
    assert found.socket is not None
    echo.release()
    assert third.get() == "s1"


def test_where_a_request_has_not_left_nobody_listens_for_its_answer(asker, echo) -> None:
    """There is a hint of room that only the wire's thread can use."""
    echo.held = []
    asked(asker)
    found = asker.wire.link(echo.address)
    assert found.socket is not None
    found.requests.unsent.append(found.requests._sent.popitem()[1])
    assert found.requests.count == 1
    assert found.socket is None


@pytest.mark.parametrize("timeout", [3e6, 1e8, float("inf")])
def test_who_has_all_the_time_in_the_world_may_say_so(asker, timeout) -> None:
    assert asked(asker, patience=1e8).get(timeout=timeout) == "s1"


def test_who_cannot_have_a_bell_waits_for_the_wires_thread(asker, monkeypatch) -> None:
    def none_left(*_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(fetching, "Bell", none_left)
    thread_results: list[str] = []
    in_a_thread(lambda: thread_results.append(asked(asker).get())).join(PATIENCE)
    assert thread_results == ["s1"]


def test_a_forked_child_lets_its_parent_listen(asker, echo, monkeypatch) -> None:
    echo.held = []
    asked(asker)
    socket = asker.wire.link(echo.address).socket
    with monkeypatch.context() as patch:
        patch.setattr("raft_actors.transport.zeromq.ears.os.getpid", lambda: -1)
        assert asker.wire._ears.leave(socket) == -1
    assert not listened_to(asker)
    descriptor = asker.wire._ears.leave(socket)
    assert descriptor >= 0
    asker.wire._ears.resume(descriptor)
    echo.release()


def test_a_connection_that_breaks_wakes_who_fetches(asker, echo) -> None:
    echo.held = []
    future = asked(asker)
    breaker = in_a_thread(lambda: (eventually(lambda: listened_to(asker)), echo.close()))
    begin = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        future.get()
    assert time.monotonic() - begin < PATIENCE / 2
    breaker.join(PATIENCE)


def test_a_wire_that_is_closed_wakes_who_fetches(asker, echo) -> None:
    echo.held = []
    future = asked(asker)
    closer = in_a_thread(lambda: (eventually(lambda: listened_to(asker)), asker.wire.close()))
    with pytest.raises(RaftError):
        future.get()
    closer.join(PATIENCE)


@pytest.mark.parametrize("timeout", [None, 0.1])
def test_who_fetches_waits_no_longer_than_he_wants(asker, echo, timeout) -> None:
    echo.held = []
    future = asked(asker, patience=0.1 if timeout is None else PATIENCE)
    begin = time.monotonic()
    with pytest.raises(Timeout):
        future.get(timeout=timeout)
    assert 0.09 < time.monotonic() - begin < 1.0
    assert not listened_to(asker)


def test_who_is_interrupted_while_he_fetches_leaves_the_wire_as_it_was(asker, monkeypatch) -> None:
    def interrupted(*_: object) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(link, "unpack", interrupted)
        (result,) = answered_while_somebody_listens(asker)
    assert isinstance(result, KeyboardInterrupt)
    assert not listened_to(asker)
    assert asker.wire.link(asker.echo.address).requests.count == 0
    assert asked(asker).get() == "s1"


def test_what_nobody_listens_to_any_more_is_heard_when_the_wires_thread_has_slept(asker, echo, monkeypatch) -> None:
    """Who was interrupted twice did not even say that he listens no more."""
    with monkeypatch.context() as patch:
        patch.setattr(Ears, "resume", lambda *_: None)
        assert answered_while_somebody_listens(asker) == ["s1"]
    assert listened_to(asker)
    asker.wire._wake()
    eventually(lambda: not listened_to(asker))
    future = asked(asker)
    future.fetch = None
    assert future.get() == "s1"


def test_of_several_who_leave_it_to_themselves_the_last_word_is_that_it_is_listened_to() -> None:
    """Each says at last that it is: also one whose first word comes after the last one of another."""
    ears, bell = Ears(), Bell()
    ears.add(bell, bell.hear)
    descriptor = ears.leave(bell)
    ears.resume(descriptor)
    assert ears._epoll is not None
    ears._epoll.modify(descriptor, 0)  # this one was slow to say it
    bell.ring()
    assert ears.sleep(0.0) == []
    ears.resume(descriptor)
    assert ears.sleep(PATIENCE) == [(descriptor, select.EPOLLIN)]


def test_a_bell_that_rang_too_late_for_the_last_answer_changes_nothing(asker, echo) -> None:
    bell = fetching._mine.bell = Bell()
    bell.ring()
    echo.held = []
    future = asked(asker)
    later = in_a_thread(lambda: (eventually(lambda: listened_to(asker)), echo.release()))
    assert future.get() == "s1"
    later.join(PATIENCE)


def test_a_forked_child_has_bells_of_its_own() -> None:
    program = """if True:
        import os
        from raft_actors.transport.zeromq import fetching
        from raft_actors.transport.zeromq.ears import Bell

        fetching._mine.bell = Bell()
        child = os.fork()
        if child == 0:
            os._exit(7 if fetching._mine.bell is None else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert fetching._mine.bell is not None
    """
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_many_who_come_and_go_are_all_answered(asker, echo) -> None:
    def one(seed: int) -> None:
        dice, open_ones = random.Random(seed), []
        for number in range(150):
            open_ones.append((asked(asker, f"s{number}"), f"s{number}"))
            if dice.random() < 0.8:
                got.extend(future.get() == name for future, name in open_ones)
                open_ones.clear()
        got.extend(future.get() == name for future, name in open_ones)

    got: list[bool] = []
    threads = [in_a_thread(lambda seed=seed: one(seed)) for seed in range(4)]
    for thread in threads:
        thread.join(6 * PATIENCE)
    assert got == [True] * 600


# -- clients -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def fetched(monkeypatch) -> list[str]:
    """The threads in which something was fetched."""
    threads: list[str] = []
    real = wire.fetch

    def noted(*given: object) -> None:
        threads.append(threading.current_thread().name)
        real(*given)

    monkeypatch.setattr(wire, "fetch", noted)
    return threads


def test_the_main_thread_fetches_a_plain_answer_and_none_of_a_client(tmp_path, fetched) -> None:
    """It may be interrupted, and on the answers to a client hang its session and what waits for that."""
    assert threading.current_thread() is threading.main_thread()
    with Servers(tmp_path, names=("s1",)) as servers:
        servers.serve()
        with servers.client() as client:
            assert client.write(("set", "a", 1))
            assert client.read(("get", "a")) == 1
            assert fetched == []
            assert client.write(("set", "a", 1), block=False).get()
            eventually(lambda: in_a_thread(lambda: client.write(("set", "a", 2))).join(PATIENCE) or fetched)
            assert "MainThread" not in fetched
            eventually(lambda: raft.read(servers.addresses["s1"], ("get", "a")) == 2 and "MainThread" in fetched)
            fetched.clear()
            assert raft.read(servers.addresses["s1"], ("get", "a"), block=False).get() == 2
            assert fetched == []


def test_where_nobody_waits_for_an_answer_nothing_is_fetched(asker, fetched) -> None:
    for address in (asker.echo.address, "127.0.0.1:1"):
        asker.wire.fetch(address, RequestFuture(), PATIENCE)
    assert fetched == []
