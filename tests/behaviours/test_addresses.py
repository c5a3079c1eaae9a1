"""A member that is reached elsewhere is followed: its leader writes the new address into the log, and nobody else."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from raft_actors.behaviours.addresses import may_be_elsewhere, moved_before
from raft_actors.protocol.configuration import Configuration, Member, decode
from raft_actors.protocol.effects import Effect, Persist
from raft_actors.protocol.entry import EntryKind
from raft_actors.protocol.events import AddressHeard, Tick
from raft_actors.protocol.messages import FormClusterReply, IntroduceReply, JoinReply
from raft_actors.protocol.state import PeerState
from tests.behaviours import bench
from tests.behaviours.bench import NOW, at, leading, only, take

THERE = "10.0.0.9:7000"


def heard(state: PeerState, name: str = "s2", address: str = THERE) -> AddressHeard:
    return AddressHeard(name, state.configuration.members()[name].incarnation, address)


def written(effects: tuple[Effect, ...]) -> list[Configuration]:
    """The configurations that were appended."""
    entries = [entry for effect in effects if isinstance(effect, Persist) for entry in effect.entries]
    return [decode(entry.data) for entry in entries if entry.kind is EntryKind.CONFIGURATION]


def settled() -> PeerState:
    """A leader that has committed an entry of its term."""
    state = bench.leader()
    return replace(state, commit_index=state.log.last.index, handed=0)


def test_a_leader_writes_down_where_a_member_is_reached_now() -> None:
    state, effects = take(settled(), heard(settled()))
    (configuration,) = written(effects)
    assert configuration.members()["s2"] == Member(
        "s2", bench.leader().configuration.members()["s2"].incarnation, THERE
    )
    assert state.address_of("s2") == THERE
    assert not configuration.changing


def test_it_waits_until_an_entry_of_its_own_term_is_committed() -> None:
    fresh = bench.leader()
    fresh = replace(fresh, role=replace(leading(fresh), first_index=fresh.log.last.index + 1))
    state, effects = take(fresh, heard(fresh))
    assert not written(effects)
    assert leading(state).moved == {"s2": THERE}


def test_an_address_that_is_known_already_is_not_written_again() -> None:
    state = take(settled(), heard(settled())).state
    assert not written(take(state, heard(state)).effects)
    assert leading(take(state, heard(state)).state).moved == {}


def test_who_is_no_member_or_another_store_of_its_name_is_not_followed() -> None:
    state = settled()
    for stranger in (AddressHeard("s9", "i9", THERE), AddressHeard("s2", "another", THERE)):
        assert not written(take(state, stranger).effects)


def test_a_follower_leaves_it_to_its_leader() -> None:
    state = bench.following()
    after, effects = take(state, heard(state))
    assert (after, effects) == (state, ())


def test_a_new_leader_that_was_started_elsewhere_writes_its_own_address() -> None:
    state = replace(settled(), address=THERE)
    assert moved_before(state) == {"s1": THERE}
    assert moved_before(settled()) == {}
    state = replace(state, role=replace(leading(state), moved=moved_before(state)))
    (configuration,) = written(take(state, Tick()).effects)
    assert configuration.members()["s1"].address == THERE


def test_newcomers_tell_where_they_are_reached() -> None:
    newcomer = replace(bench.unconfigured(), address=THERE)
    asked = bench.introduce("s2", 1)
    assert only(take(newcomer, asked).effects, IntroduceReply).address == THERE
    asked = bench.form_cluster("s2", "p", "s1", "s2")
    assert only(take(newcomer, asked).effects, FormClusterReply).address == THERE


def test_who_asks_to_be_let_in_is_told_where_the_leader_is() -> None:
    state = take(settled(), heard(settled())).state
    follower = replace(bench.following(), configurations=state.configurations, leader="s2")
    reply = only(take(follower, bench.join("s9", 1, cluster="")).effects, JoinReply)
    assert (reply.leader, reply.address) == ("s2", THERE)


@pytest.mark.parametrize(("name", "believed"), [("s1", False), ("s2", False), ("s3", True), ("s4", True)])
def test_a_leader_believes_who_says_where_a_peer_is_only_of_strangers_and_of_members_that_it_does_not_hear(
    name: str, *, believed: bool
) -> None:
    """Else a slip in the address of a member that is well would cut it off."""
    state = bench.leader()
    known = leading(state).progress
    deaf = {**known, "s3": replace(known["s3"], heard_at=NOW - 9)}
    assert may_be_elsewhere(replace(state, role=replace(leading(state), progress=deaf)), name, at()) is believed


@pytest.mark.parametrize("leader", [None, "s2"])
def test_who_does_not_lead_believes_it_of_members_only_while_there_is_no_leader(leader: str | None) -> None:
    state = replace(bench.peer(), leader=leader)
    assert [may_be_elsewhere(state, name, at()) for name in ("s1", "s3", "s4")] == [False, leader is None, True]
