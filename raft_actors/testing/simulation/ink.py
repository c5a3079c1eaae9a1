"""SVG as strings: a sheet that takes shapes, and nothing that could make it ill-formed or different next time.

Texts are escaped, characters that XML does not know are replaced, and numbers have one decimal.
"""

from __future__ import annotations

import re
from typing import TypeAlias
from xml.sax.saxutils import escape, quoteattr

__all__ = ["Place", "Sheet", "shortened", "width_of"]

NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that may not be in a document, escaped or not."""
FONT = "'DejaVu Sans', Verdana, Helvetica, sans-serif"
LONGEST_NOTE = 500
CHARACTER = 0.56
"""Width of a usual character, by the size of its font."""

Place: TypeAlias = tuple[float, float]
"""From the left and from the top."""


class Sheet:
    """Shapes in the order in which they are drawn; each may carry a ``note``, shown when one points at it."""

    def __init__(self) -> None:
        self._shapes: list[str] = []

    def __len__(self) -> int:
        return len(self._shapes)

    def shape(self, tag: str, note: str = "", /, **attributes: float | str) -> None:
        """Draw any element; ``_`` in the name of an attribute stands for ``-``."""
        words = "".join(f" {name.replace('_', '-')}={_value(value)}" for name, value in attributes.items())
        inside = f"<title>{_clean(note[:LONGEST_NOTE])}</title>" if note else ""
        self._shapes.append(f"<{tag}{words}>{inside}</{tag}>" if inside else f"<{tag}{words}/>")

    def rect(self, box: tuple[float, float, float, float], note: str = "", /, **style: float | str) -> None:
        """Draw a rectangle: left, top, width, height."""
        left, top, width, height = box
        self.shape("rect", note, x=left, y=top, width=max(width, 0.0), height=max(height, 0.0), **style)

    def line(self, start: Place, end: Place, note: str = "", /, **style: float | str) -> None:
        """Draw a straight line."""
        self.shape("line", note, x1=start[0], y1=start[1], x2=end[0], y2=end[1], **style)

    def path(self, way: str, note: str = "", /, **style: float | str) -> None:
        """Draw a path."""
        self.shape("path", note, d=way, **style)

    def text(self, place: Place, words: str, /, **style: float | str) -> None:
        """Write a line."""
        attributes = "".join(f" {name.replace('_', '-')}={_value(value)}" for name, value in style.items())
        x, y = place
        self._shapes.append(f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{_clean(words)}</text>')

    def document(self, width: float, height: float, *, title: str, head: str) -> str:
        """Return everything as one document.

        Args:
            width: of the sheet.
            height: of the sheet.
            title: what a reader that cannot see it is told.
            head: definitions and style, as SVG.
        """
        opening = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" font-family={quoteattr(FONT)}>'
        )
        name = f"<title>{_clean(title[:LONGEST_NOTE])}</title>"
        paper = '<rect width="100%" height="100%" fill="#ffffff"/>'
        parts = ['<?xml version="1.0" encoding="UTF-8"?>', opening, name, head, paper]
        return "\n".join([*parts, *self._shapes, "</svg>"]) + "\n"


def _value(value: float | str) -> str:
    return quoteattr(NO_XML.sub("\ufffd", value)) if isinstance(value, str) else f'"{value:.1f}"'


def _clean(words: str) -> str:
    return escape(NO_XML.sub("\ufffd", words))


def width_of(words: str, size: float) -> float:
    """About how wide a line of text is."""
    return len(words) * size * CHARACTER


def shortened(words: str, length: int) -> str:
    """Return at most ``length`` characters of a text, on one line."""
    line = " ".join(words.split())
    return line if len(line) <= length else line[: max(length - 1, 0)] + "…"
