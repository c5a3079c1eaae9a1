"""What a machine may say of snapshots itself, and what is refused when its peer starts."""

from __future__ import annotations

import gzip
import io
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

import raft_actors as raft
from raft_actors import machines, names
from raft_actors.codec import resolve
from raft_actors.machine_actor import Replica
from raft_actors.machines import KV, Counter, Echo, Lock, Queue, Stack
from raft_actors.state_images import EncodedState
from raft_actors.state_machine import Context

ROOT = Path(__file__).parents[2]


def replica(machine: type[raft.StateMachine[Any, Any]], state: Any = None, codec: str = "cloudpickle") -> Replica:
    one = Replica(machine(), "s1", resolve(codec))
    if state is not None:
        one.adopt(state, 7)
    return one


class File(io.BytesIO):
    """What is read from knows the version of the machine that wrote it."""

    version = 0


def saved(one: Replica) -> File:
    file = File()
    one.dump(one.capture(), file)
    file.seek(0)
    return file


def there_and_back(one: Replica) -> Any:
    return one.load(saved(one))


# -- ready-made machines -----------------------------------------------------------------------------------------------

COMMANDS: dict[Any, list[Any]] = {
    Echo: ["x", ("a", [1])],
    Stack: [("put", 1), ("put", [2]), "pop", ("put", ("a", {"b": 3}))],
    KV: [("set", "a", 1), ("set", ("b", 2), [3]), ("delete", "a"), ("set", "c", {"d": None})],
    Counter: [("add", 5), ("add", -7)],
    Lock: [("acquire", "a", "x", 5.0), ("acquire", "b", ("y", 1), 5.0), ("acquire", "a", "y", 5.0)],
    Queue: [("put", 1), ("put", [2]), "get", ("put", ("a", {"b": 3}))],
}


@pytest.mark.parametrize("codec", ["cloudpickle", "plain"])
@pytest.mark.parametrize("name", machines.__all__)
def test_every_ready_made_machine_can_be_saved_and_goes_on_from_there(name, codec) -> None:
    kind = getattr(machines, name)
    one = replica(kind, codec=codec)
    for index, command in enumerate(COMMANDS[kind], 1):
        one.machine.context = Context(index, 1, float(index))
        _, one.state = one.machine.handle_write(command, one.state)
    another = replica(kind, codec=codec)
    another.adopt(another.load(saved(one)), 7)
    assert another.state == one.state
    another.machine.context = Context(index, 1, float(index))
    for command in COMMANDS[kind]:
        assert one.machine.handle_write(command, one.state) == another.machine.handle_write(command, another.state)


# -- machines that say something themselves ----------------------------------------------------------------------------


class Board(raft.StateMachine[Any, Any]):
    """A state of two parts."""

    def init(self, name: str) -> Any:
        return {"notes": [], "open": True}

    def handle_write(self, command: Any, state: Any) -> Any:
        state["notes"].append(command)
        return len(state["notes"]), state


class OwnImage(Board):
    def snapshot(self, state: Any) -> Any:
        return {"notes": state["notes"].copy(), "open": state["open"]}


class OwnFormat(Board):
    def dump(self, image: Any, file: Any) -> None:
        file.write(json.dumps(image).encode() + b"\n")

    def load(self, file: Any) -> Any:
        return json.loads(file.readline())


class OwnAll(OwnFormat):
    def snapshot(self, state: Any) -> Any:
        return [*state["notes"], state["open"]]

    def load(self, file: Any) -> Any:
        *notes, still_open = json.loads(file.read())
        return {"notes": notes, "open": still_open}


class InParts(Board):
    """Writes its state part by part, by way of the default."""

    def dump(self, image: Any, file: Any) -> None:
        for part in image.items():
            super().dump(part, file)
        super().dump(None, file)

    def load(self, file: Any) -> Any:
        return dict(iter(lambda: super(InParts, self).load(file), None))


class Packed(Board):
    """Puts a file of its own between itself and the one it was given."""

    def dump(self, image: Any, file: Any) -> None:
        with gzip.GzipFile(fileobj=file, mode="wb") as packed:
            super().dump(image, packed)  # type: ignore[arg-type]

    def load(self, file: Any) -> Any:
        with gzip.GzipFile(fileobj=file) as packed:
            return super().load(packed)  # type: ignore[arg-type]


