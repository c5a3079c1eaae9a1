"""The picture of a run: well-formed, always the same, bounded, and it shows what did not hold."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from raft_actors.machines import KV
from raft_actors.protocol.messages import AppendEntries, RequestVote
from raft_actors.protocol.types import NOWHERE, Ballot, LogPosition
from raft_actors.testing.simulation import Ledger, simulate
from raft_actors.testing.simulation.chronicle import Cut, Record, chronicle_of
from raft_actors.testing.simulation.network import LOST
from raft_actors.testing.simulation.picture import Caption, draw
from tests.simulation.planting import planted

SVG = "{http://www.w3.org/2000/svg}"
HEADER = {"cluster": "", "incarnation": "", "receiver": ""}
BALLOT = Ballot(2, None)
PICTURE_PROGRAM = """
import hashlib, sys
from raft_actors.testing.simulation import Ledger, simulate
report = simulate(Ledger, seed=int(sys.argv[1]), steps=1500, peers=5)
print(hashlib.sha256((report.svg() + report.timeline()).encode()).hexdigest())
"""


def picture_in_a_process(seed: int, hash_seed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PICTURE_PROGRAM, str(seed)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter(f"{SVG}text")]


def notes(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}title")]


def heartbeat(sender: str) -> AppendEntries:
    return AppendEntries(sender=sender, term=2, previous=NOWHERE, **HEADER)


def record(*log: Any, flights: Any = (), names: tuple[str, ...] = ("s1", "s2", "s3"), end: float = 1.0) -> Record:
    return Record(names, log, flights, end)


def starts(time: float, name: str) -> tuple[Any, ...]:
    return time, name, "starts", BALLOT, LogPosition(2, 7)


def test_a_seed_has_one_picture_byte_for_byte_in_every_process() -> None:
    first, *others = [picture_in_a_process(8, hash_seed) for hash_seed in ("0", "1", "4711")]
    assert others == [first, first]
    assert first != picture_in_a_process(9, "0")


@pytest.mark.parametrize("peers", [1, 3, 7])
def test_a_sound_run_of_any_size_has_a_picture_with_a_lane_for_each_peer(peers) -> None:
    report = simulate(Ledger, seed=7, steps=1000, peers=peers)
    shown = Counter(texts(report.svg()))
    assert all(shown[f"s{number}"] == 2 for number in range(1, peers + 1))  # in small, and in full
    assert not any("▼" in text for text in shown)
    assert any(text.startswith("leader ") for text in shown)


def acknowledges_everything(original: Any) -> Any:
    return lambda state, end: state.log.last.index


def test_the_violating_event_is_in_the_picture_with_its_peer_and_how_to_repeat_it() -> None:
    with planted("raft_actors.behaviours.follower:_durable_match", acknowledges_everything):
        reports = (simulate(KV, seed=seed, steps=1000) for seed in range(20))
        report = next(one for one in reports if not one.ok and one.violations[0].startswith("effect order: "))
    svg = report.svg()
    assert report.violations[0] in texts(svg)
    assert "▼ effect order" in texts(svg)
    assert f"repeat it with: {report.replay}" in texts(svg)
    circles = ET.fromstring(svg).iter(f"{SVG}circle")
    rings = [circle for circle in circles if "".join(circle.itertext()) == report.violations[0]]
    named = {name for name in ("s1", "s2", "s3") if name in report.violations[0]}
    assert len(rings) == len(named) >= 1


def test_names_and_texts_are_escaped_and_what_xml_does_not_know_is_replaced() -> None:
    name, rule = "<s&1>", "a rule: <b>\"'& \x00\x1b\ud800 </svg> ]]>"
    svg = draw(
        record(starts(0.0, name), (0.5, name, "is <odd>"), names=(name,)), Caption("a < b", rule, ("--x '<&>'",))
    )
    svg.encode("utf-8")
    shown = texts(svg)
    assert {name, "is <odd>", "a < b", "--x '<&>'", "▼ a rule"} <= set(shown)
    assert "a rule: <b>\"'& \ufffd\ufffd\ufffd </svg> ]]>" in shown


def test_what_happens_to_peers_is_drawn_as_gaps_hatches_and_marks() -> None:
    svg = draw(
        record(
            starts(0.0, "s1"),
            (0.1, "s1", "becomes", "Leader", "of term", 3),
            (0.2, "s1", "pauses until", 0.4),
            (0.3, "network", "cuts", (("s1", "s2"), ("s2", "s1"))),
            (0.5, "s1", "dies"),
            (0.6, "network", "mends", (("s1", "s2"), ("s2", "s1"))),
            (0.7, "s2", "disk is slow"),
        ),
        Caption("t"),
    )
    assert {"leader 3", "dies", "disk is slow", "s1 | s2", "down"} <= set(texts(svg))
    assert "s1 stands still, 0.200000 to 0.400000 s" in notes(svg)
    assert "nothing passes: s1 | s2, 0.300000 to 0.600000 s" in notes(svg)
    assert "s1: down of term 3, 0.500000 to 1.000000 s" in notes(svg)


def test_messages_that_do_not_arrive_are_told_from_those_that_do() -> None:
    vote = RequestVote(sender="s1", term=3, last=NOWHERE, **HEADER)
    cut = (("s1", "s2"),)
    svg = draw(
        record(
            *(starts(0.0, name) for name in ("s1", "s2", "s3")),
            (0.55, "network", "cuts", cut),
            (0.65, "network", "mends", cut),
            (0.7, "s3", "dies"),
            flights=[
                (0.1, 0.2, "s1", "s2", heartbeat("s1")),
                (0.3, LOST, "s1", "s3", vote),
                (0.5, 0.6, "s1", "s2", heartbeat("s1")),
                (0.6, 0.8, "s1", "s3", heartbeat("s1")),
                (0.9, 1.1, "s1", "s2", heartbeat("s1")),
            ],
        ),
        Caption("t", "a rule: broken"),
    )
    told = [note for note in notes(svg) if "term" in note and " to s" in note]
    fates = [note.rpartition(", ")[2] for note in told]
    assert fates == ["arrived", "lost", "lost on its way", "lost on its way", "under way"]
    assert "RequestVote term 3" in told[1]
    lines = [line for line in ET.fromstring(svg).iter(f"{SVG}line") if "".join(line.itertext()) in told]
    assert [line.get("marker-end") for line in lines] == ["url(#heartbeat)", None, None, None, None]
    assert lines[0].get("stroke") != lines[1].get("stroke")


def test_a_picture_is_bounded_however_much_happened() -> None:
    sizes = []
    for many in (2_000, 20_000):
        step, log = 100.0 / many, [starts(0.0, "s1")]
        for number in range(many):
            time = step * number
            log.append((time, "s1", "becomes", "Candidate", "of term", number))
            log.append((time, "s1", "commits", number))
            log.append((time, "s1", "has its clock changed"))
            log.append((time, "network", "cuts", (("s1", "s2"),)))
            log.append((time, "c", "asks", "s1", "read", number))
            log.append((time, "c", "hears", number, "ok", "int", 3))
        flights = [(step * number, step * number + 1, "s1", "s2", heartbeat("s1")) for number in range(many)]
        svg = draw(record(*log, flights=flights, end=100.0), Caption("t" * many, "rule: x\n" * many, ("y" * many,) * 9))
        ET.fromstring(svg)
        sizes.append(len(svg))
    assert max(sizes) < 1_000_000
    assert sizes[1] < 1.5 * sizes[0]


def test_a_run_that_ends_with_silence_shows_the_time_before_it() -> None:
    svg = draw(record(starts(0.0, "s1"), (2.0, "s1", "dies"), end=100.0), Caption("t", "liveness: s1 is down"))
    assert "dies" in texts(svg)
    assert "▼ liveness, at 100.000000 s" in texts(svg)


def test_a_sound_run_is_drawn_around_its_last_election_or_at_its_end_if_that_was_too_long_ago() -> None:
    log = [starts(0.0, "s1"), (5.0, "s1", "becomes", "Leader", "of term", 3)]
    flights = [(0.01 * number, 0.01 * number + 0.005, "s1", "s2", heartbeat("s1")) for number in range(4_000)]
    around = draw(record(*log, flights=flights, end=40.0), Caption("t"))
    late = draw(record(*log, flights=flights[2_000:], end=40.0), Caption("t"))
    assert "from 3.670000 to 5.660000 s" in texts(around)
    assert "from 38.000000 to 40.000000 s" in texts(late)


@pytest.mark.parametrize("nothing", [Record(), record(), record(names=("s1",), end=0.0)])
def test_a_run_in_which_nothing_happened_has_a_picture_too(nothing) -> None:
    assert ET.fromstring(draw(nothing, Caption("nothing"))).tag == f"{SVG}svg"


@pytest.mark.parametrize(
    ("links", "words"),
    [
        ((("s1", "s2"), ("s2", "s1"), ("s1", "s3"), ("s3", "s1")), "s1 | s2 s3"),
        ((("s2", "s1"), ("s3", "s1")), "s2 s3 to s1"),
        ((("s1", "s2"),), "s1 to s2"),
        ((("s1", "s3"), ("s3", "s1"), ("s2", "s4"), ("s4", "s2")), "s1 | s3, s2 | s4"),
        ((("s1", "s2"), ("s2", "s3"), ("s3", "s4"), ("s4", "s5")), "s1 to s2, s2 to s3, s3 to s4 and 1 more"),
    ],
)
def test_a_cut_is_told_by_who_does_not_hear_whom(links, words) -> None:
    assert Cut(0.0, 1.0, links).words == words


def test_a_pause_ends_with_the_faults_and_pauses_that_overlap_are_one() -> None:
    log = [(0.1, "s1", "pauses until", 0.5), (0.3, "s1", "faints until", 5.0), (0.9, "faults", "end")]
    assert [pause[1:] for pause in chronicle_of(record(*log)).pauses] == [(0.1, 0.9)]
