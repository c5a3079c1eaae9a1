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
from raft_actors.protocol.types import Ballot

__all__ = [
    "Accept",
    "Apply",
    "ClusterFormed",
    "ClusterRefused",
    "Discard",
    "Effect",
    "Load",
    "Persist",
    "ReadyToStop",
    "Refusal",
    "Reject",
    "Send",
    "ServeReads",
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
        snapshot: takes the place of all that it covers, and of the whole log if that does not hold its last entry; it
            is on disk already. ``None`` for none.
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


class Discard(Struct, frozen=True):
    """A message was refused; counted by the shell, never answered."""

    sender: str
    reason: str


class ReadyToStop(Struct, frozen=True):
    """Nothing more to hand over: the shell may stop the peer."""


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
    | Discard
    | ReadyToStop
)
