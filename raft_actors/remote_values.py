"""Errors and values of the library as bytes, for another process: the same class comes back, with what it names.

An exception of the user's is not rebuilt but described (``RemoteError``): its class may not exist there, and rebuilding
it would run its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Struct

from raft_actors import errors
from raft_actors.error_base import RemoteError, text_of
from raft_actors.errors import RaftError
from raft_actors.transport.frames import Description, Failed
from raft_actors.values import Configuration, Progress, Status

__all__ = ["configuration_from", "error_from", "failed", "name_from", "number_from", "status_from", "to_bytes"]

MOST_TEXT = 100_000


class _Status(Struct, frozen=True, array_like=True):
    """A ``Status``."""

    name: str
    role: str
    term: int
    leader: str | None
    voted_for: str | None
    configuration: Configuration
    first_index: int
    last_index: int
    last_term: int
    commit_index: int
    last_applied: int
    snapshot_index: int
    storage: str
    incarnation: str
    progress: dict[str, Progress]
    failure: Failed | None


_encoder = msgspec.msgpack.Encoder()
_status = msgspec.msgpack.Decoder(_Status)
_configuration = msgspec.msgpack.Decoder(Configuration)
_name: msgspec.msgpack.Decoder[str | None] = msgspec.msgpack.Decoder(str | None)
_number = msgspec.msgpack.Decoder(int)


def failed(number: int, error: BaseException, index: int | None = None) -> Failed:
    """An error as it goes over the wire."""
    known = error if isinstance(error, RaftError) else RaftError(f"{type(error).__name__}: {text_of(error)}")
    cause = error.__cause__
    return Failed(
        number,
        type(known).__name__ if type(known).__name__ in errors.__all__ else "RaftError",
        _sound(str(known)),
        {name: value for name, value in known.__dict__.items() if _travels(name, value)},
        None if cause is None else _described(cause),
        index,
    )


def _sound(text: str) -> str:
    """A text that every frame can carry: not too long, and without halves of characters."""
    return text[:MOST_TEXT].encode("utf-8", "replace").decode()


def _travels(name: str, value: object) -> bool:
    if name.startswith("_"):
        return False
    return value is None or isinstance(value, str | int) or (isinstance(value, tuple) and len(value) < 1000)


def _described(cause: BaseException) -> Description:
    remote = RemoteError.of(cause)
    return Description(*(_sound(str(text)) for text in (remote.type_name, remote.message, remote.traceback)))


def error_from(body: Failed) -> RaftError:
    """The error that came over the wire."""
    kind: Any = getattr(errors, body.kind, None) if body.kind in errors.__all__ else None
    kind = kind if kind is not None and issubclass(kind, RaftError) else RaftError
    error: RaftError = kind.__new__(kind)
    error.args = (body.text,)
    error.__dict__.update({name: value for name, value in body.attributes.items() if not name.startswith("_")})
    if body.cause is not None:
        error.__cause__ = RemoteError(body.cause.type_name, body.cause.message, body.cause.traceback)
    return error


def to_bytes(value: Status | Configuration | str | int | None) -> bytes:
    """A value as it goes over the wire."""
    if not isinstance(value, Status):
        return _encoder.encode(value)
    parts = {field: getattr(value, field) for field in _Status.__struct_fields__}
    failure = value.failure
    parts |= {"progress": dict(value.progress), "failure": None if failure is None else failed(0, failure)}
    return _encoder.encode(_Status(**parts))


def status_from(data: bytes) -> Status:
    """The ``Status`` that came over the wire.

    Raises:
        msgspec.DecodeError: it is none.
    """
    found = _status.decode(data)
    parts: dict[str, Any] = {field: getattr(found, field) for field in _Status.__struct_fields__}
    progress: Mapping[str, Progress] = MappingProxyType(found.progress)
    failure = None if found.failure is None else error_from(found.failure)
    return Status(**{**parts, "progress": progress, "failure": failure})


def configuration_from(data: bytes) -> Configuration:
    """The ``Configuration`` that came over the wire.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return _configuration.decode(data)


def name_from(data: bytes) -> str | None:
    """The name of a peer, or ``None``.

    Raises:
        msgspec.DecodeError: it is neither.
    """
    return _name.decode(data)


def number_from(data: bytes) -> int:
    """A number.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return _number.decode(data)
