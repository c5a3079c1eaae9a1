"""The end of a ``Client``, and what it leaves behind."""

from __future__ import annotations

import threading

import pytest

import raft_actors as raft
from raft_actors.machines import KV
from tests.public_api.client_tools import NAMES
from tests.threads.tools import wait_until


def retry_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "raft-client-retries"]


def test_after_close_everything_is_refused(cluster):
    client = raft.Client(cluster())
    client.write(("set", "a", 1))
    client.close()
    client.close()
    for call in (
        lambda: client.write(("set", "a", 2)),
        lambda: client.write(("set", "a", 2), block=False).get(),
        lambda: client.read("len"),
        client.leader,
        client.status,
    ):
        with pytest.raises(raft.Refused, match="closed"):
            call()
    assert raft.read("c1", ("get", "a")) == 1


def test_close_answers_what_waits_and_ends_the_thread(config):
    client = raft.Client(NAMES, timeout=None)
    futures = [client.write(n, block=False) for n in range(100)]
    threads = retry_threads()
    assert threads
    client.close()
    for future in futures:
        with pytest.raises(raft.UnknownPeer):
            future.get(timeout=5)
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


def test_close_ends_the_search_for_a_leader(config):
    raft.start_peer(KV, name="c1", config=config)
    client = raft.Client("c1", timeout=60.0)
    looked, find = threading.Event(), client._peers.find_leader

    def look(seconds: float | None) -> str:
        looked.set()
        return find(seconds)

    client._peers.find_leader = look
    closing = threading.Thread(target=lambda: (looked.wait(10), client.close()))
    closing.start()
    with pytest.raises(raft.Refused, match="closed"):
        client.leader()
    closing.join()


def test_who_may_not_ask_anybody_for_the_leader_is_told_at_once(config):
    def refuse(_: float | None) -> str:
        raise raft.Unauthorized("role 'nobody' may not read")

    with raft.Client("c1", timeout=60.0) as client:
        client._peers.find_leader = refuse
        with pytest.raises(raft.Unauthorized):
            client.leader()


def test_a_client_that_has_nothing_to_retry_has_no_thread(cluster):
    with raft.Client(cluster()) as client:
        client.write(("set", "a", -1))  # opens the session
        wait_until(lambda: not retry_threads())
        for number in range(100):
            client.write(("set", "a", number))
        assert retry_threads() == []
