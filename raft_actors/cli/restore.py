"""``raft-actors restore FILE --data-dir DIR --name NAME``: a new cluster of one peer from a backup image."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from raft_actors.backups import restore_image
from raft_actors.cli.common import UsageError, path_arg
from raft_actors.errors import InvalidName
from raft_actors.names import check_name
from raft_actors.opening import ADAPTERS

if TYPE_CHECKING:
    from raft_actors.cli.log import Subparsers

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command ``restore``."""
    parser = subparsers.add_parser(
        "restore",
        help="make a new cluster of one peer from a backup image",
        description="Fill the empty store DIR/NAME from a backup image, as a new cluster of this one peer: start the "
        "peer on it, then add others. No peer of the old cluster can take part in the new one. If anything fails, "
        "nothing is there that was not there before. Exit status: 0 done, 1 the image is damaged or the store not "
        "empty, 2 bad usage.",
    )
    parser.add_argument("file", metavar="FILE", type=path_arg, help="the image")
    parser.add_argument("--data-dir", type=path_arg, required=True, metavar="DIR", help="the data_dir of the peer")
    parser.add_argument("--name", required=True, metavar="NAME", help="the peer; any name will do")
    parser.add_argument("--storage", choices=("lmdb", "rocksdb"), default="lmdb", help="default: lmdb")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command.

    Args:
        args: ``file``, ``data_dir``, ``name`` and ``storage``.

    Returns:
        The exit status.
    """
    try:
        check_name(args.name)
    except InvalidName as error:
        raise UsageError(error) from error
    if not args.file.is_file():
        raise UsageError(f"there is no file {args.file}")
    folder = args.data_dir / args.name
    last = restore_image(args.file, folder, ADAPTERS[args.storage], name=args.name)
    print(f"{folder}: a new cluster of {args.name} alone, up to entry {last.index} of term {last.term}")
    return 0
