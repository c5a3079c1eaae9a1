"""``raft-actors bench``: how fast this is here, beside what this disk and this interpreter can do."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from raft_actors.bench import CASES, PROCESS_CASES, Result, bench, bench_folder, bench_processes, storages
from raft_actors.cli.common import UsageError
from raft_actors.errors import RaftError
from raft_actors.network import need_zmq

if TYPE_CHECKING:
    from raft_actors.cli.log import Subparsers

__all__ = ["add_parser", "run"]

ENGINES = ("lmdb", "rocksdb")
COLUMNS = ("case", "storage", "value", "unit", "ops/s", "p50 us", "p99 us", "disk us", "ask us")


def add_parser(subparsers: Subparsers) -> None:
    """Add the command ``bench``."""
    parser = subparsers.add_parser(
        "bench",
        help="measure writes, reads, failover and cost on this machine",
        description="Measure three peers in one process with 256-byte commands, beside a bare append + fdatasync and "
        "a bare Pykka ask. Ratios are medians of three paired runs. Exit status: 0 measured, 1 a cluster failed.",
    )
    parser.add_argument("--case", action="append", choices=CASES, metavar="CASE", help=f"one of {', '.join(CASES)}")
    parser.add_argument("--storage", action="append", choices=ENGINES, help="default: every engine that is installed")
    parser.add_argument(
        "--processes",
        action="store_true",
        help=f"each peer in a process of its own (extra net); cases: {', '.join(PROCESS_CASES)}",
    )
    parser.add_argument("--seconds", type=_seconds, default=3.0, help="how long a case measures (default 3)")
    parser.add_argument("--dir", type=_folder, help="a folder on the disk to measure (default: for temporary files)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.set_defaults(run=run)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not (math.isfinite(seconds) and seconds > 0):
        raise argparse.ArgumentTypeError(f"{text} is no positive number of seconds")
    return seconds


def _folder(text: str) -> Path:
    folder = Path(text)
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no folder")
    return folder


def run(args: argparse.Namespace) -> int:
    """Run the command.

    Args:
        args: ``case``, ``storage``, ``processes``, ``seconds``, ``dir`` and ``json``.

    Returns:
        The exit status.
    """
    known = PROCESS_CASES if args.processes else CASES
    cases = list(dict.fromkeys(args.case or known))
    unknown = [case for case in cases if case not in known]
    if unknown:
        raise UsageError(f"--processes has no case {unknown[0]}; it has {', '.join(known)}")
    if args.processes:
        need_zmq()
    engines = list(dict.fromkeys(args.storage or storages()))
    try:
        with bench_folder(args.dir) as folder:
            measure = bench_processes if args.processes else bench
            results = measure(cases, engines, seconds=args.seconds, folder=folder)
            if args.json:
                _print_json(results)
            else:
                _print_table(results)
    except (RaftError, OSError) as error:
        print(f"raft-actors bench: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _print_json(results: Iterable[Result]) -> None:
    for result in results:
        print(json.dumps(result.to_json()), flush=True)


def _print_table(results: Iterable[Result]) -> None:
    """A line as soon as it is known; with rich on a terminal, a table in the end."""
    seen = []
    shown = _Lines()
    for result in results:
        seen.append(result)
        shown.add(result)
    for result in seen:
        if result.void:
            print(f"void: {result.case} on {result.storage}: {result.void}")


class _Lines:
    """Rows of fixed width, in colour where rich is there and a terminal wants it."""

    WIDTHS = (20, 7, 8, 44, 9, 9, 9, 7, 6)

    def __init__(self) -> None:
        try:
            from rich.console import Console
        except ImportError:
            self._print: Callable[[str], None] = print
        else:
            self._print = Console(highlight=False, soft_wrap=True, markup=False).print
        self._row(COLUMNS)

    def add(self, result: Result) -> None:
        """Show a result."""
        value = "void" if result.value is None else f"{result.value:.2f}"
        figures = (result.ops_s, result.p50_us, result.p99_us, result.disk_p50_us, result.ask_p50_us)
        texts = [f"{figure:,.0f}" if figure else "-" for figure in figures]
        self._row((result.case, result.storage, value, result.unit, *texts))
        if result.details:
            self._print("    " + ", ".join(f"{name} {value}" for name, value in result.details.items()))

    def _row(self, texts: Iterable[str]) -> None:
        self._print(" ".join(text.ljust(width) for text, width in zip(texts, self.WIDTHS, strict=True)).rstrip())
