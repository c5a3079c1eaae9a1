"""The window of a client: how much of it may be under way at once."""

from __future__ import annotations

import pytest

from raft_actors import client_window
from raft_actors.client_window import FEWEST, FIRST, MOST, MOST_BYTES, SPARE, Window


def filled(one: Window, size: int = 0) -> list[int]:
    """The numbers of as many as it lets in."""
    numbers = []
    while number := one.enter(size):
        numbers.append(number)
    return numbers


def answered(one: Window, numbers: list[int], *, lost: bool = False, size: int = 0) -> None:
    for number in numbers:
        one.leave(number, size, lost=lost)


def test_it_lets_in_as_many_as_it_is_wide_and_one_more_for_each_that_is_answered() -> None:
    one = Window()
    numbers = filled(one)
    assert len(numbers) == FIRST
    one.leave(numbers[0], 0, lost=False)
    assert len(filled(one)) == 2, "the place of the one that was answered, and one that is new"


def test_it_doubles_with_each_windowful_up_to_its_bound() -> None:
    one = Window()
    for _ in range(20):
        answered(one, filled(one))
    assert one.width == MOST


def test_a_window_that_is_not_used_does_not_grow() -> None:
    one = Window()
    for _ in range(1000):
        one.leave(one.enter(0), 0, lost=False)
    assert one.width == FIRST


def test_what_is_lost_halves_it_once_for_all_that_had_left_by_then() -> None:
    one = Window()
    numbers = filled(one)
    answered(one, numbers[:100], lost=True)
    assert one.width == FIRST / 2
    answered(one, numbers[100:], lost=True)
    assert one.width == FIRST / 2, "they had left before it was narrowed"
    answered(one, filled(one), lost=True)
    assert one.width == FIRST / 4
    for _ in range(20):
        answered(one, filled(one), lost=True)
    assert one.width == FEWEST


def test_above_half_of_where_something_was_lost_it_grows_by_one_for_each_windowful() -> None:
    one = Window()
    one.leave(filled(one)[0], 0, lost=True)
    assert one.width == FIRST / 2
    one._open = 0
    answered(one, filled(one))
    assert FIRST / 2 < one.width < FIRST / 2 + 1
    for _ in range(10):
        answered(one, filled(one))
    assert FIRST / 2 + 3 < one.width < FIRST / 2 + 11


def test_large_requests_are_bounded_by_their_bytes_and_one_is_always_let_in() -> None:
    one, size = Window(), MOST_BYTES // 4
    numbers = filled(one, size)
    assert len(numbers) == 4
    assert not one.enter(1)
    answered(one, numbers, size=size)
    assert one.enter(2 * MOST_BYTES)
    assert not one.enter(0)


def test_what_is_all_that_a_thread_has_is_let_in_beyond_its_width() -> None:
    one = Window()
    filled(one)
    for _ in range(SPARE):
        assert one.enter(0, alone=True)
    assert not one.enter(0, alone=True)
    one = Window()
    filled(one, MOST_BYTES // 4)
    assert one.enter(MOST_BYTES, alone=True)
    assert not one.enter(1, alone=True)


def test_it_says_when_there_is_room_for_a_good_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_window, "ROOM", 0.5)
    one = Window()
    numbers = filled(one)
    answered(one, numbers[: FIRST // 4], lost=True)
    assert not one.roomy, "half as wide, and three quarters of what it was are under way"
    answered(one, numbers[FIRST // 4 : 3 * FIRST // 4 - 1], lost=True)
    assert not one.roomy
    answered(one, numbers[3 * FIRST // 4 - 1 : 3 * FIRST // 4], lost=True)
    assert one.roomy
    one._bytes = MOST_BYTES // 2 + 1
    assert not one.roomy
