"""What a failed peer tells everybody who calls it."""

from __future__ import annotations

from raft_actors.errors import Incompatible, PeerFailed, RaftError

__all__ = ["failure_of"]


def failure_of(name: str, error: BaseException) -> RaftError:
    """The error that every call to a failed peer raises."""
    if isinstance(error, PeerFailed | Incompatible):
        return error
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    failure = PeerFailed(f"peer {name!r} stopped itself: {what}")
    failure.__cause__ = error
    return failure
