"""``raft-actors demo``: three peers on real disks lose their leader in the middle of writes, and nothing else.

Every step is checked; the exit status is 0 only if all of them held.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import raft_actors as raft
from raft_actors import inspection, supervisor
from raft_actors.cli.common import abandon_output, complain
from raft_actors.cli.peers import peer_names
from raft_actors.cli.tables import print_table
from raft_actors.machines import KV

if TYPE_CHECKING:
    from raft_actors.cli.log import Subparsers

__all__ = ["add_parser", "run"]

WRITES = 3_000
"""Commands of the stream in whose middle the leader is killed."""
KILL_AFTER = 1_000
"""Acknowledgements of that stream before the kill."""
PATIENCE = 10.0
"""Seconds for any single step."""


class StepFailed(Exception):
    """A step of the story did not hold."""


def add_parser(subparsers: Subparsers) -> None:
    """Add the command ``demo``."""
    parser = subparsers.add_parser(
        "demo",
        help="watch a cluster on real disks lose its leader and nothing else",
        description="Three peers on real disks in a temporary directory: elect, write, read, kill the leader in the "
        "middle of writes, find every acknowledged write again. Exit status 0 only if every step held.",
    )
    parser.add_argument("--storage", choices=("lmdb", "rocksdb"), default="lmdb", help="default: lmdb")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command.

    Args:
        args: ``storage``.

    Returns:
        The exit status: 0 if every step held, else 1.
    """
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="raft-actors-demo-", ignore_cleanup_errors=True) as folder:
        try:
            _Story(raft.Config(data_dir=folder, storage=args.storage)).tell()
        except StepFailed as failure:
            print(f"FAILED: {failure}", flush=True)
            complain(args, failure)
            return 1
        except BrokenPipeError:  # nobody has seen that the rest held
            abandon_output()
            complain(args, "nobody reads the output any more")
            return 1
        finally:
            supervisor.stop_all()
    print(f"\nAll of it held, in {time.monotonic() - begun:.1f} s. Nothing that was acknowledged was lost.")
    return 0


