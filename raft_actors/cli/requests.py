"""``raft-actors write read status members add remove transfer snapshot``: one request to a running cluster."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

import raft_actors as raft
from raft_actors.cli.common import UsageError
from raft_actors.cli.connecting import (
    add_connection,
    as_json,
    at_any,
    awake_first,
    check_full,
    members_as_json,
    prepare,
    status_as_json,
)
from raft_actors.cli.feeding import parsed, shown
from raft_actors.cli.tables import print_table
from raft_actors.errors import RaftError

if TYPE_CHECKING:
    from raft_actors.cli.log import Subparsers

__all__ = ["add_parser", "print_statuses", "statuses"]

HEADER = ("peer", "role", "term", "leader", "commit", "applied", "last", "snapshot", "lag")
Run = Callable[[argparse.Namespace], int]


def add_parser(subparsers: Subparsers) -> None:
    """Add the commands."""
    parser = _command(subparsers, "write", write, "apply one command, and print the reply")
    parser.add_argument("value", metavar="JSON", help='the command, e.g. \'["set", "a", 1]\'; arrays become tuples')
    parser = _command(subparsers, "read", read, "answer one query, and print the reply")
    parser.add_argument("value", metavar="JSON", help='the query, e.g. \'["get", "a"]\'; arrays become tuples')
    parser.add_argument("--consistency", choices=("linearizable", "lease", "stale"), default="linearizable")
    _command(subparsers, "status", status, "what each peer says of itself")
    _command(subparsers, "members", members, "who belongs to the cluster")
    parser = _command(subparsers, "add", add, "make a running peer a member")
    parser.add_argument("peer", metavar="ADDRESS", help="the new one, name@host:port")
    parser.add_argument("--learner", action="store_true", help="it receives everything and has no vote")
    parser.set_defaults(timeout=30.0)
    parser = _command(subparsers, "remove", remove, "make a peer a member no more")
    parser.add_argument("peer", metavar="NAME", help="the member, running or not")
    parser.set_defaults(timeout=10.0)
    parser = _command(subparsers, "transfer", transfer, "let another peer lead")
    parser.add_argument("peer", metavar="NAME", nargs="?", help="who is to lead (default: the most caught-up voter)")
    parser = _command(subparsers, "snapshot", snapshot, "take a snapshot now, and print its index")
    parser.add_argument("peer", metavar="NAME", nargs="?", help="whose (default: that of the first of --connect)")
    parser.set_defaults(timeout=60.0)


def _command(subparsers: Subparsers, name: str, run: Run, about: str) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
    add_connection(parser)
    parser.set_defaults(run=run)
    return parser


def _value(args: argparse.Namespace) -> object:
    try:
        return parsed(args.value.encode())
    except ValueError as error:
        raise UsageError(f"{args.value!r:.100} is not JSON: {error}") from error


def write(args: argparse.Namespace) -> int:
    """Run ``write``."""
    names, command = prepare(args), _value(args)
    with raft.Client(names, timeout=args.timeout, keys=args.keys) as client:
        print(shown(client.write(command)))
    return 0


def read(args: argparse.Namespace) -> int:
    """Run ``read``."""
    names, query = prepare(args), _value(args)
    with raft.Client(names, timeout=args.timeout, keys=args.keys) as client:
        print(shown(client.read(query, consistency=args.consistency)))
    return 0


def statuses(args: argparse.Namespace) -> dict[str, raft.Status | RaftError]:
    """The status of those that were named, and of the members that they know."""
    names = prepare(args)
    with raft.Client(names, timeout=args.timeout, keys=args.keys) as client:
        found = client.status()
    known = {one.name: one for one in found.values() if isinstance(one, raft.Status)}
    newest = max(known.values(), key=lambda one: (one.term, one.configuration.index), default=None)
    members = () if newest is None else (*newest.configuration.voters, *newest.configuration.learners)
    others = [name for name in members if name not in known and name not in found and "@" in name]
    if others:
        with raft.Client(others, timeout=args.timeout, keys=args.keys) as client:
            found |= client.status()
    return found


def status(args: argparse.Namespace) -> int:
    """Run ``status``; exit status 1 if no peer answered."""
    found = statuses(args)
    if args.json:
        print(as_json([status_as_json(name, one) for name, one in found.items()]))
    else:
        print_statuses(found)
    return 0 if any(isinstance(one, raft.Status) for one in found.values()) else 1


def print_statuses(found: dict[str, raft.Status | RaftError]) -> None:
    """A table, and below it what is the matter with whom."""
    print_table(HEADER, _rows_of(found))
    for name, one in found.items():
        error = one.failure if isinstance(one, raft.Status) else one
        if error is not None:
            print(f"{name}: {error}")


def _rows_of(found: dict[str, raft.Status | RaftError]) -> list[tuple[str, ...]]:
    lags = {name: one.lag for each in found.values() if isinstance(each, raft.Status) for name, one in _lags(each)}
    rows = []
    for name, one in found.items():
        if isinstance(one, raft.Status):
            numbers = (one.commit_index, one.last_applied, one.last_index, one.snapshot_index)
            role = one.role if one.failure is None else "failed"
            lag = str(lags.get(one.name, ""))
            rows.append((one.name, role, str(one.term), one.leader or "-", *map(str, numbers), lag))
        else:
            rows.append((name, "no answer", *["-"] * (len(HEADER) - 2)))
    return rows


def _lags(status: raft.Status) -> list[tuple[str, raft.Progress]]:
    return list(status.progress.items())


def members(args: argparse.Namespace) -> int:
    """Run ``members``."""
    _show(args, at_any(awake_first(prepare(args)), lambda name: raft.configuration(name, timeout=args.timeout)))
    return 0


def add(args: argparse.Namespace) -> int:
    """Run ``add``."""
    new, names = check_full(args.peer, "ADDRESS"), awake_first(prepare(args))
    _show(args, at_any(names, lambda name: raft.add_peer(name, new, learner=args.learner, timeout=args.timeout)))
    return 0


def remove(args: argparse.Namespace) -> int:
    """Run ``remove``."""
    names = awake_first(prepare(args))
    _show(args, at_any(names, lambda name: raft.remove_peer(name, args.peer, timeout=args.timeout)))
    return 0


def transfer(args: argparse.Namespace) -> int:
    """Run ``transfer``."""
    names = awake_first(prepare(args))
    leader = at_any(names, lambda name: raft.transfer_leadership(name, args.peer, timeout=args.timeout))
    print(as_json(leader) if args.json else f"{leader} leads")
    return 0


def snapshot(args: argparse.Namespace) -> int:
    """Run ``snapshot``."""
    names = prepare(args)
    print(raft.snapshot(names[0] if args.peer is None else _full(names, args.peer), timeout=args.timeout))
    return 0


def _full(names: list[str], name: str) -> str:
    """The full name of a peer that is given by its short one."""
    if "@" in name:
        return check_full(name, "NAME")
    found = [one for one in names if one.partition("@")[0] == name]
    if not found:
        known = at_any(awake_first(names), raft.configuration)
        found = [one for one in (*known.voters, *known.learners) if one.partition("@")[0] == name]
    if not found:
        raise UsageError(f"there is no member {name!r}")
    return found[0]


def _show(args: argparse.Namespace, configuration: raft.Configuration) -> None:
    if args.json:
        print(as_json(members_as_json(configuration)))
        return
    if not configuration.index:
        print("it belongs to no cluster yet")
        return
    rows = [(name, "voter") for name in configuration.voters] + [(name, "learner") for name in configuration.learners]
    print_table(("member", "as"), rows)
    if not configuration.committed:
        print("this change is not committed yet")
