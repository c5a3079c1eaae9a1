"""The timeline of a run: a lane for each peer, what mattered before, and the end in full."""

from __future__ import annotations

from typing import Any

import pytest

from raft_actors.protocol.events import Tick
from raft_actors.protocol.types import Ballot, LogPosition
from raft_actors.testing.simulation import Ledger, SimulationFailed, simulate
from raft_actors.testing.simulation.chronicle import Record
from raft_actors.testing.simulation.timeline import LEGEND, timeline
from tests.simulation.planting import planted

LOG: list[tuple[Any, ...]] = [
    (0.0, "s1", "starts", Ballot(0, None), LogPosition(0, 0)),
    (0.0, "s2", "starts", Ballot(0, None), LogPosition(0, 0)),
    (0.5, "s2", Tick()),
    (0.5, "s2", "becomes", "Candidate", "of term", 1),
    (0.6, "s2", "becomes", "Leader", "of term", 1),
    (0.7, "network", "cuts", (("s1", "s2"), ("s2", "s1"))),
    (0.8, "s2", "commits", 1),
    (0.9, "s1", "pauses until", 1.5),
    (1.0, "s2", "dies"),
    (1.6, "observer", "VIOLATION", "a rule: s2 is broken"),
]

PICTURE = f"""\
{LEGEND}
        time  s1         s2
    0.000000  F0 c0                 s1: starts term 0 vote - 0/0
    0.000000  |          F0 c0      s2: starts term 0 vote - 0/0
    0.500000  |          |          s2: deadline
    0.500000  |          C1 c0      s2: becomes Candidate of term 1
    0.600000  |          L1 c0      s2: becomes Leader of term 1
    0.700000  |          |          network: cuts s1 | s2
    0.800000  |          L1 c1      s2: commits 1
    0.900000  :          |          s1: pauses until 1.500000
    1.000000  :                     s2: dies
    1.600000  |                     observer: VIOLATION a rule: s2 is broken
"""


def test_a_line_goes_on_where_nothing_changed_and_ends_where_a_process_does() -> None:
    assert timeline(Record(("s1", "s2"), LOG, (), 1.6)) == PICTURE


def test_before_the_end_only_what_matters_is_told_and_what_is_left_out_is_counted() -> None:
    told = timeline(Record(("s1", "s2"), LOG, (), 1.6), lines=6).splitlines()[2:]
    assert [line.split("  ")[-1].strip() for line in told] == [
        "... 2 lines before are left out",
        "s2: becomes Candidate of term 1",
        "s2: becomes Leader of term 1",
        "network: cuts s1 | s2",
        "... from here on everything",
        "s1: pauses until 1.500000",
        "s2: dies",
        "observer: VIOLATION a rule: s2 is broken",
    ]


def sends_first(original: Any) -> Any:
    def perform(self: Any, effects: Any) -> None:
        original(self, tuple(sorted(effects, key=lambda effect: type(effect).__name__ == "Persist")))

    return perform


def test_whoever_checks_a_report_reads_the_timeline() -> None:
    with planted("raft_actors.engine:Engine._perform", sends_first):
        report = simulate(Ledger, seed=1, steps=2000)
    with pytest.raises(SimulationFailed) as caught:
        report.check()
    assert LEGEND in str(caught.value)
    assert str(caught.value).rstrip().endswith(f"observer: VIOLATION {report.violations[0]}")


def test_a_timeline_is_as_long_as_was_asked() -> None:
    report = simulate(Ledger, seed=3, steps=3000)
    assert 60 < len(report.timeline().splitlines()) <= 64
    assert len(report.timeline(lines=1).splitlines()) <= 5
