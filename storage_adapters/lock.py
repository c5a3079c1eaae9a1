"""One opener per store: a lock of the operating system on the file ``LOCK`` in the store's folder.

``flock`` belongs to the open file, not to the process, so that it also stops a second opening in the same process, and
the kernel lets go of it when the owner dies, however it dies. The file holds the owner's process id, for the message
only: a file that was left behind locks nobody out.

A forked child inherits the open file and would keep the lock alive after its parent's death; the child therefore closes
its copy at once (closing a copy does not unlock, unlike LOCK_UN).
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from storage_adapters.interface import StoreInUse

_held: set[int] = set()


def _let_go_in_child() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)


class StoreLock:
    """The exclusive right to a store, from construction to ``release``."""

    def __init__(self, folder: Path) -> None:
        """Take the lock or fail at once.

        Raises:
            StoreInUse: somebody holds it.
            OSError: the file cannot be made.
        """
        self._file = folder / "LOCK"
        self._owner = os.getpid()
        self._descriptor: int | None = _lock(self._file)
        _held.add(self._descriptor)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n" % self._owner, 0)

    def release(self, *, remove: bool = False) -> None:
        """Give the lock back; ``remove`` deletes its file as well. Idempotent, and nothing at all in a forked child."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None or os.getpid() != self._owner:
            return
        if remove:
            self._file.unlink(missing_ok=True)
        _held.discard(descriptor)
        os.close(descriptor)


def _lock(file: Path) -> int:
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(file, descriptor):
                return descriptor
        except OSError as error:
            pid = _owner_of(descriptor)
            os.close(descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise StoreInUse(file.parent, pid) from None
            raise
        os.close(descriptor)


def _is_still(file: Path, descriptor: int) -> bool:
    """Tell whether the locked file is the one in the folder: its last owner may have removed it meanwhile."""
    try:
        return os.path.samestat(os.stat(file), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _owner_of(descriptor: int) -> int | None:
    try:
        return int(os.pread(descriptor, 32, 0))
    except (OSError, ValueError):
        return None
