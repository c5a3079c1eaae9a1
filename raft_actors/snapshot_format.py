"""A snapshot as bytes: a prefix, then frames, each of which is checked before a byte of it is used.

::

    prefix   "RAFTSNAP", version of this layout (4 bytes)
    frames   header, sessions*, state*, log* (in backup images only), end

    offset  bytes  field of a frame    little-endian
         0      4  crc      CRC-32 of every byte of the frame after it, begun with the crc of the frame before
         4      4  length   of the payload
         8      1  kind     1 header, 2 sessions, 3 state, 4 log, 5 end
         9         payload

The crc of the first frame begins with the CRC-32 of the prefix. So a frame that is altered, lost, repeated or moved
does not fit, and neither does one of another file. The payload of the header is the msgpack of ``Header``; those of the
sessions, put together, are the session table (``protocol.sessions``), those of the state what the machine has written,
those of the log records (``records``), each after its length in four bytes. The end says how many bytes of state and of
log there are, and nothing may follow it.

The prefix and the layout of the first frame are the same in every version, so that a later version is told from damage.

Everything here is pure: bytes come from a function and go to one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from zlib import crc32

import msgspec
from msgspec import Struct

from raft_actors.protocol.snapshot import Snapshot

__all__ = [
    "END",
    "FRAME_BYTES",
    "HEADER",
    "LOG",
    "SESSIONS",
    "STATE",
    "VERSION",
    "DamagedFrame",
    "FrameReader",
    "FrameWriter",
    "Header",
    "UnknownVersion",
]

VERSION = 1
"""The number of this layout."""

FRAME_BYTES = 1 << 16
"""Size of a full frame of state or log, in bytes of payload."""
HEADER_BYTES = 1 << 20
"""Largest header, in bytes: its configuration may name many members."""

HEADER, SESSIONS, STATE, LOG, END = 1, 2, 3, 4, 5
"""Kinds of frames, in the order in which they come."""

_MAGIC = b"RAFTSNAP"
_PREFIX = struct.Struct("<8sI")
_FRAME = struct.Struct("<IIB")
_CRC = struct.Struct("<I")
_REST = struct.Struct("<IB")
_TOTALS = struct.Struct("<QQ")
_LIMITS = {HEADER: HEADER_BYTES, SESSIONS: FRAME_BYTES, STATE: FRAME_BYTES, LOG: FRAME_BYTES, END: _TOTALS.size}


class DamagedFrame(Exception):
    """The bytes are not what was written; the text says what is wrong, as the rest of a sentence about the file."""


class UnknownVersion(DamagedFrame):
    """The bytes are whole, and of a version that is not known here."""


class Header(Struct, frozen=True, array_like=True):
    """What a file says before its state.

    Attributes:
        snapshot: what it stands for; its ``size`` is 0 here.
        cluster: id of the cluster.
        codec: name of the codec of its commands, and of the state unless the machine has a form of its own.
        version: of the machine that wrote the state.
    """

    snapshot: Snapshot
    cluster: str = ""
    codec: str = ""
    version: int = 0


_encode = msgspec.msgpack.Encoder().encode
_header = msgspec.msgpack.Decoder(Header)


class FrameWriter:
    """Makes the bytes of one file, in order: the header when it is made, sessions, state, log, ``end``.

    Args:
        write: takes the bytes.
        header: what the file says first.
    """

    def __init__(self, write: Callable[[bytes], object], header: Header) -> None:
        self._write = write
        prefix = _PREFIX.pack(_MAGIC, VERSION)
        self._crc = crc32(prefix)
        self._sizes = {SESSIONS: 0, STATE: 0, LOG: 0}
        self._kind = SESSIONS
        self._pending = bytearray()
        write(prefix)
        payload = _encode(header)
        if len(payload) > HEADER_BYTES:
            raise ValueError(f"a header of {len(payload)} bytes is larger than {HEADER_BYTES}")
        self._frame(HEADER, payload)

    def sessions(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes of the session table; before the state."""
        self._add(SESSIONS, data)

    def state(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes of state."""
        self._add(STATE, data)

    def log(self, record: bytes) -> None:
        """Append one record of the log; no more state after it."""
        self._add(LOG, _CRC.pack(len(record)))
        self._add(LOG, record)

    def end(self) -> None:
        """Finish the file."""
        self._flush()
        self._frame(END, _TOTALS.pack(self._sizes[STATE], self._sizes[LOG]))

    def _add(self, kind: int, data: bytes | bytearray | memoryview) -> None:
        if kind != self._kind:
            if kind < self._kind:
                raise ValueError("sessions come before the state, and the state before the log")
            self._flush()
            self._kind = kind
        view = memoryview(data).cast("B")
        self._sizes[kind] += len(view)
        done, pending = 0, self._pending
        while done < len(view):
            part = view[done : done + FRAME_BYTES - len(pending)]
            pending += part
            done += len(part)
            if len(pending) == FRAME_BYTES:
                self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._frame(self._kind, self._pending)
            self._pending.clear()

    def _frame(self, kind: int, payload: bytes | bytearray) -> None:
        body = b"".join((_REST.pack(len(payload), kind), payload))
        self._crc = crc32(body, self._crc)
        self._write(_CRC.pack(self._crc) + body)


class FrameReader:
    """Checks the bytes of one file, frame by frame.

    Args:
        read: returns the next bytes; fewer than asked for only at the end.

    Attributes:
        header: what the file says first.

    Raises:
        UnknownVersion: the file is of another version.
        DamagedFrame: its beginning is damaged.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._sizes = {SESSIONS: 0, STATE: 0, LOG: 0}
        self._latest = 0
        prefix = read(_PREFIX.size)
        if len(prefix) < _PREFIX.size or not prefix.startswith(_MAGIC):
            raise DamagedFrame("does not begin as a snapshot does")
        self._crc = crc32(prefix)
        kind, payload = self._frame()
        version = _PREFIX.unpack(prefix)[1]
        if version != VERSION:
            raise UnknownVersion(f"is of version {version}, this raft_actors reads version {VERSION}")
        if kind != HEADER:
            raise DamagedFrame(f"begins with a frame of kind {kind}")
        try:
            self.header = _header.decode(payload)
        except msgspec.DecodeError as error:
            raise DamagedFrame(f"has a header that says nothing: {error}") from error

    def next(self) -> tuple[int, bytes] | None:
        """Return kind and payload of the next frame of sessions, state or log, ``None`` at the end of a whole file.

        Raises:
            DamagedFrame: the frame is damaged, or the file ends too early or too late.
        """
        kind, payload = self._frame()
        if kind == END:
            if payload != _TOTALS.pack(self._sizes[STATE], self._sizes[LOG]):
                raise DamagedFrame("has lost a part of its contents")
            if self._read(1):
                raise DamagedFrame("goes on after its end")
            return None
        if kind not in self._sizes or kind < self._latest:
            raise DamagedFrame(f"has a frame of kind {kind} in a wrong place")
        self._latest = kind
        self._sizes[kind] += len(payload)
        return kind, payload

    def _frame(self) -> tuple[int, bytes]:
        head = self._read(_FRAME.size)
        if len(head) < _FRAME.size:
            raise DamagedFrame("is cut off")
        crc, length, kind = _FRAME.unpack(head)
        if length > _LIMITS.get(kind, 0):
            raise DamagedFrame(f"has a frame of kind {kind} and {length} bytes, which nobody writes")
        payload = self._read(length)
        if len(payload) < length:
            raise DamagedFrame("is cut off")
        if crc32(payload, crc32(head[_CRC.size :], self._crc)) != crc:
            raise DamagedFrame("does not match its checksum")
        self._crc = crc
        return kind, payload
