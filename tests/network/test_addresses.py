"""Where a peer is looked for: where it spoke last, and nowhere else because of a slip of a caller."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from raft_actors.keys import Guest
from raft_actors.network import NodeTransport
from raft_actors.protocol.configuration import Configuration, Member
from raft_actors.protocol.messages import Message
from raft_actors.transport.conformance import EVERY_MESSAGE
from raft_actors.transport.frames import Letter, Post
from tests.network.servers import Servers, free_port

HOME, ELSEWHERE = "10.0.0.1:1", "10.0.0.9:1"


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Servers]:
    with Servers(tmp_path) as servers:
        yield servers


def heard(node: NodeTransport, address: str, message: Message) -> None:
    node.deliver(Guest("peer", "*"), Post(address, (Letter("s2", message),)))


def test_a_member_is_looked_for_where_it_spoke_last_also_back_where_its_configuration_has_it(
    node: NodeTransport,
) -> None:
    """It may move and come back before anybody could write the move into the log."""
    message = EVERY_MESSAGE["PreVote"]("s1")
    members = Configuration((Member("s1", message.incarnation, HOME),))
    book = node.enter("s2", lambda: SimpleNamespace(configurations=(1,), configuration=members))
    for address in (HOME, ELSEWHERE, HOME, ELSEWHERE):
        heard(node, address, message)
        assert book.find("s1") == address


def test_another_store_of_its_name_moves_no_member(node: NodeTransport) -> None:
    members = Configuration((Member("s1", "another store", HOME),))
    book = node.enter("s2", lambda: SimpleNamespace(configurations=(1,), configuration=members))
    heard(node, ELSEWHERE, EVERY_MESSAGE["PreVote"]("s1"))
    assert book.find("s1") == HOME


def test_a_wrong_address_of_a_member_that_is_well_cuts_off_nobody(plain: Servers) -> None:
    plain.serve()
    leader = plain.leader()
    other = next(name for name in plain.addresses if name != leader)
    before = plain.command("members")
    for name in (leader, other):
        assert plain.command("add", f"{name}@127.0.0.1:{free_port()}") == before
    assert plain.command("transfer", other) == plain.addresses[other]
    assert plain.command("transfer", leader) == plain.addresses[leader]
