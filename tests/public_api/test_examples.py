"""The examples run, and do what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from raft_actors import examples
from raft_actors.examples import leader_only, lock, queue

NAMES = sorted(path.stem for path in Path(examples.__file__).parent.glob("[a-z]*.py"))


def test_each_worker_has_the_lock_once_and_tokens_grow() -> None:
    done = lock.main()
    assert sorted(owner for _, owner in done) == ["ann", "bob", "eve"]
    tokens = [token for token, _ in done]
    assert tokens == sorted(set(tokens))


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
