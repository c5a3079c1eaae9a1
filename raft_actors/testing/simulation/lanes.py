r"""The part of a picture that shows a window of time: a lane for each peer, and the messages between them.

::

    cuts      [ s1 | s2 s3 ]      [ s2 to s3 ]          what nothing passes; a shade behind all lanes, too
              o dies    o starts                        what happened to a peer
    s1     [ leader 3 ]:::::::::[ follower 4      ]     its role and term; gaps while it is down
              . 17 .  18          . 19                  answers that it gave, and what it learned to be committed
                 \     /                                messages

Everything that is drawn is bounded, whatever happened in the window.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from raft_actors.protocol import messages as msg
from raft_actors.testing.simulation.chronicle import Chronicle, Cut, Mark, Span
from raft_actors.testing.simulation.ink import Sheet, shortened, width_of
from raft_actors.testing.simulation.network import LOST, Flight
from raft_actors.testing.simulation.trace import as_words

__all__ = ["BAR", "FAMILIES", "ROLES", "Lanes", "Scale", "Window", "draw_span", "family_of", "label_span", "time_axis"]

GREY, DARK, RED, SHADE, GRID = "#6b7280", "#1f2933", "#c8102e", "#f1c27d", "#e5e7eb"
ROLES = {
    "Follower": ("follower", "#c6dbef", DARK),
    "PreCandidate": ("pre-candidate", "#f7e463", DARK),
    "Candidate": ("candidate", "#e69f00", DARK),
    "Leader": ("leader", "#00578a", "#ffffff"),
}
"""Of each role its name, its colour and that of a text upon it; also told apart by those who see no red or green."""
FAMILIES = {
    "entries": "#0072b2",
    "heartbeat": "#a8b3bf",
    "acknowledgement": "#56b4e9",
    "refusal": "#a0522d",
    "vote": "#b5478f",
    "read": "#009e73",
    "other": "#374151",
}
"""What messages are about, and their colours."""
ANSWERS = {"ok": ("#00c08b", "#ffffff"), "unknown": ("#ffffff", "#d55e00"), "fail": ("#ffffff", GREY)}
"""Fill and outline of an answer's dot."""

BAR = 28.0
ABOVE, BELOW = 38.0, 22.0
CUT_ROW, CUT_ROWS = 17.0, 4
TAG, RULE = 10.0, 13.0
MOST = 400
"""So many things of a kind are drawn in one window, the newest ones."""
STUB, STUB_WIDTH = 0.36, 10.0
"""So much of its way is drawn of a message that does not arrive, or not within the window."""
ARRIVED, UNDER_WAY, GONE, STOPPED = "arrived", "under way", "lost", "lost on its way"
"""What becomes of a message."""
LONGEST_MARK = 34
CLOSE = 3.0

Thing = TypeVar("Thing")


class Scale(NamedTuple):
    """From time to place."""

    start: float
    end: float
    left: float
    right: float

    def x(self, time: float) -> float:
        """Where a time is, also beyond both ends."""
        return self.left + (time - self.start) / max(self.end - self.start, 1e-9) * (self.right - self.left)

    def within(self, time: float) -> float:
        """Where a time is, or the nearer end."""
        return min(max(self.x(time), self.left), self.right)


class Window(NamedTuple):
    """What is drawn in detail."""

    start: float
    end: float
    flights: Sequence[Flight]

    def last(self, things: Sequence[Thing], start: str = "time", end: str = "time") -> list[Thing]:
        """Those of ``things`` that are at least in part within, the newest if they are too many."""
        inside = [one for one in things if getattr(one, start) <= self.end and getattr(one, end) >= self.start]
        return inside[-MOST:]


def family_of(message: msg.Header) -> str:
    """What a message is about."""
    match message:
        case msg.AppendEntries(entries=entries):
            return "entries" if entries else "heartbeat"
        case msg.AppendEntriesReply(success=success):
            return "acknowledgement" if success else "refusal"
        case msg.PreVote() | msg.PreVoteReply() | msg.RequestVote() | msg.RequestVoteReply():
            return "vote"
        case msg.ReadIndex() | msg.ReadIndexReply():
            return "read"
    return "other"