OWN = [Board, OwnImage, OwnFormat, OwnAll, InParts, Packed]


@pytest.mark.parametrize("codec", ["cloudpickle", "plain"])
@pytest.mark.parametrize("kind", OWN)
def test_a_machine_may_bring_any_of_its_own(kind, codec) -> None:
    one = replica(kind, {"notes": ["a", "b"], "open": False}, codec)
    assert there_and_back(one) == one.state


@pytest.mark.parametrize("kind", OWN)
def test_what_is_captured_stays_as_it_was_with_any_of_its_own(kind) -> None:
    one = replica(kind, {"notes": ["a"], "open": True})
    image, file = one.capture(), File()
    one.state["notes"].append("late")
    one.state["open"] = False
    one.dump(image, file)
    file.seek(0)
    assert one.load(file) == {"notes": ["a"], "open": True}


@pytest.mark.parametrize("kind", OWN)
def test_a_machine_can_be_tried_without_a_peer(kind) -> None:
    machine, file = kind(), io.BytesIO()
    machine.dump(machine.snapshot({"notes": ["a"], "open": True}), file)
    file.seek(0)
    assert machine.load(file) == {"notes": ["a"], "open": True}


def test_a_dump_of_its_own_gets_an_equal_of_the_state_not_an_encoding() -> None:
    for state in ({"notes": [1]}, {"notes": 1}, [1], 7):
        image = replica(OwnFormat, state).capture()
        assert image == state
        assert type(image) is type(state)
        assert image is not state or state == 7


def test_a_file_within_the_file_keeps_the_codec_of_the_peer() -> None:
    packed = saved(replica(Packed, {"notes": ["a"], "open": True}, "plain"))
    inside = gzip.GzipFile(fileobj=packed).read()
    assert inside == saved(replica(Board, {"notes": ["a"], "open": True}, "plain")).getvalue()


def test_an_image_is_not_dumped_in_another_codec() -> None:
    image = replica(Board, {"notes": [1]}).capture()
    assert isinstance(image, EncodedState)
    with pytest.raises(ValueError, match="encoded with codec 'cloudpickle', not 'plain'"):
        replica(Board, codec="plain").dump(image, io.BytesIO())


class Curious(Board):
    seen: list[Any] = []

    def dump(self, image: Any, file: Any) -> None:
        self.seen.append(file.codec.name)
        assert file.write(b"1234\n56") == 7

    def load(self, file: Any) -> Any:
        self.seen += [file.codec.name, file.version]
        buffer = bytearray(2)
        return file.read(1), file.readinto(buffer), bytes(buffer), file.readline(), file.read()


def test_the_files_know_the_codec_and_the_version_and_read_as_files_do() -> None:
    Curious.seen.clear()
    one = replica(Curious, codec="plain")
    assert there_and_back(one) == (b"1", 2, b"23", b"4\n", b"56")
    assert Curious.seen == ["plain", "plain", 0]


# -- errors ------------------------------------------------------------------------------------------------------------


class Failing(Board):
    error: BaseException = ValueError("planted")

    def snapshot(self, state: Any) -> Any:
        raise self.error

    def dump(self, image: Any, file: Any) -> None:
        raise self.error

    def load(self, file: Any) -> Any:
        raise self.error


@pytest.mark.parametrize("error", [ValueError("planted"), MemoryError("planted"), SystemExit("planted")], ids=repr)
def test_what_a_machine_raises_passes_as_it_is(error, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Failing, "error", error)
    one = replica(Failing)
    for call in (one.capture, lambda: one.dump(1, io.BytesIO()), lambda: one.load(io.BytesIO())):
        with pytest.raises(type(error)) as caught:
            call()
        assert caught.value is error


def test_the_context_has_no_values_in_any_of_the_three() -> None:
    class Asking(Board):
        def snapshot(self, state: Any) -> Any:
            return self.context.index

        def dump(self, image: Any, file: Any) -> None:
            file.write(str(self.context.term).encode())

        def load(self, file: Any) -> Any:
            return self.context.time

    one = replica(Asking)
    for call in (one.capture, lambda: one.dump(1, io.BytesIO()), lambda: one.load(io.BytesIO())):
        with pytest.raises(RuntimeError, match="only while handle_write runs"):
            call()


# -- versions ----------------------------------------------------------------------------------------------------------


