"""The measure of coverage can fail."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_too_few_branches_fail_and_are_counted() -> None:
    words = [sys.executable, "-m", "tests.rule_coverage", "tests/protocol/test_types.py"]
    done = subprocess.run(words, check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert re.match(r"\d+ of \d+ branches of the rules are taken", done.stdout.splitlines()[-1])
