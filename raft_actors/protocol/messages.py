"""What peers say to each other: one frozen struct per message, named as in the paper.

Every message says which cluster it belongs to, who sends it and from which incarnation of its store, and which
incarnation of the receiver it means: a message that means a store that is gone is dropped, and an answer of a replaced
store never counts (BUG-62). An unconfigured sender has the cluster ``""``.

Paper: Figure 2. Thesis: §3.10 (TimeoutNow), §6.4 (ReadIndex), §9.6 (PreVote).
"""

from __future__ import annotations

import enum
from typing import Annotated

from msgspec import Meta, Struct

from raft_actors.protocol.configuration import Configuration
from raft_actors.protocol.entry import Entry
from raft_actors.protocol.types import NOWHERE, Address, Identity, LogPosition, Name, Number, Seconds

__all__ = [
    "AppendEntries",
    "AppendEntriesReply",
    "FormCluster",
    "FormClusterReply",
    "InstallSnapshot",
    "InstallSnapshotReply",
    "Introduce",
    "IntroduceReply",
    "Join",
    "JoinRefusal",
    "JoinReply",
    "Message",
    "PreVote",
    "PreVoteReply",
    "ReadIndex",
    "ReadIndexReply",
    "Removed",
    "RequestVote",
    "RequestVoteReply",
    "TimeoutNow",
]

MOST_ENTRIES = 1 << 20
"""In one message."""
Names = Annotated[tuple[Name, ...], Meta(max_length=1024)]


