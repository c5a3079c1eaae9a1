"""What a failed peer tells everybody who calls it."""

from __future__ import annotations

from raft_actors.errors import Incompatible, PeerFailed, RaftError
from storage_adapters import StorageError

__all__ = ["failure_of", "steps_to"]


def failure_of(name: str, error: BaseException) -> RaftError:
    """The error that every call to a failed peer raises."""
    if isinstance(error, PeerFailed | Incompatible):
        return error
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    failure = PeerFailed(f"peer {name!r} stopped itself: {what}")
    failure.__cause__ = error
    return failure


def steps_to(error: BaseException) -> BaseException | None:
    """What to log the traceback of: of an error of the disk, our own steps tell nothing."""
    return None if isinstance(error.__cause__, StorageError) else error
