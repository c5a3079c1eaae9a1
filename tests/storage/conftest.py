"""Folders of snapshots, in memory and on a disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from raft_actors.folders import DiskFolder, Folder, MemoryFolder
from raft_actors.snapshot_store import SnapshotStore


@pytest.fixture(params=["memory", "disk"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    return MemoryFolder() if request.param == "memory" else DiskFolder(tmp_path / "made" / "snapshots")


@pytest.fixture
def snapshots(folder: Folder) -> SnapshotStore:
    return SnapshotStore(folder)
