"""Calls with odd arguments, and what an error gives away: a clear answer to the caller, and nothing of a replica."""

from __future__ import annotations

import gc
import io
import json
import threading
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pykka
import pytest

import raft_actors as raft
from raft_actors import names, supervisor
from tests.threads.tools import Recorder, outcome, wait_until

# -- exceptions of a machine -------------------------------------------------------------------------------------------


class Strange(Exception):
    """Its constructor wants something else than its arguments, and it has attributes."""

    def __init__(self, *, number: int) -> None:
        super().__init__("strange", number)
        self.number = number
        self.parts = {"of": [number]}

    def __str__(self) -> str:
        return f"number {self.number}"


class BadFile(OSError):
    """As some make their own: the constructor hides the number."""

    def __init__(self, name: str) -> None:
        super().__init__(2, "not there", name)


class Locked(Exception):
    """Holds what nobody can copy."""


def local_error() -> Exception:
    class Local(ValueError):
        pass

    return Local("only here", [1])


ERRORS = {
    "plain": lambda: ValueError("a", 1, [2]),
    "key": lambda: KeyError("k"),
    "empty": RuntimeError,
    "file": lambda: OSError(2, "No such file", "name", None, "other name"),
    "own file": lambda: BadFile("name"),
    "unicode": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "planted"),
    "json": lambda: json.JSONDecodeError("planted", "document", 3),
    "syntax": lambda: SyntaxError("planted", ("file.py", 1, 2, "text")),
    "strange": lambda: Strange(number=7),
    "local": local_error,
    "group": lambda: ExceptionGroup("several", [ValueError(1), KeyError(2)]),
    "ours": lambda: raft.Refused("by the machine"),
}


class Leaky(raft.StateMachine):
    """Its errors hold pieces of its state, in every place that an exception has."""

    def init(self, name: str) -> dict[str, list[int]]:
        return {"items": [1]}

    def handle_write(self, command: Any, state: Any) -> Any:
        return self._fail(command, state)

    def handle_read(self, query: Any, state: Any) -> Any:
        return (state, state) if query == "all" else self._fail(query, state)

    def _fail(self, what: Any, state: Any) -> Any:
        if what == "lock":
            raise Locked(threading.Lock())
        if what != "leak":
            error = ERRORS[what]()
            raise error
        error = LookupError("x", state, state["items"])
        error.state = state
        error.add_note("of the user")
        try:
            raise KeyError(state)
        except KeyError as cause:
            raise error from cause


@pytest.fixture
def leaky(config: raft.Config) -> Iterator[str]:
    raft.start_peer(Leaky, name="s1", config=config)
    raft.set_configuration("s1", ["s1"])
    raft.leader("s1")
    yield "s1"
    raft.stop("s1")


def failure(call: Any, what: str) -> BaseException:
    with pytest.raises(raft.CommandFailed) as caught:
        call("s1", what)
    cause = caught.value.__cause__
    assert cause is not None
    return cause


def reachable(root: object) -> Iterator[object]:
    """Everything that can be got at from ``root``, but for code, modules and classes."""
    seen, left = set(), [root]
    while left:
        one = left.pop()
        if id(one) in seen or isinstance(one, type | types.ModuleType | types.FunctionType | types.CodeType):
            continue
        seen.add(id(one))
        yield one
        left += gc.get_referents(one)


@pytest.mark.parametrize("call", [raft.write, raft.read])
def test_an_exception_gives_no_access_to_the_state_of_a_replica(leaky: str, call: Any) -> None:
    cause = failure(call, "leak")
    state = supervisor.handle_of(leaky).peer.machine.replica.state
    held = {id(one) for one in (state, state["items"])}
    ways = [cause.args, cause.__dict__, cause.__cause__, cause.__context__]
    assert not [one for one in reachable(ways) if id(one) in held]
    frames = [frame.f_code.co_name for frame, _ in traceback.walk_tb(cause.__traceback__)]
    assert "_fail" not in frames
    cause.args[1]["items"].append("changed")
    cause.state["items"].append("changed")
    assert raft.read(leaky, "all") == {"items": [1]}


def test_the_text_of_the_traceback_is_kept_as_a_note(leaky: str) -> None:
    first, second = failure(raft.write, "leak").__notes__
    assert first == "of the user"
    for line in ("raised in the state machine:", "raise error from cause", "direct cause"):
        assert line in second


@pytest.mark.parametrize("call", [raft.write, raft.read])
@pytest.mark.parametrize("what", ERRORS)
def test_type_arguments_and_text_of_an_exception_are_kept(leaky: str, call: Any, what: str) -> None:
    wanted, found = ERRORS[what](), failure(call, what)
    assert str(found) == str(wanted)
    assert type(found).__qualname__ == type(wanted).__qualname__
    assert what == "local" or type(found) is type(wanted)
    if what != "group":  # the errors in it are copies, and errors have no equality
        assert found.args == wanted.args
    if isinstance(wanted, OSError):
        assert (found.errno, found.filename, found.filename2) == (2, wanted.filename, wanted.filename2)
    if isinstance(wanted, Strange):
        assert found.parts == wanted.parts


def test_an_exception_that_cannot_be_copied_is_described(leaky: str) -> None:
    cause = failure(raft.write, "lock")
    assert isinstance(cause, raft.RemoteError)
    assert cause.type_name == "Locked"
    assert "raise Locked" in cause.traceback


# -- patience ----------------------------------------------------------------------------------------------------------

