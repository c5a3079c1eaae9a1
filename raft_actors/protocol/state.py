"""Everything the rules know about one peer. Roles are types, not flags: what belongs to a role dies with it.

Deadlines are plain numbers on the monotonic clock; ``behaviours.deadlines.next_deadline`` tells the shell when to wake.

Paper: Figure 2 ("State"), Figure 4 (roles).
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from raft_actors.protocol.beginnings import Bootstrap, Forming, Joining, Reserved
from raft_actors.protocol.changes import Change
from raft_actors.protocol.configuration import NO_CONFIGURATION, Configuration, Goal, Member
from raft_actors.protocol.log import Log
from raft_actors.protocol.progress import Progress
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.protocol.types import Ballot, LogPosition, Settings

__all__ = [
    "NEVER",
    "Bootstrap",
    "Candidate",
    "Drift",
    "Follower",
    "Forming",
    "Joining",
    "Handing",
    "Leader",
    "PeerState",
    "PendingRead",
    "PreCandidate",
    "Preparing",
    "ReadRound",
    "Receiving",
    "Reserved",
    "Role",
    "Round",
    "Transfer",
]

NEVER = float("inf")
"""A deadline that does not come."""
LONG_AGO = float("-inf")
"""A time before all contact."""


class Follower(Struct, frozen=True):
    """Follows a leader, or waits for one.

    Attributes:
        election_deadline: when to stand, or to forget the leader, unless it is heard before. ``NEVER`` while
            unconfigured, and when removed.
        forgiven: one late wake-up was put down to a busy process instead of a dead leader.
        resting: its leader says nothing as long as nothing happens (``behaviours.resting``).
        in_vain: how often it stood since it heard a leader (``behaviours.patience``).
    """

    election_deadline: float = NEVER
    forgiven: bool = False
    resting: bool = False
    in_vain: int = 0


class PreCandidate(Struct, frozen=True):
    """Asks whether an election could be won before it disturbs anybody. Thesis: §9.6.

    ``in_vain`` as for a follower, this time included; a candidate goes on with the same number.
    """

    resting: ClassVar[bool] = False
    votes: frozenset[str]
    refusals: frozenset[str]
    election_deadline: float
    in_vain: int = 0


class Candidate(Struct, frozen=True):
    """Stands for election in its term; its own vote counts only when it is on disk."""

    resting: ClassVar[bool] = False
    votes: frozenset[str]
    refusals: frozenset[str]
    election_deadline: float
    in_vain: int = 0


class ReadRound(Struct, frozen=True):
    """A ReadIndex round under way: the reads it will answer when a quorum confirmed ``number``."""

    number: int
    index: int
    reads: tuple[PendingRead, ...]


class PendingRead(Struct, frozen=True):
    """Reads that wait together. ``token`` for callers of this peer; ``request`` of ``peer`` for those of a follower."""

    token: int = 0
    peer: str = ""
    request: int = 0
    lease: bool = False


class Transfer(Struct, frozen=True):
    """Leadership is being handed to ``target`` until ``deadline``; no new writes meanwhile."""

    target: str
    deadline: float
    sent: bool = False


class Preparing(Struct, frozen=True):
    """A change that the leader was asked for and has not begun: newcomers are to introduce themselves first.

    Attributes:
        token: whom to answer; 0: a peer that joins by itself.
        change: what is wanted.
        asked: names of those who are asked.
        known: those who have answered.
        deadline: when to give up.
        retry: when to ask again who has not answered.
    """

    token: int
    change: Change
    asked: tuple[str, ...]
    known: dict[str, Member]
    deadline: float
    retry: float


class Round(Struct, frozen=True):
    """A newcomer is being brought up to date: up to ``until`` in this round. Thesis: §4.2.1.

    Attributes:
        until: where the leader's log ended when the round began.
        since: when that was.
        ready: a round took less than an election timeout: the newcomer is within reach.
    """

    until: int
    since: float
    ready: bool = False


class Leader(Struct, frozen=True):
    """Leads its term.

    Attributes:
        progress: of every other member, by name.
        first_index: index of this term's no-op; reads wait until it is committed (paper §8, BUG-22).
        heartbeat_deadline: when the next heartbeats leave.
        quorum_deadline: when contact with a quorum is checked next.
        news_deadline: when followers are told a commit index that no entry carried to them.
        round: number of the newest ReadIndex round that left.
        reading: the round under way.
        round_deadline: when the round under way is put to everybody, not only to a quorum.
        queued_reads: reads that wait for the next round.
        unsynced: newest index of the oldest batch the disk still owes us, 0 if none.
        unsynced_since: when the disk began to owe it.
        transfer: a hand-over under way.
        lease_given_up: a hand-over was tried, or this peer slept: no lease reads for the rest of the term.
        preparing: a change of the configuration that has not begun.
        callers: ``(token, goal)`` of those who wait for a change that has.
        rounds: of the newcomers that are brought up to date.
        stuck_since: since when a change could take no step.
        told: index of the configuration whose former members were told that they are out.
        leaving: it is no voter any more, and hands over.
        drift_at: when to look next whether leadership should drift to a peer of higher priority.
        drift_mark: where the log ended at the last look; 0 before the first.
        moved: addresses of members that are reached elsewhere than the configuration says, by name.
        offered_at: when all were offered to rest first; nothing has happened since.
        resting: all took it: nobody is told anything, until something happens.
    """

    in_vain: ClassVar[int] = 0
    progress: dict[str, Progress]
    first_index: int
    heartbeat_deadline: float
    quorum_deadline: float
    news_deadline: float = NEVER
    round: int = 0
    reading: ReadRound | None = None
    round_deadline: float = NEVER
    queued_reads: tuple[PendingRead, ...] = ()
    unsynced: int = 0
    unsynced_since: float = NEVER
    transfer: Transfer | None = None
    lease_given_up: bool = False
    preparing: Preparing | None = None
    callers: tuple[tuple[int, Goal], ...] = ()
    rounds: dict[str, Round] = {}
    stuck_since: float = NEVER
    told: int = 0
    leaving: bool = False
    drift_at: float = NEVER
    drift_mark: int = 0
    moved: dict[str, str] = {}
    offered_at: float = LONG_AGO
    resting: bool = False


Role = Follower | PreCandidate | Candidate | Leader


class Handing(Struct, frozen=True):
    """A caller waits for somebody else to lead. It outlives the leadership: who was elected is known only after it.

    Attributes:
        token: whom to answer.
        target: who is to lead, or ``None``: whoever can.
        deadline: when to give up.
        term: of the leadership that is to end.
        tried: to whom it was handed so far; if that has not ended, to the last one.
        sent: one of them was told to stand.
    """

    token: int
    target: str | None
    deadline: float
    term: int
    tried: tuple[str, ...] = ()
    sent: bool = False


class Drift(Struct, frozen=True, gc=False):
    """The last time that this peer, as leader, handed over to one of higher priority. It outlives the leadership, too.

    Attributes:
        tried_at: when that was.
        pause: seconds for which it does not do so again.
    """

    tried_at: float = LONG_AGO
    pause: float = 0.0


class Receiving(Struct, frozen=True):
    """A snapshot that arrives piece by piece from the leader of the current term.

    Attributes:
        id: which snapshot.
        size: bytes of its file.
        received: bytes of it that are in the file here.
        storing: a piece is being stored; others wait outside.
    """

    id: str
    size: int
    received: int = 0
    storing: bool = False


class PeerState(Struct, frozen=True, kw_only=True):
    """One peer.

    Attributes:
        name: its registered name.
        incarnation: identity of its store.
        settings: timeouts and bounds.
        address: where others reach it, ``""`` if it is known in its process only.
        rests: its transport vouches for peers that rest (``behaviours.resting``).
        cluster: id of its cluster, ``""`` while unconfigured.
        ballot: current term and vote; on disk before anything that depends on it leaves.
        term_unsynced: the current term is not on disk yet, so a restart could take this peer back to an older one.
        log: its log.
        configurations: ``(index, configuration)`` ascending; the last one counts, from the moment it is appended.
        commit_index: highest index known to be committed.
        handed: highest index handed to the machine; never above what is committed and locally durable (BUG-03).
        last_applied: highest index the machine reported back.
        time: replicated time of the newest entry.
        leader: whom it believes to lead the current term.
        heard_at: when it last heard from that leader (stickiness; thesis §4.2.3).
        no_vote_until: it has promised to grant no vote before (lease reads).
        role: follower, pre-candidate, candidate or leader.
        applying: last index of each batch that the machine has and did not report back.
        loading: a read of entries for the machine is under way.
        forwarded: ``(request, token)`` of reads that the leader was asked about, in order.
        next_request: number of the next such request.
        asked_at: when it asked for the oldest of them.
        confirmed_reads: ``(index, token)`` of reads that wait only for ``handed``.
        snapshot: its newest durable snapshot.
        unsaved_bytes: bytes of the entries handed to the machine since a snapshot was taken last.
        capturing: the snapshot that is being taken will cover this position.
        snapshot_wanted: a snapshot of this index or later is wanted before the usual time.
        no_snapshot_before: after a failure: no snapshot is taken before so much is handed to the machine,
        snapshot_retry: or, if somebody wants one, before that time.
        snapshot_callers: ``(index, token)`` of those who wait for a durable snapshot of at least that index.
        receiving: a snapshot that arrives from the leader.
        restoring: a snapshot that the log goes on from and the machine does not know yet.
        restored: its state is in memory, beside the machine.
        joining: it asks members of a cluster to let it in.
        bootstrap: it looks for peers to form a cluster with.
        removed: it was told that it is no member since the configuration of this index; 0 if it was not.
        formation: a formation of a new cluster it takes part in.
        formed: token of the caller to tell when the first configuration commits, 0 if none.
        handing: a caller waits for somebody else to lead.
        drift: when leadership drifted to a peer of higher priority last.
        stopping: when a graceful stop gives up handing over; ``NEVER`` if none was asked for.
        stop_index: newest entry when a leader was asked for it: its callers wait for those up to it.
        stop_after_snapshot: ``(latest, end)``: a graceful stop that has to end by ``end`` begins once the snapshot that
            makes the restart faster is durable, and at ``latest`` without it.
    """

    name: str
    incarnation: str
    settings: Settings
    address: str = ""
    rests: bool = False
    cluster: str = ""
    ballot: Ballot = Ballot()
    term_unsynced: bool = False
    log: Log = Log()
    configurations: tuple[tuple[int, Configuration], ...] = ()
    commit_index: int = 0
    handed: int = 0
    last_applied: int = 0
    time: float = 0.0
    leader: str | None = None
    heard_at: float = LONG_AGO
    no_vote_until: float = LONG_AGO
    role: Role = Follower()
    applying: tuple[int, ...] = ()
    loading: bool = False
    forwarded: tuple[tuple[int, int], ...] = ()
    next_request: int = 1
    asked_at: float = LONG_AGO
    confirmed_reads: tuple[tuple[int, int], ...] = ()
    snapshot: Snapshot | None = None
    unsaved_bytes: int = 0
    capturing: LogPosition | None = None
    snapshot_wanted: int = 0
    no_snapshot_before: int = 0
    snapshot_retry: float = LONG_AGO
    snapshot_callers: tuple[tuple[int, int], ...] = ()
    receiving: Receiving | None = None
    restoring: Snapshot | None = None
    restored: bool = False
    joining: Joining | None = None
    bootstrap: Bootstrap | None = None
    removed: int = 0
    formation: Forming | Reserved | None = None
    formed: int = 0
    handing: Handing | None = None
    drift: Drift = Drift()
    stopping: float = NEVER
    stop_index: int = 0
    stop_after_snapshot: tuple[float, float] | None = None

    @property
    def configuration(self) -> Configuration:
        """The configuration that counts: the newest in the log, committed or not. Paper: §6."""
        return self.configurations[-1][1] if self.configurations else NO_CONFIGURATION

    @property
    def configuration_index(self) -> int:
        """Where the configuration that counts stands in the log, 0 if there is none."""
        return self.configurations[-1][0] if self.configurations else 0

    def address_of(self, name: str | None) -> str:
        """Where a member is reached, ``""`` in this process; of others nothing is known here."""
        member = self.configuration.members().get(name) if name is not None else None
        return "" if member is None else member.address

    @property
    def snapshot_index(self) -> int:
        """What the newest durable snapshot covers, 0 if there is none."""
        return self.snapshot.last.index if self.snapshot is not None else 0

    @property
    def lacks_state(self) -> bool:
        """Whether the machine's state before the log is lost here: only a snapshot of the leader can bring it back."""
        return self.handed < self.log.previous.index and self.restoring is None

    @property
    def term(self) -> int:
        """The current term."""
        return self.ballot.term
