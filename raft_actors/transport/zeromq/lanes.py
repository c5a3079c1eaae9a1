"""What waits to be sent to a node: two lanes, so that a heartbeat never waits for a snapshot.

What carries entries or a piece of a snapshot leaves in parts, and waits for room (``Window``: so many bytes that the
other side has not confirmed); heartbeats, votes and answers pass it, also in the middle of a letter. Entries never pass
each other: a gap would have them sent again. For the same reason a heartbeat that passes entries is made to speak of
the log before them, and what waits already is not taken twice: on a slow way a leader that gets no answer would fill it
with repetitions. A lane that is full loses its oldest letters: Raft sends again what matters.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from raft_actors.protocol.messages import AppendEntries, InstallSnapshot, Message
from raft_actors.transport.frames import Letter

__all__ = ["ALONE", "PART", "PIECE", "TOGETHER", "WIDE", "Lanes", "Window", "cut"]

PART = 32 << 10
"""Bytes of a part: what is urgent waits for at most one that has begun to leave, and for the window."""
NARROWEST, WIDEST = PART, 1 << 20
"""Bounds of a window: bytes that may be under way."""
LATE = 0.05
"""Seconds that a part may wait on its way, more than the quickest one, before less is sent at a time."""
SMALL = 8 << 10
"""Bytes up to which a letter with entries leaves at once."""
TOGETHER = 64 << 10
"""Bytes of letters that leave as one frame; a larger letter goes alone."""
WIDE = 256 << 10
"""The same of requests, where no letters go the same way: each of them costs less in a larger frame."""
PIECE = 64 << 10
"""Bytes of a piece of a frame (``cut``): half a second on a way of 1 Mbit/s."""
MOST_LETTERS = 4096
MOST_BYTES = 128 << 20
ALONE = 200
"""About how many bytes a letter without entries takes."""


class Window:
    """How much may be under way: as much as the way takes without a queue, for in a queue heartbeats would be late.

    Each confirmed part widens it by as much; one that took clearly longer than the quickest halves it, once for all
    that were under way then.
    """

    def __init__(self) -> None:
        self.size = NARROWEST * 8
        self._under_way: collections.deque[tuple[int, float]] = collections.deque()
        self._unconfirmed = 0
        self._quickest = float("inf")
        self._halved_at = float("-inf")

    def room(self) -> bool:
        """Whether more may leave."""
        return self._unconfirmed < self.size

    def sent(self, size: int, now: float) -> None:
        """So many bytes have left."""
        self._under_way.append((size, now))
        self._unconfirmed += size

    def confirmed(self, now: float) -> None:
        """The oldest of what is under way has arrived."""
        if not self._under_way:
            return
        size, left_at = self._under_way.popleft()
        self._unconfirmed -= size
        took = now - left_at
        self._quickest = min(self._quickest, took)
        if took <= self._quickest + LATE:
            self.size = min(WIDEST, self.size + size)
        elif left_at > self._halved_at:
            self.size, self._halved_at = max(NARROWEST, self.size // 2), now


class Lanes:
    """The letters for one node.

    Attributes:
        busy: whether anything waits; only to be looked at.
    """

    def __init__(self) -> None:
        self.busy = False
        self._small: collections.deque[tuple[Letter, int]] = collections.deque()
        self._large: collections.deque[tuple[Letter, int]] = collections.deque()
        self._leaving: Letter | None = None
        self._large_bytes = 0
        self._frame, self._at = b"", 0
        self.window = Window()

    def add(self, letter: Letter) -> None:
        """Take a letter."""
        self.busy = True
        size, carries = _size(letter.message)
        if size <= SMALL and not self._large and self._leaving is None:  # nothing to be passed
            self._take(letter, size)
            return
        if carries and any(_same(letter, one) for one in self._waiting()):
            return
        if size > SMALL or (carries and (self._large or self._leaving)):
            self._large.append((letter, size))
            self._large_bytes += size
            while self._large_bytes > MOST_BYTES and len(self._large) > 1:
                self._large_bytes -= self._large.popleft()[1]
            return
        self._take(letter if carries else self._before_entries(letter), size)

    def _take(self, letter: Letter, size: int) -> None:
        self._small.append((letter, size))
        if len(self._small) > MOST_LETTERS:
            self._small.popleft()

    def _waiting(self) -> Iterator[Letter]:
        if self._leaving is not None:
            yield self._leaving
        for letter, _ in self._large:
            yield letter

    def _before_entries(self, letter: Letter) -> Letter:
        """A heartbeat as it can be answered where none of the entries that wait has come."""
        message = letter.message
        if not isinstance(message, AppendEntries):
            return letter
        previous = message.previous
        for other in self._waiting():
            entries = other.message
            if isinstance(entries, AppendEntries) and _to_and_fro(other) == _to_and_fro(letter):
                previous = min(previous, entries.previous, key=lambda position: position.index)
        return letter if previous == message.previous else Letter(letter.to, replace(message, previous=previous))

    def small(self) -> list[Letter]:
        """The next letters that leave together; empty if there is none."""
        if len(self._small) <= 1:
            return [self._small[0][0]] if self._small else []
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
        self.busy = bool(self._small or self._large or self._leaving)

    @property
    def large(self) -> bool:
        """Whether letters that leave in parts wait."""
        return self._leaving is not None or bool(self._large)

    def part(self, frame_of: Callable[[Letter], bytes]) -> tuple[bytes, int, int] | None:
        """What of the large letters leaves next, if there is room: a part of a frame, its place, and all its bytes."""
        if not self.window.room() or not (self._leaving or self._large):
            return None
        if self._leaving is None:
            self._leaving, size = self._large.popleft()
            self._large_bytes -= size
            self._frame, self._at = frame_of(self._leaving), 0
        return self._frame[self._at : self._at + PART], self._at, len(self._frame)

    def part_sent(self, now: float) -> None:
        """It has left."""
        size = min(PART, len(self._frame) - self._at)
        self.window.sent(size, now)
        self._at += size
        if self._at == len(self._frame):
            self._leaving, self._frame = None, b""
            self.busy = bool(self._small or self._large)

    def clear(self) -> None:
        """The connection is no more: what waits is of no use."""
        self._small.clear()
        self._large.clear()
        self._large_bytes, self._leaving, self._frame = 0, None, b""
        self.busy, self.window = False, Window()


def cut(frame: bytes) -> list[bytes | memoryview]:
    """The pieces in which a large frame is sent, as one message of ZeroMQ.

    ZeroMQ's own heartbeats go between pieces, and each piece that comes counts as a sign of life. A piece that takes
    longer than the timeout of those would break the connection again and again.
    """
    if len(frame) <= PIECE:
        return [frame]
    return [memoryview(frame)[at : at + PIECE] for at in range(0, len(frame), PIECE)]


def _to_and_fro(letter: Letter) -> tuple[str, str, int]:
    """Who leads whom, in which term."""
    return letter.to, letter.message.sender, letter.message.term


def _same(one: Letter, other: Letter) -> bool:
    """Whether one repeats the other, as far as the receiver is concerned."""
    match one.message, other.message:
        case (AppendEntries() as new, AppendEntries() as old):
            alike = (new.previous, len(new.entries)) == (old.previous, len(old.entries))
        case (InstallSnapshot() as new, InstallSnapshot() as old):
            alike = (new.id, new.offset) == (old.id, old.offset)
        case _:
            return False
    return alike and new.receiver == old.receiver and _to_and_fro(one) == _to_and_fro(other)


def _size(message: Message) -> tuple[int, bool]:
    """About how many bytes it takes, and whether it must not be passed by the next of its kind."""
    if isinstance(message, InstallSnapshot):
        return TOGETHER + len(message.data), True
    if isinstance(message, AppendEntries) and message.entries:
        return ALONE + sum([len(entry.data) + 32 for entry in message.entries]), True
    return ALONE, False
