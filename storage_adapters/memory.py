"""Everything in memory and nothing on disk: for tests, and for clusters that may forget."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from storage_adapters import checks
from storage_adapters.interface import Batch, Entry, StorageAdapter, StorageError, StrPath


class MemoryAdapter(StorageAdapter):
    """A store that ends with its object.

    It keeps every rule of ``StorageAdapter`` but durability (``stats()["durable"]`` is False), and it may be opened
    any number of times. ``backup`` writes its image as an LMDB store.

    Args:
        path: accepted and ignored, so that the class is a factory like the others.
    """

    def __init__(self, path: StrPath | None = None) -> None:
        self._path = "" if path is None else str(path)
        self._lock = threading.Lock()
        self._first = 1
        self._values: list[bytes] = []
        self._meta: dict[str, bytes] = {}
        self._closed = False

    def write(self, batch: Batch) -> None:
        """Apply a batch, atomically: truncate first, then append; meta merges by key."""
        with self._lock:
            first, last = self._open_bounds()
            checks.end_after(batch, first, last)
            if batch.truncate_from is not None:
                del self._values[batch.truncate_from - first :]
            self._values += [value for _, value in batch.entries]
            self._meta.update(batch.meta)

    def read(self, first: int, last: int, max_bytes: int) -> list[Entry]:
        """Return the entries ``first .. last`` that the log has, in order, within ``max_bytes`` but at least one."""
        found: list[Entry] = []
        size = 0
        with self._lock:
            low, high = self._open_bounds()
            for index in range(max(first, low), min(last, high) + 1):
                value = self._values[index - low]
                size += len(value)
                if size > max_bytes and found:
                    break
                found.append((index, value))
        return found

    def bounds(self) -> tuple[int, int]:
        """Return the first and the last index."""
        with self._lock:
            return self._open_bounds()

    def meta(self, key: str) -> bytes | None:
        """Return the value last written for ``key``, or None."""
        checks.meta_key(key)
        with self._lock:
            self._open_bounds()
            return self._meta.get(key)

    def compact(self, through: int) -> None:
        """Drop the prefix up to and including ``through``."""
        with self._lock:
            first, _ = self._open_bounds()
            if checks.compaction_point(through) >= first:
                del self._values[: through + 1 - first]
                self._first = through + 1

    def stats(self) -> dict[str, Any]:
        """Return ``engine``, ``path``, ``entries``, ``bytes`` (0: none on disk) and ``durable`` (False)."""
        first, last = self.bounds()
        return {"engine": "memory", "path": self._path, "entries": last - first + 1, "bytes": 0, "durable": False}

    def backup(self, path: StrPath) -> None:
        """Write the image as an LMDB store into a new folder."""
        from storage_adapters.folder import vacant
        from storage_adapters.lmdb import LMDBAdapter

        with self._lock:
            first = self._open_bounds()[0]
            batch = Batch(dict(self._meta), None, list(enumerate(self._values, first)))
        try:
            vacant(Path(path))
        except OSError as error:
            raise StorageError(f"no backup into {path}: {error}", errno=error.errno) from error
        with LMDBAdapter(path) as image:
            image.compact(first - 1)
            image.write(batch)

    def close(self) -> None:
        """Let go of the contents."""
        with self._lock:
            self._closed = True
            self._values = []
            self._meta = {}

    def destroy(self) -> None:
        """Let go of the contents; there are no files."""
        self.close()

    def _open_bounds(self) -> tuple[int, int]:
        if self._closed:
            raise StorageError("the store is closed")
        return self._first, self._first + len(self._values) - 1
