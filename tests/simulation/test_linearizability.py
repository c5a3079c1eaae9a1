"""Histories that everybody can judge by eye: each kind of anomaly is found, and what only looks odd is let pass."""

from __future__ import annotations

from typing import Any

import pytest

from raft_actors.testing.history import Verdict, timeline
from raft_actors.testing.linearizability import Operation, check_linearizable


def op(
    client: str, word: str, value: Any, output: Any, call: float, ret: float | None, status: str = "ok", key: Any = "x"
) -> Operation:
    return Operation(client, word, key, value, output, call, ret, status)


def append(value: Any, call: float, ret: float | None, status: str = "ok", client: str = "a") -> Operation:
    return op(client, "append", value, None, call, ret, status)


def write(value: Any, call: float, ret: float | None, status: str = "ok", client: str = "a") -> Operation:
    return op(client, "write", value, None, call, ret, status)


def read(output: Any, call: float, ret: float | None, status: str = "ok", client: str = "r") -> Operation:
    return op(client, "read", None, output, call, ret, status)


def cas(old: Any, new: Any, output: Any, call: float, ret: float | None, status: str = "ok") -> Operation:
    return op("c", "cas", (old, new), output, call, ret, status)


GOOD_LISTS = {
    "nothing": [],
    "an empty list is read first": [read([], 0, 1), append(1, 2, 3), read([1], 4, 5)],
    "a tuple is a list too": [append(1, 0, 1), read((1,), 2, 3)],
    "concurrent appends in either order": [append(1, 0, 5), append(2, 0, 5), read([2, 1], 6, 7)],
    "a concurrent read may miss it": [append(1, 0, 5), read([], 1, 6), read([1], 7, 8)],
    "unknown and applied late": [append(1, 0, None, "unknown"), read([], 5, 6), append(2, 7, 8), read([2, 1], 9, 10)],
    "unknown and never applied": [append(1, 0, 1, "unknown"), append(2, 7, 8), read([2], 9, 10)],
    "failed and not applied": [append(1, 0, 1, "fail"), append(2, 7, 8), read([2], 9, 10)],
    "failed, then repeated": [append(1, 0, 1, "fail"), append(1, 2, 3), read([1], 4, 5)],
    "a read of unknown outcome says nothing": [append(1, 0, 1), read([9, 9], 2, None, "unknown")],
    "touching in time is concurrent": [append(1, 0, 1), read([], 1, 2)],
    "never read": [append(1, 0, 1), append(2, 0, 1)],
    "values of any type": [append([1], 0, 1), append({"a": 1}, 2, 3), read([[1], {"a": 1}], 4, 5)],
}

BAD_LISTS = {
    "stale read": ([append(1, 0, 1), read([], 2, 3), read([1], 4, 5)], 2),
    "lost append": ([append(1, 0, 1), append(2, 2, 3), read([2], 4, 5), read([2], 6, 7)], 2),
    "value from nowhere": ([append(1, 0, 1), read([1, 7], 2, 3)], 1),
    "read twice in one list": ([append(1, 0, 1), read([1, 1], 2, 3)], 2),
    "reads that go back": ([append(1, 0, 9), read([1], 2, 3), read([], 4, 5)], 3),
    "reads that fork": ([append(1, 0, 9), append(2, 0, 9), read([1, 2], 1, 9), read([2, 1], 1, 9)], 4),
    "order against real time": ([append(1, 0, 1), append(2, 2, 3), read([2, 1], 4, 5)], 3),
    "failed but applied": ([append(1, 0, 1, "fail"), read([1], 2, 3)], 2),
    "read before it was appended": ([read([1], 0, 1), append(1, 2, 3)], 2),
    "unknown, seen before its call": ([read([1], 0, 1), append(1, 2, None, "unknown")], 2),
    "unknown, applied, then gone": ([append(1, 0, None, "unknown"), read([1], 1, 2), read([], 3, 4)], 3),
    "acknowledged, overtaken by a later one": (
        [append(1, 0, 1), append(2, 2, 9, "unknown"), read([2], 3, 4), read([2, 1], 5, 6)],
        2,
    ),
}

