"""Scenes that break what must hold of reads, rounds and leases, and nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from msgspec.structs import replace

from raft_actors.protocol.effects import Send, ServeReads
from raft_actors.protocol.events import ReadsRequested, Received, Tick
from raft_actors.protocol.state import PeerState
from raft_actors.testing.simulation.read_rules import ReadRules
from tests.behaviours.bench import (
    ack,
    append,
    candidate,
    following,
    leader,
    leading,
    nack,
    peer,
    read_index,
    read_index_reply,
    timeout_now,
)
from tests.simulation.observing import Stage, entries_of, stage_engine, violates

LOG = {"s1": (1, 2), "s2": (1, 2), "s3": (1, 2)}
ASKED = ReadsRequested(1)


class Readers(Stage):
    """Peers before the eyes of the observer of reads; their clocks show ``now``."""

    def __init__(self) -> None:
        super().__init__(**LOG)
        self.now = 0.0
        self.world: Any = SimpleNamespace(steps=1)
        for node in self.nodes.values():
            node.life, node.clock = 1, SimpleNamespace(reading=lambda: self.now)
        cluster: Any = SimpleNamespace(world=self.world, invariants=self.observer, nodes=self.nodes)
        self.rules = ReadRules(cluster)

    def begin(self, state: PeerState, event: Any) -> Any:
        """A peer is about to take a step; returns its node."""
        self.world.steps += 1
        node = self.nodes[state.name]
        node.engine = stage_engine(state)
        self.rules.begins(node, event, state)
        return node

    def send(self, state: PeerState, event: Any, effect: Send) -> None:
        """A peer takes a step that sends something."""
        self.rules.sends(self.begin(state, event), event, effect)

    def answer(self, name: str, *, number: int = 0, promise: float = 0.0) -> None:
        """A follower answers the leader of term 2, ``s1``."""
        message = append("s1", 2, number=number, to=name)
        reply = ack(name, 2, 2, number=number, promise=promise)
        self.send(following("s1", name, terms=(1, 2)), Received(message), Send("s1", reply))

    def serve(self, state: PeerState, event: Any, index: int = 2) -> None:
        """A peer takes a step that answers the reads of token 1."""
        self.rules.serves(self.begin(state, event), event, ServeReads(1, index))

    def take(self, before: PeerState, event: Any, **change: Any) -> None:
        """A peer takes a step that changes it."""
        after = replace(before, **change)
        node = self.begin(before, event)
        node.engine = stage_engine(after)
        self.rules.stepped(node, event, before, after)


# -- reads and rounds --------------------------------------------------------------------------------------------------


@violates("no stale read", "reads at 1, 2 was committed")
def a_read_is_served_below_what_was_committed_when_it_was_asked() -> None:
    readers = Readers()
    readers.observer.committed += entries_of((1, 2))
    readers.begin(following("s1", "s2"), ASKED)
    readers.serve(following("s1", "s2"), Tick(), index=1)


@violates("no stale read", "reads at 1, 2 was committed")
def a_read_waits_for_less_than_was_committed_when_it_was_asked() -> None:
    readers = Readers()
    readers.observer.committed += entries_of((1, 2))
    readers.begin(following("s1", "s2"), ASKED)
    readers.take(following("s1", "s2"), Tick(), confirmed_reads=((1, 1),))


@violates("no stale read", "reads at 1, 2 was committed")
def an_index_is_named_below_what_was_committed_when_it_was_asked_for() -> None:
    readers = Readers()
    readers.observer.committed += entries_of((1, 2))
    readers.begin(leader("s1"), Received(read_index("s2", 2)))
    readers.answer("s2", number=1)
    readers.send(leader("s1"), Tick(), Send("s2", read_index_reply("s1", 2, 1, 1)))


@violates("read rounds", "was not asked as leader")
def an_index_is_named_by_a_peer_that_was_asked_as_follower() -> None:
    readers = Readers()
    asked = Received(read_index("s2", 2))
    readers.send(following("s3"), asked, Send("s2", read_index_reply("s1", 2, 1, 2)))


@violates("read rounds", "takes the answer of step")
def an_answer_to_an_older_question_is_taken_for_one_to_a_new_one() -> None:
    readers = Readers()
    reply = read_index_reply("s1", 2, 1, 2, to="s2")
    readers.begin(leader("s1"), Received(read_index("s2", 2)))
    readers.answer("s3", number=1)
    readers.send(leader("s1"), Tick(), Send("s2", reply))
    readers.begin(following("s1", "s2"), ASKED)
    readers.serve(following("s1", "s2"), Received(reply))


@violates("read rounds", "no quorum answered to a round after 3")
def a_leader_answers_by_a_round_that_left_before_the_read_was_asked() -> None:
    readers = Readers()
    readers.begin(leader("s1", role={"round": 3}), ASKED)
    readers.answer("s2", number=3)
    readers.serve(leader("s1", role={"round": 3}), Received(ack("s2", 2, 2, number=3)))


@violates("read rounds", "no quorum answered to a round after 0")
def a_leader_names_an_index_without_asking_anybody() -> None:
    readers = Readers()
    readers.begin(leader("s1"), Received(read_index("s2", 2)))
    readers.send(leader("s1"), Tick(), Send("s2", read_index_reply("s1", 2, 1, 2)))


@violates("read rounds", "no quorum answered to a round after 0")
def reads_wait_for_the_machine_before_a_quorum_confirmed_them() -> None:
    readers = Readers()
    readers.begin(leader("s1"), ASKED)
    readers.take(leader("s1"), Tick(), confirmed_reads=((2, 1),))


@violates("read rounds", "at once, but no quorum is bound to it")
def a_leader_answers_at_once_after_its_lease() -> None:
    readers = Readers()
    readers.answer("s2", promise=1.0)
    readers.now = 1.0
    readers.begin(leader("s1"), ASKED)
    readers.serve(leader("s1"), ASKED)


@violates("read rounds", "at once, but no quorum is bound to it")
def a_leader_answers_at_once_after_it_asked_somebody_to_stand() -> None:
    readers = Readers()
    readers.answer("s2", promise=1.0)
    readers.send(leader("s1"), Tick(), Send("s3", timeout_now("s1", 2, to="s3")))
    readers.begin(leader("s1"), ASKED)
    readers.serve(leader("s1"), ASKED)


@violates("read rounds", "to confirm round 7, it answered up to 6")
def a_follower_is_taken_to_confirm_a_round_that_it_did_not_answer() -> None:
    readers = Readers()
    readers.answer("s2", number=6)
    believes(readers, round=7)


@violates("read rounds", "wait for 3 in term 3, only 2 are committed")
def a_read_waits_for_an_entry_of_a_deposed_leader_that_nobody_committed() -> None:
    readers = Readers()
    readers.observer.committed += entries_of((1, 2))
    before = leader("s1", terms=(1, 2, 2), commit=2, confirmed_reads=((3, 1),))
    readers.take(before, Tick(), ballot=candidate("s2", term=3).ballot, role=following().role)


# -- leases ------------------------------------------------------------------------------------------------------------


def believes(readers: Readers, **progress: Any) -> None:
    """The leader makes something of an answer of ``s2``."""
    before = leader("s1")
    role = leading(before)
    told = {**role.progress, "s2": replace(role.progress["s2"], **progress)}
    readers.take(before, Received(ack("s2", 2, 2)), role=replace(role, progress=told))


@violates("lease promises", "whom it refuses")
def who_refuses_promises_something() -> None:
    refusal = replace(nack("s2", 2, 2), promise=1.0)
    Readers().send(peer("s2", term=2), Received(append("s1", 1, to="s2")), Send("s1", refusal))


@violates("lease promises", "bound to the leader of 2 for 0.5")
def a_peer_votes_while_it_is_bound() -> None:
    readers = Readers()
    readers.answer("s2", promise=1.0)
    readers.now = 0.5
    readers.take(following("s1", "s2", terms=(1, 2)), Tick(), ballot=candidate("s3", term=3).ballot)


@violates("lease beliefs", "it is for 1.0")
def a_leader_takes_a_follower_for_bound_as_long_as_its_own_clock_says() -> None:
    readers = Readers()
    readers.answer("s2", promise=1.0)
    believes(readers, promised_until=1.0)


@violates("lease beliefs", "it is for 0.0")
def a_leader_takes_a_follower_for_bound_that_promised_nothing() -> None:
    readers = Readers()
    readers.answer("s2")
    believes(readers, promised_until=0.1)
