"""Read a whole LMDB store in a process that may die of it.

LMDB trusts the pages it maps: one mangled pointer is a segmentation fault. Before a store whose file is not as it was
left is opened here, a child process opens it and touches every page of its log and meta. If the child dies, the parent
has learned why it must not do the same.

The child runs this very file as a script, so it loads the adapters and nothing of ``raft_actors``: it starts faster,
and what it says is one JSON object on its standard output. It is spawned, never forked (BUG-75).
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

__all__ = ["ProbeFailed", "probe"]

_KEYS = ("format", "name", "incarnation", "codec", "cluster", "ballot", "previous", "snapshot", "machine")
_CHUNK = 4 << 20


class ProbeFailed(Exception):
    """The child could not do its work, which says nothing about the store."""


def probe(store: Path) -> str | None:
    """Read all of the LMDB store at ``store`` in a child process.

    Returns:
        What is wrong with it, or ``None``; also where there is no interpreter to start (an embedded or frozen program).

    Raises:
        storage_adapters.StoreInUse: somebody has it open.
        ProbeFailed: the child could not be started, was stopped from outside, or failed for another reason.
    """
    from storage_adapters import StoreInUse
    from storage_adapters.reading_child import ChildFailed, ask

    try:
        verdict = ask(__file__, store)
    except ChildFailed as error:
        raise ProbeFailed(str(error)) from error
    if "in_use_by" in verdict:
        raise StoreInUse(store, verdict["in_use_by"])
    problem: str | None = verdict["problem"]
    return problem


def _read_all(store: str) -> dict[str, object]:
    """Open the store and touch everything in it; what the bytes mean is checked by the parent."""
    from storage_adapters import LMDBAdapter, StorageError, StoreInUse
    from storage_adapters.reading_child import leave_no_core

    leave_no_core()
    try:
        with LMDBAdapter(store) as adapter:
            for key in _KEYS:
                adapter.meta(key)
            index, last = adapter.bounds()
            while index <= last:
                pairs = adapter.read(index, last, _CHUNK)
                if not pairs:
                    return {"problem": f"entry {index} is missing"}
                index = pairs[-1][0] + 1
    except StoreInUse as error:
        return {"in_use_by": error.pid}
    except StorageError as error:
        if error.errno is not None:
            raise  # the system refused something: that says nothing about the bytes
        return {"problem": str(error)}
    except (ValueError, OverflowError, struct.error) as error:
        return {"problem": f"the store at {store} holds what cannot be read: {error}"}
    return {"problem": None}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_read_all(sys.argv[1])))
