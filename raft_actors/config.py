"""The settings of one peer, checked as a whole when they are made.

Rule: a ``Config`` that exists is usable. All problems are told at once, each with the name of its field, so that nobody
has to find them one after the other.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from raft_actors.codec import Codec, is_codec
from raft_actors.errors import InvalidConfig

__all__ = ["Config", "Restart"]

KIB = 1024
MIB = 1024 * KIB

DAY = 86_400.0
YEAR = 366 * DAY

Check = Callable[[object], str | None]
"""Returns what is wrong with a value, or ``None``."""


def _setting(default: Any, check: Check) -> Any:
    return field(default=default, metadata={"check": check})


def _seconds(*, most: float = DAY, zero: bool = False) -> Check:
    def check(value: object) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"must be a number of seconds, not {value!r:.60}"
        if math.isfinite(value) and (0 < value <= most or (zero and value == 0)):
            return None
        return f"must be {'at least' if zero else 'more than'} 0 and at most {most:g} seconds, not {value!r}"

    return check


def _whole(least: int, most: int) -> Check:
    def check(value: object) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int):
            return f"must be a whole number, not {value!r:.60}"
        if not least <= value <= most:
            return f"must be from {least} to {most}, not {value}"
        return None

    return check


def _flag(value: object) -> str | None:
    return None if isinstance(value, bool) else f"must be True or False, not {value!r:.60}"


def _folder(value: object) -> str | None:
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str):
        return f"must be a str or a path, not {value!r:.60}"
    return None if path and "\0" not in path else "must not be empty or contain a NUL character"


def _engine(value: object) -> str | None:
    if value in ("lmdb", "rocksdb", "memory") or callable(value):
        return None
    return f"must be 'lmdb', 'rocksdb', 'memory' or a factory path -> StorageAdapter, not {value!r:.60}"


def _codec(value: object) -> str | None:
    if value in ("cloudpickle", "plain") or is_codec(value):
        return None
    return f"must be 'cloudpickle', 'plain' or an object with name, encode and decode, not {value!r:.60}"


def _backoff(value: object) -> str | None:
    if not isinstance(value, tuple) or len(value) != 2:
        return f"must be a pair of seconds (first, longest), not {value!r:.60}"
    for seconds in value:
        if problem := _seconds(zero=True)(seconds):
            return problem
    return None if value[0] <= value[1] else f"must not shrink from {value[0]} to {value[1]} seconds"


def _restart(value: object) -> str | None:
    return None if value is None or isinstance(value, Restart) else f"must be a Restart or None, not {value!r:.60}"


def _problems(settings: Config | Restart) -> dict[str, str]:
    """Return what is wrong with each field by itself."""
    found = {}
    for each in dataclasses.fields(settings):
        problem = each.metadata["check"](getattr(settings, each.name))
        if problem is not None:
            found[each.name] = problem
    return found


def _refuse(kind: str, problems: dict[str, str]) -> None:
    if problems:
        text = "; ".join(f"{name} {problem}" for name, problem in problems.items())
        raise InvalidConfig(f"invalid {kind}: {text}", fields=problems)


@dataclass(frozen=True, kw_only=True, slots=True)
class Restart:
    """When a peer that died is started again by its supervisor.

    A peer that died of damage or of a broken invariant is never restarted.

    Attributes:
        max: how many times (1 to 1,000,000) within the time of ``within``; once more, and it stays down.
        within: seconds (up to a year).
        backoff: seconds before the first restart, and the longest pause (up to a day), to which it doubles.

    Raises:
        InvalidConfig: a field has a wrong type or is out of bounds.
    """

    max: int = _setting(5, _whole(1, 1_000_000))
    within: float = _setting(60.0, _seconds(most=YEAR))
    backoff: tuple[float, float] = _setting((0.1, 5.0), _backoff)

    def __post_init__(self) -> None:
        _refuse("Restart", _problems(self))


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The settings of one peer. Peers of one cluster should share all but ``priority`` and ``data_dir``.

    Those called *reserved* have no effect yet: they are checked, and belong to features of later versions.

    Attributes:
        data_dir: the folder that holds a folder for each peer, by its name.
        storage: ``"lmdb"``, ``"rocksdb"`` (extra ``rocksdb``), ``"memory"`` (forgets), or a factory
            ``path -> StorageAdapter``; ``storage_adapters.SharedLMDB(folder)`` is one, for many peers of a process.
        min_election_timeout: seconds without news of a leader after which a peer may stand for election.
        max_election_timeout: the latest time for it; each wait is drawn anew between the two.
        heartbeat_interval: seconds between the heartbeats of a leader, at most half of ``min_election_timeout``.
        pre_vote: ask whether an election could be won before disturbing anybody with a new term.
        check_quorum: a leader that hears nothing of a majority for an election timeout steps down.
        lease_reads: let ``"lease"`` reads rely on time instead of asking a majority each time.
        max_batch_bytes: the size at which a batch of entries is cut, on its way to a follower, the disk, the machine
            (1 byte to 1 GiB; a single larger entry is a batch of its own).
        max_inflight: messages to one follower that may be unanswered (1 to 65,536).
        max_pending_writes: requests a peer accepts before they are answered, reads and committed but unapplied commands
            included (1 to 2**31).
        max_pending_bytes: the same in bytes of commands; at least ``max_command_bytes``.
        max_command_bytes: the largest encoded command (1 byte to 1 GiB).
        snapshot_threshold: applied entries after which a snapshot is taken (1 to 2**62).
        snapshot_threshold_bytes: bytes of applied commands after which a snapshot is taken (1 to 2**62).
        trailing_entries: entries before a snapshot that stay for followers a little behind (0 to 2**62).
        priority: leadership drifts to the highest that is up to date (-1000 to 1000); it decides no election.
        session_timeout: seconds of replicated time after which the session of a silent client is forgotten (up to a
            year); that of the leader that opens the session counts.
        codec: ``"cloudpickle"``, ``"plain"``, or a ``Codec``; the same at every peer of a cluster.
        restart: when to start a died peer again; ``None``: never.

    Raises:
        InvalidConfig: names every field with a wrong type or value, and those that do not go together.
    """

    data_dir: str | os.PathLike[str] = _setting("raft_data", _folder)
    storage: str | Callable[[str], Any] = _setting("lmdb", _engine)
    min_election_timeout: float = _setting(0.3, _seconds())
    max_election_timeout: float = _setting(0.6, _seconds())
    heartbeat_interval: float = _setting(0.05, _seconds())
    pre_vote: bool = _setting(True, _flag)
    check_quorum: bool = _setting(True, _flag)
    lease_reads: bool = _setting(False, _flag)
    max_batch_bytes: int = _setting(MIB, _whole(1, 1024 * MIB))
    max_inflight: int = _setting(64, _whole(1, 65_536))
    max_pending_writes: int = _setting(20_000, _whole(1, 2**31))
    max_pending_bytes: int = _setting(64 * MIB, _whole(1, 2**62))
    max_command_bytes: int = _setting(4 * MIB, _whole(1, 1024 * MIB))
    snapshot_threshold: int = _setting(100_000, _whole(1, 2**62))
    snapshot_threshold_bytes: int = _setting(64 * MIB, _whole(1, 2**62))
    trailing_entries: int = _setting(10_000, _whole(0, 2**62))
    priority: int = _setting(0, _whole(-1000, 1000))
    session_timeout: float = _setting(3600.0, _seconds(most=YEAR))
    codec: str | Codec = _setting("cloudpickle", _codec)
    restart: Restart | None = _setting(Restart(), _restart)

    def __post_init__(self) -> None:
        problems = _problems(self)
        for names, fits, rule in _TOGETHER:
            if problems.keys().isdisjoint(names) and not fits(self):
                given = ", ".join(f"{name}={getattr(self, name)}" for name in names)
                problems[names[0]] = f"{rule} ({given})"
        _refuse("Config", problems)


# Fields, whether they go together, and the rule about the first of them.
_TOGETHER: tuple[tuple[tuple[str, str], Callable[[Config], bool], str], ...] = (
    (
        ("max_election_timeout", "min_election_timeout"),
        lambda config: config.max_election_timeout >= config.min_election_timeout,
        "must not be less than min_election_timeout",
    ),
    (
        ("heartbeat_interval", "min_election_timeout"),
        lambda config: config.heartbeat_interval <= config.min_election_timeout / 2,
        "must be at most half of min_election_timeout, or followers stand for election between two heartbeats",
    ),
    (
        ("max_pending_bytes", "max_command_bytes"),
        lambda config: config.max_pending_bytes >= config.max_command_bytes,
        "must not be less than max_command_bytes, or the largest command could never be accepted",
    ),
)
