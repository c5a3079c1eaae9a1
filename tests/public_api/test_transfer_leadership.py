"""``transfer_leadership`` as a user sees it: what it takes, what it returns, and what every failure says."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import raft_actors as raft
from raft_actors.protocol.effects import TransferAnswer, TransferRefusal
from raft_actors.supervisor import handle_of
from raft_actors.testing import Cluster
from raft_actors.transfer_errors import transfer_error
from tests.public_api.showing import follower_of, nothing_is_left, outcome_of, shows  # noqa: F401 - a fixture
from tests.threads.tools import Recorder


def test_it_has_the_signature_of_the_contract() -> None:
    parameters = inspect.signature(raft.transfer_leadership).parameters
    assert list(parameters) == ["peer", "to", "timeout"]
    assert parameters["to"].default is None
    assert parameters["timeout"].default == 5.0
    assert parameters["timeout"].kind is inspect.Parameter.KEYWORD_ONLY
    assert "transfer_leadership" in raft.__all__


def test_names_and_refs_will_do() -> None:
    with Cluster(Recorder) as cluster:
        refs = {name: handle_of(name).ref for name in cluster.names}
        target = follower_of(cluster)
        assert raft.transfer_leadership(refs[cluster.leader()], refs[target]) == target
        assert raft.leader(target) == target


def test_without_a_timeout_it_waits_for_ever() -> None:
    with Cluster(Recorder) as cluster:
        target = follower_of(cluster)
        assert raft.transfer_leadership(target, target, timeout=None) == target


def test_a_peer_that_leads_already_is_refused() -> None:
    with Cluster(Recorder) as cluster:
        leader = cluster.leader()
        for asked in cluster.names:
            shows(
                raft.Refused, lambda asked=asked: raft.transfer_leadership(asked, leader), f"'{leader}' leads already"
            )


def test_a_stranger_is_refused() -> None:
    with Cluster(Recorder) as cluster:
        error = shows(
            raft.UnknownPeer,
            lambda: raft.transfer_leadership(follower_of(cluster), "s9"),
            "peer 's9' is no member of the cluster",
            "configuration(peer) names the members",
        )
        assert error.name == "s9"  # type: ignore[attr-defined]


def test_a_cluster_of_one_has_nobody_to_hand_over_to() -> None:
    with Cluster(Recorder, 1) as cluster:
        shows(raft.Refused, lambda: raft.transfer_leadership("s1"), "'s1' is the only voter", "add a peer first")
        assert cluster.write("x") == 1


def test_an_unconfigured_peer_says_so_at_once(tmp_path: Any) -> None:
    raft.start_peer(Recorder, name="s1", config=raft.Config(data_dir=tmp_path))
    shows(raft.NotConfigured, lambda: raft.transfer_leadership("s1"), "'s1' is not part of a cluster yet")
    raft.stop("s1")


def test_a_peer_that_is_not_there_is_unknown() -> None:
    shows(raft.UnknownPeer, lambda: raft.transfer_leadership("nobody"), "no peer named 'nobody'")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"to": ".hidden"}, raft.InvalidName),
        ({"to": 7}, raft.InvalidName),
        ({"timeout": -1}, ValueError),
        ({"timeout": "soon"}, TypeError),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], error: type[Exception]) -> None:
    with Cluster(Recorder, 1), pytest.raises(error):
        raft.transfer_leadership("s1", **arguments)


def test_a_machine_may_not_wait_for_it() -> None:
    class Impatient(Recorder):
        def handle_read(self, query: Any, state: Any) -> Any:
            return str(outcome_of(lambda: raft.transfer_leadership(self.name))), state

    with Cluster(Impatient) as cluster:
        assert "may not wait for a peer" in cluster.read("x")


SAYS: dict[TransferRefusal, tuple[str | None, type[raft.RaftError], str]] = {
    TransferRefusal.NOT_LEADER: ("s3", raft.NotLeader, "peer 's1' does not lead"),
    TransferRefusal.UNKNOWN: ("s1", raft.UnknownPeer, "peer 's2' is no member of the cluster"),
    TransferRefusal.LEARNER: ("s1", raft.InvalidConfiguration, "peer 's2' is a learner and cannot lead"),
    TransferRefusal.LEADS: ("s1", raft.Refused, "peer 's2' leads already"),
    TransferRefusal.ALONE: ("s1", raft.Refused, "peer 's2' is the only voter"),
    TransferRefusal.UNDER_WAY: ("s1", raft.ElectionInProgress, "'s1' is handing leadership over to 's2' already"),
    TransferRefusal.LOST_STATE: ("s1", raft.NotApplied, "peer 's2' has lost its state"),
    TransferRefusal.SILENT: ("s1", raft.UnknownPeer, "peer 's2' does not answer the leader; 's1' leads on"),
    TransferRefusal.NOBODY: (
        "s1",
        raft.NotApplied,
        "no other voter answers, or all have lost",
    ),
    TransferRefusal.BEHIND: ("s1", raft.NotApplied, "'s2' did not catch up with the leader in time; 's1' leads on"),
    TransferRefusal.NOT_ELECTED: (
        "s1",
        raft.OutcomeUnknown,
        "'s2' was told to stand for election, and was not",
    ),
    TransferRefusal.OTHER: ("s3", raft.OutcomeUnknown, "'s1' leads no more, but 's3' was elected, not 's2'"),
    TransferRefusal.NO_LEADER: (None, raft.Timeout, "'s1' leads no more, and it is not known in time who does"),
}


@pytest.mark.parametrize("refusal", TransferRefusal, ids=lambda refusal: refusal.name)
def test_every_failure_names_the_peer_and_says_who_leads(refusal: TransferRefusal) -> None:
    leader, kind, text = SAYS[refusal]
    error = transfer_error("s1", TransferAnswer(7, refusal, "s2", leader))
    assert type(error) is kind
    assert text in str(error)
