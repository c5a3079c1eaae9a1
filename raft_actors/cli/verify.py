"""``raft-actors verify DIR``: check every checksum of a store without starting its peer."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from raft_actors.cli.common import path_arg
from raft_actors.inspection import NotAStore, Report, verify

if TYPE_CHECKING:
    from raft_actors.cli.log import Subparsers

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command ``verify``."""
    parser = subparsers.add_parser(
        "verify",
        help="check every checksum of a store and its snapshots without starting it",
        description="Check every checksum of a store, its chain, its durable-tail mark and its snapshots; nothing is "
        "changed. "
        "Exit status: 0 sound, 1 not sound or in use, 2 no store.",
    )
    parser.add_argument("dir", metavar="DIR", type=path_arg, help="a peer's own folder, DATA_DIR/NAME")
    parser.add_argument("--json", action="store_true", help='print {"ok": bool, "problems": [...]}')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command.

    Args:
        args: ``dir`` and ``json``.

    Returns:
        The exit status.
    """
    try:
        report = verify(args.dir)
    except NotAStore as error:
        print(f"raft-actors verify: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps({"ok": not report.problems, "problems": list(report.problems)}))
    else:
        _print(report, args.dir)
    return 1 if report.problems else 0


def _print(report: Report, folder: Path) -> None:
    for note in report.notes:
        print(f"note: {note}")
    for problem in report.problems:
        print(f"problem: {problem}")
    if report.problems:
        print(f"raft-actors verify: {folder}: {len(report.problems)} problems", file=sys.stderr)
    elif report.meta is not None:
        first, last = report.bounds
        held = f"entries {first} to {last}" if first <= last else "no entries"
        taken = "".join(f", snapshot of entry {snapshot.last.index}" for snapshot in report.snapshots[:1])
        print(f"ok: peer {report.meta.identity.name}, {held}{taken}, term {report.meta.ballot.term}")
