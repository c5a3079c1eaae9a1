"""Does a transport keep every promise of ``transport.port``? A suite that needs no test framework.

    from raft_actors.transport import conformance

    for result in conformance.run(my_sites):
        print("ok  " if result.ok else "FAIL", result.name, result.detail)

``my_sites(names)`` is a context manager that yields a transport for each name, connected so that each name is reached
from all; they may be one object, or sockets in one process. Each check opens its own; its name is the sentence it
checks. What it cannot see: what becomes of messages while a cable is cut.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from raft_actors.protocol import messages
from raft_actors.protocol.configuration import Configuration, Member
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.events import PeerDown, Received
from raft_actors.protocol.messages import Message
from raft_actors.protocol.types import LogPosition
from raft_actors.transport.port import Transport

__all__ = ["EVERY_MESSAGE", "Result", "Sites", "run"]

Sites = Callable[[Sequence[str]], AbstractContextManager[Mapping[str, Transport]]]
PATIENCE = 10.0
"""Seconds for something to arrive; it is sent again and again meanwhile."""
QUIET = 0.3
"""Seconds in which what must not come would have come."""
SOON = 0.3
"""Seconds in which a heartbeat arrives, also behind what is large, if that is fast."""
AT_ONCE = 8
"""How many threads of a transport may be just handing something in when a peer leaves."""
MIB = 1 << 20


class Result(NamedTuple):
    """What came of one check; ``detail`` says what was seen, if it failed."""

    name: str
    ok: bool
    detail: str


class Inbox:
    """What one peer was handed."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._changed = threading.Condition()

    def post(self, item: Any) -> bool:
        """Take something, as a peer would."""
        with self._changed:
            self.items.append(item)
            self._changed.notify_all()
        return True

    def messages(self) -> list[Message]:
        """The messages among it."""
        return [item.message for item in list(self.items) if isinstance(item, Received)]

    def wait(self, seen: Callable[[], bool], again: Callable[[], None], patience: float = PATIENCE) -> None:
        """Wait until something was seen, and do ``again`` meanwhile: a transport may lose what it likes."""
        end = time.monotonic() + patience
        while not seen():
            if time.monotonic() >= end:
                raise Broken(f"not seen within {patience} s; handed in were {self.items[-5:]!r:.500}")
            again()
            with self._changed:
                self._changed.wait(0.02)

    def more(self, count: int, seconds: float) -> bool:
        """Wait for more than ``count`` items, ``seconds`` at most; returns whether there are."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.items) > count, seconds)


_HEAD: dict[str, Any] = {"cluster": "c", "incarnation": "i1", "receiver": "i2", "term": 7}
_ENTRIES = tuple(Entry(index, 6, EntryKind.COMMAND, 1.5, b"\0\xff" * index) for index in (4, 5, 6))
_MEMBERS = Configuration((Member("s1", "i1", "h:1"), Member("s2", "i2")), learners=(Member("s3", "i3"),))


def _every_message() -> dict[str, Callable[[str], Message]]:
    last = LogPosition(6, 3)
    return {
        "PreVote": lambda who: messages.PreVote(**_HEAD, sender=who, last=last),
        "PreVoteReply": lambda who: messages.PreVoteReply(**_HEAD, sender=who, granted=True),
        "RequestVote": lambda who: messages.RequestVote(**_HEAD, sender=who, last=last, transfer=True),
        "RequestVoteReply": lambda who: messages.RequestVoteReply(**_HEAD, sender=who, granted=False),
        "AppendEntries": lambda who: messages.AppendEntries(
            **_HEAD, sender=who, previous=last, entries=_ENTRIES, commit_index=5, round=2, sent=1234.5
        ),
        "AppendEntriesReply": lambda who: messages.AppendEntriesReply(
            **_HEAD, sender=who, success=False, match_index=3, hint=last, promise=0.25, priority=-3
        ),
        "InstallSnapshot": lambda who: messages.InstallSnapshot(
            **_HEAD, sender=who, id="snap", last=last, size=9, offset=4, data=b"piece"
        ),
        "InstallSnapshotReply": lambda who: messages.InstallSnapshotReply(
            **_HEAD, sender=who, id="snap", offset=4, received=9
        ),
        "TimeoutNow": lambda who: messages.TimeoutNow(**_HEAD, sender=who),
        "ReadIndex": lambda who: messages.ReadIndex(**_HEAD, sender=who, request=2**40),
        "ReadIndexReply": lambda who: messages.ReadIndexReply(**_HEAD, sender=who, request=2, index=None),
        "FormCluster": lambda who: messages.FormCluster(
            **_HEAD, sender=who, proposal="p", names=("s1", "s2"), until=5.0
        ),
        "FormClusterReply": lambda who: messages.FormClusterReply(
            **_HEAD, sender=who, proposal="p", refusal="configured", configuration=_MEMBERS, address="h:1"
        ),
        "Introduce": lambda who: messages.Introduce(**_HEAD, sender=who),
        "IntroduceReply": lambda who: messages.IntroduceReply(**_HEAD, sender=who, busy=True, address="h:1"),
        "Join": lambda who: messages.Join(**_HEAD, sender=who, learner=True, expected=("s1",), address="h:1"),
        "JoinReply": lambda who: messages.JoinReply(
            **_HEAD, sender=who, refusal=messages.JoinRefusal.BUSY, leader="s2", address="h:2"
        ),
        "Removed": lambda who: messages.Removed(**_HEAD, sender=who, index=9, commit=last),
    }


EVERY_MESSAGE: Mapping[str, Callable[[str], Message]] = _every_message()
"""One of each kind, from a sender."""


def _heartbeat(sender: str) -> Message:
    return messages.AppendEntries(**_HEAD, sender=sender, previous=LogPosition(6, 3))


def _large(sender: str, index: int = 4, size: int = 8 * MIB) -> Message:
    entry = Entry(index, 6, EntryKind.COMMAND, 1.5, b"x" * size)
    return messages.AppendEntries(**_HEAD, sender=sender, previous=LogPosition(6, index - 1), entries=(entry,))


def _join(sites: Mapping[str, Transport]) -> dict[str, Inbox]:
    inboxes = {name: Inbox() for name in sites}
    for name, inbox in inboxes.items():
        sites[name].join(name, inbox.post)
    return inboxes


class Broken(Exception):
    """A promise is not kept; the text says what was seen."""


def _require(condition: bool, otherwise: str) -> None:  # noqa: FBT001
    if not condition:
        raise Broken(otherwise)


# -- the checks --------------------------------------------------------------------------------------------------------


def every_message_arrives_whole_and_unchanged(sites: Mapping[str, Transport]) -> None:
    """Each kind, field by field."""
    inboxes = _join(sites)
    for make in EVERY_MESSAGE.values():
        message = make("s1")
        inbox = inboxes["s2"]
        inbox.wait(lambda m=message, i=inbox: m in i.messages(), lambda m=message: sites["s1"].send("s1", "s2", m))  # type: ignore[misc]


def a_large_message_arrives_whole(sites: Mapping[str, Transport]) -> None:
    """8 MiB in one."""
    inbox, message = _join(sites)["s2"], _large("s1")
    sites["s1"].send("s1", "s2", message)
    inbox.wait(lambda: message in inbox.messages(), lambda: None)


def what_nobody_receives_is_lost_without_an_error_and_without_waiting(sites: Mapping[str, Transport]) -> None:
    """Thousands of them."""
    _join(sites)
    begun = time.monotonic()
    for _ in range(5000):
        sites["s1"].send("s1", "nobody", _heartbeat("s1"))
    _require(time.monotonic() - begun < 5, "send waits where nobody receives")


def a_message_goes_to_its_receiver_only(sites: Mapping[str, Transport]) -> None:
    """Others are handed nothing."""
    inboxes = _join(sites)
    _exchange(sites, inboxes, "s1", "s2")
    _require(not inboxes["s3"].messages() + inboxes["s1"].messages(), "somebody else received it")


def who_has_not_joined_says_nothing(sites: Mapping[str, Transport]) -> None:
    """Its messages are lost."""
    inbox = Inbox()
    sites["s2"].join("s2", inbox.post)
    for _ in range(10):
        sites["s1"].send("s1", "s2", _heartbeat("s1"))
    sites["s3"].join("s3", Inbox().post)
    inbox.wait(lambda: bool(inbox.messages()), lambda: sites["s3"].send("s3", "s2", _heartbeat("s3")))
    heard = {message.sender for message in inbox.messages()}
    _require(heard == {"s3"}, f"heard were {heard}: one of them never joined")


def nothing_is_handed_in_after_leave_has_returned(sites: Mapping[str, Transport]) -> None:
    """What is under way then is lost, but for what another thread is just handing in."""
    inboxes = _join(sites)
    inbox = inboxes["s2"]
    _exchange(sites, inboxes, "s1", "s2")
    for _ in range(500):
        sites["s1"].send("s1", "s2", _heartbeat("s1"))
    sites["s2"].leave("s2")
    left = len(inbox.items)
    _exchange(sites, inboxes, "s1", "s3")  # while this comes and goes, those threads are done, too
    count = len(inbox.items)
    _require(count - left <= AT_ONCE, f"{count - left} that were under way were handed in after leave had returned")
    for _ in range(100):
        sites["s1"].send("s1", "s2", _heartbeat("s1"))
    _require(not inbox.more(count, QUIET), "what was sent after leave had returned was handed in")


def who_talked_to_a_peer_is_told_that_it_has_left(sites: Mapping[str, Transport]) -> None:
    """By ``PeerDown``, without a time to wait."""
    inboxes = _join(sites)
    _exchange(sites, inboxes, "s1", "s2")
    _exchange(sites, inboxes, "s2", "s1")
    sites["s2"].leave("s2")
    inboxes["s1"].wait(lambda: PeerDown("s2") in inboxes["s1"].items, lambda: None)


def a_name_may_join_again(sites: Mapping[str, Transport]) -> None:
    """And is reached as before."""
    inboxes = _join(sites)
    _exchange(sites, inboxes, "s1", "s2")
    sites["s2"].leave("s2")
    inboxes["s2"] = Inbox()
    sites["s2"].join("s2", inboxes["s2"].post)
    _exchange(sites, inboxes, "s1", "s2")


def a_heartbeat_does_not_wait_for_what_is_large(sites: Mapping[str, Transport]) -> None:
    """It passes 32 MiB that were given before it, or those are fast."""
    inboxes = _join(sites)
    _exchange(sites, inboxes, "s1", "s2")
    large = [_large("s1", 4 + index, 2 * MIB) for index in range(16)]
    begun = time.monotonic()  # a send that waits until all that is large has left lets the heartbeat wait, too
    for message in large:
        sites["s1"].send("s1", "s2", message)
    late = messages.TimeoutNow(**_HEAD, sender="s1")
    sites["s1"].send("s1", "s2", late)
    inboxes["s2"].wait(lambda: late in inboxes["s2"].messages(), lambda: None)
    taken, handed = time.monotonic() - begun, inboxes["s2"].messages()
    before = [one for one in handed[: handed.index(late)] if isinstance(one, messages.AppendEntries) and one.entries]
    _require(len(before) < 16 or taken < SOON, f"it came after all that is large, {taken:.2f} s late")


def many_threads_may_send_at_once(sites: Mapping[str, Transport]) -> None:
    """Nothing gets lost by it."""
    inboxes = _join(sites)
    _exchange(sites, inboxes, "s1", "s3")
    _exchange(sites, inboxes, "s2", "s3")

    def send(name: str, thread: int) -> None:
        for number in range(100):
            message = messages.ReadIndex(**_HEAD, sender=name, request=thread * 1000 + number)
            sites[name].send(name, "s3", message)

    threads = [threading.Thread(target=send, args=(name, k)) for k in range(8) for name in ("s1", "s2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = {(name, k * 1000 + number) for k in range(8) for number in range(100) for name in ("s1", "s2")}

    def all_there() -> bool:
        found = {(m.sender, m.request) for m in inboxes["s3"].messages() if isinstance(m, messages.ReadIndex)}
        return wanted <= found

    inboxes["s3"].wait(all_there, lambda: None)


def an_answer_may_be_sent_from_where_a_message_is_handed_in(sites: Mapping[str, Transport]) -> None:
    """Without a deadlock, which would hold the thread that asks and not this one."""
    inbox, answered = Inbox(), threading.Event()

    def answer(item: Any) -> bool:
        if isinstance(item, Received):
            sites["s2"].send("s2", item.message.sender, _heartbeat("s2"))
        return True

    def ask() -> None:
        while not answered.wait(0.02):
            sites["s1"].send("s1", "s2", _heartbeat("s1"))

    sites["s1"].join("s1", inbox.post)
    sites["s2"].join("s2", answer)
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    try:
        inbox.wait(lambda: bool(inbox.messages()), lambda: None)
    finally:
        answered.set()
        asking.join(1.0)


def _exchange(sites: Mapping[str, Transport], inboxes: Mapping[str, Inbox], source: str, to: str) -> None:
    """Let something arrive: from then on the two are connected."""
    inbox = inboxes[to]

    def arrived() -> bool:
        return any(message.sender == source for message in inbox.messages())

    inbox.wait(arrived, lambda: sites[source].send(source, to, _heartbeat(source)))


CHECKS = (
    every_message_arrives_whole_and_unchanged,
    a_large_message_arrives_whole,
    what_nobody_receives_is_lost_without_an_error_and_without_waiting,
    a_message_goes_to_its_receiver_only,
    who_has_not_joined_says_nothing,
    nothing_is_handed_in_after_leave_has_returned,
    who_talked_to_a_peer_is_told_that_it_has_left,
    a_name_may_join_again,
    a_heartbeat_does_not_wait_for_what_is_large,
    many_threads_may_send_at_once,
    an_answer_may_be_sent_from_where_a_message_is_handed_in,
)


def run(sites: Sites) -> list[Result]:
    """Check a transport.

    Args:
        sites: called with names of peers; a context manager that yields a transport for each.

    Returns:
        A result for each check.
    """
    return [_checked(sites, check) for check in CHECKS]


def _checked(sites: Sites, check: Callable[[Mapping[str, Transport]], None]) -> Result:
    name = check.__name__.replace("_", " ")
    try:
        with sites(("s1", "s2", "s3")) as opened:
            check(opened)
    except Exception as error:  # noqa: BLE001 - whatever it is, the check has failed
        where = traceback.extract_tb(error.__traceback__)[-1]
        return Result(name, False, f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})")
    return Result(name, True, "")
