"""Far more writes of one client are wanted than a server takes at once: all are done, in their order, and once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import raft_actors as raft
from raft_actors.bench.process_rig import ProcessRig
from raft_actors.window import Window

WRITES = 15_000
PATIENCE = 120.0


def last_index(rig: ProcessRig) -> int:
    return max(raft.status(name).last_index for name in rig.names)


def written(client: raft.Client, meanwhile: Callable[[], object] = bool) -> list[bytes]:
    """Write without waiting; returns the replies."""
    client.write(b"")
    commands = [number.to_bytes(8, "big") for number in range(WRITES)]
    futures = []
    for command in commands:
        futures.append(client.write(command, block=False))
        if len(futures) == WRITES // 2:
            meanwhile()
    assert [future.get() for future in futures] == commands
    indexes = [future.index or 0 for future in futures]
    assert indexes == sorted(indexes), "in the order in which they were given"
    return commands


def test_many_times_what_a_server_takes_is_written_once_with_hardly_an_entry_more(tmp_path: Path) -> None:
    with ProcessRig(tmp_path, "lmdb") as rig, raft.Client(rig.names, keys=rig.keys, timeout=PATIENCE) as client:
        before = last_index(rig)
        written(client)
        rig.settle()
        assert last_index(rig) - before < 1.5 * WRITES


def test_clients_that_share_a_connection_come_to_share_what_it_takes(tmp_path: Path) -> None:
    with ProcessRig(tmp_path, "lmdb") as rig:
        clients = [raft.Client(rig.names, keys=rig.keys, timeout=PATIENCE) for _ in range(3)]
        before = last_index(rig)
        done: list[int] = []
        threads = [threading.Thread(target=lambda one=one: done.append(len(written(one)))) for one in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert done == [WRITES] * 3
        rig.settle()
        assert last_index(rig) - before < 2 * 3 * WRITES
        for client in clients:
            client.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_leader_that_dies_or_hangs_among_them_costs_few_entries(tmp_path: Path, number: signal.Signals) -> None:
    with ProcessRig(tmp_path, "lmdb") as rig, raft.Client(rig.names, keys=rig.keys, timeout=PATIENCE) as client:
        leader, before = rig.leader(), last_index(rig)
        written(client, lambda: rig.signal(leader, number))
        assert grown(rig, leader, before) < 2 * WRITES


def grown(rig: ProcessRig, leader: str, before: int) -> int:
    """How many entries the others have more."""
    return max(raft.status(name).last_index for name in rig.names if name != leader) - before


def test_without_its_window_a_client_tips_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Window, "enter", lambda self, size: 1)  # planted: there is always room
    monkeypatch.setattr(Window, "leave", lambda self, number, size, *, lost: None)
    with ProcessRig(tmp_path, "lmdb") as rig, raft.Client(rig.names, keys=rig.keys, timeout=15.0) as client:
        leader, before = rig.leader(), last_index(rig)
        with pytest.raises((raft.RaftError, AssertionError)):
            written(client, lambda: rig.signal(leader, signal.SIGSTOP))
            assert grown(rig, leader, before) < 2 * WRITES
