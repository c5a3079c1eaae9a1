"""Writes of one frame are handed to a peer together, and each of them is answered by itself."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from decimal import Decimal
from types import SimpleNamespace

import pytest

import raft_actors as raft
from raft_actors import answering, serving
from raft_actors.answering import alike, answer_of
from raft_actors.codec import resolve
from raft_actors.futures import RequestFuture
from raft_actors.intake import ROOM, Mailbox
from raft_actors.keys import Guest
from raft_actors.network import NodeTransport
from raft_actors.serving import Server
from raft_actors.transport.frames import Answer, Ask, Asks, Failed, FindLeader, Query, SessionCommand, Submit
from raft_actors.transport.zeromq.door import Incoming
from raft_actors.transport.zeromq.held import Held
from raft_actors.transport.zeromq.replies import Reply, Returns
from tests.threads.tools import Recorder, wait_until

PLAIN = resolve("plain")


def submit(number: int, value: object, to: str = "s1", codec: str = "plain", patience: float = 10.0) -> Ask:
    return Ask(number, to, patience, Submit(PLAIN.encode(value), codec))


class Served:
    """A peer ``s1`` that remembers its writes, and a server whose answers are kept here."""

    def __init__(self) -> None:
        self.refused: collections.Counter[str] = collections.Counter()
        self.answers: dict[int, Answer | Failed] = {}
        self.open = 0
        self.held = Held(self.refused)
        wire = SimpleNamespace(refused=self.refused, reply=self._reply, has_keys=True, held=self.held)
        node = NodeTransport(wire, "127.0.0.1:1")
        self.server = Server(node)

    def _reply(self, answers: Reply | Returns, *, alone: bool = False) -> None:
        reply = answers.take() if isinstance(answers, Returns) else answers
        for body in reply.bodies:
            assert body.id not in self.answers
            self.answers[body.id] = body
        self.held.leave(reply.route, reply.size)
        self.server.left([reply.asked] * len(reply.bodies))

    def ask(self, *asks: Ask, role: str = "peer") -> list[str]:
        """What each was answered: its value, or the name of the error."""
        self.server.take(Incoming(b"r", Guest(role, "*"), Asks(asks), 1, 100 * len(asks), "k"))
        wait_until(lambda: len(self.answers) == len(asks), 20.0)
        assert self.server._open.count(b"r") == 0
        return [_told(self.answers[ask.id]) for ask in asks]


def _told(body: Answer | Failed) -> str:
    return body.kind if isinstance(body, Failed) else str(PLAIN.decode(body.value))


@pytest.fixture
def served() -> Iterator[Served]:
    raft.start_peer(Recorder, name="s1", config=raft.Config(storage="memory", codec="plain", max_command_bytes=1000))
    raft.set_configuration("s1", ["s1"])
    wait_until(lambda: raft.leader("s1") == "s1")
    yield Served()
    raft.stop_peer("s1")


def test_only_writes_of_one_kind_codec_and_peer_that_follow_each_other_go_together() -> None:
    one, two, other, read = (
        submit(1, 1),
        submit(2, 2),
        submit(3, 3, to="s2"),
        Ask(4, "s1", 1.0, Query(b"", "plain", "")),
    )
    pickled, session = submit(5, 5, codec="cloudpickle"), Ask(6, "s1", 1.0, SessionCommand(1, 1, 1, 0, 0, b"", "plain"))
    leader = Ask(7, "s1", 1.0, FindLeader())
    asks = [one, two, other, read, read, one, pickled, session, session, leader, leader]
    assert list(alike(asks)) == [
        [one, two],
        [other],
        [read],
        [read],
        [one],
        [pickled],
        [session, session],
        *[[leader]] * 2,
    ]


def test_writes_of_one_frame_are_applied_in_their_order_and_wake_the_peer_once(served, monkeypatch) -> None:
    calls: list[int] = []
    write_all = Mailbox.write_all

    def counted(self: Mailbox, commands: list[bytes], *more: object, **options: bool) -> None:
        calls.append(len(commands))
        write_all(self, commands, *more, **options)

    monkeypatch.setattr(Mailbox, "write_all", counted)
    told = served.ask(*[submit(number, number) for number in range(100)])
    assert calls == [100]
    assert all(isinstance(one, Answer) for one in served.answers.values())
    assert raft.read("s1", "all") == list(range(100))
    assert len(told) == 100


@pytest.mark.parametrize("size", [2_000, 100_000])
def test_what_is_too_large_is_refused_before_it_is_decoded(served, size: int) -> None:
    large = Ask(0, "s1", 10.0, Submit(b"\xc1" * size, "plain"))
    told = served.ask(large, *[submit(number, number) for number in range(1, 200)])
    assert told[0] == "InvalidCommand"
    assert served.answers[0].text.startswith(f"the request takes {size} bytes")
    assert all(one.isdigit() for one in told[1:]), told


def test_a_large_write_of_a_guest_waits_for_others_also_if_small_ones_came_with_it(served, monkeypatch) -> None:
    slow: list[object] = []
    put = served.server._slow.put
    monkeypatch.setattr(served.server._slow, "put", lambda job: slow.append(job) or put(job))
    monkeypatch.setattr(serving, "SMALL", 300)
    served.ask(submit(0, "x" * 500), *[submit(number, number) for number in range(1, 50)], role="writer")
    assert len(slow) == 1


def test_one_that_is_refused_takes_nothing_from_its_neighbours(served) -> None:
    nonsense = Ask(4, "s1", 10.0, Submit(b"\xc1", "plain"))
    told = served.ask(submit(1, 1), submit(2, "x" * 2000), submit(3, 3, patience=0.0), nonsense, submit(5, 5))
    assert told[1:4] == ["InvalidCommand", "Timeout", "InvalidCommand"]
    assert raft.read("s1", "all") == [1, 5]


def pickles() -> list[Ask]:
    return [submit(number, number, codec="cloudpickle") for number in (1, 2)]


class Unsayable:
    """A reply that no codec carries."""

    def __reduce__(self) -> str:
        raise RuntimeError("not I")


@pytest.mark.parametrize(
    ("reply", "says"), [(Decimal("1.5"), "decimal.Decimal"), (Unsayable(), "Unsayable"), ("x" * 5000, "too many")]
)
def test_what_was_done_and_has_a_reply_that_cannot_be_sent_is_not_asked_for_again(reply, says, monkeypatch) -> None:
    """It could not be sent the next time either; a write of a session would be written again and again."""
    monkeypatch.setattr(answering, "LARGEST", ROOM + 4096)
    body = answer_of(SimpleNamespace(number=7, codec=PLAIN), reply, 12)
    assert isinstance(body, Failed)
    assert (body.id, body.kind, body.index) == (7, "CommandFailed", 12)
    assert says in body.text
    assert "it was done" in body.text


def test_an_answer_that_goes_wrong_on_its_way_does_not_stop_the_peer(served, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(served.server, "answer", lambda *_: {}["lost"])
        served.server.take(Incoming(b"r", Guest("peer", "*"), submit(1, "a"), 1, 100, "k"))
        wait_until(lambda: raft.read("s1", "all") == ["a"])
    served.server._open.leave(Incoming(b"r", Guest("peer", "*"), submit(1, "a"), 1, 100, "k"), 1)
    assert served.ask(submit(2, "b")) == ["2"]
    assert raft.status("s1").failure is None


@pytest.mark.parametrize(
    ("asks", "role", "error", "counted"),
    [
        ([submit(1, 1), submit(2, 2)], "reader", "Unauthorized", {"role": 2}),
        (
            [submit(1, 1, codec="cloudpickle"), submit(2, 2, codec="cloudpickle")],
            "writer",
            "Unauthorized",
            {"pickle": 2},
        ),
        (
            [submit(1, 1, codec="cloudpickle"), submit(2, 2, codec="cloudpickle")],
            "peer",
            "InvalidCommand",
            {"pickle": 2},
        ),
        ([submit(1, 1, to="nobody"), submit(2, 2, to="nobody")], "peer", "UnknownPeer", {}),
        ([submit(1, 1, codec="none"), submit(2, 2, codec="none")], "peer", "Incompatible", {}),
    ],
)
def test_what_is_refused_together_is_told_and_counted_for_each(served, asks, role, error, counted) -> None:
    assert served.ask(*asks, role=role) == [error, error]
    assert served.refused == counted


@pytest.mark.parametrize("sessions", [False, True])
def test_a_mailbox_takes_as_many_of_several_writes_as_it_has_room_for(sessions) -> None:
    mailbox = Mailbox("s1", raft.Config(max_pending_writes=3, max_command_bytes=10), PLAIN)
    longest = 10 + (ROOM if sessions else 0)
    sizes = [longest, longest + 1, 1, 1, 1]
    futures = [RequestFuture() for _ in sizes]
    mailbox.write_all([b"x" * size for size in sizes], futures, sessions=sessions)
    told = [None if one.failure is None else type(one.failure) for one in futures]
    assert told == [None, raft.InvalidCommand, None, None, raft.Overloaded]
    assert (mailbox.pending, mailbox.pending_bytes, mailbox.overloaded) == (3, longest + 2, 1)
    batch = mailbox.take_writes()
    assert batch is not None
    assert batch.futures == [futures[0], futures[2], futures[3]]
    assert batch.sessions == ([0, 1, 2] if sessions else [])


def test_a_closed_mailbox_answers_each_of_several_writes() -> None:
    mailbox = Mailbox("s1", raft.Config(), PLAIN)
    mailbox.refusal = lambda: raft.UnknownPeer("s1")
    mailbox.turn_away(raft.UnknownPeer("s1"))
    futures = [RequestFuture() for _ in range(3)]
    mailbox.write_all([b"x"] * 3, futures, sessions=False)
    assert [type(one.failure) for one in futures] == [raft.UnknownPeer] * 3
    assert mailbox.overloaded == 0
