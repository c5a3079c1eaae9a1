"""Asking a leader for other members: what is refused, who has to introduce itself first, and how a change begins.

::

    ChangeRequested --refused--> ChangeAnswer: nothing was changed
         | newcomers: Introduce --> IntroduceReply: identity of their stores
         v
    the configuration of now is committed, and an entry of our own term (BUG-55)
         --> its goal, and the first step towards it, are appended (``reconfiguring`` takes the others)

One change at a time. Who asks for what a change under way leads to anyway waits for that one.

Paper: §6. Thesis: §4.1-4.3.
"""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.behaviours.appending import append_configuration
from raft_actors.behaviours.transition import Outcome
from raft_actors.protocol.changes import (
    AddMember,
    Change,
    RemoveMember,
    SetMembers,
    goal_of,
    is_reached,
    is_so,
    next_configuration,
)
from raft_actors.protocol.configuration import Configuration, Goal, Member, has_quorum
from raft_actors.protocol.effects import ChangeAnswer, ChangeRefusal, Effect, Send
from raft_actors.protocol.events import ChangeRequested
from raft_actors.protocol.messages import Introduce, IntroduceReply
from raft_actors.protocol.state import Leader, PeerState, Preparing
from raft_actors.protocol.types import Moment

__all__ = [
    "answering",
    "begin_if_possible",
    "is_busy",
    "is_heard",
    "on_introduce",
    "on_introduced",
    "prepare",
    "request",
]

RETRY = 0.1
"""Seconds after which a newcomer that did not answer is asked again."""


def request(state: PeerState, event: ChangeRequested, moment: Moment) -> Outcome:
    """A caller wants other members: refuse what cannot be, join what is under way, else ask the newcomers."""
    role, token = state.role, event.token
    if not isinstance(role, Leader) or role.transfer is not None or role.leaving:
        leader = state.leader if state.leader != state.name else None
        return state, (ChangeAnswer(token, ChangeRefusal.NOT_LEADER, leader=leader),)
    if state.configuration.changing:
        return _join_the_one_under_way(state, role, event)
    refused = _why_not(state, role, event)
    if refused is not None:
        return state, (refused,)
    if _is_so(state.configuration, event.change) and not _looks_dead(state, role, event.change, moment):
        return _waiting(state, role, token, _as_goal(state.configuration)), ()
    asked = _to_ask(state.configuration, event.change, state.name)
    deadline = moment.now + event.timeout
    preparing = Preparing(token, event.change, asked, {}, deadline, moment.now + RETRY)
    return _ask(replace(state, role=replace(role, preparing=preparing)), preparing)


def _join_the_one_under_way(state: PeerState, role: Leader, event: ChangeRequested) -> Outcome:
    goal = state.configuration.goal
    if goal is None or event.expected is not None or not _is_so(_as_configuration(goal), event.change):
        return state, (ChangeAnswer(event.token, ChangeRefusal.IN_PROGRESS),)
    return _waiting(state, role, event.token, goal), ()


def _waiting(state: PeerState, role: Leader, token: int, goal: Goal) -> PeerState:
    return replace(state, role=replace(role, callers=(*role.callers, (token, goal))))


def _as_configuration(goal: Goal) -> Configuration:
    return Configuration(goal.voters, (), goal.learners)


def _as_goal(configuration: Configuration) -> Goal:
    return Goal(configuration.voters, configuration.learners)


def _why_not(state: PeerState, role: Leader, event: ChangeRequested) -> ChangeAnswer | None:
    token, change, configuration = event.token, event.change, state.configuration
    if role.preparing is not None:
        return ChangeAnswer(token, ChangeRefusal.IN_PROGRESS)
    if event.expected not in (None, state.configuration_index):
        return ChangeAnswer(token, ChangeRefusal.CHANGED)
    match change:
        case AddMember(learner=True) if configuration.is_voter(change.name):
            return ChangeAnswer(token, ChangeRefusal.VOTES_ALREADY, change.name)
        case RemoveMember() if change.name not in configuration.members():
            return ChangeAnswer(token, ChangeRefusal.UNKNOWN, change.name)
        case RemoveMember() if [one.name for one in configuration.voters] == [change.name]:
            return ChangeAnswer(token, ChangeRefusal.EMPTY, change.name)
        case _:
            return None


def _is_so(configuration: Configuration, change: Change) -> bool:
    """Whether ``configuration`` is stable and has what is wanted, going by names."""
    voters = {member.name for member in configuration.voters}
    learners = {member.name for member in configuration.learners}
    return is_so(change, voters=voters, learners=learners)


def _looks_dead(state: PeerState, role: Leader, change: Change, moment: Moment) -> bool:
    """Whether a member that is to be added is not heard: its store may have been replaced by another one."""
    if not isinstance(change, AddMember) or change.name == state.name:
        return False
    return not is_heard(state, role, change.name, moment)


def _to_ask(configuration: Configuration, change: Change, own: str) -> tuple[str, ...]:
    match change:
        case SetMembers():
            return tuple(name for name in change.names if name not in configuration.members())
        case AddMember():
            return (change.name,) if change.name != own else ()
        case RemoveMember():
            return ()


def is_heard(state: PeerState, role: Leader, name: str, moment: Moment) -> bool:
    """Whether ``name`` answered within an election timeout, or is not missed yet."""
    progress = role.progress.get(name)
    horizon = moment.now - state.settings.max_election_timeout
    return name == state.name or (progress is not None and progress.heard_at > horizon)


