from __future__ import annotations

import collections
import dataclasses
import enum
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_actors import Incompatible, InvalidCommand, InvalidConfig
from raft_actors.codec import CloudpickleCodec, Codec, PlainCodec, is_atom, is_immutable_reply, resolve

codec = CloudpickleCodec()


@dataclasses.dataclass
class Command:
    word: str
    items: list[int]


class Colour(enum.Enum):
    RED = 1


class Text(str):
    pass


Pair = collections.namedtuple("Pair", "a b")


class BreaksOnLoad:
    def __reduce__(self):
        return int, ("not a number",)


class BreaksOnDump:
    def __getstate__(self):
        raise RuntimeError("no state today")


def by_name(value: int) -> int:
    return value + 1


# -- cloudpickle ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        1,
        2**100,
        1.5,
        1j,
        "é",
        b"x",
        (1, [2, {"a": {3}}]),
        Command("set", [1]),
        Colour.RED,
        Text("t"),
        Pair(1, 2),
    ],
)
def test_any_object_comes_back_equal_and_of_its_exact_type(value) -> None:
    again = codec.decode(codec.encode_checked(value))
    assert again == value
    assert type(again) is type(value)


def test_every_decoded_value_is_a_copy_of_its_own() -> None:
    command = Command("set", [1])
    data = codec.encode_checked(command)
    first, second = codec.decode(data), codec.decode(data)
    first.items.append(2)
    assert second.items == command.items == [1]


def test_functions_and_classes_go_by_reference() -> None:
    assert codec.decode(codec.encode_checked(by_name)) is by_name
    assert codec.decode(codec.encode_checked([Command, Colour, int, type(None)])) == [Command, Colour, int, type(None)]
    assert b"items" not in codec.encode(Command)


def test_a_lambda_goes_by_value_with_what_it_closes_over() -> None:
    offset = 41
    data = codec.encode_checked(("call", lambda value: by_name(value) + offset))
    word, function = codec.decode(data)
    assert word == "call"
    assert function(1) == 43


def test_a_function_that_goes_by_value_still_names_the_classes_and_functions_it_uses() -> None:
    make = codec.decode(codec.encode_checked(lambda: (Command, by_name)))
    assert make() == (Command, by_name)


def test_a_function_whose_name_leads_to_another_one_goes_by_value() -> None:
    def impostor(value):
        return value * 10

    impostor.__module__, impostor.__qualname__ = __name__, "by_name"
    assert codec.decode(codec.encode_checked(impostor))(2) == 20


def test_a_class_without_an_importable_name_is_refused_and_named() -> None:
    @dataclasses.dataclass
    class Local:
        x: int

    for value in (Local, Local(1), [Local(1)], lambda: Local):
        with pytest.raises(InvalidCommand, match=r"Local.*top level of a module"):
            codec.encode(value)


@pytest.mark.parametrize("value", [threading.Lock(), (x for x in ()), BreaksOnDump(), sys._getframe()])
def test_what_cannot_be_pickled_is_refused_with_the_reason(value) -> None:
    with pytest.raises(InvalidCommand, match=f"cannot encode this {type(value).__name__}: .*Error"):
        codec.encode(value)


def test_a_value_nested_too_deeply_is_refused() -> None:
    value = []
    for _ in range(100_000):
        value = [value]
    try:
        with pytest.raises(InvalidCommand):
            codec.encode_checked(value)
    finally:
        while value:  # taken apart by hand: the interpreter's own way is recursive
            value = value.pop()


def test_what_cannot_be_decoded_again_is_refused_where_it_is_accepted() -> None:
    assert codec.encode(BreaksOnLoad())
    with pytest.raises(InvalidCommand, match="cannot decode this BreaksOnLoad again: ValueError"):
        codec.encode_checked(BreaksOnLoad())


