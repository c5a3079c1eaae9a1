"""Every error of the library that its features reach, provoked through the public API: its type, and what it says.

A message names the peer, the field or the folder, and ends with what to do about it.
"""

from __future__ import annotations

import ast
import errno
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import raft_actors as raft
from raft_actors import errors, names, supervisor
from raft_actors.testing import Cluster
from storage_adapters import rocksdb
from tests.threads.tools import Recorder, assert_nothing_left, outcome, remember, wait_until


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    remember()
    yield
    supervisor.stop_all(2.0)
    assert_nothing_left()


@pytest.fixture
def config(tmp_path: Path) -> raft.Config:
    return raft.Config(data_dir=tmp_path)


NOT_YET = {
    raft.SessionExpired,  # sessions
    raft.Unauthorized,  # keys
    raft.RemoteError,  # other processes
    raft.NotInConfiguration,  # changes of members
}
"""Errors of features that are not built yet."""

ROOTS = {raft.RaftError, raft.NotApplied, raft.Refused, raft.PeerFailed}
"""Shown by their kinds."""


def shows(kind: type[raft.RaftError], call: Callable[[], Any], *texts: str) -> raft.RaftError:
    """Call, and expect exactly ``kind`` with all ``texts`` in its message."""
    with pytest.raises(kind) as caught:
        call()
    error = caught.value
    assert type(error) is kind
    for text in texts:
        assert text in str(error), f"{text!r} is not in: {error}"
    return error


def follower_of(cluster: Cluster) -> str:
    return next(name for name in cluster.names if name != cluster.leader())


# -- not applied: retry --------------------------------------------------


def test_not_leader() -> None:
    with Cluster(Recorder) as cluster:
        leader, follower = cluster.leader(), follower_of(cluster)
        error = shows(
            raft.NotLeader,
            lambda: raft.write(follower, "x"),
            f"peer '{follower}' is not the leader",
            f"send the request to '{leader}', or use a Client",
        )
        assert error.leader == leader  # type: ignore[attr-defined]


def test_election_in_progress() -> None:
    with Cluster(Recorder) as cluster:
        survivor = cluster.names[0]
        for name in cluster.names[1:]:
            cluster.crash(name)
        cluster.eventually(lambda: cluster.status(survivor).role != "leader")
        text = f"peer '{survivor}' knows no leader at the moment"
        advice = "retry after raft_actors.leader(peer) names one, or use a Client"
        shows(raft.ElectionInProgress, lambda: raft.write(survivor, "x"), text, advice)
        shows(raft.ElectionInProgress, lambda: raft.read(survivor, "len"), text, advice)


def test_overloaded() -> None:
    with Cluster(Recorder, 1, config=raft.Config(max_pending_writes=2)) as cluster:
        cluster.pause("s1")
        waiting = [raft.write("s1", number, block=False) for number in range(2)]
        shows(
            raft.Overloaded,
            lambda: raft.write("s1", "x"),
            "peer 's1' has 2 unfinished requests of",
            "retry later with fewer requests in flight, or raise Config.max_pending_writes or max_pending_bytes",
        )
        cluster.resume("s1")
        for future in waiting:
            future.get()


def test_overloaded_by_bytes() -> None:
    config = raft.Config(max_pending_bytes=1000, max_command_bytes=1000)
    with Cluster(Recorder, 1, config=config) as cluster:
        cluster.pause("s1")
        waiting = raft.write("s1", "x" * 700, block=False)
        shows(raft.Overloaded, lambda: raft.write("s1", "x" * 700), "peer 's1'", "Config allows 20000 and 1000")
        cluster.resume("s1")
        waiting.get()


@pytest.mark.parametrize(
    "call",
    [raft.leader, raft.status, raft.configuration, lambda peer: raft.write(peer, 1), lambda peer: raft.read(peer, 1)],
    ids=["leader", "status", "configuration", "write", "read"],
)
def test_unknown_peer(call: Callable[[str], Any]) -> None:
    error = shows(
        raft.UnknownPeer,
        lambda: call("nobody"),
        "no peer named 'nobody' is running in this process",
        "start it with start_peer, or check the spelling",
    )
    assert error.name == "nobody"  # type: ignore[attr-defined]


def test_not_configured(config: raft.Config) -> None:
    raft.start_peer(Recorder, name="s1", config=config)
    for call in (lambda: raft.leader("s1"), lambda: raft.write("s1", 1), lambda: raft.read("s1", "len")):
        shows(raft.NotConfigured, call, "peer 's1' is not part of a cluster yet", "form one with set_configuration")
    raft.stop("s1")