class _Story:
    """The demo, step by step; ``acknowledged`` is what the cluster promised to keep."""

    def __init__(self, config: raft.Config) -> None:
        self.config = config
        self.names = peer_names(3)
        self.acknowledged: dict[str, int] = {}
        self.number = 0

    def tell(self) -> None:
        """Do every step."""
        with self.step(f"start three peers, each with its own {self.config.storage} store in {self.config.data_dir}"):
            for name in self.names:
                raft.start_peer(KV, name=name, config=self.config)
        with self.step("make them one cluster, which elects a leader"):
            formed = raft.set_configuration("s1", self.names)
            check(formed.committed and formed.voters == self.names, f"the cluster is {formed}")
            leader = raft.leader("s1", timeout=PATIENCE)
            check(leader in self.names, f"the leader is {leader}")
            print(f"     {leader} leads")
        with raft.Client(self.names, timeout=PATIENCE) as client:
            self.write_and_read(client)
            self.show_status()
            dead = self.kill_the_leader(client)
            self.look_for_everything(client)
            self.bring_back(client, dead)
        self.compare_logs()

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Announce a step, and say how long it took or how it failed."""
        self.number += 1
        print(f"\n{self.number:>2}.  {title}", flush=True)
        begun = time.monotonic()
        try:
            yield
        except raft.RaftError as error:
            raise StepFailed(f"step {self.number}, {title}: {type(error).__name__}: {error}") from error
        except StepFailed as failure:
            raise StepFailed(f"step {self.number}, {title}: {failure}") from failure
        print(f"     ok, {(time.monotonic() - begun) * 1000:.0f} ms", flush=True)

    def write_and_read(self, client: raft.Client) -> None:
        """One write and one read, as in the README."""
        with self.step('write ("set", "foo", 42), synced by a majority before the answer, and read it back'):
            reply = client.write(("set", "foo", 42))
            check(reply == ("ok", "foo", 42), f"the write was answered with {reply!r}")
            self.acknowledged["foo"] = 42
            value = client.read(("get", "foo"))
            check(value == 42, f"the read gave {value!r}")
            print(f"     write -> {reply!r}, read -> {value!r}")

    def show_status(self) -> None:
        """The table of peers, once they all have applied the write."""
        with self.step("look at the peers: one leader, two followers, equal logs"):
            await_true(lambda: level(self.names), "the followers caught up")
            states = [raft.status(name) for name in self.names]
            roles = sorted(state.role for state in states)
            check(roles == ["follower", "follower", "leader"], f"the roles are {roles}")
            header = ("peer", "role", "term", "leader", "last index", "committed", "applied")
            print_table(header, [_row(state) for state in states])

    def kill_the_leader(self, client: raft.Client) -> str:
        """Crash the leader amid a stream of writes: no goodbye, no hand-over, nothing more flushed."""
        with self.step(f"stream {WRITES:,} writes, and kill the leader after {KILL_AFTER:,} acknowledgements"):
            leader = client.leader()
            check(leader is not None, "there is no leader to kill")
            stream = _Stream(client)
            check(stream.enough.wait(PATIENCE), "the writes are not acknowledged")
            died = time.monotonic()
            supervisor.handle_of(str(leader)).stop(1.0, hand_over=False, crash=True)
            reply = client.write(("set", "after", 1))
            gap = time.monotonic() - died
            check(reply == ("ok", "after", 1), f"the first write after the death was answered with {reply!r}")
            self.acknowledged |= stream.finish() | {"after": 1}
            successor = client.leader()
            check(successor not in (None, leader), f"the leader is {successor}")
            print(f"     {leader} is dead, {successor} leads; {gap * 1000:.0f} ms from the kill to the next write")
            print(f"     {len(stream.acknowledged):,} writes acknowledged, {stream.unknown:,} with unknown outcome")
        return str(leader)

    def look_for_everything(self, client: raft.Client) -> None:
        """Every acknowledged write must be there."""
        with self.step("look for every acknowledged write"):
            futures = {key: client.read(("get", key), block=False) for key in self.acknowledged}
            lost = [key for key, future in futures.items() if future.get() != self.acknowledged[key]]
            check(not lost, f"{len(lost)} acknowledged writes are lost, {lost[:3]} among them")
            print(f"     all {len(futures):,} are there")

    def bring_back(self, client: raft.Client, dead: str) -> None:
        """The dead peer starts from its disk and catches up."""
        with self.step(f"start {dead} again from its disk; it catches up with what it missed"):
            check(_missing(dead), f"{dead} still answers")
            raft.start_peer(KV, name=dead, config=self.config)
            await_true(lambda: level(self.names), f"{dead} caught up")
            for name in self.names:
                values = {key: raft.read(name, ("get", key), consistency="stale") for key in self.acknowledged}
                check(values == self.acknowledged, f"{name} does not have every acknowledged write")
            print(f"     all three have applied {raft.status(dead).last_applied:,} entries and hold the same values")

    def compare_logs(self) -> None:
        """Stop the peers and compare what lies on the three disks."""
        with self.step("stop the peers and compare the three logs on disk, entry by entry"):
            supervisor.stop_all(PATIENCE)
            logs = [_entries(Path(self.config.data_dir) / name) for name in self.names]
            check(len(logs[0]) >= len(self.acknowledged), f"the log has only {len(logs[0])} entries")
            check(logs[0] == logs[1] == logs[2], f"the logs differ: {[len(log) for log in logs]} entries")
            print(f"     {len(logs[0]):,} entries each, all equal, every checksum right")


class _Stream:
    """Writes from a thread of its own, and what became of each."""

    def __init__(self, client: raft.Client) -> None:
        self.acknowledged: dict[str, int] = {}
        self.unknown = 0
        self.enough = threading.Event()
        self._client = client
        self._thread = threading.Thread(target=self._write_all, daemon=True)
        self._thread.start()

    def finish(self) -> dict[str, int]:
        """Wait for the last answer; returns what was acknowledged."""
        self._thread.join(2 * PATIENCE)
        check(not self._thread.is_alive(), "writes of the stream were never answered")
        return self.acknowledged

    def _write_all(self) -> None:
        window = 500
        futures = [self._client.write(("set", f"k{i}", i), block=False) for i in range(window)]
        for number in range(WRITES):
            if number + window < WRITES:
                following = number + window
                futures.append(self._client.write(("set", f"k{following}", following), block=False))
            self._note(number, futures[number])

    def _note(self, number: int, future: Any) -> None:
        try:
            future.get()
        except raft.RaftError:
            self.unknown += 1
        else:
            self.acknowledged[f"k{number}"] = number
        if len(self.acknowledged) >= KILL_AFTER:
            self.enough.set()


def check(held: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as a sentence
    """Fail the step with ``otherwise`` unless it ``held``."""
    if not held:
        raise StepFailed(otherwise)


def await_true(condition: Callable[[], bool], what: str) -> None:
    """Wait until ``condition`` holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        check(time.monotonic() < deadline, f"not in {PATIENCE:.0f} s: {what}")
        time.sleep(0.005)


def level(names: tuple[str, ...]) -> bool:
    """Whether all peers have the same log, all of it committed and applied."""
    states = [raft.status(name) for name in names]
    return len({(s.last_index, s.last_term, s.commit_index, s.last_applied) for s in states}) == 1 and all(
        s.last_index == s.commit_index == s.last_applied for s in states
    )


def _row(state: raft.Status) -> tuple[str, ...]:
    numbers = (state.last_index, state.commit_index, state.last_applied)
    return (state.name, state.role, str(state.term), str(state.leader), *map(str, numbers))


def _missing(name: str) -> bool:
    try:
        raft.status(name)
    except raft.UnknownPeer:
        return True
    return False


def _entries(folder: Path) -> list[Any]:
    with inspection.reading(folder) as adapter:
        return list(inspection.entries(adapter, 1, 2**63 - 1))
