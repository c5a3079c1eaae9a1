"""Entries in LMDB: one copy-on-write B-tree file, one transaction and two syncs per batch.

Three named trees: ``log``, ``meta``, and ``state``, whose one key ``first`` says where the log begins (``lmdb_trees``).
What LMDB does not do by itself, and what is done about it: ``lmdb_env``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from storage_adapters.interface import StrPath
from storage_adapters.lmdb_env import Change, Environment, Transaction, exists
from storage_adapters.lmdb_trees import LMDBTrees


class LMDBAdapter(LMDBTrees):
    """A store in one LMDB environment.

    Args:
        path: the folder, made if it is missing.
        map_size: bytes of address space to begin with; it doubles when it is full. Not a size on disk.
    """

    engine = "lmdb"
    _first_key = b"first"

    def __init__(self, path: StrPath, *, map_size: int = 1 << 30) -> None:
        self._map_size = map_size
        self._env: Any = None
        super().__init__(path)

    def _engine_exists(self) -> bool:
        return exists(self._path)

    def _engine_open(self) -> tuple[int, int]:
        self._env = Environment(self._path, map_size=self._map_size, trees=3, readers=510, guard=self._reading)
        self._commit(self._open_trees)
        return self._load_bounds()

    def _open_trees(self, txn: Transaction) -> None:
        """Open the named trees, or make them: all three or none."""
        self._log, self._meta, self._state = (self._env.tree(name, txn) for name in (b"log", b"meta", b"state"))

    def _commit(self, change: Change) -> None:
        self._env.commit(change)

    @contextmanager
    def _looking(self, tree: Any = None) -> Iterator[Transaction]:
        with self._env.errors(), self._env.view(tree) as txn:
            yield txn

    def _engine_stats(self) -> dict[str, Any]:
        return {"map_size": self._env.map_size, "pages": self._env.pages()}

    def _engine_copy(self, target: Path) -> None:
        self._env.copy(target)

    def _engine_close(self) -> None:
        if self._env is not None:
            self._env.close()

    def _engine_remove(self) -> None:
        for name in ("data.mdb", "lock.mdb"):
            (self._path / name).unlink(missing_ok=True)
