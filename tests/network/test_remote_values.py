"""Errors and values come out of another process as they went in."""

from __future__ import annotations

import msgspec
import pytest

import raft_actors as raft
from raft_actors import errors
from raft_actors.remote_values import (
    configuration_from,
    error_from,
    failed,
    name_from,
    number_from,
    status_from,
    to_bytes,
)
from raft_actors.transport import frames
from raft_actors.values import Configuration, Progress, Status


def through_the_wire(error: BaseException) -> raft.RaftError:
    body = frames.unpack(frames.pack(failed(1, error)))
    assert isinstance(body, frames.Failed)
    return error_from(body)


SAMPLES = {
    "NotLeader": lambda: raft.NotLeader("s2@h:2"),
    "UnknownPeer": lambda: raft.UnknownPeer("s9"),
    "Restarting": lambda: raft.Restarting("s9"),
    "AlreadyStarted": lambda: raft.AlreadyStarted("s9"),
    "StoreInUse": lambda: raft.StoreInUse("/data/s1", pid=12),
    "MissingExtra": lambda: raft.MissingExtra("net"),
    "InvalidConfig": lambda: raft.InvalidConfig("no", fields=("codec", "storage")),
    "RemoteError": lambda: raft.RemoteError("ValueError", "no", "trace"),
}


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name != "RemoteError"])
def test_every_error_comes_back_as_itself(name: str) -> None:
    error = SAMPLES.get(name, getattr(errors, name))()
    back = through_the_wire(error)
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert {k: v for k, v in vars(back).items() if v} == {k: v for k, v in vars(error).items() if v}


def test_the_exception_of_a_machine_is_described_and_not_rebuilt() -> None:
    try:
        raise ValueError("no such word")
    except ValueError as cause:
        error = raft.CommandFailed.because(cause)
    back = through_the_wire(error)
    assert isinstance(back, raft.CommandFailed)
    assert isinstance(back.__cause__, raft.RemoteError)
    assert (back.__cause__.type_name, back.__cause__.message) == ("ValueError", "no such word")
    assert "raise ValueError" in back.__cause__.traceback


def test_an_exception_that_is_none_of_ours_becomes_the_root_of_ours() -> None:
    back = through_the_wire(KeyError("x"))
    assert type(back) is raft.RaftError
    assert "KeyError" in str(back)


@pytest.mark.parametrize("kind", ["Exception", "__doc__", "Iterable", "SystemExit"])
def test_a_name_that_is_no_error_of_ours_names_nothing(kind: str) -> None:
    assert type(error_from(frames.Failed(1, kind, "text"))) is raft.RaftError


def test_a_status_comes_back_equal() -> None:
    status = Status(
        name="s1@h:1",
        role="leader",
        term=3,
        leader="s1@h:1",
        configuration=Configuration(("s1@h:1", "s2@h:2"), ("s3@h:3",), 9, committed=True),
        commit_index=12,
        progress={"s2@h:2": Progress(11, 1, "replicate")},
    )
    assert status_from(to_bytes(status)) == status
    assert status_from(to_bytes(Status(name="s1"))) == Status(name="s1")


def test_the_failure_of_a_peer_comes_with_its_status() -> None:
    back = status_from(to_bytes(Status(name="s1", failure=raft.StorageFailed("disk full"))))
    assert isinstance(back.failure, raft.StorageFailed)
    assert "disk full" in str(back.failure)


def test_configurations_names_and_numbers_come_back_equal() -> None:
    configuration = Configuration(("s1",), (), 4, committed=False)
    assert configuration_from(to_bytes(configuration)) == configuration
    assert (name_from(to_bytes("s1")), name_from(to_bytes(None)), number_from(to_bytes(7))) == ("s1", None, 7)
    with pytest.raises(msgspec.DecodeError):
        name_from(to_bytes(7))
    with pytest.raises(msgspec.DecodeError):
        number_from(to_bytes(None))


def test_halves_of_characters_in_a_text_of_a_user_are_replaced() -> None:
    assert frames.pack(failed(1, ValueError("a \udc80")))
    assert frames.pack(failed(1, raft.CommandFailed.because(ValueError("b \udc80"))))
