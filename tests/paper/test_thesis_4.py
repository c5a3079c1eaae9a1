"""Chapter 4 of the Raft thesis (membership changes), scenario by scenario, with messages and disks moved by hand."""

from __future__ import annotations

import pytest

from raft_actors.behaviours.deadlines import next_deadline
from raft_actors.behaviours.transition import is_removed
from raft_actors.protocol.changes import AddMember, Change, RemoveMember, SetMembers
from raft_actors.protocol.configuration import decode
from raft_actors.protocol.entry import EntryKind
from raft_actors.protocol.events import ChangeRequested, ClusterRequested, ReadsRequested, Tick, WritesRequested
from raft_actors.protocol.messages import AppendEntries
from raft_actors.protocol.state import Follower, Leader
from tests.behaviours.cluster import Cluster, Packet

NAMES = ("s1", "s2", "s3", "s4", "s5")


class Members(Cluster):
    """A cluster whose members change.

    Args:
        voters: names of those who form it; ``s1`` leads.
        names: of all peers.
    """

    def __init__(self, *voters: str, names: tuple[str, ...] = NAMES) -> None:
        super().__init__(names)
        self.run("s1", ClusterRequested(900, "a cluster", voters, 5.0))
        self.settle()
        self.elect("s1")

    def elect(self, name: str) -> None:
        """Let ``name`` wait and stand until it leads; nobody else's clock wakes it."""
        for _ in range(6):
            if isinstance(self.state(name).role, Leader):
                return
            self.tick(name)
            self.settle()
        raise AssertionError(f"{name} does not lead")

    def change(self, name: str, token: int, change: Change, expected: int | None = None) -> None:
        """Ask ``name`` for other members, and let all happen that can happen now."""
        self.run(name, ChangeRequested(token, change, expected, 5.0))
        self.settle()
        for _ in range(6):  # newcomers are brought up to date in rounds
            self.beat(name)

    def beat(self, name: str) -> None:
        """A heartbeat of a leader, and its answers."""
        if isinstance(self.state(name).role, Leader):
            self.tick(name)
            self.settle()

    def voters(self, name: str) -> tuple[str, ...]:
        return tuple(one.name for one in self.state(name).configuration.voters)

    def cut_off(self, *names: str) -> None:
        """From now on these do not hear the others, nor the others them."""
        others = [name for name in self.nodes if name not in names]
        self.cut |= {link for one in names for other in others for link in ((one, other), (other, one))}

    def heal(self) -> None:
        self.cut.clear()


def test_4_1_a_set_of_members_becomes_another_through_a_joint_one() -> None:
    cluster = Members("s1", "s2", "s3")
    seen: list[tuple[tuple[str, ...], ...]] = []
    cluster.watch(lambda name, event: None, lambda before, after, effects: seen.append(after.configuration.halves))
    cluster.change("s1", 1, SetMembers(("s1", "s4", "s5")))
    assert cluster.answers[1] == "changed"
    assert (("s1", "s4", "s5"), ("s1", "s2", "s3")) in seen
    assert {cluster.voters(name) for name in ("s1", "s4", "s5")} == {("s1", "s4", "s5")}


# -- the bug of 2015 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (AddMember("s5"), RemoveMember("s1")),
        (AddMember("s5"), AddMember("s5")),
        (RemoveMember("s4"), RemoveMember("s1")),
    ],
    ids=["add and remove", "add and add", "remove and remove"],
)
def test_4_1_the_single_server_bug_of_2015_cannot_happen(first: Change, second: Change) -> None:
    """BUG-55: a leader changes the members before anything of its term is committed, after one whose change got lost.

    S1 appends a change and reaches nobody. S2 is elected by the others, and is asked for another change before its
    first entry is committed. If it began, and S1 came back, both could go on by majorities that do not meet.
    """
    cluster = Members("s1", "s2", "s3", "s4")
    cluster.cut_off("s1", "s5")
    cluster.run("s1", ChangeRequested(1, first, None, 5.0))
    cluster.settle()
    cluster.elect("s2")
    mine = cluster.state("s2")
    cluster.cut_off("s2")
    cluster.run("s2", WritesRequested(7, (b"x",)))
    cluster.run("s2", ChangeRequested(2, second, None, 5.0))
    cluster.settle()
    assert cluster.voters("s2") == ("s1", "s2", "s3", "s4") or cluster.state("s2").configuration.outgoing
    cluster.heal()
    for _ in range(8):
        for name in ("s2", "s1", "s3", "s4"):
            cluster.tick(name)
            cluster.settle()
    assert mine.term in cluster.leaders
    terms = [state.term for state in map(cluster.state, NAMES[:4]) if isinstance(state.role, Leader)]
    assert len(terms) <= 1, "the cluster checks after every step that no two lead a term"