def draw_span(sheet: Sheet, scale: Scale, span: Span, box: tuple[float, float]) -> None:
    """Draw who a peer was for a while; ``box`` is top and height of its bar."""
    (top, height), standing = box, span.standing
    left, right = scale.within(span.start), scale.within(span.end)
    note = f"{span.peer}: {standing.role} of term {standing.term}, {span.start:.6f} to {span.end:.6f} s"
    style: dict[str, float | str] = {"fill": "#ffffff", "stroke": GREY, "stroke_dasharray": "3 3"}
    if standing.up:
        style = {"fill": _look(span)[1], "stroke": "#ffffff", "stroke_width": 0.6, "rx": 2}
    sheet.rect((left, top, right - left, height), note, **style)


def label_span(sheet: Sheet, scale: Scale, span: Span, box: tuple[float, float]) -> None:
    """Write role and term on a bar, as far as there is room; in front of whatever else is on it."""
    top, height = box
    left, right = scale.within(span.start), scale.within(span.end)
    name, fill, colour = _look(span)
    labels = (f"{name} {span.standing.term}", str(span.standing.term)) if span.standing.up else (name,)
    size = min(12.0, height - 2)
    fitting = next((one for one in labels if width_of(one, size) + 4 <= right - left), None)
    if fitting is not None:
        place = ((left + right) / 2, top + height / 2 + size * 0.36)
        style = {"text_anchor": "middle", "stroke": fill, "stroke_width": "4", "paint_order": "stroke"}
        sheet.text(place, fitting, font_size=size, fill=colour, **style)


def _look(span: Span) -> tuple[str, str, str]:
    """Name, colour, and colour of the text of what a peer was."""
    role = span.standing.role
    return ROLES.get(role, (role, "#ffffff", GREY))


def time_axis(sheet: Sheet, scale: Scale, top: float, bottom: float) -> None:
    """Draw lines at round times, and their labels below."""
    step, digits = next(
        (base * 10.0**power, max(0, -power))
        for power in range(-6, 7)
        for base in (1, 2, 5)
        if (scale.end - scale.start) / (base * 10.0**power) <= 12 or power == 6
    )
    number = int(scale.start / step) + 1
    while number * step <= scale.end:
        x = scale.x(number * step)
        sheet.line((x, top), (x, bottom), stroke=GRID, stroke_width=1)
        label = f"{number * step:.{digits}f} s"
        sheet.text((x, bottom + 14), label, font_size=11, fill=GREY, text_anchor="middle")
        number += 1


