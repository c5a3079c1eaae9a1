"""Who asked a peer for something that takes it several steps, under the tokens by which the rules know them.

Rule: a future that is admitted is answered exactly once: by the effect that names its token, or at the end of the peer.
Writes and reads are not here: they are many, and are kept by their place in the log (``requests``).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raft_actors.errors import RaftError
    from raft_actors.futures import RequestFuture

__all__ = ["Callers"]


class Callers:
    """The futures of one peer's callers. Used in its turns only."""

    def __init__(self) -> None:
        self._tokens = itertools.count(1)
        self._futures: dict[int, RequestFuture[Any]] = {}

    def admit(self, future: RequestFuture[Any]) -> int:
        """Keep ``future`` until it is taken; returns its token."""
        token = next(self._tokens)
        self._futures[token] = future
        return token

    def take(self, token: int) -> RequestFuture[Any]:
        """The future of ``token``, to be answered now."""
        return self._futures.pop(token)

    def close(self, error: RaftError) -> None:
        """Answer all who wait still."""
        while self._futures:
            self._futures.popitem()[1].try_fail(error)
