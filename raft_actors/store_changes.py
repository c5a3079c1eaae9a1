"""What one write of a log store comes to: several effects as one, the meta that it changes, and whether it may."""

from __future__ import annotations

from collections.abc import Sequence

from raft_actors.errors import Incompatible, InvariantViolated
from raft_actors.protocol.effects import Persist
from raft_actors.protocol.entry import Entry
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.protocol.types import Ballot, LogPosition
from raft_actors.store_meta import Identity, ballot_value, cluster_value

__all__ = ["changed_meta", "merged", "require_following", "require_newer"]


def merged(persists: Sequence[Persist]) -> Persist:
    """Return one effect that does what all of them do, in their order.

    Raises:
        InvariantViolated: another than the first truncates or installs.
    """
    if len(persists) == 1:
        return persists[0]
    ballot, cluster = None, ""
    entries: list[Entry] = []
    for number, persist in enumerate(persists):
        if number and (persist.truncate_from is not None or persist.snapshot is not None):
            raise InvariantViolated("only the first of the writes that are merged may truncate or install")
        ballot = persist.ballot or ballot
        cluster = persist.cluster or cluster
        entries += persist.entries
    first = persists[0] if persists else Persist()
    return Persist(ballot, first.truncate_from, tuple(entries), cluster, first.snapshot)


def changed_meta(change: Persist, ballot: Ballot, identity: Identity, where: str) -> dict[str, bytes]:
    """Return the meta that stores the ballot and the cluster of ``change``, if they are new.

    Args:
        change: what is to be written.
        ballot: what the store holds.
        identity: whose store it is.
        where: the store, for messages.

    Raises:
        InvariantViolated: the ballot goes back.
        Incompatible: the store belongs to another cluster.
    """
    meta: dict[str, bytes] = {}
    if change.ballot is not None and change.ballot != ballot:
        _require_later(change.ballot, ballot, where)
        meta |= ballot_value(change.ballot)
    if change.cluster and change.cluster != identity.cluster:
        if identity.cluster:
            raise Incompatible(
                f"{where} belongs to cluster {identity.cluster!r}, not to {change.cluster!r}",
                advice="give the peer another data_dir if it is to join that cluster",
            )
        meta |= cluster_value(change.cluster)
    return meta


def _require_later(ballot: Ballot, ours: Ballot, where: str) -> None:
    """A term never goes back, and a vote is given once in it. Paper: §5.2, Figure 2."""
    if ballot.term < ours.term or (ballot.term == ours.term and ours.voted_for is not None):
        raise InvariantViolated(f"{where} holds {ours}, and {ballot} cannot replace it")


def require_following(entry: Entry, last: LogPosition, where: str) -> None:
    """A log has no gaps, and its terms never go back. Paper: §5.3.

    Raises:
        InvariantViolated: ``entry`` cannot follow ``last``.
    """
    if entry.index != last.index + 1 or entry.term < last.term:
        raise InvariantViolated(
            f"{where} ends at index {last.index} of term {last.term}, "
            f"entry {entry.index} of term {entry.term} cannot follow"
        )


def require_newer(snapshot: Snapshot, base: LogPosition, recorded: Snapshot | None, where: str) -> None:
    """A log never goes back; only one that has lost its state takes a snapshot of its very beginning.

    Args:
        snapshot: what is to be installed.
        base: the log begins after it.
        recorded: what the log goes on from, ``None`` if there is nothing (any more).
        where: the store, for messages.

    Raises:
        InvariantViolated: the snapshot is too old.
    """
    first = base.index + 1 if recorded is not None else max(1, base.index)
    if snapshot.last.index < first or snapshot.last.term < base.term:
        raise InvariantViolated(f"{where} begins after {base}, {snapshot} cannot take its place")
