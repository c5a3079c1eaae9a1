from __future__ import annotations

import random

import pytest

from raft_actors import machines
from raft_actors.machines import KV, Counter, Echo, Lock, Queue, Stack
from raft_actors.state_machine import Context

ALL = [getattr(machines, name) for name in machines.__all__]


class Driver:
    """Runs a machine the way a peer does, without a peer."""

    def __init__(self, kind) -> None:
        self.machine = kind()
        self.state = self.machine.init("s1")
        self.index = 10

    def write(self, command, *, time: float = 0.0):
        self.index += 1
        self.machine.context = Context(self.index, 1, time)
        reply, self.state = self.machine.handle_write(command, self.state)
        return reply

    def read(self, query):
        reply, _ = self.machine.handle_read(query, self.state)
        return reply


def test_echo_returns_what_it_gets() -> None:
    echo = Driver(Echo)
    for value in (None, ("a", [1])):
        assert echo.write(value) == echo.read(value) == value


def test_a_stack_gives_back_the_newest_first() -> None:
    stack = Driver(Stack)
    assert stack.write("pop") is None
    assert [stack.write(("put", item)) for item in ("a", "b", "c")] == [1, 2, 3]
    assert stack.read("all") == ["c", "b", "a"]
    assert stack.read("length") == 3
    assert [stack.write("pop") for _ in range(4)] == ["c", "b", "a", None]
    assert stack.read("length") == 0


def test_a_list_of_the_stack_is_no_alias_of_its_state() -> None:
    stack = Driver(Stack)
    stack.write(("put", 1))
    stack.read("all").clear()
    assert stack.read("length") == 1


def test_kv_sets_gets_and_deletes() -> None:
    kv = Driver(KV)
    assert kv.write(("set", "k", 1)) == ("ok", "k", 1)
    assert kv.write(("get", "k")) == kv.read(("get", "k")) == 1
    assert kv.write(("set", ("tuple", 1), None)) == ("ok", ("tuple", 1), None)
    assert kv.read("keys") == ["k", ("tuple", 1)]
    assert kv.read("len") == 2
    assert kv.write(("delete", "k")) is True
    assert kv.write(("delete", "k")) is False
    assert kv.write(("delete", ("tuple", 1))) is True  # a key whose value is None is there, too
    assert kv.read(("get", "k")) is None


def test_kv_compares_and_sets() -> None:
    kv = Driver(KV)
    assert kv.write(("cas", "k", 0, 1)) is False
    assert kv.read("keys") == []
    assert kv.write(("cas", "k", None, 1)) is True
    assert kv.write(("cas", "k", 2, 3)) is False
    assert kv.write(("cas", "k", 1, 3)) is True
    assert kv.read(("get", "k")) == 3


def test_a_queue_gives_each_item_once_in_order() -> None:
    queue = Driver(Queue)
    assert queue.write("get") is None
    assert [queue.write(("put", number)) for number in range(500)] == list(range(1, 501))
    assert [queue.write("get") for _ in range(500)] == list(range(500))
    assert queue.read("len") == 0
    assert queue.write("get") is None
    assert len(queue.state["items"]) <= 2 * 64, "what was taken is let go"


def test_one_owner_has_a_lock_until_it_releases_it() -> None:
    lock = Driver(Lock)
    assert lock.write(("acquire", "a", "x", 5.0)) == 11
    assert lock.write(("acquire", "a", "y", 5.0)) is None
    assert lock.write(("acquire", "b", "y", 5.0)) == 13
    assert lock.read(("holder", "a")) == ("x", 11)
    assert lock.write(("release", "a", 13)) is False
    assert lock.write(("release", "a", 11)) is True
    assert lock.write(("release", "a", 11)) is False
    assert lock.read(("holder", "a")) is None
    assert lock.write(("acquire", "a", "y", 5.0)) == 17


def test_a_lease_that_is_over_is_lost_and_the_next_token_is_higher() -> None:
    lock = Driver(Lock)
    old = lock.write(("acquire", "a", "x", 5.0), time=100.0)
    assert lock.write(("acquire", "a", "y", 5.0), time=104.9) is None
    new = lock.write(("acquire", "a", "y", 5.0), time=105.0)
    assert new > old
    assert lock.write(("refresh", "a", old, 5.0), time=105.1) is False
    assert lock.write(("release", "a", old), time=105.1) is False
    assert lock.read(("holder", "a")) == ("y", new)