def test_restarting(tmp_path: Path) -> None:
    config = raft.Config(data_dir=tmp_path, restart=raft.Restart(backoff=(30.0, 30.0)))
    raft.start_peer(Recorder, name="s1", config=config)
    raft.set_configuration("s1", ["s1"])
    raft.write(raft.leader("s1"), ("on", "s1", MemoryError()), block=False)
    wait_until(lambda: raft.status("s1").failure is not None)
    shows(
        raft.Restarting,
        lambda: raft.write("s1", "x"),
        "peer 's1' is restarting after a failure",
        "retry in a moment, or cancel the restart with stop_peer",
    )
    raft.stop("s1")


# -- unknown outcome --------------------------------------------------


def test_timeout() -> None:
    with Cluster(Recorder) as cluster:
        leader = cluster.leader()
        cluster.pause(leader)
        advice = "read the state to find out, and repeat only what is idempotent"
        error = shows(
            raft.Timeout, lambda: raft.write(leader, "x", timeout=0.1), "no answer before the deadline", advice
        )
        assert isinstance(error, TimeoutError)
        cluster.resume(leader)


def test_outcome_unknown_after_a_crash() -> None:
    with Cluster(Recorder) as cluster:
        leader = cluster.leader()
        cluster.pause(leader)
        waiting = raft.write(leader, "x", block=False)
        cluster.crash(leader)
        shows(
            raft.OutcomeUnknown,
            waiting.get,
            f"peer '{leader}' crashed",
            "read the state to find out, and repeat only what is idempotent",
        )


def test_outcome_unknown_tells_its_cause() -> None:
    with Cluster(Recorder) as cluster:
        leader = cluster.leader()
        waiting = raft.write(leader, ("on", leader, MemoryError("planted")), block=False)
        error = shows(raft.OutcomeUnknown, waiting.get, f"peer '{leader}' stopped before the outcome was known")
        assert isinstance(error.__cause__, MemoryError)


def test_outcome_unknown_of_a_deposed_leader() -> None:
    with Cluster(Recorder) as cluster:
        old = cluster.leader()
        cluster.partition({old})
        waiting = raft.write(old, "lost", timeout=10, block=False)
        cluster.eventually(lambda: cluster.leader() != old)
        cluster.write("kept")
        cluster.heal()
        error = shows(raft.OutcomeUnknown, waiting.get, "the leader changed")
        assert error.__cause__ is not None
        assert cluster.read("all") == ["kept"]


# -- refused: the same call can never succeed ---------------------------------------------


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
def test_invalid_config(settings: dict[str, Any], text: str) -> None:
    error = shows(raft.InvalidConfig, lambda: raft.Config(**settings), text, "see the docstring of raft_actors.Config")
    assert error.fields == tuple(settings)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["", ".hidden", "with space", "a/b", "x" * 65, 7, None])
def test_invalid_name(name: Any) -> None:
    shows(
        raft.InvalidName,
        lambda: raft.start_peer(Recorder, name=name),
        repr(name)[:20],
        "use 1 to 64 of the letters a-z and A-Z, digits",
    )


def test_invalid_command() -> None:
    with Cluster(Recorder, 1, config=raft.Config(max_command_bytes=100)) as cluster:
        shows(raft.InvalidCommand, lambda: cluster.write(threading.Lock()), "codec", "encode")
        shows(
            raft.InvalidCommand,
            lambda: cluster.write("x" * 200),
            "bytes, Config.max_command_bytes is 100",
            "split it, or raise max_command_bytes at every peer",
        )
        shows(raft.InvalidCommand, lambda: cluster.read(threading.Lock()), "codec")


def test_invalid_configuration(config: raft.Config) -> None:
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
    shows(
        raft.InvalidConfiguration,
        lambda: raft.set_configuration("s2", ["s2", "s1"]),
        "'s2' belongs to a cluster of s2 already",
    )
    raft.stop("s1")
    raft.stop("s2")


def test_configuration_changed(config: raft.Config) -> None:
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
    raft.transport.local.LOCAL.set_fault(("s3",), lambda *_: None)  # s3 never answers: s1 and s2 stay free for it
    first = threading.Thread(
        target=lambda: outcome_of(lambda: raft.set_configuration("s1", ["s1", "s2", "s3"], timeout=1.5))
    )
    first.start()
    from raft_actors.names import whereis

    wait_until(lambda: whereis("s2").state.formation is not None)  # type: ignore[union-attr]
    shows(
        raft.ConfigurationInProgress,
        lambda: raft.set_configuration("s2", ["s2"], timeout=0.2),
        "peer 's2' is being made a member of another new cluster, nothing was changed",
        "wait for the other call to end",
    )
    first.join(10)
    raft.transport.local.LOCAL.set_fault(("s3",), None)
    for name in ("s1", "s2", "s3"):
        raft.stop(name)


