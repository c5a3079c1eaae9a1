"""What takes the requests for a full name is looked up once in a while, not for each of them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from raft_actors import api, network
from raft_actors.addresses import Place
from raft_actors.network import BELIEVED, MOST_FOUND, Network

ADDRESS = "127.0.0.1:7001"
NAME = f"s1@{ADDRESS}"


class Clock:
    now = 1e6

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(network, "time", clock)
    return clock


@pytest.fixture
def there(clock, monkeypatch) -> Network:
    """One that was asked for ``s1`` just now."""
    there = Network()
    monkeypatch.setattr(there, "_wire", lambda folder: f"wire of {folder.rsplit('/', 1)[-1]!r}")
    there.remember(Place("s1", ADDRESS), there.wire_to(ADDRESS), "mailbox")
    assert there.found(NAME) == "mailbox"
    assert there.found("s2@127.0.0.1:7001") is None
    return there


def test_it_is_believed_as_long_as_the_keys_are_and_no_longer(there, clock) -> None:
    clock.now += BELIEVED - 0.01
    assert there.found(NAME) == "mailbox"
    there.remember(Place("s1", ADDRESS), there.wire_to(ADDRESS), "another")
    assert there.found(NAME) == "another"
    clock.now += 0.02
    assert there.found(NAME) is None


def test_with_other_keys_it_is_looked_up_again(there) -> None:
    there.keys = "folder"
    assert there.found(NAME) is None
    there.wire_to(ADDRESS)
    assert there.found(NAME) is None
    there.remember(Place("s1", ADDRESS), there.wire_to(ADDRESS), "keyed")
    assert there.found(NAME) == "keyed"


def test_with_another_node_it_is_looked_up_again(there) -> None:
    there.node = SimpleNamespace(address="127.0.0.1:9", wire="wire of a node")
    assert there.found(NAME) is None
    there.remember(Place("s1", ADDRESS), there.wire_to(ADDRESS), "of the node")
    assert there.found(NAME) == "of the node"
    there.node = SimpleNamespace(address="127.0.0.1:9", wire="wire of another node")
    assert there.found(NAME) is None


def test_what_was_found_while_the_node_of_that_address_started_here_is_forgotten_at_once(there) -> None:
    there.node = SimpleNamespace(address=ADDRESS, wire="wire of a node")
    there.remember(Place("s1", ADDRESS), there.wire_to(ADDRESS), "to ourselves")
    assert there.found(NAME) is None


def test_in_a_forked_child_nothing_is_known(there) -> None:
    there.forget_all()
    assert there.found(NAME) is None


def test_so_many_names_are_remembered_and_no_more(there) -> None:
    wire = there.wire_to(ADDRESS)
    for number in range(3 * MOST_FOUND):
        there.remember(Place(f"s{number}", ADDRESS), wire, number)
        assert there.found(f"s{number}@{ADDRESS}") == number
    assert len(there._found) <= MOST_FOUND


def test_requests_to_one_name_share_what_takes_them(there, monkeypatch) -> None:
    monkeypatch.setattr(api, "NETWORK", there)
    one = api.mailbox_of("s3@127.0.0.1:1")
    assert api.mailbox_of("s3@127.0.0.1:1") is one
    assert api.mailbox_of("s4@127.0.0.1:1") is not one
