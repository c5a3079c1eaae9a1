"""What one key may have under way is less than what there is room for."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import pytest

from raft_actors.addresses import MOST_STRANGERS, AddressBook
from raft_actors.codec import resolve
from raft_actors.errors import Incompatible
from raft_actors.keys import FRESH, Guest, Keyring, keygen
from raft_actors.protocol.configuration import Configuration, Member
from raft_actors.serving_limits import (
    MOST_BYTES_OF_A_KEY,
    MOST_GUESTS_WAITING,
    MOST_OF_A_KEY,
    MOST_OPEN,
    MOST_SESSIONS_OF_A_KEY,
    MOST_WAITING,
    MOST_WAITING_OF_A_KEY,
    OpenedSessions,
    OpenRequests,
    WaitingRoom,
)
from raft_actors.transport.frames import BadFrame, Letter, Post, pack, unpack
from tests.network.sound_frames import all_messages


def incoming(route: int, size: int = 100, role: str = "writer", key: str = "k" * 40):
    return SimpleNamespace(route=b"%d" % route, guest=Guest(role, "*"), size=size, key=key)


def taken(requests: OpenRequests, *all_incoming) -> int:
    return sum(requests.enter(one) for one in all_incoming)


def test_one_connection_and_one_key_have_so_many_requests_open_and_no_more() -> None:
    requests = OpenRequests()
    assert taken(requests, *[incoming(1)] * (MOST_OPEN + 5)) == MOST_OPEN
    assert taken(requests, *[incoming(number) for number in range(2, 20_000)]) == MOST_OF_A_KEY - MOST_OPEN
    assert taken(requests, incoming(1, key="other"), incoming(2, key="other")) == 1
    assert taken(requests, *[incoming(number, role="peer") for number in range(20_000, 30_000)]) == 10_000


def test_requests_of_one_frame_are_taken_in_together_as_many_as_there_is_room_for() -> None:
    requests = OpenRequests()
    assert requests.enter(incoming(1), MOST_OPEN - 10) == MOST_OPEN - 10
    assert requests.enter(incoming(1), 256) == 10
    assert requests.enter(incoming(1), 256) == 0
    requests.leave(incoming(1), 300)
    assert requests.count(b"1") == MOST_OPEN - 300
    assert requests.enter(incoming(1), 256) == 256
    large = incoming(2, MOST_BYTES_OF_A_KEY // 4, key="other")
    assert requests.enter(large, 10) == 4


def test_the_bytes_of_one_key_are_bounded_and_one_request_is_always_taken() -> None:
    requests = OpenRequests()
    large = incoming(1, 2 * MOST_BYTES_OF_A_KEY)
    assert requests.enter(large)
    assert not requests.enter(incoming(2, 1))
    requests.leave(large)
    assert requests.enter(incoming(2, 1))


def test_readers_and_writers_leave_places_to_wait_in_to_others() -> None:
    room = WaitingRoom()
    assert sum(room.enter("one", reserved=True) for _ in range(100)) == MOST_WAITING_OF_A_KEY
    assert sum(room.enter(str(number), reserved=True) for number in range(100)) == MOST_GUESTS_WAITING - 8
    assert sum(room.enter("admin", reserved=False) for _ in range(100)) == MOST_WAITING - MOST_GUESTS_WAITING
    room.leave("one", reserved=True)
    assert room.enter("admin", reserved=False)
    assert not room.enter("one", reserved=True)


def test_one_key_does_not_make_a_cluster_forget_the_sessions_of_others() -> None:
    opened = OpenedSessions()
    assert sum(opened.enter(incoming(number), 5.0) for number in range(10_000)) == MOST_SESSIONS_OF_A_KEY
    assert opened.enter(incoming(1, key="other"), 5.0)
    assert opened.enter(incoming(1), 4000.0)


def test_a_book_lets_go_of_strangers_and_never_of_members() -> None:
    members = Configuration((Member("s1", "i", "10.0.0.1:1"),))
    book = AddressBook(lambda: SimpleNamespace(configurations=(1,), configuration=members))
    book.hear("s1", "10.0.0.9:1")
    for number in range(3 * MOST_STRANGERS):
        book.hear(f"x{number}", "10.0.0.2:1")
        book.tell([(f"y{number}", "10.0.0.3:1")])
    assert book.find("s1") == "10.0.0.9:1"
    assert len(book.at("10.0.0.2:1")) + len(book.at("10.0.0.3:1")) <= 2 * MOST_STRANGERS


def test_what_the_configuration_has_come_to_say_gives_way_to_the_next_one() -> None:
    state = SimpleNamespace(configurations=(1,), configuration=Configuration((Member("s1", "i", "10.0.0.1:1"),)))
    book = AddressBook(lambda: state)
    book.tell([("s1", "10.0.0.8:1"), ("s2", "10.0.0.2:1")])
    assert (book.find("s1"), book.find("s2"), book.find("s3")) == ("10.0.0.1:1", "10.0.0.2:1", "")
    book.hear("s1", "10.0.0.9:1")
    assert book.find("s1") == "10.0.0.9:1"
    for address in ("10.0.0.9:1", "10.0.0.7:1"):  # it is followed, and moves on unheard
        state.configuration = Configuration((Member("s1", "i", address),))
        assert book.find("s1") == address


def test_a_member_that_is_back_where_its_configuration_has_it_is_found_there() -> None:
    state = SimpleNamespace(configurations=(1,), configuration=Configuration((Member("s1", "i", "10.0.0.1:1"),)))
    book = AddressBook(lambda: state)
    book.hear("s1", "10.0.0.9:1")
    assert book.doubts("s1")
    book.hear("s1", "10.0.0.1:1")
    assert (book.find("s1"), book.doubts("s1")) == ("10.0.0.1:1", False)


def test_who_only_asks_says_nothing_else() -> None:
    for message in all_messages():
        with pytest.raises(BadFrame, match="role"):
            unpack(pack(Post("", (Letter("s1", message),))), asking=True)


def test_plain_bytes_whose_keys_collide_are_refused_and_many_good_keys_are_not() -> None:
    plain, prime = resolve("plain"), 2**61 - 1
    many = {(number, str(number)): number for number in range(5000)}
    assert plain.decode(plain.encode(many)) == many
    alike = {1 + number * prime: number for number in range(300)}
    with pytest.raises(Incompatible, match="same hash"):
        plain.decode(plain.encode(alike))


def test_a_list_that_changes_within_one_tick_of_the_clock_is_read_again(tmp_path) -> None:
    keygen(tmp_path / "keys")
    path = tmp_path / "keys/allowed"
    key, stamp = "k" * 40, time.time_ns()
    for role in ("writer", "reader") * 5:
        path.write_text(f"{role} {key} somebody\n")
        os.utime(path, ns=(stamp, stamp))
        assert Keyring(path.parent).guest(key).role == role
    ring = Keyring(path.parent)
    seen = []
    for role in ("writer", "reader") * 5:
        path.write_text(f"{role} {key} somebody\n")
        os.utime(path, ns=(stamp, stamp))
        seen.append(ring.guest(key).role)
    assert seen == ["writer", "reader"] * 5
    assert FRESH > 1


def test_who_is_taken_off_the_list_is_out_at_the_very_next_look(tmp_path) -> None:
    keygen(tmp_path / "k")
    allowed, key = tmp_path / "k/allowed", "k" * 40
    allowed.write_text(f"writer {key} ann\n")
    long_ago = time.time() - 60
    os.utime(allowed, (long_ago, long_ago))
    ring = Keyring(tmp_path / "k")
    assert ring.guest(key) == Guest("writer", "ann")
    allowed.write_text(f"reader {key} ann\n")
    assert ring.guest(key) == Guest("reader", "ann")
    allowed.unlink()
    assert ring.guest(key) is None
