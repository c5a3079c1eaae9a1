"""Defects of resting: peers that say nothing, and those who vouch for them."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from raft_actors.protocol.state import Leader
from tests.simulation.hunting import defect

RESTING = "raft_actors.behaviours.resting"


@defect("resting", f"{RESTING}:on_heard")
def a_follower_that_rests_does_not_count_what_its_node_heard(honest: Any) -> Any:
    """It stands although its leader lives."""
    return lambda state, event, moment: honest(state, event, moment) if isinstance(state.role, Leader) else state


@defect("resting", f"{RESTING}:stir")
def a_leader_that_rests_is_not_roused(honest: Any) -> Any:
    """It has new entries, and tells nobody whose answer it lost."""
    return lambda state, event, moment: state


@defect("resting", f"{RESTING}:begin")
def a_leader_rests_with_those_who_took_an_older_offer(honest: Any) -> Any:
    """It was taken back since: nothing that happens rouses the leader any more."""

    def begin(state: Any, role: Any, moment: Any) -> Any:
        taken = min(one.rested_at for one in role.progress.values())
        begun = honest(state, replace(role, offered_at=taken), moment)
        return replace(begun, offered_at=role.offered_at)

    return begin
