"""``raft-actors backup DIR FILE``: everything a stopped peer knows, in one file."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from raft_actors.backups import write_image
from raft_actors.cli.common import UsageError, path_arg
from raft_actors.inspection import NotAStore

if TYPE_CHECKING:
    from raft_actors.cli.log import Subparsers

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command ``backup``."""
    parser = subparsers.add_parser(
        "backup",
        help="write a backup image of a stopped peer",
        description="Write the newest snapshot of a stopped peer, and every entry of its log after it, to a new file, "
        "from which 'raft-actors restore' makes a new cluster. Entries count whether they are committed or not: of "
        "several peers, take the one whose log ends latest. The store is checked and not changed. Exit status: 0 done, "
        "1 the store is damaged or in use, or FILE exists, 2 no store.",
    )
    parser.add_argument("dir", metavar="DIR", type=path_arg, help="the stopped peer's own folder, DATA_DIR/NAME")
    parser.add_argument("file", metavar="FILE", type=path_arg, help="the image; it must not exist")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command.

    Args:
        args: ``dir`` and ``file``.

    Returns:
        The exit status.
    """
    if not args.file.absolute().parent.is_dir():
        raise UsageError(f"{args.file.absolute().parent} is not a folder")
    try:
        last = write_image(args.dir, args.file)
    except NotAStore as error:
        raise UsageError(error) from error
    print(f"{args.file}: {args.file.stat().st_size} bytes, up to entry {last.index} of term {last.term}")
    return 0
