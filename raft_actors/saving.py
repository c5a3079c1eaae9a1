"""Saving a peer's state: a snapshot now, an image of it in a file, a new cluster from an image."""

from __future__ import annotations

import time
from os import PathLike
from pathlib import Path

from raft_actors import names
from raft_actors.arguments import PeerRef, patience_of
from raft_actors.backups import image_from_snapshot, restore_image
from raft_actors.codec import resolve
from raft_actors.config import Config
from raft_actors.errors import AlreadyStarted, InvalidConfig
from raft_actors.formation_errors import not_configured
from raft_actors.futures import RequestFuture, refuse_if_forbidden
from raft_actors.network import elsewhere
from raft_actors.opening import ADAPTERS
from raft_actors.orders import SnapshotOrder
from raft_actors.remote import call
from raft_actors.remote_values import number_from
from raft_actors.supervisor import running
from raft_actors.transport import frames

__all__ = ["backup", "restore", "snapshot"]


def snapshot(peer: PeerRef, *, timeout: float | None = 60.0) -> int:
    """Take a snapshot of what is applied at ``peer`` now, and let its log begin after it. Everything goes on meanwhile.

    Peers do this by themselves (``Config.snapshot_threshold``); a snapshot that is as new already is not taken again.

    Args:
        peer: whose machine.
        timeout: seconds; ``None``: for ever. A snapshot that timed out goes on.

    Returns:
        The index of the newest entry in it.

    Raises:
        NotConfigured: the peer belongs to no cluster.
        CommandFailed: ``snapshot`` or ``dump`` of the machine raised; ``__cause__`` is the exception.
        StorageFailed: the disk had no room for it; the peer goes on.
        Timeout: it is not durable in time.
        UnknownPeer: the peer does not run.
    """
    refuse_if_forbidden()
    there = elsewhere(peer)
    if there is not None:
        deadline = time.monotonic() + patience_of(timeout, "timeout")
        return call(there, frames.TakeSnapshot(), number_from, deadline=deadline)
    handle = running(peer)
    if handle.state is not None and not handle.state.cluster:
        raise not_configured(handle.state)
    future: RequestFuture[int] = RequestFuture()
    future.deadline = time.monotonic() + patience_of(timeout, "timeout")
    mailbox = handle.open_mailbox()
    if not mailbox.post(SnapshotOrder(future)):
        raise mailbox.refusal()
    return future.get()


def backup(peer: PeerRef, path: str | PathLike[str], *, timeout: float | None = 60.0) -> None:
    """Write an image of what is applied at ``peer`` now into the file ``path``: a snapshot, durable on return.

    ``restore`` makes a new cluster of it. The image is complete in itself, and checked when it is read.

    Args:
        peer: whose machine; any member, which need not lead.
        path: a file that does not exist yet.
        timeout: seconds for the snapshot; ``None``: for ever.

    Raises:
        FileExistsError: there is something at ``path``; it is left alone.
        OSError: it cannot be written.
        RaftError: as for ``snapshot``.
    """
    snapshot(peer, timeout=timeout)
    handle = running(peer)
    state, peer_actor = handle.state, handle.peer
    if state is None or state.snapshot is None or peer_actor is None:
        raise handle.why_closed()
    image_from_snapshot(peer_actor.store.snapshots, state.snapshot.id, Path(path))


def restore(path: str | PathLike[str], *, name: str, config: Config) -> None:
    """Fill the empty store of peer ``name`` from a backup image, as a new cluster (new id) of this one peer.

    The peer is started with ``start_peer`` afterwards, and leads the new cluster by itself; others are added to it.
    Whatever fails, ``config.data_dir/name`` is as it was.

    Args:
        path: the image.
        name: the peer; it may have another name than the one whose image it is.
        config: its settings, of which the store needs ``data_dir``, ``storage`` and ``codec``.

    Raises:
        AlreadyStarted: the peer is running.
        Incompatible: its store is not empty, or the image is of another codec or of a later version.
        CorruptLog: the image is damaged.
        InvalidName: nobody can have this name.
        InvalidConfig: ``storage="memory"`` keeps nothing that a peer could be started with.
        StorageFailed: the disk failed.
        MissingExtra: the storage engine is not installed.
        OSError: the image cannot be read.
    """
    names.check_name(name)
    storage, folder = config.storage, Path(config.data_dir).absolute() / name
    if names.whereis(name) is not None:
        raise AlreadyStarted(name, f"peer {name!r} is started in this process: {folder} cannot be restored under it")
    if storage == "memory":
        raise InvalidConfig("storage='memory' keeps nothing that is restored into it", fields=("storage",))
    factory = ADAPTERS[storage] if isinstance(storage, str) else storage
    restore_image(Path(path), folder, factory, name=name, codec=resolve(config.codec).name)
