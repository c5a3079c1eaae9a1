"""How states look as bytes: their pieces, what becomes of damage, and what it costs."""

from __future__ import annotations

import ast
import copy
import gc
import io
import pickle
import threading
import tracemalloc
from typing import Any

import pytest

import raft_actors as raft
from raft_actors.codec import CloudpickleCodec
from tests.public_api.saving import CODECS, Account, replica, saved

# -- pieces ------------------------------------------------------------------------------------------------------------


def letter(state: Any, codec: Any = "cloudpickle") -> bytes:
    return saved(replica(state, codec)).read(1)


def test_pickle_cuts_only_what_shares_nothing_and_other_codecs_cut_always() -> None:
    shared: list[int] = []
    twice = {1: shared, 2: shared}
    assert [letter({n: [n] for n in range(100)}), letter([[1]]), letter({1}), letter(1)] == [b"D", b"L", b"S", b"V"]
    assert [letter(twice), letter([shared])] == [b"V", b"V"]
    assert [letter(twice, "plain"), letter([shared], "plain"), letter((1,), "plain")] == [b"D", b"L", b"V"]


class Measured:
    """A codec that knows how large the pieces are that it gets."""

    name = "measured"

    def __init__(self) -> None:
        self.pieces: list[tuple[int, int]] = []

    def encode(self, value: Any) -> bytes:
        data = repr(value).encode()
        self.pieces.append((len(value), len(data)))
        return data

    def decode(self, data: bytes) -> Any:
        return ast.literal_eval(data.decode())


def pieces(state: Any) -> list[tuple[int, int]]:
    codec = Measured()
    one = replica(state, codec)
    file = saved(one)
    assert one.load(file) == state
    return codec.pieces


def test_the_size_of_pieces_follows_from_their_bytes() -> None:
    assert pieces(dict.fromkeys(range(10), "x")) == [(10, 80)]
    assert {count for count, _ in pieces(list(range(10_000)))} == {16, 32, 64, 128, 256, 512, 1024, 800}
    assert all(size < 70_000 for _, size in pieces(dict.fromkeys(range(1000), "x" * 1000))[1:])
    assert [count for count, _ in pieces(["x" * 100_000] * 40)] == [16, 8, 4, 2, *[1] * 10]


def test_large_ones_in_large_ones_are_cut_as_well() -> None:
    inner = {number: number for number in range(10_000)}
    state = {"a": 1, "large": inner, "list": [1, list(range(5_000))]}
    assert max(count for count, _ in pieces(state)) <= 1024
    assert max(size for _, size in pieces({"users": {n: [n] for n in range(9_000)}})) < 70_000


class Backwards(CloudpickleCodec):
    """Has a way of its own to write what the codec that it is made of writes."""

    name = "backwards"

    def encode(self, value: Any) -> bytes:
        return super().encode(value)[::-1]

    def decode(self, data: bytes) -> Any:
        return super().decode(data[::-1])


@pytest.mark.parametrize("state", [{"a": ["text"]}, {"a": "text"}, Account("text")], ids=repr)
def test_a_codec_that_is_made_of_ours_sees_all_that_is_written(state) -> None:
    one = replica(state, Backwards())
    assert b"text" not in saved(one).getvalue()
    assert one.load(saved(one)) == state


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: getattr(codec, "name", codec))
@pytest.mark.parametrize("state", [{"a": [1], "b": [2]}, [1, 2, 3], 7, Account("ann", [1])], ids=repr)
def test_a_saved_state_that_ends_early_is_refused_wherever_it_ends(state, codec) -> None:
    one = replica(copy.deepcopy(state), codec)
    data = saved(one).getvalue()
    for length in range(len(data)):
        with pytest.raises(raft.Incompatible):
            one.load(io.BytesIO(data[:length]))


@pytest.mark.parametrize("codec", ["cloudpickle", "plain"])
def test_other_bytes_are_refused(codec) -> None:
    one = replica(None, codec)
    for data in (b"", b"?", b"D?", b"L>?", b"S>L.", b"X" * 100, b"V" + b"\xff" * 100):
        with pytest.raises(raft.Incompatible):
            one.load(io.BytesIO(data))


def test_a_piece_of_another_kind_is_refused() -> None:
    one, file = replica(None), io.BytesIO()
    for data in (
        b"D+" + pickle.dumps([1]) + b".",
        b"L+" + pickle.dumps({1: 1}) + b".",
        b"D+" + pickle.dumps({}) + b".",
    ):
        file = io.BytesIO(data)
        with pytest.raises(raft.Incompatible, match="this is no saved state: it goes on with"):
            one.load(file)


def test_a_state_nested_without_end_is_refused() -> None:
    with pytest.raises(raft.Incompatible, match="this is no saved state"):
        replica(None).load(io.BytesIO(b"L>" * 10_000))


def test_bytes_of_another_codec_are_never_unpickled() -> None:
    data = saved(replica(Account("ann"))).getvalue()
    with pytest.raises(raft.Incompatible):
        replica(None, "plain").load(io.BytesIO(data))


def test_a_state_of_a_class_that_is_gone_is_told_so() -> None:
    data = saved(replica(Account("ann"))).getvalue().replace(b"Account", b"Akkount")
    with pytest.raises(raft.Incompatible, match="Akkount"):
        replica(None).load(io.BytesIO(data))


class Broken(io.BytesIO):
    """A disk that fails."""

    def read(self, *_: Any) -> bytes:
        raise OSError(5, "planted")

    def write(self, _: Any) -> int:
        raise OSError(28, "planted")


@pytest.mark.parametrize("codec", ["cloudpickle", "plain"])
@pytest.mark.parametrize("state", [{"a": [1]}, 1], ids=repr)
def test_what_the_file_raises_passes_as_it_is(state, codec) -> None:
    one = replica(state, codec)
    with pytest.raises(OSError, match="planted"):
        one.dump(one.capture(), Broken())
    with pytest.raises(OSError, match="planted"):
        one.load(Broken())


class Ending(io.BytesIO):
    """A disk that fails in the middle."""

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if self.tell() > 20:
            raise OSError(5, "planted")
        return data


@pytest.mark.parametrize("state", [Account("ann", list(range(100))), {"a": [1] * 100}], ids=["value", "pieces"])
def test_what_the_file_raises_in_the_middle_of_a_pickle_passes_as_it_is(state) -> None:
    data = saved(replica(state)).getvalue()
    with pytest.raises(OSError, match="planted"):
        replica(None).load(Ending(data))


def test_a_state_that_cannot_be_encoded_says_why() -> None:
    with pytest.raises(TypeError, match="cannot pickle '_thread.lock' object"):
        replica({"lock": threading.Lock()}).capture()
    with pytest.raises(raft.InvalidCommand, match="is not a plain type"):
        replica({"object": object()}, "plain").capture()


# -- memory ------------------------------------------------------------------------------------------------------------


class Nowhere:
    """A file that keeps nothing."""

    def write(self, data: bytes) -> None:
        pass


@pytest.mark.parametrize("codec", ["cloudpickle", "plain"])
@pytest.mark.parametrize("make", [lambda n: b"x" * 100 + str(n).encode(), lambda n: [b"x" * 100 + str(n).encode(), n]])
def test_saving_takes_no_more_memory_than_the_state(make, codec) -> None:
    gc.collect()
    tracemalloc.start()
    try:
        one = replica({f"key {number}": make(number) for number in range(20_000)}, codec)
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        one.dump(one.capture(), Nowhere())
        extra = tracemalloc.get_traced_memory()[1] - size
    finally:
        tracemalloc.stop()
    assert extra < size