GOOD_REGISTERS = {
    "nothing": [],
    "it begins as None": [read(None, 0, 1), cas(None, 1, True, 2, 3), read(1, 4, 5)],
    "concurrent writes in either order": [write(1, 0, 5), write(2, 0, 5), read(1, 6, 7)],
    "a read of the older, then the newer": [write(1, 0, 9), read(None, 1, 2), read(1, 3, 4)],
    "unknown and applied late": [write(1, 0, None, "unknown"), write(2, 1, 2), read(2, 3, 4), read(1, 5, 6)],
    "unknown and never applied": [write(1, 0, 1, "unknown"), write(2, 1, 2), read(2, 3, 4)],
    "failed and not applied": [write(1, 0, 1, "fail"), read(None, 2, 3)],
    "one of two cas wins": [cas(None, 1, True, 0, 5), cas(None, 2, False, 0, 5), read(1, 6, 7)],
    "unknown cas as a link of a chain": [
        cas(None, 1, None, 0, None, "unknown"),
        cas(1, 2, True, 1, 2),
        cas(1, 3, False, 3, 4),
    ],
    "an unknown write explains why a cas was refused": [write(7, 0, None, "unknown"), cas(None, 1, False, 1, 2)],
    "a cas that changes nothing": [write(1, 0, 1), cas(1, 1, True, 2, 3), cas(2, 2, False, 4, 5), read(1, 6, 7)],
    "one value written again": [write(1, 0, 1), write(2, 2, 3), write(1, 4, 5), read(1, 6, 7)],
    "one unknown write of a value that is seen twice": [
        write(1, 0, None, "unknown"),
        read(1, 1, 2),
        write(2, 3, 4),
        write(1, 5, 6),
        read(1, 7, 8),
    ],
    "None is a value that can be written": [write(1, 0, 1), write(None, 2, 3), read(None, 4, 5)],
    "touching in time is concurrent": [write(1, 0, 1), read(None, 1, 2)],
    "values of any type": [write([1, {2}], 0, 1), read([1, {2}], 2, 3)],
}

BAD_REGISTERS = {
    "stale read": ([write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)], 3),
    "stale read of the beginning": ([write(1, 0, 1), read(None, 2, 3)], 2),
    "lost update": ([write(1, 0, 1), cas(1, 2, True, 2, 3), cas(1, 3, True, 4, 5)], 3),
    "double cas success": ([cas(None, 1, True, 0, 5), cas(None, 2, True, 0, 5)], 2),
    "aborted read": ([write(1, 0, 1, "fail"), read(1, 2, 3)], 2),
    "value from nowhere": ([write(1, 0, 1), read(9, 2, 3)], 1),
    "reads that go back": ([write(1, 0, 9), write(2, 0, 9), read(1, 1, 2), read(2, 3, 4), read(1, 5, 6)], 5),
    "read before it was written": ([read(1, 0, 1), write(1, 2, 3)], 2),
    "refused although it had to find its value": ([write(1, 0, 1), cas(1, 2, False, 2, 3)], 2),
    "refused, but done": ([write(1, 0, 1), cas(1, 2, False, 0, 3), read(2, 4, 5)], 2),
    "an unknown write used twice": (
        [write(1, 0, None, "unknown"), read(1, 1, 2), write(2, 3, 4), read(2, 5, 6), read(1, 7, 8)],
        4,
    ),
    "unknown, seen before its call": ([read(1, 0, 1), write(1, 2, None, "unknown")], 2),
    "an unknown cas that cannot have found its value": ([cas(5, 1, None, 0, None, "unknown"), read(1, 1, 2)], 2),
}


