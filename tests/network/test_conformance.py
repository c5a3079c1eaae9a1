"""Our transports keep the promises of the port, and the suite that says so finds those who do not."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from raft_actors.keys import keygen
from raft_actors.node import open_transport
from raft_actors.protocol.events import Received
from raft_actors.protocol.messages import IntroduceReply, Message
from raft_actors.transport import conformance
from raft_actors.transport.local import LocalTransport
from raft_actors.transport.port import Post, Transport


@contextmanager
def here(names: Sequence[str]) -> Iterator[Mapping[str, Transport]]:
    one = LocalTransport()
    yield dict.fromkeys(names, one)


@contextmanager
def nodes(names: Sequence[str], keys: Path | None = None) -> Iterator[Mapping[str, Transport]]:
    """A node for each name, with sockets of its own."""
    with ExitStack() as stack:
        sites = {}
        for name in names:
            site = sites[name] = open_transport("127.0.0.1:0", keys, LocalTransport())
            stack.callback(site.wire.close)
        for name, site in sites.items():
            site.enter(name, lambda: None).tell([(other, sites[other].address) for other in names])
        yield sites


def complaints(results: list[conformance.Result]) -> list[str]:
    return [f"{result.name}: {result.detail}" for result in results if not result.ok]


def test_the_transport_of_one_process_keeps_every_promise() -> None:
    assert not complaints(conformance.run(here))


def test_nodes_without_keys_keep_every_promise() -> None:
    assert not complaints(conformance.run(nodes))


def test_nodes_with_keys_keep_every_promise(tmp_path: Path) -> None:
    keygen(tmp_path / "keys")
    assert not complaints(conformance.run(lambda names: nodes(names, tmp_path / "keys")))


class Broken(LocalTransport):
    """A transport that will keep all promises but one.

    Attributes:
        lag: seconds for which its sends have waited; the clock of the suite is late by them.
    """

    lag = 0.0


class Forgetful(Broken):
    def send(self, source: str, to: str, message: Message) -> None:
        super().send(source, to, replace(message, address="") if isinstance(message, IntroduceReply) else message)


class Cutting(Broken):
    def send(self, source: str, to: str, message: Message) -> None:
        entries = tuple(replace(entry, data=entry.data[: 4 << 20]) for entry in getattr(message, "entries", ()))
        super().send(source, to, replace(message, entries=entries) if entries else message)


class Raising(Broken):
    def __init__(self) -> None:
        super().__init__()
        self._known: dict[str, str] = {}

    def join(self, name: str, post: Post) -> None:
        self._known[name] = name
        super().join(name, post)

    def send(self, source: str, to: str, message: Message) -> None:
        super().send(source, self._known[to], message)


class Waiting(Broken):
    def send(self, source: str, to: str, message: Message) -> None:
        self.lag += 0.0 if self.has(to) else 0.01
        super().send(source, to, message)


class Broadcast(Broken):
    def send(self, source: str, to: str, message: Message) -> None:
        for name in self._posts.keys() - {source}:
            super().send(source, name, message)


class Anybody(Broken):
    def send(self, source: str, to: str, message: Message) -> None:
        self.deliver(to, Received(message))


class Keeping(Broken):
    """Goes on handing in what is sent to who has left."""

    def leave(self, name: str) -> None:
        post = self._posts[name]
        super().leave(name)
        self._posts = {**self._posts, name: post}


class Late(Broken):
    """Hands everything in a second time, when something is sent to somebody else."""

    def __init__(self) -> None:
        super().__init__()
        self._again: dict[str, list[tuple[Post, Received]]] = collections.defaultdict(list)

    def send(self, source: str, to: str, message: Message) -> None:
        for name in self._again.keys() - {to}:
            for post, event in self._again.pop(name, ()):
                post(event)
        if self.has(source) and self.has(to):
            self._again[to].append((self._posts[to], Received(message)))
        super().send(source, to, message)


class Deaf(Broken):
    def leave(self, name: str) -> None:
        self._posts = {other: post for other, post in self._posts.items() if other != name}


class Once(Broken):
    def __init__(self) -> None:
        super().__init__()
        self._known: set[str] = set()

    def join(self, name: str, post: Post) -> None:
        if name not in self._known:
            self._known.add(name)
            super().join(name, post)


class InOrder(Broken):
    """Everything goes over one narrow way, and whoever sends waits until it is free."""

    def send(self, source: str, to: str, message: Message) -> None:
        self.lag += 0.025 * len(getattr(message, "entries", ()))
        super().send(source, to, message)


class OneThread(Broken):
    """Made for a program that sends from one thread of its own for each peer."""

    def __init__(self) -> None:
        super().__init__()
        self._threads: dict[str, int] = {}

    def send(self, source: str, to: str, message: Message) -> None:
        if self._threads.setdefault(source, threading.get_ident()) == threading.get_ident():
            super().send(source, to, message)


class OneAtATime(Broken):
    def __init__(self) -> None:
        super().__init__()
        self._sending = threading.Lock()

    def send(self, source: str, to: str, message: Message) -> None:
        if self._sending.acquire(timeout=3 * PATIENCE):  # for ever, if the test were not to end
            super().send(source, to, message)
            self._sending.release()


PATIENCE = 0.3
BROKEN: list[tuple[type[Broken], Any, str]] = [
    (Forgetful, conformance.every_message_arrives_whole_and_unchanged, "Broken: not seen within"),
    (Cutting, conformance.a_large_message_arrives_whole, "Broken: not seen within"),
    (Raising, conformance.what_nobody_receives_is_lost_without_an_error_and_without_waiting, "KeyError: 'nobody'"),
    (Waiting, conformance.what_nobody_receives_is_lost_without_an_error_and_without_waiting, "Broken: send waits"),
    (Broadcast, conformance.a_message_goes_to_its_receiver_only, "Broken: somebody else received it"),
    (Anybody, conformance.who_has_not_joined_says_nothing, "Broken: heard were {"),
    (Keeping, conformance.nothing_is_handed_in_after_leave_has_returned, "Broken: what was sent after leave"),
    (Late, conformance.nothing_is_handed_in_after_leave_has_returned, "Broken: 501 that were under way"),
    (Deaf, conformance.who_talked_to_a_peer_is_told_that_it_has_left, "Broken: not seen within"),
    (Once, conformance.a_name_may_join_again, "Broken: not seen within"),
    (InOrder, conformance.a_heartbeat_does_not_wait_for_what_is_large, "Broken: it came after all that is large"),
    (OneThread, conformance.many_threads_may_send_at_once, "Broken: not seen within"),
    (OneAtATime, conformance.an_answer_may_be_sent_from_where_a_message_is_handed_in, "Broken: not seen within"),
]
"""Each a transport, the one check that it fails, and how that begins to say why."""


@pytest.mark.parametrize(("broken", "check", "begin"), BROKEN)
def test_a_transport_that_breaks_a_promise_is_found(broken, check, begin, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Broken] = []

    @contextmanager
    def sites(names: Sequence[str]) -> Iterator[Mapping[str, Transport]]:
        opened.append(broken())
        yield dict.fromkeys(names, opened[-1])

    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + opened[-1].lag)
    monkeypatch.setattr(conformance, "time", clock)
    monkeypatch.setattr(conformance, "QUIET", 0.05)
    monkeypatch.setattr(conformance.Inbox.wait, "__defaults__", (PATIENCE,))
    failed = [(result.name, result.detail[: len(begin)]) for result in conformance.run(sites) if not result.ok]
    assert failed == [(check.__name__.replace("_", " "), begin)]


def test_every_promise_is_broken_by_a_planted_transport() -> None:
    assert [check for check in conformance.CHECKS if check not in [one for _, one, _ in BROKEN]] == []
