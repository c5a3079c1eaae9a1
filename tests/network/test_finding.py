"""What takes the requests for a full name is looked up once in a while, not for each of them."""

from __future__ import annotations

import pytest

from raft_actors import api, network
from raft_actors.network import BELIEVED, MOST_FOUND, Network

NAME = "s1@127.0.0.1:7001"


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(network, "time", clock)
    return clock


def found(clock: Clock) -> tuple[Network, object]:
    there, mailbox = Network(), object()
    there.remember(NAME, mailbox)
    assert there.found(NAME) is mailbox
    assert there.found("s2@127.0.0.1:7001") is None
    return there, mailbox


def test_it_is_believed_for_a_moment_only_since_the_keys_in_a_folder_may_change(clock) -> None:
    there, mailbox = found(clock)
    clock.now += BELIEVED - 0.01
    assert there.found(NAME) is mailbox
    clock.now += 0.02
    assert there.found(NAME) is None


def test_with_another_node_or_other_keys_it_is_looked_up_again(clock) -> None:
    there, mailbox = found(clock)
    there.keys = "folder"
    assert there.found(NAME) is None
    there.keys, there.node = None, object()
    assert there.found(NAME) is None
    there.node = None
    assert there.found(NAME) is mailbox


def test_in_a_forked_child_nothing_is_known(clock) -> None:
    there, _ = found(clock)
    there.forget_all()
    assert there.found(NAME) is None


def test_so_many_names_are_remembered_and_no_more(clock) -> None:
    there, _ = found(clock)
    for number in range(3 * MOST_FOUND):
        there.remember(f"s{number}@127.0.0.1:7001", number)
        assert there.found(f"s{number}@127.0.0.1:7001") == number
    assert len(there._found) <= MOST_FOUND


def test_requests_to_one_name_share_what_takes_them(clock) -> None:
    assert api.mailbox_of("s1@127.0.0.1:1") is api.mailbox_of("s1@127.0.0.1:1")
    assert api.mailbox_of("s1@127.0.0.1:1") is not api.mailbox_of("s2@127.0.0.1:1")
