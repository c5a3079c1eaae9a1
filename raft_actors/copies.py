"""Exceptions that leave a machine are copies: an original could reach into the replica's state.

Its arguments and attributes may be pieces of the state, and its traceback holds the frames in which the state lives
(BUG-71). The copy has equal ones and no traceback; the text of the traceback is kept as a note.
"""

from __future__ import annotations

import traceback
from typing import Any

import cloudpickle

from raft_actors.errors import RemoteError

__all__ = ["detached"]


def detached(error: Exception) -> Exception:
    """An equal of ``error`` that shares nothing with it; a ``RemoteError`` if its contents cannot be copied."""
    try:
        given = OSError.__reduce__(error)[1] if isinstance(error, OSError) else error.args  # with its file names
        given, args, attributes = cloudpickle.loads(cloudpickle.dumps((given, error.args, error.__dict__)))
        kind = type(error)
        fresh = kind.__new__(kind, *given)
        _built_in(kind).__init__(fresh, *given)  # not the user's constructor, which may want something else
        fresh.args = args
        fresh.__dict__.update(attributes)
        fresh.add_note("raised in the state machine:\n" + "".join(traceback.format_exception(error)).rstrip())
    except Exception:  # noqa: BLE001 - a user's exception may fail in any way
        return RemoteError.of(error)
    return fresh


def _built_in(kind: type[Exception]) -> Any:
    """The nearest of its classes that comes with Python: some keep what they were given in places of their own."""
    return next(base for base in kind.__mro__ if base.__module__ == "builtins")
