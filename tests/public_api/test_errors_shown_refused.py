"""Errors for calls that can never succeed, provoked through the public API: each says what to do instead."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pykka
import pytest

import raft_actors as raft
from raft_actors import names
from raft_actors.testing import Cluster
from raft_actors.transport.local import LOCAL
from tests.public_api.showing import follower_of, nothing_is_left, outcome_of, shows  # noqa: F401 - a fixture
from tests.threads.tools import Recorder, wait_until


@pytest.fixture
def config(tmp_path: Path) -> raft.Config:
    return raft.Config(data_dir=tmp_path)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"min_election_timeout": -1}, "min_election_timeout must be more than 0"),
        ({"max_election_timeout": 0.1}, "max_election_timeout must not be less than min_election_timeout"),
        ({"heartbeat_interval": 0.2}, "heartbeat_interval must be at most half of min_election_timeout"),
        ({"storage": "sqlite"}, "storage must be 'lmdb', 'rocksdb', 'memory' or a factory"),
        ({"codec": "json"}, "codec must be 'cloudpickle', 'plain' or"),
        ({"restart": 5}, "restart must be a Restart or None"),
        ({"max_inflight": 0}, "max_inflight must be from 1 to 65536, not 0"),
        ({"data_dir": ""}, "data_dir must not be empty"),
        ({"pre_vote": "yes"}, "pre_vote must be True or False"),
    ],
)
def test_invalid_config_is_shown(settings: dict[str, Any], text: str) -> None:
    error = shows(raft.InvalidConfig, lambda: raft.Config(**settings), text, "see the docstring of raft_actors.Config")
    assert error.fields == tuple(settings)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["", ".hidden", "with space", "a/b", "x" * 65, 7, None])
def test_invalid_name_is_shown(name: Any) -> None:
    shows(
        raft.InvalidName,
        lambda: raft.start_peer(Recorder, name=name),
        repr(name)[:20],
        "use 1 to 64 of the letters a-z and A-Z, digits",
    )


def test_invalid_command_is_shown() -> None:
    with Cluster(Recorder, 1, config=raft.Config(max_command_bytes=100)) as cluster:
        shows(raft.InvalidCommand, lambda: cluster.write(threading.Lock()), "codec", "encode")
        shows(
            raft.InvalidCommand,
            lambda: cluster.write("x" * 200),
            "bytes, Config.max_command_bytes is 100",
            "split it, or raise max_command_bytes at every peer",
        )
        shows(raft.InvalidCommand, lambda: cluster.read(threading.Lock()), "codec")


def test_invalid_configuration_is_shown(config: raft.Config) -> None:
    raft.start_peer(Recorder, name="s1", config=config)
    raft.start_peer(Recorder, name="s2", config=config)
    shows(
        raft.InvalidConfiguration,
        lambda: raft.set_configuration("s1", []),
        "at least one peer",
        "give a non-empty list",
    )
    shows(raft.InvalidConfiguration, lambda: raft.set_configuration("s1", ["s1", "s1"]), "s1 named twice")
    shows(
        raft.InvalidConfiguration,
        lambda: raft.set_configuration("s1", ["s2"]),
        "'s1' is not among the members",
        "or name 's1' too",
    )
    raft.set_configuration("s2", ["s2"])
    shows(
        raft.InvalidConfiguration,
        lambda: raft.set_configuration("s1", ["s1", "s2"]),
        "peer 's2' belongs to a cluster already (of s2), nothing was changed",
        "name only peers without a cluster",
    )
    raft.stop("s1")
    raft.stop("s2")


def test_configuration_changed_is_shown(config: raft.Config) -> None:
    raft.start_peer(Recorder, name="s1", config=config)
    shows(
        raft.ConfigurationChanged,
        lambda: raft.set_configuration("s1", ["s1"], expected=7),
        "expected the configuration of index 7, the current one has 0",
        "look at configuration(peer) and decide again",
    )
    raft.stop("s1")


def test_configuration_in_progress(config: raft.Config) -> None:
    for name in ("s1", "s2", "s3"):
        raft.start_peer(Recorder, name=name, config=config)
    LOCAL.set_fault(("s3",), lambda *_: None)  # s3 never answers: s1 and s2 stay free for it
    first = threading.Thread(
        target=lambda: outcome_of(lambda: raft.set_configuration("s1", ["s1", "s2", "s3"], timeout=1.5))
    )
    first.start()
    wait_until(lambda: names.whereis("s2").state.formation is not None)  # type: ignore[union-attr]
    shows(
        raft.ConfigurationInProgress,
        lambda: raft.set_configuration("s2", ["s2"], timeout=0.2),
        "peer 's2' is being made a member of another new cluster, nothing was changed",
        "wait for the other call to end",
    )
    first.join(10)
    LOCAL.set_fault(("s3",), None)
    for name in ("s1", "s2", "s3"):
        raft.stop(name)


def test_already_started_is_shown(config: raft.Config) -> None:
    raft.start_peer(Recorder, name="s1", config=config)
    error = shows(
        raft.AlreadyStarted,
        lambda: raft.start_peer(Recorder, name="s1", config=config),
        "a peer named 's1' is already started in this process",
        "stop that peer first with stop_peer, or take another name",
    )
    assert error.name == "s1"  # type: ignore[attr-defined]
    raft.stop("s1")


HOLDER = """
import sys
import raft_actors as raft
from raft_actors.machines import Echo
raft.start_peer(Echo, name="s1", config=raft.Config(data_dir=sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""


def test_store_in_use(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == "ready"
    error = shows(
        raft.StoreInUse,
        lambda: raft.start_peer(Recorder, name="s1", config=raft.Config(data_dir=tmp_path)),
        f"{tmp_path / 's1'} is in use by process {holder.pid}",
        f"stop process {holder.pid} first, or use another data_dir or name",
    )
    assert error.pid == holder.pid  # type: ignore[attr-defined]
    holder.communicate("", timeout=10)
    raft.start_peer(Recorder, name="s1", config=raft.Config(data_dir=tmp_path))
    raft.stop("s1")


def test_incompatible_is_shown(tmp_path: Path, config: raft.Config) -> None:
    raft.start_peer(Recorder, name="s1", config=config)
    raft.stop("s1")
    (tmp_path / "s1").rename(tmp_path / "s2")
    shows(
        raft.Incompatible,
        lambda: raft.start_peer(Recorder, name="s2", config=config),
        "was made for peer 's1'",
        "start it under the name 's1', or give 's2' another data_dir",
    )
    (tmp_path / "s2").rename(tmp_path / "s1")
    shows(
        raft.Incompatible,
        lambda: raft.start_peer(Recorder, name="s1", config=raft.Config(data_dir=tmp_path, codec="plain")),
        "holds commands of codec 'cloudpickle', not of 'plain'",
        "start the peer with codec 'cloudpickle', or give it another data_dir",
    )
    shows(
        raft.Incompatible,
        lambda: raft.start_peer(Recorder, name="s1", config=raft.Config(data_dir=tmp_path, storage="rocksdb")),
        "was made with storage 'lmdb', not 'rocksdb'",
        "start the peer with storage='lmdb'",
    )
    (tmp_path / "s3").mkdir()
    (tmp_path / "s3" / "thesis.tex").write_text("years of work")
    shows(
        raft.Incompatible,
        lambda: raft.start_peer(Recorder, name="s3", config=config),
        "holds 'thesis.tex' and is no store of a peer: nothing in it was touched",
        "give the peer another data_dir or name",
    )
    assert names.names() == ()


def test_missing_extra_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "rocksdict", None)
    error = shows(
        raft.MissingExtra,
        lambda: raft.start_peer(Recorder, name="s1", config=raft.Config(data_dir=tmp_path, storage="rocksdb")),
        "extra 'rocksdb'",
        "pip install 'raft-actors[rocksdb]'",
    )
    assert error.extra == "rocksdb"  # type: ignore[attr-defined]


def test_refused_by_a_machine_that_waits_for_a_peer() -> None:
    class Waiting(Recorder):
        def handle_read(self, query: Any, state: Any) -> Any:
            return outcome_of(lambda: raft.read(self.name, "again")), state

    with Cluster(Waiting, 1) as cluster:
        error = cluster.read("x")
        assert type(error) is raft.Refused
        assert "a machine of peer 's1' may not wait for a peer" in str(error)
        assert "do it in another thread" in str(error)


def test_refused_for_a_ref_that_is_no_peer() -> None:
    ref = pykka.ThreadingActor.start()
    shows(raft.Refused, lambda: raft.write(ref, "x"), "is no peer", "give the ref that start_peer returned, or a name")
    ref.stop()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: raft.start_peer("not a machine", name="s1"), TypeError, "machine must be a StateMachine class"),
        (lambda: raft.start_peer(Recorder, name="s1", config={}), TypeError, "config must be a raft_actors.Config"),
        (lambda: raft.read("s1", "x", consistency="strong"), ValueError, "consistency='strong' is none of"),
        (lambda: raft.read("s1", "x", min_index=1), ValueError, "min_index goes with"),
        (lambda: raft.read("s1", "x", consistency="stale", min_index="1"), TypeError, "min_index must be an int"),
        (lambda: raft.write("s1", "x", timeout=-1), ValueError, "timeout must not be negative"),
    ],
)
def test_programming_mistakes_are_ordinary_errors(call: Callable[[], Any], error: Any, text: str) -> None:
    with pytest.raises(error, match=text.replace("(", r"\(")):
        call()


def test_a_factory_that_makes_something_else_is_told_so(config: raft.Config) -> None:
    with pytest.raises(TypeError, match="peer 's1' needs a StateMachine class or a factory of one, .* made a dict"):
        raft.start_peer(dict, name="s1", config=config)  # type: ignore[arg-type]
    assert names.names() == ()
