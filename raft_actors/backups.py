"""Backup images: a peer's state in one file, and a new cluster made of it.

An image is a snapshot file (``snapshot_format``), after whose state the records of the log may follow. Its path must
not exist, and there is a file there only when all of it is durable::

    temporary file beside it -> sync -> link to the path -> sync of the folder

A store is restored beside its place, too, and moved there when it is whole::

    DATA_DIR/.NAME-*/NAME    snapshot, entries, and one configuration entry that names this peer alone -> closed
    DATA_DIR/NAME            rename, sync of the folder

It is a new cluster (new id, new incarnation), so that no peer of the old one can ever take part in it.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from raft_actors.durable_mark import read_mark
from raft_actors.errors import CorruptLog, Incompatible, StorageFailed
from raft_actors.folders import DiskFolder
from raft_actors.inspection import NotAStore, reading
from raft_actors.log_recovery import READ_BYTES, survey_log
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.protocol.types import LogPosition
from raft_actors.restoring import Image, refill
from raft_actors.snapshot_files import DamagedSnapshot, check, file_name
from raft_actors.snapshot_format import FrameWriter, Header
from raft_actors.snapshot_inspection import check_snapshots
from raft_actors.snapshot_recovery import snapshot_folder
from raft_actors.snapshot_store import SnapshotStore
from raft_actors.store_meta import Meta, read_meta
from raft_actors.store_opening import AdapterFactory
from storage_adapters import StorageAdapter
from storage_adapters import folder as disk

__all__ = ["image_from_snapshot", "restore_image", "write_image", "write_open_image"]

COPIED_BYTES = 1 << 20
"""How much of a state is in memory at a time, in bytes."""


def write_image(store: Path, path: Path) -> LogPosition:
    """Write a stopped peer's newest sound snapshot, and every entry of its log after it, to a new file.

    What is in the log counts, committed or not. It needs no machine.

    Args:
        store: the peer's own folder.
        path: the image.

    Returns:
        The position of the last entry in it.

    Raises:
        NotAStore: there is no store in that folder.
        StoreInUse: its peer is running.
        CorruptLog: it is damaged, or has no sound snapshot in the place of what it compacted.
        FileExistsError: there is something at ``path``.
        OSError: the image could not be written.
    """
    with reading(store) as adapter:
        return write_open_image(store, adapter, path)


def write_open_image(store: Path, adapter: StorageAdapter, path: Path) -> LogPosition:
    """As ``write_image``, of a store that is open already."""
    where = f"the store {store}"
    with _new_file(path) as stream:
        meta = read_meta(adapter.meta, where)
        if meta is None:
            raise NotAStore(f"{store} holds a log that no peer has made")
        survey, _ = survey_log(adapter, meta, read_mark(store), where)
        snapshot = _sound_snapshot(store, adapter, meta, where)
        with SnapshotStore(snapshot_folder(store)).open(snapshot.id) if snapshot else _NoState(meta) as state:
            frames = FrameWriter(stream.write, Header(state.snapshot, state.cluster, state.codec, state.version))
            frames.sessions(state.sessions)
            while data := state.read(COPIED_BYTES):
                frames.state(data)
            state.finish()
        for record in _records(adapter, state.snapshot.last.index + 1, survey.last.index):
            frames.log(record)
        frames.end()
    return survey.last


def image_from_snapshot(snapshots: SnapshotStore, snapshot_id: str, path: Path) -> None:
    """Copy a durable snapshot, of a running peer too, to a new file, and check the copy.

    Raises:
        CorruptLog: the snapshot is damaged.
        StorageFailed: it is gone.
        FileExistsError: there is something at ``path``.
        OSError: the image could not be written.
    """
    with _new_file(path) as stream:
        try:
            source = snapshots.folder.open(file_name(snapshot_id))
        except FileNotFoundError as error:
            raise StorageFailed(f"snapshot {snapshot_id} is gone", advice="take the backup again") from error
        with source:
            while data := source.read(COPIED_BYTES):
                stream.write(data)
        stream.flush()
        copy = Path(stream.name)
        try:
            with DiskFolder(copy.parent).open(copy.name) as file:
                check(snapshot_id, file)
        except DamagedSnapshot as damage:
            raise CorruptLog(f"{damage}, no backup was made of it") from damage


def restore_image(path: Path, folder: Path, factory: AdapterFactory, *, name: str, codec: str = "") -> LogPosition:
    """Fill the empty store of peer ``name`` from an image, as a new cluster of this one peer.

    Args:
        path: the image.
        folder: the peer's own folder; it may exist if it is empty.
        factory: opens the adapter.
        name: the peer.
        codec: name of the codec of its commands; ``""``: that of the image.

    Returns:
        The position of the last entry of the image.

    Raises:
        CorruptLog: the image is damaged.
        Incompatible: the store is not empty, or image and codec do not fit.
        StorageFailed: the disk failed.
        MissingExtra: the engine is not installed.
        OSError: the image cannot be read.
    """
    where = f"the store {folder} of peer {name!r}"
    _require_empty(folder, where)
    with path.open("rb") as stream:
        image = Image(path, stream, codec)
        disk.make(folder.absolute().parent)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.absolute().parent) as scratch:
            made = Path(scratch) / folder.name
            last = refill(image, factory, made, name=name, cluster=secrets.token_hex(8))
            if not made.exists():
                raise Incompatible(
                    f"{where} would end with this process", advice="restore into a storage that is kept on a disk"
                )
            _require_empty(folder, where)
            _move(Path(scratch), folder)
    return last


def _sound_snapshot(store: Path, adapter: StorageAdapter, meta: Meta, where: str) -> Snapshot | None:
    """Return the newest snapshot whose every byte is sound, ``None`` if the log begins with the first entry.

    Raises:
        CorruptLog: there is none, and the log needs one.
    """
    found = check_snapshots(store, adapter, meta)
    if found.sound:
        return found.sound[0]
    if meta.base.last.index:
        raise CorruptLog(f"{where} is damaged: {'; '.join(found.problems)}")
    return None


class _NoState:
    """What stands in an image for the snapshot of a log that needs none."""

    def __init__(self, meta: Meta) -> None:
        self.snapshot = Snapshot()
        self.cluster = meta.identity.cluster
        self.codec = meta.identity.codec
        self.version = 0
        self.sessions = b""

    def read(self, count: int) -> bytes:
        return b""

    def finish(self) -> None:
        pass

    def __enter__(self) -> _NoState:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _records(adapter: StorageAdapter, index: int, last: int) -> Iterator[bytes]:
    while index <= last:
        pairs = adapter.read(index, last, READ_BYTES)
        if not pairs:
            raise CorruptLog(f"entry {index} is gone while it was read")
        for _, record in pairs:
            yield record
        index = pairs[-1][0] + 1


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """Lend a temporary file, which becomes the new file ``path`` at the end, whole and durable, or goes away.

    Raises:
        FileExistsError: there is something at ``path``, now or at the end; it is left alone.
    """
    if os.path.lexists(path):
        raise FileExistsError(f"{path} exists already: a backup never replaces anything")
    folder = path.absolute().parent
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=folder)
    os.close(descriptor)
    try:
        with open(draft, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        _publish(draft, path)
        disk.sync(folder)
    finally:
        Path(draft).unlink(missing_ok=True)


def _publish(draft: str, path: Path) -> None:
    """Give a file a name that nobody has."""
    try:
        try:
            os.link(draft, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links: take the name with an empty file, and that file's place
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            os.replace(draft, path)
    except FileExistsError:
        raise FileExistsError(f"{path} exists already: a backup never replaces anything") from None


def _require_empty(folder: Path, where: str) -> None:
    """Refuse a place where anything is, before anything is touched."""
    beside = [folder.with_name(folder.name + suffix) for suffix in (".TAIL", ".snapshots")]
    held = os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir()))
    if held or any(map(os.path.lexists, beside)):
        raise Incompatible(
            f"{where} is not empty: nothing in it was touched",
            advice="restore under another name or into another data_dir, or move the old store away first",
        )


def _move(scratch: Path, folder: Path) -> None:
    """Move everything that was made to its place, the store itself last."""
    for made in sorted(scratch.iterdir(), key=lambda entry: entry.name == folder.name):
        os.rename(made, folder.with_name(made.name))
    disk.sync(folder.absolute().parent)
