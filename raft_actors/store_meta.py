"""What a store says about itself, beside its entries: whose it is, the ballot, and what lies before the first entry.

Each value stands in the adapter's meta under its key as four bytes of CRC-32 (over key, ``=`` and payload; little-
endian), then the payload. The payloads of format 1::

    format         "1"
    name           the peer's name, UTF-8
    incarnation    16 hexadecimal digits, drawn when the store was made
    codec          name of the codec of its commands, UTF-8; missing if the store was opened without one
    cluster        id of its cluster, UTF-8; missing while it belongs to none
    ballot         msgpack [term, voted_for or nil]: one value, so that the two can never be stored apart (BUG-09)
    previous       msgpack ``Base``; missing until something was compacted
    snapshot       msgpack ``Snapshot``: the one that the log goes on from; missing until one was recorded
    machine        reserved: the version of the state machine

The format's number is read before anything else, and its own form never changes.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from zlib import crc32

import msgspec
from msgspec import Struct

from raft_actors.errors import CorruptLog, Incompatible
from raft_actors.protocol.configuration import NO_CONFIGURATION, Configuration
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.protocol.types import NOWHERE, Ballot, LogPosition
from raft_actors.records import FORMAT, GENESIS

__all__ = [
    "KEYS",
    "Base",
    "Identity",
    "Meta",
    "ballot_value",
    "base_of",
    "base_value",
    "cluster_value",
    "codec_value",
    "damage_in",
    "new_identity",
    "read_meta",
    "seal",
    "snapshot_value",
    "unseal",
]

KEYS = ("format", "name", "incarnation", "codec", "cluster", "ballot", "previous", "snapshot", "machine")


class Identity(Struct, frozen=True):
    """Whose store this is.

    Attributes:
        name: the peer's registered name.
        incarnation: drawn when the store was made: a wiped and remade store is another member (BUG-62).
        cluster: id of its cluster, ``""`` while it belongs to none.
        format: number of the log format.
        codec: name of the codec of its commands, ``""`` if it was never told.
    """

    name: str
    incarnation: str
    cluster: str = ""
    format: int = FORMAT
    codec: str = ""


class Base(Struct, frozen=True, array_like=True):
    """What lies before the first entry: nothing, or what a compaction left of the entries it dropped.

    Attributes:
        last: position of the newest entry that was dropped.
        chain: its chain value.
        time: the leader's time in it, in seconds.
        configuration_index: where the configuration that counted there stood, 0 if there was none.
        configuration: that configuration.
    """

    last: LogPosition = NOWHERE
    chain: int = GENESIS
    time: float = 0.0
    configuration_index: int = 0
    configuration: Configuration = NO_CONFIGURATION


class Meta(Struct, frozen=True):
    """Everything a store says about itself."""

    identity: Identity
    ballot: Ballot
    base: Base
    snapshot: Snapshot | None = None


_encode = msgspec.msgpack.Encoder().encode
_ballot = msgspec.msgpack.Decoder(Ballot)
_base = msgspec.msgpack.Decoder(Base)
_snapshot = msgspec.msgpack.Decoder(Snapshot)


def seal(key: str, payload: bytes) -> bytes:
    """Return ``payload`` with its checksum in front, as it is stored under ``key``."""
    return _checksum(key, payload) + payload


def unseal(key: str, value: bytes) -> bytes:
    """Return the payload of a stored value.

    Raises:
        ValueError: it does not match its checksum.
    """
    payload = value[4:]
    if value[:4] != _checksum(key, payload):
        raise ValueError(f"its {key!r} does not match its checksum ({len(value)} bytes)")
    return payload


def _checksum(key: str, payload: bytes) -> bytes:
    return crc32(b"%b=%b" % (key.encode(), payload)).to_bytes(4, "little")


def new_identity(name: str) -> tuple[Identity, dict[str, bytes]]:
    """Return the identity of a store that is being made, and the meta that stores it."""
    identity = Identity(name, secrets.token_hex(8))
    plain = {"format": b"%d" % FORMAT, "name": name.encode(), "incarnation": identity.incarnation.encode()}
    return identity, {key: seal(key, payload) for key, payload in plain.items()} | ballot_value(Ballot())


def ballot_value(ballot: Ballot) -> dict[str, bytes]:
    """Return the meta that stores ``ballot``."""
    return {"ballot": seal("ballot", _encode(ballot))}


def cluster_value(cluster: str) -> dict[str, bytes]:
    """Return the meta that stores the id of the cluster."""
    return {"cluster": seal("cluster", cluster.encode())}


def codec_value(codec: str) -> dict[str, bytes]:
    """Return the meta that stores the name of the codec."""
    return {"codec": seal("codec", codec.encode())}


def base_value(base: Base) -> dict[str, bytes]:
    """Return the meta that stores what lies before the first entry."""
    return {"previous": seal("previous", _encode(base))}


def base_of(snapshot: Snapshot) -> Base:
    """Return what lies before the first entry of a log that begins right after ``snapshot``."""
    return Base(snapshot.last, snapshot.chain, snapshot.time, snapshot.configuration_index, snapshot.configuration)


def snapshot_value(snapshot: Snapshot) -> dict[str, bytes]:
    """Return the meta that records ``snapshot``."""
    return {"snapshot": seal("snapshot", _encode(snapshot))}


def read_meta(meta: Callable[[str], bytes | None], where: str) -> Meta | None:
    """Return what a store says about itself, or ``None`` if it says nothing at all.

    Args:
        meta: the adapter's method of that name.
        where: the store, for messages.

    Raises:
        Incompatible: it is of another format.
        CorruptLog: a value is damaged or missing.
    """
    stored = {key: value for key in KEYS if (value := meta(key)) is not None}
    if not stored:
        return None
    try:
        _require_format(_payload(stored, "format"), where)
        identity = Identity(
            _payload(stored, "name").decode(),
            _payload(stored, "incarnation").decode(),
            _payload(stored, "cluster", b"").decode(),
            codec=_payload(stored, "codec", b"").decode(),
        )
        ballot = _ballot.decode(_payload(stored, "ballot"))
        base = _base.decode(_payload(stored, "previous")) if "previous" in stored else Base()
        snapshot = _snapshot.decode(_payload(stored, "snapshot")) if "snapshot" in stored else None
    except (ValueError, msgspec.DecodeError) as error:
        raise CorruptLog(f"{where} is damaged: {error}") from error
    return Meta(identity, ballot, base, snapshot)


def damage_in(meta: Callable[[str], bytes | None]) -> list[str]:
    """Return what is wrong with the checksums of a store's meta, one line per value."""
    problems = []
    for key in KEYS:
        value = meta(key)
        try:
            if value is not None:
                unseal(key, value)
        except ValueError as error:
            problems.append(str(error))
    return problems


def _payload(stored: Mapping[str, bytes], key: str, default: bytes | None = None) -> bytes:
    value = stored.get(key)
    if value is not None:
        return unseal(key, value)
    if default is None:
        raise ValueError(f"its {key!r} is missing")
    return default


def _require_format(number: bytes, where: str) -> None:
    if number != b"%d" % FORMAT:
        raise Incompatible(
            f"{where} is of log format {number.decode(errors='replace')}, this raft_actors reads format {FORMAT}",
            advice="open it with the version of raft_actors that wrote it, or give the peer another data_dir",
        )
