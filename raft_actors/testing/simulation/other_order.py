"""The same commands in other processes, where sets of strings are walked in another order and it is another day.

Within one process all replicas walk a set in the same order, read nearly the same clock and live in one time zone, so a
machine that depends on that looks deterministic until its cluster is spread over several processes. Hence the committed
commands of a run are replayed in two processes that hash differently and whose clock and time zone differ, and must
come to the same replies and the same state there.

The processes are started when they are first needed, and end with this one. A machine that they cannot import, because
it is defined in a script or within a function, is sent to them as code.
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
import time
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, NamedTuple, TypeAlias, cast

import cloudpickle

from raft_actors.state_machine import Context, StateMachine
from raft_actors.testing.simulation.canonical import canonical

__all__ = ["Command", "difference", "main"]

ELSEWHERE = (("1", "UTC0", 0.0), ("2", "ELSE-9", 200_000.0))
"""By process: how it hashes, its time zone, and how many seconds its clock is ahead."""
_LENGTH = struct.Struct("<Q")


Command: TypeAlias = tuple[int, int, float, Any]
"""A committed command after its index, term and time."""


class _Work(NamedTuple):
    path: list[str]
    replay: bytes


_workers: list[subprocess.Popen[bytes]] = []
_lock = threading.Lock()


def difference(factory: Callable[[], StateMachine[Any, Any]], commands: Sequence[Command]) -> str | None:
    """Say where replays that hash differently come to different results; ``None`` if they do not, or cannot be had."""
    for pack in (_by_name, _as_code):
        try:
            work = _Work(sys.path, pack(factory, commands))
        except Exception:  # noqa: BLE001 - an object of the user may fail in any way
            continue
        with _lock:
            one, other = [_ask(worker, work) for worker in _started()]
        if one is not None and other is not None:
            return _first_difference(one, other, commands)
    return None


def _by_name(factory: Callable[[], StateMachine[Any, Any]], commands: Sequence[Command]) -> bytes:
    """For what can be imported there; cloudpickle sends as code what has no module at all."""
    return cast("bytes", cloudpickle.dumps((factory, list(commands))))


def _as_code(factory: Callable[[], StateMachine[Any, Any]], commands: Sequence[Command]) -> bytes:
    """For what is defined in a module that only this process knows."""
    module = sys.modules[factory.__module__]
    cloudpickle.register_pickle_by_value(module)
    try:
        return _by_name(factory, commands)
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _first_difference(one: Any, other: Any, commands: Sequence[Command]) -> str | None:
    for mine, its, each in zip(one[0], other[0], commands, strict=True):
        if mine != its:
            return f"{each[-1]!r:.100} at index {each[0]} is answered {mine!r:.100} or {its!r:.100}"
    return None if one[1] == other[1] else f"the state becomes {one[1]!r:.200} or {other[1]!r:.200}"


def _started() -> list[subprocess.Popen[bytes]]:
    """The processes, made anew where one has ended."""
    for place, (seed, zone, ahead) in enumerate(ELSEWHERE):
        if place < len(_workers) and _workers[place].poll() is None:
            continue
        worker = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import main; main({ahead})"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={
                **os.environ,
                "PYTHONHASHSEED": seed,
                "TZ": zone,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            },
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


def main(ahead: float) -> None:
    """Replay what comes on standard input until it ends; what the machine prints goes nowhere.

    Args:
        ahead: seconds by which the clock is ahead of the true time.
    """
    _set_clock(ahead)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            path, replay = _read(sys.stdin.buffer)
        except EOFError:
            return
        sys.path[:] = path
        try:
            factory, commands = pickle.loads(replay)
            result = _replayed(factory(), commands)
        except Exception:  # noqa: BLE001 - whatever it is, it cannot be had here
            result = None
        _write(answers, result)


def _set_clock(ahead: float) -> None:
    """Change what ``time.time`` says, and with it ``date.today``."""
    true, true_ns = time.time, time.time_ns
    time.time = lambda: true() + ahead
    time.time_ns = lambda: true_ns() + int(ahead * 1e9)


def _replayed(machine: StateMachine[Any, Any], commands: list[Command]) -> tuple[list[Any], Any]:
    digest = getattr(machine, "digest", None) or canonical
    replies = []
    state = machine.init("replay")
    for index, term, when, command in commands:
        machine.context = Context(index, term, when)
        try:
            reply, state = machine.handle_write(command, state)
            replies.append(canonical(reply))
        except Exception as error:  # noqa: BLE001 - a recorded result
            replies.append(("raised", canonical(error)))
    return replies, digest(state)
