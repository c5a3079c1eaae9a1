"""What waits to be sent to a node: two lanes, so that a heartbeat never waits for a snapshot.

What carries entries or a piece of a snapshot waits for room (``WINDOW`` bytes that the other side has not confirmed);
heartbeats, votes and answers pass it. Entries never pass each other: a gap would have them sent again. A lane that is
full loses its oldest letters: Raft sends again what matters.
"""

from __future__ import annotations

import collections
import itertools

from raft_actors.protocol.messages import AppendEntries, InstallSnapshot, Message
from raft_actors.transport.frames import Letter

__all__ = ["TOGETHER", "WINDOW", "Lanes"]

WINDOW = 1 << 20
"""Bytes of large letters that may be under way."""
TOGETHER = 64 << 10
"""Bytes of letters that leave as one frame; a larger letter goes alone."""
MOST_LETTERS = 4096
MOST_BYTES = 128 << 20
ALONE = 200
"""About how many bytes a letter without entries takes."""


class Lanes:
    """The letters for one node."""

    def __init__(self) -> None:
        self._small: collections.deque[tuple[Letter, int]] = collections.deque()
        self._large: collections.deque[tuple[Letter, int]] = collections.deque()
        self._large_bytes = 0
        self._unconfirmed = 0

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._small or self._large)

    def add(self, letter: Letter) -> None:
        """Take a letter."""
        size, carries = _size(letter.message)
        if size > TOGETHER or (carries and self._large):
            self._large.append((letter, size))
            self._large_bytes += size
            while self._large_bytes > MOST_BYTES and len(self._large) > 1:
                self._large_bytes -= self._large.popleft()[1]
            return
        self._small.append((letter, size))
        if len(self._small) > MOST_LETTERS:
            self._small.popleft()

    def small(self) -> list[Letter]:
        """The next letters that leave together; empty if there is none."""
        letters: list[Letter] = []
        left = TOGETHER
        for letter, size in itertools.islice(self._small, MOST_LETTERS):
            if letters and size > left:
                break
            letters.append(letter)
            left -= size
        return letters

    def small_sent(self, count: int) -> None:
        """So many of them have left."""
        for _ in range(count):
            self._small.popleft()

    def large(self) -> tuple[Letter, int] | None:
        """The next large letter and its size, if there is room for it."""
        return self._large[0] if self._large and self._unconfirmed < WINDOW else None

    def large_sent(self) -> None:
        """It has left."""
        size = self._large.popleft()[1]
        self._large_bytes -= size
        self._unconfirmed += size

    def confirmed(self, counted: int) -> None:
        """So many bytes have arrived."""
        self._unconfirmed = max(0, self._unconfirmed - counted)

    def clear(self) -> None:
        """The connection is no more: what waits is of no use."""
        self._small.clear()
        self._large.clear()
        self._large_bytes = self._unconfirmed = 0


def _size(message: Message) -> tuple[int, bool]:
    """About how many bytes it takes, and whether it must not be passed by the next of its kind."""
    if isinstance(message, InstallSnapshot):
        return TOGETHER + len(message.data), True
    if isinstance(message, AppendEntries) and message.entries:
        return ALONE + sum([len(entry.data) + 32 for entry in message.entries]), True
    return ALONE, False
