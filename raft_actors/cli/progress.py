"""How far a run has come, for somebody who watches: one line on a terminal, rewritten, and nothing anywhere else."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Self, TextIO

__all__ = ["Progress"]

INTERVAL = 0.2
"""Seconds between two updates."""


class Progress:
    """Counts answers and shows their rate.

    Args:
        screen: a terminal, or ``None`` to show nothing.
        total: bytes of the whole input, 0 if nobody knows.
    """

    def __init__(self, screen: TextIO | None, total: int = 0) -> None:
        self._screen = screen
        self._total = total
        self._begun = self._shown = time.monotonic()
        self._visible = False

    @classmethod
    def for_terminal(cls, file: Path | None) -> Self:
        """On standard error if that is a terminal and neither commands nor replies go through one."""
        streams = (sys.stdout, sys.stdin) if file is None else (sys.stdout,)
        if sys.stderr is None or not sys.stderr.isatty() or any(s is not None and s.isatty() for s in streams):
            return cls(None)
        return cls(sys.stderr, os.path.getsize(file) if file is not None and file.is_file() else 0)

    def update(self, answers: int, consumed: int) -> None:
        """Show ``answers`` and the part of the input that ``consumed`` bytes are, unless that was done just now."""
        now = time.monotonic()
        if self._screen is None or now - self._shown < INTERVAL:
            return
        self._shown = now
        part = f"{min(consumed / self._total, 1.0):4.0%}  " if self._total else ""
        rate = answers / (now - self._begun)
        self._write(f"\r{part}{answers:,} commands, {rate:,.0f}/s \x1b[K")
        self._visible = True

    def close(self) -> None:
        """Take the line away."""
        if self._visible:
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        if self._screen is not None:
            self._screen.write(text)
            self._screen.flush()
