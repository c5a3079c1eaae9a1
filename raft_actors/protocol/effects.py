"""What a step wants done. The order of effects is the durability contract.

The shell performs effects in the order returned. Everything before the first ``Persist`` of a step happens at once;
a ``Persist`` and the sends that follow it in that step go to the log writer as one job, and those sends leave only
when the disk has the batch. So "reply after sync" is written as ``(Persist(...), Send(...))`` and nothing else.

Effects that are neither ``Send`` nor ``Persist`` stay in this peer and depend on no disk: they happen at once.

Paper: Figure 2 ("updated on stable storage before responding to RPCs"). Thesis: §10.2.1 for sends before a Persist.
"""

from __future__ import annotations

import enum

from msgspec import Struct

from raft_actors.protocol.configuration import Configuration
from raft_actors.protocol.entry import Entry
from raft_actors.protocol.messages import Message
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.protocol.types import Ballot, LogPosition

__all__ = [
    "Accept",
    "Adopt",
    "Apply",
    "Capture",
    "ChangeAnswer",
    "ChangeRefusal",
    "ClusterFormed",
    "ClusterRefused",
    "Compact",
    "Discard",
    "DropChunks",
    "Effect",
    "Load",
    "LoadChunk",
    "Persist",
    "ReadyToStop",
    "Refusal",
    "Reject",
    "Restore",
    "Send",
    "ServeReads",
    "SnapshotAnswer",
    "SnapshotWork",
    "StoreChunk",
    "TransferAnswer",
    "TransferRefusal",
]


class Refusal(enum.Enum):
    """Why a request is turned away before it had any effect."""

    NOT_LEADER = "not leader"
    ELECTION_IN_PROGRESS = "election in progress"
    NOT_CONFIGURED = "not configured"
    FORMING = "another cluster is being formed"
    UNREACHABLE = "a peer did not answer"
    CONFIGURED = "a peer belongs to a cluster already"
    NOT_A_MEMBER = "the peer asked is not among the members"
    DIFFERENT = "the peer asked looks for other peers"
    REMOVED = "the peer asked is a member no more"


class ChangeRefusal(enum.Enum):
    """Why there are no other members; all but the last two: nothing was changed."""

    NOT_LEADER = "the peer asked does not lead"
    IN_PROGRESS = "another change is under way"
    CHANGED = "the configuration is not the expected one"
    UNREACHABLE = "a peer did not answer"
    FOREIGN = "a peer belongs to another cluster"
    UNKNOWN = "there is no such member"
    VOTES_ALREADY = "a voter is not made a learner"
    EMPTY = "no voter would be left"
    NO_QUORUM = "too few of the voters to be answer"
    GIVEN_UP = "a newcomer was not heard for long: the change was given up"
    INTERRUPTED = "the leader leads no more; its successor may go on with the change"


class TransferRefusal(enum.Enum):
    """Why leadership was not handed to the peer that was wanted."""

    NOT_LEADER = "the peer asked does not lead"
    UNKNOWN = "there is no such member"
    LEARNER = "a learner has no vote"
    LEADS = "it leads already"
    ALONE = "there is no other voter"
    UNDER_WAY = "leadership is being handed over already"
    LOST_STATE = "it has lost its state"
    SILENT = "it does not answer"
    NOBODY = "no other voter answers"
    BEHIND = "it did not catch up in time"
    NOT_ELECTED = "it was told to stand, and was not elected in time"
    OTHER = "another peer was elected"
    NO_LEADER = "nobody is known to lead"


class Send(Struct, frozen=True, gc=False):
    """Hand ``message`` to the transport; it may be lost."""

    to: str
    message: Message


class Persist(Struct, frozen=True):
    """Make durable, in one atomic batch.

    Attributes:
        ballot: the new ballot, or ``None`` if it did not change.
        truncate_from: drop this index and all after it first; ``None`` for a plain append.
        entries: to append, contiguous.
        cluster: the cluster this store belongs to from now on; ``""`` if unchanged.
        snapshot: takes the place of everything up to its last entry, and of all entries if the log does not hold that.
    """

    ballot: Ballot | None = None
    truncate_from: int | None = None
    entries: tuple[Entry, ...] = ()
    cluster: str = ""
    snapshot: Snapshot | None = None


class Load(Struct, frozen=True):
    """Read entries from the store: for a follower (``reader``: its name) or the own machine (``""``)."""

    reader: str
    first: int
    last: int
    max_bytes: int


