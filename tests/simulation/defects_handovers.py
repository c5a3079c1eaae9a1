"""Defects of hand-overs, of drifting leadership, and of peers that slept."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from raft_actors.behaviours.transition import Transition
from raft_actors.protocol.effects import TransferAnswer
from raft_actors.protocol.state import NEVER, Leader
from tests.simulation.hunting import defect

SETTLE = "raft_actors.behaviours.transfers:settle"


@defect("BUG-26, BUG-27, BUG-74", "raft_actors.behaviours.waking:wake")
def a_leader_whose_machine_was_suspended_leads_on(honest: Any) -> Any:
    """Its clock stood still, so that its lease looks good, and so do the answers in its inbox."""
    return lambda state, moment: Transition(state)


@defect("own", SETTLE)
def who_wants_another_leader_is_forgotten_with_the_old_one(honest: Any) -> Any:
    """The caller is kept by the leader, and gone with its leadership."""

    def settle(state: Any, moment: Any) -> Transition:
        if isinstance(state.role, Leader) and state.term == state.handing.term:
            return honest(state, moment)  # type: ignore[no-any-return]
        return Transition(replace(state, handing=None))

    return settle


@defect("own", SETTLE)
def who_wants_another_leader_is_told_again_and_again(honest: Any) -> Any:
    """The answer does not end the waiting."""

    def settle(state: Any, moment: Any) -> Transition:
        after, effects = honest(state, moment)
        return Transition(replace(after, handing=state.handing), effects)

    return settle


@defect("own", SETTLE)
def a_hand_over_is_done_when_the_target_was_told(honest: Any) -> Any:
    """TimeoutNow has left: that is taken for an election."""

    def settle(state: Any, moment: Any) -> Transition:
        after, effects = honest(state, moment)
        handing = after.handing
        if handing is None or not handing.sent or not handing.tried:
            return Transition(after, effects)
        told = handing.tried[-1]
        return Transition(replace(after, handing=None), (*effects, TransferAnswer(handing.token, None, told, told)))

    return settle


@defect("own", "raft_actors.behaviours.handover:begin_transfer")
def a_hand_over_in_vain_never_ends(honest: Any) -> Any:
    """The target was not elected, and the leader turns writes away for ever (thesis §3.10)."""
    return lambda state, role, transfer: honest(state, role, replace(transfer, deadline=NEVER))


@defect("own", "raft_actors.behaviours.drifting:drift")
def leadership_stays_whatever_the_priorities(honest: Any) -> Any:
    """Nobody looks whether a peer of higher priority could lead."""
    return lambda state, role, moment: Transition(state)
