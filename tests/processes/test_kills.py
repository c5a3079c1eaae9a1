"""SIGKILL in the middle of a run, again and again: every reply that was printed is still true afterwards."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from tests.processes.tools import KV, RAFT_ACTORS, Feeder, as_lines, finish, from_lines, raft_actors, start

COMMANDS = 20_000


def kill_in_mid_run(folder: Path, storage: str, commands: list[object], lines: int) -> list[object]:
    """Run ``commands``, kill the process after so many lines of replies; returns the replies it had printed."""
    with start([*RAFT_ACTORS, "run", KV, "--storage", storage], folder, stderr=None) as program:
        Feeder(program.stdin, as_lines(commands))
        printed = b"".join(program.stdout.readline() for _ in range(lines))
        program.send_signal(signal.SIGKILL)
        printed += program.stdout.read()
    assert program.returncode == -signal.SIGKILL, "the run was over before the kill"
    return from_lines(printed)


def kill_again_and_again(folder: Path, storage: str, kills: int) -> None:
    rng = random.Random(kills)
    known: dict[str, int] = {}
    for turn in range(kills):
        commands = [["set", f"k{n % 500}", turn * COMMANDS + n] for n in range(COMMANDS)]
        replies = kill_in_mid_run(folder, storage, commands, rng.choice([0, 1, 300, 3_000]))
        assert replies == [["ok", key, value] for _, key, value in commands[: len(replies)]]
        known |= {key: value for _, key, value in replies}
        look_for(folder, storage, known, newest=commands[-1][2])
    for name in ("s1", "s2", "s3"):
        folder_of_peer = f"raft_data/run-{KV.replace(':', '-')}/{name}"
        assert raft_actors("verify", folder_of_peer, folder=folder).returncode == 0


def look_for(folder: Path, storage: str, known: dict[str, int], newest: int) -> None:
    """Every key has the value of its last printed reply, or one that was written later and not printed."""
    done = raft_actors("run", KV, "--storage", storage, folder=folder, given=as_lines([["get", key] for key in known]))
    assert done.returncode == 0, (done.stdout[-500:], done.stderr)
    for (key, value), found in zip(known.items(), from_lines(done.stdout), strict=True):
        assert found is not None, f"{key} is lost"
        assert value <= found <= newest, f"{key} was {value} and is {found}"
        assert (found - value) % 500 == 0


@pytest.mark.parametrize("storage", ["lmdb", "rocksdb"])
def test_every_reply_printed_before_a_kill_is_true_after_the_restart(tmp_path, storage):
    kill_again_and_again(tmp_path, storage, 4)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("storage", ["lmdb", "rocksdb"])
def test_every_reply_is_true_after_twenty_five_kills(tmp_path, storage):
    kill_again_and_again(tmp_path, storage, 25)


@pytest.mark.parametrize("storage", ["lmdb", "rocksdb"])
def test_a_kill_while_the_cluster_is_being_formed_leaves_one_that_can_be_used(tmp_path, storage):
    """Killed at each call that the formation makes durable: the next run forms the cluster, or finds it formed."""
    for batch in range(1, 9):
        folder = tmp_path / str(batch)
        folder.mkdir()
        done = finish_killed(folder, storage, batch)
        assert done.returncode == -signal.SIGKILL, done.stderr
        again = raft_actors("run", KV, "--storage", storage, folder=folder, given=as_lines([["set", "a", 1]]))
        assert (again.returncode, again.stdout) == (0, b'["ok", "a", 1]\n'), again.stderr


DIES = """
import os, signal, sys
from raft_actors.cli import main
from storage_adapters import LMDBAdapter, RocksDBAdapter
left = int(sys.argv[1])

def dying(write):
    def wrapped(self, batch):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        write(self, batch)
    return wrapped

for adapter in (LMDBAdapter, RocksDBAdapter):
    adapter.write = dying(adapter.write)
sys.exit(main(["run", sys.argv[3], "--storage", sys.argv[2]]))
"""


def finish_killed(folder: Path, storage: str, batch: int):
    """A run that is killed just before its ``batch``-th write to any store."""
    (folder / "dies.py").write_text(DIES)
    return finish([RAFT_ACTORS[0], "dies.py", batch, storage, KV], folder, given=as_lines([["get", "a"]] * 3))
