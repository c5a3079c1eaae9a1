"""Tables on standard output: by rich where it is installed and somebody watches, else in plain columns."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["print_table"]

INDENT = 5


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print ``rows`` under ``header``."""
    if not (sys.stdout.isatty() and _print_rich(header, rows)):
        _print_plain(header, rows)


def _print_plain(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        cells = "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(" " * INDENT + cells.rstrip())


def _print_rich(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether rich was there to print it."""
    try:
        from rich.console import Console
        from rich.padding import Padding
        from rich.table import Table
    except ImportError:
        return False
    table = Table(*header)
    for row in rows:
        table.add_row(*row)
    Console().print(Padding(table, (0, 0, 0, INDENT)))
    return True
