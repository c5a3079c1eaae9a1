"""A small disk that really runs full, the engines that live on disks, and stores that share a file."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storage_adapters import LMDBAdapter, RocksDBAdapter, SharedLMDB, StorageAdapter


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Return a function that mounts a file system of so many MiB; only root may."""
    mounted: list[Path] = []

    def make(size: int, *, options: str = "") -> Path:
        if os.geteuid() != 0 or shutil.which("mount") is None:
            pytest.skip("only root can mount a small file system")
        point = tmp_path / f"disk{len(mounted)}"
        point.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}m{options}", "tmpfs", str(point)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"no small file system here: {made.stderr.strip()}")
        mounted.append(point)
        return point

    yield make
    for point in mounted:
        subprocess.run(["umount", "-l", str(point)], check=True)


ON_DISK: list[type[StorageAdapter]] = [LMDBAdapter, RocksDBAdapter]


@pytest.fixture(params=ON_DISK)
def disk_adapter(request: pytest.FixtureRequest) -> type[StorageAdapter]:
    """Return each adapter on a disk in turn."""
    if request.param is RocksDBAdapter:
        pytest.importorskip("rocksdict")
    adapter: type[StorageAdapter] = request.param
    return adapter


@pytest.fixture
def shared(tmp_path: Path) -> SharedLMDB:
    """Return what opens stores that share a file."""
    return SharedLMDB(tmp_path / "shared")


@pytest.fixture
def pair(shared: SharedLMDB, tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    """Return two of them."""
    with shared(tmp_path / "a") as a, shared(tmp_path / "b") as b:
        yield a, b