@pytest.mark.parametrize(
    "data", [b"", b"junk", pickle.dumps(1)[:-1], b"cno_such_module\nno_such\n.", b"cbuiltins\nno\n."]
)
def test_bytes_that_cannot_be_decoded_are_incompatible(data) -> None:
    with pytest.raises(Incompatible, match="codec 'cloudpickle' cannot decode"):
        codec.decode(data)


def test_running_out_of_memory_is_not_mistaken_for_damage() -> None:
    class Hungry:
        name = "hungry"

        def encode(self, value):
            return b""

        def decode(self, data):
            raise MemoryError

    with pytest.raises(MemoryError):
        resolve(Hungry()).decode(b"")


SCRIPT = """
import dataclasses, sys
from raft_actors.codec import CloudpickleCodec

@dataclasses.dataclass
class Set:
    key: str

def double(value):
    return value * 2

codec, path = CloudpickleCodec(), sys.argv[1]
if sys.argv[2] == "write":
    data = codec.encode_checked([Set("k"), double, lambda value: double(value) + 1])
    open(path, "wb").write(data)
else:
    command, function, by_value = codec.decode(open(path, "rb").read())
    assert type(command) is Set and command == Set("k")
    assert function is double
    assert by_value(4) == 9
    print("understood")
"""


def test_a_script_reads_after_a_restart_what_it_wrote_about_its_own_main_module(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    for mode, said in (("write", ""), ("read", "understood\n")):
        command = [sys.executable, str(script), str(tmp_path / "data"), mode]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, cwd=Path(__file__).parents[2],
            env={"PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout == said


# -- codecs of others ----------------------------------------------------------------------------------------------


class Utf8:
    """Only strings; fails in its own ways."""

    name = "utf8"

    def encode(self, value):
        if value == "not bytes":
            return value
        if value == "lossy":
            return b"\xff"
        return value.encode()

    def decode(self, data):
        return data.decode()


def test_the_names_of_codecs_are_resolved() -> None:
    assert isinstance(resolve("cloudpickle"), CloudpickleCodec)
    assert isinstance(resolve("plain"), PlainCodec)
    assert resolve(codec) is codec
    assert resolve("plain").name == "plain"
    assert resolve("cloudpickle").name == "cloudpickle"


@pytest.mark.parametrize("bad", ["json", None, object(), Utf8])
def test_what_is_no_codec_is_an_invalid_config(bad) -> None:
    with pytest.raises(InvalidConfig) as caught:
        resolve(bad)
    assert caught.value.fields == ("codec",)


def test_a_codec_of_your_own_gets_typed_errors() -> None:
    own = resolve(Utf8())
    assert isinstance(own, Codec)
    assert resolve(own) is own
    assert own.name == "utf8"
    assert own.decode(own.encode_checked("é")) == "é"
    with pytest.raises(InvalidCommand, match="AttributeError"):
        own.encode(7)
    with pytest.raises(InvalidCommand, match="encode returned str, not bytes"):
        own.encode("not bytes")
    with pytest.raises(InvalidCommand, match="cannot decode this str again: UnicodeDecodeError"):
        own.encode_checked("lossy")
    with pytest.raises(Incompatible, match="codec 'utf8' cannot decode"):
        own.decode(b"\xff")


# -- atoms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, True, 1, 1.0, 1j, "s", b"b"])
def test_atoms_and_tuples_of_atoms_are_immutable(value) -> None:
    assert is_atom(value)
    assert is_immutable_reply(value)
    assert is_immutable_reply((value, value))
    assert not is_atom((value,))


@pytest.mark.parametrize(
    "value", [[], {}, set(), bytearray(), Text("t"), Pair(1, 2), Colour.RED, (1, []), ((1,),), object()]
)
def test_nothing_else_is(value) -> None:
    assert not is_atom(value)
    assert not is_immutable_reply(value)


@given(st.recursive(st.one_of(st.none(), st.integers(), st.text(), st.binary()), st.lists))
def test_what_counts_as_immutable_has_no_mutable_part(value) -> None:
    assert is_immutable_reply(value) is not isinstance(value, list)
    assert is_immutable_reply((value,)) is not isinstance(value, list)
