"""The files that a machine dumps its state to and loads it from: thin wrappers that breathe.

Whatever a machine does in ``dump`` and ``load``, it comes back here for every few kilobytes. So the pauses that let
other threads run are taken here, also for machines that write a format of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raft_actors.breathing import PAUSE, Breath

if TYPE_CHECKING:
    from raft_actors.codec import Codec

__all__ = ["StateInput", "StateOutput"]


class StateOutput:
    """What ``dump`` writes to.

    Args:
        file: takes the bytes; anything with ``write``.
        codec: see below.
        pause: how long each breath is, in seconds.

    Attributes:
        codec: the peer's codec, for machines that want to use it.
        size: so many bytes were written.
    """

    def __init__(self, file: Any, codec: Codec, *, pause: float = PAUSE) -> None:
        self.codec = codec
        self.size = 0
        self._write = file.write
        self._breath = Breath(pause)

    def write(self, data: bytes) -> int:
        """Write all of ``data``; return how many bytes that are."""
        self._write(data)
        self._breath.take()
        length = len(data)
        self.size += length
        return length


class StateInput:
    """What ``load`` reads from: the bytes that ``dump`` wrote, and no more.

    Args:
        file: has the bytes; anything with ``read``, ``readinto`` and ``readline``.
        codec: see below.
        version: see below.

    Attributes:
        codec: the peer's codec, for machines that want to use it.
        version: the ``version`` of the machine that wrote the state.
        failure: what ``file`` raised last: it is no fault of the bytes.
    """

    def __init__(self, file: Any, codec: Codec, version: int = 0) -> None:
        self.codec = codec
        self.version = version
        self.failure: BaseException | None = None
        self._file = file
        self._breath = Breath()

    def read(self, size: int = -1) -> bytes:
        """Return ``size`` bytes, fewer only at the end; all that are left if it is negative."""
        return bytes(self._ask(self._file.read, size))

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer``, and return how many bytes that were: fewer than it holds only at the end."""
        return int(self._ask(self._file.readinto, buffer))

    def readline(self) -> bytes:
        """Return the bytes up to the next newline, which is among them, or to the end."""
        return bytes(self._ask(self._file.readline))

    def _ask(self, call: Any, *args: Any) -> Any:
        self._breath.take()
        try:
            return call(*args)
        except BaseException as error:
            self.failure = error
            raise
