"""A cluster of this process for a command: peers ``s1``, ``s2``, ... on a folder, started, formed once, and stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import raft_actors as raft
from raft_actors import supervisor
from raft_actors.cli.common import UsageError

__all__ = ["peer_names", "running"]


def peer_names(count: int) -> tuple[str, ...]:
    """``s1``, ``s2``, ... as many as ``count``."""
    return tuple(f"s{number}" for number in range(1, count + 1))


@contextmanager
def running(
    machine: Callable[[], raft.StateMachine[Any, Any]], count: int, config: raft.Config
) -> Iterator[tuple[str, ...]]:
    """Run ``count`` peers on ``config.data_dir``, as one cluster, while the block runs; yields their names.

    Raises:
        UsageError: the folder holds a cluster of another size.
        RaftError: a store cannot be opened, or the cluster cannot be formed.
    """
    names = peer_names(count)
    try:
        for name in names:
            raft.start_peer(machine, name=name, config=config)
            _check_members(name, names, config.data_dir)
        _form(names)
        yield names
    finally:
        supervisor.stop_all()


def _check_members(name: str, names: tuple[str, ...], data_dir: Any) -> None:
    """A cluster has the size it was formed with; found out before a folder is made for a peer too many."""
    stored = raft.configuration(name).voters
    if stored and set(stored) != set(names):
        raise UsageError(
            f"{Path(data_dir)} holds a cluster of {len(stored)} peers, --peers {len(names)} does not fit: "
            f"use --peers {len(stored)}, or another --data-dir"
        )


def _form(names: tuple[str, ...]) -> None:
    """Form the cluster, unless that has happened: then those that missed it hear of it from their leader."""
    if not any(raft.configuration(name).index for name in names):
        raft.set_configuration(names[0], names, timeout=30.0)
