"""Every role answers every message and every event: the whole protocol as two tables in text files.

The peer is ``s1`` in term 2 with log 1.1 2.2; every message comes from ``s2`` with term 1, 2 or 3. The first column of
peers follows ``s2`` and hears it, the second waits for a leader, then come pre-candidate, candidate and leader.

A cell is read from left to right: ``>F >P >C >L`` becomes follower, pre-candidate, candidate, leader; ``?`` forgets its
leader, ``+s2`` follows it; ``disk`` a sync, for which everything sent after it waits; then what is sent, with ``*`` if
it goes to both others. ``no 2`` is a refusal that tells term 2. ``-``: nothing. ``stops``: an invariant is violated.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from raft_actors.behaviours.deadlines import next_deadline
from raft_actors.protocol import effects as fx
from raft_actors.protocol import events as ev
from raft_actors.protocol import messages as ms
from raft_actors.protocol.changes import AddMember, RemoveMember, SetMembers
from raft_actors.protocol.state import Follower, PeerState
from raft_actors.protocol.types import LogPosition, Violation
from tests.behaviours import bench
from tests.behaviours.bench import at, take

LAST = LogPosition(2, 2)

ROLES: dict[str, Callable[[], PeerState]] = {
    "follower": lambda: bench.following("s2", terms=(1, 2), voted_for="s2"),
    "waiting": lambda: bench.peer(terms=(1, 2)),
    "pre-candidate": lambda: bench.pre_candidate(terms=(1, 2)),
    "candidate": lambda: bench.candidate(terms=(1, 2)),
    "leader": lambda: bench.leader(terms=(1, 2)),
}

MESSAGES: dict[str, Callable[[int], ms.Message]] = {
    "PreVote": lambda term: bench.pre_vote("s2", term, LAST),
    "PreVoteReply yes": lambda term: bench.pre_vote_reply("s2", term, granted=True),
    "PreVoteReply no": lambda term: bench.pre_vote_reply("s2", term, granted=False),
    "RequestVote": lambda term: bench.request_vote("s2", term, LAST),
    "RequestVote transfer": lambda term: bench.request_vote("s2", term, LAST, transfer=True),
    "RequestVoteReply yes": lambda term: bench.vote("s2", term),
    "RequestVoteReply no": lambda term: bench.vote("s2", term, granted=False),
    "AppendEntries empty": lambda term: bench.append("s2", term, LAST),
    "AppendEntries new": lambda term: bench.append("s2", term, LAST, bench.entries(3, term)),
    "AppendEntries gap": lambda term: bench.append("s2", term, LogPosition(term, 9)),
    "AppendEntriesReply yes": lambda term: bench.ack("s2", term, 2),
    "AppendEntriesReply no": lambda term: bench.nack("s2", term, 2),
    "TimeoutNow": lambda term: bench.timeout_now("s2", term),
    "ReadIndex": lambda term: bench.read_index("s2", term),
    "ReadIndexReply": lambda term: bench.read_index_reply("s2", term, 1, 2),
    "FormCluster": lambda term: bench.form_cluster("s2", "p", "s1", "s2"),
    "FormClusterReply": lambda term: bench.form_cluster_reply("s2", "p"),
    "InstallSnapshot": lambda term: bench.piece("s2", term, LogPosition(term, 9)),
    "InstallSnapshot known": lambda term: bench.piece("s2", term, LogPosition(1, 1)),
    "InstallSnapshotReply": lambda term: bench.piece_reply("s2", term, 0, 5),
    "Introduce": lambda term: bench.introduce("s2", term),
    "IntroduceReply": lambda term: bench.introduce_reply("s2", term),
    "Join": lambda term: bench.join("s2", term),
    "Join stranger": lambda term: bench.join("s9", term, cluster=""),
    "Join foreign": lambda term: bench.join("s9", term, cluster="other"),
    "JoinReply": lambda term: bench.join_reply("s2", term),
    "Removed": lambda term: bench.removed("s2", term, 9),
    "Removed long ago": lambda term: bench.removed("s2", term, 1),
}

EVENTS: dict[str, Callable[[PeerState], ev.Event]] = {
    "Tick too early": lambda state: ev.Tick(),
    "Tick at the deadline": lambda state: ev.Tick(),
    "Persisted": lambda state: ev.Persisted(state.ballot, state.log.last),
    "EntriesLoaded": lambda state: ev.EntriesLoaded("s2", 1, bench.entries(1, 1, 2)),
    "EntriesLoaded too late": lambda state: ev.EntriesLoaded("", 1, ()),
    "Applied": lambda state: ev.Applied(0),
    "WritesRequested": lambda state: ev.WritesRequested(7, (b"x",)),
    "ReadsRequested": lambda state: ev.ReadsRequested(7),
    "PeerDown": lambda state: ev.PeerDown("s2"),
    "PeerDown stranger": lambda state: ev.PeerDown("s9"),
    "Heard": lambda state: ev.Heard({"s2": bench.NOW}),
    "AddressHeard": lambda state: ev.AddressHeard("s2", bench.store("s2"), "there:1"),
    "AddressHeard stranger": lambda state: ev.AddressHeard("s9", "i9", "there:1"),
    "ClusterRequested": lambda state: ev.ClusterRequested(7, "p", ("s1", "s2"), 5.0),
    "ChangeRequested": lambda state: ev.ChangeRequested(7, AddMember("s9"), None, 5.0),
    "ChangeRequested unknown": lambda state: ev.ChangeRequested(7, RemoveMember("s9"), None, 5.0),
    "ChangeRequested same": lambda state: ev.ChangeRequested(7, SetMembers(("s3", "s2", "s1")), None, 5.0),
    "ChangeRequested unexpected": lambda state: ev.ChangeRequested(7, RemoveMember("s3"), 9, 5.0),
    "StopRequested": lambda state: ev.StopRequested(5.0),
    "TransferRequested": lambda state: ev.TransferRequested(7, "s2", 5.0),
    "TransferRequested to s1": lambda state: ev.TransferRequested(7, "s1", 5.0),
    "Slept": lambda state: ev.Slept(),
    "Tick after a sleep": lambda state: ev.Tick(),
    "SnapshotRequested": lambda state: ev.SnapshotRequested(7),
    "SnapshotWritten": lambda state: ev.SnapshotWritten(bench.snapshot(LogPosition(1, 1))),
    "SnapshotFailed": lambda state: ev.SnapshotFailed(),
    "SnapshotRecorded": lambda state: ev.SnapshotRecorded("unknown"),
    "ChunkLoaded": lambda state: ev.ChunkLoaded("s2", "unknown", 0, b"x"),
    "ChunkStored": lambda state: ev.ChunkStored("unknown", 5),
    "SnapshotLoaded": lambda state: ev.SnapshotLoaded("unknown"),
}


LATE = {"Tick at the deadline": 0.0, "Tick after a sleep": 0.61}
"""Seconds after the next deadline; everything else happens before it."""


def reaction(before: PeerState, event: ev.Event | ms.Message, now: float = bench.NOW) -> str:
    """What one step did, in words."""
    try:
        after, effects = take(before, event, at(now))
    except Violation:
        return "stops"
    said = []
    if type(after.role) is not type(before.role):
        said.append(f">{type(after.role).__name__[0]}")
    if after.leader != before.leader and after.leader != after.name:
        said.append(f"+{after.leader}" if after.leader else "?")
    words = [_word(effect) for effect in effects]
    said += [f"{word}*" if words.count(word) == 2 else word for word in dict.fromkeys(words)]
    return " ".join(said) or "-"


def _word(effect: fx.Effect) -> str:
    match effect:
        case fx.Send():
            return _answer(effect.message)
        case fx.Persist():
            return "disk"
        case fx.Reject():
            return f"reject {effect.refusal.name}"
        case fx.ChangeAnswer():
            return f"change {effect.refusal.name if effect.refusal else 'done'}"
        case fx.TransferAnswer():
            return f"transfer {effect.refusal.name if effect.refusal else 'done'}"
        case _:
            return type(effect).__name__


def _answer(message: ms.Message) -> str:
    name = type(message).__name__
    match message:
        case ms.PreVoteReply() | ms.RequestVoteReply():
            return "yes" if message.granted else f"no {message.term}"
        case ms.AppendEntriesReply():
            return f"match {message.match_index}" if message.success else f"no {message.term}"
        case ms.ReadIndexReply():
            return f"index {message.index}"
        case ms.InstallSnapshotReply():
            match = f" match {message.match_index}" if message.match_index else ""
            return f"received {message.received}{match} in {message.term}"
        case ms.JoinReply():
            return f"join {message.refusal.name}"
        case ms.FormClusterReply():
            return message.refusal or "free"
        case ms.AppendEntries():
            return f"append {len(message.entries)}"
        case _:
            return name


def rows(file: str) -> list[tuple[str, ...]]:
    lines = (Path(__file__).parent / file).read_text().splitlines()
    return [tuple(cell.strip() for cell in line.split("|")) for line in lines]


MESSAGE_TABLE = rows("roles_and_messages.txt")

EVENT_TABLE = rows("roles_and_events.txt")


def test_the_tables_are_complete() -> None:
    assert MESSAGE_TABLE[0][1:] == EVENT_TABLE[0][1:] == tuple(ROLES)
    assert [row[0] for row in MESSAGE_TABLE[1:]] == [f"{name} {term}" for name in MESSAGES for term in (1, 2, 3)]
    assert [row[0] for row in EVENT_TABLE[1:]] == list(EVENTS)
    assert {type(make(1)) for make in MESSAGES.values()} == set(ms.Message.__args__)
    events = {type(make(bench.leader())) for make in EVENTS.values()}
    assert events | {ev.Received} == set(ev.Event.__args__)


@pytest.mark.parametrize("row", MESSAGE_TABLE[1:], ids=lambda row: row[0])
def test_every_role_answers_every_message(row: tuple[str, ...]) -> None:
    name, term = row[0].rsplit(" ", 1)
    answers = tuple(reaction(make(), MESSAGES[name](int(term))) for make in ROLES.values())
    assert answers == row[1:]


@pytest.mark.parametrize("row", EVENT_TABLE[1:], ids=lambda row: row[0])
def test_every_role_answers_every_event(row: tuple[str, ...]) -> None:
    answers = []
    for make in ROLES.values():
        state = make()
        now = next_deadline(state) + LATE[row[0]] if row[0] in LATE else bench.NOW
        answers.append(reaction(state, EVENTS[row[0]](state), now))
    assert tuple(answers) == row[1:]


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("term", [0, 1])
def test_an_unconfigured_peer_answers_every_message_without_a_crash(name: str, term: int) -> None:
    state = bench.unconfigured()
    after, effects = take(state, MESSAGES[name](term))
    assert isinstance(after.role, Follower)
    assert not bench.of_type(effects, fx.Discard)


@pytest.mark.parametrize("name", EVENTS)
def test_an_unconfigured_peer_answers_every_event_without_a_crash(name: str) -> None:
    state = bench.unconfigured()
    take(state, EVENTS[name](state))