class Lanes:
    """Draws one window.

    Args:
        sheet: to draw on.
        chronicle: of the run.
        window: what to draw of it.
        scale: from time to place.
        top: where it begins.
        violation: the text of what did not hold, if something did not.
    """

    def __init__(
        self, sheet: Sheet, chronicle: Chronicle, window: Window, *, scale: Scale, top: float, violation: str = ""
    ) -> None:
        self._sheet = sheet
        self._chronicle = chronicle
        self._window = window
        self._scale = scale
        self._violation = violation
        self._rows, self._left_out = self._cut_rows()
        self._top = top
        self._lanes_top = top + 18 + CUT_ROW * max(len(self._rows), 1) + 6
        pitch = ABOVE + BAR + BELOW + (64 if len(chronicle.names) <= 3 else 44 if len(chronicle.names) <= 5 else 30)
        self._bars = {name: self._lanes_top + ABOVE + pitch * number for number, name in enumerate(chronicle.names)}
        self.bottom = max(self._bars.values(), default=self._lanes_top) + BAR + BELOW + 4
        """Where it ends."""

    def draw(self) -> None:
        """Draw everything, from the back to the front."""
        time_axis(self._sheet, self._scale, self._lanes_top, self.bottom)
        self._draw_cuts()
        for flight in self._window.flights:
            self._draw_flight(flight)
        for name, top in self._bars.items():
            self._draw_lane(name, top)
        self._draw_common_marks()
        if self._violation:
            self._draw_violation()

    # -- cuts ----------------------------------------------------------------------------------------------------------

    def _cut_rows(self) -> tuple[list[list[Cut]], int]:
        """Cuts in rows, so that none covers another; and how many found no place."""
        rows: list[list[Cut]] = []
        left_out = 0
        for cut in self._window.last(self._chronicle.cuts, "start", "end"):
            free = next((row for row in rows if row[-1].end <= cut.start), None)
            if free is not None:
                free.append(cut)
            elif len(rows) < CUT_ROWS:
                rows.append([cut])
            else:
                left_out += 1
        return rows, left_out

    def _draw_cuts(self) -> None:
        sheet, scale = self._sheet, self._scale
        sheet.text((scale.left - 10, self._top + 30), "cuts", font_size=12, fill=GREY, text_anchor="end")
        if self._left_out:
            words = f"and {self._left_out} more"
            sheet.text((scale.left - 10, self._top + 46), words, font_size=10, fill=GREY, text_anchor="end")
        for number, row in enumerate(self._rows):
            top = self._top + 18 + CUT_ROW * number
            for cut in row:
                left, right = scale.within(cut.start), scale.within(cut.end)
                shade = (left, self._lanes_top, right - left, self.bottom - self._lanes_top)
                sheet.rect(shade, fill=SHADE, opacity="0.13")
                note = f"nothing passes: {cut.words}, {cut.start:.6f} to {cut.end:.6f} s"
                sheet.rect((left, top, right - left, CUT_ROW - 2), note, fill=SHADE, rx=2)
                if width_of(cut.words, TAG + 1) + 6 <= right - left:
                    place = ((left + right) / 2, top + 11.5)
                    sheet.text(place, cut.words, font_size=TAG + 1, fill=DARK, text_anchor="middle")

    # -- messages ------------------------------------------------------------------------------------------------------

    def _draw_flight(self, flight: Flight) -> None:
        sent, _, source, target, message = flight
        if source not in self._bars or target not in self._bars or source == target:
            return
        fate = self._fate(flight)
        start, end = self._way(flight, fate)
        family = family_of(message)
        style: dict[str, float | str] = {"stroke": FAMILIES[family], "stroke_width": 1.1}
        if fate == ARRIVED:
            style["marker_end"] = f"url(#{family})"
        else:
            style["stroke_dasharray"] = "4 3" if fate != UNDER_WAY else "1 3"
        note = f"{sent:.6f} s, {source} to {target}: {as_words([message])}, {fate}"
        self._sheet.line(start, end, note, **style)
        if fate in (GONE, STOPPED):
            cross = f"M{end[0] - 3:.1f} {end[1] - 3:.1f}l6 6m0 -6l-6 6"
            self._sheet.path(cross, stroke=FAMILIES[family], stroke_width=1.4, fill="none")

    def _fate(self, flight: Flight) -> str:
        """What became of a message, as far as this window knows."""
        if flight[1] == LOST:
            return GONE
        if flight[1] > self._window.end:
            return UNDER_WAY
        return ARRIVED if self._chronicle.passes(flight) else STOPPED

    def _way(self, flight: Flight, fate: str) -> tuple[tuple[float, float], tuple[float, float]]:
        """From where to where a message is drawn: as a line from bar to bar, or a part of it."""
        sent, arrives, source, target, _ = flight
        down = self._bars[target] > self._bars[source]
        y1 = self._bars[source] + (BAR if down else 0)
        y2 = self._bars[target] + (0 if down else BAR)
        x1, x2 = self._scale.x(sent), self._scale.within(arrives)
        if fate in (GONE, UNDER_WAY):
            return (x1, y1), (min(x2, x1 + STUB_WIDTH), y1 + (y2 - y1) * STUB)
        if x1 < self._scale.left:
            y1 += (y2 - y1) * (self._scale.left - x1) / (x2 - x1)
            x1 = self._scale.left
        if fate == STOPPED:
            return (x1, y1), (x1 + (x2 - x1) * 0.9, y1 + (y2 - y1) * 0.9)
        return (x1, y1), (x2, y2)

    # -- peers ---------------------------------------------------------------------------------------------------------

    def _draw_lane(self, name: str, top: float) -> None:
        sheet, scale, chronicle = self._sheet, self._scale, self._chronicle
        words = shortened(name, 9)
        sheet.text(
            (scale.left - 10, top + BAR / 2 + 5), words, font_size=14, fill=DARK, font_weight="bold", text_anchor="end"
        )
        spans = self._window.last([one for one in chronicle.spans if one.peer == name], "start", "end")
        if spans and spans[-1].end == self._window.end:
            spans[-1] = spans[-1]._replace(end=scale.end)
        for span in spans:
            draw_span(sheet, scale, span, (top, BAR))
        for pause in self._window.last([one for one in chronicle.pauses if one.peer == name], "start", "end"):
            left, right = scale.within(pause.start), scale.within(pause.end)
            note = f"{name} stands still, {pause.start:.6f} to {pause.end:.6f} s"
            sheet.rect((left, top, right - left, BAR), note, fill="url(#pause)", stroke=DARK, stroke_width=0.8)
        for span in spans:
            label_span(sheet, scale, span, (top, BAR - 6))
        self._draw_answers(name, top + BAR - 5)
        self._draw_commits(name, top + BAR)
        self._draw_marks([one for one in chronicle.marks if one.peer == name], top)

    def _draw_answers(self, name: str, y: float) -> None:
        last = {status: float("-inf") for status in ANSWERS}
        for answer in self._window.last([one for one in self._chronicle.answers if one.peer == name]):
            x = self._scale.x(answer.time)
            if answer.status in last and x - last[answer.status] >= CLOSE:
                last[answer.status] = x
                fill, stroke = ANSWERS[answer.status]
                self._sheet.shape("circle", answer.what, cx=x, cy=y, r=2.2, fill=fill, stroke=stroke)

    def _draw_commits(self, name: str, y: float) -> None:
        free = self._scale.left - 6
        for commit in self._window.last([one for one in self._chronicle.commits if one.peer == name]):
            x, words = self._scale.x(commit.time), str(commit.upto)
            wide = width_of(words, TAG)
            if x - wide / 2 < free:
                continue
            free = x + wide / 2 + 6
            self._sheet.line((x, y), (x, y + 4), stroke=GREY, stroke_width=0.8)
            self._halo((x, y + 13), words, GREY, "middle")

    def _draw_marks(self, marks: Sequence[Mark], top: float) -> None:
        """A diamond on the bar, and words above it where there is room."""
        free = [float("-inf")] * 2
        for mark in self._window.last(marks):
            x = self._scale.x(mark.time)
            diamond = f"M{x:.1f} {top - 6:.1f}l4 4l-4 4l-4 -4z"
            ends = mark.what.startswith(("dies", "stops", "fails", "retires"))
            self._sheet.path(diamond, f"{mark.time:.6f} s {mark.peer} {mark.what}", fill=RED if ends else DARK)
            words = shortened(mark.what, LONGEST_MARK)
            row = next((number for number, until in enumerate(free) if until <= x), None)
            if row is not None:
                left = min(x - 3, self._scale.right - width_of(words, TAG))
                self._halo((max(left, free[row]), top - 10 - 12 * row), words, DARK, "start")
                free[row] = max(left, free[row]) + width_of(words, TAG) + 8

    def _halo(self, place: tuple[float, float], words: str, colour: str, anchor: str) -> None:
        """A text that is read in front of messages, too."""
        style = {"stroke": "#ffffff", "stroke_width": "3", "paint_order": "stroke", "stroke_linejoin": "round"}
        self._sheet.text(place, words, font_size=TAG, fill=colour, text_anchor=anchor, **style)

    # -- everybody -----------------------------------------------------------------------------------------------------

    def _violated(self) -> str:
        """The name of the rule that does not hold, and when that was if it is not in the window."""
        if not self._violation:
            return ""
        rule = shortened(self._violation.partition(":")[0], 60)
        late = self._chronicle.end > self._window.end
        return f"▼ {rule}, at {self._chronicle.end:.6f} s" if late else f"▼ {rule}"

    def _draw_common_marks(self) -> None:
        free, room = float("-inf"), self._scale.right - 1.2 * width_of(self._violated(), RULE) - 10
        for mark in self._window.last([one for one in self._chronicle.marks if not one.peer]):
            x, words = self._scale.x(mark.time), shortened(mark.what, 60)
            self._sheet.line((x, self._top + 14), (x, self.bottom), mark.what, stroke=DARK, stroke_dasharray="1 4")
            left = min(x + 3, room - width_of(words, 11))
            if left >= free:
                free = left + width_of(words, 11) + 10
                self._sheet.text((left, self._top + 12), words, font_size=11, fill=DARK)

    def _draw_violation(self) -> None:
        x, style = self._scale.x(self._window.end), {"font_weight": "bold", "text_anchor": "end"}
        self._sheet.line((x, self._top + 16), (x, self.bottom), self._violation, stroke=RED, stroke_width=2)
        self._sheet.text((x + 12, self._top + 10), self._violated(), font_size=RULE, fill=RED, **style)
        for name, top in self._bars.items():
            if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", self._violation):
                place = {"cx": x, "cy": top + BAR / 2, "r": BAR / 2 + 5}
                self._sheet.shape("circle", self._violation, **place, fill="none", stroke=RED, stroke_width=3)
