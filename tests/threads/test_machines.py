"""User code: what it raises, what it returns, how long it takes, and what it shares with callers."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import raft_actors as raft
from raft_actors.machines import KV
from raft_actors.testing import Cluster
from tests.threads.tools import Recorder, outcome, wait_until


def leader_of(cluster: Cluster) -> str:
    leader = cluster.leader()
    assert leader is not None
    return leader


class Roles:
    """How often which peer changed its role, since ``begin``."""

    def __init__(self, cluster: Cluster) -> None:
        self.seen: list[raft.RoleChanged] = []
        self._handles = [raft.subscribe(name, self.seen.append, events=[raft.RoleChanged]) for name in cluster.names]

    def __enter__(self) -> Roles:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.close()


# -- exceptions --------------------------------------------------


def test_an_exception_reaches_the_caller_with_its_cause_and_the_cluster_goes_on() -> None:
    with Cluster(Recorder) as cluster:
        with pytest.raises(raft.CommandFailed, match="ValueError: no such thing") as caught:
            cluster.write(("raise", ValueError("no such thing")))
        assert isinstance(caught.value.__cause__, ValueError)
        assert cluster.write("next") == 1
        cluster.converged()


def test_a_command_that_failed_fails_again_on_every_replica_after_a_restart(tmp_path: Path) -> None:
    with Cluster(Recorder, data_dir=tmp_path) as cluster:
        cluster.write("before")
        with pytest.raises(raft.CommandFailed):
            cluster.write(("raise", KeyError("planted")))
        cluster.write("after")
    with Cluster(Recorder, data_dir=tmp_path) as cluster:
        assert cluster.read("all") == ["before", "after"]
        assert cluster.write("and on") == 3
        cluster.converged()


def test_changes_made_before_an_exception_stay_on_every_replica_alike() -> None:
    with Cluster(Recorder) as cluster:
        with pytest.raises(raft.CommandFailed):
            cluster.write(("half", "x"))
        assert cluster.read("all") == ["x"]
        cluster.converged()


def test_an_exception_in_a_read_reaches_its_caller_only() -> None:
    with Cluster(Recorder) as cluster:
        with pytest.raises(raft.CommandFailed, match="ZeroDivisionError") as caught:
            cluster.read(("raise", ZeroDivisionError()))
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert cluster.read("len") == 0


def test_an_exception_whose_text_cannot_be_shown_is_an_answer_all_the_same() -> None:
    class Shy(Recorder):
        def handle_write(self, command: Any, state: list[Any]) -> Any:
            class Mute(Exception):
                def __str__(self) -> str:
                    raise RuntimeError("no text")

            raise Mute

    with Cluster(Shy) as cluster, pytest.raises(raft.CommandFailed, match="Mute"):
        cluster.write("x")


@pytest.mark.parametrize("value", [None, "reply", ["reply", []], ("reply", [], "more"), ()])
def test_a_return_value_that_is_no_pair_is_a_command_that_failed(value: object) -> None:
    with Cluster(Recorder, 1) as cluster:
        with pytest.raises(raft.CommandFailed, match=r"must return a pair \(reply, state\)") as caught:
            cluster.write(("odd", value))
        assert isinstance(caught.value.__cause__, TypeError)
        assert cluster.write("next") == 1


def test_a_reply_that_cannot_be_encoded_fails_its_caller_and_nobody_else() -> None:
    class Locks(Recorder):
        def handle_write(self, command: Any, state: list[Any]) -> Any:
            state.append(command)
            return (threading.Lock() if command == "lock" else len(state)), state

    with Cluster(Locks) as cluster:
        with pytest.raises(raft.CommandFailed, match="pickle"):
            cluster.write("lock")
        assert cluster.write("next") == 2


@pytest.mark.parametrize("error", [MemoryError("planted"), SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_what_is_no_ordinary_exception_stops_that_peer_alone(error: BaseException) -> None:
    config = raft.Config(restart=None)
    with Cluster(Recorder, config=config) as cluster:
        leader = leader_of(cluster)
        victim = next(name for name in cluster.names if name != leader)
        cluster.write(("on", victim, error))
        cluster.eventually(lambda: cluster.status(victim).failure is not None)
        assert type(cluster.status(victim).failure.__cause__) is type(error)
        with pytest.raises(raft.PeerFailed, match=f"'{victim}' stopped itself: {type(error).__name__}"):
            raft.read(victim, "len")
        assert cluster.write("the others go on") == 2
        assert cluster.leader() == leader
        raft.stop(victim)


def test_a_memory_error_in_a_read_stops_that_peer_alone() -> None:
    with Cluster(Recorder, config=raft.Config(restart=None)) as cluster:
        leader = leader_of(cluster)
        victim = next(name for name in cluster.names if name != leader)
        future = raft.read(victim, ("raise", MemoryError()), consistency="stale", block=False)
        assert isinstance(outcome(future), raft.OutcomeUnknown)
        cluster.eventually(lambda: cluster.status(victim).failure is not None)
        assert cluster.write("go on") == 1
        raft.stop(victim)


# -- time --------------------------------------------------


@pytest.mark.parametrize("kind", ["write", "read"])
def test_user_code_that_takes_two_seconds_costs_no_leadership(kind: str) -> None:
    with Cluster(Recorder) as cluster:
        leader = leader_of(cluster)
        term = cluster.status(leader).term
        with Roles(cluster) as roles:
            call = cluster.write if kind == "write" else cluster.read
            begin = time.monotonic()
            call(("sleep", 2.0))
            assert time.monotonic() - begin >= 2.0
            assert roles.seen == []
        assert cluster.leader() == leader
        assert cluster.status(leader).term == term


def test_status_answers_at_once_while_user_code_is_busy() -> None:
    with Cluster(Recorder) as cluster:
        leader = leader_of(cluster)
        busy = raft.write(leader, ("sleep", 0.5), block=False)
        begin = time.monotonic()
        while not busy.done():
            look = time.monotonic()
            assert raft.status(leader).role == "leader"
            assert time.monotonic() - look < 0.2
        assert time.monotonic() - begin >= 0.4


def test_replicated_time_never_goes_back_and_is_the_same_everywhere() -> None:
    class Clock(Recorder):
        def handle_write(self, command: Any, state: list[Any]) -> Any:
            state.append((self.context.index, self.context.term, self.context.time))
            return state[-1], state

    with Cluster(Clock) as cluster:
        for number in range(20):
            cluster.write(number)
        cluster.crash(leader_of(cluster))
        for number in range(20):
            cluster.write(number)
        seen = cluster.read("all")
        assert seen == sorted(seen)
        assert [time for *_, time in seen] == sorted(time for *_, time in seen)
        assert abs(seen[-1][2] - time.time()) < 60
        cluster.converged()


# -- sharing --------------------------------------------------


def test_a_command_that_its_caller_changes_later_changes_no_replica() -> None:
    with Cluster(KV) as cluster:
        value = [1, 2]
        cluster.write(("set", "k", value))
        value.append(3)
        assert cluster.read(("get", "k")) == [1, 2]
        assert all(cluster.state(name) == {"k": [1, 2]} for name in cluster.names if cluster.converged())


def test_a_command_that_its_caller_changes_while_it_is_under_way_changes_no_replica() -> None:
    with Cluster(KV) as cluster:
        leader = leader_of(cluster)
        value: list[int] = []
        futures = []
        for number in range(50):
            futures.append(raft.write(leader, ("set", number, value), block=False))
            value.append(number)
        for future in futures:
            future.get()
        assert [len(cluster.read(("get", number))) for number in range(50)] == list(range(50))
        cluster.converged()


def test_a_reply_that_its_caller_changes_changes_no_replica() -> None:
    with Cluster(KV) as cluster:
        reply = cluster.write(("set", "k", [1]))
        reply[2].append("planted")
        cluster.read(("get", "k")).append("planted")
        for name in cluster.names:
            raft.read(name, ("get", "k")).append("planted")
            raft.read(name, ("get", "k"), consistency="stale").append("planted")
        assert cluster.read(("get", "k")) == [1]
        assert cluster.converged()


def test_a_query_that_its_caller_changes_later_is_not_kept() -> None:
    kept: list[Any] = []

    class Keeping(Recorder):
        def handle_read(self, query: Any, state: list[Any]) -> Any:
            kept.append(query)
            return None, state

    with Cluster(Keeping, 1) as cluster:
        query = ["x"]
        cluster.read(query)
        query.append("planted")
        assert kept == [["x"]]


def test_replicas_share_no_object_with_each_other() -> None:
    states: list[list[Any]] = []

    class Showing(Recorder):
        def init(self, name: str) -> list[Any]:
            states.append(super().init(name))
            return states[-1]

    with Cluster(Showing) as cluster:
        cluster.write(["a list"])
        cluster.converged()
        assert len({id(state[0]) for state in states}) == 3


# -- calls from inside --------------------------------------------------


class Nosy(raft.StateMachine):
    """Calls back into the library; the outcome is its reply."""

    calls: Counter[str] = Counter()

    def init(self, name: str) -> str:
        return name

    def handle_write(self, command: Any, state: str) -> Any:
        return self._try(command, state), state

    def handle_read(self, query: Any, state: str) -> Any:
        return self._try(query, state), state

    def _try(self, what: str, name: str) -> str:
        calls = {
            "write": lambda: raft.write(name, "write"),
            "read": lambda: raft.read(name, "read"),
            "leader": lambda: raft.leader(name),
            "stop": lambda: raft.stop(name),
            "form": lambda: raft.set_configuration(name, [name]),
            "get": lambda: raft.read(name, "nothing", block=False).get(),
        }
        self.calls[what] += 1
        try:
            return repr(calls[what]()) if what in calls else "nothing"
        except raft.Refused as error:
            return f"Refused: {error}"


@pytest.mark.parametrize("how", ["write", "read"])
@pytest.mark.parametrize("call", ["write", "read", "leader", "stop", "form", "get"])
def test_a_blocking_call_from_inside_a_machine_is_refused_at_once(how: str, call: str) -> None:
    with Cluster(Nosy, 1) as cluster:
        Nosy.calls.clear()
        begin = time.monotonic()
        reply = cluster.write(call) if how == "write" else cluster.read(call)
        assert reply.startswith("Refused: a machine of peer 's1' may not wait for a peer")
        assert "in another thread" in reply
        assert time.monotonic() - begin < 1.0
        assert Nosy.calls[call] == 1  # refused before it had any effect
        assert cluster.leader() == "s1"


def test_status_may_be_asked_from_inside_a_machine() -> None:
    class Asking(Recorder):
        def handle_read(self, query: Any, state: list[Any]) -> Any:
            return raft.status(self.name).role, state

    with Cluster(Asking, 1) as cluster:
        assert cluster.read("role") == "leader"


# -- news of the role --------------------------------------------------


def test_a_machine_is_told_when_its_peer_leads_and_when_no_longer() -> None:
    told: list[tuple[str, str, int]] = []

    class Told(Recorder):
        def on_leader(self, term: int) -> None:
            told.append((self.name, "leader", term))

        def on_follower(self, term: int) -> None:
            told.append((self.name, "follower", term))

    with Cluster(Told) as cluster:
        first = leader_of(cluster)
        wait_until(lambda: (first, "leader", cluster.status(first).term) in told)
        cluster.partition({first})
        cluster.eventually(lambda: cluster.leader() != first)
        wait_until(lambda: any(one[:2] == (first, "follower") for one in told))
        second = leader_of(cluster)
        wait_until(lambda: any(one[:2] == (second, "leader") for one in told))


def test_an_exception_in_on_leader_is_logged_and_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Clumsy(Recorder):
        def on_leader(self, term: int) -> None:
            raise ValueError("planted")

    with caplog.at_level("ERROR", "raft_actors"), Cluster(Clumsy, 1) as cluster:
        assert cluster.write("x") == 1
        wait_until(lambda: "on_leader failed" in caplog.text)