@pytest.mark.parametrize("name", GOOD_LISTS)
def test_a_linearizable_list_is_accepted(name: str) -> None:
    assert check_linearizable(GOOD_LISTS[name], "append") == Verdict(
        True, f"linearizable: {len(GOOD_LISTS[name])} operations, {int(bool(GOOD_LISTS[name]))} keys"
    )


@pytest.mark.parametrize("model", ["register", "kv"])
@pytest.mark.parametrize("name", GOOD_REGISTERS)
def test_a_linearizable_register_is_accepted(name: str, model: str) -> None:
    verdict = check_linearizable(GOOD_REGISTERS[name], model)
    assert verdict.ok, verdict.detail


@pytest.mark.parametrize("name", BAD_LISTS)
def test_an_anomaly_of_a_list_is_found_and_shown_with_no_more_than_it_needs(name: str) -> None:
    history, size = BAD_LISTS[name]
    assert_refused(check_linearizable(history, "append"), "append", size)


@pytest.mark.parametrize("model", ["register", "kv"])
@pytest.mark.parametrize("name", BAD_REGISTERS)
def test_an_anomaly_of_a_register_is_found_and_shown_with_no_more_than_it_needs(name: str, model: str) -> None:
    history, size = BAD_REGISTERS[name]
    assert_refused(check_linearizable(history, model), model, size)


def assert_refused(verdict: Verdict, model: str, size: int) -> None:
    assert not verdict.ok
    assert len(verdict.counterexample) == size, verdict.detail
    assert not check_linearizable(verdict.counterexample, model), "the counterexample must fail by itself"


def test_a_verdict_is_true_or_false_by_itself() -> None:
    assert check_linearizable([], "kv")
    assert not check_linearizable([read(1, 0, 1)], "kv")


def test_the_order_in_which_operations_are_given_does_not_matter() -> None:
    for history in (GOOD_REGISTERS["unknown and applied late"], BAD_REGISTERS["lost update"][0]):
        assert check_linearizable(history, "kv").ok == check_linearizable(history[::-1], "kv").ok


def test_keys_are_checked_apart_and_the_failing_one_is_named() -> None:
    history = [
        op("a", "write", 1, None, 0, 1, key="good"),
        op("a", "write", 1, None, 2, 3, key=("bad", 1)),
        op("b", "read", None, None, 4, 5, key=("bad", 1)),
        op("b", "read", None, 1, 4, 5, key="good"),
    ]
    verdict = check_linearizable(history, "kv")
    assert "at key ('bad', 1)" in verdict.detail
    assert {op.key for op in verdict.counterexample} == {("bad", 1)}


def test_a_single_register_needs_no_key() -> None:
    history = [op("a", "write", 1, None, 0, 1, key=None), op("b", "read", None, 2, 4, 5, key=None)]
    assert "at key" not in check_linearizable(history, "register").detail
    assert check_linearizable(history[:1], "register")


def test_the_counterexample_leaves_out_what_plays_no_part() -> None:
    noise = [write(n, n, n + 0.5) for n in range(10, 200)]
    reads = [read(n, n + 0.6, n + 0.7) for n in range(10, 200) if n != 100]
    verdict = check_linearizable([*noise, *reads, read(99, 100.6, 100.7, client="guilty")], "register")
    shown = [(op.op, op.value, op.output) for op in verdict.counterexample]
    assert shown == [("write", 99, None), ("write", 100, None), ("read", None, 99)]
    assert "an overwritten value was seen" in verdict.detail
    assert "(shown: 3 of 380 operations)" in verdict.detail


def test_a_list_in_a_counterexample_is_cut_to_the_values_that_matter() -> None:
    history = [append(n, n, n + 0.5) for n in range(20)] + [read([*range(10), *range(11, 20)], 30, 31)]
    verdict = check_linearizable(history, "append")
    assert [op.output for op in verdict.counterexample] == [None, []]
    assert "10 was acknowledged, but no read shows it" in verdict.detail
    assert "read -> [..] (of 19)" in verdict.detail


