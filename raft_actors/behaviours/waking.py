"""A peer whose process slept for longer than an election timeout does not go on as if nothing had happened.

::

    Leader -----------------------+
    PreCandidate, Candidate ------+--slept--> Follower that listens for an election timeout
    Follower, also without leader +

A process is stopped by a signal, by a debugger, with its whole machine; the others may have elected a leader since, and
have gone on. In the inbox there are old answers, which look like those of a quorum that follows us now (BUG-27). So
before anything else is looked at, leadership is given up, and who wants to lead listens first.

A sleep is seen by how late a deadline is: those of a leader are never further away than a heartbeat, those of the
others than an election timeout. The sleep of a machine is told by the event ``Slept``.

Thesis: §6.2, §6.4.1 (what a leader that does not know how late it is must not do).
"""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.behaviours.transition import Transition, become_follower, election_deadline
from raft_actors.protocol.configuration import has_quorum
from raft_actors.protocol.state import Follower, Leader, PeerState
from raft_actors.protocol.types import Moment

__all__ = ["has_overslept", "wake"]


def has_overslept(state: PeerState, moment: Moment) -> bool:
    """Whether this peer is later than an election timeout for what it had to do next."""
    role = state.role
    due = role.heartbeat_deadline if isinstance(role, Leader) else role.election_deadline
    return moment.now - due > state.settings.max_election_timeout


def wake(state: PeerState, moment: Moment) -> Transition:
    """Lead and stand no more; listen first. Who is a quorum alone has nobody to listen to."""
    if has_quorum(state.configuration, (state.name,)):
        return Transition(state)
    if isinstance(state.role, Leader):
        return become_follower(state, moment)
    return Transition(replace(state, role=Follower(election_deadline(state, moment), forgiven=True)))
