"""Peers that were told of each other, and form exactly one cluster by themselves, in whatever order they start.

::

    all are given the same names --> the lowest asks all others --> all are free, by the rules of ``formation``
                                                                    --> the cluster is formed, once
    one of them belongs to a cluster already --> everybody else asks to be let in (``joining``)

Everybody has to be free at a time at which the one who asks is still asking, so two of these clusters cannot be formed:
each of the two who ask would have to be free for the other before it began to ask itself. Nothing has to be
remembered for that over a restart: who asks has forgotten it then, and who was free answers anew. What is on the disk
of one of them counts: it belongs to its cluster from then on.

A store that was wiped is let in under its name in place of the old one. Whoever was given other names is refused.

Thesis: §4.4; the danger is BUG-69 (peers that each form a cluster of their own, which later meet).
"""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.behaviours import formation
from raft_actors.behaviours.transition import Outcome
from raft_actors.protocol.events import ClusterRequested
from raft_actors.protocol.state import NEVER, PeerState
from raft_actors.protocol.types import Moment

__all__ = ["on_bootstrap_tick"]

ATTEMPT = 2.0
"""Seconds after which a peer that asks gives up and begins anew, so that those who are free are not bound for ever."""


def on_bootstrap_tick(state: PeerState, moment: Moment) -> Outcome:
    """If we are the lowest of those who look for each other, ask the others, again and again."""
    bootstrap = state.bootstrap
    if bootstrap is None:
        return state, ()
    if state.cluster:
        return replace(state, bootstrap=None), ()
    if moment.now < bootstrap.retry:
        return state, ()
    asks = state.name == min(bootstrap.names)
    state = replace(state, bootstrap=replace(bootstrap, retry=moment.now + ATTEMPT if asks else NEVER))
    if not asks:
        return state, ()
    if state.formation is not None and moment.now < state.formation.deadline:
        return state, ()
    asked = ClusterRequested(0, _proposal(state, moment), bootstrap.names, ATTEMPT)
    return formation.request(state, asked, moment)


def _proposal(state: PeerState, moment: Moment) -> str:
    """An id that nobody else has: of our store, and of this moment."""
    return f"{state.incarnation}{int((moment.now + moment.jitter) * 1e6) & 0xFFFF_FFFF:08x}"