def test_4_1_nothing_changes_before_an_entry_of_the_leaders_term_is_committed() -> None:
    cluster = Members("s1", "s2", "s3")
    cluster.cut_off("s1")
    for name in ("s2", "s3"):
        cluster.nodes[name].held = True
    while not isinstance(cluster.state("s2").role, Leader):
        cluster.tick("s2")
        while (
            cluster.deliver_next() or cluster.sync("s2") or (cluster.state("s3").leader is None and cluster.sync("s3"))
        ):
            if isinstance(cluster.state("s2").role, Leader):
                break
    cluster.settle()
    leader = cluster.state("s2")
    assert isinstance(leader.role, Leader)
    assert leader.commit_index < leader.role.first_index
    cluster.run("s2", ChangeRequested(1, RemoveMember("s1"), None, 5.0))
    assert not cluster.state("s2").configuration.changing
    for name in ("s2", "s3"):
        cluster.nodes[name].held = False
    cluster.settle()
    cluster.beat("s2")
    assert cluster.answers[1] == "changed"


# -- votes -------------------------------------------------------------------------------------------------------------


def test_4_1_a_voter_whose_configuration_lacks_the_candidate_votes_for_it() -> None:
    """S3 lags and knows nothing of S4; with S1 dead, three of four voters are left, and S4 needs all of them."""
    cluster = Members("s1", "s2", "s3")
    cluster.cut_off("s3")
    cluster.change("s1", 1, AddMember("s4"))
    assert cluster.answers[1] == "changed"
    cluster.crash("s1")
    cluster.heal()
    assert "s4" not in cluster.state("s3").configuration.members()
    cluster.elect("s4")
    assert cluster.voters("s3") == ("s1", "s2", "s3", "s4"), "and it learns of it"


def tells_of_a_joint_configuration(packet: Packet) -> bool:
    entries = packet.message.entries if isinstance(packet.message, AppendEntries) else ()
    return any(one.kind is EntryKind.CONFIGURATION and decode(one.data).outgoing for one in entries)


def test_4_2_1_a_promoted_learner_that_does_not_know_it_votes() -> None:
    """S4 is a learner by its own log, S2 knows it as a voter; with S1 dead, S2 needs all that are left."""
    cluster = Members("s1", "s2", "s3")
    cluster.change("s1", 1, AddMember("s4", learner=True))
    cluster.run("s1", ChangeRequested(2, AddMember("s4"), None, 5.0))
    while not cluster.state("s2").configuration.outgoing:
        if not (cluster.deliver_next() or any(cluster.sync(name) for name in NAMES)):
            cluster.tick("s1")
        lost = [one for one in cluster.network if one.target == "s4" and tells_of_a_joint_configuration(one)]
        for packet in lost:
            cluster.network.remove(packet)
    cluster.crash("s1")
    cluster.settle()
    assert not cluster.state("s4").configuration.is_voter("s4")
    cluster.elect("s2")
    for _ in range(3):
        cluster.beat("s2")
    assert cluster.voters("s4") == ("s1", "s2", "s3", "s4")


def test_4_2_2_a_leader_removes_itself_and_leads_until_that_is_committed() -> None:
    cluster = Members("s1", "s2", "s3")
    led: list[bool] = []

    def on_step(before: object, after: object, effects: object) -> None:
        state = cluster.state("s1")
        if not state.configuration.is_voter("s1") and state.configuration_index > state.commit_index:
            led.append(isinstance(state.role, Leader))

    cluster.watch(lambda name, event: None, on_step)
    cluster.change("s1", 1, RemoveMember("s1"))
    assert cluster.answers[1] == "changed"
    assert led
    assert all(led)
    assert not isinstance(cluster.state("s1").role, Leader)
    leaders = [name for name in ("s2", "s3") if isinstance(cluster.state(name).role, Leader)]
    assert len(leaders) == 1, "it handed over: nobody had to wait for a timeout"
    assert cluster.voters(leaders[0]) == ("s2", "s3")


def test_4_2_3_who_is_out_is_told_and_stands_no_more() -> None:
    cluster = Members("s1", "s2", "s3", "s4")
    cluster.cut_off("s4")
    cluster.change("s1", 1, RemoveMember("s4"))
    assert cluster.answers[1] == "changed"
    assert not is_removed(cluster.state("s4"))
    cluster.heal()
    term = cluster.state("s1").term
    for _ in range(3):
        cluster.now = max(cluster.now, min(next_deadline(cluster.state("s4")), cluster.now + 9))
        cluster.run("s4", Tick())
        cluster.settle()
        cluster.beat("s1")
    assert is_removed(cluster.state("s4"))
    assert isinstance(cluster.state("s4").role, Follower)
    assert cluster.state("s1").term == term, "nobody was disturbed"
    cluster.run("s4", ReadsRequested(7))
    assert cluster.answers[7] == "REMOVED"


# -- leaders that change on the way ------------------------------------------------------------------------------------