def outcome_of(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except raft.RaftError as error:
        return error


def test_already_started(config: raft.Config) -> None:
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


def test_incompatible(tmp_path: Path, config: raft.Config) -> None:
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


def test_missing_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert rocksdb is not None
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
    import pykka

    ref = pykka.ThreadingActor.start()
    shows(raft.Refused, lambda: raft.write(ref, "x"), "is no peer", "give the ref that start_peer returned, or a name")
    ref.stop()


# -- results and failures --------------------------------------------------


def test_command_failed() -> None:
    with Cluster(Recorder) as cluster:
        error = shows(
            raft.CommandFailed,
            lambda: cluster.write(("raise", KeyError("k"))),
            "the state machine raised an exception: KeyError: 'k'",
            "the exception is the __cause__",
        )
        assert isinstance(error.__cause__, KeyError)


def test_storage_failed(tmp_path: Path) -> None:
    with Cluster(Recorder, config=raft.Config(restart=None)) as cluster:
        victim = follower_of(cluster)
        cluster.disk(victim).fail(errno.ENOSPC)
        cluster.write("x")
        cluster.eventually(lambda: cluster.status(victim).failure is not None)
        texts = (f"of peer '{victim}' failed", "No space left on device", "check the disk (space, permissions, health)")
        shows(raft.StorageFailed, lambda: raft.read(victim, "len"), *texts)
        shows(raft.StorageFailed, lambda: raft.leader(victim), *texts)
        assert all(text in str(cluster.status(victim).failure) for text in texts)
    blocked = tmp_path / "a file"
    blocked.write_text("")
    config = raft.Config(data_dir=blocked)
    shows(raft.StorageFailed, lambda: raft.start_peer(Recorder, name="s1", config=config), "'s1'", "check the disk")
    raft.stop("s1")


def test_corrupt_log(tmp_path: Path) -> None:
    with Cluster(Recorder, 1, data_dir=tmp_path) as cluster:
        for number in range(50):
            cluster.write(number)
    older = tmp_path / "older"
    shutil.copytree(tmp_path / "s1", older)
    with Cluster(Recorder, 1, data_dir=tmp_path) as cluster:
        cluster.write("newer")
    tail = (tmp_path / "s1" / "TAIL").read_bytes()
    shutil.rmtree(tmp_path / "s1")
    older.rename(tmp_path / "s1")  # somebody put an older copy back
    (tmp_path / "s1" / "TAIL").write_bytes(tail)
    config = raft.Config(data_dir=tmp_path)
    texts = ("of peer 's1' is damaged", "was durable", "look at it with 'raft-actors verify'", "from the other peers")
    shows(raft.CorruptLog, lambda: raft.start_peer(Recorder, name="s1", config=config), *texts)
    shows(raft.CorruptLog, lambda: raft.write("s1", "x"), *texts)
    assert isinstance(raft.status("s1").failure, raft.CorruptLog)
    raft.stop("s1")


def test_invariant_violated(monkeypatch: pytest.MonkeyPatch) -> None:
    from raft_actors.behaviours import step as steps
    from raft_actors.protocol.types import Violation

    with Cluster(Recorder) as cluster:
        victim = follower_of(cluster)
        original = steps._check

        def broken(before: Any, after: Any) -> None:
            if before.name == victim:
                raise Violation("planted")
            original(before, after)

        monkeypatch.setattr(steps, "_check", broken)
        cluster.eventually(lambda: cluster.status(victim).failure is not None)
        monkeypatch.setattr(steps, "_check", original)
        shows(
            raft.InvariantViolated,
            lambda: raft.read(victim, "len"),
            f"peer '{victim}': planted",
            "keep the folder and report this as a bug; the other peers go on without this one",
        )
        raft.stop(victim)


def test_peer_failed() -> None:
    with Cluster(Recorder, config=raft.Config(restart=None)) as cluster:
        victim = follower_of(cluster)
        cluster.write(("on", victim, SystemExit("planted")))
        cluster.eventually(lambda: cluster.status(victim).failure is not None)
        shows(
            raft.PeerFailed,
            lambda: raft.read(victim, "len"),
            f"peer '{victim}' stopped itself: SystemExit: planted",
            "look at status(peer).failure, mend the cause and call start_peer again",
        )
        assert isinstance(outcome(raft.read(victim, "len", block=False)), raft.PeerFailed)
        raft.stop(victim)


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


def test_every_error_that_can_be_reached_is_shown_here() -> None:
    everything = {getattr(errors, name) for name in errors.__all__}
    calls = [node for node in ast.walk(ast.parse(Path(__file__).read_text())) if isinstance(node, ast.Call)]
    firsts = [call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "shows"]
    shown = {getattr(raft, first.attr) for first in firsts if isinstance(first, ast.Attribute)}
    assert everything - shown == NOT_YET | ROOTS - shown
    assert not shown & NOT_YET
