"""``python -m raft_actors`` is the console script ``raft-actors``."""

from __future__ import annotations

import sys

from raft_actors.cli import main

if __name__ == "__main__":
    sys.exit(main())
