"""How a third party writes an adapter: SQLite, in a hundred lines, held to the whole conformance suite."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from storage_adapters import Batch, StorageAdapter, StorageError
from storage_adapters.checks import compaction_point, end_after, meta_key
from storage_adapters.lock import StoreLock

SCHEMA = """
CREATE TABLE IF NOT EXISTS log (position INTEGER PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY CHECK (id = 0), first INTEGER NOT NULL);
INSERT OR IGNORE INTO state VALUES (0, 1);
"""


class SQLiteAdapter(StorageAdapter):
    def __init__(self, path: Any) -> None:
        self._path = Path(path)
        self._owner = os.getpid()
        self._mutex = threading.RLock()
        self._db: sqlite3.Connection | None = None
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            self._lock = StoreLock(self._path)
        except OSError as error:
            raise StorageError(f"{path}: {error}", errno=error.errno) from error
        self._db = sqlite3.connect(self._path / "store.sqlite", isolation_level=None, check_same_thread=False)
        self._db.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; {SCHEMA}")

    @contextmanager
    def _using(self, *, change: bool = False) -> Iterator[sqlite3.Connection]:
        if os.getpid() != self._owner:
            raise StorageError("this is a fork of the process that opened the store")
        with self._mutex:
            if self._db is None:
                raise StorageError(f"the store at {self._path} is closed")
            try:
                self._db.execute("BEGIN IMMEDIATE" if change else "BEGIN")
                yield self._db
                self._db.execute("COMMIT")
            except BaseException as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise StorageError(str(error)) from error
                raise

    def _bounds(self, db: sqlite3.Connection) -> tuple[int, int]:
        (first,) = db.execute("SELECT first FROM state").fetchone()
        (last,) = db.execute("SELECT max(position) FROM log").fetchone()
        return first, first - 1 if last is None else last

    def write(self, batch: Batch) -> None:
        with self._using(change=True) as db:
            end_after(batch, *self._bounds(db))
            if batch.truncate_from is not None:
                db.execute("DELETE FROM log WHERE position >= ?", (batch.truncate_from,))
            db.executemany("INSERT INTO log VALUES (?, ?)", batch.entries)
            db.executemany("REPLACE INTO meta VALUES (?, ?)", batch.meta.items())

    def read(self, first: int, last: int, max_bytes: int) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        with self._using() as db:
            rows = db.execute("SELECT * FROM log WHERE position BETWEEN ? AND ? ORDER BY position", (first, last))
            size = 0
            for index, value in rows:
                size += len(value)
                if size > max_bytes and found:
                    break
                found.append((index, value))
            rows.close()
        return found

    def bounds(self) -> tuple[int, int]:
        with self._using() as db:
            return self._bounds(db)

    def meta(self, key: str) -> bytes | None:
        meta_key(key)
        with self._using() as db:
            row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def compact(self, through: int) -> None:
        with self._using(change=True) as db:
            if compaction_point(through) >= self._bounds(db)[0]:
                db.execute("DELETE FROM log WHERE position <= ?", (through,))
                db.execute("UPDATE state SET first = ?", (through + 1,))

    def stats(self) -> dict[str, Any]:
        first, last = self.bounds()
        size = (self._path / "store.sqlite").stat().st_size
        return {
            "engine": "sqlite",
            "path": str(self._path),
            "entries": last - first + 1,
            "bytes": size,
            "durable": True,
        }

    def backup(self, path: Any) -> None:
        self.bounds()
        target = Path(path)
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise StorageError(f"{target} is not an empty folder", errno=errno.EEXIST)
        target.mkdir(parents=True, exist_ok=True)
        with sqlite3.connect(self._path / "store.sqlite") as source, sqlite3.connect(target / "store.sqlite") as image:
            source.backup(image)
        source.close()
        image.close()

    def close(self) -> None:
        if os.getpid() != self._owner:
            return
        with self._mutex:
            if self._db is not None:
                self._db.close()
                self._db = None
                self._lock.release()

    def destroy(self) -> None:
        if os.getpid() != self._owner:
            raise StorageError("this is a fork of the process that opened the store")
        self.close()
        for file in self._path.glob("*"):
            file.unlink()
        if self._path.exists():
            self._path.rmdir()
