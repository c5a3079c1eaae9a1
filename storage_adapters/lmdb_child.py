"""The program of the process that touches every page of an LMDB file, run by ``reading_child.ask``.

What the bytes mean is checked by whoever opens the stores in it. It takes no lock: who asks holds the folder.
"""

from __future__ import annotations

import json
import sys

import lmdb

from storage_adapters.reading_child import leave_no_core

_DAMAGE = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.BadTxnError, lmdb.IncompatibleError)
_TREES = 1 << 16


def problem_in(folder: str) -> str | None:
    """Read everything in the file of a folder; say what is wrong with it."""
    try:
        with lmdb.open(folder, readonly=True, lock=False, max_dbs=_TREES) as env, env.begin() as txn:
            for name in list(txn.cursor().iternext(values=False)):
                tree = env.open_db(name, txn=txn, create=False)
                count = sum(1 for _ in txn.cursor(db=tree))
                wanted = txn.stat(tree)["entries"]
                if count != wanted:
                    return f"tree {name!r} should have {wanted} entries, and has {count}"
    except _DAMAGE as error:
        return str(error)
    return None


if __name__ == "__main__":
    leave_no_core()
    sys.stdout.write(json.dumps({"problem": problem_in(sys.argv[1])}))
