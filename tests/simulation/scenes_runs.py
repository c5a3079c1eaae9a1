"""For every check of callers, machines, peers and of a run as a whole a scene that breaks it and nothing else."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from raft_actors.errors import CommandFailed, InvariantViolated, NotLeader, OutcomeUnknown, StorageFailed
from raft_actors.machines import KV
from raft_actors.protocol.effects import TransferAnswer, TransferRefusal
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.types import Ballot
from raft_actors.testing.history import Operation
from raft_actors.testing.simulation.clients import Request, _Answer
from raft_actors.testing.simulation.cluster import Cluster
from raft_actors.testing.simulation.handovers import Wish
from raft_actors.testing.simulation.ledger import Ledger, examples_of
from raft_actors.testing.simulation.plan import Plan
from raft_actors.testing.simulation.simulate import Report, _run
from raft_actors.testing.simulation.watched import Judge, Watched
from raft_actors.testing.simulation.world import World
from tests.simulation.careless import FirstOfASet
from tests.simulation.observing import violates
from tests.simulation.planting import planted


def cluster_of(machine: Any = Ledger) -> Cluster:
    """A cluster whose peers are down still."""
    return Cluster(World(1), Plan(), size=3, factory=machine, commands=examples_of(0.5))


def well(steps: int = 300) -> Cluster:
    """A cluster that ran without a fault, and is well."""
    cluster = cluster_of()
    cluster.run_safely(steps)
    cluster.run_until_well()
    return cluster


# -- callers -----------------------------------------------------------------------------------------------------------


class Call:
    """A request that waits for its answer."""

    def __init__(self, kind: str, *, floor: int = 0, committed: int = 0) -> None:
        self.cluster = cluster_of()
        clients = self.cluster.clients
        self.request = request = Request(0, "caller", kind, None, "s1", 0.0, floor)
        request.committed = committed
        clients.requests.append(request)
        clients.pending[0] = request
        self.answer = request.future = _Answer(clients, request)

    def commits(self, index: int) -> None:
        """Its entry is committed."""
        tag = self.request.number.to_bytes(8, "big")
        self.cluster.clients.committed(Entry(index, 1, EntryKind.COMMAND, 0.0, tag))


@violates("no stale read", "was served at 4, 5 was acknowledged")
def a_read_is_older_than_what_was_acknowledged() -> None:
    Call("read", floor=5).answer.try_set("old", 4)


@violates("no stale read", "was served at 4, 5 was acknowledged")
def a_read_that_raises_is_older_than_what_was_acknowledged() -> None:
    Call("read", floor=5).answer.try_fail(CommandFailed("no such key"), 4)


@violates("right answer", "its entry is committed at 0")
def a_write_is_acknowledged_and_not_committed() -> None:
    Call("write").answer.try_set("done", 3)


@violates("right answer", "its entry is committed at 2")
def a_write_gets_the_answer_of_another_place() -> None:
    Call("write", committed=2).answer.try_set("done", 3)


@violates("right answer", "its entry is committed at 0")
def a_write_fails_in_the_machine_that_never_had_it() -> None:
    Call("write").answer.try_fail(CommandFailed("no"), 3)


@violates("right answer", "'mine' instead of 'theirs'")
def a_write_gets_another_reply_than_the_machine_gave() -> None:
    call = Call("write", committed=3)
    call.cluster.judge.replies[3] = "theirs"
    call.answer.try_set("mine", 3)


@violates("right answer", "ZeroDivisionError")
def a_caller_gets_an_error_that_says_nothing_about_its_outcome() -> None:
    Call("write").answer.try_fail(ZeroDivisionError())


@violates("right answer", "got NotLeader, but is committed at 3")
def a_committed_write_is_called_not_applied() -> None:
    Call("write", committed=3).answer.try_fail(NotLeader("s2"))


@violates("right answer", "got NotLeader, but is committed at 3")
def a_write_that_was_called_not_applied_is_committed() -> None:
    call = Call("write")
    call.answer.try_fail(NotLeader("s2"))
    call.commits(3)


@violates("applied once", "committed at 3 and at 4")
def a_write_is_committed_twice() -> None:
    call = Call("write")
    call.commits(3)
    call.commits(4)


@violates("exactly one answer", "s2 answers TransferAnswer(token=1")
def who_wants_another_leader_is_answered_twice() -> None:
    cluster = well()
    leader = cluster.nodes["s1"].engine.state.leader or ""
    cluster.nodes["s2"].transferred(TransferAnswer(1, TransferRefusal.NOT_LEADER, "", leader))


@violates("right answer", "says that s2 leads now, which led in []")
def who_wants_another_leader_is_told_of_one_that_was_not_elected() -> None:
    cluster = cluster_of()
    node = cluster.nodes["s1"]
    node.wishes = {1: Wish("s2", 3)}
    node.transferred(TransferAnswer(1, None, "s2", "s2"))


@violates("exactly one answer")
def a_caller_is_answered_twice() -> None:
    answer = Call("read").answer
    answer.try_set("once", 1)
    answer.try_set("twice", 1)


@violates("exactly one answer")
def a_caller_is_refused_after_its_answer() -> None:
    answer = Call("read").answer
    answer.try_set("once", 1)
    answer.try_fail(OutcomeUnknown("late"))


# -- machines ----------------------------------------------------------------------------------------------------------


@violates("equal replies", "s1 came to 1, s2 to 2")
def two_replicas_reply_differently() -> None:
    judge = Judge(Ledger)
    judge.applied("s1", 3, 1, None)
    judge.applied("s2", 3, 2, None)


@violates("equal states", "s1 came to 'a', s2 to 'b'")
def two_replicas_come_to_different_states() -> None:
    judge = Judge(Ledger)
    judge.applied("s1", 3, 1, "a")
    judge.applied("s2", 3, 1, "b")


@violates("equal states", "differ in the end")
def states_differ_in_the_end() -> None:
    cluster = well()
    cluster.nodes["s2"].replica.state[0] += 1
    cluster._final_checks()


@violates("equal replies", "a replay of the log")
def a_replay_of_the_log_replies_differently() -> None:
    cluster = well()
    index = max(cluster.judge.replies)
    cluster.judge.replies[index] = "something else"
    cluster._final_checks()


@violates("no aliasing", "the states of s1 and s2 share one")
def two_replicas_share_a_part_of_their_states() -> None:
    cluster = well()
    cluster.nodes["s2"].replica.state[1] = cluster.nodes["s1"].replica.state[1]
    cluster._final_checks()


@violates("reads change nothing")
def a_read_changes_the_state() -> None:
    class Popping(KV):
        def handle_read(self, query: Any, state: Any) -> Any:
            return state.pop(query), state

    Watched(Judge(Popping), "s1").handle_read("key", {"key": 1})


@violates("equal in every process", "PYTHONHASHSEED")
def a_machine_walks_a_set() -> None:
    commands = [(index, 1, 0.0, f"word{index}") for index in range(1, 30)]
    cluster_of(FirstOfASet)._try_other_orders(commands)


# -- peers and runs ----------------------------------------------------------------------------------------------------


@violates("no peer fails", "ValueError")
def a_peer_dies_of_a_mistake_of_ours() -> None:
    well().nodes["s1"].failed(ValueError("a mistake"))


@violates("no peer fails", "InvariantViolated")
def a_peer_finds_its_own_state_broken() -> None:
    well().nodes["s1"].failed(InvariantViolated("broken"))


@violates("no peer fails", "takes its disk for damaged")
def a_peer_takes_its_sound_disk_for_damaged() -> None:
    cluster = well()
    cluster.faults._retire(cluster.nodes["s1"])


@violates("no peer fails", "cannot start")
def a_peer_does_not_start_from_a_sound_disk() -> None:
    cluster = well()
    node = cluster.nodes["s1"]
    node.crash()
    node.start = raises_storage_failed  # type: ignore[method-assign]
    cluster.faults.start(node)


def raises_storage_failed() -> None:
    raise StorageFailed("there is nothing wrong with it")


@violates("liveness", "s1, s2, s3 did not start")
def a_cluster_is_not_well_in_time() -> None:
    cluster = cluster_of()
    cluster.faults.start = lambda node: None  # type: ignore[method-assign]
    cluster.run_until_well()


@violates("liveness", "200000 steps after the last fault")
def a_cluster_keeps_itself_busy_without_end() -> None:
    cluster = cluster_of()
    cluster.faults.start = lambda node: None  # type: ignore[method-assign]

    def work(_: object) -> None:
        cluster.world.steps += 1000
        cluster.world.after(0.01, work)

    work(None)
    cluster.run_until_well()


@violates("linearizability")
def what_callers_saw_has_no_order() -> None:
    appended = Operation("a", "append", "x", 1, None, 0.0, 1.0, "ok")
    missed = Operation("b", "read", "x", None, (), 2.0, 3.0, "ok")
    cluster, report = cluster_of(), Report(seed=1, replay="", plan=Plan())
    with planted("raft_actors.testing.simulation.simulate:history_of", lambda _: lambda *_: [appended, missed]):
        _run(cluster, 200, "append", report, Ledger())


@violates("liveness", "leaders change without a fault")
def a_healed_cluster_elects_one_leader_after_the_other() -> None:
    cluster = well()
    world, nodes = cluster.world, cluster.nodes.values()
    cluster._why_not_well = lambda: None  # type: ignore[method-assign]

    def elect_again(*, steps: float, until: float) -> None:
        for node in nodes:
            node.engine.state = replace(node.engine.state, ballot=Ballot(int(until) + 1000))
        world.now = until

    world.run = elect_again  # type: ignore[method-assign]
    cluster.run_until_well()
