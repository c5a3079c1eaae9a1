"""Every scenario happens as its file tells it. ``pytest tests/scenarios --rewrite`` writes the files anew.

A file is a title, and blocks of commands, ``----`` and what happened; ``transcript.py`` lists the commands.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.transcript import Transcript

FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.glob("*.txt"))


def retold(text: str) -> str:
    """The file as it should be: the same commands with what happens now."""
    transcript = Transcript()
    title, *blocks = text.strip().split("\n\n")
    told = [title]
    for block in blocks:
        commands = block.split("\n----")[0]
        happened = transcript.run(commands)
        told.append(f"{commands}\n----" + (f"\n{happened}" if happened else ""))
    return "\n\n".join(told) + "\n"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_scenario_happens_as_it_is_told(file: Path, rewrite: bool) -> None:
    told = file.read_text()
    now = retold(told)
    if rewrite:
        file.write_text(now)
    else:
        assert now == told


def test_there_are_scenarios() -> None:
    assert len(FILES) >= 15


def test_another_outcome_is_noticed() -> None:
    told = (FOLDER / "first_election.txt").read_text()
    changed = told.replace("is leader of term 2", "is leader of term 3", 1)
    assert retold(changed) == told != changed


def test_an_unknown_command_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown command 'dance'"):
        Transcript().run("dance s1")
