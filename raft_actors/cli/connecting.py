"""What the commands share that speak to a running cluster: whom, with which keys, and what is shown of it."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from typing import Any, TypeVar

import raft_actors as raft
from raft_actors.addresses import place_of
from raft_actors.cli.common import UsageError, path_arg
from raft_actors.errors import InvalidName, NotApplied, RaftError, UnknownPeer
from raft_actors.network import NETWORK

__all__ = [
    "add_connection",
    "add_keys",
    "addresses_of",
    "as_json",
    "at_any",
    "awake_first",
    "count",
    "members_as_json",
    "prepare",
    "seconds",
    "status_as_json",
]

T = TypeVar("T")

GLANCE = 1.0
"""Seconds within which a peer that is awake says how it is."""


def add_keys(parser: argparse.ArgumentParser) -> None:
    """Add ``--keys`` and ``--insecure``."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--keys", type=path_arg, metavar="DIR", help="a folder of keys, as keygen makes it")
    group.add_argument("--insecure", action="store_true", help="without keys; on this machine only")


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Add what every client command takes."""
    parser.add_argument(
        "--connect",
        required=True,
        metavar="ADDRESS[,ADDRESS]",
        help="peers of the cluster, as name@host:port; some of them are enough",
    )
    add_keys(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--timeout", type=seconds, default=5.0, metavar="SECONDS", help="default: 5")


def seconds(text: str) -> float:
    """A time on the command line."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def count(text: str) -> int:
    """How many times, on the command line."""
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def addresses_of(text: str, option: str) -> list[str]:
    """The full names in a list with commas.

    Raises:
        UsageError: one is none.
    """
    found = [part.strip() for part in text.split(",") if part.strip()]
    for name in found:
        check_full(name, option)
    if not found:
        raise UsageError(f"{option} names nobody")
    return list(dict.fromkeys(found))


def check_full(name: str, option: str) -> str:
    """A full name.

    Raises:
        UsageError: it is none.
    """
    try:
        address = place_of(name).address
    except InvalidName as error:
        raise UsageError(f"{option}: {error}") from error
    if not address:
        raise UsageError(f"{option}: {name!r} is not of the form name@host:port")
    return name


def prepare(args: argparse.Namespace) -> list[str]:
    """Take the keys that were given; returns the peers to connect to.

    Raises:
        UsageError: neither keys nor ``--insecure``, or no peers.
    """
    if args.keys is None and not args.insecure:
        raise UsageError("give --keys DIR, or --insecure for a cluster on this machine without keys")
    if args.keys is not None and not args.keys.is_dir():
        raise UsageError(f"--keys: there is no folder {args.keys}")
    NETWORK.keys = args.keys
    return addresses_of(args.connect, "--connect")


def at_any(names: list[str], do: Callable[[str], T]) -> T:
    """Do something at the first peer that is there.

    Args:
        names: the peers.
        do: what is to be done at one of them.

    Raises:
        RaftError: why the last peer that was there could not; if none was, the error of the last one.
    """
    answer: NotApplied | None = None
    for name in names:
        try:
            return do(name)
        except UnknownPeer as error:
            if place_of(error.name).name != place_of(name).name:
                raise  # it is about somebody else, and the next one would say the same
            nobody = error
        except NotApplied as error:
            answer = error
    raise answer or nobody


def awake_first(names: list[str]) -> list[str]:
    """In their order, but first those that answer: others may take the whole time of a request."""
    if len(names) == 1:
        return names
    with raft.Client(names, timeout=GLANCE, keys=NETWORK.keys) as client:
        found = client.status()
    return sorted(names, key=lambda name: not isinstance(found[name], raft.Status))


def as_json(value: object) -> str:
    """One line."""
    return json.dumps(value, default=str)


def members_as_json(configuration: raft.Configuration) -> dict[str, Any]:
    """A configuration with the fields of the contract."""
    return {
        "voters": list(configuration.voters),
        "learners": list(configuration.learners),
        "index": configuration.index,
    }


def status_as_json(name: str, status: raft.Status | RaftError) -> dict[str, Any]:
    """The fields of a ``Status``, or why there is none."""
    if not isinstance(status, raft.Status):
        return {"name": name, "error": f"{type(status).__name__}: {status}"}
    found = {field.name: getattr(status, field.name) for field in dataclasses.fields(status)}
    found["configuration"] = dataclasses.asdict(status.configuration)
    found["progress"] = {other: dataclasses.asdict(one) for other, one in status.progress.items()}
    found["failure"] = None if status.failure is None else f"{type(status.failure).__name__}: {status.failure}"
    return found