FOR_EVER = [None, float("inf"), 1e10, 1e300]


@pytest.mark.parametrize("timeout", FOR_EVER)
def test_who_waits_for_ever_waits_until_it_is_done(config: raft.Config, timeout: float | None) -> None:
    raft.start_peer(Recorder, name="s1", config=config)
    raft.set_configuration("s1", ["s1"], timeout=timeout)
    assert raft.leader("s1", timeout=timeout) == "s1"
    assert raft.write("s1", "x", timeout=timeout) == 1
    assert raft.write("s1", "x", timeout=timeout, block=False).get() == 2
    assert raft.read("s1", "len", timeout=timeout) == 2
    raft.stop("s1", timeout=timeout)
    assert names.names() == ()


@pytest.mark.parametrize("timeout", FOR_EVER)
def test_a_formation_without_a_limit_waits_for_its_last_member(config: raft.Config, timeout: float | None) -> None:
    for name in ("s1", "s2"):
        raft.start_peer(Recorder, name=name, config=config)
    peer = supervisor.handle_of("s2").peer
    peer.pause()
    results: list[Any] = []
    forming = threading.Thread(
        target=lambda: results.append(raft.set_configuration("s1", ["s1", "s2"], timeout=timeout))
    )
    forming.start()
    forming.join(0.4)  # without patience it would have been refused after a quarter of a second
    assert forming.is_alive()
    peer.resume()
    forming.join(5)
    assert results[0].voters == ("s1", "s2")
    for name in ("s1", "s2"):
        raft.stop(name)


# -- arguments ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def refs(config: raft.Config) -> Iterator[list[pykka.ActorRef[Any]]]:
    yield [raft.start_peer(Recorder, name=name, config=config) for name in ("s1", "s2")]
    for name in ("s1", "s2"):
        raft.stop(name)


def test_a_cluster_can_be_formed_of_actor_refs(refs: list[Any]) -> None:
    formed = raft.set_configuration(refs[0], refs)
    assert formed.voters == ("s1", "s2")
    assert raft.set_configuration(refs[1], [refs[0], "s2"], expected=formed) == formed
    assert raft.configuration(refs[1]).voters == ("s1", "s2")


@pytest.mark.parametrize("peers", [None, 5, "s1", b"s1", [], ["s1", "s1"]], ids=repr)
def test_members_that_are_none_are_no_configuration(refs: list[Any], peers: Any) -> None:
    with pytest.raises((raft.InvalidConfiguration, raft.InvalidName)):
        raft.set_configuration("s1", peers)
    assert raft.configuration("s1").voters == ()


@pytest.mark.parametrize("expected", ["x", 1.0, True, ()], ids=repr)
def test_an_expected_configuration_is_a_configuration_or_a_number(refs: list[Any], expected: Any) -> None:
    with pytest.raises(TypeError, match="expected must be a Configuration or its index"):
        raft.set_configuration("s1", ["s1", "s2"], expected=expected)
    assert raft.configuration("s1").voters == ()


@pytest.mark.parametrize("events", [raft.LeaderChanged, 5], ids=repr)
def test_events_are_given_as_a_collection(refs: list[Any], events: Any) -> None:
    with pytest.raises(TypeError, match=r"events must be a collection such as \[raft_actors.LeaderChanged\], not"):
        raft.subscribe("s1", print, events=events)


@pytest.mark.parametrize("codec", ["cloudpickle", "plain"])
def test_an_open_file_is_no_command(tmp_path: Path, codec: str) -> None:
    raft.start_peer(Recorder, name="s1", config=raft.Config(data_dir=tmp_path, codec=codec))
    raft.set_configuration("s1", ["s1"])
    raft.leader("s1")
    (tmp_path / "file").write_text("text")
    for mode in ("r", "rb", "r+b", "w"):
        with open(tmp_path / "file", mode) as file:
            for command in (file, ["in a list", file], {"with a function": len, "and": file}):
                for call in (raft.write, raft.read):
                    future = call("s1", command, block=False)
                    assert isinstance(outcome(future), raft.InvalidCommand)
    if codec == "cloudpickle":
        assert raft.write("s1", ("contents", io.BytesIO(b"x"), io.StringIO("y"), lambda: 1)) == 1
    raft.stop("s1")


# -- a peer that failed ------------------------------------------------------------------------------------------------


def depth(error: BaseException | None) -> int:
    return 0 if error is None else len(list(traceback.walk_tb(error.__traceback__)))


def test_the_failure_of_a_peer_does_not_grow_with_every_call(config: raft.Config) -> None:
    raft.start_peer(Recorder, name="s1", config=raft.Config(data_dir=config.data_dir, restart=None))
    raft.set_configuration("s1", ["s1"])
    raft.leader("s1")
    raft.write("s1", ("raise", MemoryError("planted")), block=False)
    wait_until(lambda: supervisor.handle_of("s1").failed)
    calls = [
        lambda: raft.write("s1", 1),
        lambda: raft.write("s1", 1, block=False).get(),
        lambda: raft.read("s1", "len"),
        lambda: raft.leader("s1"),
        lambda: raft.set_configuration("s1", ["s1"]),
    ]
    lengths = []
    for _ in range(20):
        for call in calls:
            with pytest.raises(raft.PeerFailed, match="MemoryError: planted") as caught:
                call()
            lengths.append((depth(caught.value), depth(raft.status("s1").failure)))
    assert lengths == lengths[: len(calls)] * 20
    raft.stop("s1")
