from __future__ import annotations

import threading

import pytest

from raft_actors import AlreadyStarted, InvalidName
from raft_actors.names import check_name, names, register, replace, unregister, whereis


@pytest.fixture
def name():
    yield "a-test"
    unregister("a-test")


@pytest.mark.parametrize("good", ["s1", "S", "_", "-", "a.b", "0", "x" * 64, "peer-1_b.c"])
def test_a_name_is_made_of_letters_digits_underscore_dash_and_dot(good) -> None:
    assert check_name(good) == good


@pytest.mark.parametrize(
    "bad", ["", ".", ".hidden", "..", "a/b", "a b", "a\n", "s1@host:1", "é", "x" * 65, None, 7, b"s1", "a\0", "٣"]
)
def test_anything_else_is_refused_with_the_rule(bad) -> None:
    with pytest.raises(InvalidName, match="1 to 64") as caught:
        check_name(bad)
    assert repr(bad)[:20] in str(caught.value)


def test_a_registered_value_is_found_under_its_name_until_it_is_unregistered(name) -> None:
    value = object()
    register(name, value)
    assert whereis(name) is value
    assert name in names()
    assert unregister(name) is True
    assert whereis(name) is None
    assert unregister(name) is False


def test_a_name_in_use_cannot_be_registered_again(name) -> None:
    register(name, "first")
    with pytest.raises(AlreadyStarted) as caught:
        register(name, "second")
    assert caught.value.name == name
    assert whereis(name) == "first"


def test_an_invalid_name_cannot_be_registered() -> None:
    with pytest.raises(InvalidName):
        register("../etc", "value")
    assert whereis("../etc") is None


def test_only_the_owner_gives_up_a_name_when_it_says_who_it_is(name) -> None:
    old, new = object(), object()
    register(name, old)
    assert replace(name, new, object()) is False
    assert replace(name, old, new) is True
    assert unregister(name, old) is False
    assert whereis(name) is new
    assert unregister(name, new) is True


def test_of_many_threads_that_want_a_name_exactly_one_gets_it(name) -> None:
    start = threading.Barrier(16)
    won, refused = [], []

    def attempt(number: int) -> None:
        start.wait()
        try:
            register(name, number)
        except AlreadyStarted:
            refused.append(number)
        else:
            won.append(number)

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert len(refused) == 15
    assert whereis(name) == won[0]
