"""Getting into a cluster by oneself: ask its members in turn until one that leads lets us in.

::

    newcomer                       any member                       leader
        | Join --------------------> | not me: the leader is ... --->  |
        | Join ------------------------------------------------------> | a member of this name? busy? else: AddMember
        | <---- AppendEntries of the cluster, as a learner ------------ |
        | <---- ... as a voter: it is in, and asks no more ------------ |

It asks again until its own log says that it is in, so nothing has to arrive. A store that was wiped is another
incarnation, and joins as a new member; the old one of that name is taken out first, unless it was heard just now.

Thesis: §4.1.
"""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.behaviours import membership
from raft_actors.behaviours.transition import Outcome
from raft_actors.protocol.changes import AddMember
from raft_actors.protocol.configuration import Member
from raft_actors.protocol.effects import Send
from raft_actors.protocol.messages import Join, JoinRefusal, JoinReply
from raft_actors.protocol.state import NEVER, Joining, Leader, PeerState
from raft_actors.protocol.types import Moment

__all__ = ["is_in", "on_join", "on_join_reply", "on_join_tick"]

RETRY = 0.1
"""Seconds after which a peer that is not in asks again, and up to twice that."""
FINAL = (JoinRefusal.REPLACED, JoinRefusal.FOREIGN, JoinRefusal.UNEXPECTED)
"""Refusals that no waiting changes."""


def is_in(state: PeerState, joining: Joining) -> bool:
    """Whether the peer is what it wants to be, and that is committed."""
    configuration = state.configuration
    if not configuration.has(state.name, state.incarnation) or state.configuration_index > state.commit_index:
        return False
    return joining.learner or configuration.is_voter(state.name)


def on_join_tick(state: PeerState, moment: Moment) -> Outcome:
    """Ask the next one, or be content."""
    joining = state.joining
    if joining is None or moment.now < joining.retry:
        return state, ()
    if is_in(state, joining):
        return replace(state, joining=None), ()
    target = joining.leader or joining.seeds[joining.turn % len(joining.seeds)]
    retry = moment.now + RETRY * (1 + moment.jitter)
    turn = joining.turn if joining.leader else joining.turn + 1
    state = replace(state, joining=replace(joining, retry=retry, turn=turn, leader=None))
    message = Join(
        cluster=state.cluster,
        sender=state.name,
        incarnation=state.incarnation,
        receiver="",
        term=state.term,
        learner=joining.learner,
        expected=joining.expected,
        address=state.address,
    )
    return state, (Send(target, message),)


def on_join_reply(state: PeerState, reply: JoinReply, moment: Moment) -> Outcome:
    """Remember what we were told: turn to the leader, or give up where no waiting helps."""
    joining = state.joining
    if joining is None:
        return state, ()
    joining = replace(joining, refusal=reply.refusal)
    if reply.refusal in FINAL:
        joining = replace(joining, retry=NEVER)
    elif reply.refusal is JoinRefusal.NO_LEADER and reply.leader not in (None, state.name, reply.sender):
        joining = replace(joining, leader=reply.leader, retry=moment.now)
    return replace(state, joining=joining), ()


def on_join(state: PeerState, message: Join, moment: Moment) -> Outcome:
    """Somebody wants to be a member: let it in if we lead, else say who does."""
    refusal = _why_not(state, message, moment)
    if refusal is JoinRefusal.ACCEPTED and _wants_more(state, message):
        newcomer = Member(message.sender, message.incarnation, message.address)
        state = membership.prepare(state, AddMember(message.sender, message.learner), newcomer, moment)
    reply = JoinReply(
        cluster=state.cluster,
        sender=state.name,
        incarnation=state.incarnation,
        receiver=message.incarnation,
        term=state.term,
        refusal=refusal,
        leader=state.leader,
        address=state.address_of(state.leader),
    )
    return state, (Send(message.sender, reply),)


def _why_not(state: PeerState, message: Join, moment: Moment) -> JoinRefusal:
    role = state.role
    if not state.cluster:
        return JoinRefusal.NO_MEMBER
    if message.cluster not in ("", state.cluster):
        return JoinRefusal.FOREIGN
    if not isinstance(role, Leader):
        return JoinRefusal.NO_LEADER
    members = state.configuration.members()
    member = members.get(message.sender)
    if member is None and message.expected and not members.keys() <= set(message.expected):
        return JoinRefusal.UNEXPECTED
    if member is not None and member.incarnation != message.incarnation:
        if message.cluster:
            return JoinRefusal.REPLACED
        if message.sender == state.name or membership.is_heard(state, role, message.sender, moment):
            return JoinRefusal.NAME_TAKEN
    return JoinRefusal.BUSY if _wants_more(state, message) and membership.is_busy(state, role) else JoinRefusal.ACCEPTED


def _wants_more(state: PeerState, message: Join) -> bool:
    configuration = state.configuration
    if not configuration.has(message.sender, message.incarnation):
        return True
    return not message.learner and not configuration.is_voter(message.sender)
