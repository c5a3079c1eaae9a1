"""The durability contract: nothing leaves before what it depends on is on disk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from raft_actors.behaviours import step as step_module
from raft_actors.behaviours.step import seal
from raft_actors.protocol.effects import Accept, Apply, Effect, Load, Persist, Refusal, Reject, Send, ServeReads
from raft_actors.protocol.messages import AppendEntriesReply, RequestVoteReply
from raft_actors.protocol.state import PeerState
from raft_actors.protocol.types import Ballot, LogPosition, Settings, Violation
from tests.behaviours import bench
from tests.behaviours.bench import append, entries, take
from tests.behaviours.cluster import Cluster
from tests.behaviours.test_random_walks import Walk

BEFORE = bench.peer()
VOTED = replace(BEFORE, ballot=Ballot(2, "s2"))
JOINED = replace(BEFORE, cluster="another")
SEND = Send("s2", bench.vote("s1", 2))
LOCAL: list[Effect] = [
    Accept(1, 2, 3),
    Apply(entries(1, 1)),
    ServeReads(1, 1),
    Load("", 1, 2, 3),
    Reject(1, Refusal.NOT_LEADER),
]
some_effects = st.lists(st.sampled_from([SEND, *LOCAL]), max_size=6)


@given(some_effects, st.booleans(), st.sampled_from([VOTED, JOINED]))
def test_a_changed_ballot_or_cluster_is_on_disk_before_anything_is_sent(
    effects: list[Effect], entries_too: bool, after: PeerState
) -> None:
    batch = [Persist(truncate_from=3, entries=entries(3, 2))] if entries_too else []
    sealed = seal(BEFORE, after, (*effects, *batch))
    first = sealed[0]
    assert isinstance(first, Persist)
    assert first.ballot == (after.ballot if after is VOTED else None)
    assert first.cluster == (after.cluster if after is JOINED else "")
    assert (first.truncate_from, first.entries) == ((3, entries(3, 2)) if entries_too else (None, ()))
    assert [one for one in sealed[1:] if isinstance(one, Send)] == [one for one in effects if isinstance(one, Send)]
    assert [one for one in sealed[1:] if not isinstance(one, Send)] == [one for one in effects if one is not SEND]


@given(some_effects, some_effects)
def test_with_an_old_ballot_sends_and_batches_keep_the_order_of_their_rule(
    one: list[Effect], two: list[Effect]
) -> None:
    batch = Persist(entries=entries(2, 1))
    effects = (*one, batch, *two)
    sealed = seal(BEFORE, BEFORE, effects)
    kinds = (Send, Persist)
    assert [each for each in sealed if isinstance(each, kinds)] == [each for each in effects if isinstance(each, kinds)]
    assert sorted(map(repr, sealed)) == sorted(map(repr, effects))
    local = [each for each in effects if not isinstance(each, kinds)]
    assert list(sealed[len(sealed) - len(local) :]) == local


def test_ballot_truncation_and_entries_are_one_batch() -> None:
    """BUG-09: never two writes that a crash could part."""
    state = bench.following(terms=(1, 1))
    effects = take(state, append("s2", 2, LogPosition(1, 1), entries(2, 2))).effects
    assert bench.of_type(effects, Persist) == [Persist(Ballot(2), 2, entries(2, 2))]
    assert isinstance(effects[0], Persist)


def test_a_vote_repeated_while_its_disk_works_waits_for_the_disk_too() -> None:
    """The empty batch queues up behind the first one."""
    state = take(bench.peer(), bench.request_vote("s2", 2)).state
    effects = take(state, bench.request_vote("s2", 2)).effects
    assert effects[0] == Persist()
    assert isinstance(effects[1], Send)


def test_nothing_is_stored_because_a_cluster_id_is_another_object() -> None:
    message = replace(append("s2", 1, LogPosition(1, 1)), cluster="".join(list(bench.CLUSTER)))
    assert message.cluster is not bench.CLUSTER
    assert bench.of_type(take(bench.following(), message).effects, Persist) == []


# -- over whole walks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_every_vote_and_every_acknowledgement_is_on_disk_when_it_leaves(seed: int) -> None:
    """BUG-02, BUG-11, BUG-14: looked at where messages enter the network."""
    looked = _walk(seed)
    assert looked > 20


def _walk(seed: int) -> int:
    walk = Walk(seed, Settings(pre_vote=False))
    looked = 0
    honest = walk.cluster.send

    def look(source: str, send: Send) -> None:
        nonlocal looked
        looked += _check_durable(walk.cluster, source, send)
        honest(source, send)

    walk.cluster.send = look  # type: ignore[method-assign]
    walk.faults(400)
    walk.heal()
    return looked


def _check_durable(cluster: Cluster, source: str, send: Send) -> bool:
    disk, message = cluster.nodes[source].disk, send.message
    match message:
        case RequestVoteReply(granted=True):
            assert disk.ballot.term > message.term or disk.ballot == Ballot(message.term, send.to)
        case AppendEntriesReply(success=True):
            assert disk.last.index >= message.match_index
        case _:
            return False
    return True


def test_the_walk_notices_a_step_that_is_not_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsealed(before: object, after: object, effects: tuple[Effect, ...]) -> tuple[Effect, ...]:
        sealed = honest(before, after, effects)  # type: ignore[arg-type]
        return tuple(sorted(sealed, key=lambda effect: isinstance(effect, Persist)))

    honest = step_module.seal
    monkeypatch.setattr(step_module, "seal", unsealed)
    with pytest.raises(AssertionError):
        for seed in range(10):
            _walk(seed)


# -- what never goes back ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"ballot": Ballot(0)}, "went back"),
        ({"commit_index": 0}, "went back"),
        ({"handed": 0, "last_applied": 0}, "went back"),
        ({"commit_index": 9}, "ran ahead"),
        ({"handed": 3}, "ran ahead"),
        ({"last_applied": 2}, "ran ahead"),
        ({"commit_index": 2, "handed": 2}, "durable only 1"),
    ],
)
def test_a_state_that_goes_back_or_runs_ahead_stops_the_peer(changes: dict[str, object], what: str) -> None:
    before = bench.peer(terms=(1, 1), durable=1, commit=1)
    with pytest.raises(Violation, match=what):
        step_module._check(before, replace(before, **changes))
