"""What waits for a node: the urgent passes the large, nothing is repeated, and no queue is made on the way."""

from __future__ import annotations

import pytest

from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.messages import AppendEntries, InstallSnapshot
from raft_actors.protocol.types import LogPosition
from raft_actors.transport.frames import BadFrame, Letter, Part, Parts, Post, pack, unpack
from raft_actors.transport.zeromq.lanes import PART, PIECE, Lanes, Window, cut

HEADER = {"cluster": "c", "sender": "s1", "incarnation": "i1", "receiver": "i2", "term": 3}


def entries(first: int, size: int = 100_000, **header: object) -> Letter:
    """A letter with one entry."""
    data = b"x" * size
    message = AppendEntries(
        **{**HEADER, **header},
        previous=LogPosition(1, first - 1),
        entries=(Entry(index=first, term=1, kind=EntryKind.COMMAND, time=0.0, data=data),),
    )
    return Letter("s2", message)


def heartbeat(previous: int, **header: object) -> Letter:
    return Letter("s2", AppendEntries(**{**HEADER, **header}, previous=LogPosition(1, previous), commit_index=7))


def piece(offset: int) -> Letter:
    last = LogPosition(1, 9)
    message = InstallSnapshot(**HEADER, id="a" * 32, last=last, size=10**6, offset=offset, data=b"x" * 100_000)
    return Letter("s2", message)


def frame_of(letter: Letter) -> bytes:
    return pack(Post("h:1", (letter,)))


def take(lanes: Lanes, now: float = 0.0) -> Part | None:
    """The next part, which leaves."""
    found = lanes.part(frame_of)
    if found is None:
        return None
    lanes.part_sent(now)
    data, at, whole = found
    return Part("h:1", at, whole, data)


def all_of(lanes: Lanes) -> list[Letter]:
    """Every large letter, as it arrives at the other side."""
    parts, found = Parts(), []
    while (part := take(lanes)) is not None:
        lanes.window.confirmed(0.0)
        frame = parts.add(part)
        if frame is not None:
            found += unpack(frame).letters
    return found


def test_a_large_letter_arrives_in_parts_as_it_was() -> None:
    lanes = Lanes()
    lanes.add(entries(1, 300_000))
    lanes.add(entries(2, 50))
    lanes.add(piece(0))
    assert lanes.small() == []
    assert all_of(lanes) == [entries(1, 300_000), entries(2, 50), piece(0)]
    assert not lanes.busy


def test_what_is_urgent_leaves_in_the_middle_of_a_large_letter() -> None:
    lanes = Lanes()
    lanes.add(entries(1, 300_000))
    take(lanes)
    lanes.add(heartbeat(0))
    assert lanes.small() == [heartbeat(0)]


def test_a_heartbeat_that_passes_entries_speaks_of_the_log_before_them() -> None:
    """Else it would be refused there, and everything sent again."""
    lanes = Lanes()
    lanes.add(entries(5))
    lanes.add(entries(6))
    take(lanes)
    lanes.add(heartbeat(6))
    assert lanes.small() == [heartbeat(4)]


@pytest.mark.parametrize("other", [{"sender": "s3"}, {"term": 4}])
def test_a_heartbeat_of_another_leadership_is_left_alone(other: dict[str, object]) -> None:
    lanes = Lanes()
    lanes.add(entries(5))
    lanes.add(heartbeat(6, **other))
    assert lanes.small() == [heartbeat(6, **other)]


def test_a_heartbeat_of_an_older_place_is_left_alone() -> None:
    lanes = Lanes()
    lanes.add(entries(5))
    lanes.add(heartbeat(2))
    assert lanes.small() == [heartbeat(2)]


@pytest.mark.parametrize("letter", [entries(5), piece(1000)])
def test_what_waits_already_is_not_taken_twice(letter: Letter) -> None:
    lanes = Lanes()
    lanes.add(letter)
    lanes.add(letter)
    took = [take(lanes)]
    lanes.add(letter)  # a part of it has left
    while lanes.busy:
        took.append(take(lanes))
    assert [part.at for part in took] == [PART * number for number in range(len(took))]
    assert took[0].whole == sum(len(part.data) for part in took)
    lanes.add(letter)
    assert all_of(lanes) == [letter]


def test_a_part_that_does_not_go_on_where_the_last_ended_is_refused() -> None:
    parts = Parts()
    assert parts.add(Part("h:1", 0, 4, b"ab")) is None
    assert parts.add(Part("h:2", 0, 4, b"AB")) is None
    with pytest.raises(BadFrame):
        parts.add(Part("h:1", 3, 4, b"d"))
    with pytest.raises(BadFrame):
        parts.add(Part("h:1", 2, 4, b"cd"))
    with pytest.raises(BadFrame):
        parts.add(Part("h:2", 2, 4, b"CDE"))
    assert parts.add(Part("h:1", 0, 4, b"ab")) is None
    assert parts.add(Part("h:1", 0, 2, b"ab")) == b"ab"


def test_a_window_finds_out_what_a_slow_way_takes() -> None:
    """A way of 1 MB/s: never is more under way than what it takes in a third of a second."""
    window, now, free_at = Window(), 0.0, 0.0
    arrivals: list[float] = []
    waits = []
    for _ in range(300):
        while window.room():
            window.sent(PART, now)
            free_at = max(now, free_at) + PART / 1e6
            arrivals.append(free_at)
            waits.append(free_at - now)
        now = arrivals.pop(0)
        window.confirmed(now)
    assert max(waits[50:]) < 0.33
    assert free_at >= now  # and it is always in use


def test_a_window_of_a_quick_way_becomes_wide_also_if_it_is_long() -> None:
    window = Window()
    for number in range(100):
        window.sent(PART, number * 1.0)
        window.confirmed(number * 1.0 + 0.2)
    assert window.size == 1 << 20


def test_a_large_frame_is_cut_into_pieces() -> None:
    frame = bytes(range(256)) * 1000
    assert b"".join(cut(frame)) == frame
    assert max(len(one) for one in cut(frame)) == PIECE
    assert cut(frame[:PIECE]) == [frame[:PIECE]]
