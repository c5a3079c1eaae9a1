"""The same commands in other processes, where sets of strings are walked in another order.

Within one process all replicas walk a set in the same order, so a machine that depends on it looks deterministic until
its cluster is spread over several processes. Hence the committed commands of a run are replayed in two processes that
hash differently, and must come to the same replies and the same state there.

The processes are started when they are first needed, and end with this one. A machine that they cannot import, because
it is defined in a script or within a function, is not checked in this way.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, NamedTuple, TypeAlias

from raft_actors.state_machine import Context, StateMachine
from raft_actors.testing.simulation.canonical import canonical

__all__ = ["Command", "difference", "main"]

HASH_SEEDS = ("1", "2")
_LENGTH = struct.Struct("<Q")


Command: TypeAlias = tuple[int, int, float, Any]
"""A committed command after its index, term and time."""


class _Work(NamedTuple):
    path: list[str]
    machine: bytes
    commands: bytes


_workers: list[subprocess.Popen[bytes]] = []
_lock = threading.Lock()


def difference(factory: Callable[[], StateMachine[Any, Any]], commands: Sequence[Command]) -> str | None:
    """Say where replays that hash differently come to different results; ``None`` if they do not, or cannot be had."""
    try:
        work = _Work(sys.path, pickle.dumps(factory), pickle.dumps(list(commands)))
    except Exception:  # noqa: BLE001 - what has no name cannot be had elsewhere
        return None
    if getattr(factory, "__module__", "") == "__main__":
        return None
    with _lock:
        results = [_ask(worker, work) for worker in _started()]
    if any(result is None for result in results):
        return None
    return _first_difference(results[0], results[1], commands)


def _first_difference(one: Any, other: Any, commands: Sequence[Command]) -> str | None:
    for mine, its, each in zip(one[0], other[0], commands, strict=True):
        if mine != its:
            return f"{each[-1]!r:.100} at index {each[0]} is answered {mine!r:.100} or {its!r:.100}"
    return None if one[1] == other[1] else f"the state becomes {one[1]!r:.200} or {other[1]!r:.200}"


def _started() -> list[subprocess.Popen[bytes]]:
    """The processes, made anew where one has ended."""
    for place, seed in enumerate(HASH_SEEDS):
        if place < len(_workers) and _workers[place].poll() is None:
            continue
        worker = subprocess.Popen(
            [sys.executable, "-c", "from raft_actors.testing.simulation.other_order import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        _workers[place : place + 1] = [worker]
    return _workers


@atexit.register
def _end() -> None:
    for worker in _workers:
        with contextlib.suppress(OSError):
            if worker.stdin is not None:
                worker.stdin.close()
        worker.wait()


def _ask(worker: subprocess.Popen[bytes], work: _Work) -> Any:
    """The replies and the state, or ``None`` if that process cannot run this machine."""
    if worker.stdin is None or worker.stdout is None:
        return None
    try:
        _write(worker.stdin, work)
        return _read(worker.stdout)
    except (OSError, EOFError, pickle.UnpicklingError):
        worker.kill()
        return None


def _write(stream: BinaryIO | Any, value: Any) -> None:
    data = pickle.dumps(value)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def _read(stream: BinaryIO | Any) -> Any:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    return pickle.loads(stream.read(*_LENGTH.unpack(head)))


def main() -> None:
    """Replay what comes on standard input until it ends; what the machine prints goes nowhere."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            path, machine, commands = _read(sys.stdin.buffer)
        except EOFError:
            return
        sys.path[:] = path
        try:
            result = _replayed(pickle.loads(machine)(), pickle.loads(commands))
        except Exception:  # noqa: BLE001 - whatever it is, it cannot be had here
            result = None
        _write(answers, result)


def _replayed(machine: StateMachine[Any, Any], commands: list[Command]) -> tuple[list[Any], Any]:
    digest = getattr(machine, "digest", None) or canonical
    replies = []
    state = machine.init("replay")
    for index, term, time, command in commands:
        machine.context = Context(index, term, time)
        try:
            reply, state = machine.handle_write(command, state)
            replies.append(canonical(reply))
        except Exception as error:  # noqa: BLE001 - a recorded result
            replies.append(("raised", canonical(error)))
    return replies, digest(state)
