"""``python -m tests.simulation.table [--pin] [NAME ...]``: searches the seeds anew and prints what finds each defect.

``--pin`` writes the seeds into ``pinned.py``, where the tests take them from. ``NAME`` may be a part of a name. What is
searched is a seed that breaks the rule that is pinned; of a new defect, one that breaks any, and whether that is the
rule that it is about is for its author to see.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.simulation.defects import DEFECTS
from tests.simulation.hunting import Catch, Defect, hunt
from tests.simulation.pinned import PINNED

ROW = "planted bug"
"""Under this name a test records its line; ``tests/conftest.py`` makes the table of them."""
SECONDS = 60.0
"""CPU for each defect."""
HEAD = '''"""The seed that is known to find each defect, and the rule that it breaks: the one that the defect is about.

Written by ``python -m tests.simulation.table --pin``, which keeps the rules.
"""

from __future__ import annotations

PINNED = {
'''


def line(one: Defect, catch: Catch | None) -> str:
    """One line of the table."""
    if catch is None:
        return f"{one.bugs:24} {one.name:60} not found"
    numbers = f"seed {catch.seed:5} {catch.events:6} events {catch.seconds:6.2f} s"
    return f"{one.bugs:24} {one.name:60} {numbers}  {catch.violation:.100}"


def main(words: Sequence[str]) -> int:
    """Search, print, and pin if wanted."""
    names = [word for word in words if not word.startswith("--")]
    found, missed = dict(PINNED), 0
    for one in DEFECTS:
        if names and not any(name in one.name for name in names):
            continue
        _, rule = PINNED.get(one.name, (0, None))
        catch = hunt(one, (), rule=rule, enough=SECONDS)
        print(line(one, catch), flush=True)
        if catch is None:
            missed += 1
        else:
            found[one.name] = catch.seed, catch.rule
        if "--pin" in words:
            pin(found)
    return 1 if missed else 0


def pin(found: Mapping[str, tuple[int, str]]) -> None:
    """Write the seeds and the rules down."""
    rows = [
        f'    "{one.name}": ({found[one.name][0]}, "{found[one.name][1]}"),\n' for one in DEFECTS if one.name in found
    ]
    Path(__file__).with_name("pinned.py").write_text(HEAD + "".join(rows) + "}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
