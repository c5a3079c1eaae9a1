"""Exceptions that leave a machine are copies: an original could reach into the replica's state.

Its arguments and attributes may be pieces of the state, and its traceback holds the frames in which the state lives
(BUG-71). The copy has equal ones and no traceback; the text of the traceback is kept as a note.
"""

from __future__ import annotations

import traceback

import cloudpickle

from raft_actors.errors import RemoteError

__all__ = ["detached"]


def detached(error: Exception) -> Exception:
    """An equal of ``error`` that shares nothing with it; a ``RemoteError`` if its contents cannot be copied."""
    try:
        args, attributes = cloudpickle.loads(cloudpickle.dumps((error.args, error.__dict__)))
        fresh = type(error).__new__(type(error), *args)  # not by its constructor, which may want something else
        fresh.args = args
        fresh.__dict__.update(attributes)
        fresh.add_note("raised in the state machine:\n" + "".join(traceback.format_exception(error)).rstrip())
    except Exception:  # noqa: BLE001 - a user's exception may fail in any way
        return RemoteError.of(error)
    return fresh
