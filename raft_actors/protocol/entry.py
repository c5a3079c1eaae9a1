"""A log entry: its place, its kind, the leader's time, and bytes that the protocol never looks into.

Paper: §5.3 ("each log entry stores a state machine command along with the term number").
"""

from __future__ import annotations

import enum

from msgspec import Struct

from raft_actors.protocol.types import Number

__all__ = ["Entry", "EntryKind"]


class EntryKind(enum.IntEnum):
    """What an entry is for; the numbers are part of log format 1."""

    COMMAND = 0
    NOOP = 1
    CONFIGURATION = 2
    SESSION = 3


class Entry(Struct, frozen=True, gc=False, array_like=True):
    """One entry of the replicated log.

    Attributes:
        index: place in the log, counted from 1.
        term: term of the leader that made it.
        kind: command, no-op, configuration or session.
        time: the leader's replicated time in seconds, never going back along the log.
        data: the encoded command or configuration; empty for a no-op.
    """

    index: Number
    term: Number
    kind: EntryKind
    time: float
    data: bytes = b""
