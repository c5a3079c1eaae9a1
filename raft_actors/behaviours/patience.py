"""Who stands again and again in vain waits longer each time: elections must not be what keeps the next from being won.

::

    stood in a row    1    2    3    4    5    6    7    8 times; milliseconds in the mean, by default
    refused          50   50  100  200  400  800 1600 1800 until it asks again
    not answered    450  450  900 1800 1800 1800 1800 1800 until it begins anew

The first rounds are as quick as elections have to be. If they were not enough, either this peer cannot be elected now,
and asks for nothing, or the nodes are too busy to answer within a timeout. Then a round that begins before the last one
was answered throws most of those answers away, and adds to what keeps the nodes busy: where many clusters share them,
elections alone do that without end, long after what began it has gone. (Promises of votes do count in the next round of
the same term.)

Only a leader's word ends it, or leading oneself; a restart and a removal forget it. A vote, a newer term, a sleep do
not: elections in vain are made of them. It concerns how often a peer stands, never how it votes. So somebody else can
be elected meanwhile, unless this peer has the better claim. Then others would wait for it, so these stand soon: who
refuses a voter, for its log or, of two that ask, for its name (``voting``); a pre-candidate that learns of a newer term
(``transition``); who voted for one that is known to be dead (``step``). A candidate asks again (``candidate``).

Paper: §5.2 (random timeouts), §5.6 (answers must come in far less than a timeout). Thesis: §9.3.
"""

from __future__ import annotations

from raft_actors.protocol.types import Moment, Settings

__all__ = ["pause", "timeout", "waits_longer"]

QUICK = 2
"""Rounds in a row that wait no longer than the first."""
LONGEST = 4
"""Election timeouts that are waited at most: two who were cut off from each other should not miss it for long."""
DOUBLINGS = 16
"""Enough to make a timeout of any pause; more would only make large numbers."""


def timeout(settings: Settings, moment: Moment, in_vain: int) -> float:
    """Seconds to wait for a leader, or for answers, of who stood ``in_vain`` times in a row; random as ever."""
    usual = settings.election_timeout(moment.jitter)
    return usual * min(_growth(in_vain), LONGEST) if in_vain else usual


def pause(settings: Settings, moment: Moment, in_vain: int) -> float:
    """Seconds until who was refused asks again: the others may have heard their leader only a little longer."""
    shortest = settings.heartbeat_interval * (0.5 + moment.jitter)
    return min(shortest * _growth(in_vain), settings.election_timeout(moment.jitter) * LONGEST)


def waits_longer(in_vain: int) -> bool:
    """Whether who stood so often waits longer than at first."""
    return _growth(in_vain) > 1


def _growth(in_vain: int) -> int:
    return 1 << min(max(in_vain - QUICK, 0), DOUBLINGS)
