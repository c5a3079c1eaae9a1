"""How long a cluster is without a leader: when the leader dies, and when it goes in peace."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

import raft_actors as raft
from raft_actors.bench.rig import Rig
from raft_actors.supervisor import handle_of

__all__ = ["death", "hand_over"]

WRITES_AFTER = 5
"""Acknowledged writes elsewhere after which a hand-over is over."""


def death(rig: Rig) -> float:
    """Let the leader's actor die, as of a crash; seconds from there to the first write acknowledged elsewhere.

    The dead peer is started again and has caught up when this returns.
    """
    leader = rig.leader()
    handle = handle_of(leader)
    dying = threading.Thread(target=handle.stop, args=(0.1,), kwargs={"hand_over": False, "crash": True})
    begin = time.perf_counter()
    dying.start()
    rig.write("", dying=leader)
    took = time.perf_counter() - begin
    _back(rig, leader, dying)
    return took


def hand_over(rig: Rig) -> float:
    """Stop the leader gracefully under a caller that writes without a pause; seconds of the longest wait for a write.

    The stopped peer is started again and has caught up when this returns.
    """
    leader = target = rig.leader()
    leaving = threading.Thread(target=raft.stop, args=(leader,))
    acknowledged = []
    after = 0
    while after < WRITES_AFTER:
        target = rig.write(target, dying=leader if leaving.ident else "")
        acknowledged.append(time.perf_counter())
        after += target != leader
        if len(acknowledged) == WRITES_AFTER:
            leaving.start()
    _back(rig, leader, leaving)
    return max(later - earlier for earlier, later in pairwise(acknowledged))


def _back(rig: Rig, name: str, going: threading.Thread) -> None:
    going.join()
    rig.start(name)
    rig.settle()
