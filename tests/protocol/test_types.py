"""Positions, ballots and timeouts."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_actors.protocol import messages
from raft_actors.protocol.types import NOWHERE, Ballot, LogPosition, Settings
from tests.behaviours import bench

numbers = st.integers(0, 5)


@given(numbers, numbers, numbers, numbers)
def test_a_later_term_wins_and_only_then_the_longer_log(term: int, index: int, other_term: int, other: int) -> None:
    up_to_date = term > other_term or (term == other_term and index >= other)
    assert (LogPosition(term, index) >= LogPosition(other_term, other)) is up_to_date


def test_nowhere_is_before_everything() -> None:
    assert LogPosition(0, 1) > NOWHERE
    assert LogPosition(1, 0) > NOWHERE


def test_a_ballot_is_one_value() -> None:
    assert Ballot(3, "s1") == Ballot(3, "s1") != Ballot(3)
    assert msgspec.json.encode(Ballot(3, "s1")) == b'[3,"s1"]'


@pytest.mark.parametrize(("jitter", "timeout"), [(0.0, 0.3), (0.5, 0.45), (0.999999, 0.6)])
def test_an_election_timeout_lies_between_its_bounds(jitter: float, timeout: float) -> None:
    assert Settings().election_timeout(jitter) == pytest.approx(timeout, abs=1e-5)


EXAMPLES = [
    bench.pre_vote("s2", 3),
    bench.pre_vote_reply("s2", 3, granted=True),
    bench.request_vote("s2", 3, transfer=True),
    bench.vote("s2", 3),
    bench.append("s2", 3, LogPosition(1, 1), bench.entries(2, 3), commit=1, number=4),
    bench.ack("s2", 3, 2, promise=0.3),
    bench.nack("s2", 3, 2, LogPosition(1, 1)),
    bench.piece("s2", 3, LogPosition(2, 7), 5),
    bench.piece_reply("s2", 3, 5, 10, 7),
    bench.timeout_now("s2", 3),
    bench.read_index("s2", 3),
    bench.read_index_reply("s2", 3, 1, None),
    bench.introduce("s2", 3),
    bench.introduce_reply("s2", 3, busy=True),
    bench.join("s2", 3, learner=True),
    bench.join_reply("s2", 3, messages.JoinRefusal.BUSY, leader="s3"),
    bench.removed("s2", 3, 7),
    bench.form_cluster("s2", "p", "s1", "s2"),
    bench.form_cluster_reply("s2", "p", "configured", configuration=bench.THREE),
]


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_survives_the_wire(message: messages.Message) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=messages.Message) == message


def test_every_message_has_an_example() -> None:
    assert {type(example) for example in EXAMPLES} == set(messages.Message.__args__)
