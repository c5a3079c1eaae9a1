"""Was an LMDB file left as it is? If not, another process reads it before this one maps it.

LMDB trusts the pages it maps, and a mangled one kills the process that touches it. The file ``LEFT`` beside the data
says which size and time the newest commit left it with. A crash of the process between two commits leaves both as they
are; after one in the middle of a commit, a power cut, or a foreign hand, all of the file is read by a child once.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from storage_adapters import lmdb_child, reading_child
from storage_adapters.interface import DamagedStore, StorageError
from storage_adapters.lmdb_env import FILE, exists
from storage_adapters.lmdb_file import check_length


def read_if_changed(path: Path, *, anyway: bool = False) -> None:
    """Let another process read the file first, unless it is exactly as the last commit left it.

    Args:
        path: the shared folder, locked by the caller.
        anyway: read it in any case.

    Raises:
        DamagedStore: it is too short, or it kills its reader, or that found damage.
        StorageError: it could not be read.
    """
    check_length(path / FILE)
    if not exists(path) or (not anyway and _left(path) == _state(path)):
        return
    try:
        problem = reading_child.ask(lmdb_child.__file__, path)["problem"]
    except reading_child.ChildFailed as error:
        raise StorageError(f"{path} was not closed in order and cannot be checked: {error}") from error
    if problem is not None:
        raise DamagedStore(f"the shared store at {path} is damaged: {problem}")


def _state(path: Path) -> bytes:
    state = os.stat(path / FILE)
    return b"%20d %20d\n" % (state.st_size, state.st_mtime_ns)


def _left(path: Path) -> bytes:
    with suppress(OSError):
        return (path / "LEFT").read_bytes()
    return b""


def note_left(path: Path) -> None:
    """Note how the file is; never synced: after a power cut it is read by a child, which is what is wanted."""
    with suppress(OSError):  # then it is read by a child as well
        if _left(path) == _state(path):
            return
        descriptor = os.open(path / "LEFT", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.pwrite(descriptor, _state(path), 0)
        finally:
            os.close(descriptor)
