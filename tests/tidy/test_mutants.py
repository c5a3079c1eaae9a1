"""``tests.mutants`` makes what it says, and tells a mutant that a test notices from one that none does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants import mutants

FUNCTION = """
def larger(some: int, others: int, *, strictly: bool = False) -> bool:
    if strictly and some == others:
        return False
    return some >= others
"""
TEST = """
from subject import larger

def test_larger() -> None:
    assert larger(2, 1)
    assert larger(1, 1)
    assert not larger(1, 2)
    assert not larger(1, 1, strictly=True)
"""


def test_every_mutant_is_another_program_and_says_where_it_differs() -> None:
    made = list(mutants("subject.py", FUNCTION))
    assert len({one.source for one in made}) == len(made) == 8
    assert ("Gt for GtE", 5) in {(one.change, one.line) for one in made}
    assert ("never: strictly and some == others", 3) in {(one.change, one.line) for one in made}


@pytest.mark.skipif(sys.platform == "win32", reason="it needs os.fork")
def test_who_lives_is_printed_and_who_dies_is_not(tmp_path: Path) -> None:
    (tmp_path / "subject.py").write_text(FUNCTION)
    (tmp_path / "test_subject.py").write_text(TEST)
    command = [sys.executable, "-m", "tests.mutants", "subject.py", "--tests", "test_subject.py"]
    path = {"PYTHONPATH": f"{Path(__file__).parents[2]}:{tmp_path}"}
    done = subprocess.run(command, check=False, cwd=tmp_path, env=path, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["subject.py:3: without: some == others", "8 of 8 mutants, 1 live"], done.stderr
    assert done.returncode == 1
