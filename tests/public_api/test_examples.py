"""The examples run, and do what they say."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

import raft_actors as raft
from raft_actors import examples
from raft_actors.examples import leader_only, lock, queue
from raft_actors.machines import Lock
from raft_actors.testing import Cluster

NAMES = sorted(path.stem for path in Path(examples.__file__).parent.glob("[a-z]*.py"))


def test_each_worker_has_the_lock_once_and_tokens_grow() -> None:
    done = lock.main()
    assert sorted(owner for _, owner in done) == ["ann", "bob", "eve"]
    tokens = [token for token, _ in done]
    assert tokens == sorted(set(tokens))


def test_who_waits_for_a_lock_writes_nothing_and_gets_it_when_its_holder_died(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LEASE", 1.5)
    with Cluster(Lock) as cluster, raft.Client(cluster.names, timeout=20.0) as client:
        assert client.write(("acquire", "printer", "dead", 1.5))
        before = cluster.status(cluster.leader()).last_index
        waiters = [
            threading.Thread(target=lock.work, args=(client, "s1", owner, [])) for owner in ("ann", "bob", "eve")
        ]
        for waiter in waiters:
            waiter.start()
        for waiter in waiters:
            waiter.join(20)
            assert not waiter.is_alive()
        assert cluster.status(cluster.leader()).last_index - before <= 3 * 6, "refused, asked again, had and given back"


def test_each_job_is_done_once_although_the_leader_dies() -> None:
    assert sorted(queue.main()) == sorted(f"job {number}" for number in range(20))


def test_the_schedule_runs_at_each_leader_in_turn() -> None:
    ran = leader_only.main()
    terms = [term for term, _ in ran]
    assert terms == sorted(set(terms))
    assert len({name for _, name in ran[:2]}) == 2


@pytest.mark.parametrize("name", NAMES)
def test_an_example_runs_as_a_program(name: str) -> None:
    command = [sys.executable, "-m", f"raft_actors.examples.{name}"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout
    assert not ran.stderr
