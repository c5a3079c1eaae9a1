"""The table of sessions: what is applied, what is answered from memory, what comes too early or too late."""

from __future__ import annotations

import random

import msgspec
import pytest

from raft_actors.protocol import sessions
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.sessions import OpenSession, SessionTable, SessionWrite, Verdict, parse

encode = msgspec.msgpack.encode
decode = msgspec.msgpack.decode


def opened(table: SessionTable, index: int = 1, *, nonce: int = 7, timeout: float = 10.0, time: float = 0.0) -> int:
    request = OpenSession(nonce, timeout)
    return table.open(request, Entry(index, 1, EntryKind.SESSION, time, request.encode()))


def write(sequence: int, *, session: int = 1, nonce: int = 7, previous: int = 0, settled: int = 0) -> SessionWrite:
    return SessionWrite(session, nonce, sequence, previous, settled, b"command")


def applied(table: SessionTable, request: SessionWrite, *, time: float = 0.0, reply: object = "done") -> bool:
    if table.admit(request, time) is not Verdict.APPLY:
        return False
    table.record(request, reply)
    return True


def test_a_write_that_comes_again_has_the_reply_of_the_first_time() -> None:
    table = SessionTable[object]()
    opened(table)
    assert applied(table, write(1), reply="first")
    assert applied(table, write(2), reply=None)
    assert table.admit(write(1), 0.0) == ("first",)
    assert table.admit(write(2), 0.0) == (None,)


def test_writes_of_one_session_may_come_in_any_order() -> None:
    table = SessionTable[object]()
    opened(table)
    assert [applied(table, write(number)) for number in (3, 1, 2, 1, 3)] == [True, True, True, False, False]


def test_one_that_follows_another_waits_until_that_is_applied() -> None:
    table = SessionTable[object]()
    opened(table)
    assert table.admit(write(2, previous=1), 0.0) is Verdict.EARLY
    assert applied(table, write(1))
    assert applied(table, write(2, previous=1))


def test_one_that_follows_a_settled_one_waits_for_nothing() -> None:
    table = SessionTable[object]()
    opened(table)
    assert applied(table, write(5, previous=4, settled=4))


def test_replies_that_the_client_has_are_let_go() -> None:
    table = SessionTable[object]()
    opened(table)
    for number in (1, 2, 3):
        assert applied(table, write(number, settled=number - 1))
    assert len(decode_all(table)[0][5]) == 1
    assert table.admit(write(1), 0.0) is Verdict.EXPIRED


def test_of_too_many_replies_the_oldest_is_let_go_and_never_applied_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_REPLIES", 3)
    table = SessionTable[object]()
    opened(table)
    assert all(applied(table, write(number)) for number in (1, 2, 3, 4))
    assert table.admit(write(1), 0.0) is Verdict.EXPIRED
    assert table.admit(write(2), 0.0) == ("done",)


def test_of_too_many_sessions_the_most_silent_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_SESSIONS", 2)
    table = SessionTable[object]()
    opened(table, 1)
    opened(table, 2)
    assert applied(table, write(1, session=1))
    opened(table, 3)
    assert [table.admit(write(9, session=name), 0.0) for name in (1, 2, 3)] == [
        Verdict.APPLY,
        Verdict.EXPIRED,
        Verdict.APPLY,
    ]


def test_a_session_ends_when_it_was_silent_for_its_own_timeout() -> None:
    table = SessionTable[object]()
    opened(table, 1, timeout=10.0)
    opened(table, 2, timeout=30.0)
    assert applied(table, write(1, session=1), time=10.0)
    assert applied(table, write(2, session=1), time=20.0)
    assert table.admit(write(2, session=1), 30.1) is Verdict.EXPIRED
    assert table.admit(write(2, session=1), 30.1) is Verdict.EXPIRED
    assert applied(table, write(1, session=2), time=30.0)


def test_a_request_of_an_ended_session_does_not_begin_it_anew() -> None:
    table = SessionTable[object]()
    opened(table, timeout=1.0)
    assert table.admit(write(1), 5.0) is Verdict.EXPIRED
    assert table.admit(write(1), 5.1) is Verdict.EXPIRED
    assert table.admit(write(1, session=99), 0.0) is Verdict.EXPIRED


def test_ended_sessions_take_no_room() -> None:
    table = SessionTable[object]()
    for index in range(1, 101):
        opened(table, index, timeout=1.0, time=float(index))
    assert len(table) <= 2


def test_a_session_of_another_cluster_is_none_of_ours() -> None:
    table = SessionTable[object]()
    opened(table, nonce=7)
    assert table.admit(write(1, nonce=8), 0.0) is Verdict.EXPIRED


