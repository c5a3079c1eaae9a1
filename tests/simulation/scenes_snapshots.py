"""Scenes that break what must hold of snapshots, and nothing else."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from raft_actors.protocol.effects import Persist, SnapshotAnswer
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.protocol.state import PeerState
from raft_actors.protocol.types import LogPosition
from raft_actors.store_meta import snapshot_value
from raft_actors.testing.simulation.ledger import Ledger
from raft_actors.testing.simulation.watched import Judge
from storage_adapters import Batch
from tests.behaviours.bench import THREE, leader, peer
from tests.simulation.observing import ALL, Stage, entries_of, stage_engine, violates
from tests.simulation.scenes_runs import well

GOOD = Snapshot("s1-2", LogPosition(2, 2), configuration_index=1, configuration=THREE, size=10)


def install(state: PeerState, snapshot: Snapshot) -> Stage:
    """A peer takes a snapshot over where both entries are committed."""
    stage = Stage(**ALL)
    stage.observer.committed[:] = entries_of((1, 2))
    node = stage.nodes[state.name]
    node.engine = stage_engine(state)
    stage.observer.persists(node, Persist(snapshot=snapshot))
    return stage


def adopt(snapshot: Snapshot, *, handed: int, on_disk: int = 2) -> None:
    """Its machine is to go on from there, after so many entries."""
    stage = install(peer("s1"), GOOD)
    stage.cut("s1", on_disk + 1)
    stage.nodes["s1"].handed = handed
    stage.observer.adopted(stage.nodes["s1"], snapshot)


@violates("leader append-only", "installs a snapshot of 2")
def a_leader_installs_a_snapshot() -> None:
    install(leader("s1"), GOOD)


@violates("state machine safety", "which is not committed")
def a_snapshot_is_of_an_entry_that_nobody_committed() -> None:
    install(peer("s1"), replace(GOOD, last=LogPosition(3, 2)))


@violates("state machine safety", "which is not committed")
def a_snapshot_ends_with_another_term_than_was_committed() -> None:
    install(peer("s1"), replace(GOOD, last=LogPosition(2, 1)))


@violates("log matching", "the configuration of another place")
def a_snapshot_forgets_where_its_configuration_stood() -> None:
    install(peer("s1"), replace(GOOD, configuration_index=0))


@violates("durable commits", "whose file is not synced")
def a_snapshot_is_recorded_before_its_file_is_there_for_good() -> None:
    stage = install(peer("s1"), GOOD)
    stage.nodes["s1"].disk.note(Batch(meta=snapshot_value(GOOD)))


@violates("state machine safety", "goes back from 2 to a snapshot of 2")
def a_machine_goes_back_to_a_snapshot() -> None:
    adopt(GOOD, handed=2)


@violates("effect order", "that its disk does not know")
def a_machine_runs_ahead_of_what_its_disk_recorded() -> None:
    adopt(GOOD, handed=0, on_disk=1)


@violates("equal states", "starts with it as 7")
def a_snapshot_loads_to_another_state_than_was_saved() -> None:
    judge = Judge(Ledger)
    judge.saved("s1", 5, 6, "has it when it is saved")
    judge.saved("s2", 5, 7, "starts with it")


def answered(answer: SnapshotAnswer, *asked: int) -> None:
    """A peer answers whoever wants a snapshot."""
    node = well().nodes["s1"]
    node.asked.update(asked)
    node.saved(answer)


@violates("exactly one answer", "for a snapshot twice")
def a_request_for_a_snapshot_is_answered_twice() -> None:
    answered(SnapshotAnswer(1, None))


@violates("exactly one answer", "which it does not have")
def a_caller_is_told_of_a_snapshot_that_is_not_there() -> None:
    answered(SnapshotAnswer(1, 1000), 1)


def in_the_end(change: Any) -> None:
    """A cluster that took snapshots is well, but something happens to a file that nobody says was damaged."""
    cluster = well()
    node = cluster.nodes["s1"]
    node.ask_for_snapshot(1)
    cluster.world.run(steps=10_000, until=cluster.world.now + 1)
    snapshot = node.disk.snapshot
    assert snapshot is not None
    node.disk.files.damage(f"{snapshot.id}.snap", change)
    node.disk.files.damaged = False
    node.check_newest()


@violates("snapshots load", "cannot load")
def a_snapshot_is_gone_in_the_end() -> None:
    in_the_end(None)


@violates("snapshots load", "cannot load")
def a_snapshot_does_not_load_in_the_end() -> None:
    in_the_end(800)


@violates("liveness", "s1 did not answer who wants a snapshot")
def whoever_wants_a_snapshot_waits_for_ever() -> None:
    cluster = well()
    cluster.nodes["s1"].asked.add(1)
    cluster.run_until_well()
