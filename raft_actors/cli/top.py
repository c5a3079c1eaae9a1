"""``raft-actors top``: the status of a cluster, again and again."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

import raft_actors as raft
from raft_actors.cli.connecting import add_connection, as_json, count, seconds, status_as_json
from raft_actors.cli.requests import print_statuses, statuses

if TYPE_CHECKING:
    from raft_actors.cli.log import Subparsers

__all__ = ["add_parser", "run"]

CLEAR = "\x1b[H\x1b[2J"


def add_parser(subparsers: Subparsers) -> None:
    """Add the command ``top``."""
    parser = subparsers.add_parser(
        "top",
        help="watch a cluster",
        description="Show what each peer says of itself, again and again, until Ctrl-C or --count.",
    )
    add_connection(parser)
    parser.add_argument("--interval", type=seconds, default=1.0, metavar="SECONDS", help="default: 1")
    parser.add_argument("--count", type=count, metavar="N", help="so many times (default: until Ctrl-C)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command.

    Args:
        args: as of the other client commands, ``interval`` and ``count``.

    Returns:
        The exit status: 1 if no peer answered the last time.
    """
    shown, answered = 0, True
    while args.count is None or shown < args.count:
        try:
            if shown:
                time.sleep(args.interval)
            found = statuses(args)
        except KeyboardInterrupt:
            break
        answered = any(isinstance(one, raft.Status) for one in found.values())
        if args.json:
            print(as_json([status_as_json(name, one) for name, one in found.items()]))
        else:
            if sys.stdout.isatty():
                print(CLEAR, end="")
            print_statuses(found)
        sys.stdout.flush()
        shown += 1
    return 0 if answered else 1
