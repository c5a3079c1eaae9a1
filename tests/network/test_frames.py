"""What goes over the wire: exact bytes for ever, and nothing that is not exactly so."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from raft_actors.protocol.changes import AddMember, RemoveMember, SetMembers
from raft_actors.protocol.messages import PreVote
from raft_actors.protocol.types import NOWHERE
from raft_actors.protocol.validity import why_malformed
from raft_actors.transport import frames as f
from raft_actors.transport.conformance import EVERY_MESSAGE

GOLDEN = Path(__file__).with_name("golden_frames.txt")
BEFORE_RESTING = (
    "72616674010000005b75445c9303a3683a319192a273328ba474797065b2417070656e64456e74726965735265706c79a763"
    "6c7573746572a163a673656e646572a27331ab696e6361726e6174696f6ea26931a87265636569766572a26932a47465726d"
    "07a773756363657373c2ab6d617463685f696e64657803a468696e74920603a770726f6d697365cb3fd0000000000000a870"
    "72696f72697479fd"
)
"""An AppendEntriesReply with one optional field less: the head of its map is shorter."""
WITHOUT_COMMIT = (
    "72616674010000008d3ef0199303a3683a319192a2733287a474797065a752656d6f766564a7636c7573746572a163a67365"
    "6e646572a27331ab696e6361726e6174696f6ea26931a87265636569766572a26932a47465726d07a5696e64657809"
)
"""A Removed with one optional field less."""
EVERY_BODY: dict[str, f.Body] = {
    "hello": f.Hello(1, 2, "10.0.0.1:7001"),
    "welcome": f.Welcome(1, "writer", False),
    "confirmed": f.Confirmed(1 << 20),
    "gone": f.Gone("10.0.0.1:7001", "s1"),
    "part": f.Part("10.0.0.1:7001", 3, 7, b"abc"),
    "beat": f.Beat("10.0.0.1:7001", (f.Rest("s1", "s2", 7), f.Rest("t1", "t2", 9))),
    "ask submit": f.Ask(1, "s1", 3.0, f.Submit(b"command", "plain")),
    "ask session": f.Ask(2, "s1", 3.0, f.SessionCommand(17, 2**64 - 1, 4, 3, 2, b"command", "cloudpickle")),
    "ask open": f.Ask(3, "s1", 3.0, f.OpenSession(2**64 - 1)),
    "ask query": f.Ask(4, "s1", 3.0, f.Query(b"query", "plain", "stale", 12)),
    "ask status": f.Ask(5, "s1", 3.0, f.GetStatus()),
    "ask leader": f.Ask(6, "s1", 3.0, f.FindLeader()),
    "ask set": f.Ask(7, "s1", 3.0, f.SetConfiguration((("s1", "h:1"), ("s2", "h:2")), 9)),
    "ask add": f.Ask(8, "s1", 3.0, f.ChangeMembers(AddMember("s4", learner=True), (("s4", "h:4"),))),
    "ask remove": f.Ask(9, "s1", 3.0, f.ChangeMembers(RemoveMember("s4"), (), 12, here=True)),
    "ask members": f.Ask(10, "s1", 3.0, f.ChangeMembers(SetMembers(("s1", "s2")))),
    "ask transfer": f.Ask(11, "s1", 3.0, f.Transfer("s2")),
    "ask snapshot": f.Ask(12, "s1", 3.0, f.TakeSnapshot()),
    "asks": f.Asks((f.Ask(1, "s1", 3.0, f.GetStatus()), f.Ask(2, "s1", 3.0, f.Submit(b"command", "plain")))),
    "answers": f.Answers((f.Answer(1, b"reply", "plain", 12), f.Failed(2, "Overloaded", "too much"))),
    "answer": f.Answer(1, b"reply", "plain", 12),
    "failed": f.Failed(1, "NotLeader", "not the leader", {"leader": "s2@h:2"}, f.Description("E", "m", "t"), 3),
    **{name: f.Post("h:1", (f.Letter("s2", make("s1")),)) for name, make in EVERY_MESSAGE.items()},
}


def golden() -> dict[str, bytes]:
    lines = GOLDEN.read_text().splitlines()
    return {name: bytes.fromhex(text) for name, text in (line.rsplit(" ", 1) for line in lines)}


def checked(data: bytes, version: int = 1) -> bytes:
    """A frame around any body."""
    return struct.pack(">4sB3xI", b"raft", version, zlib.crc32(data)) + data


def refused(frame: bytes) -> str:
    with pytest.raises(f.BadFrame) as refusal:
        f.unpack(frame)
    return str(refusal.value)


def test_every_body_has_a_golden_frame() -> None:
    assert list(golden()) == list(EVERY_BODY)


@pytest.mark.parametrize("name", EVERY_BODY)
def test_the_bytes_of_version_1_never_change(name: str) -> None:
    assert f.pack(EVERY_BODY[name], 1) == golden()[name]
    assert f.unpack(golden()[name]) == EVERY_BODY[name]


def test_an_answer_as_it_was_written_before_peers_rested_is_understood() -> None:
    assert f.unpack(bytes.fromhex(BEFORE_RESTING)) == EVERY_BODY["AppendEntriesReply"]


def test_a_removed_that_does_not_say_what_its_sender_has_committed_is_understood() -> None:
    (letter,) = f.unpack(bytes.fromhex(WITHOUT_COMMIT)).letters
    assert letter.message == replace(EVERY_MESSAGE["Removed"]("s1"), commit=NOWHERE)


@pytest.mark.parametrize("name", EVERY_BODY)
def test_a_frame_that_lost_or_changed_a_bit_is_refused(name: str) -> None:
    frame = golden()[name]
    for place in range(len(frame)):
        if place in (5, 6, 7):  # zeros, for later versions
            continue
        assert refused(frame[:place] + bytes([frame[place] ^ 4]) + frame[place + 1 :])
        assert refused(frame[:place])


def test_each_refusal_says_why() -> None:
    frame = f.pack(EVERY_BODY["hello"])
    assert refused(b"") == refused(frame[:12]) == "too short"
    assert refused(b"x" + frame[1:]) == "no frame"
    assert refused(frame[:4] + b"\x07" + frame[5:]) == "unknown version"
    assert refused(frame[:-1]) == "damaged"
    assert refused(checked(b"\xc1")) == "malformed"


def test_a_frame_that_is_too_large_is_not_even_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = f.pack(EVERY_BODY["hello"])
    monkeypatch.setattr(f, "LARGEST", len(frame) - 1)
    assert refused(frame) == "too large"


def body(message: object) -> bytes:
    return msgspec.msgpack.encode([3, "h:1", [["s2", message]], 0])


HEAD = {
    "type": "PreVote",
    "cluster": "c",
    "sender": "s1",
    "incarnation": "i",
    "receiver": "",
    "term": 1,
    "last": [1, 1],
}


def test_the_frame_that_the_next_tests_spoil_is_a_good_one() -> None:
    letters = f.unpack(checked(body(HEAD)))
    assert isinstance(letters, f.Post)
    assert isinstance(letters.letters[0].message, PreVote)


@pytest.mark.parametrize(
    "wrong",
    [
        {"term": -1},
        {"term": 2**63},
        {"term": 1.5},
        {"term": "1"},
        {"sender": "s" * 65},
        {"cluster": "c" * 129},
        {"last": [1, -1]},
        {"last": [1]},
        {"last": None},
        {"type": "RequestVotes"},
    ],
)
def test_a_field_out_of_its_bounds_is_refused(wrong: dict[str, object]) -> None:
    if wrong == {"last": [1]}:  # what is left out is its default: an older release may lack it
        assert f.unpack(checked(body({**HEAD, **wrong})))
        return
    assert refused(checked(body({**HEAD, **wrong}))) == "malformed"


def test_a_field_that_a_later_release_added_is_passed_over() -> None:
    assert f.unpack(checked(body({**HEAD, "colour": "red"}))) == f.unpack(checked(body(HEAD)))
    assert f.unpack(checked(msgspec.msgpack.encode([1, 1, 2, "h:1", "more"]))) == f.Hello(1, 2, "h:1")


@given(st.binary(max_size=300))
def test_whatever_bytes_come_they_are_a_body_or_refused(data: bytes) -> None:
    for frame in (data, checked(data)):
        try:
            assert isinstance(f.unpack(frame), f.Body)
        except f.BadFrame:
            pass


@given(st.sampled_from(sorted(EVERY_BODY)), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4))
def test_a_changed_body_with_a_good_checksum_is_a_body_or_refused(name: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(f.pack(EVERY_BODY[name])[12:])
    for place, value in changes:
        data[place % len(data)] = value
    try:
        found = f.unpack(checked(bytes(data)))
    except f.BadFrame:
        return
    for letter in found.letters if isinstance(found, f.Post) else ():
        assert isinstance(why_malformed(letter.message), str)
