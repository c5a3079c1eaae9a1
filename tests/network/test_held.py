"""Answers on their way out are bounded by their bytes, from when they exist until they left; whoever asked is told."""

from __future__ import annotations

import collections
import threading
import weakref
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

import raft_actors as raft
from raft_actors.answering import AnsweringFuture
from raft_actors.codec import resolve
from raft_actors.keys import Guest
from raft_actors.network import NodeTransport
from raft_actors.serving import Server
from raft_actors.transport.frames import LARGEST, Answer, Ask, Failed, Operation, Query, Submit
from raft_actors.transport.zeromq.door import Door, Incoming, Reply
from raft_actors.transport.zeromq.held import ALWAYS, COUNTED, MOST_HELD, MOST_HELD_OF_A_KEY, MOST_HELD_OF_ONE, Held
from raft_actors.transport.zeromq.wire import Wire
from tests.network.guarded import Guarded
from tests.threads.tools import wait_until

PLAIN = resolve("plain")
MIB = 1 << 20
NOBODY_TOOK = "an answer that nobody took"


class Generous(raft.StateMachine):
    """Answers with as many bytes as it is asked for, or with an exception of so many."""

    def init(self, name: str) -> None:
        return None

    def handle_write(self, command: int, state: None) -> tuple[bytes, None]:
        return bytes(command), state

    def handle_read(self, query: tuple[str, int], state: None) -> tuple[bytes, None]:
        match query:
            case ("raise", size):
                raise ValueError("x" * size)
            case (_, size):
                return bytes(size), state


class Silent:
    """A node whose wire does nothing by itself: what is answered lies in its queue."""

    def __init__(self) -> None:
        self.wire = Wire(None)
        self.server = Server(NodeTransport(self.wire, "127.0.0.1:1"))
        self.wire.listen("127.0.0.1", 0)

    def ask(self, *operations: Operation, route: bytes = b"r") -> list[Answer | Failed]:
        """What each was answered."""
        for number, operation in enumerate(operations):
            ask = Ask(number, "s1", 60.0, operation)
            self.server.take(Incoming(route, Guest("writer", "*"), ask, 1, 100, "k"))
        wait_until(lambda: len(self.waiting(route)) == len(operations), 60.0)
        return self.waiting(route)

    def waiting(self, route: bytes) -> list[Answer | Failed]:
        """What lies in the queue for a connection."""
        return [reply.body for reply in list(self.wire._queue) if reply.route == route]

    def turn(self) -> None:
        """What lies there is sent; but there is nobody."""
        self.wire._drain()


@pytest.fixture
def silent() -> Iterator[Silent]:
    raft.start_peer(Generous, name="s1", config=raft.Config(storage="memory", codec="plain"))
    raft.set_configuration("s1", ["s1"])
    wait_until(lambda: raft.leader("s1") == "s1")
    node = Silent()
    yield node
    node.wire.close()
    raft.stop_peer("s1")


def reads(size: int, consistency: str = "stale", what: str = "give") -> Query:
    return Query(PLAIN.encode((what, size)), "plain", consistency)


def kinds(bodies: list[Answer | Failed]) -> collections.Counter[str]:
    return collections.Counter(body.kind if isinstance(body, Failed) else "Answer" for body in bodies)


@pytest.mark.parametrize("consistency", ["stale", "linearizable"])
def test_answers_that_wait_for_the_wire_are_bounded_and_the_other_reads_are_overloaded(silent, consistency) -> None:
    told = silent.ask(*[reads(MIB, consistency)] * 100)
    most = MOST_HELD_OF_ONE // MIB
    assert most - 1 <= kinds(told)["Answer"] <= most
    assert kinds(told)["Overloaded"] == 100 - kinds(told)["Answer"] == silent.wire.refused[NOBODY_TOOK]


def test_a_write_whose_answer_finds_no_room_was_done(silent) -> None:
    told = silent.ask(*[Submit(PLAIN.encode(MIB), "plain")] * 40)
    assert kinds(told).keys() == {"Answer", "OutcomeUnknown"}
    assert len({body.index for body in told} - {None}) == 40


def test_the_errors_of_machines_are_bounded_as_well(silent) -> None:
    told = silent.ask(*[reads(99_000, what="raise")] * 400)
    assert kinds(told) == {"CommandFailed": 400}
    assert sum(len(body.cause.message) + len(body.cause.traceback) for body in told) < MOST_HELD_OF_ONE + MIB
    assert {body.cause.type_name for body in told} == {"ValueError"}
    assert {body.cause.message[:500] for body in told} == {"x" * 500}


