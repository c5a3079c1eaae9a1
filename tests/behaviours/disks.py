"""The disk of a peer on the bench: a log with a beginning, a ballot, and files of snapshots.

The file of a snapshot is a few bytes made from its id, so that two that were mixed are noticed; the state in it is kept
beside, as the entries that were applied.
"""

from __future__ import annotations

from raft_actors.protocol.configuration import NO_CONFIGURATION, Configuration, decode
from raft_actors.protocol.effects import Compact, Load, Persist
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.log import Log, recovered
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.protocol.types import NOWHERE, Ballot, LogPosition

FILE_BYTES = 10
"""Size of the file of every snapshot."""


class Broken(AssertionError):
    """A safety property does not hold."""


def contents(id: str) -> bytes:  # noqa: A002
    """The bytes in the file of a snapshot."""
    return (id.encode() * FILE_BYTES)[:FILE_BYTES]


class Disk:
    """What survives a crash."""

    def __init__(self) -> None:
        self.ballot = Ballot()
        self.cluster = ""
        self.previous = NOWHERE
        self.before: tuple[int, Configuration] = (0, NO_CONFIGURATION)
        self.entries: list[Entry] = []
        self.snapshot: Snapshot | None = None
        self.files: dict[str, tuple[Entry, ...]] = {}

    def write(self, batch: Persist | Compact) -> None:
        if isinstance(batch, Compact):
            self._compact(batch)
            return
        if batch.ballot is not None:
            self.ballot = batch.ballot
        if batch.cluster:
            self.cluster = batch.cluster
        if batch.snapshot is not None:
            self._install(batch.snapshot)
        if batch.truncate_from is not None:
            del self.entries[batch.truncate_from - 1 - self.previous.index :]
        self.entries.extend(batch.entries)
        first = self.previous.index + 1
        if [entry.index for entry in self.entries] != list(range(first, first + len(self.entries))):
            raise Broken("the log on disk has a hole")

    def _compact(self, batch: Compact) -> None:
        if batch.snapshot.id not in self.files:
            raise Broken(f"the log is cut behind {batch.snapshot.id}, which has no file (BUG-53)")
        self.snapshot = batch.snapshot
        self._forget_older_files()
        if batch.through > self.previous.index:
            last = self.entries[batch.through - self.previous.index - 1]
            self._begin_after(LogPosition(last.term, last.index), batch.configuration_index, batch.configuration)

    def _install(self, snapshot: Snapshot) -> None:
        if snapshot.id not in self.files:
            raise Broken(f"{snapshot.id} is installed, but has no file")
        self.snapshot = snapshot
        if not any((entry.term, entry.index) == (snapshot.last.term, snapshot.last.index) for entry in self.entries):
            self.entries = []
        self._forget_older_files()
        self._begin_after(snapshot.last, snapshot.configuration_index, snapshot.configuration)

    def _begin_after(self, position: LogPosition, index: int, configuration: Configuration) -> None:
        self.entries = [entry for entry in self.entries if entry.index > position.index]
        self.previous, self.before = position, (index, configuration)

    def _forget_older_files(self) -> None:
        newest = self.snapshot.last.index if self.snapshot is not None else 0
        self.files = {name: entries for name, entries in self.files.items() if len(entries) >= newest}

    def read(self, load: Load) -> tuple[Entry, ...]:
        """Entries within the bounds of ``load``, at least one; none if they were cut off."""
        found: list[Entry] = []
        before = self.previous.index
        if load.first <= before:
            return ()
        for entry in self.entries[load.first - 1 - before : load.last - before]:
            if found and sum(len(one.data) for one in (*found, entry)) > load.max_bytes:
                break
            found.append(entry)
        return tuple(found)

    @property
    def last(self) -> LogPosition:
        return LogPosition(self.entries[-1].term, self.entries[-1].index) if self.entries else self.previous

    def log(self) -> Log:
        runs: list[tuple[int, int]] = []
        for entry in self.entries:
            if not runs or runs[-1][1] != entry.term:
                runs.append((entry.index, entry.term))
        return recovered(self.previous, self.last, tuple(runs))

    def configurations(self) -> tuple[tuple[int, Configuration], ...]:
        known = (self.before,) if self.before[1] else ()
        later = tuple((one.index, decode(one.data)) for one in self.entries if one.kind is EntryKind.CONFIGURATION)
        return known + later

    def time(self) -> float:
        if self.entries:
            return self.entries[-1].time
        return self.snapshot.time if self.snapshot is not None else 0.0
