"""What is used of Pykka beyond its documentation: if a new version changes one of these, this fails, and loudly."""

from __future__ import annotations

import threading
import time

import pykka
import pytest
from pykka._envelope import Envelope

import raft_actors as raft
from raft_actors import names
from raft_actors.machines import Echo
from raft_actors.mailbox import InboxActor
from raft_actors.testing import Cluster
from tests.threads.tools import alive, wait_until


def test_an_envelope_is_a_message_and_whom_to_answer() -> None:
    future: pykka.Future = pykka.ThreadingFuture()
    envelope = Envelope("message", reply_to=future)
    assert envelope.message == "message"
    assert envelope.reply_to is future
    assert Envelope("message").reply_to is None


def test_a_stop_is_a_message_of_a_class_with_a_known_name() -> None:
    received: list[str] = []

    class Watching(pykka.ThreadingActor):
        def _handle_receive(self, message):
            received.append(type(message).__name__)
            return super()._handle_receive(message)

    ref = Watching.start()
    ref.stop()
    assert received == ["_ActorStop"]


@pytest.mark.parametrize("name", ["_create_future", "_start_actor_loop", "_actor_loop", "_create_actor_inbox"])
def test_the_hooks_that_we_override_or_call_are_there(name: str) -> None:
    assert callable(getattr(pykka.ThreadingActor, name))


def test_the_loop_asks_the_inbox_for_one_message_after_the_other_until_the_actor_has_stopped() -> None:
    asked: list[int] = []
    received: list[object] = []

    class Inbox:
        def get(self) -> Envelope:
            asked.append(len(asked))
            return Envelope(asked[-1])

        def empty(self) -> bool:
            return True

    class Counting(pykka.ThreadingActor):
        def on_receive(self, message: object) -> None:
            received.append(message)
            if message == 2:
                self.actor_stopped.set()

    actor = Counting()
    actor.actor_inbox = Inbox()
    actor._actor_loop()
    assert asked == received == [0, 1, 2]


def test_a_ref_can_be_made_of_an_actor_that_was_not_started() -> None:
    class Idle(pykka.ThreadingActor):
        pass

    actor = Idle()
    ref = pykka.ActorRef(actor)
    assert ref.actor_inbox is actor.actor_inbox
    assert ref.actor_urn == actor.actor_urn
    assert ref.actor_stopped is actor.actor_stopped
    actor.actor_stopped.set()


def test_an_ask_uses_the_future_of_the_actor_class() -> None:
    assert isinstance(InboxActor._create_future(), raft.futures.RequestFuture)


def test_a_peer_is_found_in_pykkas_registry(config: raft.Config) -> None:
    ref = raft.start_peer(Echo, name="s1", config=config)
    assert ref in pykka.ActorRegistry.get_all()
    assert ref.is_alive()
    raft.stop("s1")
    assert not ref.is_alive()
    assert ref not in pykka.ActorRegistry.get_all()


def test_stop_all_of_pykka_stops_whole_peers() -> None:
    with Cluster(Echo) as cluster:
        cluster.write("x")
        pykka.ActorRegistry.stop_all(timeout=5)
        wait_until(lambda: names.names() == (), 5, "names stay registered")
        wait_until(lambda: not alive(), 5, "threads stay alive")
        for name in cluster.names:
            cluster.start(name)  # no store is locked
        assert cluster.write("y") == "y"


@pytest.mark.parametrize("part", ["machine", "writer"])
def test_stopping_a_part_of_a_peer_stops_the_whole_peer(config: raft.Config, part: str) -> None:
    ref = raft.start_peer(Echo, name="s1", config=config)
    parts = [one for one in pykka.ActorRegistry.get_all() if one is not ref]
    assert len(parts) == 2
    next(one for one in parts if part in repr(one).lower()).stop(timeout=5)
    wait_until(lambda: names.names() == ())


def test_ref_stop_returns_when_the_name_is_free_and_the_store_closed(config: raft.Config) -> None:
    ref = raft.start_peer(Echo, name="s1", config=config)
    assert ref.stop(timeout=5) is True
    assert names.names() == ()
    raft.start_peer(Echo, name="s1", config=config)
    raft.stop("s1")


def test_a_second_ref_stop_does_nothing(config: raft.Config) -> None:
    ref = raft.start_peer(Echo, name="s1", config=config)
    ref.stop(timeout=5)
    assert ref.stop(timeout=5) is False


def test_many_ref_stops_at_once_all_return(config: raft.Config) -> None:
    ref = raft.start_peer(Echo, name="s1", config=config)
    threads = [threading.Thread(target=ref.stop, kwargs={"timeout": 5}) for _ in range(20)]
    for thread in threads:
        thread.start()
    begin = time.monotonic()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert time.monotonic() - begin < 4


def test_a_message_that_a_peer_does_not_know_is_answered_as_pykka_does(config: raft.Config) -> None:
    ref = raft.start_peer(Echo, name="s1", config=config)
    assert ref.ask({"what": "is this"}, timeout=5) is None
    assert ref.is_alive()
    raft.stop("s1")


def test_a_library_call_with_a_dead_ref_uses_its_name(config: raft.Config) -> None:
    ref = raft.start_peer(Echo, name="s1", config=config)
    raft.stop(ref)
    with pytest.raises(raft.UnknownPeer, match="'s1'"):
        raft.status(ref)
    raft.start_peer(Echo, name="s1", config=config)
    assert raft.status(ref).name == "s1"
    raft.stop(ref)