class Header(Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What every message carries.

    Attributes:
        cluster: id of the sender's cluster, ``""`` if it has none.
        sender: the sender's name.
        incarnation: identity of the sender's store.
        receiver: identity of the store that is meant, ``""`` where the sender cannot know it yet.
        term: the sender's term (of a PreVote and its granting reply: the term it asks for).
    """

    cluster: Identity
    sender: Name
    incarnation: Identity
    receiver: Identity
    term: Number


class PreVote(Header, frozen=True, gc=False, kw_only=True, tag=True):
    """Would you vote for me in ``term``? Changes nothing at the receiver. Thesis: §9.6."""

    last: LogPosition


class PreVoteReply(Header, frozen=True, gc=False, kw_only=True, tag=True):
    """The answer; ``term`` is the asked one if granted, else the voter's own."""

    granted: bool


class RequestVote(Header, frozen=True, gc=False, kw_only=True, tag=True):
    """Vote for me. ``transfer``: the leader itself asked for this election (thesis §3.10)."""

    last: LogPosition
    transfer: bool = False


class RequestVoteReply(Header, frozen=True, gc=False, kw_only=True, tag=True):
    """The answer; leaves only when the vote is on disk."""

    granted: bool


class AppendEntries(Header, frozen=True, gc=False, kw_only=True, tag=True):
    """Replicates entries, carries commit news, and is the heartbeat when empty.

    Attributes:
        previous: position just before ``entries``.
        entries: to be appended after it.
        commit_index: the leader's.
        round: number of the newest ReadIndex round of this leadership.
        sent: the leader's monotonic clock, returned in the reply for leases.
        rests: nothing is under way: the receiver may rest, if it has all and nothing to ask (``behaviours.resting``).
    """

    previous: LogPosition
    entries: Annotated[tuple[Entry, ...], Meta(max_length=MOST_ENTRIES)] = ()
    commit_index: Number = 0
    round: Number = 0
    sent: Seconds = 0.0
    rests: bool = False


class AppendEntriesReply(Header, frozen=True, gc=False, kw_only=True, tag=True):
    """What the follower has.

    Attributes:
        success: the log holds ``previous``.
        match_index: on success, up to where the log equals the leader's *and* is durable (BUG-34).
        previous: index of the request's ``previous``, to tell a late refusal.
        hint: on refusal, the newest position that could match.
        round: copied from the request.
        sent: copied from the request.
        promise: seconds, from receipt, for which this voter grants no vote; 0 without lease reads.
        wants: the sender has lost its state: it needs a snapshot of this index or later; 0 if it does not.
        priority: the sender's; leadership drifts to the highest.
        rests: the sender rests from now on: its node vouches for it.
    """

    success: bool
    match_index: Number = 0
    previous: Number = 0
    hint: LogPosition = NOWHERE
    round: Number = 0
    sent: Seconds = 0.0
    promise: Seconds = 0.0
    wants: Number = 0
    priority: int = 0
    rests: bool = False


class InstallSnapshot(Header, frozen=True, gc=False, kw_only=True, tag=True):
    """A piece of a snapshot for a follower whose next entries the leader no longer has.

    Differs: pieces are numbered by the bytes of the file, and the snapshot has an id, so that a follower never mixes
    two, also not two of the same position.

    Paper: Figure 13.

    Attributes:
        id: which snapshot.
        last: the position it covers.
        size: bytes of the whole file.
        offset: where ``data`` belongs.
        data: the piece, at least one byte.
    """

    id: Identity
    last: LogPosition
    size: Number
    offset: Number
    data: bytes


class InstallSnapshotReply(Header, frozen=True, gc=False, kw_only=True, tag=True):
    """How far the follower is.

    Attributes:
        id: copied from the request.
        offset: copied from the request: a leader listens only to the answer to its newest piece.
        received: where the next piece belongs.
        match_index: up to where its log equals the leader's, durably, once the snapshot is installed or not needed.
    """

    id: Identity
    offset: Number
    received: Number
    match_index: Number = 0


class TimeoutNow(Header, frozen=True, gc=False, kw_only=True, tag=True):
    """Stand for election at once: the leader hands over. Thesis: §3.10."""


class ReadIndex(Header, frozen=True, gc=False, kw_only=True, tag=True):
    """A follower asks the leader from which index its reads are linearizable. Thesis: §6.4."""

    request: Number


class ReadIndexReply(Header, frozen=True, gc=False, kw_only=True, tag=True):
    """The answer: serve the reads of ``request`` once ``index`` is applied; ``None`` if the sender cannot say."""

    request: Number
    index: Number | None


class FormCluster(Header, frozen=True, gc=False, kw_only=True, tag=True):
    """Is the receiver free to become a member of the new cluster ``proposal``? Asked of all before anything is stored.

    Attributes:
        proposal: id of the cluster to be.
        names: all its members-to-be.
        until: seconds for which the receiver keeps itself free for it; 0 withdraws the question.
    """

    proposal: Identity
    names: Names
    until: Seconds


class FormClusterReply(Header, frozen=True, gc=False, kw_only=True, tag=True):
    """Free (``refusal == ""``) or why not; a member of a cluster tells its configuration. ``address``: the sender's."""

    proposal: Identity
    refusal: Name = ""
    configuration: Configuration | None = None
    address: Address = ""


class Introduce(Header, frozen=True, gc=False, kw_only=True, tag=True):
    """A leader that is to make the receiver a member asks for the identity of its store."""


class IntroduceReply(Header, frozen=True, gc=False, kw_only=True, tag=True):
    """Who the sender is: its header says it. ``busy``: it is being made a member of another new cluster."""

    busy: bool = False
    address: Address = ""


class Join(Header, frozen=True, gc=False, kw_only=True, tag=True):
    """The sender wants to be a member, with a vote unless ``learner``; asked of any member."""

    learner: bool = False
    expected: Names = ()
    address: Address = ""


class JoinRefusal(enum.Enum):
    """Why a peer is not made a member; only some will never change."""

    ACCEPTED = "accepted"
    NO_MEMBER = "the peer asked belongs to no cluster itself"
    NO_LEADER = "the peer asked does not lead"
    BUSY = "another change of the configuration is under way"
    NAME_TAKEN = "a living member has this name"
    REPLACED = "its store was replaced by another one of the same name"
    FOREIGN = "it belongs to another cluster"
    UNEXPECTED = "the cluster there was formed of other peers than it was told to expect"


class JoinReply(Header, frozen=True, gc=False, kw_only=True, tag=True):
    """What becomes of a ``Join``, and who leads as far as the sender knows; ``address``: where that one is."""

    refusal: JoinRefusal
    leader: Name | None = None
    address: Address = ""


class Removed(Header, frozen=True, gc=False, kw_only=True, tag=True):
    """The receiver is no member since the configuration at ``index``, which is committed. Thesis: §4.2.3.

    Attributes:
        index: where that configuration is.
        commit: the newest committed entry of the sender, whose log has no later configuration; ``NOWHERE`` if that is
            not known, as of who passes on what it was told itself.
    """

    index: Number
    commit: LogPosition = NOWHERE


Message = (
    PreVote
    | PreVoteReply
    | RequestVote
    | RequestVoteReply
    | AppendEntries
    | AppendEntriesReply
    | InstallSnapshot
    | InstallSnapshotReply
    | TimeoutNow
    | ReadIndex
    | ReadIndexReply
    | FormCluster
    | FormClusterReply
    | Introduce
    | IntroduceReply
    | Join
    | JoinReply
    | Removed
)
