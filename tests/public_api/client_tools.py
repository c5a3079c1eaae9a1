"""A cluster for the tests of the client, and what they do to it."""

from __future__ import annotations

import raft_actors as raft
from raft_actors import supervisor

NAMES = ("c1", "c2", "c3")


def config_with(config: raft.Config, **changes) -> raft.Config:
    return raft.Config(**{"data_dir": config.data_dir, **changes})


def started(machine, config):
    """Three peers, formed; returns their names."""
    for name in NAMES:
        raft.start_peer(machine, name=name, config=config)
    raft.set_configuration("c1", NAMES)
    return NAMES


def crash(name: str) -> None:
    supervisor.handle_of(name).stop(5.0, crash=True)


def outcome(future) -> str:
    """``applied``, or the name of the error."""
    try:
        future.get()
    except raft.RaftError as error:
        return type(error).__name__
    return "applied"
