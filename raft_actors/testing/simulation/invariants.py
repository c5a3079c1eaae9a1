"""What must hold after every step of every peer, checked against what the simulator itself has seen.

Nothing here trusts a peer's own bookkeeping: logs are mirrored from what is given to the disks, disks are read from
their bytes, and a quorum is counted on the disks. Checks are incremental: a step that changed nothing costs a
comparison of identities.

The sentences are in ``docs/invariants.md``, under the names with which violations begin.

Paper: Figure 3. Thesis: chapter 3, §10.2.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from raft_actors.protocol.configuration import NO_CONFIGURATION, Configuration
from raft_actors.protocol.entry import EntryKind
from raft_actors.protocol.events import Event, Received
from raft_actors.protocol.messages import (
    AppendEntries,
    AppendEntriesReply,
    InstallSnapshotReply,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
)
from raft_actors.protocol.state import Leader, PeerState
from raft_actors.testing.simulation.membership import require_step
from raft_actors.testing.simulation.world import Violated
from storage_adapters import Batch

if TYPE_CHECKING:
    from raft_actors.protocol.effects import Persist
    from raft_actors.protocol.entry import Entry
    from raft_actors.protocol.snapshot import Snapshot
    from raft_actors.testing.simulation.disk import Disk
    from raft_actors.testing.simulation.node import Node

__all__ = ["Invariants", "deciding"]


_REPLIES = (AppendEntriesReply, InstallSnapshotReply)


class Invariants:
    """The all-knowing observer.

    Attributes:
        committed: every committed entry, in order.
        disks: every medium there ever was, by incarnation, the wiped ones included.
        entries: every entry there ever was, by index and term, with the term of its predecessor.
        on_commit: told each newly committed entry.
    """

    def __init__(self) -> None:
        self.committed: list[Entry] = []
        self.disks: dict[str, Disk] = {}
        self.entries: dict[tuple[int, int], tuple[int, Entry]] = {}
        self.on_commit: Callable[[Entry], None] = lambda entry: None
        self._checksums: dict[tuple[int, int], int] = {}
        self._leaders: dict[int, str] = {}
        self._votes: dict[tuple[str, int], str] = {}
        self._terms: dict[str, int] = {}
        self._elected: list[PeerState] = []
        self._committed_in: list[int] = []
        self._cluster = b""
        self._committed_by = NO_CONFIGURATION

    def terms_of(self, name: str | None) -> list[int]:
        """The terms that a peer was elected for."""
        return [term for term, leader in self._leaders.items() if leader == name]

    # -- after each step -----------------------------------------------------------------------------------------------

    def stepped(self, node: Node, event: Event, before: PeerState, after: PeerState) -> None:
        """A peer took a step."""
        if after is before:
            return
        if (
            after.commit_index < before.commit_index
            or after.handed < before.handed
            or after.last_applied < before.last_applied
            or after.ballot.term < before.ballot.term
        ):
            raise Violated("nothing goes back", f"{node.name}: {progress_of(before)} -> {progress_of(after)}")
        log = after.log
        if log is not before.log:
            mirror = node.mirror
            if log.last.index != len(mirror) or (mirror and log.last.term != mirror[-1].term):
                raise Violated("effect order", f"{node.name}: the log ends at {log.last}, but that is not persisted")
            if log.runs is not before.log.runs or log.last.index < before.log.last.index:
                self._knows_its_terms(node, after)
            durable = log.durable
            if durable and node.disk.term_at(durable) != mirror[durable - 1].term:
                raise Violated("effect order", f"{node.name} takes {durable} for durable, its disk has something else")
        if after.commit_index != before.commit_index:
            self._commits(node, after, deciding(before, after))
        role = after.role
        if isinstance(role, Leader):
            if type(before.role) is not Leader:
                self._leads(node, after)
            elif type(event) is Received and type(event.message) in _REPLIES:
                self._believes(node, before.role, after, event.message.sender)

    def _knows_its_terms(self, node: Node, state: PeerState) -> None:
        """What a log in memory says of terms is what was given to the disk, also where something was cut off."""
        mirror = node.mirror
        for first, term in state.log.runs:
            begins = first <= len(mirror) and mirror[first - 1].term == term
            if not begins or (first > state.log.first and mirror[first - 2].term == term):
                what = f"{node.name} knows its terms as {state.log.runs}, term {term} does not begin there"
                raise Violated("log matching", what)

    def _commits(self, node: Node, state: PeerState, configuration: Configuration) -> None:
        index, mirror, committed = state.commit_index, node.mirror, self.committed
        known = min(index, len(committed))
        if index > len(mirror):
            raise Violated("commit rule", f"{node.name} commits {index}, its log ends at {len(mirror)}")
        if known and mirror[known - 1] != committed[known - 1]:
            what = f"{node.name} commits {mirror[known - 1]}, {committed[known - 1]} was committed there"
            raise Violated("state machine safety", what)
        if isinstance(state.role, Leader):
            self._require_commit_rule(node, state, configuration)
        elif index > known:
            raise Violated("commit rule", f"{node.name}, no leader, commits {index}; leaders only {known}")
        for entry in mirror[known:index]:
            committed.append(entry)
            self._committed_in.append(state.term)
            self._committed_by = configuration
            self.on_commit(entry)
        if index > known:
            self._require_completeness(state)

    def _require_commit_rule(self, node: Node, state: PeerState, configuration: Configuration) -> None:
        index = state.commit_index
        term = node.mirror[index - 1].term
        if term != state.term:
            raise Violated("commit rule", f"{node.name} of term {state.term} commits up to {index} of term {term}")
        if not self._on_quorum(configuration, index, term):
            holders = [f"{d.name} {len(d.terms)}" for d in self.disks.values()]
            what = f"{node.name} commits {index} of term {term}, disks end at {', '.join(holders)}"
            raise Violated("durable commits", what)

    def _on_quorum(self, configuration: Configuration, index: int, term: int) -> bool:
        return self.quorum(configuration, lambda disk: disk.term_at(index) == term)

    def quorum(self, configuration: Configuration, holds: Callable[[Disk], bool]) -> bool:
        """Whether this is true of a quorum of the disks of a configuration."""
        for half in (configuration.voters, configuration.outgoing):
            count = 0
            for member in half:
                disk = self.disks.get(member.incarnation)
                if disk is not None and holds(disk):
                    count += 1
            if half and 2 * count <= len(half):
                return False
        return bool(configuration.voters)

    def _leads(self, node: Node, state: PeerState) -> None:
        term = state.term
        if self._leaders.setdefault(term, node.name) != node.name:
            raise Violated("election safety", f"{self._leaders[term]} and {node.name} lead term {term}")
        if not self.quorum(state.configuration, lambda disk: self._votes.get((disk.incarnation, term)) == node.name):
            raise Violated("election safety", f"{node.name} leads term {term} without votes on a quorum of disks")
        self._require_complete(node, state)
        self._elected.append(state)

    def _require_complete(self, node: Node, state: PeerState) -> None:
        """What was committed in its term or before; by log matching the last entry stands for all before it."""
        index = len(self.committed)
        while index and self._committed_in[index - 1] > state.term:
            index -= 1
        if index and (len(node.mirror) < index or node.mirror[index - 1].term != self.committed[index - 1].term):
            what = f"{node.name} leads term {state.term} without {self.committed[index - 1]}"
            raise Violated("leader completeness", what)

    def _require_completeness(self, leader: PeerState) -> None:
        """A leader commits late, when others were elected since: they must have it all the same."""
        entry = self.committed[-1]
        for state in reversed(self._elected):
            if state.term <= leader.term:
                return
            log = state.log
            if log.last.index < entry.index or log.term_at(entry.index) not in (entry.term, None):
                raise Violated("leader completeness", f"{state.name} was elected in term {state.term} without {entry}")

    def _believes(self, node: Node, before: Leader, state: PeerState, follower: str) -> None:
        role = state.role
        member = state.configuration.members().get(follower)
        if not isinstance(role, Leader) or member is None or follower not in role.progress:
            return
        match, known = role.progress[follower].match_index, before.progress[follower].match_index
        if match < known:
            raise Violated("match index", f"{node.name} takes {follower} back from {known} to {match}")
        disk = self.disks.get(member.incarnation)
        if not match or disk is None or disk.ballot.term > state.term:
            return
        if match > len(disk.terms) or disk.terms[match - 1] != node.mirror[match - 1].term:
            what = f"{node.name} takes {follower} to match up to {match}, its disk ends at {len(disk.terms)}"
            raise Violated("match index", what)

    # -- what leaves a peer --------------------------------------------------------------------------------------------

    def leaves(self, node: Node, to: str, message: Any) -> None:
        """A message leaves: what it promises must be on disk."""
        kind, disk = type(message), node.disk
        if kind in _REPLIES:
            if not getattr(message, "success", True) or not message.match_index:
                return  # it only says: I am here
            if disk.ballot.term < message.term:
                what = f"{node.name} acknowledges in term {message.term}, its disk is in term {disk.ballot.term}"
                raise Violated("effect order", what)
            if message.match_index > len(disk.terms):
                what = f"{node.name} acknowledges {message.match_index}, its disk ends at {len(disk.terms)}"
                raise Violated("effect order", what)
            if disk.term_at(message.match_index) > message.term:
                what = f"{node.name} acknowledges {message.match_index} in term {message.term}, its disk is newer there"
                raise Violated("effect order", what)
        elif kind is AppendEntries:
            ballot = disk.ballot
            if ballot.term < message.term or (ballot.term == message.term and ballot.voted_for != node.name):
                raise Violated("effect order", f"{node.name} sends entries in term {message.term} without its election")
        elif kind is RequestVoteReply and message.granted:
            self._vote_leaves(node, to, message.term)
        elif kind is RequestVote:
            if disk.ballot.term < message.term:
                raise Violated("effect order", f"{node.name} stands in term {message.term}, which is not on its disk")
        elif kind is ReadIndexReply and message.index is not None and message.index > len(node.mirror):
            raise Violated("commit rule", f"{node.name} names {message.index} for a read beyond its log")

    def _vote_leaves(self, node: Node, to: str, term: int) -> None:
        ballot = node.disk.ballot
        if ballot.term < term or (ballot.term == term and ballot.voted_for != to):
            raise Violated("effect order", f"{node.name} votes for {to} in term {term}, its disk says {ballot}")
        self._vote(node.disk.incarnation, term, to)

    def _vote(self, incarnation: str, term: int, candidate: str) -> None:
        known = self._votes.setdefault((incarnation, term), candidate)
        if known != candidate:
            name = self.disks[incarnation].name
            raise Violated("one vote", f"{name} votes for {known} and for {candidate} in term {term}")

    # -- logs, disks, machines -----------------------------------------------------------------------------------------

    def persists(self, node: Node, persist: Persist) -> None:
        """A peer gives a batch to its disk; the mirror of its log follows."""
        mirror, cut = node.mirror, persist.truncate_from
        if cut is not None:
            if isinstance(node.engine.state.role, Leader):
                raise Violated("leader append-only", f"{node.name} leads and cuts its log at {cut}")
            del mirror[cut - 1 :]
        if persist.snapshot is not None:
            self._installs(node, persist.snapshot)
        before, time = (mirror[-1].term, mirror[-1].time) if mirror else (0, 0.0)
        for entry in persist.entries:
            if entry.time < time:
                raise Violated("nothing goes back", f"{node.name}: {entry} is older than the one before it, of {time}")
            if entry.index != len(mirror) + 1:
                raise Violated("log matching", f"{node.name}: entry {entry.index} after {len(mirror)}")
            if entry.kind is EntryKind.CONFIGURATION and isinstance(node.engine.state.role, Leader):
                require_step(node, entry, mirror)
            known = self.entries.setdefault((entry.index, entry.term), (before, entry))
            if known[0] != before or (known[1] is not entry and known[1] != entry):
                raise Violated("log matching", f"{node.name} has {entry} after term {before}, others have {known}")
            mirror.append(entry)
            before, time = entry.term, entry.time

    def _installs(self, node: Node, snapshot: Snapshot) -> None:
        """A snapshot takes the place of what it covers; what follows it stays, if the log holds its last entry."""
        mirror, last = node.mirror, snapshot.last
        if isinstance(node.engine.state.role, Leader):
            raise Violated("leader append-only", f"{node.name} leads and installs a snapshot of {last.index}")
        self._require_committed(node.name, snapshot)
        kept = len(mirror) >= last.index and mirror[last.index - 1].term == last.term
        mirror[: last.index if kept else len(mirror)] = self.committed[: last.index]

    def _require_committed(self, name: str, snapshot: Snapshot) -> None:
        index, term = snapshot.last.index, snapshot.last.term
        if index > len(self.committed) or self.committed[index - 1].term != term:
            raise Violated("state machine safety", f"{name} has a snapshot of {term}/{index}, which is not committed")
        known = [entry.index for entry in self.committed[:index] if entry.kind is EntryKind.CONFIGURATION]
        if snapshot.configuration_index != (known[-1] if known else 0):
            raise Violated("log matching", f"{name} has a snapshot of {index} with the configuration of another place")

    def recorded(self, disk: Disk, snapshot: Snapshot) -> None:
        """A disk records a snapshot: only then may entries go, so its file must be there for good."""
        self._require_committed(disk.name, snapshot)
        if not disk.files.is_safe(f"{snapshot.id}.snap"):
            raise Violated("durable commits", f"{disk.name} records snapshot {snapshot.id}, whose file is not synced")
        index = snapshot.last.index
        kept = disk.term_at(index) == snapshot.last.term
        covered = self.committed[:index]
        place = index if kept else len(disk.terms)
        disk.terms[:place] = [entry.term for entry in covered]
        disk.checksums[:place] = [self._checksums[entry.index, entry.term] for entry in covered]

    def adopted(self, node: Node, snapshot: Snapshot) -> None:
        """A machine is given the state of a snapshot."""
        index = snapshot.last.index
        self._require_committed(node.name, snapshot)
        if index <= node.handed:
            raise Violated("state machine safety", f"{node.name} goes back from {node.handed} to a snapshot of {index}")
        if node.disk.term_at(index) != snapshot.last.term:  # it has the entry, or has recorded the snapshot
            raise Violated("effect order", f"{node.name} adopts a snapshot of {index} that its disk does not know")
        node.handed = index

    def lost(self, node: Node) -> None:
        """A process is gone. A configuration that it made up and nobody else saw may be made up again, differently."""
        if len(node.mirror) == 1 and not any(disk.terms for disk in self.disks.values()):
            self.entries.pop((1, node.mirror[0].term), None)

    def written(self, disk: Disk, batch: Batch) -> None:
        """A batch is on a disk."""
        ballot, term = disk.ballot, self._terms.get(disk.incarnation, 0)
        if ballot.term != term:
            if ballot.term < term:
                raise Violated("nothing goes back", f"the disk of {disk.name} goes from term {term} to {ballot.term}")
            self._terms[disk.incarnation] = ballot.term
        if ballot.voted_for is not None:
            self._vote(disk.incarnation, ballot.term, ballot.voted_for)
        if batch.truncate_from is not None:
            self._cut(disk, batch.truncate_from)
        for index in range(len(disk.terms) - len(batch.entries) + 1, len(disk.terms) + 1):
            checksum = disk.checksums[index - 1]
            if self._checksums.setdefault((index, disk.terms[index - 1]), checksum) != checksum:
                raise Violated("log matching", f"the disk of {disk.name} holds another entry {index} than others do")
        if "cluster" in batch.meta:
            if self._cluster not in (b"", batch.meta["cluster"]):
                raise Violated("one cluster", f"{disk.name} joins {batch.meta['cluster']!r} beside {self._cluster!r}")
            self._cluster = batch.meta["cluster"]

    def _cut(self, disk: Disk, index: int) -> None:
        """What is committed stays on the disks of a quorum, whatever one of them drops."""
        if index > len(self.committed):
            return
        last = self.committed[-1]
        if self._committed_by and not self._on_quorum(self._committed_by, last.index, last.term):
            raise Violated("durable commits", f"{disk.name} cuts at {index}, a quorum lacks the committed {last}")

    def handed(self, node: Node, entries: Sequence[Entry]) -> None:
        """A machine is given entries."""
        first, last = entries[0].index, entries[-1].index
        if first != node.handed + 1:
            raise Violated("state machine safety", f"{node.name} is handed {first} after {node.handed}")
        if last > len(self.committed) or list(entries) != self.committed[first - 1 : last]:
            raise Violated("state machine safety", f"{node.name} is handed {first} to {last}, not what was committed")
        if node.disk.term_at(last) != entries[-1].term:
            raise Violated("state machine safety", f"{node.name} is handed {last} before its disk has it")
        node.handed = last


def deciding(before: PeerState, after: PeerState) -> Configuration:
    """The configuration by which a step decided: what a leader appends in it is appended last."""
    return before.configuration if isinstance(before.role, Leader) else after.configuration


def progress_of(state: PeerState) -> str:
    """What must not go back, in words."""
    return f"term {state.ballot.term} commit {state.commit_index} handed {state.handed} applied {state.last_applied}"
