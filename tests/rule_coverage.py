"""``python -m tests.rule_coverage``: how many branches of ``protocol/`` and ``behaviours/`` their own tests take.

Only the tests that are about rules count, not those of threads or of the simulator, which pass everywhere by chance.
Exit status 1 if a test fails or fewer branches than ``ENOUGH`` percent are taken. ``PATH ...`` runs other tests.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import coverage
import pytest

ENOUGH = 95.0
TESTS = ("tests/protocol", "tests/behaviours", "tests/paper", "tests/scenarios")
RULES = ("raft_actors.protocol", "raft_actors.behaviours")


def measured(tests: Sequence[str]) -> tuple[int, dict[str, Any]]:
    """The exit status of the tests, and the totals of the rules."""
    measure = coverage.Coverage(branch=True, source=list(RULES), data_file=None)
    with measure.collect():
        status = pytest.main(["-q", "-m", "not slow", "-p", "no:cacheprovider", *tests])
    measure.report(show_missing=True, skip_covered=True)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        measure.json_report(outfile=str(report))
        return int(status), json.loads(report.read_text())["totals"]


def main(tests: Sequence[str]) -> int:
    """Run, measure, print; returns the exit status."""
    status, totals = measured(tests or TESTS)
    taken, there = totals["covered_branches"], totals["num_branches"]
    percent = 100 * taken / there
    print(f"{taken} of {there} branches of the rules are taken, {percent:.1f} % ({ENOUGH:g} % are wanted)")
    return status or int(percent < ENOUGH)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
