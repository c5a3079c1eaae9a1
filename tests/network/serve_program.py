"""``raft-actors serve`` with snapshots that are taken soon: SNAPSHOT_THRESHOLD TRAILING_ENTRIES, then its words."""

from __future__ import annotations

import functools
import sys

import raft_actors as raft
from raft_actors.cli import main

if __name__ == "__main__":
    threshold, trailing, *words = sys.argv[1:]
    raft.Config = functools.partial(  # type: ignore[misc, assignment]
        raft.Config, snapshot_threshold=int(threshold), trailing_entries=int(trailing)
    )
    sys.exit(main(["serve", *words]))