def answering(state: PeerState, role: Leader, moment: Moment) -> set[str]:
    """The members that have told this leader what they have, and answered within an election timeout; and this peer.

    A new leader takes everybody for heard, so that it does not miss them at once: that is no answer yet.
    """
    horizon = moment.now - state.settings.max_election_timeout
    heard = {name for name, one in role.progress.items() if one.match_index and one.heard_at > horizon}
    return heard | {state.name}


def is_busy(state: PeerState, role: Leader) -> bool:
    """Whether another change has to end first."""
    return role.preparing is not None or role.transfer is not None or role.leaving or state.configuration.changing


def prepare(state: PeerState, change: AddMember, newcomer: Member, moment: Moment) -> PeerState:
    """A newcomer has asked for ``change`` itself: begin it as soon as that is possible. We lead, and are not busy."""
    role = state.role
    if not isinstance(role, Leader):
        return state
    preparing = Preparing(0, change, (), {newcomer.name: newcomer}, moment.now, moment.now)
    return replace(state, role=replace(role, preparing=preparing))


# -- introductions -----------------------------------------------------------------------------------------------------


def _ask(state: PeerState, preparing: Preparing) -> Outcome:
    """Ask those who have not answered."""
    asked = [name for name in preparing.asked if name not in preparing.known]
    return state, tuple(Send(name, _introduce(state)) for name in asked)


def _introduce(state: PeerState) -> Introduce:
    return Introduce(
        cluster=state.cluster, sender=state.name, incarnation=state.incarnation, receiver="", term=state.term
    )


def on_introduce(state: PeerState, message: Introduce, moment: Moment) -> Outcome:
    """A leader that is to make us a member asks who we are. It is told, and decides."""
    formation = state.formation
    reply = IntroduceReply(
        cluster=state.cluster,
        sender=state.name,
        incarnation=state.incarnation,
        receiver=message.incarnation,
        term=state.term,
        busy=formation is not None and moment.now < formation.deadline,
        address=state.address,
    )
    return state, (Send(message.sender, reply),)


def on_introduced(state: PeerState, reply: IntroduceReply) -> Outcome:
    """A newcomer has told who it is: a member of another cluster is not taken."""
    role = state.role
    preparing = role.preparing if isinstance(role, Leader) else None
    if not isinstance(role, Leader) or preparing is None or reply.sender not in preparing.asked or reply.busy:
        return state, ()
    if reply.cluster not in ("", state.cluster):
        return _refuse(state, role, preparing, ChangeRefusal.FOREIGN, reply.sender)
    known = {**preparing.known, reply.sender: Member(reply.sender, reply.incarnation, reply.address)}
    return replace(state, role=replace(role, preparing=replace(preparing, known=known))), ()


def _refuse(state: PeerState, role: Leader, preparing: Preparing, refusal: ChangeRefusal, peer: str = "") -> Outcome:
    effects: tuple[Effect, ...] = (ChangeAnswer(preparing.token, refusal, peer),) if preparing.token else ()
    return replace(state, role=replace(role, preparing=None)), effects


# -- the beginning -----------------------------------------------------------------------------------------------------


def begin_if_possible(state: PeerState, role: Leader, preparing: Preparing, moment: Moment) -> Outcome:
    """Take the first step of the change that is being prepared, once everybody asked has answered.

    Args:
        state: the leader; its configuration is stable.
        role: its role.
        preparing: the change.
        moment: now.
    """
    missing = [name for name in preparing.asked if name not in preparing.known]
    if missing and moment.now >= preparing.deadline:
        return _refuse(state, role, preparing, ChangeRefusal.UNREACHABLE, missing[0])
    if missing and moment.now >= preparing.retry:
        preparing = replace(preparing, retry=moment.now + RETRY)
        return _ask(replace(state, role=replace(role, preparing=preparing)), preparing)
    committed = state.commit_index >= max(state.configuration_index, role.first_index)
    if missing or not committed or role.transfer is not None:
        return state, ()
    return _begin(state, role, preparing, moment)


def _begin(state: PeerState, role: Leader, preparing: Preparing, moment: Moment) -> Outcome:
    goal = goal_of(state.configuration, preparing.change, preparing.known)
    begun = replace(role, preparing=None)
    if preparing.token:
        begun = replace(begun, callers=(*role.callers, (preparing.token, goal)))
    if is_reached(state.configuration, goal):
        return replace(state, role=begun), ()
    configuration = replace(state.configuration, goal=goal)
    first = next_configuration(configuration, ()) or configuration
    silent = _silent(state, role, first, moment) if first.outgoing else ""
    if silent and is_heard(state, role, silent, moment):
        return state, ()  # it has not answered this leader yet, and may do so
    if silent:
        return _refuse(state, role, preparing, ChangeRefusal.NO_QUORUM, silent)
    return append_configuration(state, begun, first, moment)


def _silent(state: PeerState, role: Leader, configuration: Configuration, moment: Moment) -> str:
    """Whose answer is missing for a quorum of ``configuration``; ``""`` if there is one."""
    heard = answering(state, role, moment)
    if has_quorum(configuration, heard):
        return ""
    return next(name for half in configuration.halves for name in half if name not in heard)
