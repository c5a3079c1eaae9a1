"""The log of one peer on its disk: terms, votes and entries over an adapter that knows only integers and bytes.

Rule: what ``write`` returned from is durable, and what is read back is what was written or an error.

::

    open    see ``store_opening``
    write   lower the mark and sync it, if this truncates -> one adapter.write -> mark

Any error in ``write`` ends the writing: what the disk has is unknown until the store is opened again (BUG-15, BUG-17).
Formats: ``records`` (entries), ``store_meta`` (everything else), ``durable_mark`` (the file ``TAIL``).
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec.structs import replace

from raft_actors.errors import CorruptLog, Incompatible, InvariantViolated, StorageFailed
from raft_actors.protocol.effects import Persist
from raft_actors.protocol.entry import Entry
from raft_actors.protocol.types import Ballot, LogPosition
from raft_actors.records import DamagedRecord, decode_records, encode_entries, head_of
from raft_actors.store_errors import translated
from raft_actors.store_meta import Identity, ballot_value, cluster_value
from raft_actors.store_opening import AdapterFactory, OpenedStore, Recovered, open_store
from storage_adapters import Batch

__all__ = ["AdapterFactory", "Identity", "LogStore", "Recovered"]


class LogStore:
    """The durable log of one peer; made by ``LogStore.open``.

    One thread at a time may write; ``read`` may be called from any thread at any moment.

    Attributes:
        identity: whose store this is.
        recovered: what was in it when it was opened.
    """

    def __init__(self, opened: OpenedStore) -> None:
        self.identity = opened.meta.identity
        self.recovered = opened.recovered
        self._adapter = opened.adapter
        self._where = opened.where
        self._base = opened.meta.base
        self._ballot = opened.meta.ballot
        self._last = opened.last
        self._chain = opened.chain
        self._mark = opened.mark
        self._cuts = 0
        self._writing = threading.Lock()
        self._failure: BaseException | None = None
        self._closed = False

    @classmethod
    def open(cls, factory: AdapterFactory, path: str | PathLike[str], *, name: str, codec: str = "") -> LogStore:
        """Open the store of peer ``name``, or make it, and check all of it.

        Args:
            factory: opens the adapter.
            path: the peer's own folder; ``MemoryAdapter`` makes no use of it.
            name: the peer.
            codec: name of the codec of its commands; ``""`` neither stores nor compares it.

        Raises:
            Incompatible: it is no store, or that of another peer, format, engine or codec.
            StoreInUse: somebody has it open.
            CorruptLog: something durable is damaged or gone.
            StorageFailed: the disk failed.
            MissingExtra: the engine is not installed.
        """
        return cls(open_store(factory, Path(path), name=name, codec=codec))

    def write(self, persists: Sequence[Persist], *, note: bool = True) -> None:
        """Make everything in ``persists`` durable, in their order, in one atomic batch.

        Args:
            persists: effects in the order in which they were returned; only the first may truncate.
            note: move the durable mark at once; ``False`` if ``note`` is called later.

        Raises:
            StorageFailed: the disk failed, now or in an earlier write.
            CorruptLog: the store noticed damage.
            Incompatible: the store belongs to another cluster.
            InvariantViolated: what is to be written does not fit what is there.
        """
        with self._writing:
            self._require_usable()
            try:
                with translated(self._where, ""):
                    self._commit(_merged(persists))
                    if note:
                        self._note()
            except BaseException as error:
                self._failure = error
                raise

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

    def _commit(self, change: Persist) -> None:
        meta = self._changed_meta(change)
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
        self._ballot = change.ballot or self._ballot
        if change.cluster:
            self.identity = replace(self.identity, cluster=change.cluster)

    def _encoded(self, entries: Sequence[Entry]) -> tuple[list[tuple[int, bytes]], int]:
        first = entries[0]
        if first.index != self._last.index + 1 or first.term < self._last.term:
            raise InvariantViolated(
                f"{self._where} ends at index {self._last.index} of term {self._last.term}, "
                f"entry {first.index} of term {first.term} cannot follow"
            )
        return encode_entries(entries, self._chain)

    def _changed_meta(self, change: Persist) -> dict[str, bytes]:
        meta: dict[str, bytes] = {}
        if change.ballot is not None and change.ballot != self._ballot:
            self._require_later(change.ballot)
            meta |= ballot_value(change.ballot)
        if change.cluster and change.cluster != self.identity.cluster:
            if self.identity.cluster:
                raise Incompatible(
                    f"{self._where} belongs to cluster {self.identity.cluster!r}, not to {change.cluster!r}",
                    advice="give the peer another data_dir if it is to join that cluster",
                )
            meta |= cluster_value(change.cluster)
        return meta

    def _require_later(self, ballot: Ballot) -> None:
        """A term never goes back, and a vote is given once in it. Paper: §5.2, Figure 2."""
        ours = self._ballot
        if ballot.term < ours.term or (ballot.term == ours.term and ours.voted_for is not None):
            raise InvariantViolated(f"{self._where} holds {ours}, and {ballot} cannot replace it")

    def _truncate_to(self, index: int) -> int | None:
        """Lower the mark, durably, and the end of the log in memory; returns what the adapter has to cut."""
        if index > self._last.index:
            return None
        if index <= self._base.last.index:
            raise InvariantViolated(f"{self._where} is compacted up to {self._base.last.index}: cannot cut at {index}")
        self._last, self._chain = self._end_before(index)
        self._cuts += 1
        if self._mark is not None:
            self._mark.put(self._last, self._chain, self._ballot)
            self._mark.sync()
        return index

    def _end_before(self, index: int) -> tuple[LogPosition, int]:
        if index - 1 == self._base.last.index:
            return self._base.last, self._base.chain
        try:
            for key, record in self._adapter.read(index - 1, index - 1, 1):
                return head_of(key, record)
            raise DamagedRecord(index - 1, "is missing")
        except DamagedRecord as damage:
            raise CorruptLog(f"{self._where} is damaged: {damage}") from damage

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


def _merged(persists: Sequence[Persist]) -> Persist:
    """Return one effect that does what all of them do, in their order."""
    if len(persists) == 1:
        return persists[0]
    ballot, cluster = None, ""
    entries: list[Entry] = []
    for number, persist in enumerate(persists):
        if number and persist.truncate_from is not None:
            raise InvariantViolated("only the first of the writes that are merged may truncate")
        ballot = persist.ballot or ballot
        cluster = persist.cluster or cluster
        entries += persist.entries
    return Persist(ballot, persists[0].truncate_from if persists else None, tuple(entries), cluster)
