"""What a caller asks of a peer elsewhere, before it leaves."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import raft_actors as raft
from raft_actors.bench.process_rig import ProcessRig
from raft_actors.network import LARGEST_COMMAND


def test_what_no_frame_holds_is_refused_where_it_is_made_and_ends_no_connection(tmp_path: Path) -> None:
    large = b"x" * (LARGEST_COMMAND + 1)
    with ProcessRig(tmp_path, "lmdb") as rig, raft.Client(rig.names, keys=rig.keys, timeout=30.0) as client:
        leader = rig.leader()
        waiting = [client.write(bytes([number]), block=False) for number in range(200)]
        asks: list[Callable[[], Any]] = [
            lambda: client.write(large),
            lambda: client.read(large),
            lambda: raft.write(leader, large, timeout=30.0),
            lambda: raft.read(leader, large, timeout=30.0),
        ]
        began = time.monotonic()
        for ask in asks:
            with pytest.raises(raft.InvalidCommand, match="over a network it has at most"):
                ask()
        assert time.monotonic() - began < 20.0, "told at once, not when the time is over"
        assert [future.get() for future in waiting] == [bytes([number]) for number in range(200)]
        assert client.write(b"small") == b"small"
