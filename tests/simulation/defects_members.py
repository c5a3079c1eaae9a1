"""Defects of changes of membership (BUG-55 to BUG-68)."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from raft_actors.behaviours import membership
from raft_actors.behaviours.admission import COUNTED
from raft_actors.behaviours.appending import append_configuration
from raft_actors.behaviours.leader import become_leader
from raft_actors.behaviours.transition import Transition
from raft_actors.protocol.configuration import has_quorum
from raft_actors.protocol.messages import AppendEntries, InstallSnapshot
from raft_actors.testing.simulation import FAULTS
from tests.simulation.hunting import defect

CANDIDATE = "raft_actors.behaviours.candidate"
JOINT = "raft_actors.protocol.configuration"
NEXT = "raft_actors.protocol.changes:next_configuration"
SEPARATING = {"member", "partition", "limbo", "faint", "pause"}
"""Faults by which a leader is removed without knowing it."""
RECONFIGURING = "raft_actors.behaviours.reconfiguring"


@defect("BUG-55", "raft_actors.behaviours.membership:begin_if_possible", peers=4)
def a_change_begins_before_its_leader_has_committed_anything(honest: Any) -> Any:
    """The configuration that it starts from may be one that was overtaken: two majorities that need not meet."""

    def begin_if_possible(state: Any, role: Any, preparing: Any, moment: Any) -> Any:
        if set(preparing.asked) <= preparing.known.keys() and role.transfer is None:
            return membership._begin(state, role, preparing, moment)
        return honest(state, role, preparing, moment)

    return begin_if_possible


@defect("BUG-55, BUG-59", NEXT, peers=4)
def members_change_in_one_step(honest: Any) -> Any:
    """No joint configuration: majorities of the old and of the new one need not meet."""

    def next_configuration(configuration: Any, ready: Any) -> Any:
        step = honest(configuration, ready)
        return replace(step, outgoing=()) if step is not None and step.outgoing else step

    return next_configuration


def by_what_is_committed(honest: Any) -> Any:
    """Pre-votes are asked for and counted by the newest configuration that is known to be committed."""

    def decide(state: Any, *given: Any) -> Any:
        after, effects = honest(replace(state, configurations=committed(state)), *given)
        return Transition(replace(after, configurations=state.configurations), effects)

    return decide


def committed(state: Any) -> Any:
    """The configurations that are known to be committed; if there is none, all."""
    return tuple(one for one in state.configurations if one[0] <= max(state.commit_index, 1)) or state.configurations


@defect(
    "BUG-56",
    f"{CANDIDATE}:_counted",
    also={f"{CANDIDATE}:{name}": by_what_is_committed for name in ("_stand", "on_pre_vote_reply")},
    peers=4,
)
def a_configuration_counts_when_it_is_committed(honest: Any) -> Any:
    """Until then a candidate counts its votes by the one before: it wins with an old quorum."""

    def _counted(state: Any, role: Any, voter: str, moment: Any) -> Any:
        role = replace(role, votes=role.votes | {voter})
        state = replace(state, role=role)
        if state.name in role.votes and has_quorum(committed(state)[-1][1], role.votes):
            return become_leader(state, moment)
        return Transition(state)

    return _counted


@defect("BUG-57, BUG-58", "raft_actors.behaviours.recovery:recover", peers=4)
def a_restarted_peer_knows_only_the_first_members(honest: Any) -> Any:
    """Whoever formed the cluster is what a start believes, and not what its log and its snapshot say."""

    def recover(*, configurations: Any, **more: Any) -> Any:
        return honest(configurations=configurations[:1], **more)

    return recover


@defect("BUG-60, BUG-68", f"{CANDIDATE}:has_quorum", peers=5)
def a_joint_quorum_is_one_of_all_together(honest: Any) -> Any:
    """Both halves in one heap: a majority of it may hold no majority of either."""

    def has_quorum(configuration: Any, names: Any) -> bool:
        everybody = {name for half in configuration.halves for name in half}
        return 2 * sum(name in names for name in everybody) > len(everybody)

    return has_quorum


@defect("BUG-68", f"{JOINT}:agreed_index", peers=5)
def a_joint_configuration_commits_by_its_new_half(honest: Any) -> Any:
    """What the new members have is committed, whatever the old ones have."""
    return lambda configuration, match: honest(replace(configuration, outgoing=()), match)


@defect("BUG-63", "raft_actors.behaviours.appending:append_configuration", peers=4)
def whoever_is_added_again_is_where_it_was(honest: Any) -> Any:
    """What a leader knew of a peer that was removed counts for the store that has its name now."""
    known: dict[tuple[int, str, str], Any] = {}

    def again(state: Any, role: Any, configuration: Any, moment: Any) -> Any:
        for name, one in role.progress.items():
            known[id(state.settings), state.name, name] = one
        state, effects = honest(state, role, configuration, moment)
        kept = {
            name: known.get((id(state.settings), state.name, name), one) for name, one in state.role.progress.items()
        }
        return Transition(replace(state, role=replace(state.role, progress=kept)), effects)

    return again


@defect("BUG-64", f"{RECONFIGURING}:_round")
def a_newcomer_never_gets_its_vote(honest: Any) -> Any:
    """It is brought up to date for ever."""
    return lambda *given: replace(honest(*given), ready=False)


@defect("BUG-64", "raft_actors.behaviours.admission:why_refused", peers=7)
def a_leader_with_a_new_store_is_not_heard_by_those_who_lag(honest: Any) -> Any:
    """They know another store by its name, and refuse the one who could tell them better."""

    def why_refused(state: Any, message: Any) -> str:
        member = state.configuration.members().get(message.sender)
        heard = isinstance(message, (*COUNTED, AppendEntries, InstallSnapshot)) and state.cluster == message.cluster
        if heard and member is not None and member.incarnation != message.incarnation:
            return "replaced incarnation"
        return str(honest(state, message))

    return why_refused


@defect("BUG-65", f"{RECONFIGURING}:on_removed")
def whoever_was_removed_goes_on_standing(honest: Any) -> Any:
    """Nobody can tell it that it is out."""
    return lambda state, message, moment: Transition(state)


@defect("BUG-66", "raft_actors.behaviours.follower:_truncate", peers=5)
def a_configuration_outlives_its_entry(honest: Any) -> Any:
    """The entry is cut off, and its members still count."""

    def truncate(state: Any, index: int, leader: str) -> Any:
        return replace(honest(state, index, leader), configurations=state.configurations)

    return truncate


@defect("BUG-67", "raft_actors.behaviours.membership:_join_the_one_under_way")
def of_two_changes_at_once_both_are_called_done(honest: Any) -> Any:
    """Who asks while a change is under way waits for it, whatever he wants."""

    def join(state: Any, role: Any, event: Any) -> Any:
        goal = state.configuration.goal
        return honest(state, role, event) if goal is None else membership._waiting(state, role, event.token, goal)

    def joined(state: Any, role: Any, event: Any) -> Any:
        after = join(state, role, event)
        return after if isinstance(after, tuple) else Transition(after)

    return joined


@defect("BUG-67", NEXT)
def a_joint_configuration_is_never_left(honest: Any) -> Any:
    """The second half of the change is forgotten."""
    return lambda configuration, ready: None if configuration.outgoing else honest(configuration, ready)


@defect("own", "raft_actors.behaviours.membership:answering", peers=3)
def whoever_was_not_missed_yet_counts_for_a_joint_step(honest: Any) -> Any:
    """A new leader takes everybody for alive: it may begin what it cannot end."""
    return lambda state, role, moment: {state.name, *role.progress}


@defect("own", f"{RECONFIGURING}:_take_step", peers=2)
def reads_wait_for_those_who_are_gone(honest: Any) -> Any:
    """A round was put to members that are none any more."""
    return append_configuration


@defect("own", "raft_actors.requests:Waiters.forsaken", without=tuple(FAULTS.keys() - SEPARATING))
def whoever_waits_at_a_removed_peer_is_forgotten(honest: Any) -> Any:
    """Its log does not grow any more, and nobody says so."""
    return lambda self: None


@defect("own", f"{RECONFIGURING}:_tell_callers")
def who_wants_other_members_is_not_told(honest: Any) -> Any:
    """The change is done, and its caller waits."""
    return lambda state, role, configuration: (state, role, ())
