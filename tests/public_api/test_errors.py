from __future__ import annotations

import copy
import pickle

import pykka
import pytest

import raft_actors as raft
from raft_actors import errors

TREE = {
    "RaftError": {
        "NotApplied": {
            "NotLeader": {},
            "ElectionInProgress": {},
            "Overloaded": {},
            "UnknownPeer": {},
            "NotConfigured": {},
            "NotInConfiguration": {},
            "Restarting": {},
        },
        "OutcomeUnknown": {"Timeout": {}},
        "Refused": {
            "InvalidConfig": {},
            "InvalidName": {},
            "InvalidCommand": {},
            "InvalidConfiguration": {},
            "ConfigurationChanged": {},
            "ConfigurationInProgress": {},
            "AlreadyStarted": {},
            "SessionExpired": {},
            "Unauthorized": {},
            "Incompatible": {},
            "StoreInUse": {},
            "MissingExtra": {},
        },
        "CommandFailed": {},
        "RemoteError": {},
        "PeerFailed": {"StorageFailed": {}, "CorruptLog": {}, "InvariantViolated": {}},
    }
}

EXAMPLES = [
    raft.RaftError("odd"),
    raft.NotApplied(),
    raft.NotLeader("s2"),
    raft.ElectionInProgress(),
    raft.Overloaded("peer 's1' has 20000 writes waiting"),
    raft.UnknownPeer("s9"),
    raft.NotConfigured(),
    raft.NotInConfiguration(),
    raft.Restarting("s1"),
    raft.OutcomeUnknown(),
    raft.Timeout("no answer within 3.0 seconds"),
    raft.Refused("a machine called its own peer"),
    raft.InvalidConfig("max_inflight must be from 1", fields=["max_inflight"]),
    raft.InvalidName("'a/b' is not a name"),
    raft.InvalidCommand(),
    raft.InvalidConfiguration(),
    raft.ConfigurationChanged(),
    raft.ConfigurationInProgress(),
    raft.AlreadyStarted("s1"),
    raft.SessionExpired(),
    raft.Unauthorized(),
    raft.Incompatible("the store belongs to peer 's2'"),
    raft.StoreInUse("data/s1", pid=4711),
    raft.MissingExtra("rocksdb"),
    raft.CommandFailed.because(KeyError("k")),
    raft.RemoteError("KeyError", "'k'", "Traceback ..."),
    raft.PeerFailed(),
    raft.StorageFailed("peer 's1': No space left on device"),
    raft.CorruptLog(),
    raft.InvariantViolated(),
]
IDS = [type(error).__name__ for error in EXAMPLES]


def subtree(cls: type) -> dict[str, object]:
    ours = [child for child in cls.__subclasses__() if child.__name__ in errors.__all__]
    return {child.__name__: subtree(child) for child in ours}


def test_the_tree_of_errors_is_the_documented_one() -> None:
    assert {"RaftError": subtree(raft.RaftError)} == TREE


def test_every_error_is_exported_by_the_package_and_has_an_example_here() -> None:
    assert {name for name in errors.__all__ if getattr(raft, name) is getattr(errors, name)} == set(IDS)
    assert set(errors.__all__) <= set(raft.__all__)


@pytest.mark.parametrize("error", EXAMPLES, ids=IDS)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_error_survives_copying_and_pickling_with_all_it_carries(error, copied) -> None:
    again = copied(error)
    assert type(again) is type(error)
    assert again is not error
    assert str(again) == str(error)
    assert again.args == error.args
    assert vars(again) == vars(error)
    assert repr(again.__cause__) == repr(error.__cause__)


@pytest.mark.parametrize("error", EXAMPLES, ids=IDS)
def test_every_message_says_what_happened_and_what_to_do(error) -> None:
    if isinstance(error, raft.RemoteError):
        assert str(error) == "KeyError: 'k'"
        return
    text = str(error)
    happened, _, todo = text.rpartition(": ")
    assert happened
    assert len(todo.split()) >= 3, text


def test_the_advice_can_be_made_more_precise_by_whoever_raises() -> None:
    assert str(raft.Refused("no", advice="call later")) == "no: call later"


def test_errors_carry_the_peer_or_the_field_they_are_about() -> None:
    assert raft.NotLeader("s2").leader == "s2"
    assert "'s2'" in str(raft.NotLeader("s2"))
    assert raft.UnknownPeer("s9").name == "s9"
    assert "'s9'" in str(raft.UnknownPeer("s9"))
    assert raft.Restarting("s1").name == "s1"
    assert raft.AlreadyStarted("s1").name == "s1"
    assert raft.InvalidConfig(fields=["a", "b"]).fields == ("a", "b")


def test_a_timeout_is_what_python_and_pykka_call_a_timeout() -> None:
    for kind in (TimeoutError, pykka.Timeout, raft.OutcomeUnknown):
        with pytest.raises(kind, match="late"):
            raise raft.Timeout("late")


def test_a_store_in_use_names_the_process() -> None:
    error = raft.StoreInUse("data/s1", pid=4711)
    assert (error.path, error.pid) == ("data/s1", 4711)
    assert "process 4711" in str(error)
    assert "another process" in str(raft.StoreInUse("data/s1", pid=None))


def test_a_missing_extra_says_how_to_install_it() -> None:
    error = raft.MissingExtra("rocksdb")
    assert error.extra == "rocksdb"
    assert "pip install 'raft-actors[rocksdb]'" in str(error)


def test_a_failed_command_has_the_exception_as_its_cause_and_names_it() -> None:
    cause = ValueError("no such word")
    error = raft.CommandFailed.because(cause)
    assert error.__cause__ is cause
    assert "ValueError: no such word" in str(error)


def test_a_remote_error_describes_an_exception_with_its_traceback() -> None:
    try:
        {}["k"]
    except KeyError as error:
        remote = raft.RemoteError.of(error)
    assert (remote.type_name, remote.message) == ("KeyError", "'k'")
    assert '{}["k"]' in remote.traceback
    assert raft.RemoteError.of(remote) is remote


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("has a lambda")
        self.function = lambda: None


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_a_cause_that_cannot_be_pickled_travels_as_its_description() -> None:
    again = pickle.loads(pickle.dumps(raft.CommandFailed.because(Unpicklable())))
    assert isinstance(again.__cause__, raft.RemoteError)
    assert again.__cause__.type_name == "Unpicklable"
    assert "has a lambda" in str(again)


def test_a_copy_keeps_the_very_cause_even_if_it_cannot_be_pickled() -> None:
    cause = Unpicklable()
    assert copy.copy(raft.CommandFailed.because(cause)).__cause__ is cause


def test_an_exception_without_a_text_is_described_all_the_same() -> None:
    assert "cannot be shown" in str(raft.CommandFailed.because(Unprintable()))
