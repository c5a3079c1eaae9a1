"""Bringing a change of the configuration to its end: one committed step after the other, whoever leads.

::

    newest configuration committed --> newcomers are brought up to date in rounds --> joint --> the new one
                                                      |
                                                      +-- not heard for long: given up

A joint configuration is only begun while a quorum of both halves answers: it cannot be undone. Who is a member no more
is told so. A leader that votes no more leads until that is committed, and hands over then (BUG-68).

Paper: §6. Thesis: §4.2.1 (rounds), §4.2.2 (removing the leader), §4.2.3 (disruptive servers), §4.3.
"""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.behaviours import addresses
from raft_actors.behaviours.appending import append_configuration
from raft_actors.behaviours.handover import hand_to_successor
from raft_actors.behaviours.membership import answering, begin_if_possible
from raft_actors.behaviours.reads import confirm_round
from raft_actors.behaviours.transition import Outcome, become_follower
from raft_actors.protocol.changes import given_up, is_reached, newcomers, next_configuration
from raft_actors.protocol.configuration import Configuration, has_quorum
from raft_actors.protocol.effects import ChangeAnswer, ChangeRefusal, Effect, Send
from raft_actors.protocol.messages import PreVote, Removed, RequestVote
from raft_actors.protocol.state import Follower, Leader, PeerState, Round
from raft_actors.protocol.types import NOWHERE, LogPosition, Moment

__all__ = ["advance", "on_removed", "tell_if_removed"]

PATIENCE = 10.0
"""Election timeouts without a sign of a newcomer, or of a quorum, after which a change is given up."""


def advance(state: PeerState, role: Leader, moment: Moment) -> Outcome:
    """Do what the newest configuration, once committed, asks of its leader. Runs at the end of a leader's every step.

    It is cheap when there is nothing to do.
    """
    index, configuration = state.configurations[-1]
    settled = state.commit_index >= max(index, role.first_index)
    if settled and configuration.changing:
        return _continue(state, role, configuration, moment)
    effects: tuple[Effect, ...] = ()
    if settled and role.callers:
        state, role, effects = _tell_callers(state, role, configuration)
    if settled and role.told < index and len(state.configurations) > 1:
        state, role, told = _tell_removed(state, role)
        effects += told
    if settled and not configuration.is_voter(state.name):
        state, next_ = _leave(state, role, moment)
    elif role.preparing is not None and not configuration.changing:
        state, next_ = begin_if_possible(state, role, role.preparing, moment)
    elif settled and role.moved:
        state, next_ = addresses.follow(state, role, moment)
    else:
        return state, effects
    return state, effects + next_


# -- steps -------------------------------------------------------------------------------------------------------------


def _continue(state: PeerState, role: Leader, configuration: Configuration, moment: Moment) -> Outcome:
    """Take the next step towards the goal, if its time has come, or give the change up, if it will not come."""
    if role.transfer is not None:
        return state, ()
    role = _watch_newcomers(state, role, configuration, moment)
    ready = [name for name, one in role.rounds.items() if one.ready]
    step = next_configuration(configuration, ready)
    if step is not None and (not step.outgoing or has_quorum(step, answering(state, role, moment))):
        return _take_step(state, role, step, moment)
    if step is None:
        role = replace(role, stuck_since=moment.now)
    if _is_hopeless(state, role, configuration, moment):
        return append_configuration(state, role, given_up(configuration), moment)
    return replace(state, role=role), ()


def _take_step(state: PeerState, role: Leader, step: Configuration, moment: Moment) -> Outcome:
    """Append it; reads under way may have their quorum by that, and those who are still asked may be gone."""
    state, effects = append_configuration(state, role, step, moment)
    if not isinstance(state.role, Leader) or state.role.reading is None:
        return state, effects
    state, confirmed = confirm_round(state, state.role, state.role.reading, moment)
    return state, effects + confirmed


def _watch_newcomers(state: PeerState, role: Leader, configuration: Configuration, moment: Moment) -> Leader:
    """Follow the newcomers through their rounds.

    A newcomer is within reach once it got in less than an election timeout what there was when the round began: then
    the entries that it still lacks do not delay the cluster much. Thesis: §4.2.1.
    """
    rounds = {name: _round(state, role, name, moment) for name in newcomers(configuration)}
    return role if rounds == role.rounds else replace(role, rounds=rounds)


