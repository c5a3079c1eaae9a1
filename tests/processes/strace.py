"""Reads what strace saw, and finds promises that were made before the disk had what they promise.

A batch is durable when the adapter returns and every file that its thread wrote for it was synced after the last of
those writes: by an fdatasync or fsync that began after the write had ended and returned 0, or because the file was
opened with O_DSYNC.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.processes.promises import Batch, Promises

CALLS = "openat,write,pwrite64,writev,pwritev,pwritev2,fdatasync,fsync,msync,sync_file_range"
WRITES = frozenset({"write", "pwrite64", "writev", "pwritev", "pwritev2"})
SYNCS = frozenset({"fdatasync", "fsync"})

_LINE = re.compile(r"(\d+)\s+(.*)")
_WHOLE = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)(<.*>)?")
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)")
_FILE = re.compile(r"(\d+)<([^>]*)>")
_MARK = re.compile(r'"(.*?)\\n"')


@dataclass(frozen=True)
class Call:
    """A system call: when it began and ended (line numbers), who made it, and on what."""

    begin: int
    end: int
    thread: str
    name: str
    arguments: str
    result: int
    opened: str = ""


def calls(trace: str) -> list[Call]:
    """The completed calls of a trace, by their ends."""
    return list(_calls(trace.splitlines()))


def _calls(lines: list[str]) -> Iterator[Call]:
    begun: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines):
        found = _LINE.match(line)
        if not found:
            continue
        thread, text = found.groups()
        begin = number
        if text.endswith("<unfinished ...>"):
            begun[thread] = number, text.removesuffix("<unfinished ...>").rstrip()
            continue
        if resumed := _RESUMED.match(text):
            begin, head = begun.pop(thread)
            text = head + resumed[2]
        if whole := _WHOLE.match(text):
            name, arguments, result, opened = whole.groups()
            yield Call(begin, number, thread, name, arguments, int(result), (opened or "<>")[1:-1])


@dataclass
class Writing:
    """A batch on its way: how much its thread has written, and which files are not synced since."""

    name: str
    batch: Batch
    written: int = 0
    dirty: dict[str, int] = field(default_factory=dict)

    def touch(self, call: Call, path: str, *, dsync: bool) -> None:
        if call.name in WRITES:
            self.written += 1
            if not dsync:
                self.dirty[path] = call.end
        elif call.result == 0 and self.dirty.get(path, call.begin) < call.begin:
            del self.dirty[path]

    @property
    def durable(self) -> bool:
        return self.written > 0 and not self.dirty


def judge(trace: str, names: list[str]) -> Promises:
    """Every promise in a trace, by the syncs in it."""
    promises = Promises(names)
    writing: dict[str, Writing] = {}
    dsync: dict[str, bool] = {}
    for call in calls(trace):
        if call.name == "openat":
            dsync[f"{call.result}"] = bool(re.search(r"\bO_D?SYNC\b", call.arguments))
        elif found := _FILE.match(call.arguments):
            descriptor, path = found.groups()
            if path.endswith("/marks"):
                _mark(call, promises, writing)
            elif call.thread in writing:
                writing[call.thread].touch(call, path, dsync=dsync.get(descriptor, False))
    return promises


def _mark(call: Call, promises: Promises, writing: dict[str, Writing]) -> None:
    mark = _MARK.search(call.arguments)[1]
    match mark.split():
        case ["BEGIN", name, *words]:
            writing[call.thread] = Writing(name, Batch.of(words))
            promises.begin(name, writing[call.thread].batch)
        case ["END", name]:
            done = writing.pop(call.thread)
            if done.durable:
                promises.end(name, done.batch)
        case _:
            promises.made(mark, f"line {call.begin + 1}")
