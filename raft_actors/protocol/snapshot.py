"""What a snapshot stands for: the state of the machine after every entry up to one position.

It takes the place of those entries, so it carries what else was known there: the configuration, the replicated time,
and the chain value with which the log goes on.

Paper: §7, Figure 12 (last included index and term, latest configuration).
"""

from __future__ import annotations

from msgspec import Struct

from raft_actors.protocol.configuration import NO_CONFIGURATION, Configuration
from raft_actors.protocol.types import NOWHERE, LogPosition

__all__ = ["Snapshot"]


class Snapshot(Struct, frozen=True, array_like=True):
    """One snapshot. Two of the same position, made by two peers, may differ in their bytes: hence ``id``.

    Attributes:
        id: names these very bytes: the incarnation that made them, and the index; 1 to 64 of letters, digits and ``-``.
        last: position of the newest entry it covers.
        chain: chain value of that entry; the rules never look into it.
        time: the leader's time in that entry, in seconds.
        configuration_index: where the configuration that counted there stood, 0 if there was none.
        configuration: that configuration.
        size: bytes of its file.
    """

    id: str = ""
    last: LogPosition = NOWHERE
    chain: int = 0
    time: float = 0.0
    configuration_index: int = 0
    configuration: Configuration = NO_CONFIGURATION
    size: int = 0
