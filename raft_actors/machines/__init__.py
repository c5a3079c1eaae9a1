"""Ready-made state machines: to use, to try things out with, and to read as examples."""

from __future__ import annotations

from raft_actors.machines.counter import Counter
from raft_actors.machines.echo import Echo
from raft_actors.machines.kv import KV
from raft_actors.machines.lock import Lock
from raft_actors.machines.queue import Queue
from raft_actors.machines.stack import Stack

__all__ = ["Counter", "Echo", "KV", "Lock", "Queue", "Stack"]
