"""A sound frame of every kind: what is sent between processes, and what a fuzzer begins with."""

from __future__ import annotations

import msgspec

from raft_actors.codec import resolve
from raft_actors.protocol import messages, sessions
from raft_actors.protocol.changes import AddMember, RemoveMember, SetMembers
from raft_actors.protocol.configuration import Configuration, Goal, Member, encode
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.types import LogPosition
from raft_actors.transport import frames
from raft_actors.transport.frames import Body, Letter, Post

__all__ = ["all_bodies", "all_messages"]

HEADER = {"cluster": "c" * 16, "sender": "s2", "incarnation": "i" * 16, "receiver": "r" * 16, "term": 7}
MEMBERS = tuple(Member(f"s{number}", f"{number}" * 16, f"127.0.0.1:700{number}") for number in (1, 2, 3))
CONFIGURATION = Configuration(MEMBERS, MEMBERS[:2], MEMBERS[2:], Goal(MEMBERS[:1], MEMBERS[1:2], ("s3",)))
ENTRIES = (
    Entry(4, 6, EntryKind.NOOP, 1.5),
    Entry(5, 6, EntryKind.CONFIGURATION, 1.5, encode(CONFIGURATION)),
    Entry(6, 7, EntryKind.SESSION, 2.5, sessions.OpenSession(12, 3600.0).encode()),
    Entry(7, 7, EntryKind.SESSION, 2.5, sessions.SessionWrite(6, 12, 1, 0, 0, b"\1").encode()),
    Entry(8, 7, EntryKind.COMMAND, 2.5, resolve("plain").encode(("set", "a", 1))),
)
PARTICULARS = {
    "last": LogPosition(6, 12),
    "granted": True,
    "previous": LogPosition(6, 3),
    "success": True,
    "id": "snapshot-1",
    "size": 100,
    "offset": 10,
    "data": b"piece",
    "received": 15,
    "request": 3,
    "index": 12,
    "proposal": "p" * 16,
    "names": ("s1", "s2", "s3"),
    "until": 2.0,
    "refusal": messages.JoinRefusal.BUSY,
}


def all_messages() -> list[messages.Message]:
    """One of every kind, and a few more of the larger ones."""
    found = []
    for kind in messages.Message.__args__:
        given = dict(HEADER)
        for field in msgspec.structs.fields(kind):
            if field.required and field.name not in given:
                given[field.name] = PARTICULARS[field.name]
        found.append(kind(**given))
    return [
        *found,
        messages.AppendEntries(
            **HEADER, previous=LogPosition(6, 3), entries=ENTRIES, commit_index=5, round=2, sent=1.0
        ),
        messages.AppendEntriesReply(**HEADER, success=False, previous=3, hint=LogPosition(5, 2)),
        messages.FormClusterReply(
            **HEADER, proposal="p", refusal="member", configuration=CONFIGURATION, address="10.0.0.1:1"
        ),
        messages.Join(**HEADER, learner=True, expected=("s1", "s2"), address="[::1]:7001"),
        messages.JoinReply(**HEADER, refusal=messages.JoinRefusal.NO_LEADER, leader="s3", address="localhost:7003"),
    ]


def all_operations() -> list[frames.Operation]:
    """One of every kind."""
    command = resolve("plain").encode(("set", ("a", 1.5, None), {"b": [b"c", {1, 2}]}))
    places = (("s1", "127.0.0.1:7001"), ("s2", ""))
    return [
        frames.Submit(command, "plain"),
        frames.SessionCommand(6, 12, 2, 1, 0, command, "plain"),
        frames.OpenSession(13),
        frames.Query(resolve("plain").encode(("get", "a")), "plain", "linearizable"),
        frames.Query(resolve("plain").encode("keys"), "plain", "stale", 1),
        frames.GetStatus(),
        frames.FindLeader(),
        frames.SetConfiguration(places, 4),
        frames.ChangeMembers(AddMember("s4", learner=True), places, 3, here=True),
        frames.ChangeMembers(RemoveMember("s4")),
        frames.ChangeMembers(SetMembers(("s1", "s2")), places, here=True),
        frames.Transfer("s2", here=True),
        frames.TakeSnapshot(),
    ]


def all_bodies() -> list[Body]:
    """One of every kind, with one of every message and of every request."""
    return [
        frames.Hello(1, 1, "127.0.0.1:7002"),
        frames.Welcome(1, "peer", pickle=True),
        frames.Confirmed(100_000),
        frames.Part("127.0.0.1:7002", 0, 100, b"part"),
        frames.Gone("127.0.0.1:7002", "s2"),
        frames.Beat("127.0.0.1:7002", (frames.Rest("s2", "s1", 1),)),
        frames.Answer(1, b"value", "plain", 12),
        frames.Answers((frames.Answer(1, b"value", "plain", 12), frames.Failed(2, "Timeout", "too late"))),
        frames.Asks(tuple(frames.Ask(number, "s1", 0.05, one) for number, one in enumerate(all_operations(), 1))),
        frames.Failed(
            1, "Timeout", "too late", {"leader": "s1", "names": ("a",)}, frames.Description("A", "b", "c"), 3
        ),
        *(Post("127.0.0.1:7002", (Letter("s1", message),)) for message in all_messages()),
        Post("", tuple(Letter("s1", message) for message in all_messages())),
        *(frames.Ask(number, "s1", 0.05, one) for number, one in enumerate(all_operations(), 1)),
    ]
