"""Commands in, replies out: many in flight, replies in order, each as soon as it is known.

::

    [main thread] lines -> commands -> client --futures--> [printer] waits for each in turn -> lines

The printer writes what it has whenever it has to wait, so a pipe stays interactive and a file costs few system calls.
"""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from raft_actors.cli.lines import Lines
from raft_actors.cli.progress import Progress
from raft_actors.client import Client
from raft_actors.errors import RaftError
from raft_actors.futures import RequestFuture

__all__ = ["Feed", "parsed", "shown"]

WINDOW = 8_000
"""Commands in flight; fewer than the ``max_pending_writes`` of a peer."""
WINDOW_BYTES = 16 << 20
"""The same in bytes of their lines."""
PATIENCE = 1.0
"""Seconds for the answers under way when the run is cut short."""


@dataclass(slots=True)
class _Batch:
    """Requests, or errors that need none, in the order of their lines; ``size``: bytes of the lines."""

    items: list[RequestFuture[Any] | str] = field(default_factory=list)
    size: int = 0


class Feed:
    """One run of commands through a client.

    Args:
        client: the cluster.
        lines: where commands come from.
        output: file descriptor for the replies.
        progress: shows how far it is.

    Attributes:
        answered: lines that have their answer.
        failed: how many of them are errors.
    """

    def __init__(self, client: Client, lines: Lines, output: int, progress: Progress) -> None:
        self.answered = 0
        self.failed = 0
        self._client = client
        self._lines = lines
        self._output = output
        self._progress = progress
        self._batches: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._room = threading.Condition()
        self._commands = self._bytes = self._consumed = 0
        self._printer = threading.Thread(target=self._print_all, name="raft-run-printer", daemon=True)

    def run(self) -> None:
        """Feed everything; returns when the last reply is printed, or soon after the lines were ended."""
        self._printer.start()
        for batch in self._requests():
            self._hand_over(batch)
        self._batches.put(None)
        while self._printer.is_alive() and self._lines.why is None:
            self._printer.join(0.1)
        self._printer.join(PATIENCE)
        self._progress.close()

    # -- in the main thread --------------------------------------------------------------------------------------------

    def _requests(self) -> Iterator[_Batch]:
        number = 0
        for lines in self._lines.batches():
            batch = _Batch()
            for line in lines:
                number += 1
                batch.size += len(line) + 1
                if line and not line.isspace():
                    batch.items.append(self._request(line, number))
            yield batch

    def _request(self, line: bytes, number: int) -> RequestFuture[Any] | str:
        try:
            command = parsed(line)
        except ValueError as error:
            return _error_line("InvalidJSON", f"line {number}: {error}")
        return self._client.write(command, block=False)

    def _hand_over(self, batch: _Batch) -> None:
        """Give a batch to the printer, and wait until less is in flight."""
        with self._room:
            self._commands += len(batch.items)
            self._bytes += batch.size
            self._batches.put(batch)
            while (self._commands >= WINDOW or self._bytes >= WINDOW_BYTES) and self._lines.why is None:
                self._room.wait(0.1)

    # -- in the printer's thread ---------------------------------------------------------------------------------------

    def _print_all(self) -> None:
        try:
            while (batch := self._batches.get()) is not None:
                self._print(batch)
        except BrokenPipeError:
            self._lines.end("nobody reads the output any more")
        except OSError as error:
            self._lines.end(f"the output cannot be written: {error.strerror}")

    def _print(self, batch: _Batch) -> None:
        ready: list[str] = []
        for item in batch.items:
            if isinstance(item, str):
                ready.append(item)
                self.failed += 1
                continue
            if not item.done():
                self._write(ready)
            ready.append(self._answer(item))
        self._write(ready)
        with self._room:
            self._commands -= len(batch.items)
            self._bytes -= batch.size
            self._room.notify()
        self._consumed += batch.size
        self._progress.update(self.answered, self._consumed)

    def _answer(self, future: RequestFuture[Any]) -> str:
        try:
            return shown(future.get())
        except RaftError as error:
            self.failed += 1
            return _error_line(type(error).__name__, str(error))

    def _write(self, ready: list[str]) -> None:
        """Write what is known, before waiting for more."""
        if ready:
            ready.append("")
            data = memoryview("\n".join(ready).encode())
            while data:
                data = data[os.write(self._output, data) :]
            self.answered += len(ready) - 1
            ready.clear()


def parsed(line: bytes) -> Any:
    """The command that a line of JSON means: its value, with tuples for arrays.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return _with_tuples(msgspec.json.decode(line))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None


def _with_tuples(value: Any) -> Any:
    kind = type(value)
    if kind is list:
        return tuple([item if type(item) is str else _with_tuples(item) for item in value])
    if kind is dict:
        return {key: _with_tuples(item) for key, item in value.items()}
    return value


def shown(reply: Any) -> str:
    """A reply as a line of JSON: tuples as arrays, and what JSON lacks as the text of its ``repr``."""
    try:
        return _encode(reply)
    except (TypeError, ValueError, RecursionError):  # a key or number that JSON lacks, a ring, a depth
        return _encode(_text(reply))


def _text(reply: Any) -> str:
    try:
        return repr(reply)
    except Exception:  # noqa: BLE001 - the reply is the user's and may fail in any way
        return object.__repr__(reply)


def _error_line(kind: str, message: str) -> str:
    return _encode({"error": kind, "message": message})


_encode = json.JSONEncoder(default=_text, allow_nan=False).encode
