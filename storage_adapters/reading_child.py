"""Let another process read files that may kill whoever reads them.

A library that trusts the pages it maps dies of a mangled one. So a child runs a script on the folder first; if it dies,
the parent has learned why it must not do the same. The script says what it found as one JSON object, the last line of
its standard output. It is spawned, never forked.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

_DEADLY = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP}


class ChildFailed(Exception):
    """The child could not do its work, which says nothing about the files."""


def ask(script: str, store: Path) -> dict[str, Any]:
    """Run a script on the folder ``store``, with the modules of this process, and return what it says.

    Returns:
        Its JSON object; ``{"problem": text}`` if it died of the files, and ``{"problem": None}`` where there is no
        interpreter to start (an embedded or frozen program).

    Raises:
        ChildFailed: the child could not be started, was stopped from outside, or failed for another reason.
    """
    if not sys.executable or getattr(sys, "frozen", False):
        logging.getLogger("storage_adapters").warning(
            "%s is opened unread: there is no interpreter to read it with", store
        )
        return {"problem": None}
    try:
        child = subprocess.run(
            [sys.executable, "-P", script, os.fspath(store)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        )
    except OSError as error:
        raise ChildFailed(f"no process could be started to read the store: {error}") from error
    return _said(child)


def leave_no_core() -> None:
    """In the child, first: to die of the files is what it is for, and no memory image of it is to lie around."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, OSError, ValueError):  # another system, or nobody wants one anyway
        return


def _said(child: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    if -child.returncode in _DEADLY:
        return {"problem": f"reading it killed a process with {signal.Signals(-child.returncode).name}"}
    if child.returncode != 0:
        last_words = child.stderr.strip().splitlines()[-1:] or ["no message"]
        raise ChildFailed(f"the process that reads the store ended with status {child.returncode}: {last_words[0]}")
    verdict: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])  # whatever else its start-up may have printed
    return verdict
