"""A forked child has none of its parent's peers and connections: their threads stayed with the parent (BUG-75)."""

from __future__ import annotations

from raft_actors import names
from raft_actors.callbacks import CALLBACKS
from raft_actors.mailbox import forget_actors
from raft_actors.network import NETWORK
from raft_actors.timekeeper import TIMEKEEPER
from raft_actors.transport.local import LOCAL

__all__ = ["forget_in_child"]


def forget_in_child() -> None:
    """Forget what was of the parent."""
    for of_this_process in (names, LOCAL, NETWORK, TIMEKEEPER, CALLBACKS):
        of_this_process.forget_all()
    forget_actors()
