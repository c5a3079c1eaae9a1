"""Scenes that break what must hold of messages, logs and machines, and nothing else."""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.protocol.effects import Persist
from raft_actors.protocol.state import PeerState
from storage_adapters import Batch
from tests.behaviours.bench import ack, append, entry, leader, peer, read_index_reply, request_vote, vote
from tests.simulation.observing import ALL, Stage, entries_of, stage_engine, violates

# -- what leaves -------------------------------------------------------------------------------------------------------


@violates("effect order", "its disk is in term 0")
def an_acknowledgement_leaves_in_a_term_that_is_not_on_disk() -> None:
    Stage(**ALL).leave("s1", ack("s1", 2, 2))


@violates("effect order", "its disk ends at 1")
def an_acknowledgement_leaves_before_the_disk_has_the_entries() -> None:
    stage = Stage(s1=(1,))
    stage.vote("s1", 2, None)
    stage.leave("s1", ack("s1", 2, 2))


@violates("effect order", "its disk is newer there")
def an_acknowledgement_leaves_after_its_entries_were_overwritten() -> None:
    stage = Stage(s1=(1, 3))
    stage.vote("s1", 3, None)
    stage.leave("s1", ack("s1", 2, 2))


@violates("effect order", "without its election")
def entries_leave_in_a_term_that_is_not_on_disk() -> None:
    Stage(**ALL).leave("s1", append("s1", 2))


@violates("effect order", "without its election")
def entries_leave_in_a_term_in_which_somebody_else_was_voted_for() -> None:
    stage = Stage(**ALL)
    stage.vote("s1", 2, "s2")
    stage.leave("s1", append("s1", 2))


@violates("effect order", "stands in term 2")
def a_candidate_asks_for_votes_before_its_term_is_on_disk() -> None:
    Stage(**ALL).leave("s1", request_vote("s1", 2))


@violates("effect order", "votes for s2 in term 2")
def a_vote_leaves_before_its_term_is_on_disk() -> None:
    Stage(**ALL).leave("s1", vote("s1", 2))


@violates("effect order", "votes for s2 in term 2")
def a_vote_leaves_and_another_one_is_on_disk() -> None:
    stage = Stage(**ALL)
    stage.vote("s1", 2, "s3")
    stage.leave("s1", vote("s1", 2))


@violates("commit rule", "beyond its log")
def a_read_is_sent_to_an_index_that_the_leader_does_not_have() -> None:
    Stage(**ALL).leave("s1", read_index_reply("s1", 2, 1, 3))


# -- logs --------------------------------------------------------------------------------------------------------------


def persist(state: PeerState, persisted: Persist) -> None:
    stage = Stage(**ALL)
    for index, one in enumerate(entries_of((1, 2)), 1):
        stage.observer.entries[index, one.term] = (index - 1, one)
    stage.nodes["s1"].engine = stage_engine(state)
    stage.observer.persists(stage.nodes["s1"], persisted)


@violates("leader append-only")
def a_leader_cuts_its_log() -> None:
    persist(leader("s1"), Persist(truncate_from=2))


@violates("log matching", "entry 4 after 2")
def an_entry_follows_a_gap() -> None:
    persist(peer("s1", terms=(1, 2)), Persist(entries=(entry(4, 2),)))


@violates("log matching", "others have")
def an_entry_differs_from_that_of_the_same_place_and_term() -> None:
    persist(peer("s1", terms=(1, 2)), Persist(truncate_from=2, entries=(entry(2, 2, b"other"),)))


@violates("log matching", "others have")
def an_entry_follows_another_predecessor_than_elsewhere() -> None:
    stage = Stage(s1=(1, 1), s2=(1, 2))
    for name in ("s1", "s2"):
        stage.nodes[name].engine = stage_engine(peer(name))
        stage.observer.persists(stage.nodes[name], Persist(entries=(entry(3, 3),)))


@violates("log matching", "holds another entry 2")
def a_disk_holds_another_entry_of_the_same_place_and_term() -> None:
    stage = Stage(s1=(1, 2), s2=(1,))
    stage.write("s2", [entry(2, 2, b"other")])


def remember_terms(given: tuple[int, ...], known: tuple[tuple[int, int], ...]) -> None:
    """A peer that gave entries of these terms to its disk has runs of terms in memory that differ."""
    state = peer("s1", terms=given)
    Stage(s1=given).step(state, replace(state, log=replace(state.log, runs=known)))


@violates("log matching", "term 2 does not begin there")
def a_peer_remembers_a_term_that_was_cut_off() -> None:
    remember_terms((1, 1, 3), ((1, 1), (2, 2), (3, 3)))


@violates("log matching", "term 3 does not begin there")
def a_peer_remembers_a_term_beyond_its_log() -> None:
    remember_terms((1, 1), ((1, 1), (3, 3)))


@violates("log matching", "term 2 does not begin there")
def a_peer_takes_a_term_to_begin_later_than_it_did() -> None:
    remember_terms((1, 2, 2), ((1, 1), (3, 2)))


@violates("one cluster")
def a_second_cluster_is_formed() -> None:
    stage = Stage()
    stage.nodes["s1"].disk.note(Batch(meta={"cluster": b"one"}))
    stage.nodes["s2"].disk.note(Batch(meta={"cluster": b"other"}))


# -- machines ----------------------------------------------------------------------------------------------------------


def hand_over(*indexes: int, terms: tuple[int, ...] = (1, 2), **logs: tuple[int, ...]) -> None:
    stage = Stage(**{**ALL, **logs})
    stage.observer.committed += entries_of((1, 2))
    stage.observer.handed(stage.nodes["s1"], [entries_of(terms)[index - 1] for index in indexes])


@violates("state machine safety", "is handed 2 after 0")
def a_machine_misses_an_entry() -> None:
    hand_over(2)


@violates("state machine safety", "not what was committed")
def a_machine_is_given_what_is_not_committed() -> None:
    hand_over(1, 2, 3, terms=(1, 2, 2), s1=(1, 2, 2))


@violates("state machine safety", "not what was committed")
def a_machine_is_given_another_entry() -> None:
    hand_over(1, 2, terms=(1, 1), s1=(1, 1))


@violates("state machine safety", "before its disk has it")
def a_machine_is_given_an_entry_that_its_own_disk_lacks() -> None:
    hand_over(1, 2, s1=(1,))
