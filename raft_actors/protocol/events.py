"""What can happen to a peer: the inputs of ``step``.

Requests of callers carry a *token*: an opaque number under which the shell keeps their futures. The core never sees a
future, and answers with effects that name the token.
"""

from __future__ import annotations

from msgspec import Struct

from raft_actors.protocol.changes import Change
from raft_actors.protocol.entry import Entry
from raft_actors.protocol.messages import Message
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.protocol.types import Ballot, LogPosition

__all__ = [
    "AddressHeard",
    "Applied",
    "ChangeRequested",
    "ChunkLoaded",
    "ChunkStored",
    "ClusterRequested",
    "EntriesLoaded",
    "Event",
    "Heard",
    "PeerDown",
    "Persisted",
    "ReadsRequested",
    "Received",
    "Slept",
    "SnapshotFailed",
    "SnapshotLoaded",
    "SnapshotRecorded",
    "SnapshotRequested",
    "SnapshotWritten",
    "StopRequested",
    "Tick",
    "TransferRequested",
    "WritesRequested",
]


class Tick(Struct, frozen=True):
    """A deadline may have passed. Sent only after everything in the inbox was handled."""


class Received(Struct, frozen=True):
    """A message of another peer."""

    message: Message


class Persisted(Struct, frozen=True):
    """The disk has everything up to a batch.

    Attributes:
        ballot: the newest ballot on disk.
        last: the end of the newest batch on disk; confirms nothing if it was overwritten in memory since.
    """

    ballot: Ballot
    last: LogPosition


class EntriesLoaded(Struct, frozen=True):
    """Entries read from the store, for a follower that is behind (``reader``: its name) or the own machine (``""``)."""

    reader: str
    first: int
    entries: tuple[Entry, ...]


class Applied(Struct, frozen=True):
    """The machine applied everything up to ``index``."""

    index: int


class WritesRequested(Struct, frozen=True):
    """Commands that arrived together, in order; ``token`` stands for all of them.

    Attributes:
        token: whom to answer.
        commands: the encoded commands.
        sessions: places of those that are requests of a session.
    """

    token: int
    commands: tuple[bytes, ...]
    sessions: frozenset[int] = frozenset()


class ReadsRequested(Struct, frozen=True):
    """Reads that arrived together. ``lease``: a valid lease is enough where there is one."""

    token: int
    lease: bool = False


class PeerDown(Struct, frozen=True):
    """A peer of this process died, or the connection to it broke. Only a hint: it proves nothing about its log."""

    name: str


class AddressHeard(Struct, frozen=True):
    """A member, this very store of it, is reached elsewhere than the configuration says."""

    name: str
    incarnation: str
    address: str


class Heard(Struct, frozen=True):
    """Peers that rest were vouched for by their nodes: ``at`` says when last, by name, on the monotonic clock."""

    at: dict[str, float]


class ClusterRequested(Struct, frozen=True):
    """Form a new cluster of these peers, which are all unconfigured.

    Attributes:
        token: whom to answer.
        proposal: a fresh cluster id.
        names: the members-to-be, this peer among them.
        timeout: seconds until the attempt is given up.
    """

    token: int
    proposal: str
    names: tuple[str, ...]
    timeout: float


class ChangeRequested(Struct, frozen=True):
    """A caller wants other members.

    Attributes:
        token: whom to answer.
        change: what is wanted.
        expected: index of the configuration that it must start from; ``None``: whichever there is.
        timeout: seconds until newcomers that do not answer are given up. What has begun goes on.
    """

    token: int
    change: Change
    expected: int | None
    timeout: float


class SnapshotRequested(Struct, frozen=True):
    """A caller wants a snapshot of now."""

    token: int


class SnapshotWritten(Struct, frozen=True):
    """The file of a snapshot of our own is durable; the store does not know of it yet."""

    snapshot: Snapshot


class SnapshotFailed(Struct, frozen=True):
    """No snapshot could be taken: the user's code raised, or the disk had no room. Nothing depended on it."""


class SnapshotRecorded(Struct, frozen=True):
    """The store knows the snapshot ``id``: a restart begins with it."""

    id: str


class ChunkLoaded(Struct, frozen=True):
    """A piece of a snapshot's file, for a follower; ``data`` is ``None`` if the file is gone or damaged."""

    reader: str
    id: str
    offset: int
    data: bytes | None


class ChunkStored(Struct, frozen=True):
    """A piece of a received snapshot is in its file.

    Attributes:
        id: the snapshot.
        received: bytes of it so far; -1 if it could not be stored, or its bytes are not what was sent.
        snapshot: with the last piece: what the file says, all of it checked and durable.
        cluster: whose state it holds, as the file says.
    """

    id: str
    received: int
    snapshot: Snapshot | None = None
    cluster: str = ""


class SnapshotLoaded(Struct, frozen=True):
    """The state in snapshot ``id`` is in memory, beside the machine."""

    id: str


class TransferRequested(Struct, frozen=True):
    """A caller wants another peer to lead.

    Attributes:
        token: whom to answer.
        target: who is to lead; ``None``: the most caught-up voter.
        timeout: seconds until the attempt is given up.
    """

    token: int
    target: str | None
    timeout: float


class Slept(Struct, frozen=True):
    """The machine was suspended for a while, which the monotonic clock does not show. Comes before all that waited."""


class StopRequested(Struct, frozen=True):
    """Stop gracefully: hand leadership over first if anybody can take it, within ``timeout`` seconds."""

    timeout: float


Event = (
    Tick
    | Received
    | Persisted
    | EntriesLoaded
    | Applied
    | WritesRequested
    | ReadsRequested
    | PeerDown
    | AddressHeard
    | Heard
    | ClusterRequested
    | ChangeRequested
    | SnapshotRequested
    | SnapshotWritten
    | SnapshotFailed
    | SnapshotRecorded
    | ChunkLoaded
    | ChunkStored
    | SnapshotLoaded
    | StopRequested
    | TransferRequested
    | Slept
)
