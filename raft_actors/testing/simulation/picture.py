"""A run as a picture (SVG): the whole of it in small, and the time before the violation in full.

::

    what did not hold, what was on, how to repeat it
    the whole run          one thin bar for each peer, the window marked
    the window             lanes, messages, cuts (see ``lanes``)
    legend
    the last steps, in words

The picture of a record is a pure function: equal records give equal bytes. Its size is bounded whatever the run.
"""

from __future__ import annotations

import textwrap
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from raft_actors.testing.simulation.chronicle import Chronicle, Cut, Record, Span, chronicle_of
from raft_actors.testing.simulation.ink import Sheet, shortened, width_of
from raft_actors.testing.simulation.lanes import (
    ANSWERS,
    DARK,
    FAMILIES,
    GREY,
    RED,
    ROLES,
    SHADE,
    Lanes,
    Scale,
    Window,
    draw_span,
    label_span,
    time_axis,
)
from raft_actors.testing.simulation.trace import as_text

__all__ = ["Caption", "draw"]

WIDTH, LEFT, RIGHT = 1500.0, 90.0, 40.0
MESSAGES = 200
"""So many are drawn, and ..."""
LATE_MESSAGES = 60
"""... so many of those that left before the window and arrive in it."""
LONGEST, SHORTEST = 4.0, 0.001
"""Seconds that a window shows at most, and at least."""
QUIET = 0.5
"""Seconds for which a window shows that nothing happens any more."""
MARGIN = 0.015
"""So much room, as a share of a window, is behind its end: there one sees what the last step made of a peer."""
SMALL, SMALL_PITCH = 13.0, 17.0
CAPTION_LINES = 12
CHARACTERS = 190
LAST_STEPS = 12
MONO = "'DejaVu Sans Mono', Consolas, Menlo, monospace"
PRESERVED = {"xml:space": "preserve"}
"""Spaces stay as they are."""


class Caption(NamedTuple):
    """What is written above a picture.

    Attributes:
        title: which run it is.
        violation: what did not hold, or empty.
        lines: what else there is to know.
    """

    title: str
    violation: str = ""
    lines: tuple[str, ...] = ()


def draw(record: Record, caption: Caption) -> str:
    """Return the picture of a run as an SVG document."""
    sheet, chronicle = Sheet(), chronicle_of(record)
    window = _window(chronicle, violated=bool(caption.violation))
    y = _draw_caption(sheet, caption)
    y = _draw_whole(sheet, chronicle, window, y)
    margin = (window.end - window.start) * MARGIN
    scale = Scale(window.start, window.end + margin, LEFT, WIDTH - RIGHT)
    lanes = Lanes(sheet, chronicle, window, scale=scale, top=y, violation=caption.violation)
    lanes.draw()
    y = _draw_legend(sheet, lanes.bottom + 44)
    y = _draw_last_steps(sheet, record, y + 12)
    title = f"{caption.title} {caption.violation}".strip()
    return sheet.document(WIDTH, y, title=title, head=_head())


