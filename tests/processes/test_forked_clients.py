"""A client that was used before a fork goes on in both processes, each with a session of its own."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import raft_actors as raft
from raft_actors.bench.process_rig import ProcessRig

PATIENCE = 60.0


def ended(child: int) -> int:
    """The exit code of a child; one that hangs is killed."""
    until, pause = time.monotonic() + PATIENCE, threading.Event()
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        pause.wait(0.01)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def written(client: raft.Client, who: bytes) -> bool:
    """Whether each of some writes has its own reply."""
    return [client.write(who + bytes([number]), timeout=20) for number in range(5)] == [
        who + bytes([number]) for number in range(5)
    ]


def test_writes_of_a_parent_and_its_child_are_never_taken_for_the_same_ones(tmp_path: Path) -> None:
    with ProcessRig(tmp_path, "lmdb") as rig, raft.Client(rig.names, keys=rig.keys) as client:
        assert client.write(b"before") == b"before"
        before = raft.status(rig.leader()).last_index
        child = os.fork()
        if child == 0:
            fine = False
            try:
                fine = written(client, b"child")
            finally:
                os._exit(0 if fine else 1)
        assert written(client, b"parent")
        assert ended(child) == 0
        assert raft.status(rig.leader()).last_index >= before + 11, "two times five writes, and a session"


def test_what_waits_in_a_parent_does_not_keep_its_child_waiting(tmp_path: Path) -> None:
    with ProcessRig(tmp_path, "lmdb") as rig, raft.Client(rig.names, keys=rig.keys) as client:
        client.write(b"before")
        for name in rig.names:
            rig.kill(name)
        waiting = client.write(b"parent", timeout=PATIENCE, block=False)
        child = os.fork()
        if child == 0:
            fine = False
            try:
                fine = client.write(b"child", timeout=PATIENCE) == b"child"
            finally:
                os._exit(0 if fine else 1)
        for name in rig.names:
            rig.restart(name)
        assert waiting.get(timeout=PATIENCE) == b"parent"
        assert ended(child) == 0
