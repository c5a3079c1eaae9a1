"""``raft-actors run MODULE:CLASS``: feed a file or a pipe of commands through a durable cluster.

The state lives in ``--data-dir``, by default ``raft_data/run-MODULE-CLASS``, and is there again in the next run.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import raft_actors as raft
from raft_actors.cli.common import UsageError, complain, load_machine, path_arg
from raft_actors.cli.feeding import Feed
from raft_actors.cli.lines import Lines
from raft_actors.cli.peers import running
from raft_actors.cli.progress import Progress

if TYPE_CHECKING:
    from raft_actors.cli.log import Subparsers

__all__ = ["add_parser", "run"]

TIMEOUT = 30.0
"""Seconds after which a command without an answer becomes an error line."""
MOST_PEERS = 99


def add_parser(subparsers: Subparsers) -> None:
    """Add the command ``run``."""
    parser = subparsers.add_parser(
        "run",
        help="feed commands through a durable cluster",
        description="Feed commands, one JSON value a line (arrays become tuples), through a durable cluster of this "
        "process. Prints one JSON line per command, in order, as soon as it is known: the reply, or "
        '{"error": TYPE, "message": TEXT}. The state survives from run to run. Exit status 1 if any line failed.',
    )
    parser.add_argument("machine", metavar="MODULE:CLASS", help="a StateMachine; the current directory comes first")
    parser.add_argument(
        "--input", type=path_arg, metavar="FILE", help="read commands from FILE (default: standard input)"
    )
    parser.add_argument("--peers", type=_count, default=3, metavar="N", help="size of the cluster (default 3)")
    parser.add_argument(
        "--data-dir", type=path_arg, metavar="DIR", help="where the state lives (default raft_data/run-MODULE-CLASS)"
    )
    parser.add_argument("--storage", choices=("lmdb", "rocksdb", "memory"), default="lmdb", help="default: lmdb")
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    if text.isdecimal() and 1 <= int(text) <= MOST_PEERS:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of peers from 1 to {MOST_PEERS}")


def run(args: argparse.Namespace) -> int:
    """Run the command.

    Args:
        args: ``machine``, ``input``, ``peers``, ``data_dir`` and ``storage``.

    Returns:
        The exit status: 0 every line has its reply, 1 some have an error, or the run was cut short.
    """
    machine = load_machine(args.machine)
    data_dir = args.data_dir or Path("raft_data") / f"run-{args.machine.replace(':', '-')}"
    if data_dir.exists() and not data_dir.is_dir():
        raise UsageError(f"{data_dir} is no folder")
    config = raft.Config(data_dir=data_dir, storage=args.storage)
    with (
        _opened(args.input) as source,
        Lines(source) as lines,
        _ended_by_signals(lines),
        running(machine, args.peers, config) as names,
        raft.Client(names, timeout=TIMEOUT) as client,
    ):
        feed = Feed(client, lines, sys.stdout.fileno(), Progress.for_terminal(args.input))
        feed.run()
    return _verdict(args, feed, lines.why)


def _verdict(args: argparse.Namespace, feed: Feed, why: str | None) -> int:
    if why is not None:
        complain(args, f"{why}, after {feed.answered} answers, {feed.failed} of them errors")
    elif feed.failed:
        complain(args, f"{feed.failed} of {feed.answered} commands failed")
    return 1 if feed.failed or why is not None else 0


@contextmanager
def _opened(path: Path | None) -> Iterator[int]:
    """The file descriptor to read from."""
    if path is None:
        if sys.stdin is None:
            raise UsageError("there is no standard input: give --input FILE")
        yield sys.stdin.fileno()
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise UsageError(f"--input {path}: {error.strerror}") from error
    try:
        if path.is_dir():
            raise UsageError(f"--input {path}: Is a directory")
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _ended_by_signals(lines: Lines) -> Iterator[None]:
    """SIGINT and SIGTERM end ``lines``; the second one ends the process as usual."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        lines.end("interrupted")

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
