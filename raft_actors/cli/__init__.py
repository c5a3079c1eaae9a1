"""The command line: one file per command, each with ``add_parser(subparsers)`` and ``run(args)``.

Exit status: 0 done, 1 the operation failed (one line on standard error, no traceback), 2 bad usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import raft_actors
from raft_actors.cli import (
    backup,
    bench,
    demo,
    keygen,
    log,
    recover,
    requests,
    restore,
    run,
    serve,
    simulate,
    top,
    verify,
)
from raft_actors.cli.common import UsageError, abandon_output, complain
from raft_actors.errors import RaftError, Timeout

__all__ = ["main"]

COMMANDS = (demo, run, serve, requests, top, keygen, log, verify, backup, restore, recover, bench, simulate)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments; ``None``: those of the process.

    Returns:
        The exit status.
    """
    try:
        args = _parser().parse_args(argv)
    except SystemExit as end:  # argparse has said what there was to say
        return end.code if isinstance(end.code, int) else 2
    return _guarded(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="raft-actors", description="Durable, replicated state machines by Raft consensus on Pykka actors."
    )
    parser.add_argument("--version", action="version", version=f"raft-actors {raft_actors.__version__}")
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser


def _guarded(args: argparse.Namespace) -> int:
    """Run a command; whatever happens is an exit status and at most one line."""
    if sys.stdout is None:
        complain(args, "there is no standard output")
        return 1
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except UsageError as error:
        complain(args, error)
        return 2
    except BrokenPipeError:  # whoever read the output has seen enough
        abandon_output()
        return 0
    except KeyboardInterrupt:
        complain(args, "interrupted")
        return 1
    except Timeout as error:
        complain(args, f"{error}; the last refusal: {error.__cause__}" if error.__cause__ else error)
        return 1
    except (RaftError, OSError) as error:
        complain(args, error)
        return 1
    except Exception as error:  # noqa: BLE001 - a user of the command line is not shown a traceback
        complain(args, f"{type(error).__name__}: {error}")
        return 1
    return status
