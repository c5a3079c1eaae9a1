"""Our transports keep the promises of the port, and the suite that says so finds those who do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from raft_actors.keys import keygen
from raft_actors.node import open_transport
from raft_actors.protocol.events import Received
from raft_actors.protocol.messages import Message
from raft_actors.transport import conformance
from raft_actors.transport.local import LocalTransport
from raft_actors.transport.port import Transport


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


class Deaf(LocalTransport):
    def leave(self, name: str) -> None:
        self._posts = {other: post for other, post in self._posts.items() if other != name}


class Broadcast(LocalTransport):
    def send(self, source: str, to: str, message: Message) -> None:
        for name in list(self._posts):
            super().send(source, name, message)


class Raising(LocalTransport):
    def send(self, source: str, to: str, message: Message) -> None:
        self._posts[to](Received(message))


class Anybody(LocalTransport):
    def send(self, source: str, to: str, message: Message) -> None:
        post = self._posts.get(to)
        if post is not None:
            post(Received(message))


class Cutting(LocalTransport):
    def send(self, source: str, to: str, message: Message) -> None:
        if not getattr(message, "entries", ()):
            super().send(source, to, message)


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (Deaf, "who talked to a peer is told that it has left"),
        (Broadcast, "a message goes to its receiver only"),
        (Raising, "what nobody receives is lost without an error and without waiting"),
        (Anybody, "who has not joined says nothing"),
        (Cutting, "a large message arrives whole"),
    ],
)
def test_a_transport_that_breaks_a_promise_is_found(broken, promise, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def sites(names: Sequence[str]) -> Iterator[Mapping[str, Transport]]:
        yield dict.fromkeys(names, broken())

    monkeypatch.setattr(conformance, "PATIENCE", 0.3)
    monkeypatch.setattr(conformance.Inbox.wait, "__defaults__", (0.3,))
    failed = [result.name for result in conformance.run(sites) if not result.ok]
    assert promise in failed
