"""What a peer is when it comes back: a follower of nobody, with what its disk has and no more.

The commit index starts at nothing: what was committed is learned again from the leader (BUG-13, BUG-16, BUG-23).

Paper: Figure 2 (persistent and volatile state).
"""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.behaviours.transition import election_deadline, may_stand
from raft_actors.protocol.configuration import Configuration, has_quorum
from raft_actors.protocol.log import Log
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.protocol.state import LONG_AGO, Bootstrap, Follower, Joining, PeerState
from raft_actors.protocol.types import Ballot, Moment, Settings

__all__ = ["recover"]


def recover(
    *,
    name: str,
    incarnation: str,
    settings: Settings,
    cluster: str,
    ballot: Ballot,
    log: Log,
    configurations: tuple[tuple[int, Configuration], ...],
    time: float,
    moment: Moment,
    snapshot: Snapshot | None = None,
    joining: Joining | None = None,
    bootstrap: Bootstrap | None = None,
    address: str = "",
) -> PeerState:
    """The state after a start.

    With lease reads, a promise given before the restart may still bind: no vote is granted, and none asked for, until
    the longest promise has run out. ReadIndex requests are numbered from clock and dice on: an answer to one of before
    the restart must not be taken for one to one of now: its index may be too old. A peer that is a quorum by itself
    stands at once.

    Args:
        name: the peer.
        incarnation: identity of its store.
        settings: timeouts and bounds.
        cluster: id of its cluster, ``""`` if it has none.
        ballot: from disk.
        log: from disk, all durable.
        configurations: in the log.
        time: replicated time of the newest entry.
        moment: now.
        snapshot: the one whose state the machine has; ``None``: its first state, or none if the log was cut.
        joining: whom it is to ask to let it in, unless by its log it is a member, or was removed.
        bootstrap: with whom it is to form a cluster, unless it belongs to one.
        address: where it is reached from now on.
    """
    known = snapshot.last.index if snapshot is not None else 0
    state = PeerState(
        name=name,
        incarnation=incarnation,
        settings=settings,
        address=address,
        cluster=cluster,
        ballot=ballot,
        log=log,
        configurations=configurations,
        time=time,
        commit_index=max(known, log.previous.index),
        handed=known,
        last_applied=known,
        snapshot=snapshot,
        next_request=int(moment.now * 1e9 + moment.jitter * 1e6),
        joining=None if _has_place(configurations, name, incarnation) else joining,
        bootstrap=None if cluster else bootstrap,
        no_vote_until=moment.now + settings.min_election_timeout if settings.lease_reads and cluster else LONG_AGO,
    )
    alone = has_quorum(state.configuration, (name,)) and may_stand(state)
    return replace(state, role=Follower(moment.now if alone else election_deadline(state, moment)))


def _has_place(configurations: tuple[tuple[int, Configuration], ...], name: str, incarnation: str) -> bool:
    """Whether this store is a member by its log, or has voted once: then it was removed on purpose."""
    known = [one for _, one in configurations if one.has(name, incarnation)]
    return any(one.is_voter(name) for one in known) or (bool(known) and known[-1] is configurations[-1][1])