class Apply(Struct, frozen=True):
    """Hand committed, locally durable entries to the machine, in order."""

    entries: tuple[Entry, ...]


class Accept(Struct, frozen=True):
    """The commands of ``token`` are in the log as ``first``, ``first + 1``, ... of ``term``."""

    token: int
    first: int
    term: int


class Reject(Struct, frozen=True):
    """The request ``token`` had no effect. ``leader``: who may take it, if known."""

    token: int
    refusal: Refusal
    leader: str | None = None


class ServeReads(Struct, frozen=True):
    """The reads of ``token`` may be answered from the machine's state at or after ``index``, which it was handed."""

    token: int
    index: int


class ClusterFormed(Struct, frozen=True):
    """The cluster requested under ``token`` exists and its configuration is committed."""

    token: int


class ClusterRefused(Struct, frozen=True):
    """No cluster was formed and nothing was stored anywhere.

    Attributes:
        token: whom to tell.
        refusal: why.
        peer: who refused or did not answer.
        configuration: that of ``peer`` if it has one already.
    """

    token: int
    refusal: Refusal
    peer: str
    configuration: Configuration | None = None


class ChangeAnswer(Struct, frozen=True):
    """The change requested under ``token`` is committed, or has ended otherwise.

    Attributes:
        token: whom to tell.
        refusal: why, or ``None``: all is done.
        peer: whom it is about, ``""`` if nobody.
        leader: who leads, if another one does.
    """

    token: int
    refusal: ChangeRefusal | None = None
    peer: str = ""
    leader: str | None = None


class Capture(Struct, frozen=True):
    """Take a snapshot of the machine, which is to have applied exactly the entries up to ``last`` when it comes to it.

    Attributes:
        last: the position it will cover.
        configuration_index: where the configuration that counts there stands.
        configuration: that configuration.
    """

    last: LogPosition
    configuration_index: int
    configuration: Configuration


class Compact(Struct, frozen=True):
    """Record ``snapshot``, whose file is durable, in the store, and then drop the entries up to ``through``.

    Attributes:
        snapshot: the newest one.
        through: at most ``snapshot.last.index``.
        configuration_index: where the configuration that counts at ``through`` stands.
        configuration: that configuration.
    """

    snapshot: Snapshot
    through: int
    configuration_index: int
    configuration: Configuration


class LoadChunk(Struct, frozen=True):
    """Read a piece of the file of snapshot ``id``, for the follower ``reader``."""

    reader: str
    id: str
    offset: int
    max_bytes: int


class StoreChunk(Struct, frozen=True):
    """Append a piece to the file of a snapshot that is being received; with the last one, check and keep all of it."""

    id: str
    offset: int
    size: int
    data: bytes


class DropChunks(Struct, frozen=True):
    """The snapshot that was being received is not wanted any more."""


class Restore(Struct, frozen=True):
    """Load the state in ``snapshot``, beside the machine, which goes on with its old one."""

    snapshot: Snapshot


class Adopt(Struct, frozen=True):
    """Let the machine go on with the state of ``snapshot``, which was loaded, after everything handed to it so far."""

    snapshot: Snapshot


class SnapshotAnswer(Struct, frozen=True):
    """Whoever asked under ``token`` has a durable snapshot of ``index``; ``None``: it could not be taken."""

    token: int
    index: int | None


class TransferAnswer(Struct, frozen=True):
    """What became of the hand-over requested under ``token``.

    Attributes:
        token: whom to tell.
        refusal: why it failed, or ``None``: done.
        peer: to whom it was, or was to be, handed; ``""`` if to nobody in particular.
        leader: who leads now, if known.
    """

    token: int
    refusal: TransferRefusal | None
    peer: str
    leader: str | None


class Discard(Struct, frozen=True):
    """A message was refused; counted by the shell, never answered."""

    sender: str
    reason: str


class ReadyToStop(Struct, frozen=True):
    """Nothing more to hand over: the shell may stop the peer."""


SnapshotWork = LoadChunk | StoreChunk | DropChunks | Restore
"""What is done beside the log and the machine, by whoever keeps the files of snapshots."""

Effect = (
    Send
    | Persist
    | Load
    | Apply
    | Accept
    | Reject
    | ServeReads
    | ClusterFormed
    | ClusterRefused
    | ChangeAnswer
    | Capture
    | Compact
    | LoadChunk
    | StoreChunk
    | DropChunks
    | Restore
    | Adopt
    | SnapshotAnswer
    | TransferAnswer
    | Discard
    | ReadyToStop
)
