"""The sessions of a replica: what its clients wrote twice is applied once (``protocol.sessions``).

A reply is kept in a form that nobody can change and that can be saved: as it is if it is immutable, else as the bytes
that it leaves in, and an exception by its description.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from msgspec import Struct

from raft_actors.codec import CheckedCodec, is_immutable_reply
from raft_actors.errors import CommandFailed, Incompatible, NotApplied, RemoteError, SessionExpired
from raft_actors.protocol.entry import Entry
from raft_actors.protocol.sessions import OpenSession, SessionTable, SessionWrite, Verdict, parse

if TYPE_CHECKING:
    from raft_actors.futures import RequestFuture

__all__ = ["ReplicaSessions"]


class _Encoded(Struct, frozen=True, tag=0):
    """A reply as the bytes of the codec."""

    data: bytes


class _Raised(Struct, frozen=True, tag=1):
    """The exception that the machine raised, described."""

    type_name: str
    message: str
    traceback: str


_Kept: TypeAlias = "_Encoded | _Raised | tuple[Any]"  # an immutable reply is kept in a tuple of one

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Encoded | _Raised).decode


class ReplicaSessions:
    """The session table of one replica, and the answers that need no command to be applied.

    Args:
        name: the peer.
        codec: of its replies.
    """

    def __init__(self, name: str, codec: CheckedCodec) -> None:
        self.table: SessionTable[_Kept] = SessionTable()
        self._name = name
        self._codec = codec

    def admit(self, entry: Entry, future: RequestFuture[Any] | None) -> SessionWrite | None:
        """Return the write in ``entry`` if it is to be applied; else it is answered here.

        Raises:
            Incompatible: the entry is no request of a session: it is never skipped.
        """
        try:
            request = parse(entry)
        except ValueError as error:
            raise Incompatible(f"peer {self._name!r} cannot apply entry {entry.index}: {error}") from error
        if isinstance(request, OpenSession):
            session = self.table.open(request, entry)
            if future is not None:
                future.try_set(session, entry.index)
            return None
        verdict = self.table.admit(request, entry.time)
        if verdict is Verdict.APPLY:
            return request
        if future is not None:
            self._answer(verdict, future, entry.index)
        return None

    def _answer(self, verdict: Verdict | tuple[_Kept], future: RequestFuture[Any], index: int) -> None:
        if isinstance(verdict, tuple):
            self._repeat(verdict[0], future, index)
        elif verdict is Verdict.EARLY:
            future.try_fail(NotApplied("an earlier write of the same thread has not been applied yet"))
        else:
            future.try_fail(SessionExpired())

    def _repeat(self, kept: _Kept, future: RequestFuture[Any], index: int) -> None:
        match kept:
            case _Encoded(data=data):
                future.try_set(self._codec.decode(data), index)
            case _Raised(type_name=name, message=message, traceback=traceback):
                future.try_fail(CommandFailed.because(RemoteError(name, message, traceback)), index)
            case (reply,):
                future.try_set(reply, index)

    def record_reply(self, write: SessionWrite, reply: Any) -> None:
        """Keep what a write has come to.

        Raises:
            Exception: the reply cannot be encoded.
        """
        kept = (reply,) if is_immutable_reply(reply) else _Encoded(self._codec.encode(reply))
        self.table.record(write, kept)

    def record_error(self, write: SessionWrite, error: Exception) -> None:
        """Keep what the machine raised."""
        told = RemoteError.of(error)
        # Without its traceback, which tells paths of one host: what is kept is the same on every replica.
        self.table.record(write, _Raised(told.type_name, told.message, ""))

    # -- snapshots -----------------------------------------------------------------------------------------------------

    def encoded(self, kept: _Kept) -> bytes:
        """A kept reply as bytes."""
        return _encode(_Encoded(self._codec.encode(kept[0])) if isinstance(kept, tuple) else kept)

    def loaded(self, data: bytes | bytearray) -> SessionTable[_Kept]:
        """The table in the bytes of a snapshot.

        Raises:
            ValueError: they are none.
        """
        return SessionTable.load(data, _decode)
