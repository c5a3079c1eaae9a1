"""What a machine begins with when its peer starts: the newest snapshot that is sound, or nothing.

A snapshot that turns out to be damaged is refused, and an older one takes its place if the log reaches back to it. If
there is none, and the log does not begin with entry 1, the peer starts without a state: it votes and takes entries, but
leads nobody and answers no read, until a leader has sent it a snapshot. A peer that is a cluster by itself has nobody
to ask.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from raft_actors.errors import CorruptLog, Incompatible, RaftError
from raft_actors.protocol.configuration import has_quorum
from raft_actors.snapshot_store import DamagedSnapshot

if TYPE_CHECKING:
    from raft_actors.log_store import LogStore
    from raft_actors.machine_actor import Replica
    from raft_actors.protocol.snapshot import Snapshot

__all__ = ["load_newest"]

logger = logging.getLogger("raft_actors")


def load_newest(store: LogStore, replica: Replica, name: str) -> Snapshot | None:
    """Let ``replica`` begin with the newest sound snapshot of ``store``, and return which one that is.

    Raises:
        CorruptLog: there is none, and nobody to get one from.
        Incompatible: the machine cannot load what a sound snapshot holds.
    """
    for snapshot in store.recovered.snapshots:
        if _loaded(store, replica, name, snapshot):
            return snapshot
    if store.recovered.log.previous.index:
        _require_others(store, name)
        replica.least = store.recovered.log.previous.index
        logger.error("peer %s has lost its snapshot, and waits for one of its leader", name)
    return None


def _loaded(store: LogStore, replica: Replica, name: str, snapshot: Snapshot) -> bool:
    try:
        with store.snapshots.open(snapshot.id) as reader:
            state, sessions = replica.load(reader), replica.sessions.loaded(reader.sessions)
            reader.finish()
    except (DamagedSnapshot, OSError) as error:
        logger.error("peer %s cannot use its snapshot %s: %s", name, snapshot.id, error)
        store.give_up(snapshot)
        return False
    except (RaftError, MemoryError):
        raise
    except Exception as error:
        raise Incompatible(
            f"peer {name!r} cannot load the state in snapshot {snapshot.id}: {type(error).__name__}: {error}"
        ) from error
    replica.adopt(state, snapshot.last.index, sessions)
    return True


def _require_others(store: LogStore, name: str) -> None:
    configurations = store.recovered.configurations
    if configurations and has_quorum(configurations[-1][1], (name,)):
        raise CorruptLog(
            f"peer {name!r} has lost its snapshot, without which its log is worth nothing, and is alone",
            advice="restore it from a backup",
        )