class Third(Board):
    version = 3

    def dump(self, image: Any, file: Any) -> None:
        file.write(b"3")

    def load(self, file: Any) -> Any:
        return file.version, file.read()


@pytest.mark.parametrize("version", [0, 2, 3])
def test_a_machine_is_told_the_version_of_an_older_state(version) -> None:
    file = File(b"x")
    file.version = version
    assert replica(Third).load(file) == (version, b"x")


@pytest.mark.parametrize(("kind", "version"), [(Third, 4), (Board, 1)])
def test_a_state_of_a_newer_version_is_refused_unread(kind, version) -> None:
    file = File(b"x")
    file.version = version
    with pytest.raises(raft.Incompatible) as caught:
        replica(kind).load(file)
    name = kind.__name__
    assert f"version {version} of {name} has written: it has version {kind.version}" in str(caught.value)
    assert f"start it with version {version} of {name}, or a newer one" in str(caught.value)
    assert file.tell() == 0


# -- at the start ------------------------------------------------------------------------------------------------------


class NoLoad(Board):
    dump = OwnFormat.dump


class NoDump(Board):
    load = OwnFormat.load


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (NoLoad, "NoLoad has dump but not load: add load(self, file), which returns the state that dump wrote"),
        (NoDump, "NoDump has load but not dump: add dump(self, image, file), which writes what load reads"),
        (type("Odd", (Board,), {"version": "1"}), "Odd.version must be an int of 0 or more, not '1'"),
        (type("Odd", (Board,), {"version": True}), "Odd.version must be an int of 0 or more, not True"),
        (type("Odd", (Board,), {"version": -1}), "Odd.version must be an int of 0 or more, not -1"),
    ],
)
def test_a_machine_that_could_not_be_loaded_again_does_not_start(kind, text, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=re.escape(text)):
        raft.start_peer(kind, name="s1", config=raft.Config(storage="memory", data_dir=str(tmp_path)))
    assert names.names() == ()


@pytest.mark.parametrize("kind", [*OWN, Third])
def test_a_machine_that_is_whole_starts(kind, tmp_path: Path) -> None:
    raft.start_peer(kind, name="s1", config=raft.Config(storage="memory", data_dir=str(tmp_path)))
    raft.stop("s1")


def test_a_machine_that_was_held_up_says_for_how_long(caplog, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.09, 1.0, 1.25])
    one = replica(OwnImage)
    monkeypatch.setattr("raft_actors.machine_snapshots.time.perf_counter", lambda: next(clock))
    with caplog.at_level(logging.WARNING, "raft_actors"):
        one.capture()
        assert not caplog.records
        one.capture()
    assert "peer s1: no command could be applied for 0.25 s while OwnImage captured its state" in caplog.text


# -- the documentation -------------------------------------------------------------------------------------------------


def example(word: str) -> dict[str, Any]:
    """What the program of the documentation that has ``word`` in it defines."""
    text = (ROOT / "raft_actors/docs/snapshots.md").read_text()
    (program,) = [
        each for each in re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE) if word in each
    ]
    space: dict[str, Any] = {"__name__": "example"}
    exec(program, space)
    return space


@pytest.mark.parametrize("codec", ["cloudpickle", "plain"])
def test_the_persistent_map_of_the_documentation_is_captured_at_once_and_comes_back(codec) -> None:
    immutables = pytest.importorskip("immutables")
    one = replica(example("immutables")["Accounts"], codec=codec)
    for number in range(2_500):
        reply, one.state = one.machine.handle_write((f"name {number}", number), one.state)
        assert reply == number
    image, before = one.capture(), dict(one.state)
    assert image is one.state
    _, one.state = one.machine.handle_write(("name 1", 100), one.state)
    file = File()
    one.dump(image, file)
    file.seek(0)
    back = one.load(file)
    assert type(back) is immutables.Map
    assert dict(back) == before
    assert one.machine.handle_read("name 1", one.state)[0] == 101
    assert not file.read()


def test_the_versions_of_the_documentation_read_their_older_state() -> None:
    one = replica(example("version = 1")["Scores"])
    for score in (3, 5, 4):
        _, one.state = one.machine.handle_write(("ann", score), one.state)
    newest, older = saved(one), saved(replica(Board, {"ann": 5}))
    newest.version = 1
    assert [one.load(newest), one.load(older)] == [{"ann": (5, 4)}, {"ann": (5, 5)}]
