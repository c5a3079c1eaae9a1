"""Every error of the library that its features reach, provoked through the public API: its type, and what it says.

A message names the peer, the field or the folder, and ends with what to do about it.
"""

from __future__ import annotations

import ast
import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import raft_actors as raft
from raft_actors import errors
from raft_actors.testing import Cluster
from tests.public_api.showing import follower_of, nothing_is_left, outcome_of, shows  # noqa: F401 - a fixture
from tests.threads.tools import Recorder, outcome, wait_until


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


# -- not applied: retry --------------------------------------------------


def test_not_leader_is_shown() -> None:
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


def test_overloaded_is_shown() -> None:
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
def test_unknown_peer_is_shown(call: Callable[[str], Any]) -> None:
    error = shows(
        raft.UnknownPeer,
        lambda: call("nobody"),
        "no peer named 'nobody' is running in this process",
        "start it with start_peer, or check the spelling",
    )
    assert error.name == "nobody"  # type: ignore[attr-defined]


def test_not_configured_is_shown(config: raft.Config) -> None:
    raft.start_peer(Recorder, name="s1", config=config)
    for call in (lambda: raft.leader("s1"), lambda: raft.write("s1", 1), lambda: raft.read("s1", "len")):
        shows(raft.NotConfigured, call, "peer 's1' is not part of a cluster yet", "form one with set_configuration")
    raft.stop("s1")


def test_restarting_is_shown(tmp_path: Path) -> None:
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


def test_timeout_is_shown() -> None:
    with Cluster(Recorder) as cluster:
        leader = cluster.leader()
        cluster.pause(leader)
        advice = "a write may still be applied: repeat only what is idempotent"
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


# -- results and failures --------------------------------------------------


def test_command_failed_is_shown() -> None:
    with Cluster(Recorder) as cluster:
        error = shows(
            raft.CommandFailed,
            lambda: cluster.write(("raise", KeyError("k"))),
            "the state machine raised an exception: KeyError: 'k'",
            "the exception is the __cause__",
        )
        assert isinstance(error.__cause__, KeyError)


def test_storage_failed_is_shown(tmp_path: Path) -> None:
    with Cluster(Recorder, config=raft.Config(restart=None)) as cluster:
        victim = follower_of(cluster)
        cluster.disk(victim).fail(errno.ENOSPC)
        cluster.write("x")
        cluster.eventually(lambda: cluster.status(victim).failure is not None)
        texts = (f"of peer '{victim}' failed", "No space left on device", "make room on its disk")
        shows(raft.StorageFailed, lambda: raft.read(victim, "len"), *texts)
        shows(raft.StorageFailed, lambda: raft.leader(victim), *texts)
        assert all(text in str(cluster.status(victim).failure) for text in texts)
    blocked = tmp_path / "a file"
    blocked.write_text("")
    config = raft.Config(data_dir=blocked)
    shows(raft.StorageFailed, lambda: raft.start_peer(Recorder, name="s1", config=config), "'s1'", "check the disk")
    raft.stop("s1")


def test_corrupt_log_is_shown(tmp_path: Path) -> None:
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


def test_invariant_violated_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_peer_failed_is_shown() -> None:
    with Cluster(Recorder, config=raft.Config(restart=None)) as cluster:
        victim = follower_of(cluster)
        cluster.write(("on", victim, SystemExit("planted")))
        cluster.eventually(lambda: cluster.status(victim).failure is not None)
        shows(
            raft.PeerFailed,
            lambda: raft.read(victim, "len"),
            f"peer '{victim}' stopped itself: SystemExit: planted",
            "look at status(peer).failure, mend the cause and start the peer again",
        )
        assert isinstance(outcome(raft.read(victim, "len", block=False)), raft.PeerFailed)
        raft.stop(victim)


def test_every_error_that_can_be_reached_is_shown_here() -> None:
    everything = {getattr(errors, name) for name in errors.__all__}
    files = Path(__file__).parent.glob("test_errors_shown*.py")
    calls = [node for file in files for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    firsts = [call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "shows"]
    shown = {getattr(raft, first.attr) for first in firsts if isinstance(first, ast.Attribute)}
    assert everything - shown == NOT_YET | ROOTS - shown
    assert not shown & NOT_YET
