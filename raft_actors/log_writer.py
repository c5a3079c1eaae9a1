"""Makes batches durable: everything that is queued becomes one transaction, and what depends on it leaves after.

::

    peer --Job(Persist, sends)--> [queue] --all of it: one durable write--> sends leave --> Persisted --> peer

``Writer`` does the work without a thread; ``LogWriter`` is the thread. The simulator runs the same ``Writer``.

A job that truncates or installs a snapshot begins a transaction of its own: the acknowledgements of what it cuts off
leave before the cut. A snapshot of ours is recorded behind the jobs, which wait for nothing that nobody waits for, but
before another one is installed, which takes its place. Entries that a snapshot covers are dropped from the disk in
slices, when nothing else is to do.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from raft_actors.mailbox import FINISH, NEVER, Envelope, InboxActor, WorkChannel
from raft_actors.measures import Measures
from raft_actors.protocol.effects import Compact, Load, Persist, Send
from raft_actors.protocol.events import EntriesLoaded, Persisted, SnapshotRecorded
from raft_actors.protocol.types import Ballot, LogPosition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from raft_actors.log_store import LogStore
    from raft_actors.protocol.events import Event

__all__ = ["Job", "LogWriter", "Writer"]

SLICE = 1000
"""How many compacted entries are dropped from the disk at a time: no commit waits for more."""
NOTE_INTERVAL = 0.02
"""Seconds between two rewritings of the durable mark."""


class Job(NamedTuple):
    """A batch for the disk, and the messages that may leave when it is there."""

    persist: Persist
    sends: tuple[Send, ...]


class Writer:
    """Performs jobs and loads against a store.

    Args:
        store: the peer's store.
        ballot: the ballot it holds.
        last: the end of the log it holds.
        send: hands a message to the transport.
        report: tells the peer what happened.
        measures: where it says how long each transaction takes; ``None``: nobody looks.

    Attributes:
        commits: how many transactions it made durable.
        untrimmed: the disk still has entries that were compacted: call ``trim`` when there is time.
    """

    def __init__(
        self,
        store: LogStore,
        ballot: Ballot,
        last: LogPosition,
        send: Callable[[Send], None],
        report: Callable[[Event], object],
        measures: Measures | None = None,
    ) -> None:
        self.store = store
        self._ballot = ballot
        self._last = last
        self._send = send
        self._report = report
        self._measures = measures or Measures()
        self.commits = 0
        self.untrimmed = True  # the last run may have left some

    def perform(self, items: Sequence[Job | Load | Compact]) -> None:
        """Do everything that was queued, jobs first, as far as no snapshot overtakes another.

        Raises:
            PeerFailed: the disk failed; nothing of the failed transaction has left.
        """
        begin = 0
        for number, item in enumerate(items):
            if isinstance(item, Job) and item.persist.snapshot is not None:
                self._perform_in_any_order(items[begin:number])
                begin = number
        self._perform_in_any_order(items[begin:])

    def _perform_in_any_order(self, items: Sequence[Job | Load | Compact]) -> None:
        for group in _transactions([item for item in items if isinstance(item, Job)]):
            self._commit(group)
        for item in items:
            if isinstance(item, Load):
                self._load(item)
            elif isinstance(item, Compact):
                self._compact(item)

    def _commit(self, group: Sequence[Job]) -> None:
        self._write(group)
        self.commits += 1
        for job in group:
            for send in job.sends:
                self._send(send)
        self._note(group)
        self._report(Persisted(self._ballot, self._last))

    def _write(self, group: Sequence[Job]) -> None:
        measures = self._measures
        measures.sync_since = began = time.perf_counter()
        try:
            self.store.write([job.persist for job in group], note=False)
            measures.syncs.observe(time.perf_counter() - began)
        finally:
            measures.sync_since = 0.0

    def _note(self, group: Sequence[Job]) -> None:
        for job in group:
            persist = job.persist
            if persist.ballot is not None:
                self._ballot = persist.ballot
            if persist.entries:
                newest = persist.entries[-1]
                self._last = LogPosition(newest.term, newest.index)
            if persist.snapshot is not None:
                self._last = self.store.last
                self.untrimmed = True

    def _load(self, load: Load) -> None:
        entries = self.store.read(load.first, load.last, load.max_bytes)
        self._report(EntriesLoaded(load.reader, load.first, entries))

    def _compact(self, compact: Compact) -> None:
        self.store.compact(
            compact.snapshot,
            through=compact.through,
            configuration_index=compact.configuration_index,
            configuration=compact.configuration,
        )
        self.untrimmed = True
        self._report(SnapshotRecorded(compact.snapshot.id))

    def trim(self) -> bool:
        """Drop some compacted entries from the disk; returns whether there are more.

        Raises:
            PeerFailed: the disk failed.
        """
        self.untrimmed = self.store.trim(SLICE)
        return self.untrimmed


def _transactions(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Cut ``jobs`` before each one that truncates or installs."""
    group: list[Job] = []
    for job in jobs:
        persist = job.persist
        if group and (persist.truncate_from is not None or persist.snapshot is not None):
            yield group
            group = []
        group.append(job)
    if group:
        yield group


class LogWriter(InboxActor):
    """The thread of a ``Writer``.

    Args:
        name: the peer.
        writer: what runs.
        failed: told the exception that ends this peer.
        owner: takes what Pykka sends to us, since only the whole peer can stop.
    """

    def __init__(
        self,
        name: str,
        writer: Writer,
        *,
        failed: Callable[[BaseException], None],
        owner: Callable[[Envelope[Any]], None],
    ) -> None:
        self.channel = WorkChannel(owner)
        super().__init__(self.channel)
        self.name = name
        self.discard = False
        self._writer = writer
        self._noted = 0
        self._note_due = 0.0
        self._failed = failed

    def __str__(self) -> str:
        return f"raft-writer-{self.name}"

    def on_receive(self, message: Any) -> None:
        """Perform what is queued; after an error of the disk, nothing more (BUG-17)."""
        items = self.channel.take()
        try:
            self._perform(items)
            self._note()
            self._trim()
        except BaseException as error:  # noqa: BLE001 - told to the peer, which stops
            self.channel.close()
            self._failed(error)
        if self.channel.closed:
            self._close_store()
            self.finish()

    def _perform(self, items: list[Any]) -> None:
        work = list(itertools.takewhile(lambda item: item is not FINISH, items))
        if work and not self.discard:
            self._writer.perform(work)
        if len(work) < len(items):
            self.channel.close()

    def _note(self) -> None:
        """Let the durable mark follow, at most every ``NOTE_INTERVAL``: it may lag, and nobody waits for it."""
        if self.channel.closed or self._noted == self._writer.commits:
            self.channel.deadline = NEVER
            return
        now = time.monotonic()
        if now < self._note_due:
            self.channel.deadline = self._note_due
            return
        self._writer.store.note()
        self._noted, self._note_due, self.channel.deadline = self._writer.commits, now + NOTE_INTERVAL, NEVER

    def _trim(self) -> None:
        """Drop a slice of what was compacted, and come back at once for whatever was queued meanwhile."""
        if self._writer.untrimmed and not self.channel.closed:
            self.channel.deadline = 0.0 if self._writer.trim() else self.channel.deadline

    def _close_store(self) -> None:
        try:
            self._writer.store.close(clean=not self.discard)
        except BaseException as error:  # noqa: BLE001 - told to the peer, which stops
            self._failed(error)
