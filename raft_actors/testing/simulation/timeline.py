"""A run as a text to read: a column for each peer, a line for each thing that mattered, and the end in full.

::

          time  s1         s2         s3
      1.204300  |          C2 c0      |          s2: becomes Candidate of term 2
      1.206112  |          L2 c0      |          s2: becomes Leader of term 2
      1.911874             |          |          s1: dies

A letter is a role, the number behind it the term, ``c`` the commit index; a line goes on where nothing changed; a colon
stands for a process that stands still, and nothing for one that does not run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from raft_actors.testing.simulation.chronicle import (
    ABSENT,
    Cut,
    Logged,
    Record,
    Standing,
    after,
    is_minor,
)
from raft_actors.testing.simulation.trace import as_words

__all__ = ["timeline"]

IN_FULL = 25
"""So many things before the end are told whatever they are."""
LETTERS = {"Follower": "F", "PreCandidate": "P", "Candidate": "C", "Leader": "L"}
LEGEND = "F follower, P pre-candidate, C candidate, L leader, with its term and commit index; : stands still"
WIDTH = 11
LONGEST = 160


class _Row(NamedTuple):
    cells: tuple[str, ...]
    entry: Logged


def timeline(record: Record, *, lines: int = 60) -> str:
    """Return the end of a run in about ``lines`` lines.

    Args:
        record: of the run.
        lines: how many at most, not counting the head and what was left out.
    """
    rows = list(_rows(record))
    last = min(IN_FULL, max(1, lines // 2))
    end = rows[-last:]
    before = [row for row in rows[:-last] if not is_minor(row.entry)]
    shown = before[max(0, len(before) - (lines - last)) :] if lines > last else []
    width = max([WIDTH, *(len(cell) + 2 for row in [*shown, *end] for cell in row.cells)])
    text = [LEGEND, f"{'time':>12}  {''.join(f'{name:<{width}}' for name in record.names)}".rstrip()]
    if len(before) > len(shown):
        text.append(f"{'':12}  ... {len(before) - len(shown)} lines before are left out")
    text += [_as_line(row, width) for row in shown]
    if len(rows) > last:
        text.append(f"{'':12}  ... from here on everything")
    text += [_as_line(row, width) for row in end]
    return "\n".join(text) + "\n"


def _as_line(row: _Row, width: int) -> str:
    first, *more = _told(row.entry).splitlines() or [""]
    head = f"{row.entry[0]:12.6f}  {''.join(f'{cell:<{width}}' for cell in row.cells)}{first}"[: LONGEST + 40]
    return "\n".join([head.rstrip(), *(f"{'':14}{line}".rstrip() for line in more)])


def _rows(record: Record) -> Iterator[_Row]:
    """Every line there could be."""
    standings = dict.fromkeys(record.names, ABSENT)
    told = dict.fromkeys(record.names, "")
    for entry in record.log:
        time, where, what = entry[:3]
        if where in standings:
            standings[where] = after(standings[where], entry)
        if (where, what) == ("faults", "end"):
            standings = {name: one._replace(paused_until=0.0) for name, one in standings.items()}
        cells = []
        for name, standing in standings.items():
            cell = _standing(standing)
            cells.append(cell if cell != told[name] and cell else _lane(standing, time))
            told[name] = cell
        yield _Row(tuple(cells), entry)


def _standing(standing: Standing) -> str:
    if not standing.up:
        return "" if standing.role == "down" else "retired"
    return f"{LETTERS.get(standing.role, standing.role)}{standing.term} c{standing.commit}"


def _lane(standing: Standing, time: float) -> str:
    if not standing.up:
        return ""
    return ":" if time < standing.paused_until else "|"


def _told(entry: Logged) -> str:
    match entry:
        case (time, "network", "cuts" | "mends" as what, links):
            return f"network: {what} {Cut(time, time, links).words}"
    _, where, *rest = entry
    return f"{where}: {as_words(rest)}"
