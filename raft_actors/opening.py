"""From a folder to a running peer: open the store, recover the state, make the machine, wire the actors."""

from __future__ import annotations

import logging
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from raft_actors import names
from raft_actors.behaviours.recovery import recover
from raft_actors.errors import CorruptLog
from raft_actors.log_store import LogStore
from raft_actors.machine_actor import Replica
from raft_actors.machine_snapshots import require_whole
from raft_actors.peer import Owner, Peer
from raft_actors.protocol.types import Moment, Settings
from raft_actors.snapshot_loading import load_newest
from raft_actors.state_machine import Context, StateMachine
from raft_actors.transport.local import LOCAL
from raft_actors.transport.port import Vouching
from storage_adapters import LMDBAdapter, MemoryAdapter, RocksDBAdapter

if TYPE_CHECKING:
    from collections.abc import Callable

    from raft_actors.beginnings import Beginning
    from raft_actors.config import Config
    from raft_actors.intake import Mailbox
    from raft_actors.protocol.snapshot import Snapshot
    from raft_actors.protocol.state import PeerState
    from raft_actors.store_opening import Recovered
    from raft_actors.transport.port import Transport

__all__ = ["open_peer", "settings_of"]

logger = logging.getLogger("raft_actors")

ADAPTERS: dict[str, Callable[[Any], Any]] = {
    "lmdb": LMDBAdapter,
    "rocksdb": RocksDBAdapter,
    "memory": MemoryAdapter,
}


def settings_of(config: Config) -> Settings:
    """What of ``config`` the rules need."""
    return Settings(**{field: getattr(config, field) for field in Settings.__struct_fields__})


def open_peer(
    owner: Owner,
    mailbox: Mailbox,
    machine: Callable[[], Any],
    config: Config,
    folder: Path,
    beginning: Beginning,
    where: tuple[Transport, str] = (LOCAL, ""),
) -> Peer:
    """Open the peer of ``mailbox.name``: nothing runs yet.

    Args:
        owner: told of every change.
        mailbox: the peer's inbox.
        machine: makes its machine.
        config: its settings.
        folder: its own folder, absolute: the process may go elsewhere.
        beginning: what it does as long as it belongs to no cluster.
        where: what carries its messages, and the address at which others reach it.

    Raises:
        CorruptLog: the peer ran on another store before; that one is gone.
        RaftError: the store cannot be opened or does not belong to this peer.
        TypeError: ``machine`` does not make state machines.
    """
    storage = config.storage
    factory = ADAPTERS[storage] if isinstance(storage, str) else storage
    store = LogStore.open(factory, folder, name=mailbox.name, codec=mailbox.codec.name)
    try:
        _require_same(owner.state, store, "memory" if storage == "memory" else str(folder))
        replica = Replica(_made(machine, mailbox.name), mailbox.name, mailbox.codec)
        snapshot = load_newest(store, replica, mailbox.name)
        transport, address = where
        state = _state(mailbox.name, config, store, snapshot, beginning, address)
        state = replace(state, rests=isinstance(transport, Vouching))
        return Peer(owner, mailbox, store, replica, state, transport)
    except BaseException:
        store.close()
        raise


def _require_same(before: PeerState | None, store: LogStore, where: str) -> None:
    """A peer that restarts comes back on its own store or not at all: an empty one has forgotten its votes (BUG-62)."""
    if before is not None and before.incarnation != store.identity.incarnation:
        raise CorruptLog(
            f"peer {before.name!r} ran on another store: the one in {where} was made after it",
            advice="stop the peer, bring its store back if there is one, and start it again",
        )


def _made(make: Callable[[], Any], name: str) -> StateMachine[Any, Any]:
    """A machine that is this peer's alone, and that can be told where in the log it is."""
    machine = make()
    if not isinstance(machine, StateMachine):
        raise TypeError(
            f"peer {name!r} needs a StateMachine class or a factory of one, "
            f"{make!r:.100} made a {type(machine).__name__}"
        )
    require_whole(machine)
    other = _other_owner(machine, name)
    if other is not None:
        raise TypeError(
            f"peers {other!r} and {name!r} cannot share one {type(machine).__name__}: "
            "give its class, or a function that makes a new one at every call"
        )
    try:
        machine.context = Context(0, 0, 0.0)
        del machine.context
    except Exception as error:
        raise TypeError(
            f"peer {name!r} must be able to set .context of its {type(machine).__name__}: {error}"
        ) from error
    return machine


def _other_owner(machine: StateMachine[Any, Any], name: str) -> str | None:
    """The running peer of another name that has this very machine."""
    peers = (getattr(names.whereis(other), "peer", None) for other in names.names())
    owners = (one.name for one in peers if isinstance(one, Peer) and one.machine.replica.machine is machine)
    return next((owner for owner in owners if owner != name), None)


def _compare(name: str, recovered: Recovered, beginning: Beginning) -> None:
    """What the store knows of its cluster wins over what the peer is told at its start."""
    known = [member.name for member in recovered.configurations[-1][1].voters] if recovered.configurations else []
    told = beginning.bootstrap.names if beginning.bootstrap is not None else ()
    if known and told and set(told) != set(known):
        there, given = ", ".join(known), ", ".join(told)
        logger.warning("peer %s: its store holds a cluster of %s, which goes on; %s were named", name, there, given)


def _state(
    name: str, config: Config, store: LogStore, snapshot: Snapshot | None, beginning: Beginning, address: str
) -> PeerState:
    recovered = store.recovered
    _compare(name, recovered, beginning)
    moment = Moment(time.monotonic(), time.time(), random.random())
    return recover(
        name=name,
        incarnation=store.identity.incarnation,
        settings=settings_of(config),
        cluster=recovered.cluster,
        ballot=recovered.ballot,
        log=recovered.log,
        configurations=recovered.configurations,
        time=recovered.time,
        moment=moment,
        snapshot=snapshot,
        joining=beginning.joining,
        bootstrap=beginning.bootstrap,
        address=address,
    )