def _window(chronicle: Chronicle, *, violated: bool) -> Window:
    """The time before the violation; of a run without one, the time around its last election."""
    flights, end = chronicle.flights, min(chronicle.end, chronicle.busy_until + QUIET)
    remembered = flights[0][0] if flights else end
    elections = [span.start for span in chronicle.spans if span.standing.role == "Leader" and span.start >= remembered]
    last = len(flights)
    if elections and not violated:
        last = min(last, bisect_right(flights, elections[-1], key=lambda flight: flight[0]) + MESSAGES // 3)
        newest = max(flights[last - 1][0], elections[-1]) if last < len(flights) else end
        end = min(end, newest, elections[-1] + LONGEST / 2)
    first = max(0, last - MESSAGES)
    start = flights[first][0] if first < len(flights) else 0.0
    start = max(0.0, min(max(start, end - LONGEST), end - SHORTEST))
    shown = [flight for flight in flights[first:last] if start <= flight[0] <= end]
    late = [flight for flight in flights[:last] if flight[0] < start <= flight[1] <= end]
    return Window(start, end, [*late[-LATE_MESSAGES:], *shown])


def _draw_caption(sheet: Sheet, caption: Caption) -> float:
    y = 30.0
    sheet.text((24, y), shortened(caption.title, 150), font_size=18, font_weight="bold", fill=DARK)
    first, *more = caption.violation.splitlines() or [""]
    for line in _wrapped([first], CHARACTERS - 20):
        y += 19
        sheet.text((24, y), line, font_size=13, font_weight="bold", fill=RED)
    for line in _wrapped(more, CHARACTERS):
        y += 15
        sheet.text((24, y), line, font_size=11, fill=RED, font_family=MONO, **PRESERVED)
    y += 4
    for line in _wrapped(caption.lines, CHARACTERS):
        y += 16
        sheet.text((24, y), line, font_size=11, fill=GREY, font_family=MONO)
    return y + 18


def _wrapped(texts: Sequence[str], width: int) -> list[str]:
    """Lines of at most ``width`` characters, and not too many."""
    lines = [line for text in texts for line in textwrap.wrap(text, width, drop_whitespace=False)]
    if len(lines) <= CAPTION_LINES:
        return lines
    return [*lines[: CAPTION_LINES - 1], f"... and {len(lines) - CAPTION_LINES + 1} lines more"]


# -- the whole run -----------------------------------------------------------------------------------------------------


def _draw_whole(sheet: Sheet, chronicle: Chronicle, window: Window, top: float) -> float:
    scale = Scale(0.0, chronicle.end, LEFT, WIDTH - RIGHT)
    sheet.text((24, top + 8), "the whole run", font_size=12, font_weight="bold", fill=DARK)
    y = top + 18
    bottom = y + SMALL_PITCH * (len(chronicle.names) + 1) + 2
    time_axis(sheet, scale, y, bottom)
    for cut in _apart(chronicle.cuts, scale):
        left, right = scale.within(cut.start), scale.within(cut.end)
        sheet.rect((left, y, max(right - left, 1), SMALL - 3), cut.words, fill=SHADE)
    sheet.text((LEFT - 10, y + 9), "cuts", font_size=11, fill=GREY, text_anchor="end")
    for name in chronicle.names:
        y += SMALL_PITCH
        sheet.text((LEFT - 10, y + 11), shortened(name, 10), font_size=12, fill=DARK, text_anchor="end")
        for span in _seen([one for one in chronicle.spans if one.peer == name], scale):
            draw_span(sheet, scale, span, (y, SMALL))
            label_span(sheet, scale, span, (y, SMALL))
    left, right = scale.within(window.start), scale.within(window.end)
    if right - left < 6:
        left = max(LEFT - 3, right - 6)
    frame = (left - 1, top + 14, right - left + 2, bottom - top - 12)
    sheet.rect(frame, "shown below", fill="none", stroke=DARK, stroke_width=1.6)
    below = bottom + 36
    for start, end in (((left, bottom + 18), (LEFT, below)), ((right, bottom + 18), (WIDTH - RIGHT, below))):
        sheet.line(start, end, stroke=GREY, stroke_width=0.8, stroke_dasharray="3 3")
    words = f"from {window.start:.6f} to {window.end:.6f} s"
    sheet.text((24, below + 14), words, font_size=12, font_weight="bold", fill=DARK)
    return below + 20


def _seen(spans: list[Span], scale: Scale) -> list[Span]:
    """Spans wide enough to be seen; what is shorter is taken by the one before it."""
    seen: list[Span] = []
    for span in spans:
        if seen and scale.x(seen[-1].end) - scale.x(seen[-1].start) < 2:
            seen[-1] = Span(span.peer, seen[-1].start, span.end, span.standing)
        else:
            seen.append(span)
    return seen


def _apart(cuts: list[Cut], scale: Scale) -> list[Cut]:
    """Cuts that follow one another closely are one."""
    apart: list[Cut] = []
    for cut in cuts:
        if apart and scale.x(cut.start) <= scale.x(apart[-1].end) + 1:
            apart[-1] = apart[-1]._replace(end=max(apart[-1].end, cut.end))
        else:
            apart.append(cut)
    return apart


# -- below -------------------------------------------------------------------------------------------------------------


def _draw_legend(sheet: Sheet, top: float) -> float:
    """A row for roles and what happens to peers, a row for messages and answers."""
    x, y = LEFT - 60, top
    for name, fill, _ in ROLES.values():
        sheet.rect((x, y - 11, 22, 14), fill=fill, rx=2)
        x = _label(sheet, (x + 27, y), f"{name} and its term")
    sheet.rect((x, y - 11, 22, 14), fill="#ffffff", stroke=GREY, stroke_dasharray="3 3")
    x = _label(sheet, (x + 27, y), "does not run")
    sheet.rect((x, y - 11, 22, 14), fill="url(#pause)", stroke=DARK, stroke_width=0.8)
    x = _label(sheet, (x + 27, y), "stands still")
    sheet.rect((x, y - 11, 22, 14), fill=SHADE, rx=2)
    _label(sheet, (x + 27, y), "nothing passes: a | b, or a to b")
    x, y = LEFT - 60, top + 24
    for family, colour in FAMILIES.items():
        style = {"stroke": colour, "stroke_width": "1.6", "marker_end": f"url(#{family})"}
        sheet.line((x, y - 4), (x + 24, y - 4), **style)
        x = _label(sheet, (x + 31, y), family)
    sheet.line((x, y - 4), (x + 22, y - 4), stroke=GREY, stroke_dasharray="4 3", stroke_width=1.4)
    sheet.path(f"M{x + 19:.1f} {y - 7:.1f}l6 6m0 -6l-6 6", stroke=GREY, stroke_width=1.4, fill="none")
    x = _label(sheet, (x + 31, y), "lost")
    sheet.line((x, y - 4), (x + 24, y - 4), stroke=GREY, stroke_dasharray="1 3", stroke_width=1.4)
    x = _label(sheet, (x + 31, y), "under way")
    for status, (fill, stroke) in ANSWERS.items():
        sheet.shape("circle", cx=x + 4, cy=y - 4, r=3, fill=fill, stroke=stroke)
        x = _label(sheet, (x + 12, y), f"answer: {status}")
    _label(sheet, (x, y), "17: commit index")
    return y + 14


def _label(sheet: Sheet, place: tuple[float, float], words: str) -> float:
    """Write; returns where there is room for the next one."""
    sheet.text(place, words, font_size=12, fill=DARK)
    return place[0] + width_of(words, 12) + 22


def _draw_last_steps(sheet: Sheet, record: Record, top: float) -> float:
    sheet.text((24, top + 6), "the last steps", font_size=12, font_weight="bold", fill=DARK)
    y = top + 8
    for entry in record.log[-LAST_STEPS:]:
        y += 16
        line = _first_line(as_text([entry]))
        colour = RED if entry[1:3] == ("observer", "VIOLATION") else DARK
        sheet.text((24, y), line, font_size=11, fill=colour, font_family=MONO, **PRESERVED)
    return y + 20


def _first_line(text: str) -> str:
    """The first line of a text, as far as there is room for it."""
    line = text.split("\n", 1)[0]
    return line if len(line) <= CHARACTERS else line[: CHARACTERS - 1] + "…"


def _head() -> str:
    """Fonts, arrow heads and the pattern of a pause."""
    markers = "".join(
        f'<marker id="{family}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
        f'<path d="M0 1L8 4L0 7z" fill="{colour}"/></marker>'
        for family, colour in FAMILIES.items()
    )
    pattern = (
        '<pattern id="pause" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect width="6" height="6" fill="#ffffff" opacity="0.45"/>'
        f'<rect width="2" height="6" fill="{DARK}"/></pattern>'
    )
    return f"<defs>{markers}{pattern}</defs>"
