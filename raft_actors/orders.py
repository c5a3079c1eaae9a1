"""What the library tells a peer to do, and what the peer tells of its end. Requests of callers are in ``requests``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from raft_actors.futures import RequestFuture
    from raft_actors.protocol.changes import Change
    from raft_actors.values import Configuration

__all__ = ["CallerOrder", "ChangeOrder", "Ended", "FormRequest", "SnapshotOrder", "StopNow", "TransferOrder"]


class FormRequest(NamedTuple):
    """A caller wants a cluster of ``names`` formed; ``places``: where they are, if that was said."""

    names: tuple[str, ...]
    timeout: float
    future: RequestFuture[Any]
    places: tuple[tuple[str, str], ...] = ()


class SnapshotOrder(NamedTuple):
    """A caller wants a snapshot of now."""

    future: RequestFuture[int]


class ChangeOrder(NamedTuple):
    """A caller wants other members; ``expected``: index of the configuration that they must have now.

    ``places``: where the members-to-be are, as far as that was said.
    """

    change: Change
    expected: int | None
    timeout: float
    future: RequestFuture[Configuration]
    places: tuple[tuple[str, str], ...] = ()


class TransferOrder(NamedTuple):
    """A caller wants ``target`` to lead; ``None``: the best of the others."""

    target: str | None
    timeout: float
    future: RequestFuture[str]


CallerOrder = FormRequest | SnapshotOrder | ChangeOrder | TransferOrder
"""What callers want of the peer itself, each with a future."""


class StopNow(NamedTuple):
    """Stop without hand-over. ``crash``: as if the process died; ``error``: because of it."""

    crash: bool = False
    error: BaseException | None = None


class Ended(NamedTuple):
    """How a peer ended: ``error`` is ``None`` unless it failed."""

    crash: bool
    error: BaseException | None
