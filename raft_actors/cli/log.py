"""``raft-actors log DIR``: print the entries of a store without starting its peer.

Commands are shown decoded only if that cannot run code (codec ``plain``), else as bytes; ``--decode`` unpickles, which
executes whatever the bytes say.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from raft_actors.cli.common import path_arg
from raft_actors.codec import CloudpickleCodec, PlainCodec
from raft_actors.errors import RaftError
from raft_actors.inspection import NotAStore, entries, reading
from raft_actors.protocol.configuration import Member
from raft_actors.protocol.configuration import decode as decode_configuration
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.sessions import OpenSession, parse
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.snapshot_recovery import candidates, snapshot_folder
from raft_actors.snapshot_store import SnapshotStore
from raft_actors.store_meta import Meta, read_meta
from storage_adapters import StorageAdapter

if TYPE_CHECKING:
    Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

__all__ = ["add_parser", "run"]

SHOWN_BYTES = 32
"""How much of what cannot be decoded is shown."""


def add_parser(subparsers: Subparsers) -> None:
    """Add the command ``log``."""
    parser = subparsers.add_parser(
        "log",
        help="print the entries of a store without starting it",
        description="Print the snapshots of a store, and index, term, kind, time and contents of its entries; nothing "
        "is changed.",
    )
    parser.add_argument("dir", metavar="DIR", type=path_arg, help="a peer's own folder, DATA_DIR/NAME")
    parser.add_argument("--first", type=int, default=1, metavar="INDEX", help="begin with this entry")
    parser.add_argument("--last", type=int, default=2**63 - 1, metavar="INDEX", help="end with this entry")
    parser.add_argument(
        "--decode", action="store_true", help="also unpickle commands: this RUNS CODE from the log, so trust its origin"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command.

    Args:
        args: ``dir``, ``first``, ``last`` and ``decode``.

    Returns:
        The exit status: 0 done, 1 the store is damaged, in use or unreadable, 2 there is no store.
    """
    try:
        with reading(args.dir) as adapter:
            _print_log(adapter, args)
    except NotAStore as error:
        print(f"raft-actors log: {error}", file=sys.stderr)
        return 2
    except RaftError as error:
        print(f"raft-actors log: {error}", file=sys.stderr)
        return 1
    return 0


def _print_log(adapter: StorageAdapter, args: argparse.Namespace) -> None:
    meta = read_meta(adapter.meta, f"the store {args.dir}")
    if meta is None:
        raise NotAStore(f"{args.dir} holds a log that no peer has made")
    print(_headline(meta, *adapter.bounds()))
    found = SnapshotStore(snapshot_folder(args.dir)).found()
    counting = candidates(adapter, meta, found)
    for snapshot in found:
        print(_snapshot_line(snapshot, "" if snapshot in counting else ", left over"))
    show = _decoder(meta.identity.codec, trusted=args.decode)
    for entry in entries(adapter, args.first, args.last):
        print(_line(entry, show))


def _headline(meta: Meta, first: int, last: int) -> str:
    identity, ballot = meta.identity, meta.ballot
    held = f"entries {first} to {last}" if first <= last else "no entries"
    return (
        f"# peer {identity.name}, incarnation {identity.incarnation}, cluster {identity.cluster or '-'}, "
        f"format {identity.format}, codec {identity.codec or '-'}, "
        f"term {ballot.term}, voted for {ballot.voted_for or '-'}, {held}"
    )


def _snapshot_line(snapshot: Snapshot, remark: str) -> str:
    return (
        f"# snapshot {snapshot.id}, after entry {snapshot.last.index} of term {snapshot.last.term}, "
        f"{_time(snapshot.time)}, {snapshot.size} bytes{remark}"
    )


def _line(entry: Entry, show: Callable[[bytes], str]) -> str:
    match entry.kind:
        case EntryKind.COMMAND:
            contents = show(entry.data)
        case EntryKind.CONFIGURATION:
            contents = _members(entry.data)
        case EntryKind.SESSION:
            contents = _request(entry, show)
        case _:
            contents = _raw(entry.data)
    return f"{entry.index:>8} {entry.term:>6}  {entry.kind.name.lower():<13}  {_time(entry.time)}  {contents}".rstrip()


def _request(entry: Entry, show: Callable[[bytes], str]) -> str:
    try:
        request = parse(entry)
    except ValueError:
        return _raw(entry.data)
    if isinstance(request, OpenSession):
        return f"opened for {request.timeout:g} s"
    after = f" after {request.previous}" if request.previous else ""
    return f"{request.session}/{request.sequence}{after} {show(request.command)}"


def _time(seconds: float) -> str:
    try:
        return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return repr(seconds)


def _decoder(codec: str, *, trusted: bool) -> Callable[[bytes], str]:
    """Return how commands are shown: decoded if that is safe or wanted, else as bytes.

    Args:
        codec: name of the codec that the store names, ``""`` if it names none.
        trusted: whether unpickling was asked for.
    """
    ways: list[Callable[[bytes], object]] = []
    if codec in ("", PlainCodec.name):
        ways.append(PlainCodec().decode)
    if trusted and codec in ("", CloudpickleCodec.name):
        ways.append(CloudpickleCodec().decode)

    def show(data: bytes) -> str:
        for decode in ways:
            try:
                return repr(decode(data))
            except Exception:  # noqa: BLE001 - other bytes than expected, or a repr that fails: then it is shown raw
                continue
        return _raw(data)

    return show


def _raw(data: bytes) -> str:
    if not data:
        return ""
    return f"{len(data)} bytes {data[:SHOWN_BYTES].hex()}{'…' if len(data) > SHOWN_BYTES else ''}"


def _members(data: bytes) -> str:
    try:
        configuration = decode_configuration(data)
    except ValueError:
        return _raw(data)
    halves = (
        ("voters", configuration.voters),
        ("outgoing", configuration.outgoing),
        ("learners", configuration.learners),
    )
    return ", ".join(f"{word} {_names(members)}" for word, members in halves if members)


def _names(members: tuple[Member, ...]) -> str:
    return " ".join(member.name for member in members)
