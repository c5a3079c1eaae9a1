"""Lines of a file or a pipe as they arrive, in batches, until the end or until somebody ends it."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from types import TracebackType
from typing import Self

__all__ = ["Lines"]

CHUNK = 1 << 16
BATCH = 1000
"""Most lines in one batch."""


class Lines:
    """The lines of a file descriptor: each batch is what was there, so that a pipe stays interactive.

    A context manager. ``end`` may be called by any thread and by a signal handler: it only writes a byte to a pipe that
    the reader watches, and so raises nothing into whatever it does.

    Args:
        source: where the lines come from.

    Attributes:
        why: the reason given to ``end``, or ``None``.
    """

    def __init__(self, source: int) -> None:
        self.why: str | None = None
        self._source = source
        self._watched, self._bell = os.pipe()

    def __enter__(self) -> Self:
        """Return the lines themselves."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the pipe, not the source."""
        os.close(self._watched)
        os.close(self._bell)

    def end(self, why: str) -> None:
        """Read no more, because of ``why``; the first reason counts."""
        if self.why is None:
            self.why = why
            os.write(self._bell, b"x")

    def batches(self) -> Iterator[list[bytes]]:
        """Yield batches of lines without their newlines; a last line without newline counts."""
        rest: list[bytes] = []
        while (data := self._read()) is not None:
            head, newline, tail = data.rpartition(b"\n")
            if not newline:
                rest.append(tail)
                continue
            lines = b"".join([*rest, head]).split(b"\n")
            rest = [tail] if tail else []
            for begin in range(0, len(lines), BATCH):
                yield lines[begin : begin + BATCH]
        if rest and self.why is None:
            yield [b"".join(rest)]

    def _read(self) -> bytes | None:
        """What is there now, at least a byte; ``None`` at the end."""
        waiting = select.poll()  # select itself knows no descriptor above 1023
        for descriptor in (self._source, self._watched):
            waiting.register(descriptor, select.POLLIN)
        if self._watched in dict(waiting.poll()):
            return None
        return os.read(self._source, CHUNK) or None
