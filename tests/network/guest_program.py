"""A guest who stays: runs ``raft-actors`` commands, one line of JSON words each, and answers with a line of JSON."""

from __future__ import annotations

import contextlib
import io
import json
import sys

from raft_actors.cli import main

if __name__ == "__main__":
    for line in sys.stdin:
        output, complaint = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(complaint):
            result = main(json.loads(line))
        print(json.dumps([result, output.getvalue(), complaint.getvalue()]), flush=True)
