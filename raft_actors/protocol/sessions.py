"""Sessions of clients: a write that arrives twice is applied once, on every replica alike.

A client opens a session; the index of the entry that opened it names it, so no session ever takes the place of another.
Its writes are numbered. A replica keeps the reply of each until the client says that it has it (``settled``), and
answers a repeated number with the kept reply. ::

    open                          --> session 17
    write 17/1, 17/2, 17/3        --> applied, replies kept
    write 17/2 again              --> the kept reply, not applied
    write 17/4, settled up to 2   --> applied; the replies of 1 and 2 are let go

A write may name the one of its client that it must follow (``previous``): it is turned away, and may come again, as
long as that one has not been applied. So writes that a client sends one behind the other keep their order, also if some
of them get lost on the way.

A session ends when it was silent for its timeout, by the time in the log: the same on every replica. What opens a
session carries the timeout, so that peers with other settings agree. Nothing here asks a clock.

Thesis: §6.3.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from raft_actors.protocol.entry import Entry

__all__ = ["MOST_REPLIES", "MOST_SESSIONS", "OpenSession", "SessionTable", "SessionWrite", "Verdict", "parse"]

MOST_SESSIONS = 1 << 16
"""Of more sessions than this, the one that was silent longest is forgotten."""
MOST_REPLIES = 1 << 16
"""Of more replies than this in one session, the oldest is let go: nobody gets it any more."""

_OPEN = struct.Struct("<BQd")
_WRITE = struct.Struct("<BQQQQQ")
_LENGTH = struct.Struct("<I")

Reply = TypeVar("Reply")


class OpenSession(NamedTuple):
    """Opens the session that is named by the index of its entry.

    Attributes:
        nonce: drawn by the client; another cluster, filled from a backup of this one, may have another session of
            the same index.
        timeout: seconds of replicated time without a request, after which the session ends.
    """

    nonce: int
    timeout: float

    def encode(self) -> bytes:
        """The bytes of the entry."""
        return _OPEN.pack(0, self.nonce, self.timeout)


class SessionWrite(NamedTuple):
    """A command with its place in a session.

    Attributes:
        session: index of the entry that opened the session.
        nonce: what it was opened with.
        sequence: number of the write in it, from 1 on.
        previous: number of the write that must be applied before, 0 if none.
        settled: the client has the replies of everything up to this number.
        command: the encoded command.
    """

    session: int
    nonce: int
    sequence: int
    previous: int
    settled: int
    command: bytes

    def encode(self) -> bytes:
        """The bytes of the entry."""
        return _WRITE.pack(1, *self[:5]) + self.command


def parse(entry: Entry) -> OpenSession | SessionWrite:
    """What a session entry says.

    Raises:
        ValueError: it is none.
    """
    data = entry.data
    try:
        if data[:1] == b"\x00":
            return OpenSession(*_OPEN.unpack(data)[1:])
        if data[:1] == b"\x01":
            _, session, nonce, sequence, previous, settled = _WRITE.unpack_from(data)
            return SessionWrite(session, nonce, sequence, previous, settled, data[_WRITE.size :])
    except struct.error as error:
        raise ValueError(f"entry {entry.index} is no request of a session: {error}") from error
    raise ValueError(f"entry {entry.index} is no request of a session")


class Verdict(enum.Enum):
    """What to do with a write, unless it was applied before and has its reply."""

    APPLY = enum.auto()
    """Apply it and record the reply."""
    EARLY = enum.auto()
    """The one that it follows is not applied: it has no effect, and may come again."""
    EXPIRED = enum.auto()
    """The session is over, or the reply was let go: it has no effect, and what it did before is unknown."""


class _Session(Struct, Generic[Reply]):
    nonce: int
    timeout: float
    used: float
    settled: int
    replies: dict[int, Reply]


class _Saved(Struct, frozen=True, array_like=True):
    session: int
    nonce: int
    timeout: float
    used: float
    settled: int
    replies: list[tuple[int, bytes]]


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(_Saved)


class SessionTable(Generic[Reply]):
    """The sessions of one replica, a part of its state. The session that was used last comes last."""

    def __init__(self) -> None:
        self._sessions: dict[int, _Session[Reply]] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, request: OpenSession, entry: Entry) -> int:
        """Open a session; returns its name."""
        self._end_silent(entry.time)
        self._sessions[entry.index] = _Session(request.nonce, request.timeout, entry.time, 0, {})
        if len(self._sessions) > MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return entry.index

    def admit(self, write: SessionWrite, time: float) -> Verdict | tuple[Reply]:
        """Decide on a write at the replicated ``time``; a reply that was kept comes in a tuple of one."""
        session = self._sessions.get(write.session)
        if session is None or session.nonce != write.nonce or time - session.used > session.timeout:
            return Verdict.EXPIRED
        session.used = time
        self._sessions[write.session] = self._sessions.pop(write.session)
        self._settle(session, write.settled)
        if write.sequence in session.replies:
            return (session.replies[write.sequence],)
        if write.sequence <= session.settled:
            return Verdict.EXPIRED
        if write.previous > session.settled and write.previous not in session.replies:
            return Verdict.EARLY
        return Verdict.APPLY

    def record(self, write: SessionWrite, reply: Reply) -> None:
        """Keep the reply of a write that was applied."""
        session = self._sessions[write.session]
        session.replies[write.sequence] = reply
        if len(session.replies) > MOST_REPLIES:
            self._settle(session, next(iter(session.replies)))

    @staticmethod
    def _settle(session: _Session[Reply], settled: int) -> None:
        if settled <= session.settled:
            return
        session.settled = settled
        replies = session.replies
        # Numbers come nearly in order, so the first ones are those to go; one that is out of order is found later.
        while replies and (first := next(iter(replies))) <= settled:
            del replies[first]

    def _end_silent(self, time: float) -> None:
        """Forget sessions that are over. Which are still kept does not matter: none that is over is used."""
        while self._sessions:
            oldest, session = next(iter(self._sessions.items()))
            if time - session.used <= session.timeout:
                return
            del self._sessions[oldest]

    # -- snapshots -----------------------------------------------------------------------------------------------------

    def copy(self) -> SessionTable[Reply]:
        """A table that does not follow the changes of this one."""
        table: SessionTable[Reply] = SessionTable()
        for name, one in self._sessions.items():
            table._sessions[name] = _Session(one.nonce, one.timeout, one.used, one.settled, dict(one.replies))
        return table

    def dump(self, encode: Callable[[Reply], bytes]) -> Iterator[bytes]:
        """The table in pieces of bytes, one for each session."""
        for name, one in self._sessions.items():
            replies = [(sequence, encode(reply)) for sequence, reply in one.replies.items()]
            data = _encode(_Saved(name, one.nonce, one.timeout, one.used, one.settled, replies))
            yield _LENGTH.pack(len(data)) + data

    @classmethod
    def load(cls, data: bytes | bytearray, decode: Callable[[bytes], Reply]) -> SessionTable[Reply]:
        """The table that was dumped.

        Raises:
            ValueError: these bytes are none.
        """
        table: SessionTable[Reply] = SessionTable()
        view, at = memoryview(data), 0
        try:
            while at < len(view):
                (length,) = _LENGTH.unpack_from(view, at)
                at += _LENGTH.size + length
                one = _decoder.decode(view[at - length : at])
                replies = {sequence: decode(reply) for sequence, reply in one.replies}
                table._sessions[one.session] = _Session(one.nonce, one.timeout, one.used, one.settled, replies)
        except (struct.error, msgspec.DecodeError) as error:
            raise ValueError(f"the sessions of a snapshot cannot be read: {error}") from error
        return table