def test_small_answers_are_not_refused_where_large_ones_are(silent) -> None:
    told = silent.ask(*[reads(MIB)] * 40, *[reads(COUNTED // 2)] * 10)
    assert kinds(told[-10:]) == {"Answer": 10}


def test_what_was_sent_to_nobody_makes_room_and_takes_none_of_others(silent) -> None:
    silent.ask(*[reads(MIB)] * 40)
    assert kinds(silent.ask(reads(MIB), route=b"other")) == {"Answer": 1}
    silent.turn()
    assert kinds(silent.ask(*[reads(MIB)] * 20)) == {"Answer": 20}


def test_errors_with_long_texts_do_not_leave_as_one_frame_that_nobody_takes(silent, monkeypatch) -> None:
    frames: list[int] = []
    monkeypatch.setattr(Door, "_put", lambda self, route, frame, *, large: frames.append(len(frame)) is None)
    told = silent.ask(*[reads(99_000, what="raise")] * 100)
    silent.turn()
    assert kinds(told) == {"CommandFailed": 100}
    assert max(frames) < LARGEST // 100


def test_a_future_keeps_nothing_of_what_it_has_answered() -> None:
    class Value:
        pass

    codec = SimpleNamespace(encode=lambda value: b"x", name="plain")
    sent: list[object] = []
    sender = SimpleNamespace(answer=lambda future, body: sent.append(body))
    future = AnsweringFuture(sender, SimpleNamespace(), 1, codec, 0.0)
    value = Value()
    kept = weakref.ref(value)
    assert future.try_set(value, 7)
    del value
    assert sent == [Answer(1, b"x", "plain", 7)]
    assert kept() is None
    assert future.done()
    assert future.index == 7
    assert not future.try_set(Value())
    assert not future.try_fail(ValueError())
    assert len(sent) == 1


def test_a_client_that_asks_for_more_at_once_than_may_be_on_its_way_is_given_all_of_it(tmp_path) -> None:
    node = Guarded(tmp_path, keyed=False)
    with raft.Client([f"s1@{node.address}"], timeout=60.0) as client:
        client.write(("set", "large", bytes(2 * MIB)))
        begun = node.seen()
        answers = [client.read(("get", "large"), block=False) for _ in range(60)]
        assert {len(one.get()) for one in answers} == {2 * MIB}
        assert (node.seen()["peak"] - begun["rss"]) // MIB < 150
    node.close()


# -- the count ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def held() -> Held:
    return Held(collections.Counter())


def sends(held: Held, route: bytes, size: int, tracker: object, entered: int = 0) -> bool:
    fits = held.pass_on(route, size, entered)
    if fits:
        held.sent(route, tracker, size)
    return fits


def test_what_lies_in_libzmq_is_counted_until_it_lets_go_of_it(held) -> None:
    tracker = SimpleNamespace(done=False)
    assert held.enter(b"r", MOST_HELD_OF_ONE)
    assert sends(held, b"r", MOST_HELD_OF_ONE + 50, tracker, entered=MOST_HELD_OF_ONE)
    assert not held.enter(b"r", COUNTED)
    assert not sends(held, b"r", COUNTED, tracker)
    tracker.done = True
    assert held.enter(b"r", MOST_HELD_OF_ONE)


def test_one_answer_may_be_larger_than_what_is_for_one_connection(held) -> None:
    assert held.enter(b"r", LARGEST)
    assert not held.enter(b"r", COUNTED)
    held.leave(b"r", LARGEST)
    assert held.enter(b"r", COUNTED)


def test_all_connections_together_have_a_bound_that_leaves_each_of_them_a_little(held) -> None:
    done = SimpleNamespace(done=False)
    for number in range(MOST_HELD // MOST_HELD_OF_ONE):
        assert sends(held, b"%d" % number, MOST_HELD_OF_ONE, done)
    assert not held.enter(b"late", ALWAYS + 1)
    assert held.enter(b"late", ALWAYS)
    assert not held.enter(b"late", 1)
    done.done = True
    assert held.enter(b"late", MOST_HELD_OF_ONE - ALWAYS)


def test_one_key_does_not_take_the_room_of_others_however_many_connections_it_has(held) -> None:
    taken = [b"%d" % number for number in range(100) if held.enter(b"%d" % number, 8 * MIB, "greedy")]
    assert len(taken) == MOST_HELD_OF_A_KEY // (8 * MIB)
    assert held.enter(b"other", 8 * MIB, "modest")
    assert held.enter(b"peer", 8 * MIB)
    held.leave(taken[0], 8 * MIB)
    assert held.enter(b"new", 8 * MIB, "greedy")
    assert not held.enter(b"newer", 8 * MIB, "greedy")


def test_small_answers_that_left_before_count_for_the_key_as_soon_as_it_is_known(held) -> None:
    before = SimpleNamespace(done=False)
    assert held.pass_on(b"one", 60_000, 0)
    held.sent(b"one", before, 60_000)
    assert held.enter(b"one", 10_000, "key")
    assert held._of_key == {"key": 70_000}
    held.leave(b"one", 10_000)
    before.done = True
    held.enter(b"one", 1, "key")
    assert held._of_key == {"key": 1}


def test_answers_that_no_frame_can_carry_make_room_and_take_no_others_with_them(silent) -> None:
    left: list[int] = []
    silent.wire._door._left = lambda replies: left.extend(reply.body.id for reply in replies)
    silent.wire.reply(Reply(b"bad", 1, Failed(1, "RaftError", "half of a character: \udc80")))
    silent.wire.reply(Reply(b"good", 1, Answer(2)))
    silent.turn()
    assert left == [1, 2]


def test_nothing_is_remembered_of_keys_whose_answers_have_left(held) -> None:
    assert held.enter(b"one", MIB, "key")
    assert held.pass_on(b"one", MIB + 100, MIB)
    held.leave(b"one", MIB + 100)
    assert [held._bytes, held._key_of, dict(held._of_key)] == [{}, {}, {}]


def test_many_threads_count_as_one(held) -> None:
    def work() -> None:
        for number in range(3000):
            route = b"%d" % (number % 3)
            if held.enter(route, COUNTED + number):
                if number % 2:
                    held.leave(route, COUNTED + number)
                else:
                    sends(held, route, COUNTED + number + 50, SimpleNamespace(done=True), entered=COUNTED + number)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert all(held.enter(b"%d" % number, MOST_HELD_OF_ONE) for number in range(3))
    assert held._all == 3 * MOST_HELD_OF_ONE
