from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from pathlib import Path

import pytest

from raft_actors import Config, InvalidConfig, Restart

DEFAULTS = {
    "data_dir": "raft_data",
    "storage": "lmdb",
    "min_election_timeout": 0.3,
    "max_election_timeout": 0.6,
    "heartbeat_interval": 0.05,
    "pre_vote": True,
    "check_quorum": True,
    "lease_reads": False,
    "max_batch_bytes": 2**20,
    "max_inflight": 64,
    "max_pending_writes": 20_000,
    "max_pending_bytes": 64 * 2**20,
    "max_command_bytes": 4 * 2**20,
    "snapshot_threshold": 100_000,
    "snapshot_threshold_bytes": 64 * 2**20,
    "trailing_entries": 10_000,
    "priority": 0,
    "session_timeout": 3600.0,
    "codec": "cloudpickle",
    "restart": Restart(max=5, within=60.0, backoff=(0.1, 5.0)),
}

SECONDS = ["min_election_timeout", "max_election_timeout", "heartbeat_interval", "session_timeout"]
COUNTS = [
    "max_batch_bytes",
    "max_inflight",
    "max_pending_writes",
    "max_pending_bytes",
    "max_command_bytes",
    "snapshot_threshold",
    "snapshot_threshold_bytes",
]
FLAGS = ["pre_vote", "check_quorum", "lease_reads"]


class OwnCodec:
    name = "own"

    def encode(self, value):
        return repr(value).encode()

    def decode(self, data):
        return data


def refused(**settings) -> InvalidConfig:
    with pytest.raises(InvalidConfig) as caught:
        Config(**settings)
    return caught.value


def test_the_defaults_are_the_documented_ones() -> None:
    assert {field.name: getattr(Config(), field.name) for field in dataclasses.fields(Config)} == DEFAULTS


def test_a_config_is_frozen_keyword_only_and_comparable() -> None:
    config = Config(data_dir="x")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.data_dir = "y"
    with pytest.raises(TypeError):
        Config("x")
    assert config == Config(data_dir="x")
    assert copy.copy(config) == pickle.loads(pickle.dumps(config)) == config
    assert dataclasses.replace(config, max_inflight=3).max_inflight == 3


@pytest.mark.parametrize("field", SECONDS)
@pytest.mark.parametrize("bad", [0, -0.1, math.nan, math.inf, "1", None, True, [1.0]])
def test_seconds_are_positive_finite_numbers(field, bad) -> None:
    error = refused(**{field: bad})
    assert error.fields == (field,)
    assert f"{field} must be" in str(error)


@pytest.mark.parametrize("field", COUNTS)
@pytest.mark.parametrize("bad", [0, -1, 1.0, "1", None, True, 2**63])
def test_counts_are_whole_positive_numbers(field, bad) -> None:
    error = refused(**{field: bad})
    assert error.fields == (field,)
    assert f"{field} must be" in str(error)


@pytest.mark.parametrize("field", FLAGS)
@pytest.mark.parametrize("bad", [0, 1, "yes", None])
def test_flags_are_booleans(field, bad) -> None:
    assert refused(**{field: bad}).fields == (field,)


@pytest.mark.parametrize("bad", [None, 7, b"data", "", "a\0b"])
def test_the_data_dir_is_a_path(bad) -> None:
    assert refused(data_dir=bad).fields == ("data_dir",)


@pytest.mark.parametrize("good", ["data", Path("data")])
def test_the_data_dir_may_be_a_string_or_a_path(good) -> None:
    assert Config(data_dir=good).data_dir == good


@pytest.mark.parametrize("good", ["lmdb", "rocksdb", "memory", dict, lambda path: None])
def test_the_storage_is_a_known_engine_or_a_factory(good) -> None:
    assert Config(storage=good).storage == good


@pytest.mark.parametrize("bad", ["LMDB", "sqlite", None, 7, ["lmdb"]])
def test_any_other_storage_is_refused(bad) -> None:
    error = refused(storage=bad)
    assert error.fields == ("storage",)
    assert repr(bad) in str(error)


def test_the_codec_is_a_known_one_or_an_object() -> None:
    own = OwnCodec()
    assert Config(codec="plain").codec == "plain"
    assert Config(codec=own).codec is own


@pytest.mark.parametrize("bad", ["pickle", None, 7, OwnCodec, object(), type("Nameless", (OwnCodec,), {"name": ""})()])
def test_any_other_codec_is_refused(bad) -> None:
    assert refused(codec=bad).fields == ("codec",)


@pytest.mark.parametrize("bad", [1001, -1001, 0.5, True, None])
def test_the_priority_is_a_small_whole_number(bad) -> None:
    assert refused(priority=bad).fields == ("priority",)
    assert Config(priority=-3).priority == -3


def test_no_trailing_entries_is_fine_but_less_is_not() -> None:
    assert Config(trailing_entries=0).trailing_entries == 0
    assert refused(trailing_entries=-1).fields == ("trailing_entries",)


def test_a_snapshot_threshold_may_be_smaller_than_the_trailing_entries() -> None:
    assert Config(snapshot_threshold=50).trailing_entries == 10_000


def test_the_longest_election_timeout_is_not_below_the_shortest() -> None:
    assert refused(min_election_timeout=0.5, max_election_timeout=0.4).fields == ("max_election_timeout",)
    assert Config(min_election_timeout=0.5, max_election_timeout=0.5)


def test_two_heartbeats_fit_into_the_shortest_election_timeout() -> None:
    error = refused(heartbeat_interval=0.2)
    assert error.fields == ("heartbeat_interval",)
    assert "min_election_timeout=0.3" in str(error)
    assert Config(heartbeat_interval=0.15)


def test_the_largest_command_fits_into_the_pending_bytes() -> None:
    assert refused(max_pending_bytes=1000).fields == ("max_pending_bytes",)
    assert Config(max_pending_bytes=1000, max_command_bytes=1000)


def test_all_problems_are_told_at_once() -> None:
    error = refused(data_dir=7, max_inflight=0, codec="x", min_election_timeout=0.5, max_election_timeout=0.1)
    assert error.fields == ("data_dir", "max_inflight", "codec", "max_election_timeout")
    for field in error.fields:
        assert field in str(error)


def test_a_field_with_a_wrong_type_is_not_compared_with_others() -> None:
    assert refused(min_election_timeout="soon").fields == ("min_election_timeout",)


def test_restart_is_a_restart_or_none() -> None:
    assert Config(restart=None).restart is None
    assert refused(restart=5).fields == ("restart",)


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("max", 0),
        ("max", True),
        ("max", 1.5),
        ("within", 0),
        ("within", math.nan),
        ("backoff", 0.1),
        ("backoff", (0.1,)),
        ("backoff", [0.1, 5.0]),
        ("backoff", (5.0, 0.1)),
        ("backoff", (-1.0, 5.0)),
        ("backoff", ("a", "b")),
    ],
)
def test_a_restart_is_checked_too(field, bad) -> None:
    with pytest.raises(InvalidConfig, match=f"{field} must") as caught:
        Restart(**{field: bad})
    assert caught.value.fields == (field,)


def test_a_restart_may_start_without_a_pause() -> None:
    assert Restart(backoff=(0.0, 0.0)).backoff == (0.0, 0.0)