def test_a_lease_is_made_longer_in_time_only() -> None:
    lock = Driver(Lock)
    token = lock.write(("acquire", "a", "x", 5.0), time=100.0)
    assert lock.write(("refresh", "a", token, 5.0), time=104.0) is True
    assert lock.write(("acquire", "a", "x", 5.0), time=108.0) == token, "asked twice: the same"
    assert lock.write(("refresh", "a", token, 5.0), time=112.9) is True
    assert lock.write(("refresh", "a", token, 5.0), time=117.9) is False, "nobody took it, but it is over"


def test_a_lease_that_is_over_is_not_given_back() -> None:
    lock = Driver(Lock)
    token = lock.write(("acquire", "a", "x", 5.0), time=100.0)
    for other in ("b", "c"):  # longer leases, so that the one which is over is not swept yet
        lock.write(("acquire", other, "x", 500.0), time=104.0)
    assert lock.write(("release", "a", token), time=105.0) is False


def test_leases_that_are_over_do_not_pile_up() -> None:
    lock = Driver(Lock)
    for long in "ab":
        assert lock.write(("acquire", long, "x", 1e6), time=0.0)
    for number in range(1000):
        lock.write(("acquire", number, "x", 1.0), time=float(number))
    assert len(lock.state["leases"]) < 10


@pytest.mark.parametrize("ttl", [0, -1.0, float("inf"), float("nan"), "1", True])
def test_a_lease_has_a_sensible_length(ttl) -> None:
    with pytest.raises((TypeError, ValueError), match="ttl must be"):
        Driver(Lock).write(("acquire", "a", "x", ttl))


def test_a_counter_counts_up_and_down() -> None:
    counter = Driver(Counter)
    assert [counter.write(("add", n)) for n in (5, -7, 0)] == [5, -2, -2]
    assert counter.read("value") == -2


@pytest.mark.parametrize("bad", [1.5, "1", None, True])
def test_a_counter_counts_in_whole_numbers(bad) -> None:
    counter = Driver(Counter)
    with pytest.raises(TypeError, match="whole number"):
        counter.write(("add", bad))
    assert counter.read("value") == 0


@pytest.mark.parametrize("kind", [Stack, KV, Counter])
@pytest.mark.parametrize("word", ["frob", ("frob", 1), (), 7, None, ("frob",), ["x"]])
def test_an_unknown_word_is_an_error_that_names_it_and_the_known_ones(kind, word) -> None:
    driver = Driver(kind)
    for call in (driver.write, driver.read):
        with pytest.raises(ValueError, match="unknown word .*known are") as caught:
            call(word)
        assert repr(word[0] if word and isinstance(word, tuple) else word) in str(caught.value)
    assert driver.state == kind().init("s1")


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (Stack, ("put",)), (Stack, ("put", 1, 2)), (Stack, ("pop", 1)), (KV, ("set", "k")), (KV, ("set", "k", 1, 2)),
        (KV, ("cas", "k", 1)), (KV, ("get",)), (KV, ("delete",)), (Counter, ("add",)), (Counter, ("add", 1, 2)),
    ],
)  # fmt: skip
def test_a_wrong_number_of_arguments_is_an_error_that_tells_it(kind, word) -> None:
    with pytest.raises(ValueError, match=f"unknown word '{word[0]}' with {len(word) - 1} arguments"):
        Driver(kind).write(word)


def test_a_key_that_is_not_hashable_is_an_error() -> None:
    for word in (("set", [], 1), ("get", []), ("delete", {}), ("cas", [], 1, 2)):
        with pytest.raises(TypeError):
            Driver(KV).write(word)


@pytest.mark.parametrize("kind", ALL)
def test_the_examples_are_understood_and_cover_every_word(kind) -> None:
    driver, rng, seen = Driver(kind), random.Random(7), set()
    for _ in range(500):
        how, what = kind.examples(rng)
        {"write": driver.write, "read": driver.read}[how](what)
        seen.add((how, what[0] if isinstance(what, tuple) else what))
    words = {KV: 7, Stack: 4, Counter: 2}
    assert len(seen) == words.get(kind, len(seen))
    assert {how for how, _ in seen} == {"write", "read"}


@pytest.mark.parametrize("kind", ALL)
def test_the_same_commands_lead_to_the_same_state(kind) -> None:
    drivers = [Driver(kind), Driver(kind)]
    for driver in drivers:
        rng = random.Random(11)
        driver.replies = [getattr(driver, how)(what) for how, what in (kind.examples(rng) for _ in range(200))]
    assert drivers[0].state == drivers[1].state
    assert drivers[0].replies == drivers[1].replies