def test_4_3_a_configuration_whose_entry_is_cut_off_counts_no_more() -> None:
    """BUG-66."""
    cluster = Members("s1", "s2", "s3")
    cluster.cut_off("s1", "s4", "s5")
    cluster.run("s1", ChangeRequested(1, SetMembers(("s1", "s4", "s5")), None, 5.0))
    cluster.settle()
    assert cluster.state("s1").configuration.changing
    cluster.elect("s2")
    cluster.heal()
    cluster.beat("s2")
    cluster.beat("s2")
    assert cluster.voters("s1") == ("s1", "s2", "s3")
    assert not cluster.state("s1").configuration.changing
    assert cluster.answers[1] == "INTERRUPTED"


def test_4_3_a_successor_completes_the_change() -> None:
    cluster = Members("s1", "s2", "s3")
    cluster.run("s1", ChangeRequested(1, AddMember("s4"), None, 5.0))
    while not cluster.state("s2").configuration.changing:
        assert cluster.deliver_next() or any(cluster.sync(name) for name in NAMES)
    cluster.settle()
    cluster.crash("s1")
    cluster.elect("s2")
    for _ in range(6):
        cluster.beat("s2")
    assert cluster.voters("s2") == cluster.voters("s4") == ("s1", "s2", "s3", "s4")
    assert not cluster.state("s2").configuration.changing


def test_one_change_at_a_time_and_the_same_one_is_joined() -> None:
    """BUG-67."""
    cluster = Members("s1", "s2", "s3")
    cluster.run("s1", ChangeRequested(1, AddMember("s4"), None, 5.0))
    cluster.run("s1", ChangeRequested(2, AddMember("s5"), None, 5.0))
    assert cluster.answers[2] == "IN_PROGRESS"
    while not cluster.state("s1").configuration.changing:
        assert cluster.deliver_next() or any(cluster.sync(name) for name in NAMES)
    cluster.run("s1", ChangeRequested(3, AddMember("s4"), None, 5.0))
    cluster.run("s1", ChangeRequested(4, RemoveMember("s2"), None, 5.0))
    for _ in range(6):
        cluster.settle()
        cluster.beat("s1")
    assert [cluster.answers[token] for token in (1, 3)] == ["changed", "changed"]
    assert cluster.answers[4] == "IN_PROGRESS"


def test_an_expected_configuration_that_is_not_the_current_one_is_refused() -> None:
    cluster = Members("s1", "s2", "s3")
    cluster.change("s1", 1, RemoveMember("s3"), expected=99)
    assert cluster.answers[1] == "CHANGED"
    cluster.change("s1", 2, RemoveMember("s3"), expected=1)
    assert cluster.answers[2] == "changed"


def test_a_change_that_would_leave_no_quorum_is_refused() -> None:
    cluster = Members("s1", "s2", "s3")
    cluster.crash("s3")
    for _ in range(20):
        cluster.beat("s1")
    cluster.change("s1", 1, RemoveMember("s2"))
    assert cluster.answers[1] == "NO_QUORUM"
    assert cluster.voters("s1") == ("s1", "s2", "s3")


def test_a_new_leader_begins_no_joint_step_with_those_whom_it_has_not_heard() -> None:
    """It takes everybody for alive at first, so that it does not miss them at once; that is no answer."""
    cluster = Members("s1", "s2", "s3")
    cluster.crash("s3")
    cluster.crash("s1")
    cluster.restart("s1")
    cluster.elect("s1")
    cluster.run("s1", ChangeRequested(1, RemoveMember("s2"), None, 5.0))
    cluster.settle()
    assert not cluster.state("s1").configuration.changing
    for _ in range(30):
        cluster.beat("s1")
    assert cluster.answers[1] == "NO_QUORUM"


def test_a_newcomer_that_is_never_heard_again_is_given_up() -> None:
    cluster = Members("s1", "s2", "s3")
    cluster.run("s1", ChangeRequested(1, AddMember("s4"), None, 5.0))
    while not cluster.state("s1").configuration.learners:
        assert cluster.deliver_next() or any(cluster.sync(name) for name in NAMES)
    cluster.crash("s4")
    for _ in range(200):
        cluster.settle()
        cluster.beat("s1")
    assert cluster.answers[1] == "GIVEN_UP"
    assert cluster.state("s1").configuration.members().keys() == {"s1", "s2", "s3"}


def test_reads_under_way_are_answered_when_those_who_were_asked_are_gone() -> None:
    cluster = Members("s1", "s2")
    cluster.run("s1", ChangeRequested(1, RemoveMember("s2"), None, 5.0))
    cluster.sync("s1")
    cluster.deliver_next("s1", "s2")
    cluster.sync("s2")
    cluster.run("s1", ReadsRequested(5))
    cluster.cut |= {("s1", "s2")}
    cluster.settle()
    assert cluster.voters("s1") == ("s1",)
    assert cluster.answers[5] == "read"
