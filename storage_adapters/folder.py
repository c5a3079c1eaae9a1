"""The folder of a store: made durably, and marked with the engine it belongs to.

The file ``FORMAT`` is written once a store is complete. It tells a store whose files are gone (damage: an empty log
would forget votes) from one that was never made, and keeps one engine from starting an empty store beside another's.
Its first line names engine and version; what an engine keeps in further lines is its own.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from storage_adapters.interface import DamagedStore, StorageError, StrPath

FORMAT = "FORMAT"
VERSION = 1


def make(folder: Path) -> None:
    """Make a folder and the folders above it, with their names on disk when this returns."""
    if folder.is_dir():
        return
    make(folder.parent)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)


def sync(path: Path) -> None:
    """Flush a file or the names in a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def engine_of(path: StrPath) -> str | None:
    """Return the engine that made the store at ``path`` (``"lmdb"``, ``"rocksdb"``), or None if there is no store."""
    mark = _mark(Path(path))
    return mark.partition(" ")[0] if mark is not None else None


def check(folder: Path, engine: str, *, exists: bool) -> None:
    """Refuse a folder of another engine, and one whose data is gone.

    Args:
        folder: the store.
        engine: the name of the engine that wants to open it.
        exists: whether the engine's data file is there.

    Raises:
        StorageError: the store was made by another engine, or by a later version.
        DamagedStore: the store was complete once, and its data is missing.
    """
    mark = _mark(folder)
    if mark is None:
        return
    if mark != f"{engine} {VERSION}":
        raise StorageError(f"the store at {folder} is of format {mark!r}, not {engine} {VERSION}")
    if not exists:
        raise DamagedStore(f"the {engine} store at {folder} has lost its data files")


def seal(folder: Path, engine: str, details: Sequence[str] = ()) -> None:
    """Mark a complete store, durably; nothing happens if it is marked so already.

    Args:
        folder: the store.
        engine: the name of its engine.
        details: further lines.
    """
    lines = [f"{engine} {VERSION}", *details]
    if _lines(folder) == lines:
        return
    draft = folder / (FORMAT + ".new")
    draft.write_text("\n".join(lines) + "\n")
    sync(draft)
    draft.replace(folder / FORMAT)
    sync(folder)


def details(folder: Path) -> list[str]:
    """Return the further lines of the mark of a store, none if there is no mark."""
    return (_lines(folder) or [])[1:]


def vacant(path: StrPath) -> Path:
    """Make sure that ``path`` is an empty folder, and return it.

    Raises:
        StorageError: there is something already.
        OSError: it cannot be made.
    """
    target = Path(path).absolute()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise StorageError(f"{target} exists and is not an empty folder", errno=errno.EEXIST)
    make(target)
    return target


def size(folder: Path) -> int:
    """Return the sum of the sizes of all files in a folder, in bytes; files that vanish meanwhile count nothing."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_size
            except FileNotFoundError:
                continue
    return total


def _mark(folder: Path) -> str | None:
    lines = _lines(folder)
    return None if lines is None else lines[0].strip()


def _lines(folder: Path) -> list[str] | None:
    try:
        return (folder / FORMAT).read_bytes().decode(errors="replace").rstrip("\n").split("\n")
    except (FileNotFoundError, NotADirectoryError):
        return None
