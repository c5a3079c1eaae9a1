"""From a backup image to a store: its snapshot, its entries, and a configuration of one peer.

The image is read once, from its beginning to its end, and every frame and record is checked before it is used. What was
in the log counts, whether the old cluster had committed it or not: the new cluster begins with it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from msgspec.structs import replace

from raft_actors.errors import CorruptLog, Incompatible
from raft_actors.log_store import LogStore
from raft_actors.protocol.configuration import Configuration, Member
from raft_actors.protocol.configuration import encode as encode_configuration
from raft_actors.protocol.effects import Persist
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.types import Ballot, LogPosition
from raft_actors.records import GENESIS, DamagedRecord, decode_records
from raft_actors.snapshot_format import LOG, SESSIONS, STATE, DamagedFrame, FrameReader, UnknownVersion
from raft_actors.store_opening import AdapterFactory

__all__ = ["Image", "fill", "found", "refill"]

_LENGTH = struct.Struct("<I")
_BATCH = 1000
"""Entries in one write."""


class Image:
    """A backup image that is being read.

    Args:
        path: where it is, for messages.
        stream: its bytes.
        codec: name of the codec that its commands have to have, ``""`` for any.

    Attributes:
        header: what it says first.
        codec: name of the codec of its commands.

    Raises:
        CorruptLog: its beginning is damaged.
        Incompatible: it is of a later version, or of another codec.
    """

    def __init__(self, path: Path, stream: BinaryIO, codec: str) -> None:
        self._path = path
        try:
            self._frames = FrameReader(stream.read)
        except UnknownVersion as error:
            raise Incompatible(
                f"the image {path} {error}", advice="restore it with the version of raft_actors that wrote it"
            ) from error
        except DamagedFrame as error:
            raise self.damaged(error) from error
        self.header = self._frames.header
        self.codec = codec or self.header.codec
        if self.header.codec not in ("", self.codec):
            raise Incompatible(
                f"the image {path} holds commands of codec {self.header.codec!r}, not of {codec!r}",
                advice=f"restore it with codec {self.header.codec!r}",
            )
        self._frame = self._next()

    def sessions(self) -> Iterator[bytes]:
        """Yield the session table, piece by piece; first of all.

        Raises:
            CorruptLog: it is damaged.
        """
        return self._payloads(SESSIONS)

    def state(self) -> Iterator[bytes]:
        """Yield the state, piece by piece; after the sessions.

        Raises:
            CorruptLog: it is damaged.
        """
        return self._payloads(STATE)

    def _payloads(self, kind: int) -> Iterator[bytes]:
        while self._frame is not None and self._frame[0] == kind:
            yield self._frame[1]
            self._frame = self._next()

    def entries(self) -> Iterator[Entry]:
        """Yield the entries of the log; after the state.

        Raises:
            CorruptLog: one is damaged, or does not follow the one before it.
        """
        snapshot = self.header.snapshot
        index, chain = snapshot.last.index + 1, snapshot.chain if snapshot.id else GENESIS
        for record in self._records():
            try:
                found, chain = decode_records(((index, record),), chain)
            except DamagedRecord as error:
                raise CorruptLog(f"the image {self._path} is damaged: {error}") from error
            yield found[0]
            index += 1

    def _records(self) -> Iterator[bytes]:
        """Yield the records, each of which stands after its length."""
        pending = bytearray()
        while self._frame is not None and self._frame[0] == LOG:
            pending += self._frame[1]
            place = 0
            while len(pending) - place >= _LENGTH.size:
                end = place + _LENGTH.size + _LENGTH.unpack_from(pending, place)[0]
                if end > len(pending):
                    break
                yield bytes(pending[place + _LENGTH.size : end])
                place = end
            del pending[:place]
            self._frame = self._next()
        if pending:
            raise self.damaged(DamagedFrame("ends within an entry"))

    def _next(self) -> tuple[int, bytes] | None:
        try:
            return self._frames.next()
        except DamagedFrame as error:
            raise self.damaged(error) from error

    def damaged(self, error: DamagedFrame) -> CorruptLog:
        """Return the error that says what is wrong with this image."""
        return CorruptLog(
            f"the image {self._path} {error}", advice="take another backup: nothing was restored from this one"
        )


def refill(image: Image, factory: AdapterFactory, folder: Path, *, name: str, cluster: str) -> LogPosition:
    """Make a new store from an image.

    Args:
        image: just opened.
        factory: opens the adapter.
        folder: the store, which is not there yet.
        name: its peer.
        cluster: id of the new cluster.

    Returns:
        The position of the last entry of the image.

    Raises:
        CorruptLog: the image is damaged.
        PeerFailed: the store cannot be written.
    """
    with LogStore.open(factory, folder, name=name, codec=image.codec) as store:
        last, time = fill(image, store, cluster)
        alone = Configuration(voters=(Member(name, store.identity.incarnation),))
        found(store, last, time, configuration=alone, cluster=cluster)
    return last


def fill(image: Image, store: LogStore, cluster: str) -> tuple[LogPosition, float]:
    """Give an empty store the snapshot and the entries of an image.

    Returns:
        The position of the last entry, and its time.

    Raises:
        CorruptLog: the image is damaged.
        PeerFailed: the store cannot be written.
    """
    last, time = _install(image, store, cluster)
    entries = image.entries()
    while batch := tuple(islice(entries, _BATCH)):
        store.write([Persist(entries=batch)])
        last, time = LogPosition(batch[-1].term, batch[-1].index), batch[-1].time
    return last, time


def found(store: LogStore, last: LogPosition, time: float, *, configuration: Configuration, cluster: str) -> None:
    """Let a store that was filled up to ``last`` belong to a new cluster of these members."""
    term = max(1, last.term)
    entry = Entry(last.index + 1, term, EntryKind.CONFIGURATION, time, encode_configuration(configuration))
    store.write([Persist(Ballot(term), entries=(entry,), cluster=cluster)])


def _install(image: Image, store: LogStore, cluster: str) -> tuple[LogPosition, float]:
    """Let the new log go on from the snapshot of the image, if it has one; returns its position and time."""
    header = image.header
    snapshot = header.snapshot
    if not snapshot.id:
        for _ in (*image.sessions(), *image.state()):
            raise image.damaged(DamagedFrame("holds the state of no snapshot"))
        return snapshot.last, snapshot.time
    output = store.snapshots.create(
        replace(snapshot, id=f"{store.identity.incarnation}-{snapshot.last.index}"),
        cluster=cluster,
        codec=header.codec,
        version=header.version,
    )
    for data in image.sessions():
        output.sessions(data)
    for data in image.state():
        output.write(data)
    store.write([Persist(snapshot=output.commit())])
    return snapshot.last, snapshot.time