def _round(state: PeerState, role: Leader, name: str, moment: Moment) -> Round:
    known = role.rounds.get(name)
    if known is None:
        return Round(state.log.last.index, moment.now)
    if known.ready or role.progress[name].match_index < known.until:
        return known
    if moment.now - known.since <= state.settings.min_election_timeout:
        return replace(known, ready=True)
    return Round(state.log.last.index, moment.now)


def _is_hopeless(state: PeerState, role: Leader, configuration: Configuration, moment: Moment) -> bool:
    """Whether a newcomer, or a quorum with the newcomers, was missed for very long."""
    if configuration.outgoing:
        return False
    horizon = moment.now - PATIENCE * state.settings.max_election_timeout
    silent = any(role.progress[name].heard_at < horizon for name in newcomers(configuration))
    return silent or role.stuck_since < horizon


# -- the end -----------------------------------------------------------------------------------------------------------


def _tell_callers(
    state: PeerState, role: Leader, configuration: Configuration
) -> tuple[PeerState, Leader, tuple[Effect, ...]]:
    effects = []
    for token, goal in role.callers:
        if is_reached(configuration, goal):
            effects.append(ChangeAnswer(token))
        else:
            members = configuration.members()
            missing = (one.name for one in goal.voters if one.name not in members)
            effects.append(ChangeAnswer(token, ChangeRefusal.GIVEN_UP, next(missing, "")))
    role = replace(role, callers=())
    return replace(state, role=role), role, tuple(effects)


def _tell_removed(state: PeerState, role: Leader) -> tuple[PeerState, Leader, tuple[Effect, ...]]:
    """Tell those of the last configuration that are not in this one; who does not hear it is told when it stands."""
    before, (index, now) = state.configurations[-2][1], state.configurations[-1]
    out = [one for one in before.members().values() if not now.has(one.name, one.incarnation)]
    commit = _committed(state)
    effects = tuple(_removed(state, one.name, one.incarnation, index, commit) for one in out if one.name != state.name)
    role = replace(role, told=index)
    return replace(state, role=role), role, effects


def _leave(state: PeerState, role: Leader, moment: Moment) -> Outcome:
    """We vote no more, and all know it who must: hand over once, then step down."""
    if role.transfer is not None:
        return state, ()
    if role.leaving:
        return become_follower(state, moment)
    role = replace(role, leaving=True, lease_given_up=True)
    return hand_to_successor(replace(state, role=role), role, moment)


# -- those who are out -------------------------------------------------------------------------------------------------


def _removed(state: PeerState, name: str, incarnation: str, index: int, commit: LogPosition) -> Send:
    message = Removed(
        cluster=state.cluster,
        sender=state.name,
        incarnation=state.incarnation,
        receiver=incarnation,
        term=state.term,
        index=index,
        commit=commit,
    )
    return Send(name, message)


def _committed(state: PeerState) -> LogPosition:
    return state.log.position_at(state.commit_index) or NOWHERE


def tell_if_removed(state: PeerState, message: PreVote | RequestVote) -> tuple[Effect, ...]:
    """Tell a peer that stands, although it is in no configuration that could still count, that it is out.

    A newcomer that we have not heard of yet is told so too: it knows a later configuration, and does not mind.
    """
    if state.removed and message.cluster == state.cluster and message.last.index < state.removed:
        # We were told of a committed entry that it lacks: it cannot win, and should listen until a leader speaks to it.
        return (_removed(state, message.sender, message.incarnation, state.removed, NOWHERE),)
    index, configuration = state.configurations[-1] if state.configurations else (0, None)
    if configuration is None or message.cluster != state.cluster or index > state.commit_index:
        return ()
    if configuration.has(message.sender, message.incarnation):
        return ()
    return (_removed(state, message.sender, message.incarnation, index, _committed(state)),)


def on_removed(state: PeerState, message: Removed, moment: Moment) -> Outcome:
    """We are a member no more, unless our own log knows better: stand no more, and turn callers away."""
    if not state.cluster or state.removed or _knows_better(state, message):
        return state, ()
    state, effects = become_follower(state, moment)
    return replace(state, removed=message.index, role=Follower()), effects


def _knows_better(state: PeerState, message: Removed) -> bool:
    """Whether we have a configuration that may be later than the one without us.

    Ours is not if the sender has committed as much, by term and index: then it has ours as well, or ours is lost. A
    higher index alone says nothing: what a deposed leader left with us may be longer than what took its place (§5.3).
    """
    known = state.configuration_index
    position = state.log.position_at(known)
    if position is not None and position <= message.commit:
        return False
    return message.index < known or (message.index == known and state.configuration.has(state.name, state.incarnation))
