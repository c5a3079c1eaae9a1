"""A peer whose process slept for longer than an election timeout does not go on as if nothing had happened.

::

    Leader -----------------------+
    PreCandidate, Candidate ------+--slept--> Follower that listens for an election timeout
    Follower, also without leader +

A process is stopped by a signal, by a debugger, with its whole machine; the others may have elected a leader since, and
have gone on. In the inbox there are old answers, which look like those of a quorum that follows us now (BUG-27). So
before anything else is looked at, leadership is given up, and who wants to lead listens first.

A sleep is seen by how late a deadline is. That of a leader was a heartbeat away at most when it fell asleep, or a look
where it rests, so that no sleep of an election timeout goes unnoticed. That of the others may have been as far away as
that timeout: after a sleep that is less than twice as long it may look as if nobody was heard until then, which is also
what the inbox says. Who stood in vain may have waited longer (``patience``), and sleep so much longer unnoticed.
The sleep of a machine is told by the event ``Slept``.

Thesis: §6.2, §6.4.1 (what a leader that does not know how late it is must not do).
"""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.behaviours.resting import look_interval
from raft_actors.behaviours.transition import Outcome, become_follower, listening
from raft_actors.protocol.configuration import has_quorum
from raft_actors.protocol.state import Leader, PeerState
from raft_actors.protocol.types import Moment

__all__ = ["has_overslept", "wake"]


def has_overslept(state: PeerState, moment: Moment) -> bool:
    """Whether this peer did nothing for an election timeout although it should have."""
    role, timeout = state.role, state.settings.max_election_timeout
    if isinstance(role, Leader):
        planned = look_interval(state.settings) if role.resting else state.settings.heartbeat_interval
        return moment.now - role.heartbeat_deadline > timeout - planned
    return moment.now - role.election_deadline > timeout


def wake(state: PeerState, moment: Moment) -> Outcome:
    """Lead and stand no more; listen first. Who is a quorum alone has nobody to listen to, and trusts no lease."""
    if has_quorum(state.configuration, (state.name,)):
        return _without_lease(state), ()
    if isinstance(state.role, Leader):
        return become_follower(state, moment)
    return replace(state, role=replace(listening(state, moment, state.role.in_vain), forgiven=True)), ()


def _without_lease(state: PeerState) -> PeerState:
    """Learners may have promised something, and vote soon: by their clocks that is over. So no lease in this term."""
    role = state.role
    return replace(state, role=replace(role, lease_given_up=True)) if isinstance(role, Leader) else state
