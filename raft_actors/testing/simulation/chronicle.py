"""What happened in a run, as values that can be drawn: who was what and when, what was cut, which messages went where.

A run remembers tuples in the order of time (``World.log``) and the way of each message (``Network.flights``). Here they
become spans and marks. Nothing is drawn at random and nothing is formatted that is not asked for, so equal records give
equal pictures, and a run that nobody looks at costs nothing.

What a fault notes without being known here becomes a mark with the words of the trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from raft_actors.testing.simulation.network import LOST, Flight
from raft_actors.testing.simulation.partitions import Links
from raft_actors.testing.simulation.trace import as_words

__all__ = [
    "ABSENT",
    "Answer",
    "Chronicle",
    "Commit",
    "Cut",
    "Mark",
    "Pause",
    "Record",
    "Span",
    "Standing",
    "after",
    "chronicle_of",
    "is_minor",
]

Logged: TypeAlias = tuple[Any, ...]
"""Time, where, what, and what belongs to it."""

DOWN, RETIRED = "down", "retired"
MINOR = frozenset({"lost", "discards", "asks", "hears", "commits"})
"""What happens all the time."""
STANDING_STILL = ("pauses until", "faints until", "is suspended until")
DRAWN_OTHERWISE = MINOR | {"becomes", "cuts", "mends", *STANDING_STILL, "VIOLATION"}
"""What is more than a mark."""

SHOWN_LINKS = 3
NEWEST = 1000
"""The last message to arrive is looked for among so many of those that left last."""


class Record(NamedTuple):
    """What is kept of a run.

    Attributes:
        names: the peers.
        log: what happened, in the order of time.
        flights: the newest messages, in the order in which they left.
        end: when the run was over.
    """

    names: tuple[str, ...] = ()
    log: Sequence[Logged] = ()
    flights: Sequence[Flight] = ()
    end: float = 0.0


class Standing(NamedTuple):
    """Where a peer stands: ``role`` is the name of a role, or ``"down"`` or ``"retired"``."""

    role: str
    term: int = 0
    commit: int = 0
    paused_until: float = 0.0

    @property
    def up(self) -> bool:
        """Whether its process runs."""
        return self.role not in (DOWN, RETIRED)


ABSENT = Standing(DOWN)
"""A peer that was not started yet."""


class Span(NamedTuple):
    """A peer was the same for a while."""

    peer: str
    start: float
    end: float
    standing: Standing


class Pause(NamedTuple):
    """A process stood still."""

    peer: str
    start: float
    end: float


class Cut(NamedTuple):
    """Nothing passed these links."""

    start: float
    end: float
    links: Links

    @property
    def words(self) -> str:
        """``s1 | s2 s3`` for two groups that do not hear each other, ``s1 to s2 s3`` for one direction."""
        sources, targets = (list(dict.fromkeys(link[side] for link in self.links)) for side in (0, 1))
        links = set(self.links)
        near = [name for name in sources if (sources[0], name) not in links]
        far = [name for name in targets if name not in near]
        if links == {(a, b) for one, other in ((near, far), (far, near)) for a in one for b in other}:
            return f"{' '.join(sorted(near))} | {' '.join(sorted(far))}"
        if links == {(a, b) for a in sources for b in targets}:
            return f"{' '.join(sorted(sources))} to {' '.join(sorted(targets))}"
        return _pairs(links)


class Commit(NamedTuple):
    """A peer learned that everything up to ``upto`` is committed."""

    time: float
    peer: str
    upto: int


class Answer(NamedTuple):
    """A client got an answer: ``status`` is ``"ok"``, ``"fail"`` or ``"unknown"``."""

    time: float
    peer: str
    status: str
    what: str


class Mark(NamedTuple):
    """Something happened at a peer, or to all (``peer`` is empty)."""

    time: float
    peer: str
    what: str


class Chronicle(NamedTuple):
    """A run, told by kind of event; each kind in the order of time."""

    names: tuple[str, ...]
    end: float
    spans: list[Span]
    pauses: list[Pause]
    cuts: list[Cut]
    commits: list[Commit]
    answers: list[Answer]
    marks: list[Mark]
    flights: Sequence[Flight]

    @property
    def busy_until(self) -> float:
        """When something happened for the last time; nothing may happen for long before a run is over."""
        last = [things[-1].time for things in (self.commits, self.answers, self.marks) if things]
        flights = [max(sent, arrives) for sent, arrives, *_ in self.flights[-NEWEST:] if arrives <= self.end]
        return max([*last, *flights, *(span.start for span in self.spans)], default=self.end)

    def passes(self, flight: Flight) -> bool:
        """Whether a message got to its receiver: not lost, not cut off on its way, not sent to a dead process."""
        _, arrives, source, target, _ = flight
        if arrives == LOST:
            return False
        link = (source, target)
        if any(cut.start < arrives < cut.end and link in cut.links for cut in self.cuts):
            return False
        return all(span.standing.up for span in self.spans if span.peer == target and span.start < arrives < span.end)


def after(standing: Standing, entry: Logged) -> Standing:
    """Where a peer stands after something that was logged of it."""
    match entry[2:]:
        case ("starts", ballot, _):
            return Standing("Follower", ballot.term, 0, standing.paused_until)
        case ("becomes", str(role), _, int(term)):
            return standing._replace(role=role, term=term)
        case ("commits", int(index)):
            return standing._replace(commit=index)
        case ("dies" | "stops" | "fails", *_):
            return standing._replace(role=DOWN)
        case ("retires",):
            return standing._replace(role=RETIRED)
        case ("pauses until" | "faints until" | "is suspended until", float(until)):
            return standing._replace(paused_until=until)
    return standing


def is_minor(entry: Logged) -> bool:
    """Whether this happens all the time: a step of a peer, a request, a message that is lost."""
    return not isinstance(entry[2], str) or entry[2] in MINOR


def chronicle_of(record: Record) -> Chronicle:
    """Tell a run by kind of event."""
    log = [entry for entry in record.log if isinstance(entry[2], str)]
    return Chronicle(
        names=record.names,
        end=record.end,
        spans=sorted(_spans(record, log), key=lambda span: (span.start, span.end)),
        pauses=sorted(_pauses(record, log), key=lambda pause: pause.start),
        cuts=sorted(_cuts(record, log)),
        commits=[Commit(time, where, rest[0]) for time, where, what, *rest in log if what == "commits"],
        answers=list(_answers(log)),
        marks=list(_marks(record, log)),
        flights=record.flights,
    )


def _pairs(links: set[tuple[str, str]]) -> str:
    """Some of many links, in words."""
    once = [(a, b) for a, b in sorted(links) if a < b or (b, a) not in links]
    pairs = [f"{a} | {b}" if (b, a) in links else f"{a} to {b}" for a, b in once]
    more = f" and {len(pairs) - SHOWN_LINKS} more" if len(pairs) > SHOWN_LINKS else ""
    return ", ".join(pairs[:SHOWN_LINKS]) + more


def _spans(record: Record, log: Iterable[Logged]) -> Iterator[Span]:
    standings, since = dict.fromkeys(record.names, ABSENT), dict.fromkeys(record.names, 0.0)
    for entry in log:
        time, where = entry[:2]
        if where not in standings:
            continue
        old, new = standings[where], after(standings[where], entry)
        if (old.role, old.term) != (new.role, new.term):
            if since[where] < time:
                yield Span(where, since[where], time, old)
            since[where] = time
        standings[where] = new
    for name in record.names:
        yield Span(name, since[name], record.end, standings[name])


def _pauses(record: Record, log: Iterable[Logged]) -> Iterator[Pause]:
    """From when to when each peer stood still; overlapping ones are one, and all end with the faults."""
    healed = next((time for time, where, what, *_ in log if (where, what) == ("faults", "end")), record.end)
    last: dict[str, Pause] = {}
    for time, where, what, *rest in log:
        if what not in STANDING_STILL or where not in record.names:
            continue
        known, until = last.get(where), max(time, min(rest[0], healed))
        if known is not None and time <= known.end:
            last[where] = known._replace(end=max(known.end, until))
            continue
        if known is not None:
            yield known
        last[where] = Pause(where, time, until)
    yield from last.values()


def _cuts(record: Record, log: Iterable[Logged]) -> Iterator[Cut]:
    under_way: list[tuple[float, Links]] = []
    for time, where, what, *rest in log:
        if where != "network":
            continue
        if what == "cuts":
            under_way.append((time, rest[0]))
        elif what == "heals":
            yield from (Cut(start, time, links) for start, links in under_way)
            under_way.clear()
        elif what == "mends":
            found = next((one for one in under_way if one[1] == rest[0]), None)
            if found is not None:
                under_way.remove(found)
                yield Cut(found[0], time, found[1])
    yield from (Cut(start, record.end, links) for start, links in under_way)


def _answers(log: Iterable[Logged]) -> Iterator[Answer]:
    asked: dict[int, tuple[str, str]] = {}
    for time, where, what, *rest in log:
        if what == "asks":
            peer, kind, number = rest
            asked[number] = (peer, kind)
        elif what == "hears":
            number, status, output, index = rest
            peer, kind = asked.get(number, ("", "request"))
            at = f" at {index}" if index else f": {output}"
            yield Answer(time, peer, status, f"{where}: {kind} {number} is {status}{at}")


def _marks(record: Record, log: Iterable[Logged]) -> Iterator[Mark]:
    for time, where, what, *rest in log:
        if what in DRAWN_OTHERWISE or (where, what) == ("network", "heals"):
            continue
        peer = where if where in record.names else ""
        yield Mark(time, peer, as_words([what, *rest] if peer else [where, what, *rest]))
