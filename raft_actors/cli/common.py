"""What the commands share: errors of usage, complaints, and finding a state machine by its name."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raft_actors.state_machine import StateMachine

__all__ = ["UsageError", "abandon_output", "complain", "load_machine", "path_arg"]


class UsageError(Exception):
    """The command cannot be meant as it was given: exit status 2."""


def complain(args: argparse.Namespace, problem: object) -> None:
    """Print one line on standard error."""
    text = " ".join(str(problem).split())
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"raft-actors {args.command}: {text}\n")
        sys.stderr.flush()


def abandon_output() -> None:
    """Nobody reads standard output: let what is left in its buffer go nowhere, without an error at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def path_arg(text: str) -> Path:
    """A file or folder on the command line: an empty one is a variable that was not set, and not the folder of now."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty: is a variable not set?")
    return Path(text)


def load_machine(name: str) -> Callable[[], StateMachine[Any, Any]]:
    """Return the state machine that ``MODULE:CLASS`` names; the current directory is searched first.

    Raises:
        UsageError: there is no such module or class, or it makes no state machines.
    """
    module_name, colon, path = name.partition(":")
    if not (module_name and colon and path):
        raise UsageError(f"{name!r} is not of the form MODULE:CLASS")
    found = _import(module_name)
    for part in path.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise UsageError(f"there is no {path!r} in module {module_name!r}")
    if not callable(found) or not isinstance(_made(name, found), StateMachine):
        raise UsageError(f"{name} is neither a raft_actors.StateMachine class nor a function that makes one")
    factory: Callable[[], StateMachine[Any, Any]] = found
    return factory


def _import(module_name: str) -> Any:
    here = os.getcwd()
    if sys.path[:1] != [here]:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name)
    except Exception as error:  # a user's module may fail in any way
        raise UsageError(f"module {module_name!r} cannot be imported: {type(error).__name__}: {error}") from error


def _made(name: str, factory: Callable[[], Any]) -> Any:
    try:
        return factory()
    except Exception as error:  # a user's class may fail in any way
        raise UsageError(f"{name} cannot be made without arguments: {type(error).__name__}: {error}") from error
