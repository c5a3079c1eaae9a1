"""Errors of a store in the words of this library, and folders that are no store at all."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import storage_adapters
from raft_actors.errors import CorruptLog, Incompatible, MissingExtra, RaftError, StorageFailed, StoreInUse
from storage_adapters import interface
from storage_adapters.folder import engine_of
from storage_adapters.shared_lmdb import ENGINE as SHARED
from storage_adapters.shared_lmdb import shared_folder_of

__all__ = ["ours", "refuse_foreign_folder", "translated", "translated_storage"]

_SIGNS = ("LOCK", "FORMAT", "TAIL", "snapshots")
"""Names that every store of ours has from its first moment, or gets in it."""


@contextmanager
def translated(where: str, path: str) -> Iterator[None]:
    """Turn whatever an adapter of any make raises into our errors, with the original as their cause.

    Args:
        where: the store, for messages.
        path: its folder, for ``StoreInUse``.
    """
    try:
        yield
    except RaftError:
        raise
    except Exception as error:  # an adapter of a user may fail in any way, and none of them is passed over
        raise ours(error, where, path) from error


@contextmanager
def translated_storage(where: str, path: str) -> Iterator[None]:
    """As ``translated``, but for the errors of ``storage_adapters`` only; others pass."""
    try:
        yield
    except (storage_adapters.StorageError, interface.MissingExtra) as error:
        raise ours(error, where, path) from error


def ours(error: Exception, where: str, path: str) -> RaftError:
    """What an adapter has raised, as our error; see ``translated``."""
    match error:
        case storage_adapters.StoreInUse():
            return StoreInUse(error.path or path, pid=error.pid)
        case storage_adapters.DamagedStore():
            return CorruptLog(f"{where} is damaged: {error}")
        case interface.MissingExtra():
            return MissingExtra(error.extra)
    full = isinstance(error, storage_adapters.StorageError | OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    advice = "make room on its disk, then start the peer again; nothing that was acknowledged is lost" if full else ""
    return StorageFailed(f"{where} failed: {error}", advice=advice)


def refuse_foreign_folder(factory: Callable[[str], object], folder: Path, where: str) -> None:
    """Refuse a folder that holds something else, before anything in it is touched.

    Raises:
        Incompatible: it is not empty and no store, or a store of another engine than the factory's.
    """
    if not folder.is_dir():
        return
    names = sorted(entry.name for entry in folder.iterdir())
    if names and not any(sign in names for sign in _SIGNS):
        raise Incompatible(
            f"{folder} holds {names[0]!r} and is no store of a peer: nothing in it was touched",
            advice="give the peer another data_dir or name, or empty the folder",
        )
    found, wanted = engine_of(folder), getattr(factory, "engine", None)
    if found is not None and isinstance(wanted, str) and found not in getattr(factory, "engines", (wanted,)):
        storage = f"SharedLMDB({_shared_folder(folder)})" if found == SHARED else repr(found)
        raise Incompatible(
            f"{where} was made with storage {found!r}, not {wanted!r}",
            advice=f"start the peer with storage={storage}, or give it another data_dir",
        )


def _shared_folder(folder: Path) -> str:
    """The shared folder that a store names, as far as it can be found."""
    try:
        return repr(str(shared_folder_of(folder)))
    except storage_adapters.StorageError:
        return "..."
