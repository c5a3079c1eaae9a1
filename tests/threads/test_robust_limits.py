"""What is bounded stays bounded, what is accepted is applied, and who gave up gives his place back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import raft_actors as raft
from raft_actors import intake, machine_actor, supervisor
from raft_actors.machines import Echo
from tests.threads.tools import Gate, Recorder, gated, outcome, wait_until

ROOT = Path(__file__).parents[2]
FAR = 10**9
"""An index that is never applied."""


# -- nesting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["json", "cloudpickle", "plain"])
def test_whatever_is_accepted_at_the_edge_of_the_stack_is_applied(codec: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "tests.threads.edge_of_the_stack", codec],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    deepest, applied, asked = map(int, done.stdout.split())
    assert deepest > 90
    assert 0 < applied < asked


# -- bytes -------------------------------------------------------------------------------------------------------------

KIB = 1024


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A peer that hangs in ``"hang"`` until the test lets it go on."""
    gate = Gate()
    gate.at = {"s1"}
    config = raft.Config(data_dir=tmp_path, max_pending_bytes=64 * KIB, max_command_bytes=16 * KIB)
    raft.start_peer(gated(gate), name="s1", config=config)
    raft.set_configuration("s1", ["s1"])
    raft.leader("s1")
    yield gate
    gate.opened.set()
    raft.stop("s1")


QUERIES = {
    "text": lambda size: "x" * size,
    "bytes": lambda size: b"x" * size,
    "tuple": lambda size: ("a", b"x" * size),
    "list": lambda size: [b"x" * size],
}


@pytest.mark.parametrize("consistency", ["linearizable", "lease", "stale"])
@pytest.mark.parametrize("kind", QUERIES)
def test_unfinished_reads_are_bounded_in_bytes(gate: Gate, kind: str, consistency: str) -> None:
    hanging = raft.write("s1", "hang", block=False)
    assert gate.entered.wait(5)
    query = QUERIES[kind](10 * KIB)
    reads = [raft.read("s1", query, consistency=consistency, block=False) for _ in range(10)]
    refused = [future for future in reads if future.done()]
    assert len(refused) == 4  # of 10 KiB each, six fit into 64 KiB
    assert all(isinstance(outcome(future), raft.Overloaded) for future in refused)
    gate.opened.set()
    assert outcome(hanging) == 1
    answered = [outcome(future) for future in reads if future not in refused]
    assert [type(one.__cause__) for one in answered] == [LookupError] * 6
    assert isinstance(outcome(raft.read("s1", query, block=False)), raft.CommandFailed)  # there is room again


@pytest.mark.parametrize("consistency", ["linearizable", "lease", "stale"])
@pytest.mark.parametrize("kind", QUERIES)
def test_a_query_may_be_as_large_as_a_command(gate: Gate, kind: str, consistency: str) -> None:
    with pytest.raises(raft.InvalidCommand, match="Config.max_command_bytes is 16384"):
        raft.read("s1", QUERIES[kind](17 * KIB), consistency=consistency)
    with pytest.raises(raft.CommandFailed):
        raft.read("s1", QUERIES[kind](15 * KIB), consistency=consistency)


# -- reads that wait for an index --------------------------------------------------------------------------------------


def start_small(tmp_path: Path, machine: Any = Recorder) -> Any:
    """A peer with places for five requests."""
    ref = raft.start_peer(machine, name="s1", config=raft.Config(data_dir=tmp_path, max_pending_writes=5))
    raft.set_configuration("s1", ["s1"])
    raft.leader("s1")
    return ref


def test_an_ask_that_was_given_up_gives_its_place_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "ASK_PATIENCE", 0.2)
    ref = start_small(tmp_path)
    waiting = raft.Read("len", consistency="stale", min_index=FAR)
    for _ in range(4):
        with pytest.raises(raft.Timeout):
            ref.ask(waiting, timeout=0.001)
    ref.tell(waiting)
    with pytest.raises(raft.Overloaded):
        raft.write("s1", "x")
    wait_until(lambda: not isinstance(outcome(raft.write("s1", "x", block=False)), raft.Overloaded), 2.0)
    raft.stop("s1")


@pytest.mark.parametrize("block", [True, False])
def test_a_stale_read_that_timed_out_gives_its_place_back_at_once(tmp_path: Path, block: bool) -> None:
    start_small(tmp_path)
    for _ in range(3):
        futures = [
            raft.read("s1", "len", consistency="stale", min_index=FAR, timeout=0.05, block=False) for _ in "12345"
        ]
        if block:
            assert all(isinstance(outcome(future), raft.Timeout) for future in futures)
        wait_until(lambda futures=futures: all(future.done() for future in futures))
        assert isinstance(outcome(raft.write("s1", "x", block=False)), int)
    raft.stop("s1")


def test_reads_wait_for_their_own_index_in_whatever_order_they_came(tmp_path: Path) -> None:
    start_small(tmp_path)
    before = raft.write("s1", "x", block=False)
    assert outcome(before) == 1
    begin = before.index
    waits = {
        distance: raft.read("s1", "len", consistency="stale", min_index=begin + distance, block=False)
        for distance in (3, 1, 2, 0)
    }
    assert outcome(waits[0]) == 1
    for written in (1, 2, 3):
        assert not waits[written].done()
        raft.write("s1", "x")
        assert outcome(waits[written]) == written + 1
        assert waits[written].index == begin + written
    mailbox = supervisor.handle_of("s1").mailbox
    raft.stop("s1")
    assert (mailbox._pending, mailbox._pending_bytes, mailbox._open) == (0, 0, set())  # each place came back once


def test_no_user_code_runs_for_a_read_that_was_given_up(gate: Gate) -> None:
    before = raft.write("s1", "x", block=False)
    assert outcome(before) == 1
    query = raft.read("s1", "hang", consistency="stale", min_index=before.index + 1, block=False)
    query.try_fail(raft.Timeout("given up"))
    assert raft.write("s1", "y") == 2
    assert raft.write("s1", "z") == 3  # the machine is past whatever "y" let go on
    assert not gate.entered.is_set()


def test_reads_that_gave_up_are_forgotten_though_their_index_never_comes(tmp_path: Path) -> None:
    start_small(tmp_path)
    peer = supervisor.handle_of("s1").peer
    for _ in range(10 * machine_actor.CROWD):
        future = raft.read("s1", "len", consistency="stale", min_index=FAR, block=False)
        future.try_fail(raft.Timeout("given up"))
        wait_until(lambda: peer.mailbox._pending == 0)
    written = raft.write("s1", "x", block=False)
    assert outcome(written) == 1
    assert len(peer.machine._waiting) <= machine_actor.CROWD
    last = raft.read("s1", "len", consistency="stale", min_index=written.index + 1, block=False)
    raft.write("s1", "y")
    assert outcome(last) == 2
    raft.stop("s1")


def test_reads_that_wait_are_answered_when_their_peer_stops(tmp_path: Path) -> None:
    start_small(tmp_path, Echo)
    futures = [raft.read("s1", "x", consistency="stale", min_index=FAR, timeout=None, block=False) for _ in "12345"]
    raft.stop("s1", timeout=0.5)
    assert all(isinstance(outcome(future), raft.OutcomeUnknown) for future in futures)