def test_a_failed_writer_is_shown_with_the_read_that_saw_it() -> None:
    verdict = check_linearizable([write(1, 0, 1, "fail"), read(1, 2, 3)], "kv")
    assert "1 was seen although its write certainly had no effect" in verdict.detail
    assert "write 1 (fail)" in verdict.detail


def test_a_timeline_has_a_lane_for_each_client_and_time_goes_right() -> None:
    drawn = timeline([write(1, 0, 3, client="a"), read(1, 1, 4, client="bb"), write(2, 2, None, "unknown", "a")])
    assert drawn.splitlines() == [
        " a  |-write 1-|",
        " a      |-write 2 (unknown)-?",
        "bb    |-read -> 1-|",
        "  0 .. 3  a: write 1",
        "  1 .. 4  bb: read -> 1",
        "  2 .. never  a: write 2 (unknown)",
    ]


def test_a_timeline_puts_operations_of_one_client_that_follow_each_other_in_one_lane() -> None:
    drawn = timeline([write(1, 0, 1), cas(1, 2, True, 2, 3), write(3, 4, 5)])
    assert drawn.splitlines()[:2] == [
        "a  |-write 1-|                    |-write 3-|",
        "c              |-cas 1->2: True-|",
    ]


def test_a_long_timeline_shows_the_end_and_says_so() -> None:
    drawn = timeline([write(n, n, n + 1) for n in range(50)])
    assert drawn.startswith("(10 earlier operations are not drawn)")
    assert "write 9-" not in drawn
    assert "write 49-" in drawn


@pytest.mark.parametrize(
    ("model", "bad", "field"),
    [
        ("append", op("a", "write", 1, None, 0, 1), "op"),
        ("register", op("a", "append", 1, None, 0, 1), "op"),
        ("kv", write(1, 0, 1, "done"), "status"),
        ("kv", op("a", "write", 1, None, 0, 1, key=None), "key"),
        ("append", append(None, 0, 1), "value"),
        ("kv", op("a", "cas", 1, True, 0, 1), "value"),
        ("kv", op("a", "cas", (1, 2, 3), True, 0, 1), "value"),
        ("kv", cas(1, 2, None, 0, 1), "output"),
        ("append", read(None, 0, 1), "output"),
        ("kv", write(1, None, 1), "call"),  # type: ignore[arg-type]
        ("kv", write(1, float("nan"), 1), "call"),
        ("kv", write(1, 0, None), "ret"),
        ("kv", write(1, 2, 1), "ret"),
        ("kv", write(1, 2, "3"), "ret"),  # type: ignore[arg-type]
    ],
)
def test_an_operation_that_makes_no_sense_is_refused_and_its_field_named(
    model: str, bad: Operation, field: str
) -> None:
    with pytest.raises(ValueError, match=rf"operation 0: {field}: "):
        check_linearizable([bad], model)


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(ValueError, match="model: 'queue' is none of append, register, kv"):
        check_linearizable([], "queue")


def test_something_that_is_no_operation_is_refused() -> None:
    with pytest.raises(ValueError, match="is not an Operation"):
        check_linearizable([("a", "write")], "kv")  # type: ignore[list-item]


def test_a_value_appended_twice_to_one_key_is_refused() -> None:
    with pytest.raises(ValueError, match="value: 1 is appended twice to key 'x'"):
        check_linearizable([append(1, 0, 1), append(1, 2, 3)], "append")
    assert check_linearizable([append(1, 0, 1), op("a", "append", 1, None, 2, 3, key="y")], "append")


def test_keys_for_some_operations_only_are_refused() -> None:
    with pytest.raises(ValueError, match="key: some operations have one and some have none"):
        check_linearizable([write(1, 0, 1), op("a", "write", 1, None, 0, 1, key=None)], "register")
