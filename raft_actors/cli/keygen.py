"""``raft-actors keygen DIR``: keys for a node or for a guest of a cluster."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from raft_actors.cli.common import path_arg
from raft_actors.keys import ROLES, keygen

if TYPE_CHECKING:
    from raft_actors.cli.log import Subparsers

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command ``keygen``."""
    parser = subparsers.add_parser(
        "keygen",
        help="make keys for a node or a client",
        description="Make DIR/secret.key and DIR/public.key. For a peer also DIR/allowed, the list of those it lets "
        "in, with its own key on it: copies of this folder on all hosts are the quick start. Any other role is a "
        "guest: the operator adds the printed line to 'allowed' of every node, and the guest puts the cluster's "
        "public.key into DIR as cluster.key.",
    )
    parser.add_argument("folder", metavar="DIR", type=path_arg, help="where to; made if it is not there")
    parser.add_argument("--role", choices=ROLES, default="peer", help="what the key may do (default: peer)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command.

    Args:
        args: ``folder`` and ``role``.

    Returns:
        The exit status.
    """
    print(keygen(args.folder, args.role))
    return 0
