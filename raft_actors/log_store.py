"""The log of one peer on its disk: terms, votes and entries over an adapter that knows only integers and bytes.

Rule: what ``write`` returned from is durable, and what is read back is what was written or an error.

::

    open      see ``store_opening``
    write     lower the mark and sync it, if this truncates -> one adapter.write -> mark
    compact   snapshot is on disk -> one adapter.write records it -> superseded ones removed -> trim, slice by slice
    install   snapshot is on disk -> mark lowered, if this cuts -> one adapter.write records it -> the log is dropped

Any error in ``write`` ends the writing: what the disk has is unknown until the store is opened again (BUG-15, BUG-17).
Formats: ``records`` (entries), ``store_meta`` (everything else), ``durable_mark`` (the file ``TAIL``).
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec.structs import replace

from raft_actors.errors import CorruptLog, InvariantViolated, RaftError, StorageFailed
from raft_actors.folders import Folder
from raft_actors.log_recovery import sound_head
from raft_actors.protocol.configuration import Configuration
from raft_actors.protocol.effects import Persist
from raft_actors.protocol.entry import Entry
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.protocol.types import LogPosition
from raft_actors.records import DamagedRecord, decode_records, encode_entries
from raft_actors.store_changes import changed_meta, merged, require_following, require_newer
from raft_actors.store_errors import ours, translated
from raft_actors.store_meta import Base, Identity, base_of, base_value, snapshot_value
from raft_actors.store_opening import AdapterFactory, OpenedStore, Recovered, open_store
from storage_adapters import Batch

__all__ = ["AdapterFactory", "Identity", "LogStore", "Recovered"]


class LogStore:
    """The durable log of one peer; made by ``LogStore.open``.

    One thread at a time may write; ``read`` may be called from any thread at any moment.

    Attributes:
        identity: whose store this is.
        recovered: what was in it when it was opened.
        snapshots: the files beside the log.
    """

    def __init__(self, opened: OpenedStore) -> None:
        self.identity = opened.meta.identity
        self.recovered = opened.recovered
        self.snapshots = opened.snapshots
        self._adapter = opened.adapter
        self._where = opened.where
        self._base = opened.meta.base
        self._given_up: set[str] = set()
        self._recorded = self._best()
        self._ballot = opened.meta.ballot
        self._last = opened.last
        self._chain = opened.chain
        self._mark = opened.mark
        self._cuts = 0
        self._writing = threading.Lock()
        self._failure: BaseException | None = None
        self._closed = False

    @classmethod
    def open(
        cls,
        factory: AdapterFactory,
        path: str | PathLike[str],
        *,
        name: str,
        codec: str = "",
        files: Folder | None = None,
    ) -> LogStore:
        """Open the store of peer ``name``, or make it, and check all of it.

        Args:
            factory: opens the adapter.
            path: the peer's own folder; ``MemoryAdapter`` makes no use of it.
            name: the peer.
            codec: name of the codec of its commands; ``""`` neither stores nor compares it.
            files: where its snapshots are; ``None``: what the factory brings, else its folder ``snapshots``, or memory.

        Raises:
            Incompatible: it is no store, or that of another peer, format, engine or codec.
            StoreInUse: somebody has it open.
            CorruptLog: something durable is damaged or gone.
            StorageFailed: the disk failed.
            MissingExtra: the engine is not installed.
        """
        return cls(open_store(factory, Path(path), name=name, codec=codec, files=files))

    def write(self, persists: Sequence[Persist], *, note: bool = True) -> None:
        """Make everything in ``persists`` durable, in their order, in one atomic batch.

        Args:
            persists: effects in the order in which they were returned; only the first may truncate or install.
            note: move the durable mark at once; ``False`` if ``note`` is called later.

        Raises:
            StorageFailed: the disk failed, now or in an earlier write.
            CorruptLog: the store noticed damage.
            Incompatible: the store belongs to another cluster.
            InvariantViolated: what is to be written does not fit what is there.
        """
        with self._changing():
            self._commit(merged(persists))
            if note:
                self._note()

    def compact(
        self, snapshot: Snapshot, *, through: int, configuration_index: int, configuration: Configuration
    ) -> None:
        """Record a snapshot that was taken of this log, durably, and let the log begin after ``through``.

        The entries before are gone for every reader at once, and from the disk slice by slice, with ``trim``.

        Args:
            snapshot: as ``SnapshotOutput.commit`` returned it.
            through: the last entry to drop; the present base drops none.
            configuration_index: where the configuration that counts at ``through`` stands, 0 if there is none.
            configuration: that configuration.

        Raises:
            InvariantViolated: the snapshot is not of this log, older than the recorded one, or not on the disk.
            PeerFailed: as for ``write``.
        """
        with self._changing():
            self._require_own(snapshot)
            base = self._base
            if not base.last.index <= through <= snapshot.last.index:
                raise InvariantViolated(f"{self._where} cannot be compacted through {through} by {snapshot.id}")
            if through > base.last.index:
                base = Base(*self._head(through), configuration_index, configuration)
            self._record(snapshot, base, {})
            self._drop_superseded(snapshot)
            self._note()

    def give_up(self, snapshot: Snapshot) -> None:
        """A snapshot turned out to be damaged: an older one, or one of the same place, may be recorded instead.

        Its file stays until then.
        """
        with self._writing:
            self._given_up.add(snapshot.id)
            if self._recorded == snapshot:
                self._recorded = self._best()

    def _best(self) -> Snapshot | None:
        """The newest snapshot that was found and not given up, ``None`` if the log begins with entry 1 or lost all."""
        return next((one for one in self.recovered.snapshots if one.id not in self._given_up), None)

    def trim(self, max_entries: int) -> bool:
        """Drop entries from the disk that a compaction has dropped from the log.

        Args:
            max_entries: how many at most, so that a write that comes meanwhile does not wait long.

        Returns:
            Whether there are more.

        Raises:
            PeerFailed: as for ``write``.
        """
        with self._changing():
            first, _ = self._adapter.bounds()
            through = min(self._base.last.index, first + max_entries - 1)
            if first <= through:
                self._adapter.compact(through)
                self._note()
            return through < self._base.last.index

    @property
    def last(self) -> LogPosition:
        """The position of the newest entry on the disk, or of the last one that a snapshot took the place of."""
        return self._last

    def head(self, index: int) -> tuple[LogPosition, int, float] | None:
        """Return position, chain value and time of an entry; any thread may ask.

        Returns:
            They, also for the last entry that was compacted; ``None`` for one that is not in the log (any more).

        Raises:
            CorruptLog: its record is damaged or missing.
            StorageFailed: the disk failed or the store is closed.
        """
        base = self._base
        if index == base.last.index:
            return base.last, base.chain, base.time
        cuts, held = self._cuts, base.last.index < index <= self._last.index
        with translated(self._where, ""):
            pairs = self._adapter.read(index, index, 1)
        if index <= self._base.last.index or not held or cuts != self._cuts:
            return None
        return sound_head(index, pairs, self._where)

    def read(self, first: int, last: int, max_bytes: int) -> tuple[Entry, ...]:
        """Return the entries ``first .. last`` as far as they are in the store, every record checked.

        Args:
            first: lowest index wanted. If it is compacted, or not there (any more), the result is empty.
            last: highest index wanted.
            max_bytes: bound for the size of their records, but at least one is returned.

        Raises:
            CorruptLog: a record is damaged or missing.
            StorageFailed: the disk failed or the store is closed.
        """
        cuts = self._cuts  # before _last: a truncation lowers _last first and counts then
        held = self._base.last.index < first <= min(last, self._last.index)
        with translated(self._where, ""):
            pairs = self._adapter.read(first, last, max_bytes)
        if first <= self._base.last.index:
            return ()
        try:
            if pairs and pairs[0][0] == first:
                return decode_records(pairs)[0]
            if held and cuts == self._cuts:
                raise DamagedRecord(first, "is missing")
        except DamagedRecord as damage:
            raise CorruptLog(f"{self._where} is damaged: {damage}") from damage
        return ()

    def close(self, *, clean: bool = True) -> None:
        """Let go of the store. Idempotent.

        Args:
            clean: write and sync the mark first; ``False`` leaves everything as a crash would.

        Raises:
            StorageFailed: the disk failed; the store is closed all the same.
        """
        with self._writing:
            if self._closed:
                return
            self._closed = True
            with translated(self._where, ""):
                try:
                    if clean and self._mark is not None and self._failure is None:
                        self._mark.put(self._last, self._chain, self._ballot, clean=True)
                        self._mark.sync()
                finally:
                    if self._mark is not None:
                        self._mark.close()
                    self.snapshots.close()
                    self._adapter.close()

    def __enter__(self) -> Self:
        """Return the store, which is open since it was made."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the store; not as a clean end if an exception is under way."""
        self.close(clean=error is None)

    def _require_usable(self) -> None:
        if self._closed:
            raise StorageFailed(f"{self._where} is closed", advice="start the peer again")
        if self._failure is not None:
            raise StorageFailed(
                f"{self._where} takes no more writes after an error: {self._failure}"
            ) from self._failure

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the store for one change; an error ends the changes, as what the disk has is unknown then."""
        with self._writing:
            self._require_usable()
            try:
                yield
            except BaseException as error:
                self._failure = error
                if isinstance(error, RaftError) or not isinstance(error, Exception):
                    raise
                self._failure = ours(error, self._where, "")
                raise self._failure from error

    def _commit(self, change: Persist) -> None:
        meta = changed_meta(change, self._ballot, self.identity, self._where)
        if change.snapshot is not None:
            self._install(change.snapshot, meta, change.truncate_from)
            self._remember(change)
            meta, cut = {}, None
        else:
            cut = self._truncate_to(change.truncate_from) if change.truncate_from is not None else None
        if not meta and cut is None and not change.entries:
            return
        last, chain = self._last, self._chain
        pairs: list[tuple[int, bytes]] = []
        try:
            if change.entries:
                pairs, chain = self._encoded(change.entries)
                last = LogPosition(change.entries[-1].term, pairs[-1][0])
            self._adapter.write(Batch(meta, cut, pairs))
        except (ValueError, TypeError, struct.error) as error:
            raise InvariantViolated(f"{self._where} was handed what cannot be stored: {error}") from error
        self._last, self._chain = last, chain
        self._remember(change)

    def _remember(self, change: Persist) -> None:
        self._ballot = change.ballot or self._ballot
        if change.cluster:
            self.identity = replace(self.identity, cluster=change.cluster)

    def _install(self, snapshot: Snapshot, meta: dict[str, bytes], truncate_from: int | None) -> None:
        """Let the log go on from ``snapshot``: with what it has after it if it holds its last entry, else empty.

        Paper: §7, Figure 13 (rules 6 and 7).
        """
        require_newer(snapshot, self._base.last, self._recorded, self._where)
        self._require_there(snapshot)
        if truncate_from is not None:
            raise InvariantViolated(f"{self._where} cannot cut at {truncate_from} and install {snapshot.id} at once")
        last = snapshot.last.index
        held = last <= self._last.index and self._head(last)[0] == snapshot.last
        if held:
            self._require_own(snapshot)
        cut = None if held else self._truncate_to(last)
        self._record(snapshot, base_of(snapshot), meta, cut)
        if not held:
            self._last, self._chain = snapshot.last, snapshot.chain
            self._adapter.compact(last)
        self._drop_superseded(snapshot)

    def _record(self, snapshot: Snapshot, base: Base, meta: dict[str, bytes], cut: int | None = None) -> None:
        """Record a snapshot and the base that goes with it, durably."""
        self._adapter.write(Batch(meta | snapshot_value(snapshot) | base_value(base), cut))
        self._recorded, self._base = snapshot, base

    def _drop_superseded(self, recorded: Snapshot) -> None:
        """Remove what the log neither goes on from nor could fall back to."""
        given_up, self._given_up = self._given_up, set()
        self.snapshots.supersede(recorded, self._base.last.index, given_up - {recorded.id})

    def _require_own(self, snapshot: Snapshot) -> None:
        """What was taken of this log ends with an entry of it, and is no step back."""
        self._require_there(snapshot)
        last = snapshot.last.index
        held = self._base.last.index <= last <= self._last.index
        if not held or self._head(last)[:2] != (snapshot.last, snapshot.chain):
            raise InvariantViolated(f"{self._where} does not hold the last entry of {snapshot}")
        if self._recorded is not None and last < self._recorded.last.index:
            raise InvariantViolated(f"{self._where} goes on from {self._recorded}, {snapshot} is older")

    def _require_there(self, snapshot: Snapshot) -> None:
        if self.snapshots.get(snapshot.id) != snapshot:
            raise InvariantViolated(f"{self._where} has no such snapshot on its disk: {snapshot}")

    def _encoded(self, entries: Sequence[Entry]) -> tuple[list[tuple[int, bytes]], int]:
        require_following(entries[0], self._last, self._where)
        return encode_entries(entries, self._chain)

    def _truncate_to(self, index: int) -> int | None:
        """Lower the mark, durably, and the end of the log in memory; returns what the adapter has to cut."""
        if index > self._last.index:
            return None
        if index <= self._base.last.index:
            raise InvariantViolated(f"{self._where} is compacted up to {self._base.last.index}: cannot cut at {index}")
        self._last, self._chain, _ = self._head(index - 1)
        self._cuts += 1
        if self._mark is not None:
            self._mark.put(self._last, self._chain, self._ballot)
            self._mark.sync()
        return index

    def _head(self, index: int) -> tuple[LogPosition, int, float]:
        """Return position, chain value and time of an entry that is in the log, or of the one before its first."""
        base = self._base
        if index == base.last.index:
            return base.last, base.chain, base.time
        return sound_head(index, self._adapter.read(index, index, 1), self._where)

    def note(self) -> None:
        """Let the durable mark say what was written; it may lag, so this can wait until the news has left.

        Raises:
            StorageFailed: the disk failed.
        """
        with self._writing, translated(self._where, ""):
            self._note()

    def _note(self) -> None:
        if self._mark is not None:
            self._mark.put(self._last, self._chain, self._ballot)
            self._mark.sync_if_due()
