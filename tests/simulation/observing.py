"""What the observer's checks need of a cluster, without one: disks, and peers that hold what a test says.

A test of a check sets a scene and lets one thing happen in it that must never happen. ``violates`` keeps the scenes,
so that one test can see that no check is left without one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from raft_actors.protocol.configuration import Configuration
from raft_actors.protocol.entry import Entry
from raft_actors.protocol.state import PeerState
from raft_actors.protocol.types import Ballot
from raft_actors.records import GENESIS, encode_entries
from raft_actors.store_meta import ballot_value
from raft_actors.testing.simulation.disk import Disk
from raft_actors.testing.simulation.invariants import Invariants
from storage_adapters import Batch
from tests.behaviours.bench import THREE, log_of, store


class Scene(NamedTuple):
    """One thing that must never happen.

    Attributes:
        invariant: which one it breaks.
        happen: lets it happen.
        words: part of what is said about it.
    """

    invariant: str
    happen: Callable[[], None]
    words: str


SCENES: dict[str, Scene] = {}
ALL = {"s1": (1, 2), "s2": (1, 2), "s3": (1, 2)}
"""Everybody has two entries."""


def violates(invariant: str, words: str = "") -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Keep a function as the scene of its name."""

    def register(happen: Callable[[], None]) -> Callable[[], None]:
        assert happen.__name__ not in SCENES
        SCENES[happen.__name__] = Scene(invariant, happen, words)
        return happen

    return register


class Stage:
    """Peers ``s1`` to ``s3`` before the eyes of an observer.

    Args:
        logs: the terms of each peer's entries, in memory and on disk.
    """

    def __init__(self, **logs: Sequence[int]) -> None:
        self.observer = Invariants()
        self.nodes: dict[str, Any] = {}
        for name in ("s1", "s2", "s3"):
            disk = Disk(name, store(name), self.observer.written, self.observer.recorded)
            self.observer.disks[disk.incarnation] = disk
            self.nodes[name] = SimpleNamespace(name=name, disk=disk, mirror=[], handed=0, engine=None)
            self.hold(name, logs.get(name, ()))

    def hold(self, name: str, terms: Sequence[int]) -> None:
        """Give a peer a log, in memory and on disk."""
        self.remember(name, terms)
        self.write(name, entries_of(terms))

    def remember(self, name: str, terms: Sequence[int]) -> None:
        """Give a peer a log in memory only."""
        self.nodes[name].mirror[:] = entries_of(terms)

    def write(self, name: str, entries: Sequence[Entry], chain: int = GENESIS) -> None:
        """Put entries on a peer's disk."""
        self.nodes[name].disk.note(Batch(entries=encode_entries(entries, chain)[0]))

    def cut(self, name: str, index: int) -> None:
        """Cut off the log on a peer's disk."""
        self.nodes[name].disk.note(Batch(truncate_from=index))

    def vote(self, name: str, term: int, candidate: str | None) -> None:
        """Put a ballot on a peer's disk."""
        self.nodes[name].disk.note(Batch(meta=ballot_value(Ballot(term, candidate))))

    def step(self, before: PeerState, after: PeerState, event: Any = None) -> None:
        """Let a peer take a step."""
        self.observer.stepped(self.nodes[before.name], event, before, after)

    def elect(self, before: PeerState, after: PeerState) -> None:
        """Let a peer take the lead, elected as it should be."""
        for name in self.nodes:
            self.vote(name, after.term, after.name)
        self.step(before, after)

    def leave(self, name: str, message: Any, to: str = "s2") -> None:
        """Let a message leave a peer."""
        self.observer.leaves(self.nodes[name], to, message)


def entries_of(terms: Sequence[int], members: Configuration = THREE) -> list[Entry]:
    """Entries of these terms, the first one the configuration."""
    return list(log_of(terms, members).tail)


def stage_engine(state: PeerState) -> Any:
    """What the observer asks an engine for."""
    return type("Engine", (), {"state": state, "deciding": state.configuration})
