"""``raft-actors recover DIR [DIR ...] --peers NAME[,NAME ...] --i-accept-data-loss``: go on without a quorum."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from raft_actors.cli.common import UsageError, path_arg
from raft_actors.errors import InvalidName
from raft_actors.inspection import NotAStore
from raft_actors.names import check_name
from raft_actors.recovering import Recovery, finish, surveyed

if TYPE_CHECKING:
    from raft_actors.cli.log import Subparsers

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command ``recover``."""
    parser = subparsers.add_parser(
        "recover",
        help="make a new cluster from what is left, after a quorum was lost for good",
        description="Only if a majority of the peers is gone and never comes back: compare the stores of those that "
        "are left, take the one whose log ends latest (term before index), and make a new cluster, with a new id, of "
        "the peers that you name. What only the lost peers knew is lost, acknowledged writes among it. The old stores "
        "are kept beside the new ones, as DIR.before-recovery. Without --i-accept-data-loss it says what it would do, "
        "and changes nothing. Stop all peers first. Exit status: 0 done, 1 nothing was changed, or a store is damaged "
        "or in use, 2 bad usage.",
    )
    parser.add_argument(
        "dirs", metavar="DIR", nargs="+", type=path_arg, help="a stopped peer's own folder, DATA_DIR/NAME"
    )
    parser.add_argument(
        "--peers",
        required=True,
        metavar="NAMES",
        help="the voters of the new cluster, with commas between: NAME or NAME@HOST:PORT, each with its DIR",
    )
    parser.add_argument("--i-accept-data-loss", action="store_true", dest="accept", help="do it")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command.

    Args:
        args: ``dirs``, ``peers`` and ``accept``.

    Returns:
        The exit status.
    """
    peers = _peers(args.peers)
    if args.accept:
        for folder in finish(args.dirs):
            print(f"{folder}: the recovery that was interrupted is finished")
            args.dirs = []
    if not args.dirs:
        return 0
    try:
        with surveyed(args.dirs) as recovery:
            return _recover(recovery, peers, accept=args.accept)
    except NotAStore as error:
        raise UsageError(error) from error


def _peers(text: str) -> dict[str, str]:
    peers: dict[str, str] = {}
    for word in text.split(","):
        name, _, address = word.partition("@")
        try:
            check_name(name)
        except InvalidName as error:
            raise UsageError(f"--peers: {error}") from error
        if name in peers:
            raise UsageError(f"--peers: {name!r} is there twice")
        peers[name] = address
    return peers


def _recover(recovery: Recovery, peers: dict[str, str], *, accept: bool) -> int:
    recovery.require(peers)
    _print_stores(recovery)
    print("what is lost:")
    _print_lines(recovery.losses())
    if not accept:
        print("nothing was changed: repeat with --i-accept-data-loss to do it")
        return 1
    cluster = recovery.carry_out(peers)
    print(f"a new cluster {cluster} of {', '.join(peers)}; the old stores:")
    _print_lines([str(folder) for folder in recovery.kept(peers)])
    print("start these peers, then add others; peers of the old cluster join with empty stores only")
    return 0


def _print_stores(recovery: Recovery) -> None:
    for store in recovery.stores:
        remark = "  <- this log counts" if store is recovery.best else ""
        last = f"term {store.last.term} index {store.last.index}"
        print(f"{store.name}  {store.folder}  {store.engine}  {last}{remark}")


def _print_lines(lines: Sequence[str]) -> None:
    for line in lines:
        print(f"  {line}")
