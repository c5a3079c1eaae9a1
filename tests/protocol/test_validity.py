"""What a message of another process must be, beyond its types, before a rule looks at it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from raft_actors.protocol import messages as ms
from raft_actors.protocol.configuration import Configuration, Goal, Member, encode
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.sessions import OpenSession, SessionWrite
from raft_actors.protocol.types import LogPosition
from raft_actors.protocol.validity import is_address, why_malformed

HEAD = {"cluster": "c", "sender": "s1", "incarnation": "i", "receiver": "", "term": 3}
THREE = tuple(Member(f"s{number}", f"i{number}", f"10.0.0.{number}:7001") for number in (1, 2, 3))


@dataclass
class Make:
    """Messages that differ in one thing."""

    @staticmethod
    def append(*entries: Entry) -> ms.AppendEntries:
        return ms.AppendEntries(**HEAD, previous=LogPosition(2, 5), entries=entries)

    @staticmethod
    def configured(configuration: Configuration) -> Entry:
        return Entry(6, 3, EntryKind.CONFIGURATION, 1.0, encode(configuration))

    @staticmethod
    def piece(offset: int, data: bytes) -> ms.InstallSnapshot:
        return ms.InstallSnapshot(**HEAD, id="x", last=LogPosition(1, 1), size=9, offset=offset, data=data)

    @staticmethod
    def joined(**more) -> ms.JoinReply:
        return ms.JoinReply(**HEAD, refusal=ms.JoinRefusal.NO_LEADER, **more)


def entry(index: int, term: int, **more) -> Entry:
    return Entry(index, term, EntryKind.COMMAND, **{"time": 1.0, **more})


def session(data: bytes) -> Entry:
    return Entry(6, 3, EntryKind.SESSION, 1.0, data)


GOOD = {
    "a heartbeat": Make.append(),
    "entries in their order": Make.append(entry(6, 2), entry(7, 3)),
    "a configuration": Make.append(Make.configured(Configuration(THREE, THREE[:2], (), Goal(THREE)))),
    "a session that opens": Make.append(session(OpenSession(1, 3600.0).encode())),
    "a write of a session": Make.append(session(SessionWrite(4, 1, 1, 0, 0, b"x").encode())),
    "a piece at the end": Make.piece(4, b"12345"),
    "a vote": ms.RequestVote(**HEAD, last=LogPosition(1, 1)),
    "a question whether one is free": ms.FormCluster(**HEAD, proposal="p", names=("s1", "s2"), until=1.0),
    "free": ms.FormClusterReply(**HEAD, proposal="p", address="h:1"),
    "not free": ms.FormClusterReply(**HEAD, proposal="p", refusal="configured", configuration=Configuration(THREE)),
    "an introduction": ms.IntroduceReply(**HEAD, address="[::1]:7001"),
    "a wish to join": ms.Join(**HEAD, expected=("s1", "s2"), address=""),
    "who leads": Make.joined(leader="s2", address="h:1"),
    "nobody leads": Make.joined(),
}


@pytest.mark.parametrize("message", GOOD.values(), ids=GOOD)
def test_what_peers_say_makes_sense(message: ms.Message) -> None:
    assert why_malformed(message) == ""


BAD = {
    "a gap": Make.append(entry(7, 3)),
    "the same index twice": Make.append(entry(6, 3), entry(6, 3)),
    "a gap later on": Make.append(entry(6, 3), entry(8, 3)),
    "a term before the one before": Make.append(entry(6, 1)),
    "a term that has not come yet": Make.append(entry(6, 4)),
    "a time that is none": Make.append(entry(6, 3, time=float("nan"))),
    "a time without end": Make.append(entry(6, 3, time=float("inf"))),
    "no configuration": Make.append(Entry(6, 3, EntryKind.CONFIGURATION, 1.0, b"")),
    "a configuration of nobody": Make.append(Make.configured(Configuration())),
    "a member with a path for a name": Make.append(Make.configured(Configuration((Member("../s1", "i"),)))),
    "a member twice": Make.append(Make.configured(Configuration((Member("s1", "i"), Member("s1", "j"))))),
    "a member nowhere": Make.append(Make.configured(Configuration((Member("s1", "i", "nowhere"),)))),
    "a goal with a member twice": Make.append(Make.configured(Configuration(THREE, goal=Goal(THREE + THREE[:1])))),
    "no session": Make.append(session(b"")),
    "a session that never ends": Make.append(session(OpenSession(1, float("nan")).encode())),
    "an empty piece": Make.piece(0, b""),
    "a piece that is too long": Make.piece(5, b"12345"),
    "a message of nobody": ms.TimeoutNow(**{**HEAD, "sender": ""}),
    "a message of a path": ms.TimeoutNow(**{**HEAD, "sender": "../s1"}),
    "a message of no store": ms.TimeoutNow(**{**HEAD, "incarnation": ""}),
    "a cluster with a name that is none": ms.FormCluster(**HEAD, proposal="p", names=("s1", ""), until=1.0),
    "free at no address": ms.FormClusterReply(**HEAD, proposal="p", address="here"),
    "a cluster with a member twice": ms.FormClusterReply(
        **HEAD, proposal="p", configuration=Configuration(THREE + THREE[:1])
    ),
    "an introduction from nowhere": ms.IntroduceReply(**HEAD, address="h:99999"),
    "a wish to join from nowhere": ms.Join(**HEAD, address="h"),
    "a wish to join nobody": ms.Join(**HEAD, expected=("a/b",)),
    "a leader that is no name": Make.joined(leader="a b", address="h:1"),
    "a leader nowhere": Make.joined(leader="s2", address="h:port"),
}


@pytest.mark.parametrize("message", BAD.values(), ids=BAD)
def test_what_no_peer_says_is_refused_with_a_reason(message: ms.Message) -> None:
    assert why_malformed(message)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("", True),
        ("h:0", True),
        ("example.org:65535", True),
        ("[::1]:7001", True),
        ("h:65536", False),
        ("h", False),
        ("h:", False),
        (":1", False),
        ("::1:7001", False),
        ("h:1 ", False),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, good: bool) -> None:
    assert is_address(text) is good
