"""Starting programs as a user would, and looking at what they leave behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sys.executable
RAFT_ACTORS = [PYTHON, "-m", "raft_actors"]
KV = "raft_actors.machines:KV"


def environment() -> dict[str, str]:
    """That of a user in a folder of his own: this repository is importable, nothing else is special."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def start(words: list[object], folder: Path, **options) -> subprocess.Popen:
    """Start a program in ``folder``; pipes for everything unless said otherwise."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen([*map(str, words)], cwd=folder, env=environment(), **{**pipes, **options})


def finish(words: list[object], folder: Path, *, given: bytes = b"", timeout: float = 60.0):
    """Run a program to its end; whatever happens, it shows no traceback."""
    with start(words, folder) as program:
        output, complaint = program.communicate(given, timeout=timeout)
    done = subprocess.CompletedProcess(words, program.returncode, output, complaint)
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


def raft_actors(*words: object, folder: Path, given: bytes = b"", timeout: float = 60.0):
    """Run ``raft-actors`` to its end."""
    return finish([*RAFT_ACTORS, *words], folder, given=given, timeout=timeout)


def one_line(stderr: bytes) -> str:
    """The one line of a complaint."""
    lines = stderr.decode().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def as_lines(commands: list[object]) -> bytes:
    """Commands as ``raft-actors run`` wants them."""
    return b"".join(json.dumps(command).encode() + b"\n" for command in commands)


def from_lines(output: bytes) -> list[object]:
    """Replies as it prints them; a last line that was cut short by a kill is no reply."""
    return [json.loads(line) for line in output.split(b"\n")[:-1]]


class Feeder(threading.Thread):
    """Writes to a pipe until everything is written or nobody reads any more."""

    def __init__(self, pipe, data: bytes) -> None:
        super().__init__(daemon=True)
        self.pipe, self.data = pipe, data
        self.start()

    def run(self) -> None:
        try:
            self.pipe.write(self.data)
            self.pipe.close()
        except OSError:
            pass


def eventually(condition: Callable[[], object], timeout: float = 20.0) -> None:
    """Wait until ``condition`` holds."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        pause.wait(0.01)