def decode_all(table: SessionTable) -> list:
    parts = [part[4:] for part in table.dump(encode)]
    return [decode(part) for part in parts]


def test_a_saved_table_is_loaded_as_it_was_and_goes_its_own_way() -> None:
    table = SessionTable[object]()
    opened(table, 1, time=3.0)
    opened(table, 2, nonce=9)
    for number in (1, 2, 3):
        applied(table, write(number, settled=1), reply=[number])
    copy = table.copy()
    loaded = SessionTable.load(b"".join(copy.dump(encode)), decode)
    assert decode_all(loaded) == decode_all(table)
    assert applied(loaded, write(4))
    assert applied(table, write(4))
    assert table.admit(write(3), 0.0) == ([3],)
    assert decode_all(copy) != decode_all(table)


@pytest.mark.parametrize("data", [b"\x01", b"\x05\x00\x00\x00ab", b"\x02\x00\x00\x00\xc0\xc0", b"\x00\x00\x00\x00"])
def test_bytes_that_are_no_table_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="sessions of a snapshot"):
        SessionTable.load(data, decode)


@pytest.mark.parametrize("request_", [OpenSession(2**64 - 1, 3600.0), SessionWrite(1, 2, 3, 4, 5, b"set"), write(1)])
def test_requests_are_what_they_were_after_a_way_through_the_log(request_: OpenSession | SessionWrite) -> None:
    assert parse(Entry(1, 1, EntryKind.SESSION, 0.0, request_.encode())) == request_


@pytest.mark.parametrize("data", [b"", b"\x02", b"\x00abc", b"\x01abc", OpenSession(1, 1.0).encode() + b"x"])
def test_an_entry_that_is_no_request_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="entry 5 is no request"):
        parse(Entry(5, 1, EntryKind.SESSION, 0.0, data))


class Oracle:
    """What must come of it: each number at most once, in the order that the client gave, and never a wrong reply."""

    def __init__(self) -> None:
        self.replies: dict[int, int] = {}

    def apply(self, table: SessionTable, request: SessionWrite) -> str:
        verdict = table.admit(request, 0.0)
        if isinstance(verdict, tuple):
            assert verdict == (self.replies[request.sequence],)
            return "repeated"
        if verdict is Verdict.APPLY:
            assert request.sequence not in self.replies, f"{request.sequence} is applied twice"
            assert request.previous <= request.settled or request.previous in self.replies
            self.replies[request.sequence] = len(self.replies)
            table.record(request, self.replies[request.sequence])
        return verdict.name


def walk(seed: int, table: SessionTable) -> set[str]:
    """A client that loses requests and answers, repeats them, and settles what it knows; replicas start anew."""
    dice = random.Random(seed)
    opened(table)
    oracle, seen = Oracle(), set()
    unsettled: dict[int, int] = {}
    issued = 0
    for _ in range(200):
        if not unsettled or dice.random() < 0.4:
            issued += 1
            unsettled[issued] = issued - 1 if dice.random() < 0.5 and issued - 1 in unsettled else 0
        settled = min(unsettled) - 1
        sequence = dice.choice(list(unsettled)) if dice.random() < 0.9 else dice.randint(1, issued)
        outcome = oracle.apply(table, write(sequence, previous=unsettled.get(sequence, 0), settled=settled))
        seen.add(outcome)
        if outcome in ("APPLY", "repeated") and dice.random() < 0.5:
            unsettled.pop(sequence, None)
            for other, before in unsettled.items():
                if before == sequence:
                    unsettled[other] = 0
        if dice.random() < 0.05:
            table = SessionTable.load(b"".join(table.dump(encode)), decode)
    return seen


def test_whatever_is_lost_and_repeated_nothing_is_applied_twice() -> None:
    seen: set[str] = set()
    for seed in range(200):
        seen |= walk(seed, SessionTable())
    assert seen == {"APPLY", "repeated", "EARLY", "EXPIRED"}


class Forgetful(SessionTable):
    """Planted: a reply is let go before its client says that it has it."""

    def record(self, write: SessionWrite, reply: object) -> None:
        super().record(write, reply)
        replies = self._sessions[write.session].replies
        while len(replies) > 2:
            del replies[next(iter(replies))]


class Hasty(SessionTable):
    """Planted: a write does not wait for the one that it follows."""

    def admit(self, write: SessionWrite, time: float) -> object:
        verdict = super().admit(write, time)
        return Verdict.APPLY if verdict is Verdict.EARLY else verdict


@pytest.mark.parametrize("planted", [Forgetful, Hasty])
def test_the_walk_finds_a_planted_defect(planted: type[SessionTable]) -> None:
    with pytest.raises(AssertionError):
        for seed in range(200):
            walk(seed, planted())
